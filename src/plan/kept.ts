/** What a link had before a change, and what brings it back. Pure. */
import type { Addr } from '../model/link.ts';
import type { LinkWithAddrs } from '../model/observed.ts';
import type { Operation, SavedLink, Step } from '../model/operation.ts';

/** What a link is to be given back with. */
export function saved({ link, addrs, routes, phy }: LinkWithAddrs): SavedLink {
  const { name, up, mac, mtu, group } = link;
  return { name, up, mac, mtu, group, addrs, routes, ...(phy === undefined ? {} : { phy }) };
}

/**
 * Taken back, the link is as it was down to the order of its addresses, by one operation for all steps: a deleted address
 * takes routes with it, and an MTU below 1280 all of IPv6, so that no step knows by itself what it costs.
 */
export function restorable(there: LinkWithAddrs, steps: readonly Step[]): Step[] {
  const [first, ...others] = steps;
  if (!first) return [];
  const restore: Operation = { do: 'link.restore', name: there.link.name, saved: saved(there) };
  return [{ ...first, undo: [...first.undo, restore] }, ...others];
}

/** IFA_F_PERMANENT: not from a lease or a router advertisement. */
const permanent = 0x80;

/** Whether an address was put there on purpose: not by a lease, not a link-local one. */
export function isAsked({ scope, flags }: Addr): boolean {
  return scope === 0 && (flags & permanent) !== 0;
}
