/** Leases as the state directories remember them, for when no agent says how they are doing. */
import { keyOf } from '../apply/converge.ts';
import type { Host } from '../apply/host.ts';
import { containerKey, type HeldLease } from '../apply/state.ts';
import { leasesPrefix } from '../apply/wanted.ts';
import { startTimeOf } from '../containers/proc.ts';
import { formatCidr } from '../model/address.ts';
import type { Lease, LeaseStatus } from '../model/lease.ts';
import { FileStore } from '../store/file-store.ts';
import { lives } from './lives.ts';

/**
 * By attachment: the leases that interfaces have, and of attachments whose container does not run the last ones, where
 * they are not over yet.
 * @param stateDir what outlives a reboot
 */
export async function rememberedLeases(host: Host, stateDir: string): Promise<Map<string, LeaseStatus[]>> {
  const found = new Map<string, LeaseStatus[]>();
  const add = (key: string, status: LeaseStatus): void => {
    found.set(key, [...(found.get(key) ?? []), status]);
  };
  const now = Date.now();
  for (const record of host.state.records()) {
    if (!lives(record.container)) continue;
    for (const family of [4, 6] as const) {
      const held = host.state.lease(containerKey(record.container), record.ifname, family);
      if (held?.container.startTime === record.container.startTime && held)
        add(keyOf(record), statusOf(held, now));
    }
  }
  const here = new Set(found.keys());
  for (const { key, value } of await new FileStore(stateDir).list<{ readonly lease: Lease }>(leasesPrefix)) {
    const [, name = '', ifname = ''] = /^(.+) ([^ ]+) [46]$/.exec(key.slice(leasesPrefix.length + 1)) ?? [];
    const attachment = `${name}/${ifname}`;
    const { lease } = value;
    const { expiresAt = Number.POSITIVE_INFINITY } = lease;
    if (name === '' || here.has(attachment) || expiresAt <= now) continue;
    const reason = 'remembered: asked for again when the agent runs, and its container';
    add(attachment, { family: lease.family, state: 'REMEMBERED', lease, reason });
  }
  return found;
}

function statusOf({ lease, keeper = '' }: HeldLease, now: number): LeaseStatus {
  const { family, addresses, server, expiresAt = Number.POSITIVE_INFINITY } = lease;
  if (expiresAt <= now) {
    const what = addresses.map(({ cidr }) => formatCidr(cidr)).join(', ');
    const since = new Date(expiresAt).toISOString();
    return {
      family,
      state: 'EXPIRED',
      reason: `${what} from ${server} was over at ${since}: nobody renewed it`,
    };
  }
  const [pid = '', startTime] = keeper.split(':');
  const isKept = pid !== '' && startTimeOf(Number(pid)) === startTime;
  return { family, state: 'BOUND', lease, reason: isKept ? `renewed by process ${pid}` : 'nobody renews it' };
}
