// What the systems that configure hosts are told of an uplink, word for word.
import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import test from 'node:test';
import { parseCidr } from '../../src/model/address.ts';
import type { Addr, Route } from '../../src/model/link.ts';
import { exportUplink, type UplinkFacts, uplinkFacts } from '../../src/plan/uplink-export.ts';
import { run, skipUnless } from '../lab.ts';

function cidr(text: string): Addr['cidr'] {
  const parsed = parseCidr(text);
  if (!parsed) throw new Error(text);
  return parsed;
}

const addr = (text: string, more: Partial<Addr> = {}): Addr => ({
  ifindex: 2,
  cidr: cidr(text),
  scope: 0,
  flags: 0x80,
  ...more,
});

const route = (family: 4 | 6, gateway: string, more: Partial<Route> = {}): Route => ({
  family,
  gateway,
  dev: 2,
  scope: 0,
  table: 254,
  protocol: 3,
  type: 1,
  unknown: [],
  ...more,
});

const what = { nic: 'eth0', mac: '02:00:00:00:00:01', trunks: [] } as const;
const given: UplinkFacts = uplinkFacts(
  { ...what, bridge: { kind: 'bridge', name: 'br0' } },
  {
    addrs: [addr('10.0.0.5/24'), addr('10.0.0.6/24'), addr('fd00::5/64'), addr('fe80::1/64', { scope: 253 })],
    routes: [
      route(4, '10.0.0.1', { metric: 50 }),
      route(4, '10.0.0.9', { dst: cidr('10.5.0.0/16') }),
      route(6, 'fd00::1', { metric: 1024 }),
      route(4, '10.0.0.8', { table: 100 }),
    ],
  },
);
const leased: UplinkFacts = uplinkFacts(
  { ...what, trunks: [100, 200], bridge: { kind: 'ovs', name: 'ovs0' } },
  {
    addrs: [
      addr('10.0.0.5/24', { validLifetime: 3600 }),
      addr('2001:db8::5/64', { validLifetime: 3600, flags: 0x100 }),
    ],
    routes: [route(4, '10.0.0.1', { protocol: 16 }), route(6, 'fe80::9', { protocol: 9, metric: 1024 })],
  },
);

/** The files of one, each under its path, as they are printed. */
const printed = (...[target, facts]: Parameters<typeof exportUplink>): string =>
  exportUplink(target, facts)
    .map(({ path: file, text }) => `## ${file}\n${text}`)
    .join('');

const golden: readonly [string, string, string][] = [
  [
    'netplan, given by hand',
    printed('netplan', given),
    `## /etc/netplan/60-br0.yaml
network:
  version: 2
  ethernets:
    eth0:
      dhcp4: false
      dhcp6: false
      accept-ra: false
      link-local: []
  bridges:
    br0:
      interfaces: [eth0]
      macaddress: "02:00:00:00:00:01"
      parameters:
        stp: false
        forward-delay: 0
      dhcp4: false
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
        - to: "default"
          via: "fd00::1"
`,
  ],
  [
    'netplan, leased, Open vSwitch',
    printed('netplan', leased),
    `## /etc/netplan/60-ovs0.yaml
# netplan has no words for trunks: Open vSwitch keeps them itself.
network:
  version: 2
  ethernets:
    eth0:
      dhcp4: false
      dhcp6: false
      accept-ra: false
      link-local: []
  bridges:
    ovs0:
      interfaces: [eth0]
      openvswitch: {}
      macaddress: "02:00:00:00:00:01"
      dhcp4: true
      accept-ra: true
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

[Route]
Gateway=fd00::1
`,
  ],
  [
    'networkd, leased, Open vSwitch',
    printed('networkd', leased),
    `## /etc/systemd/network/05-eth0.network
# Open vSwitch keeps the bridge and its port itself.
[Match]
Name=eth0

[Network]
LinkLocalAddressing=no
DHCP=no
IPv6AcceptRA=no
## /etc/systemd/network/05-ovs0.network
[Match]
Name=ovs0

[Network]
DHCP=ipv4
IPv6AcceptRA=yes
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
    up ip route add 10.5.0.0/16 via 10.0.0.9 dev br0

iface br0 inet6 static
    address fd00::5/64
    up ip -6 route add default via fd00::1 dev br0
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

auto ovs0
iface ovs0 inet dhcp
    ovs_type OVSBridge
    ovs_ports eth0
    ovs_extra set bridge ovs0 other-config:hwaddr=02:00:00:00:00:01

iface ovs0 inet6 auto
`,
  ],
  [
    'nmcli, given by hand',
    printed('nmcli', given),
    `## undefined
nmcli connection add type bridge con-name br0 ifname br0 bridge.stp no bridge.mac-address 02:00:00:00:00:01 ipv4.method manual ipv4.addresses 10.0.0.5/24,10.0.0.6/24 ipv4.routes '0.0.0.0/0 10.0.0.1 50, 10.5.0.0/16 10.0.0.9' ipv6.method manual ipv6.addresses fd00::5/64 ipv6.routes '::/0 fd00::1'
nmcli connection add type ethernet con-name br0-eth0 ifname eth0 master br0
`,
  ],
  [
    'nmcli, leased, Open vSwitch',
    printed('nmcli', leased),
    `## undefined
nmcli connection add type ovs-bridge con-name ovs0 ifname ovs0
nmcli connection add type ovs-port con-name ovs0-eth0-port ifname eth0 master ovs0 ovs-port.trunks 0,100,200
nmcli connection add type ethernet con-name ovs0-eth0 ifname eth0 master ovs0-eth0-port
nmcli connection add type ovs-port con-name ovs0-port ifname ovs0 master ovs0
nmcli connection add type ovs-interface con-name ovs0-if ifname ovs0 master ovs0-port 802-3-ethernet.cloned-mac-address 02:00:00:00:00:01 ipv4.method auto ipv6.method auto
`,
  ],
];

const trunk: UplinkFacts = {
  ...leased,
  trunks: [100, 200],
  bridge: { kind: 'bridge', name: 'br0' },
};

test('trunks of a Linux bridge, which filters VLANs then', () => {
  const lines = (target: 'netplan' | 'networkd' | 'ifupdown' | 'nmcli'): string[] =>
    printed(target, trunk)
      .split(/\n| (?=bridge)/)
      .filter((line) => /vlan|VID|EgressUntagged/i.test(line));
  assert.deepEqual(lines('netplan'), [
    '# netplan has no words for VLAN filtering: pipewright uplink add eth0 --network',
  ]);
  assert.deepEqual(lines('networkd'), [
    'VLANFiltering=yes',
    ...['[BridgeVLAN]', 'PVID=1', 'EgressUntagged=1', '[BridgeVLAN]', 'VLAN=100', '[BridgeVLAN]', 'VLAN=200'],
  ]);
  assert.deepEqual(lines('ifupdown'), [
    'bridge vlan_filtering 1',
    'bridge vlan add dev eth0 vid 100',
    'bridge vlan add dev eth0 vid 200',
  ]);
  assert.deepEqual(lines('nmcli'), [
    'bridge.vlan-filtering yes ipv4.method auto ipv6.method auto',
    "bridge-port.vlans '1 pvid untagged, 100, 200'",
  ]);
});

for (const [name, text, wanted] of golden) test(name, () => assert.equal(text, wanted));

test('netplan takes what is written for it', (t) => {
  if (skipUnless(t, 'program:netplan')) return;
  for (const facts of [given, { ...leased, bridge: { kind: 'bridge', name: 'br1' } } as const]) {
    const root = mkdtempSync(path.join(tmpdir(), 'pwt-netplan-'));
    t.after(() => rmSync(root, { recursive: true, force: true }));
    const [file] = exportUplink('netplan', facts);
    const place = path.join(root, file?.path ?? '');
    mkdirSync(path.dirname(place), { recursive: true });
    writeFileSync(place, file?.text ?? '', { mode: 0o600 });
    const { stderr } = run('netplan', ['generate', '--root-dir', root]);
    assert.doesNotMatch(stderr, /error/i);
  }
});
