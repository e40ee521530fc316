/**
 * Scene 3 of the brief: two hosts, on each an Open vSwitch bridge whose trunk port is the host's NIC, one container in
 * VLAN 100 and one in VLAN 200, all four in one subnet. Hosts are whatever can run programs.
 */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { type Ran, type RunOptions, root } from '../lab.ts';

/** A host with a Docker Engine, an Open vSwitch and a NIC eth0, all of its own. */
export interface SceneHost {
  /** Runs a program there. */
  run(command: string, args: readonly string[], options?: RunOptions): Promise<Ran>;
  /** `pipewright ARGS` there. */
  pipewright(args: readonly string[], options?: RunOptions): Promise<Ran>;
  /** Makes the host's topology file, which its agent reads also after a reboot, and starts the agent. */
  keep(yaml: string): Promise<void>;
  /** `pipewright check --json` of that file. */
  check(): Promise<Ran>;
}

/** `system`, or `netdev` where the kernel has no openvswitch. */
export type Datapath = 'system' | 'netdev';

/** The file of both hosts, which moves eth0 of each with all that it has. */
const topology = readFileSync(path.join(root, 'examples/hosts/pipewright.yaml'), 'utf8');

/** The six pings: from where, to where, and whether they get through. */
const pings: readonly { from: 'a' | 'b'; guest?: string; to: string; name: string; should: boolean }[] = [
  { from: 'a', guest: 'test1', to: '192.168.0.3', name: 'test1 -> test3', should: true },
  { from: 'a', guest: 'test1', to: '192.168.0.4', name: 'test1 -> test4', should: false },
  { from: 'a', guest: 'test2', to: '192.168.0.3', name: 'test2 -> test3', should: false },
  { from: 'a', guest: 'test2', to: '192.168.0.4', name: 'test2 -> test4', should: true },
  { from: 'a', to: '10.10.101.106', name: 'a -> b', should: true },
  { from: 'b', to: '10.10.101.105', name: 'b -> a', should: true },
];

/** The host's own address, and its containers. */
const places = {
  a: { address: '10.10.101.105/24', guests: ['test1', 'test2'] },
  b: { address: '10.10.101.106/24', guests: ['test3', 'test4'] },
} as const;

/** The scene on its two hosts, whose names are a and b. */
export class Scene3 {
  readonly hosts: Readonly<Record<'a' | 'b', SceneHost>>;
  readonly #datapath: Datapath;

  constructor(a: SceneHost, b: SceneHost, datapath: Datapath) {
    this.hosts = { a, b };
    this.#datapath = datapath;
  }

  /** From hosts with an address on eth0 to the scene, once: what a user does. @param image of the containers */
  async setUp(image: string): Promise<void> {
    await Promise.all([this.#setUp('a', image), this.#setUp('b', image)]);
  }

  async #setUp(name: 'a' | 'b', image: string): Promise<void> {
    const [host, { address, guests }] = [this.hosts[name], places[name]];
    for (const guest of guests) {
      const options = ['-d', '--restart', 'always', '--name', guest, '--network', 'none'];
      await host.run('docker', ['run', ...options, image]);
    }
    await host.run('ip', ['addr', 'add', address, 'dev', 'eth0']);
    await host.keep(topology);
  }

  /** Waits until both agents say that all is well, and the host's address is where it belongs. @param seconds for each */
  async settled(seconds: number): Promise<void> {
    await Promise.all(
      (['a', 'b'] as const).map(async (name) => {
        const host = this.hosts[name];
        await settled(host, seconds);
        const addrs = async (link: string) =>
          (await host.run('ip', ['-br', '-4', 'addr', 'show', 'dev', link])).stdout.split(/\s+/);
        assert.ok((await addrs('ovs0')).includes(places[name].address), `${name}: moved to ovs0`);
        assert.deepEqual(
          (await addrs('eth0')).filter((word) => word.includes('/')),
          [],
          `${name}: eth0 is empty`,
        );
        const type = (await host.run('ovs-vsctl', ['get', 'bridge', 'ovs0', 'datapath_type'])).stdout.trim();
        assert.equal(type.replaceAll('"', '') || 'system', this.#datapath);
      }),
    );
  }

  /** The six pings, one after the other. */
  async ping(): Promise<void> {
    const seen: Record<string, boolean> = {};
    for (const { from, guest, to, name, should } of pings) {
      const words = [
        ...(guest ? ['docker', 'exec', guest] : []),
        'ping',
        '-c1',
        '-W',
        should ? '5' : '1',
        to,
      ];
      // One of some has to be answered: both ends may still be learning where the other is.
      seen[name] = await anyOf(should ? 5 : 1, () => succeeds(this.hosts[from], words));
    }
    assert.deepEqual(seen, Object.fromEntries(pings.map(({ name, should }) => [name, should])));
  }

  /** What `pipewright check` tells on both of the pings' ends. */
  async check(): Promise<void> {
    const reaches: Record<string, boolean> = {};
    for (const host of Object.values(this.hosts)) {
      const { stdout } = await host.check();
      const { pairs } = JSON.parse(stdout) as { pairs: { from: string; to: string; seen: boolean }[] };
      for (const { from, to, seen } of pairs) reaches[`${guestOf(from)} -> ${guestOf(to)}`] = seen;
    }
    const seen = pings.map(({ name }) => [name, reaches[name]]);
    assert.deepEqual(
      seen,
      pings.map(({ name, should }) => [name, should]),
      JSON.stringify(reaches),
    );
  }
}

/** `test3/eth1 on b` */
const guestOf = (end: string): string => end.replace(/\/.*/, '');

async function anyOf(tries: number, isSo: () => Promise<boolean>): Promise<boolean> {
  for (let left = tries; left > 0; left--) if (await isSo()) return true;
  return false;
}

async function succeeds(host: SceneHost, [program = '', ...args]: readonly string[]): Promise<boolean> {
  return (await host.run(program, args, { expect: 'any' })).code === 0;
}

async function settled(host: SceneHost, seconds: number): Promise<void> {
  let said = '';
  for (const deadline = Date.now() + seconds * 1000; Date.now() < deadline; ) {
    const { code, stdout, stderr } = await host.pipewright(['status', '--json'], { expect: 'any' });
    said = `${stdout}${stderr}`;
    if (code !== 0) continue;
    const { agent, attachments } = JSON.parse(stdout) as { agent: boolean; attachments: { state: string }[] };
    if (agent && attachments.length === 2 && attachments.every(({ state }) => state === 'healthy')) return;
  }
  assert.fail(`not settled after ${seconds} s: ${said}`);
}

/**
 * What tcpdump's lines (`-n -e`) tell of echo requests: the VLAN and where to, once each.
 * `100 192.168.0.3`, `- 10.10.101.106`
 */
export function tagsOf(lines: readonly string[]): string[] {
  const found = lines.flatMap((line) => {
    const to = / > ([\d.]+): ICMP echo request/.exec(line)?.[1];
    return to === undefined ? [] : [`${/\bvlan (\d+)/.exec(line)?.[1] ?? '-'} ${to}`];
  });
  return [...new Set(found)].sort();
}

/** What must be seen of {@link Scene3.ping} on the wire: nothing of those that must not reach but who-has. */
export const tagsExpected = ['- 10.10.101.105', '- 10.10.101.106', '100 192.168.0.3', '200 192.168.0.4'];
