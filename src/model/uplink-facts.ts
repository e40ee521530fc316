/** What there is to be said of an uplink to the systems that configure hosts at boot. Pure. */
import { type Cidr, type Family, formatCidr } from './address.ts';
import type { PortVlan } from './port-vlan.ts';
import type { UplinkBridge } from './uplink.ts';

/** All of it. */
export interface UplinkFacts {
  readonly nic: string;
  readonly bridge: UplinkBridge;
  /** What the bridge is pinned to: the NIC's, or one of its own. */
  readonly mac: string;
  /** Bytes. */
  readonly mtu: number;
  /** What a Linux bridge filters by, and its port carries; undefined: it filters no VLANs. */
  readonly vlans: BridgeVlans | undefined;
  /** Of the port of an Open vSwitch bridge; 0 stands for what has no tag; empty: all. */
  readonly ovsTrunks: readonly number[];
  /** Addresses given by hand. */
  readonly addresses: readonly ExportedAddr[];
  /** Addresses come from a DHCP server; from routers. */
  readonly dhcp4: boolean;
  readonly dhcp6: boolean;
  readonly ra: boolean;
  /** net.ipv6.conf.LINK.use_tempaddr is 2: temporary addresses are preferred. */
  readonly privacy: boolean;
  readonly routes: readonly ExportedRoute[];
  readonly rules: readonly ExportedRule[];
  /** The connection of NetworkManager that has the NIC, by its UUID. */
  readonly connection?: string | undefined;
}

/** VLANs of a Linux bridge. */
export interface BridgeVlans {
  /** What a new port carries without a tag; 0: nothing. */
  readonly defaultPvid: number;
  readonly port: readonly PortVlan[];
  /** Of the bridge's own interface. */
  readonly self: readonly PortVlan[];
}

/** An address that somebody gave. */
export interface ExportedAddr {
  readonly cidr: Cidr;
  readonly peer?: string | undefined;
  /** Where it is not the last one of the subnet. */
  readonly broadcast?: string | undefined;
  /** Absent: global. */
  readonly scope?: string | undefined;
  readonly label?: string | undefined;
  readonly metric?: number | undefined;
  readonly noPrefixRoute?: boolean;
  readonly home?: boolean;
}

/** A next hop. */
export interface ExportedHop {
  readonly gateway?: string | undefined;
  readonly dev: string;
  /** From 1. */
  readonly weight: number;
  readonly onlink: boolean;
}

/** A route that somebody gave. What is usual is absent. */
export interface ExportedRoute {
  readonly family: Family;
  /** `unicast`, `blackhole`, ... */
  readonly type: string;
  /** Absent: the default route. */
  readonly dst?: Cidr | undefined;
  readonly src?: Cidr | undefined;
  /** None of a blackhole and the like. */
  readonly hops: readonly ExportedHop[];
  readonly metric?: number | undefined;
  /** Absent: main. */
  readonly table?: number | undefined;
  readonly prefsrc?: string | undefined;
  readonly scope?: string | undefined;
  readonly tos?: number | undefined;
  /** `mtu`, `advmss`, ... as `ip route` calls them, and which of them are locked. */
  readonly metrics: Readonly<Record<string, number>>;
  readonly locked: readonly string[];
  /** What there are no words for. */
  readonly other: readonly string[];
}

/** A policy rule that leads to the uplink's routes. */
export interface ExportedRule {
  readonly family: Family;
  readonly priority: number;
  readonly not: boolean;
  readonly src?: Cidr | undefined;
  readonly dst?: Cidr | undefined;
  readonly iif?: string | undefined;
  readonly oif?: string | undefined;
  /** With `/MASK` where it has one. */
  readonly fwmark?: string | undefined;
  readonly tos?: number | undefined;
  readonly ipproto?: number | undefined;
  /** `80`, `80-90`. */
  readonly sport?: string | undefined;
  readonly dport?: string | undefined;
  readonly uidrange?: string | undefined;
  readonly suppressPrefix?: number | undefined;
  /** `table`, `goto 100`, `nop`, `blackhole`, `unreachable`, `prohibit`. */
  readonly action: string;
  readonly table: number;
  readonly other: readonly string[];
}

/** What a link has when nobody says otherwise. */
export const usualMtu = 1500;

/** Text as a single word of sh(1), or as it is where that is one already. */
export function shellQuote(text: string): string {
  return /^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`;
}

const words = (...all: readonly (string | number | false | undefined)[]): string =>
  all.filter((word) => word !== undefined && word !== false && word !== '').join(' ');
const named = (name: string, value: string | number | undefined): string | undefined =>
  value === undefined ? undefined : `${name} ${value}`;

/** `default`, `10.0.0.0/8`. */
export function destination({ dst }: Pick<ExportedRoute, 'dst'>): string {
  return dst ? formatCidr(dst) : 'default';
}

/** `ip addr add ...`, each word quoted for sh(1). */
export function ipAddrAdd(addr: ExportedAddr, link: string): string {
  const { cidr, peer, broadcast, scope, label, metric, noPrefixRoute, home } = addr;
  return words(
    'ip addr add',
    peer === undefined ? formatCidr(cidr) : `${cidr.ip} peer ${peer}/${cidr.prefixLen}`,
    named('broadcast', broadcast),
    named('dev', shellQuote(link)),
    named('scope', scope),
    label === undefined ? undefined : named('label', shellQuote(label)),
    named('metric', metric),
    noPrefixRoute && 'noprefixroute',
    home && 'home',
  );
}

function hopWords({ family }: ExportedRoute, { gateway, dev, onlink }: ExportedHop): string {
  const isOther = gateway !== undefined && gateway.includes(':') !== (family === 6);
  const via = gateway === undefined ? undefined : `via ${isOther ? 'inet6 ' : ''}${gateway}`;
  return words(via, `dev ${shellQuote(dev)}`, onlink && 'onlink');
}

/** `ip route add ...`, each word quoted for sh(1). */
export function ipRouteAdd(route: ExportedRoute): string {
  const { family, type, src, hops, metric, table, prefsrc, scope, tos, metrics, locked } = route;
  const [only, ...more] = hops;
  return words(
    `ip${family === 6 ? ' -6' : ''} route add`,
    type !== 'unicast' && type,
    destination(route),
    src && `from ${formatCidr(src)}`,
    more.length === 0 && only && hopWords(route, only),
    named('table', table),
    named('metric', metric),
    named('src', prefsrc),
    named('scope', scope),
    named('tos', tos),
    ...Object.entries(metrics).map(([name, value]) =>
      words(name, locked.includes(name) && 'lock', name === 'rto_min' ? `${value}ms` : value),
    ),
    ...(more.length === 0 ? [] : hops).map(
      (hop) => `nexthop ${hopWords(route, hop)}${hop.weight > 1 ? ` weight ${hop.weight}` : ''}`,
    ),
  );
}

/** A rule's selectors and action as `ip rule` takes them. */
export function ruleWords(rule: ExportedRule, quote: (name: string) => string): string {
  const { priority, not, src, dst, iif, oif, fwmark, tos, ipproto, sport, dport, uidrange } = rule;
  const { suppressPrefix, action, table } = rule;
  const anywhere = rule.family === 4 ? '0.0.0.0/0' : '::/0';
  return words(
    `priority ${priority}`,
    not && 'not',
    `from ${src ? formatCidr(src) : anywhere}`,
    dst && `to ${formatCidr(dst)}`,
    iif === undefined ? undefined : `iif ${quote(iif)}`,
    oif === undefined ? undefined : `oif ${quote(oif)}`,
    named('fwmark', fwmark),
    named('tos', tos),
    named('ipproto', ipproto),
    named('sport', sport),
    named('dport', dport),
    named('uidrange', uidrange),
    action === 'table' ? `table ${table}` : action,
    named('suppress_prefixlength', suppressPrefix),
  );
}

/** `ip rule add ...`, each word quoted for sh(1). */
export function ipRuleAdd(rule: ExportedRule): string {
  return `ip${rule.family === 6 ? ' -6' : ''} rule add ${ruleWords(rule, shellQuote)}`;
}

/** Why a route or a rule cannot be written in any system's words; undefined when it can. */
export function whyUnsayable({ other }: Pick<ExportedRoute | ExportedRule, 'other'>): string | undefined {
  return other.length === 0 ? undefined : `it has ${other.join(', ')}`;
}
