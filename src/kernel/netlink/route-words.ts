/** What a route or a rule says in attributes that are otherwise only written back, in the words of `ip`. */
import type { RawAttr, Route, Rule } from '../../model/link.ts';
import type { ExportedHop, ExportedRoute, ExportedRule } from '../../model/uplink-facts.ts';
import { attrNumber, ip, rawAttrs, u8, u32 } from './codec.ts';

/** RTN_*. */
const routeTypes = [
  ...['unspec', 'unicast', 'local', 'broadcast', 'anycast', 'multicast'],
  ...['blackhole', 'unreachable', 'prohibit', 'throw', 'nat'],
];
/** RT_SCOPE_*. */
export const scopeNames: Readonly<Record<number, string>> = {
  0: 'global',
  200: 'site',
  253: 'link',
  254: 'host',
  255: 'nowhere',
};
/** RTAX_*; `lock` is a set of the others. */
const metricNames = [
  ...['', 'lock', 'mtu', 'window', 'rtt', 'rttvar', 'ssthresh', 'cwnd', 'advmss', 'reordering', 'hoplimit'],
  ...['initcwnd', 'features', 'rto_min', 'initrwnd', 'quickack'],
];
const RTA_GATEWAY = 5;
const RTA_METRICS = 8;
const RTA_MULTIPATH = 9;
const RTA_VIA = 18;
const RTNH_F_ONLINK = 4;
/** RTA_PREF of what is neither preferred nor avoided. */
const usualPref = 0;
const mainTable = 254;
/** IP6_RT_PRIO_USER, and what IPv4 routes have. */
const usualMetric = { 4: 0, 6: 1024 } as const;
/** RTA_* that change nothing that a person would type: NH_ID is told with what it says, PAD, EXPIRES. */
const silent = new Set([RTA_METRICS, RTA_MULTIPATH, RTA_VIA, 30, 19]);
const otherNames: Readonly<Record<number, string>> = {
  11: 'a realm',
  16: 'a mark',
  20: 'a preference',
  21: 'an encapsulation',
  22: 'an encapsulation',
  26: 'ttl-propagate',
};

/** The name of a link. */
export type NameOf = (ifindex: number) => string;

const find = (all: readonly RawAttr[], nr: number): Buffer | undefined => {
  const found = all.find((one) => attrNumber(one) === nr);
  return found && Buffer.from(found.data);
};

/** RTA_VIA: a gateway of another family. */
const viaOf = (attributes: readonly RawAttr[]): string | undefined => {
  const via = find(attributes, RTA_VIA);
  return via && ip.read(via.subarray(2));
};

/** struct rtnexthop: length, flags, hops, ifindex, attributes. */
function hopsOf(route: Route, nameOf: NameOf): ExportedHop[] {
  const bytes = find(route.unknown, RTA_MULTIPATH);
  if (!bytes) {
    if (route.dev === undefined) return [];
    const gateway = route.gateway ?? viaOf(route.unknown);
    return [{ gateway, dev: nameOf(route.dev), weight: 1, onlink: route.onlink === true }];
  }
  const hops: ExportedHop[] = [];
  for (let at = 0; at + 8 <= bytes.length; ) {
    const length = bytes.readUInt16LE(at);
    if (length < 8) break;
    const attributes = rawAttrs(bytes.subarray(at + 8, at + length));
    const gateway = find(attributes, RTA_GATEWAY);
    hops.push({
      gateway: gateway ? ip.read(gateway) : viaOf(attributes),
      dev: nameOf(bytes.readInt32LE(at + 4)),
      weight: bytes.readUInt8(at + 3) + 1,
      onlink: (bytes.readUInt8(at + 2) & RTNH_F_ONLINK) !== 0,
    });
    at += (length + 3) & ~3;
  }
  return hops;
}

function metricsOf(route: Route): Pick<ExportedRoute, 'metrics' | 'locked'> {
  const bytes = find(route.unknown, RTA_METRICS);
  const numbers = bytes
    ? rawAttrs(bytes)
        .filter(({ data }) => data.length === 4)
        .map((one) => [attrNumber(one), u32.read(Buffer.from(one.data))] as const)
    : [];
  const locks = numbers.find(([nr]) => nr === 1)?.[1] ?? 0;
  const name = (nr: number): string => metricNames[nr] ?? `metric ${nr}`;
  const own = numbers.filter(([nr]) => nr !== 1);
  return {
    metrics: Object.fromEntries(own.map(([nr, value]) => [name(nr), value])),
    locked: own.filter(([nr]) => (locks & (1 << nr)) !== 0).map(([nr]) => name(nr)),
  };
}

function othersOf({ unknown }: Route): string[] {
  return unknown.flatMap((one) => {
    const nr = attrNumber(one);
    if (silent.has(nr) || (nr === 20 && u8.read(Buffer.from(one.data)) === usualPref)) return [];
    return [otherNames[nr] ?? `attribute ${nr}`];
  });
}

/** The scope that `ip route` takes when it is told none. */
function usualScope({ family, type }: Route, hops: readonly ExportedHop[]): number {
  if (family === 6) return 0;
  if (type === 2) return 254;
  return type === 1 && hops.every(({ gateway }) => gateway === undefined) ? 253 : 0;
}

/** A route in words. @param nameOf a link, which may be another one's name already */
export function routeInWords(route: Route, nameOf: NameOf): ExportedRoute {
  const { family, type, dst, src, metric = 0, table, prefsrc, scope, tos } = route;
  const leadsNowhere = type >= 6 && type <= 9;
  const hops = leadsNowhere ? [] : hopsOf(route, nameOf);
  return {
    family,
    type: routeTypes[type] ?? `type ${type}`,
    dst: dst?.prefixLen === 0 ? undefined : dst,
    src,
    hops,
    metric: metric === usualMetric[family] ? undefined : metric,
    table: table === mainTable ? undefined : table,
    prefsrc,
    scope: scope === usualScope(route, hops) ? undefined : (scopeNames[scope] ?? String(scope)),
    tos,
    ...metricsOf(route),
    other: othersOf(route),
  };
}

/** FR_ACT_*. */
const actions: Readonly<Record<number, string>> = {
  1: 'table',
  3: 'nop',
  6: 'blackhole',
  7: 'unreachable',
  8: 'prohibit',
};
const FRA_GOTO = 4;
const FRA_FWMASK = 16;
const FRA_SUPPRESS_PREFIXLEN = 14;
const FRA_UID_RANGE = 20;
const FRA_IP_PROTO = 22;
const FRA_SPORT_RANGE = 23;
const FRA_DPORT_RANGE = 24;
/** With those above: FRA_PROTOCOL, FRA_PAD, and FRA_SUPPRESS_IFGROUP where it says none. */
const understood = new Set([
  ...[FRA_GOTO, FRA_FWMASK, FRA_SUPPRESS_PREFIXLEN, FRA_UID_RANGE, FRA_IP_PROTO],
  ...[FRA_SPORT_RANGE, FRA_DPORT_RANGE, 21, 18],
]);
const none = 0xffffffff;

const range = (from: number, to: number): string => (from === to ? `${from}` : `${from}-${to}`);
const ports = (bytes: Buffer | undefined): string | undefined =>
  bytes && range(bytes.readUInt16LE(0), bytes.readUInt16LE(2));

/** A rule in words. */
export function ruleInWords(rule: Rule, rename: (name: string) => string): ExportedRule {
  const { family, priority, src, dst, iif, oif, fwmark, action = 1, tos, inverted, table, unknown } = rule;
  const number = (nr: number): number | undefined => {
    const bytes = find(unknown, nr);
    return bytes && u32.read(bytes);
  };
  const mask = number(FRA_FWMASK);
  const suppress = number(FRA_SUPPRESS_PREFIXLEN);
  const proto = find(unknown, FRA_IP_PROTO);
  const uids = find(unknown, FRA_UID_RANGE);
  const other = unknown.flatMap((one) => {
    const nr = attrNumber(one);
    const isNone = nr === 13 && u32.read(Buffer.from(one.data)) === none;
    return understood.has(nr) || isNone ? [] : [`attribute ${nr}`];
  });
  const hex = (value: number): string => `0x${value.toString(16)}`;
  const masked = mask === undefined || mask === none ? '' : `/${hex(mask)}`;
  return {
    family,
    priority,
    not: inverted === true,
    src,
    dst,
    iif: iif === undefined ? undefined : rename(iif),
    oif: oif === undefined ? undefined : rename(oif),
    fwmark:
      fwmark === undefined || (fwmark === 0 && masked === '')
        ? undefined
        : `${masked === '' ? fwmark : hex(fwmark)}${masked}`,
    tos,
    ipproto: proto && u8.read(proto),
    sport: ports(find(unknown, FRA_SPORT_RANGE)),
    dport: ports(find(unknown, FRA_DPORT_RANGE)),
    uidrange: uids && `${uids.readUInt32LE(0)}-${uids.readUInt32LE(4)}`,
    suppressPrefix: suppress === undefined || suppress === none ? undefined : suppress,
    action: action === 2 ? `goto ${number(FRA_GOTO)}` : (actions[action] ?? `action ${action}`),
    table,
    other,
  };
}
