/** An uplink as files of systemd-networkd: systemd.netdev(5), systemd.network(5), of v248 and later. Pure. */
import { formatCidr } from '../model/address.ts';
import { carries, formatVids, inRows, type PortVlan } from '../model/port-vlan.ts';
import {
  type BridgeVlans,
  type ExportedAddr,
  type ExportedRoute,
  type ExportedRule,
  ipRouteAdd,
  ipRuleAdd,
  type UplinkFacts,
  usualMtu,
  whyUnsayable,
} from '../model/uplink-facts.ts';
import type { Exported } from './uplink-export.ts';

const folder = '/etc/systemd/network';
/** The names of RTAX_* that it has words for. */
const metricWords: Readonly<Record<string, string>> = {
  mtu: 'MTUBytes',
  advmss: 'TCPAdvertisedMaximumSegmentSize',
  initcwnd: 'InitialCongestionWindow',
  initrwnd: 'InitialAdvertisedReceiveWindow',
};

/** Lines that are left out when they say nothing. */
export type Line = string | false | undefined | readonly Line[];

/** All of them, and a newline behind each. */
export function lines(...all: readonly Line[]): string {
  const flat = all.flat(9 as 1) as (string | false | undefined)[];
  const kept = flat.filter((line) => line !== false && line !== undefined);
  return kept.length === 0 ? '' : `${kept.join('\n')}\n`;
}

/** `Key=value`, or nothing. */
const key = (name: string, value: string | number | undefined): Line =>
  value !== undefined && `${name}=${value}`;

/** What all ends of it carry. */
const vlanSections = (vlans: readonly PortVlan[]): Line =>
  inRows(vlans).map((vlan) => [
    '',
    '[BridgeVLAN]',
    vlan.pvid && `PVID=${vlan.vid}`,
    vlan.untagged ? `EgressUntagged=${formatVids(vlan)}` : `VLAN=${formatVids(vlan)}`,
  ]);

/** `[Bridge]` of a bridge that filters VLANs, without the heading. */
function filtering(vlans: BridgeVlans | undefined): Line {
  if (!vlans) return [];
  const { defaultPvid } = vlans;
  return ['VLANFiltering=yes', `DefaultPVID=${defaultPvid === 0 ? 'none' : defaultPvid}`];
}

/** The drop-in that makes a bridge of another file filter. */
export function filteringDropIn(vlans: BridgeVlans): string {
  return lines('[Bridge]', filtering(vlans));
}

/** The drop-in with the VLANs of a port, or of the bridge itself. */
export function vlansDropIn(vlans: readonly PortVlan[]): string {
  return lines(vlanSections(vlans)).trimStart();
}

/** `[Address]`, where `Address=` alone cannot say it. */
export function addressSection(addr: ExportedAddr): Line {
  const { cidr, peer, broadcast, scope, label, metric, noPrefixRoute, home } = addr;
  return [
    '',
    '[Address]',
    `Address=${peer === undefined ? formatCidr(cidr) : `${cidr.ip}/${cidr.family === 4 ? 32 : 128}`}`,
    key('Peer', peer === undefined ? undefined : `${peer}/${cidr.prefixLen}`),
    key('Broadcast', broadcast),
    key('Scope', scope),
    key('Label', label),
    key('RouteMetric', metric),
    noPrefixRoute && 'AddPrefixRoute=no',
    home && 'HomeAddress=yes',
  ];
}

/** Why it has no words for a route. */
function whyNoRoute(route: ExportedRoute): string | undefined {
  const { hops, metrics, locked, tos, type } = route;
  if (tos !== undefined) return 'it has no word for tos';
  const unknown = Object.keys(metrics).find((name) => metricWords[name] === undefined);
  if (unknown !== undefined) return `it has no word for ${unknown}`;
  if (locked.length > 0) return `it has no word for a ${locked[0]} that is locked`;
  if (hops.length > 1 && hops.some(({ onlink }) => onlink))
    return 'it has no word for onlink of several next hops';
  if (hops.length > 1 && hops.some(({ gateway }) => gateway === undefined))
    return 'it has no word for a next hop without a gateway';
  if (type !== 'unicast' && hops.some(({ gateway }) => gateway !== undefined))
    return `it has no word for a gateway of type ${type}`;
  return whyUnsayable(route);
}

function routeSection(route: ExportedRoute, link: string): Line {
  const { family, type, dst, src, hops, metric, table, prefsrc, scope, metrics } = route;
  const [only, ...more] = hops;
  const anywhere = family === 4 ? '0.0.0.0/0' : '::/0';
  const needsDst = dst !== undefined || hops.length !== 1 || only?.gateway === undefined;
  return [
    '',
    '[Route]',
    type !== 'unicast' && `Type=${type}`,
    needsDst && `Destination=${dst ? formatCidr(dst) : anywhere}`,
    key('Source', src && formatCidr(src)),
    more.length === 0 && key('Gateway', only?.gateway),
    more.length === 0 && only?.onlink && 'GatewayOnLink=yes',
    more.length > 0 &&
      hops.map(
        ({ gateway, dev, weight }) =>
          `MultiPathRoute=${gateway}${dev === link ? '' : `@${dev}`}${weight > 1 ? ` ${weight}` : ''}`,
      ),
    key('Metric', metric),
    key('Table', table),
    key('PreferredSource', prefsrc),
    key('Scope', scope),
    Object.entries(metrics).map(([name, value]) => key(metricWords[name] ?? name, value)),
  ];
}

function whyNoRule(rule: ExportedRule): string | undefined {
  if (/^(goto|nop)/.test(rule.action)) return `it has no word for ${rule.action}`;
  return whyUnsayable(rule);
}

function ruleSection(rule: ExportedRule): Line {
  const { family, src, dst, iif, oif, fwmark, tos, ipproto, sport, dport, uidrange, not } = rule;
  const namesFamily = src === undefined && dst === undefined;
  return [
    '',
    '[RoutingPolicyRule]',
    `Priority=${rule.priority}`,
    key('From', src && formatCidr(src)),
    key('To', dst && formatCidr(dst)),
    namesFamily && `Family=${family === 4 ? 'ipv4' : 'ipv6'}`,
    not && 'InvertRule=yes',
    key('IncomingInterface', iif),
    key('OutgoingInterface', oif),
    key('FirewallMark', fwmark),
    key('TypeOfService', tos),
    key('IPProtocol', ipproto),
    key('SourcePort', sport),
    key('DestinationPort', dport),
    key('User', uidrange),
    key('SuppressPrefixLength', rule.suppressPrefix),
    rule.action === 'table' ? `Table=${rule.table}` : `Type=${rule.action}`,
  ];
}

/** Sections for routes and rules, and what there is none for. */
export function routeSections(
  { bridge }: Pick<UplinkFacts, 'bridge'>,
  routes: readonly ExportedRoute[],
  rules: readonly ExportedRule[],
): { readonly sections: Line; readonly notes: readonly string[] } {
  const notes: string[] = [];
  const sections: Line[] = [];
  for (const route of routes) {
    const why = whyNoRoute(route);
    if (why === undefined) sections.push(routeSection(route, bridge.name));
    else notes.push(`systemd-networkd cannot be told: ${ipRouteAdd(route)} (${why})`);
  }
  for (const rule of rules) {
    const why = whyNoRule(rule);
    if (why === undefined) sections.push(ruleSection(rule));
    else notes.push(`systemd-networkd cannot be told: ${ipRuleAdd(rule)} (${why})`);
  }
  return { sections, notes };
}

/** Whether `Address=` says all. */
export function isPlain({
  peer,
  broadcast,
  scope,
  label,
  metric,
  noPrefixRoute,
  home,
}: ExportedAddr): boolean {
  return [peer, broadcast, scope, label, metric].every((one) => one === undefined) && !noPrefixRoute && !home;
}

/** How Open vSwitch is told, once: it keeps what it is told itself. */
export function ovsOnce({ nic, bridge, mac, ovsTrunks }: UplinkFacts): string {
  const trunks = ovsTrunks.length > 0 ? ` trunks=${ovsTrunks.join(',')}` : '';
  return (
    `ovs-vsctl --may-exist add-br ${bridge.name} -- --may-exist add-port ${bridge.name} ${nic}` +
    `${trunks} -- set bridge ${bridge.name} other-config:hwaddr=${mac}`
  );
}

function dhcpWord({ dhcp4, dhcp6 }: UplinkFacts): string {
  if (dhcp4) return dhcp6 ? 'yes' : 'ipv4';
  return dhcp6 ? 'ipv6' : 'no';
}

/** What a new port carries without a tag it carries on: nothing takes it off. */
export function keptVlans({ nic, bridge, vlans }: UplinkFacts): string[] {
  if (!vlans || vlans.defaultPvid === 0) return [];
  const { defaultPvid, port, self } = vlans;
  const del = (link: string, own: string): string =>
    `systemd-networkd cannot be told: bridge vlan del dev ${link} vid ${defaultPvid}${own} (it adds VLANs only)`;
  return [
    ...(carries(port, defaultPvid) ? [] : [del(nic, '')]),
    ...(carries(self, defaultPvid) ? [] : [del(bridge.name, ' self')]),
  ];
}

/** The file of the interface that has the addresses. */
function ownFile(facts: UplinkFacts, sections: Line, notes: readonly string[]): string {
  const { bridge, mtu, addresses, ra, privacy, vlans } = facts;
  return lines(
    notes.map((note) => `# ${note}`),
    ['[Match]', `Name=${bridge.name}`],
    mtu !== usualMtu && ['', '[Link]', `MTUBytes=${mtu}`],
    ['', '[Network]', `DHCP=${dhcpWord(facts)}`, `IPv6AcceptRA=${ra ? 'yes' : 'no'}`],
    privacy && 'IPv6PrivacyExtensions=yes',
    addresses.filter(isPlain).map(({ cidr }) => `Address=${formatCidr(cidr)}`),
    addresses.filter((addr) => !isPlain(addr)).map(addressSection),
    sections,
    vlans && vlanSections(vlans.self),
  );
}

export function exportNetworkd(facts: UplinkFacts): Exported {
  const { nic, bridge, mac, mtu, vlans } = facts;
  const ovs = bridge.kind === 'ovs';
  const { sections, notes: ways } = routeSections(facts, facts.routes, facts.rules);
  const notes = [...keptVlans(facts), ...ways];
  const netdev = lines(
    ['[NetDev]', `Name=${bridge.name}`, 'Kind=bridge', `MACAddress=${mac}`],
    mtu !== usualMtu && `MTUBytes=${mtu}`,
    ['', '[Bridge]', 'STP=no', 'ForwardDelaySec=0', filtering(vlans)],
  );
  const port = lines(
    ovs && [
      '# Open vSwitch keeps the bridge and its port itself, once it was told:',
      `#   ${ovsOnce(facts)}`,
    ],
    ['[Match]', `Name=${nic}`],
    mtu !== usualMtu && ['', '[Link]', `MTUBytes=${mtu}`],
    ['', '[Network]', !ovs && `Bridge=${bridge.name}`],
    ['LinkLocalAddressing=no', 'DHCP=no', 'IPv6AcceptRA=no'],
    vlans && vlanSections(vlans.port),
  );
  return {
    notes,
    files: [
      ...(ovs ? [] : [{ path: `${folder}/05-${bridge.name}.netdev`, text: netdev }]),
      { path: `${folder}/05-${nic}.network`, text: port },
      { path: `${folder}/05-${bridge.name}.network`, text: ownFile(facts, sections, notes) },
    ],
  };
}
