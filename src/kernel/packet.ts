/**
 * Gratuitous announcements: tells the neighbours at once which MAC address has an IP address, where they would keep a
 * stale entry for minutes. And the question to routers.
 */
import { writeSync } from 'node:fs';
import type { Cidr } from '../model/address.ts';
import { refusedByFs } from './errno.ts';
import { gratuitousArp, routerSolicitation, unsolicitedAdvertisement } from './frames.ts';
import type { Netns } from './netns.ts';
import { closeInBackground, openPacketSocket } from './packet-socket.ts';

/**
 * `arping -c 1 -A -I LINK IP` for each IPv4 address, and its IPv6 counterpart; without waiting for anything.
 * The link has to be Ethernet, with this MAC address, and up (else ENETDOWN). Not for the inside of inNetns().
 */
export function announce(netns: Netns, ifindex: number, mac: string, cidrs: readonly Cidr[]): void {
  const frames = cidrs.map(({ family, ip }) =>
    family === 4 ? gratuitousArp(mac, ip) : unsolicitedAdvertisement(mac, ip),
  );
  send(netns, ifindex, 'announce', frames);
}

/** `rdisc6 LINK`, without waiting for the answer, which is the kernel's. Likewise. */
export function solicitRouters(netns: Netns, ifindex: number, mac: string, ip: string): void {
  send(netns, ifindex, 'solicit', [routerSolicitation(mac, ip)]);
}

function send(netns: Netns, ifindex: number, op: string, frames: readonly Buffer[]): void {
  if (frames.length === 0) return;
  const fd = openPacketSocket(netns, ifindex);
  try {
    for (const frame of frames) writeSync(fd, frame);
  } catch (error) {
    throw refusedByFs(error, { op, subject: `link ${ifindex} in ${netns.label}` });
  } finally {
    closeInBackground(fd);
  }
}
