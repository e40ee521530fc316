/** An uplink as stanzas of ifupdown, interfaces(5), with bridge-utils' or Open vSwitch's own options. Pure. */
import { type Cidr, formatCidr } from '../model/address.ts';
import { formatVids, type PortVlan, vlanChanges } from '../model/port-vlan.ts';
import {
  type ExportedAddr,
  type ExportedRoute,
  ipAddrAdd,
  ipRouteAdd,
  ipRuleAdd,
  shellQuote,
  type UplinkFacts,
  usualMtu,
  whyUnsayable,
} from '../model/uplink-facts.ts';
import { isPlain, type Line, lines } from './export-networkd.ts';
import type { Exported } from './uplink-export.ts';

const up = (command: string): string => `    up ${command}`;

/** `bridge vlan add|del`, from what the port has when it is born. */
function vlanCommands(
  link: string,
  self: boolean,
  vlans: readonly PortVlan[],
  defaultPvid: number,
): string[] {
  const born = defaultPvid === 0 ? [] : [{ vid: defaultPvid, pvid: true, untagged: true }];
  const { add, del } = vlanChanges(vlans, born);
  const where = `dev ${shellQuote(link)}`;
  const own = self ? ' self' : '';
  return [
    ...del.map((vlan) => up(`bridge vlan del ${where} vid ${formatVids(vlan)}${own}`)),
    ...add.map((vlan) =>
      up(
        `bridge vlan add ${where} vid ${formatVids(vlan)}${vlan.pvid ? ' pvid' : ''}${vlan.untagged ? ' untagged' : ''}${own}`,
      ),
    ),
  ];
}

function linuxBridge({ nic, bridge, mac, mtu, vlans }: UplinkFacts): string[] {
  const filters = vlans
    ? [
        up(`ip link set ${shellQuote(bridge.name)} type bridge vlan_filtering 1`),
        ...(vlans.defaultPvid === 1
          ? []
          : [
              up(`ip link set ${shellQuote(bridge.name)} type bridge vlan_default_pvid ${vlans.defaultPvid}`),
            ]),
        ...vlanCommands(bridge.name, true, vlans.self, vlans.defaultPvid),
        ...vlanCommands(nic, false, vlans.port, vlans.defaultPvid),
      ]
    : [];
  return [
    `    bridge_ports ${nic}`,
    '    bridge_stp off',
    '    bridge_fd 0',
    `    bridge_hw ${mac}`,
    // Of the NIC here as well: its own stanza is not run.
    ...(mtu === usualMtu
      ? []
      : [
          `    pre-up ip link set ${shellQuote(nic)} mtu ${mtu}`,
          up(`ip link set ${shellQuote(bridge.name)} mtu ${mtu}`),
        ]),
    ...filters,
  ];
}

function ovsBridge({ nic, bridge, mac, mtu }: UplinkFacts): string[] {
  return [
    '    ovs_type OVSBridge',
    `    ovs_ports ${nic}`,
    `    ovs_extra set bridge ${bridge.name} other-config:hwaddr=${mac}`,
    ...(mtu === usualMtu ? [] : [up(`ip link set ${shellQuote(bridge.name)} mtu ${mtu}`)]),
  ];
}

function port({ nic, bridge, mtu, ovsTrunks }: UplinkFacts): Line {
  if (bridge.kind === 'bridge') {
    return [`iface ${nic} inet manual`];
  }
  return [
    [`allow-${bridge.name} ${nic}`, `iface ${nic} inet manual`],
    ['    ovs_type OVSPort', `    ovs_bridge ${bridge.name}`],
    ovsTrunks.length > 0 && `    ovs_options trunks=${ovsTrunks.join(',')}`,
    mtu !== usualMtu && up(`ip link set ${shellQuote(nic)} mtu ${mtu}`),
  ];
}

/** With which addresses a route can be made: those that its gateway is reached by. */
function stanzaOf({ family, hops }: ExportedRoute): 4 | 6 {
  return hops.some(({ gateway }) => gateway?.includes(':')) ? 6 : family;
}

/** No route can have an IPv6 address as its source that is still looked for on the wire. */
function isSource({ cidr }: ExportedAddr, { routes }: UplinkFacts): boolean {
  return cidr.family === 6 && routes.some(({ prefsrc }) => prefsrc === cidr.ip);
}

/** `iface br0 inet ...`; what one method cannot say is said by commands. */
function stanza(facts: UplinkFacts, family: 4 | 6, how: readonly string[]): Line {
  const { bridge, dhcp4, dhcp6, ra, privacy } = facts;
  const addresses = facts.addresses.filter(({ cidr }) => cidr.family === family);
  const leased = family === 4 ? dhcp4 : ra || dhcp6;
  const first = leased ? undefined : addresses.find(isPlain);
  const whenLeased = family === 4 ? 'dhcp' : ra ? 'auto' : 'dhcp';
  const method = leased ? whenLeased : first ? 'static' : 'manual';
  const own = ({ family: of }: { readonly family: 4 | 6 }): boolean => of === family;
  return [
    `iface ${bridge.name} ${family === 4 ? 'inet' : 'inet6'} ${method}`,
    how,
    family === 6 && method === 'auto' && [`    dhcp ${dhcp6 ? 1 : 0}`, `    privext ${privacy ? 2 : 0}`],
    first && `    address ${formatCidr(first.cidr)}`,
    family === 6 && method === 'static' && !ra && '    accept_ra 0',
    addresses
      .filter((addr) => addr !== first)
      .map((addr) => up(`${ipAddrAdd(addr, bridge.name)}${isSource(addr, facts) ? ' nodad' : ''}`)),
    facts.routes
      .filter((route) => stanzaOf(route) === family && whyUnsayable(route) === undefined)
      .map((route) => up(ipRouteAdd(route))),
    facts.rules
      .filter((rule) => own(rule) && whyUnsayable(rule) === undefined)
      .flatMap((rule) => [
        up(ipRuleAdd(rule)),
        // Unlike routes it stays when the bridge goes.
        `    down ${ipRuleAdd(rule).replace('rule add', 'rule del')}`,
      ]),
  ];
}

export function exportIfupdown(facts: UplinkFacts): Exported {
  const { nic, bridge, dhcp6, ra, addresses, routes, rules } = facts;
  const is6 = ({ family }: { readonly family: Cidr['family'] }): boolean => family === 6;
  const has6 = ra || dhcp6 || addresses.some(({ cidr }) => is6(cidr)) || [...routes, ...rules].some(is6);
  const notes = [
    ...routes.map((route) => [ipRouteAdd(route), whyUnsayable(route)] as const),
    ...rules.map((rule) => [ipRuleAdd(rule), whyUnsayable(rule)] as const),
  ].flatMap(([command, why]) => (why === undefined ? [] : [`ifupdown cannot be told: ${command} (${why})`]));
  const how = bridge.kind === 'ovs' ? ovsBridge(facts) : linuxBridge(facts);
  const text = lines(
    notes.map((note) => `# ${note}`),
    `# Instead of what /etc/network/interfaces says of ${nic}.`,
    port(facts),
    ['', `auto ${bridge.name}`],
    stanza(facts, 4, how),
    has6 && ['', stanza(facts, 6, [])],
  );
  return { notes, files: [{ path: `/etc/network/interfaces.d/${bridge.name}`, text }] };
}
