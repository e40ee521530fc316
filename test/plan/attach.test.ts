import assert from 'node:assert/strict';
import test from 'node:test';
import type { Attachment } from '../../src/model/attachment.ts';
import type { Observed } from '../../src/model/observed.ts';
import { planAttach } from '../../src/plan/plan.ts';
import { addr, commands, earlier, link, now, reasons, route, seen, undoOf, wanted } from './support.ts';

interface Case {
  readonly want: Attachment;
  readonly seen: Observed;
  readonly plan: readonly string[];
  /** In the order in which it is run. */
  readonly undo: readonly string[];
}

const br1 = { kind: 'bridge', name: 'br1' } as const;
const macvlan = { kind: 'macvlan', uplink: 'nic0', mode: 'bridge' } as const;
const bridge = link('br1', 5, { kind: 'bridge', mtu: 1400 });
const nic = link('nic0', 4, { mtu: 1450 });

const cases: Readonly<Record<string, Case>> = {
  'a bridge that is not there': {
    want: wanted(br1, ['10.0.0.2/24']),
    seen: seen({ host: { firewallMissing: true } }),
    plan: [
      'ip link add br1 type bridge',
      'iptables -I DOCKER-USER -i br1 -o br1 -j ACCEPT',
      'ip link add veth1pl42 up mtu 1500 master br1 type veth peer name eth1 mtu 1500 netns GUEST',
      'ip -n GUEST link set eth1 up',
      'ip -n GUEST addr add 10.0.0.2/24 brd 10.0.0.255 dev eth1',
    ],
    undo: ['ip link del veth1pl42', 'iptables -D DOCKER-USER -i br1 -o br1 -j ACCEPT', 'ip link del br1'],
  },
  'a bridge that is there, with its MTU, and a MAC address': {
    want: wanted(br1, [], { mac: '02:00:00:00:00:01' }),
    seen: seen({ host: { network: bridge, networkType: 'bridge' } }),
    plan: [
      'ip link add veth1pl42 up mtu 1400 master br1 type veth peer name eth1 mtu 1400 address 02:00:00:00:00:01 netns GUEST',
      'ip -n GUEST link set eth1 up',
    ],
    undo: ['ip link del veth1pl42'],
  },
  'a bridge that is down': {
    want: wanted(br1),
    seen: seen({ host: { network: link('br1', 5, { kind: 'bridge', up: false }), networkType: 'bridge' } }),
    plan: [
      'ip link set br1 up',
      'ip link add veth1pl42 up mtu 1500 master br1 type veth peer name eth1 mtu 1500 netns GUEST',
      'ip -n GUEST link set eth1 up',
    ],
    undo: ['ip link del veth1pl42', 'ip link set br1 down'],
  },
  'a gateway that replaces a default route': {
    want: wanted(br1, ['10.0.0.2/24@10.0.0.1']),
    seen: seen({
      host: { network: bridge, networkType: 'bridge' },
      guest: {
        defaults: [
          route('default via 172.17.0.9', 2, { metric: 100 }),
          route('default via 172.17.0.1', 2),
          route('default via fd17::1', 2, { metric: 1024 }),
        ],
      },
    }),
    plan: [
      'ip link add veth1pl42 up mtu 1400 master br1 type veth peer name eth1 mtu 1400 netns GUEST',
      'ip -n GUEST link set eth1 up',
      'ip -n GUEST addr add 10.0.0.2/24 brd 10.0.0.255 dev eth1',
      'ip -n GUEST route replace default via 10.0.0.1 dev eth1',
    ],
    undo: [
      'ip -n GUEST route replace default via 172.17.0.1 (as before)',
      'ip -n GUEST route del default via 10.0.0.1 dev eth1',
      'ip link del veth1pl42',
    ],
  },
  'an IPv6 gateway off the subnet, where IPv6 is switched off and another link has the way to it': {
    want: wanted(br1, ['fd01::2/64@fd77::1']),
    seen: seen({
      host: { network: bridge, networkType: 'bridge' },
      guest: {
        ipv6Disabled: true,
        hostRoutes: [route('fd77::1/128', 2, { metric: 1024, scope: 0 }), route('fd77::2/128', 2)],
      },
    }),
    plan: [
      'ip link add veth1pl42 up mtu 1400 master br1 type veth peer name eth1 mtu 1400 netns GUEST',
      'ip netns exec GUEST sysctl net.ipv6.conf.eth1.disable_ipv6=0',
      'ip -n GUEST link set eth1 up',
      'ip -n GUEST addr add fd01::2/64 dev eth1',
      'ip -n GUEST route replace fd77::1/128 dev eth1',
      'ip -n GUEST route replace default via fd77::1 dev eth1',
    ],
    undo: [
      'ip -n GUEST route del default via fd77::1 dev eth1',
      'ip -n GUEST route replace fd77::1/128 (as before)',
      'ip -n GUEST route del fd77::1/128 dev eth1',
      'ip link del veth1pl42',
    ],
  },
  'a link-local gateway needs no way to it': {
    want: wanted(br1, ['fd01::2/64@fe80::1']),
    seen: seen({ host: { network: bridge, networkType: 'bridge' } }),
    plan: [
      'ip link add veth1pl42 up mtu 1400 master br1 type veth peer name eth1 mtu 1400 netns GUEST',
      'ip -n GUEST link set eth1 up',
      'ip -n GUEST addr add fd01::2/64 dev eth1',
      'ip -n GUEST route replace default via fe80::1 dev eth1',
    ],
    undo: ['ip -n GUEST route del default via fe80::1 dev eth1', 'ip link del veth1pl42'],
  },
  'an Open vSwitch bridge that is not there, with a tag, and a port of a container that is gone': {
    want: wanted({ kind: 'ovs', name: 'ovs0', vid: 100 }),
    seen: seen({ host: { deadPorts: ['veth1pl7'] } }),
    plan: [
      'ovs-vsctl --if-exists del-port veth1pl7',
      'ovs-vsctl add-br ovs0',
      'ip link add veth1pl42 up mtu 1500 type veth peer name eth1 mtu 1500 netns GUEST',
      'ovs-vsctl add-port ovs0 veth1pl42 tag=100',
      'ip -n GUEST link set eth1 up',
    ],
    undo: [
      'ovs-vsctl --if-exists del-port veth1pl42',
      'ip link del veth1pl42',
      'ovs-vsctl --if-exists del-br ovs0',
    ],
  },
  'a macvlan on a VLAN of a NIC that is down': {
    want: wanted({ ...macvlan, vid: 10 }),
    seen: seen({ host: { network: { ...nic, up: false }, networkType: 'nic' } }),
    plan: [
      'ip link set nic0 up',
      'ip link add link nic0 name nic0.10 mtu 1450 type vlan id 10',
      'ip link set nic0.10 up',
      'ip link add link nic0.10 name eth1 mtu 1450 netns GUEST type macvlan mode bridge',
      'ip -n GUEST link set eth1 up',
    ],
    undo: [
      'ip -n GUEST link del eth1',
      'ip link set nic0.10 down',
      'ip link del nic0.10',
      'ip link set nic0 down',
    ],
  },
  'the NIC itself': {
    want: wanted({ kind: 'phys', uplink: 'nic0' }, ['10.0.0.2/24'], { mtu: 1400 }),
    seen: seen({
      host: {
        network: nic,
        networkType: 'nic',
        moving: { link: nic, addrs: [addr('10.5.0.5/24', 4)], routes: [] },
      },
    }),
    plan: [
      'ip link set nic0 netns GUEST name eth1',
      'ip -n GUEST link set eth1 mtu 1400 up',
      'ip -n GUEST addr add 10.0.0.2/24 brd 10.0.0.255 dev eth1',
    ],
    undo: ['ip -n GUEST link set eth1 netns HOST name nic0'],
  },
  "a host's end that is down is what an attempt that failed has left": {
    want: wanted(br1),
    seen: seen({
      host: {
        network: bridge,
        networkType: 'bridge',
        hostEnd: link('veth1pl42', 6, { kind: 'veth', up: false }),
      },
      guest: { link: { link: link('eth1', 9, { kind: 'veth', lower: 6 }), addrs: [], routes: [] } },
    }),
    plan: [
      'ip link del veth1pl42',
      'ip link add veth1pl42 up mtu 1400 master br1 type veth peer name eth1 mtu 1400 netns GUEST',
      'ip -n GUEST link set eth1 up',
    ],
    undo: ['ip link del veth1pl42'],
  },
};

for (const [name, { want, seen: facts, plan, undo }] of Object.entries(cases)) {
  test(`attach: ${name}`, () => {
    const steps = planAttach(want, facts, 'refuse');
    assert.deepEqual(commands(steps), plan);
    assert.deepEqual(undoOf(steps), undo);
    assert.ok(reasons(steps).every((because) => because.length > 5));
    assert.deepEqual(commands(planAttach(want, facts, 'converge')), plan);
  });
}

const refused: Readonly<Record<string, [Attachment, Observed, RegExp]>> = {
  'an interface of this name that is not ours': [
    wanted(br1),
    seen({ guest: { link: { link: link('eth1', 9), addrs: [], routes: [] } } }),
    /an interface of this name is there, and pipewright did not make it \[EEXIST\]/,
  ],
  "a host's end that is up": [
    wanted(br1),
    seen({ host: { hostEnd: link('veth1pl42', 6, { kind: 'veth' }) } }),
    /Link veth1pl42 exists and is up \[EEXIST\]/,
  ],
  "a host's end that is no veth": [
    wanted(br1),
    seen({ host: { hostEnd: link('veth1pl42', 6, { kind: 'bridge', up: false }) } }),
    /Link veth1pl42 exists and is no veth \[EEXIST\]/,
  ],
  'a NIC that is not there': [wanted(macvlan), seen(), /there is no such NIC/],
  'a link with the name of the VLAN that is another VLAN': [
    wanted({ ...macvlan, vid: 10 }),
    seen({
      host: {
        network: nic,
        networkType: 'nic',
        vlanLink: link('nic0.10', 8, { kind: 'vlan', lower: 4, data: { vid: 11 } }),
      },
    }),
    /it is not VLAN 10 of nic0/,
  ],
  'IPv6 on an MTU that is too small for it': [
    wanted(br1, ['fd00::1/64'], { mtu: 1279 }),
    seen(),
    /IPv6 needs an MTU of at least 1280 bytes, and 1279 is asked for/,
  ],
};

for (const [name, [want, facts, message]] of Object.entries(refused)) {
  test(`attach refuses: ${name}`, () => {
    assert.throws(() => planAttach(want, facts, 'converge'), message);
  });
}

test('what is made carries the group of the transaction, and its undo deletes nothing of another group', () => {
  const steps = planAttach(wanted(br1), seen({ host: { firewallMissing: true } }), 'refuse');
  const made = steps.flatMap(({ op }) => ('group' in op ? [op.group] : []));
  assert.deepEqual(made, [now, now]);
  const deletions = steps.flatMap(({ undo }) => undo).filter((op) => op.do === 'link.del');
  assert.deepEqual(
    deletions.map((op) => op.do === 'link.del' && op.onlyGroup),
    [now, now],
  );
  assert.notEqual(now, earlier);
});
