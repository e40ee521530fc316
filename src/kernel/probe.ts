/**
 * Duplicate address detection, `arping -D`: asks the link whether somebody has an address, before it is used. IPv4 by the
 * ARP probes of RFC 5227, IPv6 by the solicitations of RFC 4862.
 */
import { writeSync } from 'node:fs';
import type { Socket } from 'node:net';
import { refusedByFs } from './errno.ts';
import { arpQuestion, claimant, duplicateGroups, ETH_P_ARP, ETH_P_IPV6, solicitation } from './frames.ts';
import type { Netns } from './netns.ts';
import { closeInBackground, ignoreOthers, joinMulticast, openPacketSocket } from './packet-socket.ts';
import { readInLoop } from './readable.ts';

/** The link that asks: Ethernet, up, and without the address. */
export interface ProbingLink {
  readonly netns: Netns;
  readonly ifindex: number;
  readonly mac: string;
}

/** How long is listened, and how often asked meanwhile. */
export interface ProbeOptions {
  /** Default 3, PROBE_NUM of RFC 5227. */
  readonly probes?: number;
  /**
   * Milliseconds in all, default 250; the questions are spread over it evenly, the first at once. RFC 5227 has 4 to 9
   * seconds, for hosts that sleep and for switches that are just learning their ports; a host that is awake answers
   * within a millisecond, and a container is not to wait that long for its address at each start.
   */
  readonly spanMs?: number;
  /**
   * An address of the link from which to ask, as any neighbour does who has something to send. Absent: from nobody yet,
   * which tells a holder who is just making sure of the address that somebody else wants it, and makes it give way.
   */
  readonly from?: string | undefined;
  /** MAC addresses whose answers do not count: the asker's own in earlier lives. */
  readonly ignored?: ReadonlySet<string>;
  /** Ends it early; its reason is thrown. */
  readonly signal?: AbortSignal;
}

/** Whoever has the address. */
export interface Claimant {
  readonly mac: string;
}

/**
 * Asks whether somebody on the link of `link` has `ip` (canonical text), or is about to take it. Undefined when nobody
 * says so in time; as soon as somebody does, the answer. Many can be under way at once. Not for the inside of inNetns().
 * @throws PipewrightError: ENODEV, ENXIO or ENETDOWN for a link that is not there or not up
 */
export async function probeAddress(
  link: ProbingLink,
  ip: string,
  { probes = 3, spanMs = 250, from, ignored, signal }: ProbeOptions = {},
): Promise<Claimant | undefined> {
  signal?.throwIfAborted();
  const isIpv6 = ip.includes(':');
  const fd = openPacketSocket(link.netns, link.ifindex, isIpv6 ? ETH_P_IPV6 : ETH_P_ARP);
  const subject = `${ip} on link ${link.ifindex} in ${link.netns.label}`;
  let listening: Socket | undefined;
  let timer: NodeJS.Timeout | undefined;
  let onAbort: (() => void) | undefined;
  try {
    ignoreOthers(fd, subject);
    if (isIpv6) for (const group of duplicateGroups(ip)) joinMulticast(fd, link.ifindex, group);
    const question = isIpv6 ? solicitation(link.mac, ip, from) : arpQuestion(link.mac, ip, from);
    return await new Promise<Claimant | undefined>((resolve, reject) => {
      const hear = (frame: Buffer): void => {
        const mac = claimant(frame, ip);
        // Some switches and access points send a question back to who asked it.
        if (mac !== undefined && mac !== link.mac && !ignored?.has(mac)) resolve({ mac });
      };
      listening = readInLoop(fd, hear, { subject }).on('error', reject);
      onAbort = () => reject(signal?.reason);
      signal?.addEventListener('abort', onAbort);
      const ask = (asked: number): void => {
        // Where the loop was held up, an answer may be waiting that is only read after all timers that are due.
        if (asked === probes) return void setImmediate(resolve, undefined);
        writeSync(fd, question);
        timer = setTimeout(attempt, spanMs / probes, asked + 1);
      };
      const attempt = (asked: number): void => {
        try {
          ask(asked);
        } catch (error) {
          reject(error);
        }
      };
      attempt(0);
    });
  } catch (error) {
    if (signal?.aborted) throw error;
    throw refusedByFs(error, { op: 'addr.probe', subject });
  } finally {
    clearTimeout(timer);
    if (onAbort) signal?.removeEventListener('abort', onAbort);
    // First, so that the last descriptor is the one that is closed in the background.
    listening?.destroy();
    closeInBackground(fd);
  }
}
