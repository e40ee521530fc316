/** Routes, `ip route`. From <linux/rtnetlink.h>, v6.12. */

import { hasErrno } from '../../errors.ts';
import { addressBits, familyOf, formatCidr } from '../../model/address.ts';
import type { RawAttr, Route } from '../../model/link.ts';
import { type Attrs, attr, attrNumber, type Codec, decodeAttrs, encodeAttrs, ip, u32 } from './codec.ts';
import { afOf, familyOfAf, message } from './header.ts';
import {
  type NetlinkSocket,
  NLM_F_APPEND,
  NLM_F_CREATE,
  NLM_F_EXCL,
  NLM_F_REPLACE,
  type Request,
} from './socket.ts';

const RTM_NEWROUTE = 24;
const RTM_DELROUTE = 25;
const RTM_GETROUTE = 26;

const RT_TABLE_UNSPEC = 0;
const RT_TABLE_MAIN = 254;
const RT_TABLE_LOCAL = 255;
const RTPROT_BOOT = 3;
const RTN_UNICAST = 1;
const RTN_LOCAL = 2;
const RT_SCOPE_UNIVERSE = 0;
const RT_SCOPE_LINK = 253;
const RT_SCOPE_HOST = 254;
const RT_SCOPE_NOWHERE = 255;
/** A path MTU or redirect that IPv6 remembers for one destination: no route anybody has made. */
const RTM_F_CLONED = 0x200;
const RTM_F_LOOKUP_TABLE = 0x1000;
const RTNH_F_PERVASIVE = 2;
const RTNH_F_ONLINK = 4;

const RTA_METRICS = 8;
const RTA_MULTIPATH = 9;
const RTA_EXPIRES = 23;
const RTA_VIA = 18;
const RTA_NH_ID = 30;
/** What can stand for a gateway: several next hops, one of the other family, a nexthop object. */
const gatewayLike = new Set([RTA_MULTIPATH, RTA_VIA, RTA_NH_ID]);
/** What the kernel tells and does not want back: RTA_IIF, RTA_MFC_STATS, RTA_UID, RTA_PAD. */
const readOnly = new Set([3, 17, 25, 19]);
/** struct rta_cacheinfo counts in hundredths of a second, whatever the kernel's own HZ. */
const USER_HZ = 100;

/** Seconds until an IPv6 route expires, of struct rta_cacheinfo; only read. */
const cacheinfo: Codec<{ readonly expires: number }> = {
  size: 32,
  read: (bytes) => ({ expires: Math.floor(bytes.readInt32LE(8) / USER_HZ) }),
  write: () => {
    throw new Error('RTA_CACHEINFO is not written');
  },
};

/** RTA_*. */
const routeAttrs = {
  dst: attr(1, ip), // RTA_DST
  src: attr(2, ip), // RTA_SRC
  dev: attr(4, u32), // RTA_OIF
  gateway: attr(5, ip), // RTA_GATEWAY
  metric: attr(6, u32), // RTA_PRIORITY
  prefsrc: attr(7, ip), // RTA_PREFSRC
  cacheinfo: attr(12, cacheinfo), // RTA_CACHEINFO
  table: attr(15, u32), // RTA_TABLE
} as const;

/** What addRoute is given. A Route as it was read will do. */
export type NewRoute = Pick<Route, 'family'> & Partial<Omit<Route, 'family'>>;

interface Rtmsg {
  readonly family: Route['family'] | undefined;
  readonly prefixLen?: number;
  readonly srcLen?: number;
  readonly tos?: number;
  readonly table?: number;
  readonly protocol?: number;
  readonly scope?: number;
  readonly type?: number;
  readonly flags?: number;
}

/** struct rtmsg. */
function rtmsg({
  family,
  prefixLen = 0,
  srcLen = 0,
  tos = 0,
  table = 0,
  protocol = 0,
  scope = 0,
  type = 0,
  flags = 0,
}: Rtmsg): Buffer {
  const header = Buffer.from([
    family ? afOf[family] : 0,
    prefixLen,
    srcLen,
    tos,
    table > 255 ? 0 : table,
    protocol,
    scope,
    type,
  ]);
  const word = Buffer.alloc(4);
  word.writeUInt32LE(flags);
  return Buffer.concat([header, word]);
}

/** `ip route`'s own choice of scope, for a route that has none given. */
function scopeOf({ family, type = RTN_UNICAST, gateway, unknown = [] }: NewRoute): number {
  if (family === 6) return RT_SCOPE_UNIVERSE;
  if (type === RTN_LOCAL) return RT_SCOPE_HOST;
  const direct = gateway === undefined && !unknown.some((one) => gatewayLike.has(attrNumber(one)));
  return direct && type === RTN_UNICAST ? RT_SCOPE_LINK : RT_SCOPE_UNIVERSE;
}

/** The ifindexes that a route leaves by: one, or those of its next hops. */
export function routeDevs({ dev, unknown }: Pick<Route, 'dev' | 'unknown'>): number[] {
  const hops = unknown.filter((one) => attrNumber(one) === RTA_MULTIPATH);
  return [
    ...(dev === undefined ? [] : [dev]),
    ...hops.flatMap(({ data }) => hopsIn(data).map(({ dev }) => dev)),
  ];
}

/** Whether the route says its next hop by a nexthop object, `ip nexthop`, which has a link of its own. */
export function hasNexthopObject({ unknown }: Pick<Route, 'unknown'>): boolean {
  return unknown.some((one) => attrNumber(one) === RTA_NH_ID);
}

/** The same route by another link: of several next hops, those by `from`. */
export function retargetRoute(route: Route, from: number, to: number): Route {
  const unknown = route.unknown.map((one) => {
    if (attrNumber(one) !== RTA_MULTIPATH) return one;
    const data = Buffer.from(one.data);
    for (const { at, dev } of hopsIn(data)) if (dev === from) data.writeInt32LE(to, at + 4);
    return { type: one.type, data };
  });
  return { ...route, ...(route.dev === from ? { dev: to } : {}), unknown };
}

/** A route that has some seconds less to live; undefined when it has none left. */
export function agedRoute(route: Route, seconds: number): Route | undefined {
  const unknown = route.unknown.flatMap((one) => {
    if (attrNumber(one) !== RTA_EXPIRES) return [one];
    const left = u32.read(Buffer.from(one.data)) - seconds;
    return left > 0 ? [{ type: one.type, data: u32.write(left) }] : [];
  });
  return unknown.length < route.unknown.length ? undefined : { ...route, unknown };
}

/** struct rtnexthop: length, flags, hops, ifindex, attributes. */
function hopsIn(nextHops: Uint8Array): { readonly at: number; readonly dev: number }[] {
  const bytes = Buffer.from(nextHops);
  const found: { at: number; dev: number }[] = [];
  for (let at = 0; at + 8 <= bytes.length; ) {
    const length = bytes.readUInt16LE(at);
    if (length < 8) break;
    found.push({ at, dev: bytes.readInt32LE(at + 4) });
    at += (length + 3) & ~3;
  }
  return found;
}

/** Next hops without the flags that are states (dead, linkdown, offload): the kernel refuses those. */
function withoutStates(nextHops: Uint8Array): Buffer {
  const bytes = Buffer.from(nextHops);
  for (const { at } of hopsIn(bytes))
    bytes.writeUInt8(bytes.readUInt8(at + 2) & (RTNH_F_PERVASIVE | RTNH_F_ONLINK), at + 2);
  return bytes;
}

function writable(unknown: readonly RawAttr[]): RawAttr[] {
  return unknown.map((one) =>
    attrNumber(one) === RTA_MULTIPATH ? { type: one.type, data: withoutStates(one.data) } : one,
  );
}

function attributesOf(route: NewRoute, unknown: readonly RawAttr[]): Buffer {
  const { dst, src, gateway, dev, metric, prefsrc, table = RT_TABLE_MAIN } = route;
  // A route that names a nexthop object is told with what that object says, but not taken with it.
  const byObject = unknown.some((one) => attrNumber(one) === RTA_NH_ID);
  const hops = byObject ? unknown.filter((one) => attrNumber(one) !== RTA_MULTIPATH) : unknown;
  return encodeAttrs(routeAttrs, {
    dst: dst?.ip,
    src: src?.ip,
    gateway: byObject ? undefined : gateway,
    dev: byObject ? undefined : dev,
    metric,
    prefsrc,
    table: table > 255 ? table : undefined,
    unknown: writable(hops),
  });
}

function subjectOf({ family, dst, gateway, dev, table = RT_TABLE_MAIN }: NewRoute): string {
  const to =
    dst === undefined || dst.prefixLen === 0 ? `default${family === 6 ? ' (IPv6)' : ''}` : formatCidr(dst);
  const where = table === RT_TABLE_MAIN ? '' : ` table ${table}`;
  return `${to}${gateway === undefined ? '' : ` via ${gateway}`}${where}${dev === undefined ? '' : ` on link ${dev}`}`;
}

function newRoute(route: NewRoute): Omit<Request, 'op' | 'flags'> {
  const {
    family,
    dst,
    src,
    table = RT_TABLE_MAIN,
    protocol = RTPROT_BOOT,
    type = RTN_UNICAST,
    unknown = [],
    tos = 0,
  } = route;
  const scope = route.scope ?? scopeOf(route);
  const lengths = { prefixLen: dst?.prefixLen ?? 0, srcLen: src?.prefixLen ?? 0 };
  const header = { family, ...lengths, tos, table, protocol, scope, type };
  return {
    subject: subjectOf(route),
    type: RTM_NEWROUTE,
    body: message(
      rtmsg({ ...header, flags: route.onlink ? RTNH_F_ONLINK : 0 }),
      attributesOf(route, unknown),
    ),
  };
}

/** `ip route add`; EEXIST when there is one of the same destination and metric. By default: main, boot, unicast. */
export function addRoute(route: NewRoute): Request {
  return { op: 'route.add', flags: NLM_F_CREATE | NLM_F_EXCL, ...newRoute(route) };
}

/** `ip route replace`: in place of the one with the same destination and metric. */
export function replaceRoute(route: NewRoute): Request {
  return { op: 'route.replace', flags: NLM_F_CREATE | NLM_F_REPLACE, ...newRoute(route) };
}

/** `ip route append`: behind those with the same destination and metric; EEXIST when there is just this one. */
export function appendRoute(route: NewRoute): Request {
  return { op: 'route.append', flags: NLM_F_CREATE | NLM_F_APPEND, ...newRoute(route) };
}

/** `ip route prepend`: before those with the same destination and metric. IPv4. */
export function prependRoute(route: NewRoute): Request {
  return { op: 'route.prepend', flags: NLM_F_CREATE, ...newRoute(route) };
}

/** `ip route del`: what is absent matches anything, and the first that matches goes. ESRCH when there is none. */
export function delRoute(route: NewRoute): Request {
  const {
    family,
    dst,
    src,
    table = RT_TABLE_MAIN,
    protocol,
    type,
    scope = RT_SCOPE_NOWHERE,
    unknown = [],
    tos = 0,
  } = route;
  const lengths = { prefixLen: dst?.prefixLen ?? 0, srcLen: src?.prefixLen ?? 0 };
  const header = { family, ...lengths, tos, table, scope };
  // The metrics need not be repeated, and what says how long it lasts cannot be.
  const hops = unknown.filter((one) => ![RTA_METRICS, RTA_EXPIRES].includes(attrNumber(one)));
  return {
    op: 'route.del',
    subject: subjectOf(route),
    type: RTM_DELROUTE,
    flags: 0,
    body: message(
      rtmsg({
        ...header,
        ...(protocol === undefined ? {} : { protocol }),
        ...(type === undefined ? {} : { type }),
      }),
      attributesOf(route, hops),
    ),
  };
}

/** What is written back of the attributes that were not understood, with the time that a route has left. */
function keptUnknown(attributes: Attrs<typeof routeAttrs>): RawAttr[] {
  const kept = (attributes.unknown ?? []).filter((one) => !readOnly.has(attrNumber(one)));
  const expires = attributes.cacheinfo?.expires ?? 0;
  return expires > 0 ? [...kept, { type: RTA_EXPIRES, data: u32.write(expires) }] : kept;
}

function decodeRoute(body: Buffer): Route | undefined {
  const family = familyOfAf(body.readUInt8(0));
  if (family === undefined) return undefined;
  const attributes = decodeAttrs(routeAttrs, body.subarray(12));
  const { dst, src, gateway, dev, metric, prefsrc, table } = attributes;
  return {
    family,
    ...(dst === undefined ? {} : { dst: { family, ip: dst, prefixLen: body.readUInt8(1) } }),
    ...(src === undefined ? {} : { src: { family, ip: src, prefixLen: body.readUInt8(2) } }),
    ...(gateway === undefined ? {} : { gateway }),
    ...(dev === undefined ? {} : { dev }),
    scope: body.readUInt8(6),
    ...(metric === undefined ? {} : { metric }),
    ...(body.readUInt8(3) === 0 ? {} : { tos: body.readUInt8(3) }),
    table: table ?? body.readUInt8(4),
    protocol: body.readUInt8(5),
    type: body.readUInt8(7),
    ...(prefsrc === undefined ? {} : { prefsrc }),
    ...((body.readUInt32LE(8) & RTNH_F_ONLINK) === 0 ? {} : { onlink: true }),
    unknown: keptUnknown(attributes),
  };
}

/** Which routes are listed. */
interface RouteFilter {
  readonly family?: Route['family'];
  readonly table?: number;
  /** Without the table `local`, which the kernel keeps itself. */
  readonly exceptLocal?: boolean;
}

/** `ip route show table N`, both families unless one is named; absent: `table all`. */
export function listRoutes(
  rtnl: NetlinkSocket,
  { family, table, exceptLocal = false }: RouteFilter = {},
): Route[] {
  const header = rtmsg({ family, table: table ?? RT_TABLE_UNSPEC });
  const attributes = encodeAttrs(routeAttrs, { table });
  const subject = table === undefined ? 'routes' : `routes of table ${table}`;
  const request = {
    op: 'route.list',
    subject,
    type: RTM_GETROUTE,
    flags: 0,
    body: message(header, attributes),
  };
  return rtnl
    .dump(request)
    .filter((body) => (body.readUInt32LE(8) & RTM_F_CLONED) === 0)
    .filter((body) => !exceptLocal || body.readUInt8(4) !== RT_TABLE_LOCAL)
    .map(decodeRoute)
    .filter((route) => route !== undefined)
    .filter((route) => table === undefined || route.table === table);
}

/** `ip route get IP`: where a packet to this address would go; undefined when the kernel knows no way. */
export function getRoute(rtnl: NetlinkSocket, to: string): Route | undefined {
  const family = familyOf(to);
  if (family === undefined) throw new Error(`not an IP address: ${to}`);
  // IPv6 tells the table unasked, and refuses the flag.
  const flags = family === 4 ? RTM_F_LOOKUP_TABLE : 0;
  const header = rtmsg({ family, prefixLen: addressBits[family], flags });
  const body = message(header, encodeAttrs(routeAttrs, { dst: to }));
  try {
    const answer = rtnl.get({ op: 'route.get', subject: to, type: RTM_GETROUTE, flags: 0, body });
    return answer && decodeRoute(answer);
  } catch (error) {
    if (hasErrno(error, 'ENETUNREACH', 'EHOSTUNREACH')) return undefined;
    throw error;
  }
}
