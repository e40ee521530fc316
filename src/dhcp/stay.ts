/** One process that renews the leases of one interface: `--stay`. */
import { spawn } from 'node:child_process';
import { setTimeout as sleep } from 'node:timers/promises';
import { containerOf } from '../apply/converge.ts';
import type { Host } from '../apply/host.ts';
import { openContainerNetns } from '../containers/resolve.ts';
import { NetlinkSocket } from '../kernel/netlink/socket.ts';
import { lives } from '../observe/lives.ts';
import { clientFor, leasedLink, ownProcess } from './held.ts';
import { clientFor6 } from './held6.ts';

/** The hidden option of both programs by which that process is started. */
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
 * Renews the leases that the interface has, until its container ends, the interface is taken away, or somebody else (the
 * agent) renews them.
 */
export async function keepLease(host: Host, containerKey: string, ifname: string): Promise<void> {
  const { state } = host;
  const record = state.record(containerKey, ifname);
  const held = ([4, 6] as const).flatMap((family) => state.lease(containerKey, ifname, family) ?? []);
  if (!record?.want || held.length === 0 || !lives(record.container)) return;
  const container = containerOf(record);
  const target = { host, container, attachment: record.want };
  const link = (() => {
    using netns = openContainerNetns(container);
    using guest = NetlinkSocket.open(netns);
    return leasedLink(guest, ifname);
  })();
  const events = { changed: () => {} };
  const clients = held.map((one) => {
    const { lease } = one;
    state.writeLease(containerKey, { ...one, keeper: ownProcess() });
    const client =
      lease.family === 4 ? clientFor(target, link, events) : clientFor6(target, link.mac, events);
    client.resume(lease);
    return client;
  });
  const isWanted = (): boolean => {
    if (!lives(record.container) || !state.record(containerKey, ifname)) return false;
    return held.every(({ lease }) => {
      const keeper = state.lease(containerKey, ifname, lease.family)?.keeper;
      return keeper === undefined || keeper === ownProcess();
    });
  };
  while (isWanted()) await sleep(lookMs);
  for (const client of clients) client.stop();
}
