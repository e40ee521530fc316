/**
 * An uplink as a file of netplan, netplan-yaml(5). What it has no words for (VLANs of a bridge, several next hops, scopes and
 * peers of addresses, most of a rule) is said to systemd-networkd, in drop-ins of the files that netplan makes for it. Pure.
 */
import { formatCidr } from '../model/address.ts';
import {
  destination,
  type ExportedAddr,
  type ExportedRoute,
  type ExportedRule,
  type UplinkFacts,
  usualMtu,
} from '../model/uplink-facts.ts';
import {
  addressSection,
  filteringDropIn,
  keptVlans,
  type Line,
  lines,
  ovsOnce,
  routeSections,
  vlansDropIn,
} from './export-networkd.ts';
import type { Exported, ExportedFile } from './uplink-export.ts';

/** Whether netplan has words for all of it. */
function saysAddr({ peer, broadcast, scope, metric, noPrefixRoute, home }: ExportedAddr): boolean {
  return [peer, broadcast, scope, metric].every((one) => one === undefined) && !noPrefixRoute && !home;
}

function saysRoute({ family, hops, src, tos, metrics, locked, other }: ExportedRoute): boolean {
  const hasOther = Object.keys(metrics).some((name) => name !== 'mtu');
  const isOne = hops.length <= 1 && src === undefined && tos === undefined;
  const isSame = hops.every(
    ({ gateway }) => gateway === undefined || gateway.includes(':') === (family === 6),
  );
  return isOne && isSame && !hasOther && locked.length === 0 && other.length === 0;
}

function saysRule({ src, dst, fwmark, action, other, ...rule }: ExportedRule): boolean {
  const { not, iif, oif, ipproto, sport, dport, uidrange, suppressPrefix } = rule;
  const more = [iif, oif, ipproto, sport, dport, uidrange, suppressPrefix];
  const hasPrefix = src !== undefined || dst !== undefined;
  const isPlain = !not && action === 'table' && !fwmark?.includes('/') && other.length === 0;
  return hasPrefix && isPlain && more.every((one) => one === undefined);
}

const key = (name: string, value: string | number | undefined): Line =>
  value !== undefined && `          ${name}: ${typeof value === 'string' ? `"${value}"` : value}`;

function routeLines(route: ExportedRoute): Line {
  const { family, dst, hops, type, metric, table, prefsrc, scope, metrics } = route;
  const [hop] = hops;
  // Of a default route without a gateway the family is not seen.
  const anywhere = family === 4 ? '0.0.0.0/0' : '::/0';
  const to = dst || hop?.gateway !== undefined ? destination(route) : anywhere;
  // It asks for a gateway of what is not link-local, and of type unicast, unless it is told so.
  const link =
    scope ?? (family === 4 && type === 'unicast' && hop?.gateway === undefined ? 'link' : undefined);
  return [
    `        - to: "${to}"`,
    key('via', hop?.gateway),
    hop?.onlink && '          on-link: true',
    type !== 'unicast' && `          type: ${type}`,
    link !== undefined && `          scope: ${link}`,
    key('from', prefsrc),
    key('metric', metric),
    key('table', table),
    key('mtu', metrics.mtu),
  ];
}

function ruleLines({ priority, src, dst, table, fwmark, tos }: ExportedRule): Line {
  return [
    `        - priority: ${priority}`,
    key('from', src && formatCidr(src)),
    key('to', dst && formatCidr(dst)),
    key('table', table),
    fwmark !== undefined && `          mark: ${fwmark}`,
    key('type-of-service', tos),
  ];
}

const section = (name: string, body: readonly Line[]): Line => body.length > 0 && [`      ${name}:`, ...body];

/** The drop-ins that say the rest. */
function dropIns(facts: UplinkFacts, own: string): ExportedFile[] {
  const { nic, bridge, vlans } = facts;
  const at = (file: string): string => `/etc/systemd/network/10-netplan-${file}.d/pipewright.conf`;
  const self = vlans ? vlansDropIn(vlans.self) : '';
  const rest = own !== '' && self !== '' ? `${own}\n${self}` : `${own}${self}`;
  return [
    ...(vlans
      ? [
          { path: at(`${bridge.name}.netdev`), text: filteringDropIn(vlans) },
          { path: at(`${nic}.network`), text: vlansDropIn(vlans.port) },
        ]
      : []),
    ...(rest === '' ? [] : [{ path: at(`${bridge.name}.network`), text: rest }]),
  ].filter(({ text }) => text !== '');
}

export function exportNetplan(facts: UplinkFacts): Exported {
  const { nic, bridge, mac, mtu, addresses, routes, rules, dhcp4, dhcp6, ra, privacy } = facts;
  const ovs = bridge.kind === 'ovs';
  const odd = {
    addresses: addresses.filter((addr) => !saysAddr(addr)),
    routes: routes.filter((route) => !saysRoute(route)),
    rules: rules.filter((rule) => !saysRule(rule)),
  };
  const { sections, notes: ways } = routeSections(facts, odd.routes, odd.rules);
  const notes = [...keptVlans(facts), ...ways];
  const own = lines(odd.addresses.map(addressSection), sections).trimStart();
  const files = dropIns(facts, own);
  const renderer = files.length > 0 && '      renderer: networkd';
  const bytes = mtu !== usualMtu && `      mtu: ${mtu}`;
  const text = lines(
    notes.map((note) => `# ${note}`),
    ovs && ['# Open vSwitch keeps trunks and MAC address itself, once it was told:', `#   ${ovsOnce(facts)}`],
    files.length > 0 && [
      '# What netplan has no words for is in files for systemd-networkd, which has to be the renderer then:',
      files.map((file) => `#   ${file.path}`),
    ],
    ['network:', '  version: 2', '  ethernets:', `    "${nic}":`, renderer],
    ['      dhcp4: false', '      dhcp6: false', '      accept-ra: false', '      link-local: []', bytes],
    ['  bridges:', `    "${bridge.name}":`, renderer, `      interfaces: ["${nic}"]`],
    ovs && '      openvswitch: {}',
    `      macaddress: "${mac}"`,
    bytes,
    !ovs && ['      parameters:', '        stp: false', '        forward-delay: 0'],
    [`      dhcp4: ${dhcp4}`, `      dhcp6: ${dhcp6}`, `      accept-ra: ${ra}`],
    privacy && '      ipv6-privacy: true',
    section('addresses', addresses.filter(saysAddr).map(addrLines)),
    section('routes', routes.filter(saysRoute).map(routeLines)),
    section('routing-policy', rules.filter(saysRule).map(ruleLines)),
  );
  return { notes, files: [{ path: `/etc/netplan/60-${bridge.name}.yaml`, text }, ...files] };
}

function addrLines({ cidr, label }: ExportedAddr): Line {
  const text = `        - "${formatCidr(cidr)}"`;
  return label === undefined ? text : [`${text}:`, `            label: "${label}"`];
}
