/** An uplink as commands of nmcli(1), of NetworkManager 1.42 and later: nm-settings-nmcli(5). Pure. */
import { formatCidr } from '../model/address.ts';
import { formatVlan, inRows } from '../model/port-vlan.ts';
import {
  type ExportedHop,
  type ExportedRoute,
  type ExportedRule,
  ipAddrAdd,
  ipRouteAdd,
  ipRuleAdd,
  ruleWords,
  shellQuote,
  type UplinkFacts,
  usualMtu,
  whyUnsayable,
} from '../model/uplink-facts.ts';
import { isPlain, lines } from './export-networkd.ts';
import type { Exported } from './uplink-export.ts';

const scopes: Readonly<Record<string, number>> = { link: 253, host: 254, site: 200, nowhere: 255 };
/** The types, and the names of RTAX_*, that it has words for. */
const types = ['unicast', 'local', 'blackhole', 'unreachable', 'prohibit', 'throw'];
const metricWords: Readonly<Record<string, string>> = {
  mtu: 'mtu',
  advmss: 'advmss',
  window: 'window',
  cwnd: 'cwnd',
  initcwnd: 'initcwnd',
  initrwnd: 'initrwnd',
  rto_min: 'rto_min',
  quickack: 'quickack',
};
const lockable = ['mtu', 'window', 'cwnd', 'initcwnd', 'initrwnd'];

function whyNoRoute(route: ExportedRoute, link: string): string | undefined {
  const { family, hops, type, metrics, locked } = route;
  if (!types.includes(type)) return `it has no word for the type ${type}`;
  const unknown = Object.keys(metrics).find((name) => metricWords[name] === undefined);
  if (unknown !== undefined) return `it has no word for ${unknown}`;
  const fixed = locked.find((name) => !lockable.includes(name));
  if (fixed !== undefined) return `it has no word for a ${fixed} that is locked`;
  if (hops.length > 1 && family === 6) return 'it has no words for several next hops of IPv6';
  if (hops.length > 1 && hops.some(({ gateway }) => gateway === undefined))
    return 'it has no word for a next hop without a gateway';
  if (hops.some(({ dev }) => dev !== link))
    return `a route of ${link} cannot leave by another interface as well`;
  if (hops.some(({ gateway }) => gateway?.includes(':') !== (gateway && family === 6)))
    return 'it has no word for a gateway of the other family';
  return whyUnsayable(route);
}

/** `10.0.0.0/8 10.0.0.1 50 table=100`, one for each next hop. */
function routeTexts(route: ExportedRoute): string[] {
  const { hops } = route;
  if (hops.length === 0) return [routeText(route, undefined)];
  return hops.map((hop) => routeText(route, hop));
}

function routeText(route: ExportedRoute, hop: ExportedHop | undefined): string {
  const { family, dst, src, metric, table, prefsrc, scope, tos, type, metrics, locked, hops } = route;
  const anywhere = family === 4 ? '0.0.0.0/0' : '::/0';
  const option = (name: string, value: string | number | undefined): string[] =>
    value === undefined ? [] : [`${name}=${value}`];
  return [
    dst ? formatCidr(dst) : anywhere,
    ...(hop?.gateway === undefined ? [] : [hop.gateway]),
    ...(metric === undefined ? [] : [`${metric}`]),
    ...option('type', type === 'unicast' ? undefined : type),
    ...option('table', table),
    ...option('src', prefsrc),
    ...option('from', src && formatCidr(src)),
    ...option('scope', scope === undefined ? undefined : (scopes[scope] ?? scope)),
    ...option('tos', tos),
    ...option('onlink', hop?.onlink ? 'true' : undefined),
    ...option('weight', hops.length > 1 ? hop?.weight : undefined),
    ...Object.entries(metrics).flatMap(([name, value]) =>
      option(metricWords[name] ?? name, name === 'quickack' ? String(value === 1) : value),
    ),
    ...locked.flatMap((name) => option(`lock-${name}`, 'true')),
  ].join(' ');
}

function whyNoRule(rule: ExportedRule): string | undefined {
  if (/^(goto|nop)/.test(rule.action)) return `it has no word for ${rule.action}`;
  const names = [rule.iif, rule.oif].filter((name) => name !== undefined);
  if (names.some((name) => /[,\\]/.test(name))) return 'it takes the name of the interface apart';
  return whyUnsayable(rule);
}

/** The IP settings of a connection, a word each. */
function ipWords(facts: UplinkFacts, notes: string[]): string[] {
  const link = facts.bridge.name;
  const cannot = (command: string, why: string): void =>
    void notes.push(`NetworkManager cannot be told: ${command} (${why})`);
  const sayable = <T>(all: readonly T[], why: (one: T) => string | undefined, of: (one: T) => string): T[] =>
    all.filter((one) => {
      const reason = why(one);
      if (reason !== undefined) cannot(of(one), reason);
      return reason === undefined;
    });
  const addresses = sayable(
    facts.addresses,
    ({ peer, scope }) =>
      peer === undefined && scope === undefined ? undefined : 'it has no word for a peer or a scope',
    (addr) => ipAddrAdd(addr, link),
  );
  for (const addr of addresses.filter((one) => !isPlain(one)))
    cannot(ipAddrAdd(addr, link), 'it is told the address and its prefix length alone');
  const routes = sayable(facts.routes, (route) => whyNoRoute(route, link), ipRouteAdd);
  const rules = sayable(facts.rules, whyNoRule, ipRuleAdd);
  return ([4, 6] as const).flatMap((family) => {
    const isOf = (one: { readonly family: 4 | 6 }): boolean => one.family === family;
    const own = addresses.filter(({ cidr }) => isOf(cidr)).map(({ cidr }) => formatCidr(cidr));
    const leased = family === 4 ? facts.dhcp4 : facts.ra || facts.dhcp6;
    const none = family === 4 ? 'disabled' : 'link-local';
    const whenLeased = family === 6 && !facts.ra ? 'dhcp' : 'auto';
    const method = leased ? whenLeased : own.length > 0 ? 'manual' : none;
    const list = (name: string, texts: readonly string[], separator: string): string[] =>
      texts.length > 0 ? [`ipv${family}.${name}`, texts.join(separator)] : [];
    return [
      ...[`ipv${family}.method`, method],
      ...list('addresses', own, ','),
      ...list('routes', routes.filter(isOf).flatMap(routeTexts), ', '),
      ...list(
        'routing-rules',
        rules.filter(isOf).map((rule) => ruleWords(rule, (name) => name)),
        ', ',
      ),
      ...(family === 6 && facts.privacy ? ['ipv6.ip6-privacy', '2'] : []),
    ];
  });
}

const command = (...words: readonly string[]): string => ['nmcli', ...words].map(shellQuote).join(' ');
const add = (...words: readonly string[]): string => command('connection', 'add', ...words);

/** Else the connection that has the NIC now takes it at the next boot as well. */
function formerOff({ nic, connection }: UplinkFacts): string {
  const off = (uuid: string): string => `nmcli connection modify ${uuid} connection.autoconnect no`;
  if (connection !== undefined) return off(shellQuote(connection));
  const ask = `nmcli -g GENERAL.CON-UUID device show ${shellQuote(nic)}`;
  return `old=$(${ask}); [ -z "$old" ] || ${off('"$old"')}`;
}

function linuxBridge({ nic, bridge, mac, mtu, vlans }: UplinkFacts, ip: readonly string[]): string[] {
  const { name } = bridge;
  const rows = (all: Parameters<typeof inRows>[0]): string => inRows(all).map(formatVlan).join(', ');
  const size = mtu === usualMtu ? [] : ['802-3-ethernet.mtu', String(mtu)];
  const filtering = vlans
    ? [
        ...['bridge.vlan-filtering', 'yes', 'bridge.vlan-default-pvid', String(vlans.defaultPvid)],
        ...(vlans.self.length > 0 ? ['bridge.vlans', rows(vlans.self)] : []),
      ]
    : [];
  const port = vlans && vlans.port.length > 0 ? ['bridge-port.vlans', rows(vlans.port)] : [];
  return [
    add(
      ...['type', 'bridge', 'con-name', name, 'ifname', name, 'bridge.stp', 'no', 'bridge.mac-address', mac],
      ...[...size, ...filtering, ...ip],
    ),
    add(
      ...['type', 'ethernet', 'con-name', `${name}-${nic}`, 'ifname', nic],
      ...['master', name, 'slave-type', 'bridge', ...size, ...port],
    ),
  ];
}

function ovsBridge({ nic, bridge, mac, mtu, ovsTrunks }: UplinkFacts, ip: readonly string[]): string[] {
  const { name } = bridge;
  const size = mtu === usualMtu ? [] : ['802-3-ethernet.mtu', String(mtu)];
  const trunks = ovsTrunks.length > 0 ? ['ovs-port.trunks', ovsTrunks.join(',')] : [];
  const port = (of: string): string[] => ['type', 'ovs-port', 'con-name', `${name}-${of}-port`, 'ifname', of];
  return [
    add('type', 'ovs-bridge', 'con-name', name, 'ifname', name),
    add(...port(nic), 'master', name, 'slave-type', 'ovs-bridge', ...trunks),
    add(
      ...['type', 'ethernet', 'con-name', `${name}-${nic}`, 'ifname', nic],
      ...['master', `${name}-${nic}-port`, 'slave-type', 'ovs-port', ...size],
    ),
    add(...port(name), 'master', name, 'slave-type', 'ovs-bridge'),
    add(
      ...['type', 'ovs-interface', 'con-name', `${name}-if`, 'ifname', name],
      ...[
        'master',
        `${name}-${name}-port`,
        'slave-type',
        'ovs-port',
        '802-3-ethernet.cloned-mac-address',
        mac,
      ],
      ...[...size, ...ip],
    ),
  ];
}

export function exportNmcli(facts: UplinkFacts): Exported {
  const notes: string[] = [];
  const { nic, bridge } = facts;
  const ip = ipWords(facts, notes);
  const text = lines(
    notes.map((note) => `# ${note}`),
    `# The connection that has ${nic} now stays off after the next boot; these take its place:`,
    formerOff(facts),
    bridge.kind === 'bridge' ? linuxBridge(facts, ip) : ovsBridge(facts, ip),
  );
  return { files: [{ path: undefined, text }], notes };
}
