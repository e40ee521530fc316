/** One process that renews the lease of one interface: `pipework --stay`. */
import { spawn } from 'node:child_process';
import { setTimeout as sleep } from 'node:timers/promises';
import { containerOf } from '../apply/converge.ts';
import type { Host } from '../apply/host.ts';
import { openContainerNetns } from '../containers/resolve.ts';
import { NetlinkSocket } from '../kernel/netlink/socket.ts';
import { lives } from '../observe/lives.ts';
import { clientFor, leasedLink, ownProcess } from './held.ts';

/** The hidden option of `pipework` by which that process is started. */
export const keepLeaseOption = '--keep-lease';
/** Milliseconds between looks at whether it is still wanted. */
const lookMs = 1000;

/** Starts the process; it has nothing of this one's, and goes on without it. */
export function startStaying(containerKey: string, ifname: string): void {
  const [, program = ''] = process.argv;
  const child = spawn(process.execPath, [program, keepLeaseOption, containerKey, ifname], {
    cwd: '/',
    detached: true,
    stdio: 'ignore',
    env: { PATH: process.env.PATH },
  });
  child.unref();
}

/**
 * Renews the lease that the interface has, until its container ends, the interface is taken away, or somebody else (the
 * agent) renews it.
 */
export async function keepLease(host: Host, containerKey: string, ifname: string): Promise<void> {
  const record = host.state.record(containerKey, ifname);
  const held = host.state.lease(containerKey, ifname, 4);
  if (!record?.want || !held || !lives(record.container)) return;
  const container = containerOf(record);
  const target = { host, container, attachment: record.want };
  const link = (() => {
    using netns = openContainerNetns(container);
    using guest = NetlinkSocket.open(netns);
    return leasedLink(guest, ifname);
  })();
  const client = clientFor(target, link, { changed: () => {} });
  client.resume(held.lease);
  const isWanted = (): boolean => {
    if (!lives(record.container) || !host.state.record(containerKey, ifname)) return false;
    const keeper = host.state.lease(containerKey, ifname, 4)?.keeper;
    return keeper === undefined || keeper === ownProcess();
  };
  while (isWanted()) await sleep(lookMs);
  client.stop();
}
