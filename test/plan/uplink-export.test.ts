// What the systems that configure hosts are told of an uplink, word for word. Whether they take it: test/e2e/uplink-export.test.ts
import assert from 'node:assert/strict';
import test from 'node:test';
import { type Cidr, parseCidr } from '../../src/model/address.ts';
import {
  type ExportedRoute,
  type ExportedRule,
  shellQuote,
  type UplinkFacts,
} from '../../src/model/uplink-facts.ts';
import { type ExportTarget, exportUplink } from '../../src/plan/uplink-export.ts';

function cidr(text: string): Cidr {
  const parsed = parseCidr(text);
  if (!parsed) throw new Error(text);
  return parsed;
}

const addr = (text: string, more = {}) => ({ cidr: cidr(text), ...more });
const route = (gateway: string, more: Partial<ExportedRoute> = {}): ExportedRoute => ({
  family: gateway.includes(':') ? 6 : 4,
  type: 'unicast',
  hops: [{ gateway, dev: 'br0', weight: 1, onlink: false }],
  metrics: {},
  locked: [],
  other: [],
  ...more,
});
const rule = (more: Partial<ExportedRule>): ExportedRule => ({
  ...{ family: 4, priority: 77, not: false, action: 'table', table: 100, other: [] },
  ...more,
});

const given: UplinkFacts = {
  nic: 'eth0',
  bridge: { kind: 'bridge', name: 'br0' },
  mac: '02:00:00:00:00:01',
  mtu: 1500,
  vlans: undefined,
  ovsTrunks: [],
  addresses: [addr('10.0.0.5/24'), addr('10.0.0.6/24'), addr('fd00::5/64')],
  ...{ dhcp4: false, dhcp6: false, ra: false, privacy: false },
  routes: [
    route('10.0.0.1', { metric: 50 }),
    route('10.0.0.9', { dst: cidr('10.5.0.0/16'), table: 100 }),
    route('fd00::1'),
  ],
  rules: [rule({ src: cidr('10.0.0.0/24') })],
};
const leased: UplinkFacts = {
  ...given,
  bridge: { kind: 'ovs', name: 'ovs0' },
  ovsTrunks: [0, 100, 200],
  mtu: 9000,
  addresses: [],
  ...{ dhcp4: true, dhcp6: true, ra: true, privacy: true, routes: [], rules: [] },
};
const filtering: UplinkFacts = {
  ...given,
  ...{ addresses: [addr('10.0.0.5/24')], routes: [], rules: [] },
  vlans: {
    defaultPvid: 1,
    port: [
      { vid: 1, pvid: false, untagged: false },
      { vid: 10, pvid: true, untagged: true },
      { vid: 100, last: 120, pvid: false, untagged: false },
    ],
    self: [
      { vid: 1, pvid: false, untagged: false },
      { vid: 10, pvid: true, untagged: true },
    ],
  },
};

/** The files of one, each under its path, as they are printed. */
function printed(target: ExportTarget, facts: UplinkFacts): string {
  const { files, notes } = exportUplink(target, facts);
  assert.deepEqual(notes, []);
  return files.map(({ path: file, text }) => `## ${file}\n${text}`).join('');
}

const golden: readonly [string, string, string][] = [
  [
    'netplan, given by hand',
    printed('netplan', given),
    `## /etc/netplan/60-br0.yaml
network:
  version: 2
  ethernets:
    "eth0":
      dhcp4: false
      dhcp6: false
      accept-ra: false
      link-local: []
  bridges:
    "br0":
      interfaces: ["eth0"]
      macaddress: "02:00:00:00:00:01"
      parameters:
        stp: false
        forward-delay: 0
      dhcp4: false
      dhcp6: false
      accept-ra: false
      addresses:
        - "10.0.0.5/24"
        - "10.0.0.6/24"
        - "fd00::5/64"
      routes:
        - to: "default"
          via: "10.0.0.1"
          metric: 50
        - to: "10.5.0.0/16"
          via: "10.0.0.9"
          table: 100
        - to: "default"
          via: "fd00::1"
      routing-policy:
        - priority: 77
          from: "10.0.0.0/24"
          table: 100
`,
  ],
  [
    'networkd, given by hand',
    printed('networkd', given),
    `## /etc/systemd/network/05-br0.netdev
[NetDev]
Name=br0
Kind=bridge
MACAddress=02:00:00:00:00:01

[Bridge]
STP=no
ForwardDelaySec=0
## /etc/systemd/network/05-eth0.network
[Match]
Name=eth0

[Network]
Bridge=br0
LinkLocalAddressing=no
DHCP=no
IPv6AcceptRA=no
## /etc/systemd/network/05-br0.network
[Match]
Name=br0

[Network]
DHCP=no
IPv6AcceptRA=no
Address=10.0.0.5/24
Address=10.0.0.6/24
Address=fd00::5/64

[Route]
Gateway=10.0.0.1
Metric=50

[Route]
Destination=10.5.0.0/16
Gateway=10.0.0.9
Table=100

[Route]
Gateway=fd00::1

[RoutingPolicyRule]
Priority=77
From=10.0.0.0/24
Table=100
`,
  ],
  [
    'ifupdown, given by hand',
    printed('ifupdown', given),
    `## /etc/network/interfaces.d/br0
# Instead of what /etc/network/interfaces says of eth0.
iface eth0 inet manual

auto br0
iface br0 inet static
    bridge_ports eth0
    bridge_stp off
    bridge_fd 0
    bridge_hw 02:00:00:00:00:01
    address 10.0.0.5/24
    up ip addr add 10.0.0.6/24 dev br0
    up ip route add default via 10.0.0.1 dev br0 metric 50
    up ip route add 10.5.0.0/16 via 10.0.0.9 dev br0 table 100
    up ip rule add priority 77 from 10.0.0.0/24 table 100
    down ip rule del priority 77 from 10.0.0.0/24 table 100

iface br0 inet6 static
    address fd00::5/64
    accept_ra 0
    up ip -6 route add default via fd00::1 dev br0
`,
  ],
  [
    'nmcli, given by hand',
    printed('nmcli', given),
    `## undefined
# The connection that has eth0 now stays off after the next boot; these take its place:
old=$(nmcli -g GENERAL.CON-UUID device show eth0); [ -z "$old" ] || nmcli connection modify "$old" connection.autoconnect no
nmcli connection add type bridge con-name br0 ifname br0 bridge.stp no bridge.mac-address 02:00:00:00:00:01 ipv4.method manual ipv4.addresses 10.0.0.5/24,10.0.0.6/24 ipv4.routes '0.0.0.0/0 10.0.0.1 50, 10.5.0.0/16 10.0.0.9 table=100' ipv4.routing-rules 'priority 77 from 10.0.0.0/24 table 100' ipv6.method manual ipv6.addresses fd00::5/64 ipv6.routes '::/0 fd00::1'
nmcli connection add type ethernet con-name br0-eth0 ifname eth0 master br0 slave-type bridge
`,
  ],
  [
    'netplan, leased, Open vSwitch',
    printed('netplan', leased),
    `## /etc/netplan/60-ovs0.yaml
# Open vSwitch keeps trunks and MAC address itself, once it was told:
#   ovs-vsctl --may-exist add-br ovs0 -- --may-exist add-port ovs0 eth0 trunks=0,100,200 -- set bridge ovs0 other-config:hwaddr=02:00:00:00:00:01
network:
  version: 2
  ethernets:
    "eth0":
      dhcp4: false
      dhcp6: false
      accept-ra: false
      link-local: []
      mtu: 9000
  bridges:
    "ovs0":
      interfaces: ["eth0"]
      openvswitch: {}
      macaddress: "02:00:00:00:00:01"
      mtu: 9000
      dhcp4: true
      dhcp6: true
      accept-ra: true
      ipv6-privacy: true
`,
  ],
  [
    'networkd, leased, Open vSwitch',
    printed('networkd', leased),
    `## /etc/systemd/network/05-eth0.network
# Open vSwitch keeps the bridge and its port itself, once it was told:
#   ovs-vsctl --may-exist add-br ovs0 -- --may-exist add-port ovs0 eth0 trunks=0,100,200 -- set bridge ovs0 other-config:hwaddr=02:00:00:00:00:01
[Match]
Name=eth0

[Link]
MTUBytes=9000

[Network]
LinkLocalAddressing=no
DHCP=no
IPv6AcceptRA=no
## /etc/systemd/network/05-ovs0.network
[Match]
Name=ovs0

[Link]
MTUBytes=9000

[Network]
DHCP=yes
IPv6AcceptRA=yes
IPv6PrivacyExtensions=yes
`,
  ],
  [
    'ifupdown, leased, Open vSwitch',
    printed('ifupdown', leased),
    `## /etc/network/interfaces.d/ovs0
# Instead of what /etc/network/interfaces says of eth0.
allow-ovs0 eth0
iface eth0 inet manual
    ovs_type OVSPort
    ovs_bridge ovs0
    ovs_options trunks=0,100,200
    up ip link set eth0 mtu 9000

auto ovs0
iface ovs0 inet dhcp
    ovs_type OVSBridge
    ovs_ports eth0
    ovs_extra set bridge ovs0 other-config:hwaddr=02:00:00:00:00:01
    up ip link set ovs0 mtu 9000

iface ovs0 inet6 auto
    dhcp 1
    privext 2
`,
  ],
  [
    'nmcli, leased, Open vSwitch',
    printed('nmcli', leased),
    `## undefined
# The connection that has eth0 now stays off after the next boot; these take its place:
old=$(nmcli -g GENERAL.CON-UUID device show eth0); [ -z "$old" ] || nmcli connection modify "$old" connection.autoconnect no
nmcli connection add type ovs-bridge con-name ovs0 ifname ovs0
nmcli connection add type ovs-port con-name ovs0-eth0-port ifname eth0 master ovs0 slave-type ovs-bridge ovs-port.trunks 0,100,200
nmcli connection add type ethernet con-name ovs0-eth0 ifname eth0 master ovs0-eth0-port slave-type ovs-port 802-3-ethernet.mtu 9000
nmcli connection add type ovs-port con-name ovs0-ovs0-port ifname ovs0 master ovs0 slave-type ovs-bridge
nmcli connection add type ovs-interface con-name ovs0-if ifname ovs0 master ovs0-ovs0-port slave-type ovs-port 802-3-ethernet.cloned-mac-address 02:00:00:00:00:01 802-3-ethernet.mtu 9000 ipv4.method auto ipv6.method auto ipv6.ip6-privacy 2
`,
  ],
  [
    'netplan, a bridge that filters VLANs',
    printed('netplan', filtering),
    `## /etc/netplan/60-br0.yaml
# What netplan has no words for is in files for systemd-networkd, which has to be the renderer then:
#   /etc/systemd/network/10-netplan-br0.netdev.d/pipewright.conf
#   /etc/systemd/network/10-netplan-eth0.network.d/pipewright.conf
#   /etc/systemd/network/10-netplan-br0.network.d/pipewright.conf
network:
  version: 2
  ethernets:
    "eth0":
      renderer: networkd
      dhcp4: false
      dhcp6: false
      accept-ra: false
      link-local: []
  bridges:
    "br0":
      renderer: networkd
      interfaces: ["eth0"]
      macaddress: "02:00:00:00:00:01"
      parameters:
        stp: false
        forward-delay: 0
      dhcp4: false
      dhcp6: false
      accept-ra: false
      addresses:
        - "10.0.0.5/24"
## /etc/systemd/network/10-netplan-br0.netdev.d/pipewright.conf
[Bridge]
VLANFiltering=yes
DefaultPVID=1
## /etc/systemd/network/10-netplan-eth0.network.d/pipewright.conf
[BridgeVLAN]
VLAN=1

[BridgeVLAN]
PVID=10
EgressUntagged=10

[BridgeVLAN]
VLAN=100-120
## /etc/systemd/network/10-netplan-br0.network.d/pipewright.conf
[BridgeVLAN]
VLAN=1

[BridgeVLAN]
PVID=10
EgressUntagged=10
`,
  ],
  [
    'networkd, a bridge that filters VLANs',
    printed('networkd', filtering),
    `## /etc/systemd/network/05-br0.netdev
[NetDev]
Name=br0
Kind=bridge
MACAddress=02:00:00:00:00:01

[Bridge]
STP=no
ForwardDelaySec=0
VLANFiltering=yes
DefaultPVID=1
## /etc/systemd/network/05-eth0.network
[Match]
Name=eth0

[Network]
Bridge=br0
LinkLocalAddressing=no
DHCP=no
IPv6AcceptRA=no

[BridgeVLAN]
VLAN=1

[BridgeVLAN]
PVID=10
EgressUntagged=10

[BridgeVLAN]
VLAN=100-120
## /etc/systemd/network/05-br0.network
[Match]
Name=br0

[Network]
DHCP=no
IPv6AcceptRA=no
Address=10.0.0.5/24

[BridgeVLAN]
VLAN=1

[BridgeVLAN]
PVID=10
EgressUntagged=10
`,
  ],
  [
    'ifupdown, a bridge that filters VLANs',
    printed('ifupdown', filtering),
    `## /etc/network/interfaces.d/br0
# Instead of what /etc/network/interfaces says of eth0.
iface eth0 inet manual

auto br0
iface br0 inet static
    bridge_ports eth0
    bridge_stp off
    bridge_fd 0
    bridge_hw 02:00:00:00:00:01
    up ip link set br0 type bridge vlan_filtering 1
    up bridge vlan add dev br0 vid 1 self
    up bridge vlan add dev br0 vid 10 pvid untagged self
    up bridge vlan add dev eth0 vid 1
    up bridge vlan add dev eth0 vid 10 pvid untagged
    up bridge vlan add dev eth0 vid 100-120
    address 10.0.0.5/24
`,
  ],
  [
    'nmcli, a bridge that filters VLANs',
    printed('nmcli', filtering),
    `## undefined
# The connection that has eth0 now stays off after the next boot; these take its place:
old=$(nmcli -g GENERAL.CON-UUID device show eth0); [ -z "$old" ] || nmcli connection modify "$old" connection.autoconnect no
nmcli connection add type bridge con-name br0 ifname br0 bridge.stp no bridge.mac-address 02:00:00:00:00:01 bridge.vlan-filtering yes bridge.vlan-default-pvid 1 bridge.vlans '1, 10 pvid untagged' ipv4.method manual ipv4.addresses 10.0.0.5/24 ipv6.method link-local
nmcli connection add type ethernet con-name br0-eth0 ifname eth0 master br0 slave-type bridge bridge-port.vlans '1, 10 pvid untagged, 100-120'
`,
  ],
];

for (const [name, text, wanted] of golden) test(name, () => assert.equal(text, wanted));

test('a name that would be read as a pattern is refused, and quoted for the shell', () => {
  const odd: UplinkFacts = {
    ...given,
    routes: [],
    nic: `e'th [0]`,
    bridge: { kind: 'bridge', name: '$(b)' },
  };
  for (const target of ['netplan', 'networkd', 'ifupdown'] as const)
    assert.throws(() => exportUplink(target, odd), /cannot have a name with such characters/);
  const text = printed('nmcli', odd);
  assert.match(text, / ifname '\$\(b\)' /);
  assert.match(text, / ifname 'e'\\''th \[0\]' master /);
  assert.equal(shellQuote(''), "''");
});

test('what a system has no words for is a comment, and is told', () => {
  const hard: UplinkFacts = {
    ...given,
    routes: [route('10.0.0.1', { tos: 16 }), route('10.0.0.2', { other: ['an encapsulation'] })],
    rules: [rule({ action: 'goto 100', src: cidr('10.0.0.0/8') })],
  };
  const notes = (target: ExportTarget): readonly string[] => {
    const { files, notes: told } = exportUplink(target, hard);
    const text = files.map((file) => file.text).join('');
    for (const note of told) assert.ok(text.includes(`# ${note}\n`));
    return told.map((note) => note.replace(/^.*: ip (\w+) .* \((.*)\)$/, '$1 $2'));
  };
  const both = [
    'route it has no word for tos',
    'route it has an encapsulation',
    'rule it has no word for goto 100',
  ];
  assert.deepEqual(notes('networkd'), both);
  assert.deepEqual(notes('netplan'), both);
  assert.deepEqual(notes('nmcli'), both.slice(1));
  assert.deepEqual(notes('ifupdown'), both.slice(1, 2));
});

test('of NetworkManager the connection that has the NIC is switched off', () => {
  const uuid = '57f3f3a1-0000-4000-8000-000000000001';
  const text = printed('nmcli', { ...given, connection: uuid });
  assert.match(text, new RegExp(`^nmcli connection modify ${uuid} connection.autoconnect no$`, 'm'));
});

test('a VLAN that networkd would leave on the port is told', () => {
  const vlans = { defaultPvid: 1, port: [{ vid: 10, pvid: true, untagged: true }], self: [] };
  const { notes } = exportUplink('networkd', { ...filtering, vlans });
  assert.deepEqual(notes, exportUplink('netplan', { ...filtering, vlans }).notes);
  assert.match(
    notes.join('\n'),
    /: bridge vlan del dev eth0 vid 1 \(.*\n.*: bridge vlan del dev br0 vid 1 self \(/,
  );
});
