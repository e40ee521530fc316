/**
 * A bridge with its uplink in the words of the systems that configure hosts at boot: netplan, systemd-networkd, ifupdown,
 * NetworkManager. Pure.
 */
import { type Cidr, formatCidr } from '../model/address.ts';
import type { LinkState, UplinkBridge } from '../model/uplink.ts';
import { ovsTrunks, usualPvid } from './uplink-vlans.ts';

/** The systems. */
export const exportTargets = ['netplan', 'networkd', 'ifupdown', 'nmcli'] as const;
export type ExportTarget = (typeof exportTargets)[number];

/** What is to be said to them. */
export interface UplinkFacts {
  readonly nic: string;
  readonly bridge: UplinkBridge;
  /** Undefined: the bridge has one of its own. */
  readonly mac: string | undefined;
  readonly trunks: readonly number[];
  /** Addresses given by hand. */
  readonly addresses: readonly Cidr[];
  /** Addresses come from a DHCP server, for IPv4, and from routers, for IPv6. */
  readonly dhcp4: boolean;
  readonly ra: boolean;
  readonly routes: readonly ExportedRoute[];
}

/** A route given by hand, of the main table. */
export interface ExportedRoute {
  readonly family: 4 | 6;
  /** Absent: the default route. */
  readonly dst?: Cidr;
  readonly via: string;
  readonly metric?: number;
}

/** A file of a system, or with no path commands to be typed. */
export interface ExportedFile {
  readonly path: string | undefined;
  readonly text: string;
}

/** RTPROT_RA, RTPROT_DHCP, RT_TABLE_MAIN. */
const byRouter = 9;
const byDhcp = 16;
const mainTable = 254;
/** What a route gets that is given none. */
const usualMetric = { 4: undefined, 6: 1024 } as const;

/** Reads the facts off the link that has the addresses. What has an end was given by a server or a router. */
export function uplinkFacts(
  what: Pick<UplinkFacts, 'nic' | 'bridge' | 'mac' | 'trunks'>,
  { addrs, routes }: Pick<LinkState, 'addrs' | 'routes'>,
): UplinkFacts {
  const global = addrs.filter(({ scope }) => scope === 0);
  const isLeased = ({ validLifetime }: { readonly validLifetime?: number }): boolean =>
    validLifetime !== undefined;
  return {
    ...what,
    addresses: global.filter((addr) => !isLeased(addr)).map(({ cidr }) => cidr),
    dhcp4: global.some((addr) => addr.cidr.family === 4 && isLeased(addr)),
    ra:
      routes.some(({ family, protocol }) => family === 6 && protocol === byRouter) ||
      global.some((addr) => addr.cidr.family === 6 && isLeased(addr)),
    routes: routes.flatMap(({ family, table, protocol, dst, gateway, metric }) =>
      gateway === undefined || table !== mainTable || protocol === byRouter || protocol === byDhcp
        ? []
        : [
            {
              family,
              via: gateway,
              ...(dst && { dst }),
              ...(metric === undefined || metric === usualMetric[family] ? {} : { metric }),
            },
          ],
    ),
  };
}

/** The files, or commands, that make the same at every boot. */
export function exportUplink(target: ExportTarget, facts: UplinkFacts): ExportedFile[] {
  switch (target) {
    case 'netplan':
      return netplan(facts);
    case 'networkd':
      return networkd(facts);
    case 'ifupdown':
      return ifupdown(facts);
    case 'nmcli':
      return nmcli(facts);
  }
}

const lines = (...all: readonly (string | false | readonly string[])[]): string =>
  `${all
    .flat()
    .filter((line) => line !== false)
    .join('\n')}\n`;

/** A route's destination, as all but ifupdown write it. */
const to = ({ dst }: ExportedRoute): string => (dst ? formatCidr(dst) : 'default');

function netplan({ nic, bridge, mac, addresses, dhcp4, ra, routes, trunks }: UplinkFacts): ExportedFile[] {
  const ovs = bridge.kind === 'ovs';
  const text = lines(
    trunks.length > 0 &&
      (ovs
        ? '# netplan has no words for trunks: Open vSwitch keeps them itself.'
        : `# netplan has no words for VLAN filtering: pipewright uplink add ${nic} --network bridge:${bridge.name} --trunks ${trunks.join(',')}`),
    'network:',
    '  version: 2',
    '  ethernets:',
    `    ${nic}:`,
    '      dhcp4: false',
    '      dhcp6: false',
    '      accept-ra: false',
    '      link-local: []',
    '  bridges:',
    `    ${bridge.name}:`,
    `      interfaces: [${nic}]`,
    ovs && '      openvswitch: {}',
    mac !== undefined && `      macaddress: "${mac}"`,
    !ovs && ['      parameters:', '        stp: false', '        forward-delay: 0'],
    `      dhcp4: ${dhcp4}`,
    `      accept-ra: ${ra}`,
    addresses.length > 0 && [
      '      addresses:',
      ...addresses.map((cidr) => `        - "${formatCidr(cidr)}"`),
    ],
    routes.length > 0 && [
      '      routes:',
      ...routes.flatMap((route) => [
        `        - to: "${to(route)}"`,
        `          via: "${route.via}"`,
        ...(route.metric === undefined ? [] : [`          metric: ${route.metric}`]),
      ]),
    ],
  );
  return [{ path: `/etc/netplan/60-${bridge.name}.yaml`, text }];
}

function networkd({ nic, bridge, mac, addresses, dhcp4, ra, routes, trunks }: UplinkFacts): ExportedFile[] {
  const ovs = bridge.kind === 'ovs';
  const netdev = lines(
    ['[NetDev]', `Name=${bridge.name}`, 'Kind=bridge'],
    mac !== undefined && `MACAddress=${mac}`,
    ['', '[Bridge]', 'STP=no', 'ForwardDelaySec=0'],
    trunks.length > 0 && 'VLANFiltering=yes',
  );
  const port = lines(
    ovs && '# Open vSwitch keeps the bridge and its port itself.',
    ['[Match]', `Name=${nic}`, '', '[Network]'],
    !ovs && `Bridge=${bridge.name}`,
    ['LinkLocalAddressing=no', 'DHCP=no', 'IPv6AcceptRA=no'],
    !ovs && trunks.length > 0
      ? [
          ...['', '[BridgeVLAN]', `PVID=${usualPvid}`, `EgressUntagged=${usualPvid}`],
          ...trunks.flatMap((vid) => ['', '[BridgeVLAN]', `VLAN=${vid}`]),
        ]
      : [],
  );
  const own = lines(
    ['[Match]', `Name=${bridge.name}`, '', '[Network]'],
    `DHCP=${dhcp4 ? 'ipv4' : 'no'}`,
    `IPv6AcceptRA=${ra ? 'yes' : 'no'}`,
    addresses.map((cidr) => `Address=${formatCidr(cidr)}`),
    routes.flatMap((route) => [
      '',
      '[Route]',
      ...(route.dst ? [`Destination=${formatCidr(route.dst)}`] : []),
      `Gateway=${route.via}`,
      ...(route.metric === undefined ? [] : [`Metric=${route.metric}`]),
    ]),
  );
  const folder = '/etc/systemd/network';
  return [
    ...(ovs ? [] : [{ path: `${folder}/05-${bridge.name}.netdev`, text: netdev }]),
    { path: `${folder}/05-${nic}.network`, text: port },
    { path: `${folder}/05-${bridge.name}.network`, text: own },
  ];
}

function ifupdown(facts: UplinkFacts): ExportedFile[] {
  const { nic, bridge, mac, trunks } = facts;
  const ovs = bridge.kind === 'ovs';
  const port = ovs
    ? [
        `allow-${bridge.name} ${nic}`,
        `iface ${nic} inet manual`,
        '    ovs_type OVSPort',
        `    ovs_bridge ${bridge.name}`,
        ...(trunks.length > 0 ? [`    ovs_options trunks=${ovsTrunks(trunks).join(',')}`] : []),
      ]
    : [`iface ${nic} inet manual`];
  const how = ovs
    ? [
        '    ovs_type OVSBridge',
        `    ovs_ports ${nic}`,
        ...(mac === undefined ? [] : [`    ovs_extra set bridge ${bridge.name} other-config:hwaddr=${mac}`]),
      ]
    : [
        `    bridge_ports ${nic}`,
        '    bridge_stp off',
        '    bridge_fd 0',
        ...(mac === undefined ? [] : [`    bridge_hw ${mac}`]),
        ...(trunks.length > 0 ? [`    up ip link set ${bridge.name} type bridge vlan_filtering 1`] : []),
        ...trunks.map((vid) => `    up bridge vlan add dev ${nic} vid ${vid}`),
      ];
  const text = lines(
    `# Instead of what /etc/network/interfaces says of ${nic}.`,
    port,
    ['', `auto ${bridge.name}`],
    stanza(facts, 4, how),
    facts.ra || facts.addresses.some(({ family }) => family === 6) ? ['', ...stanza(facts, 6, [])] : [],
  );
  return [{ path: `/etc/network/interfaces.d/${bridge.name}`, text }];
}

/** `iface br0 inet ...`; what one method cannot say is said by commands. */
function stanza(
  { bridge, addresses, dhcp4, ra, routes }: UplinkFacts,
  family: 4 | 6,
  how: readonly string[],
): string[] {
  const [first, ...more] = addresses.filter((cidr) => cidr.family === family);
  const leased = family === 4 ? dhcp4 : ra;
  const inet = family === 4 ? 'inet' : 'inet6';
  const method = leased ? (family === 4 ? 'dhcp' : 'auto') : first ? 'static' : 'manual';
  const byCommand = leased && first ? [first, ...more] : more;
  return [
    `iface ${bridge.name} ${inet} ${method}`,
    ...how,
    ...(first && !leased ? [`    address ${formatCidr(first)}`] : []),
    ...byCommand.map((cidr) => `    up ip addr add ${formatCidr(cidr)} dev ${bridge.name}`),
    ...routes
      .filter((route) => route.family === family)
      .map((route) => {
        const metric = route.metric === undefined ? '' : ` metric ${route.metric}`;
        return `    up ip ${family === 6 ? '-6 ' : ''}route add ${to(route)} via ${route.via} dev ${bridge.name}${metric}`;
      }),
  ];
}

function nmcli({ nic, bridge, mac, addresses, dhcp4, ra, routes, trunks }: UplinkFacts): ExportedFile[] {
  const { name } = bridge;
  const ip = ([4, 6] as const).flatMap((family) => {
    const own = addresses.filter((cidr) => cidr.family === family).map(formatCidr);
    const leased = family === 4 ? dhcp4 : ra;
    const ways = routes
      .filter((route) => route.family === family)
      .map((route) => {
        const anywhere = family === 4 ? '0.0.0.0/0' : '::/0';
        const metric = route.metric === undefined ? '' : ` ${route.metric}`;
        return `${route.dst ? formatCidr(route.dst) : anywhere} ${route.via}${metric}`;
      });
    const method = leased ? 'auto' : own.length > 0 ? 'manual' : family === 4 ? 'disabled' : 'link-local';
    return [
      `ipv${family}.method ${method}`,
      ...(own.length > 0 ? [`ipv${family}.addresses ${own.join(',')}`] : []),
      ...(ways.length > 0 ? [`ipv${family}.routes '${ways.join(', ')}'`] : []),
    ];
  });
  const add = (...words: readonly string[]): string => `nmcli connection add ${words.join(' ')}`;
  const text =
    bridge.kind === 'bridge'
      ? lines(
          add(
            `type bridge con-name ${name} ifname ${name} bridge.stp no`,
            ...(mac === undefined ? [] : [`bridge.mac-address ${mac}`]),
            ...(trunks.length > 0 ? ['bridge.vlan-filtering yes'] : []),
            ...ip,
          ),
          add(
            `type ethernet con-name ${name}-${nic} ifname ${nic} master ${name}`,
            ...(trunks.length > 0
              ? [`bridge-port.vlans '${usualPvid} pvid untagged, ${trunks.join(', ')}'`]
              : []),
          ),
        )
      : lines(
          add(`type ovs-bridge con-name ${name} ifname ${name}`),
          add(
            `type ovs-port con-name ${name}-${nic}-port ifname ${nic} master ${name}`,
            ...(trunks.length > 0 ? [`ovs-port.trunks ${ovsTrunks(trunks).join(',')}`] : []),
          ),
          add(`type ethernet con-name ${name}-${nic} ifname ${nic} master ${name}-${nic}-port`),
          add(`type ovs-port con-name ${name}-port ifname ${name} master ${name}`),
          add(
            `type ovs-interface con-name ${name}-if ifname ${name} master ${name}-port`,
            ...(mac === undefined ? [] : [`802-3-ethernet.cloned-mac-address ${mac}`]),
            ...ip,
          ),
        );
  return [{ path: undefined, text }];
}
