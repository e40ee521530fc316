/**
 * Gratuitous announcements: tells the neighbours at once which MAC address has an IP address, where they would keep a
 * stale entry for minutes.
 */
import { writeSync } from 'node:fs';
import type { Cidr } from '../model/address.ts';
import { refusedByFs } from './errno.ts';
import { gratuitousArp, unsolicitedAdvertisement } from './frames.ts';
import type { Netns } from './netns.ts';
import { closeInBackground, openPacketSocket } from './packet-socket.ts';

/**
 * `arping -c 1 -A -I LINK IP` for each IPv4 address, and its IPv6 counterpart; without waiting for anything.
 * The link has to be Ethernet, with this MAC address, and up (else ENETDOWN). Not for the inside of inNetns().
 */
export function announce(netns: Netns, ifindex: number, mac: string, cidrs: readonly Cidr[]): void {
  if (cidrs.length === 0) return;
  const fd = openPacketSocket(netns, ifindex);
  try {
    for (const { family, ip } of cidrs) {
      writeSync(fd, family === 4 ? gratuitousArp(mac, ip) : unsolicitedAdvertisement(mac, ip));
    }
  } catch (error) {
    throw refusedByFs(error, { op: 'announce', subject: `link ${ifindex} in ${netns.label}` });
  } finally {
    closeInBackground(fd);
  }
}
