/** Puts a lease on an interface, and takes it off again. */
import { hasErrno } from '../errors.ts';
import { delAddr, listAddrs, replaceAddr } from '../kernel/netlink/addr.ts';
import { getLink, setLink } from '../kernel/netlink/link.ts';
import { addRoute, delRoute, listRoutes, replaceRoute } from '../kernel/netlink/route.ts';
import type { NetlinkSocket } from '../kernel/netlink/socket.ts';
import { readSysctl, sysctlPath, writeSysctl } from '../kernel/sysctl.ts';
import { broadcastOf, type Cidr, type Family } from '../model/address.ts';
import type { RouteSpec } from '../model/attachment.ts';
import type { Lease, LeasedAddress } from '../model/lease.ts';
import type { Addr, Link, Route } from '../model/link.ts';
import { promotion } from '../model/observed.ts';

/** RTPROT_DHCP: what a lease brought, and nothing else on the link. */
const leasedProtocol = 16;
const mainTable = 254;
/** The metric that a route has when none is given. */
const plainMetric: Readonly<Record<Family, number>> = { 4: 0, 6: 1024 };
/** INFINITY_LIFE_TIME less one: the longest that is not for ever. */
const longestSeconds = 0xfffffffe;

/** IFA_F_NODAD, and IFA_F_NOPREFIXROUTE: the kernel would leave the route behind when the address goes. */
const ifaNodad = 0x02;
const ifaNoPrefixRoute = 0x200;

/** What is to be made of a lease. */
export interface ApplyOptions {
  /** Milliseconds since 1970. */
  readonly now: number;
  /** The lease that the interface had before. */
  readonly was?: Lease | undefined;
  /** The user said an MTU, which goes before the server's. */
  readonly keepMtu: boolean;
  /** Addresses that the kernel need not ask the link for. */
  readonly verified?: ReadonlySet<string>;
}

/**
 * Makes the interface as the lease says, changing only what differs: MTU, addresses with their lifetimes, routes. A route
 * that another interface of the container has already stays there, the default route as well.
 * @returns the addresses that are new on it
 */
export function applyLease(
  guest: NetlinkSocket,
  ifname: string,
  lease: Lease,
  options: ApplyOptions,
): Cidr[] {
  const link = requireLink(guest, ifname);
  const { was, keepMtu } = options;
  if (lease.mtu !== undefined && !keepMtu && lease.mtu !== link.mtu) setMtu(guest, link, lease.mtu);
  const present = listAddrs(guest, link.ifindex);
  const staying = new Set(lease.addresses.map(({ cidr }) => keyOf(cidr)));
  for (const { cidr } of was?.addresses ?? []) {
    if (!staying.has(keyOf(cidr)) && has(present, cidr)) guest.request(delAddr(link.ifindex, cidr));
  }
  const fresh = lease.addresses.filter(({ cidr }) => !has(present, cidr));
  for (const address of lease.addresses) guest.request(addrRequest(link.ifindex, address, lease, options));
  applyRoutes(guest, link, lease);
  return fresh.map(({ cidr }) => cidr);
}

/**
 * Takes off what the lease gave: its addresses, and the routes that are marked as a lease's.
 * @param staying addresses that somebody else asked for by now: they lose their end, and are not taken off
 */
export function removeLease(
  guest: NetlinkSocket,
  ifname: string,
  lease: Lease,
  staying: readonly Cidr[] = [],
): void {
  const link = getLink(guest, ifname);
  if (!link) return;
  for (const route of leasedRoutes(guest, link, lease.family)) ignoring(guest, delRoute(route), 'ESRCH');
  const isStaying = (cidr: Cidr): boolean => staying.some((other) => keyOf(other) === keyOf(cidr));
  const present = listAddrs(guest, link.ifindex);
  const cidrs = lease.addresses.map(({ cidr }) => cidr).filter((cidr) => has(present, cidr));
  for (const cidr of cidrs.filter(isStaying)) {
    const broadcast = cidr.family === 4 ? { broadcast: broadcastOf(cidr) } : {};
    guest.request(replaceAddr(link.ifindex, { cidr, ...broadcast }));
  }
  const going = cidrs.filter((one) => !isStaying(one));
  const drop = (): void => {
    for (const cidr of going) ignoring(guest, delAddr(link.ifindex, cidr), 'EADDRNOTAVAIL');
  };
  const others = present.filter(({ cidr }) => !going.some((one) => keyOf(one) === keyOf(cidr)));
  if (lease.family === 4 && others.some(({ cidr }) => cidr.family === 4)) promoting(guest, link, drop);
  else drop();
}

/** The first IPv4 address of a subnet would take the others of that subnet with it. */
function promoting({ netns }: NetlinkSocket, { name }: Link, act: () => void): void {
  const key = sysctlPath(name, promotion);
  const was = readSysctl(netns, key);
  const isOff = was === '0';
  if (isOff) writeSysctl(netns, key, '1');
  try {
    act();
  } finally {
    if (isOff) writeSysctl(netns, key, was);
  }
}

/** Whether the interface has all addresses and routes of the lease that it can have. */
export function hasLease(guest: NetlinkSocket, ifname: string, lease: Lease): boolean {
  const link = getLink(guest, ifname);
  if (!link) return false;
  const present = listAddrs(guest, link.ifindex);
  const routes = listRoutes(guest, { family: lease.family, table: mainTable });
  return (
    lease.addresses.every(({ cidr }) => has(present, cidr)) &&
    lease.routes.every((want) => routes.some((route) => isSameDestination(route, want, lease.family)))
  );
}

function requireLink(guest: NetlinkSocket, ifname: string): Link {
  const link = getLink(guest, ifname);
  if (!link) throw new Error(`there is no ${ifname}`);
  return link;
}

const keyOf = ({ ip, prefixLen }: Cidr): string => `${ip}/${prefixLen}`;

const has = (present: readonly Addr[], cidr: Cidr): boolean =>
  present.some((addr) => keyOf(addr.cidr) === keyOf(cidr));

/** A server can ask for more than the link can carry: then it stays as it is. */
function setMtu(guest: NetlinkSocket, { ifindex }: Link, mtu: number): void {
  ignoring(guest, setLink({ ifindex }, { mtu }), 'EINVAL', 'ERANGE');
}

function ignoring(
  guest: NetlinkSocket,
  request: Parameters<NetlinkSocket['request']>[0],
  ...errnos: string[]
): void {
  const [refusal] = guest.batch([request]);
  if (refusal && !hasErrno(refusal, ...errnos)) throw refusal;
}

function addrRequest(
  ifindex: number,
  { cidr, validUntil, preferredUntil }: LeasedAddress,
  lease: Lease,
  { now, verified }: ApplyOptions,
) {
  const seconds = (until: number): number =>
    Math.min(longestSeconds, Math.max(1, Math.ceil((until - now) / 1000)));
  const broadcast = lease.broadcast ?? (cidr.prefixLen < 31 ? broadcastOf(cidr) : undefined);
  return replaceAddr(ifindex, {
    cidr,
    ...(cidr.family === 4 && broadcast !== undefined && { broadcast }),
    // Never without an end: one that is permanent is taken for a static one, which nobody asked for.
    validLifetime: validUntil === undefined ? longestSeconds : seconds(validUntil),
    preferredLifetime: preferredUntil === undefined ? longestSeconds : seconds(preferredUntil),
    flags: (verified?.has(cidr.ip) ? ifaNodad : 0) | (cidr.family === 6 ? ifaNoPrefixRoute : 0),
  });
}

function leasedRoutes(guest: NetlinkSocket, { ifindex }: Link, family: Family): Route[] {
  return listRoutes(guest, { family, table: mainTable }).filter(
    ({ dev, protocol }) => dev === ifindex && protocol === leasedProtocol,
  );
}

function isSameDestination({ dst, metric }: Route, want: RouteSpec, family: Family): boolean {
  const same = dst === undefined ? want.dst.prefixLen === 0 : keyOf(dst) === keyOf(want.dst);
  return same && (metric ?? plainMetric[family]) === plainMetric[family];
}

/** Direct routes first, as gateways can be behind them; then those by a gateway, the default route last. */
function applyRoutes(guest: NetlinkSocket, link: Link, { routes, family }: Lease): void {
  const there = listRoutes(guest, { family, table: mainTable });
  const isOurs = ({ dev, protocol }: Route): boolean => dev === link.ifindex && protocol === leasedProtocol;
  for (const route of there.filter(isOurs)) {
    if (!routes.some((want) => isSameDestination(route, want, family)))
      ignoring(guest, delRoute(route), 'ESRCH');
  }
  const rank = ({ dst, gateway }: RouteSpec): number =>
    gateway === undefined ? -1 : dst.prefixLen === 0 ? 1 : 0;
  for (const want of [...routes].sort((a, b) => rank(a) - rank(b))) {
    const present = there.find((route) => isSameDestination(route, want, family));
    if (present && (!isOurs(present) || present.gateway === want.gateway)) continue;
    putRoute(guest, link, want, family, present !== undefined);
  }
}

function putRoute(
  guest: NetlinkSocket,
  { ifindex }: Link,
  want: RouteSpec,
  family: Family,
  replaces: boolean,
): void {
  const { dst, gateway } = want;
  const route = {
    family,
    dev: ifindex,
    protocol: leasedProtocol,
    ...(dst.prefixLen === 0 ? {} : { dst }),
    ...(gateway === undefined ? {} : { gateway }),
  };
  const request = replaces ? replaceRoute : addRoute;
  const [refusal] = guest.batch([request(route)]);
  if (!refusal || hasErrno(refusal, 'EEXIST')) return;
  // A gateway in no subnet of the lease is to be reached on the link all the same: some providers do so.
  if (gateway === undefined || !hasErrno(refusal, 'ENETUNREACH', 'EHOSTUNREACH')) throw refusal;
  ignoring(guest, request({ ...route, onlink: true }), 'EEXIST');
}
