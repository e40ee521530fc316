/** Leases that an interface has and is to have no more, while it stays. */
import { containerKey } from '../apply/state.ts';
import type { NetlinkSocket } from '../kernel/netlink/socket.ts';
import type { Family } from '../model/address.ts';
import { removeLease } from './apply.ts';
import { offerDns } from './dns/offers.ts';
import { type LeaseTarget, releaseHeld } from './held.ts';
import { releaseHeld6 } from './held6.ts';

/**
 * Gives a lease back and takes it off the interface, and its name servers out of the container's file. What is asked for
 * as a static address stays. @throws PipewrightError
 */
export async function dropLease(
  { host, container, attachment }: LeaseTarget,
  family: Family,
  guest: NetlinkSocket,
): Promise<void> {
  const { ifname, addrs } = attachment;
  const held = host.state.lease(containerKey(container), ifname, family);
  if (!held) return;
  const release = family === 4 ? releaseHeld : releaseHeld6;
  release(host, container, ifname, guest);
  const staying = addrs.flatMap(({ cidr }) => cidr ?? []);
  if (held.container.startTime === container.startTime) removeLease(guest, ifname, held.lease, staying);
  // Whether there is anything in the file, the file itself says; one that cannot be written has nothing of ours.
  await offerDns(container, `${ifname}/${family}`, undefined).catch(() => {});
}
