/** Which routes of a link have to be moved with it, and how. Pure. */
import { type Cidr, formatCidr, networkOf } from '../model/address.ts';
import type { Addr, Route } from '../model/link.ts';
import type { Conf, RoutePlace, StandIn } from '../model/uplink.ts';

/** RT_TABLE_LOCAL, RT_TABLE_MAIN; RT_SCOPE_LINK; RTN_UNICAST. */
const localTable = 255;
const mainTable = 254;
const linkScope = 253;
const unicast = 1;
/** RTPROT_KERNEL, RTPROT_RA. */
const byKernel = 2;
const byRouter = 9;
/** IFA_F_NOPREFIXROUTE. */
const noPrefixRoute = 0x200;

/**
 * Whether the kernel makes the route by itself: with one of the link's addresses, or with the link. What it learned from
 * a router's advertisement is not among them.
 */
export function madeByKernel(route: Route, addrs: readonly Addr[]): boolean {
  const { protocol, table, dst } = route;
  if (protocol !== byKernel) return false;
  if (table === localTable) return true;
  return addrs.some((addr) => {
    const { cidr, peer } = addr;
    return (
      hasSubnetRoute(addr) &&
      dst?.family === cidr.family &&
      dst.prefixLen === cidr.prefixLen &&
      dst.ip === networkOf(peer === undefined ? cidr : { ...cidr, ip: peer })
    );
  });
}

/** Whether the kernel makes a route to the subnet with the address. */
export function hasSubnetRoute({ flags }: Addr): boolean {
  return (flags & noPrefixRoute) === 0;
}

/** The route that the kernel makes with an IPv4 address. */
export function subnetRoute(cidr: Cidr, dev: number): Route {
  return {
    family: 4,
    dst: { ...cidr, ip: networkOf(cidr) },
    dev,
    scope: linkScope,
    table: mainTable,
    protocol: byKernel,
    type: unicast,
    prefsrc: cidr.ip,
    unknown: [],
  };
}

/** Those first that a gateway of another may need. */
export function inOrder(routes: readonly Route[]): Route[] {
  return [...routes.filter(({ gateway }) => !gateway), ...routes.filter(({ gateway }) => gateway)];
}

/** Two routes of one key stand in a row, of which the first is used. */
function keyOf({ family, table, dst, metric, tos }: Route): string {
  return `${family} ${table} ${dst ? formatCidr(dst) : 'default'} ${metric ?? 0} ${tos ?? 0}`;
}

/**
 * How the route comes to its new link without a moment in which there is none. IPv4 replaces in one step, and the first of
 * those of one key; IPv6 does too, but takes a route of another link for the one that is meant.
 */
export function placeOf(route: Route, all: readonly Route[]): RoutePlace {
  if (route.family === 6) return 'append';
  const first = all.find((other) => keyOf(other) === keyOf(route));
  return first === undefined || JSON.stringify(first) === JSON.stringify(route) ? 'replace' : 'append';
}

/** Whether the kernel of a link acts on routers' advertisements, Documentation/networking/ip-sysctl.rst: accept_ra. */
export function takesAdvertisements(conf: Conf): boolean {
  const accept = Number(conf['ipv6/accept_ra'] ?? 0);
  return accept === 2 || (accept === 1 && conf['ipv6/forwarding'] === '0');
}

/** Whether the kernel learned the route from a router. Programs that do so themselves have accept_ra off. */
export function isLearned({ family, protocol }: Route, conf: Conf): boolean {
  return family === 6 && protocol === byRouter && takesAdvertisements(conf);
}

/** IP6_RT_PRIO_USER. */
const usualMetric = 1024;

/** The route that does the work of a learned one on `link`, see StandIn. */
export function standInFor(learned: Route, link: string, from: number): StandIn {
  return { link, from, learned, standIn: { ...learned, metric: (learned.metric ?? usualMetric) + 1 } };
}
