/** Names of links on the host, and the marks by which what is ours is known. */
import { createHash } from 'node:crypto';

/** Longest name of a link in bytes (IFNAMSIZ less the closing NUL). */
export const ifnameMax = 15;

/** Routes that we add carry this protocol number (`ip route` shows `proto 112`), free in /etc/iproute2/rt_protos. */
export const routeProtocol = 112;

const groupBase = 0x70000000;

/**
 * The group (IFLA_GROUP, `ip link ... group N`) of a link made by one transaction: it is given at the link's birth, in
 * the same message, so that there is no moment at which a link of ours is not known as ours.
 * @param random an integer of at least 28 random bits
 */
export function groupOf(random: number): number {
  return groupBase | (random & 0x0fffffff);
}

/** Whether a link of this group was made by pipewright. */
export function isOurGroup(group: number): boolean {
  return group >>> 28 === groupBase >>> 28;
}

/** A MAC address of its own for a bridge of this group: without one it has the lowest of its ports', and changes with them. */
export function macOfGroup(group: number): string {
  const bytes = group.toString(16).padStart(8, '0').match(/../g) ?? [];
  return `02:70:${bytes.join(':')}`;
}

/**
 * The host's end of a veth pair: `v<ifname>pl<pid>` as the original names it when that fits, else a stable short form.
 * The short form cannot be taken for the original's, which begins with `v`.
 * @param salt told apart by, when the name is found to belong to another attachment
 */
export function hostIfnameFor(
  ifname: string,
  netns: { readonly pid?: number; readonly inode: number },
  salt = 0,
): string {
  const original = `v${ifname}pl${netns.pid ?? ''}`;
  if (salt === 0 && netns.pid !== undefined && Buffer.byteLength(original) <= ifnameMax) return original;
  const digest = createHash('sha256')
    .update(`${ifname}\0${netns.inode}\0${netns.pid ?? ''}\0${salt}`)
    .digest('hex');
  return `pw${digest.slice(0, ifnameMax - 2)}`;
}

/** The link beside an interface by which what that one receives is limited: `ifb-eth1`, or a stable short form. */
export function ifbNameFor(ifname: string): string {
  const plain = `ifb-${ifname}`;
  if (Buffer.byteLength(plain) <= ifnameMax) return plain;
  return `pwi${createHash('sha256')
    .update(ifname)
    .digest('hex')
    .slice(0, ifnameMax - 3)}`;
}

/** Alternative name of a bridge that somebody else made and we switched to VLAN filtering, until that is taken back. */
export function filteringMark(bridge: string): string {
  return `pipewright-vlan-filtering-${bridge}`;
}

/** Key among the external_ids of the interface that the host itself has in a VLAN of an Open vSwitch bridge. */
export const hostMark = 'pipewright.host';

/** The name of the 802.1Q sub-interface of a NIC, or of the host's port in a VLAN of a bridge: `eth0.100`, or a stable short form when that does not fit. */
export function vlanIfnameFor(uplink: string, vid: number): string {
  const plain = `${uplink}.${vid}`;
  if (Buffer.byteLength(plain) <= ifnameMax) return plain;
  const digest = createHash('sha256').update(uplink).digest('hex');
  return `pw${digest.slice(0, 8)}.${vid}`;
}
