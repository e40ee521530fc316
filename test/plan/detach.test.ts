import assert from 'node:assert/strict';
import test from 'node:test';
import { type DetachFacts, planDetach } from '../../src/plan/detach.ts';
import { commands, earlier, link, recordOf, route } from './support.ts';

const eth1 = link('eth1', 7, { kind: 'veth', group: earlier });
const ours = link('br1', 5, { kind: 'bridge', group: earlier });
const foreign = link('lan0', 5, { kind: 'bridge' });

const facts = (more: Partial<DetachFacts> = {}): DetachFacts => ({
  ifname: 'eth1',
  record: recordOf(),
  guestLink: eth1,
  cameHome: false,
  routes: [],
  guestIfindexes: [1, 2],
  hostEnd: link('veth1pl42', 6, { kind: 'veth', group: earlier, master: 5 }),
  ovsPort: undefined,
  bridge: { link: ours, otherPorts: 0, hasAddrs: false },
  ovsBridge: undefined,
  vlanLink: undefined,
  vlanShared: false,
  firewallRule: true,
  bridgeShared: false,
  ...more,
});

const pair = 'ip link del veth1pl42';
const rule = 'iptables -D DOCKER-USER -i br1 -o br1 -j ACCEPT';
const taken = {
  name: 'nic0',
  up: true,
  mac: '02:00:00:00:00:77',
  mtu: 1450,
  group: 0,
  addrs: [],
  routes: [],
};
const oldDefault = route('default via 172.17.0.1', 2);
const comesBack = 'ip -n GUEST route replace default via 172.17.0.1 (as before)';

const cases: Readonly<Record<string, [Partial<DetachFacts>, readonly string[]]>> = {
  'the last one on a bridge of ours takes the bridge and its rule along': [
    {},
    [pair, rule, 'ip link del br1'],
  ],
  'a bridge with another port stays': [
    { bridge: { link: ours, otherPorts: 1, hasAddrs: false } },
    [pair, rule],
  ],
  'a bridge that somebody gave an address stays': [
    { bridge: { link: ours, otherPorts: 0, hasAddrs: true } },
    [pair, rule],
  ],
  'a bridge that is not ours stays, its rule does not': [
    { bridge: { link: foreign, otherPorts: 0, hasAddrs: false } },
    [pair, 'iptables -D DOCKER-USER -i lan0 -o lan0 -j ACCEPT'],
  ],
  'another attachment is on the bridge': [{ bridgeShared: true }, [pair]],
  'there is no rule': [{ firewallRule: false }, [pair, 'ip link del br1']],
  'the container is gone': [
    { guestLink: undefined, hostEnd: undefined, guestIfindexes: [] },
    [rule, 'ip link del br1'],
  ],
  "the host's end is gone": [{ hostEnd: undefined, bridge: undefined }, ['ip -n GUEST link del eth1']],
  'Open vSwitch: the port before its link, and the bridge that is left empty': [
    {
      bridge: undefined,
      ovsPort: { name: 'veth1pl42', bridge: 'ovs0' },
      ovsBridge: { name: 'ovs0', ours: true, otherPorts: 0 },
    },
    ['ovs-vsctl --if-exists del-port veth1pl42', pair, 'ovs-vsctl --if-exists del-br ovs0'],
  ],
  'Open vSwitch: a bridge that is not ours, or has another port, stays': [
    { bridge: undefined, ovsBridge: { name: 'ovs0', ours: false, otherPorts: 0 } },
    [pair],
  ],
  'a VLAN of ours that nothing rides on': [
    { bridge: undefined, hostEnd: undefined, vlanLink: link('nic0.10', 8, { kind: 'vlan', group: earlier }) },
    ['ip -n GUEST link del eth1', 'ip link del nic0.10'],
  ],
  'a VLAN that others ride on': [
    {
      bridge: undefined,
      hostEnd: undefined,
      vlanLink: link('nic0.10', 8, { kind: 'vlan', group: earlier }),
      vlanShared: true,
    },
    ['ip -n GUEST link del eth1'],
  ],
  'a VLAN that is not ours': [
    { bridge: undefined, hostEnd: undefined, vlanLink: link('nic0.10', 8, { kind: 'vlan' }) },
    ['ip -n GUEST link del eth1'],
  ],
  'the NIC goes home': [
    { record: recordOf({ taken }), bridge: undefined, hostEnd: undefined },
    ['ip -n GUEST link set eth1 netns HOST name nic0'],
  ],
  'a NIC that came home by itself is made as it was': [
    {
      record: recordOf({ taken }),
      guestLink: undefined,
      cameHome: true,
      bridge: undefined,
      hostEnd: undefined,
    },
    ['ip -n GUEST link set eth1 netns HOST name nic0'],
  ],
  'the default route that it had replaced comes back': [
    {
      record: recordOf({ replaced: [oldDefault] }),
      routes: [route('default via 10.0.0.1', 7), route('default via 172.17.0.9', 2, { metric: 100 })],
      bridgeShared: true,
    },
    [pair, comesBack],
  ],
  'with the way to its gateway, which it had replaced too': [
    {
      record: recordOf({ replaced: [route('192.168.77.1/32', 2), route('default via 192.168.77.1', 2)] }),
      routes: [route('192.168.77.1/32', 7), route('default via 192.168.77.1', 7)],
      bridgeShared: true,
    },
    [
      pair,
      'ip -n GUEST route replace 192.168.77.1/32 (as before)',
      'ip -n GUEST route replace default via 192.168.77.1 (as before)',
    ],
  ],
  'not when another link has it meanwhile': [
    {
      record: recordOf({ replaced: [oldDefault] }),
      routes: [route('default via 10.8.0.1', 1)],
      bridgeShared: true,
    },
    [pair],
  ],
  'not when its own link is gone': [
    { record: recordOf({ replaced: [oldDefault] }), guestIfindexes: [1], bridgeShared: true },
    [pair],
  ],
  'without a note': [{ record: undefined, bridgeShared: true }, [pair]],
};

for (const [name, [more, plan]] of Object.entries(cases)) {
  test(`detach: ${name}`, () => {
    const { interface: link, defaults, shared } = planDetach(facts(more));
    assert.deepEqual(commands([...link, ...defaults, ...shared]), plan);
  });
}
