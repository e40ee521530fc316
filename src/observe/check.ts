/** Tries pairs of ends on the link itself, by ARP and neighbour discovery: no route and no program is needed for it. */

import type { Container } from '../containers/container.ts';
import { openContainerNetns } from '../containers/resolve.ts';
import { listAddrs } from '../kernel/netlink/addr.ts';
import { getLink } from '../kernel/netlink/link.ts';
import { NetlinkSocket } from '../kernel/netlink/socket.ts';
import type { Netns } from '../kernel/netns.ts';
import { probeAddress } from '../kernel/probe.ts';
import { type Cidr, familyOf } from '../model/address.ts';
import type { Link } from '../model/link.ts';
import type { End, Pair } from '../plan/reachability.ts';
import { probe } from './reach.ts';

/** Where an end of this host is. */
export interface EndPlace {
  /** Undefined: on the host itself. */
  readonly container: Container | undefined;
  readonly ifname: string;
}

/** A pair, and what was seen of it. */
export interface Checked extends Pair {
  /** Undefined: it could not be tried; why is in `detail`. */
  readonly seen: boolean | undefined;
  readonly detail: string;
}

/**
 * Milliseconds that an answer may take, and how often is asked meanwhile. Whoever has got an IPv6 address a moment ago
 * makes sure of it for up to two seconds, and does not answer.
 */
const patience = { wanted: { spanMs: 4000, probes: 8 }, unwanted: { spanMs: 900, probes: 3 } } as const;
type Patience = (typeof patience)[keyof typeof patience];
const atOnce = 64;
/** ARPHRD_ETHER. */
const ethernet = 1;

/** Tries all pairs, 64 at a time. @param placeOf where the ends of this host are */
export async function checkPairs(
  pairs: readonly Pair[],
  host: Netns,
  placeOf: (end: End) => EndPlace | undefined,
): Promise<Checked[]> {
  const open = new Map<string, Opened>();
  try {
    for (const { from } of pairs) if (!open.has(from.key)) open.set(from.key, openEnd(from, host, placeOf));
    const checked: Checked[] = [];
    let next = 0;
    const work = async (): Promise<void> => {
      for (let at = next++; at < pairs.length; at = next++) {
        const pair = pairs[at];
        if (!pair) continue;
        const isThere = pair.to.host !== undefined || placeOf(pair.to) !== undefined;
        checked[at] = { ...pair, ...(await tryPair(pair, open.get(pair.from.key), isThere)) };
      }
    };
    await Promise.all(Array.from({ length: Math.min(atOnce, pairs.length) }, work));
    return checked;
  } finally {
    for (const { close } of open.values()) close?.();
  }
}

interface Opened {
  readonly netns?: Netns;
  readonly link?: Link | undefined;
  /** Its own addresses, to ask from. */
  readonly own?: readonly Cidr[];
  readonly why?: string;
  readonly close?: () => void;
}

function openEnd(end: End, host: Netns, placeOf: (end: End) => EndPlace | undefined): Opened {
  const place = placeOf(end);
  if (!place) return { why: `${end.name} does not run` };
  const netns = place.container ? openContainerNetns(place.container) : host;
  const close = place.container ? (): void => netns[Symbol.dispose]() : () => {};
  using rtnl = NetlinkSocket.open(netns);
  const link = getLink(rtnl, place.ifname);
  if (!link) return { close, why: `${end.name} has no ${place.ifname}` };
  const own = listAddrs(rtnl, link.ifindex).map(({ cidr }) => cidr);
  return { netns, link, own, close, ...(link.up ? {} : { why: `${place.ifname} of ${end.name} is down` }) };
}

async function tryPair(
  { from, to, expected }: Pair,
  { netns, link, own = [], why }: Opened = {},
  isThere: boolean,
): Promise<Pick<Checked, 'seen' | 'detail'>> {
  if (!netns || !link || why !== undefined) return { seen: undefined, detail: why ?? 'it is not there' };
  // Neighbour discovery asks from an address; who has IPv4 alone is to be reached by that.
  const ips = to.ips.filter((ip) => familyOf(ip) === 4 || own.some(({ family }) => family === 6));
  if (ips.length === 0) return { seen: undefined, detail: `${from.name} has no IPv6 address to ask from` };
  const span = expected && isThere ? patience.wanted : patience.unwanted;
  const answers = await Promise.all(ips.map((ip) => ask({ netns, link, own }, ip, span)));
  const heard = answers.filter((answer) => answer !== undefined);
  const silent = ips.filter((_, at) => answers[at] === undefined);
  // What must be reached must be by all these addresses; what must not be, by none.
  const seen = expected ? silent.length === 0 : heard.length > 0;
  if (!seen && expected && !isThere) return { seen, detail: `${to.name} does not run` };
  const detail = seen ? heard.join(', ') : `nobody on ${from.network} answers for ${silent.join(', ')}`;
  return { seen, detail };
}

interface Asker {
  readonly netns: Netns;
  readonly link: Link;
  readonly own: readonly Cidr[];
}

/** Who answers for an address; undefined: nobody. */
async function ask({ netns, link, own }: Asker, ip: string, patience: Patience): Promise<string | undefined> {
  // The children of an ipvlan share one MAC address, which cannot tell who answers.
  if (link.kind === 'ipvlan' || link.arphrd !== ethernet) {
    const { reachable } = await probe(netns, { ip, protocol: 'ping' }, patience.spanMs);
    return reachable ? `${ip} answers` : undefined;
  }
  // Never as one who is about to take the address: a holder that is not yet sure of it would give it up.
  const family = familyOf(ip);
  const local = own.find((cidr) => cidr.family === family && (family === 4 || cidr.ip.startsWith('fe80:')));
  const from = (local ?? own.find((cidr) => cidr.family === family))?.ip;
  if (from === undefined && family === 6) return undefined;
  const found = await probeAddress({ netns, ifindex: link.ifindex, mac: link.mac }, ip, {
    ...patience,
    from,
  });
  return found && `${ip} is at ${found.mac}`;
}
