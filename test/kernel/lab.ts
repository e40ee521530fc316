/** Throw-away network namespaces, and `ip` as the judge of what is in them. */
import { execFileSync } from 'node:child_process';
import type { TestContext } from 'node:test';
import { NetlinkSocket } from '../../src/kernel/netlink/socket.ts';
import { Netns } from '../../src/kernel/netns.ts';

/** Runs a program; its standard output. Arguments are split at blanks. */
export function run(command: string): string {
  const [program = '', ...args] = command.split(' ');
  return execFileSync(program, args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] });
}

// biome-ignore lint/suspicious/noExplicitAny: the shape is another program's
export type Json = any;

/** A namespace that is gone when the test ends, with a netlink socket in it. */
export interface Lab {
  readonly name: string;
  readonly netns: Netns;
  readonly rtnl: NetlinkSocket;
  /** `ip -n NAME ...`. */
  ip(args: string): string;
  /** `ip -n NAME -j -d ...`, parsed. */
  ipJson(args: string): Json;
  /** `bridge -n NAME -j ...`, parsed. */
  bridgeJson(args: string): Json;
}

let count = 0;

export function createLab(t: TestContext): Lab {
  const name = `pwt-k${++count}-${process.pid}`;
  run(`ip netns add ${name}`);
  t.after(() => run(`ip netns del ${name}`));
  const netns = Netns.open(`/run/netns/${name}`, name);
  const rtnl = NetlinkSocket.open(netns);
  t.after(() => {
    rtnl[Symbol.dispose]();
    netns[Symbol.dispose]();
  });
  const json = (text: string): Json => JSON.parse(text === '' ? '[]' : text);
  return {
    name,
    netns,
    rtnl,
    ip: (args) => run(`ip -n ${name} ${args}`),
    ipJson: (args) => json(run(`ip -n ${name} -j -d ${args}`)),
    bridgeJson: (args) => json(run(`bridge -n ${name} -j ${args}`)),
  };
}

/** The ifindex that `ip` tells of a link. */
export function ifindexOf(lab: Lab, link: string): number {
  return lab.ipJson(`link show ${link}`)[0].ifindex;
}

/** Waits until `done` holds, asking every 5 ms for 2 s. */
export async function until(done: () => boolean, what: string): Promise<void> {
  for (const end = Date.now() + 2000; !done(); await new Promise((resolve) => setTimeout(resolve, 5))) {
    if (Date.now() > end) throw new Error(`waited for: ${what}`);
  }
}
