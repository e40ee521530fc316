import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseCidr } from '../../src/model/address.ts';
import { describe as commandOf } from '../../src/model/describe.ts';
import type { Addr, Link } from '../../src/model/link.ts';
import { groupOf } from '../../src/model/naming.ts';
import { type DropFacts, type NetworkRecord, planDropNetwork } from '../../src/plan/drop-network.ts';

const link = (name: string, more: Partial<Link> = {}): Link => ({
  ifindex: 7,
  name,
  altnames: [],
  kind: 'bridge',
  arphrd: 1,
  mac: '02:00:00:00:00:01',
  mtu: 1500,
  group: groupOf(1),
  up: true,
  carrier: true,
  operstate: 'up',
  master: undefined,
  lower: undefined,
  linkNetnsid: undefined,
  data: {},
  ...more,
});
const addr = (text: string): Addr => ({ ifindex: 7, cidr: parseCidr(text)!, scope: 0, flags: 0x80 });
const record = (more: Partial<NetworkRecord>): NetworkRecord => ({
  version: 1,
  network: 'lan',
  kind: 'bridge',
  link: undefined,
  hostLink: undefined,
  addrs: [],
  ...more,
});
const facts = (more: Partial<DropFacts>): DropFacts => ({
  record: record({}),
  staying: [],
  bridge: undefined,
  ovsBridge: undefined,
  hostLink: undefined,
  vlan: undefined,
  ...more,
});

const foreign = { group: 0 };
const onVlan = record({ kind: 'macvlan', vlanIfname: 'eth0.100', hostLink: 'pwh-lan' });
const vlan = { link: link('eth0.100', { kind: 'vlan' }), addrs: [], isRidden: false };
const child = { link: link('pwh-lan', { kind: 'macvlan' }), addrs: [addr('10.0.0.1/24')], promotes: false };
const onForeign = record({ link: 'br0', mtu: { set: 1400, was: 1500 } });
const bridge = (more: Partial<Link>, addrs: Addr[] = [], ports = 0) => ({
  link: link('br0', more),
  addrs,
  ports,
});

const rows: { name: string; facts: DropFacts; want: string[]; inUse?: boolean }[] = [
  { name: 'nothing is there', facts: facts({ record: onVlan }), want: [] },
  {
    name: "a sub-interface of ours, after the host's own child",
    facts: facts({ record: onVlan, vlan, hostLink: child }),
    want: ['ip link del pwh-lan', 'ip link del eth0.100'],
  },
  {
    name: 'a sub-interface that was there before us',
    facts: facts({ record: onVlan, vlan: { ...vlan, link: link('eth0.100', foreign) } }),
    want: [],
  },
  {
    name: 'a sub-interface that a container is still on',
    facts: facts({ record: onVlan, vlan: { ...vlan, isRidden: true } }),
    want: [],
    inUse: true,
  },
  {
    name: 'a sub-interface of another network as well',
    facts: facts({ record: onVlan, vlan, staying: [record({ network: 'other', vlanIfname: 'eth0.100' })] }),
    want: [],
  },
  {
    name: 'a sub-interface that somebody has given an address',
    facts: facts({ record: onVlan, vlan: { ...vlan, addrs: [addr('10.9.0.1/24')] } }),
    want: [],
  },
  {
    name: "somebody else's bridge has its MTU back",
    facts: facts({ record: onForeign, bridge: bridge({ ...foreign, mtu: 1400 }) }),
    want: ['ip link set br0 mtu 1500'],
  },
  {
    name: 'unless it was given another one since',
    facts: facts({ record: onForeign, bridge: bridge({ ...foreign, mtu: 9000 }) }),
    want: [],
  },
  {
    name: 'or another network is on it',
    facts: facts({
      record: onForeign,
      bridge: bridge({ ...foreign, mtu: 1400 }),
      staying: [record({ network: 'other', link: 'br0' })],
    }),
    want: [],
  },
  {
    name: 'a bridge of ours',
    facts: facts({ record: onForeign, bridge: bridge({}) }),
    want: ['iptables -D DOCKER-USER -i br0 -o br0 -j ACCEPT', 'ip link del br0'],
  },
  {
    name: 'a bridge of ours with ports',
    facts: facts({ record: onForeign, bridge: bridge({}, [], 1) }),
    want: [],
    inUse: true,
  },
  {
    name: "a bridge of ours with somebody else's address keeps that, and loses ours",
    facts: facts({
      record: record({ link: 'br0', hostLink: 'br0', addrs: [parseCidr('10.0.0.1/24')!] }),
      bridge: bridge({}, [addr('10.0.0.1/24'), addr('10.9.0.1/24')]),
      hostLink: { link: link('br0'), addrs: [addr('10.0.0.1/24'), addr('10.9.0.1/24')], promotes: false },
    }),
    want: ['ip addr del 10.0.0.1/24 dev br0'],
  },
  {
    name: "somebody else's address of the same subnet stays when ours, the first, goes",
    facts: facts({
      record: record({ link: 'br0', hostLink: 'br0', addrs: [parseCidr('10.0.0.1/24')!] }),
      bridge: bridge(foreign),
      hostLink: { link: link('br0'), addrs: [addr('10.0.0.1/24'), addr('10.0.0.9/24')], promotes: false },
    }),
    want: [
      'ip netns exec GUEST sysctl net/ipv4/conf/br0/promote_secondaries=1',
      'ip addr del 10.0.0.1/24 dev br0',
      'ip netns exec GUEST sysctl net/ipv4/conf/br0/promote_secondaries=0',
    ],
  },
  {
    name: 'an Open vSwitch bridge',
    facts: facts({ record: record({ kind: 'ovs', link: 'ovs0' }), ovsBridge: { ours: true, ports: 0 } }),
    want: ['ovs-vsctl --if-exists del-br ovs0'],
  },
  {
    name: 'an Open vSwitch bridge with ports',
    facts: facts({ record: record({ kind: 'ovs', link: 'ovs0' }), ovsBridge: { ours: true, ports: 2 } }),
    want: [],
    inUse: true,
  },
];

for (const { name, facts: seen, want, inUse = false } of rows) {
  test(name, () => {
    const plan = planDropNetwork(seen);
    assert.deepEqual(plan.ops.map(commandOf), want);
    assert.equal(plan.inUse, inUse);
  });
}
