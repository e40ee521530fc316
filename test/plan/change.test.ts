import assert from 'node:assert/strict';
import test from 'node:test';
import type { Attachment } from '../../src/model/attachment.ts';
import type { Link } from '../../src/model/link.ts';
import type { Observed } from '../../src/model/observed.ts';
import { planAttach } from '../../src/plan/plan.ts';
import { commands, connected, link, recordOf, route, seen, undoOf, wanted } from './support.ts';

const br1 = { kind: 'bridge', name: 'br1' } as const;
const ovs0 = { kind: 'ovs', name: 'ovs0', vid: 100 } as const;
const nic = link('nic0', 4);

/** Puts all of eth1 back, at the end. */
const restored = 'ip -n GUEST link set eth1 name eth1 (and all else as before)';

interface Case {
  readonly want: Attachment;
  readonly seen: Observed;
  readonly plan: readonly string[];
  readonly undo?: readonly string[];
}

const onBridge = (addrs: readonly string[], ...more: ReturnType<typeof route>[]): Observed =>
  seen(connected(addrs, more));

/** As a port of ovs0. */
function onOvs(vlans: { readonly vid: number | undefined; readonly trunks: readonly number[] }): Observed {
  const { host, guest } = connected([]);
  const bridge = { network: link('ovs0', 5, { kind: 'tun' }), networkType: 'ovs' as const };
  const hostEnd = { ...host.hostEnd, master: undefined };
  return seen({
    host: {
      ...host,
      ...bridge,
      hostEnd,
      hostEndMaster: undefined,
      ovsPort: { name: 'veth1pl42', isInternal: false, bridge: 'ovs0', ...vlans },
    },
    guest,
    record: recordOf({ network: ovs0 }),
  });
}

const inPlace: Readonly<Record<string, Case>> = {
  'nothing differs': {
    want: wanted(br1, ['10.0.0.2/24']),
    seen: onBridge(['10.0.0.2/24']),
    plan: [],
    undo: [],
  },
  'nothing is asked for but the network: what is there stays': {
    want: wanted(br1),
    seen: onBridge(
      ['10.0.0.2/24', 'fd00::2/64'],
      route('default via 10.0.0.1', 7),
      route('10.9.0.0/16 via 10.0.0.9', 7),
    ),
    plan: [],
    undo: [],
  },
  'one more address': {
    want: wanted(br1, ['10.0.0.2/24', 'fd00::2/64']),
    seen: onBridge(['10.0.0.2/24']),
    plan: ['ip -n GUEST addr add fd00::2/64 dev eth1'],
    undo: [restored],
  },
  'Open vSwitch takes the limit off what becomes its port': {
    want: wanted(ovs0, [], { rate: { in: 8_000_000, out: 8_000_000 } }),
    seen: (() => {
      const { host, guest } = connected([]);
      return seen({
        host: { ...host, network: link('ovs0', 9), networkType: 'ovs' },
        guest: { ...guest, rates: { in: 8_000_000, out: 8_000_000 } },
      });
    })(),
    plan: [
      'ip link set veth1pl42 nomaster',
      'ovs-vsctl add-port ovs0 veth1pl42 tag=100',
      'tc qdisc replace dev veth1pl42 root tbf rate 8000000bit',
    ],
    undo: [
      'tc qdisc del dev veth1pl42 root',
      'ovs-vsctl --if-exists del-port veth1pl42',
      'ip link set veth1pl42 master br1',
      'tc qdisc replace dev veth1pl42 root tbf rate 8000000bit',
    ],
  },
  'another address of the subnet: the old one takes the new one with it, unless that is promoted': {
    want: wanted(br1, ['10.0.0.3/24']),
    seen: onBridge(['10.0.0.2/24']),
    plan: [
      'ip -n GUEST addr add 10.0.0.3/24 brd 10.0.0.255 dev eth1',
      'ip netns exec GUEST sysctl net/ipv4/conf/eth1/promote_secondaries=1',
      'ip -n GUEST addr del 10.0.0.2/24 dev eth1',
      'ip netns exec GUEST sysctl net/ipv4/conf/eth1/promote_secondaries=0',
    ],
    undo: [
      'ip netns exec GUEST sysctl net/ipv4/conf/eth1/promote_secondaries=1',
      'ip netns exec GUEST sysctl net/ipv4/conf/eth1/promote_secondaries=0',
      restored,
    ],
  },
  'an address of another subnet': {
    want: wanted(br1, ['10.9.0.3/24']),
    seen: onBridge(['10.0.0.2/24']),
    plan: [
      'ip -n GUEST addr add 10.9.0.3/24 brd 10.9.0.255 dev eth1',
      'ip -n GUEST addr del 10.0.0.2/24 dev eth1',
    ],
    undo: [restored],
  },
  'a leased address is no matter of ours': {
    want: wanted(br1, ['10.0.0.2/24']),
    seen: (() => {
      const { there, ...rest } = connected(['10.0.0.2/24', '10.0.0.77/24']);
      const addrs = there.addrs.map((addr, i) => (i === 1 ? { ...addr, flags: 0 } : addr));
      return seen({ ...rest, guest: { ...rest.guest, link: { ...there, addrs } } });
    })(),
    plan: [],
    undo: [],
  },
  'another gateway': {
    want: wanted(br1, ['10.0.0.2/24@10.0.0.254']),
    seen: onBridge(['10.0.0.2/24'], route('default via 10.0.0.1', 7)),
    plan: ['ip -n GUEST route replace default via 10.0.0.254 dev eth1'],
    undo: ['ip -n GUEST route del default via 10.0.0.254 dev eth1', restored],
  },
  'a gateway where another link has the default route': {
    want: wanted(br1, ['10.0.0.2/24@10.0.0.254']),
    seen: onBridge(['10.0.0.2/24'], route('default via 172.17.0.1', 2)),
    plan: ['ip -n GUEST route replace default via 10.0.0.254 dev eth1'],
    undo: [
      'ip -n GUEST route replace default via 172.17.0.1 (as before)',
      'ip -n GUEST route del default via 10.0.0.254 dev eth1',
      restored,
    ],
  },
  'the default route is lost, the way to its gateway is not': {
    want: wanted(br1, ['10.0.0.2/24@192.168.77.1']),
    seen: onBridge(['10.0.0.2/24'], route('192.168.77.1/32', 7)),
    plan: ['ip -n GUEST route replace default via 192.168.77.1 dev eth1'],
    undo: ['ip -n GUEST route del default via 192.168.77.1 dev eth1', restored],
  },
  'another way of a route, and a new one': {
    want: wanted(br1, ['10.0.0.2/24'], {
      routes: [
        { dst: { family: 4, ip: '10.9.0.0', prefixLen: 16 }, gateway: '10.0.0.8' },
        { dst: { family: 4, ip: '10.8.0.0', prefixLen: 16 } },
      ],
    }),
    seen: onBridge(['10.0.0.2/24'], route('10.9.0.0/16 via 10.0.0.9', 7)),
    plan: [
      'ip -n GUEST route replace 10.9.0.0/16 via 10.0.0.8 dev eth1',
      'ip -n GUEST route replace 10.8.0.0/16 dev eth1',
    ],
    undo: ['ip -n GUEST route del 10.8.0.0/16 dev eth1', restored],
  },
  'a route of another table or metric is another route': {
    want: wanted(br1, ['10.0.0.2/24'], {
      rules: [],
      routes: [
        { dst: { family: 4, ip: '0.0.0.0', prefixLen: 0 }, gateway: '10.0.0.1', table: 100 },
        { dst: { family: 4, ip: '10.9.0.0', prefixLen: 16 }, gateway: '10.0.0.9', metric: 50 },
      ],
    }),
    seen: (() => {
      const facts = onBridge(
        ['10.0.0.2/24'],
        route('10.9.0.0/16 via 10.0.0.9', 7, { protocol: 112 }),
        route('default via 10.0.0.9', 7, { table: 100, protocol: 112 }),
        route('10.8.0.0/16 via 10.0.0.9', 7, { protocol: 112, table: 100 }),
        route('10.8.0.0/16 via 10.0.0.9', 7, { table: 101 }),
      );
      const former = ['10.9.0.0', '10.8.0.0'].map((ip) => ({
        dst: { family: 4 as const, ip, prefixLen: 16 },
        gateway: '10.0.0.9',
        ...(ip === '10.8.0.0' ? { table: 100 } : {}),
      }));
      return {
        ...facts,
        record: recordOf({ want: wanted(br1, ['10.0.0.2/24'], { rules: [], routes: former }) }),
      };
    })(),
    plan: [
      'ip -n GUEST route replace default via 10.0.0.1 dev eth1 table 100',
      'ip -n GUEST route replace 10.9.0.0/16 via 10.0.0.9 dev eth1 metric 50',
      'ip -n GUEST route del 10.9.0.0/16 via 10.0.0.9 dev eth1',
      'ip -n GUEST route del 10.8.0.0/16 via 10.0.0.9 dev eth1 table 100',
    ],
    undo: [
      'ip -n GUEST route replace 10.8.0.0/16 via 10.0.0.9 table 100 (as before)',
      'ip -n GUEST route replace 10.9.0.0/16 via 10.0.0.9 (as before)',
      'ip -n GUEST route del 10.9.0.0/16 via 10.0.0.9 dev eth1 metric 50',
      restored,
    ],
  },
  "IPv6: the kernel's own way to a subnet will do": {
    want: wanted(br1, ['fd00::2/64'], {
      routes: [{ dst: { family: 6, ip: 'fd00::', prefixLen: 64 } }],
    }),
    seen: onBridge(['fd00::2/64'], route('fd00::/64', 7, { protocol: 2, metric: 256 })),
    plan: [],
    undo: [],
  },
  'MAC and MTU, of both ends': {
    want: wanted(br1, ['10.0.0.2/24'], { mac: '02:00:00:00:00:02', mtu: 1400 }),
    seen: onBridge(['10.0.0.2/24']),
    plan: [
      'ip -n GUEST link set eth1 address 02:00:00:00:00:02',
      'ip -n GUEST link set eth1 mtu 1400',
      'ip link set veth1pl42 mtu 1400',
    ],
    undo: [
      'ip link set veth1pl42 mtu 1500',
      'ip -n GUEST link set eth1 mtu 1500',
      'ip -n GUEST link set eth1 address 02:00:00:00:00:99',
      restored,
    ],
  },
  'an MTU too small for IPv6 takes its addresses along': {
    want: wanted(br1, ['10.0.0.2/24'], { mtu: 1200 }),
    seen: onBridge(['10.0.0.2/24', 'fd00::2/64']),
    plan: ['ip -n GUEST link set eth1 mtu 1200', 'ip link set veth1pl42 mtu 1200'],
    undo: ['ip link set veth1pl42 mtu 1500', 'ip -n GUEST link set eth1 mtu 1500', restored],
  },
  'both ends are down': {
    want: wanted(br1),
    seen: (() => {
      const { host, guest, there } = connected([], [], { up: false });
      return seen({
        host: { ...host, hostEnd: { ...host.hostEnd, up: false } },
        guest: { ...guest, link: there },
      });
    })(),
    plan: ['ip -n GUEST link set eth1 up', 'ip link set veth1pl42 up'],
    undo: ['ip link set veth1pl42 down', 'ip -n GUEST link set eth1 down', restored],
  },
  'another bridge, which is new': {
    want: wanted({ kind: 'bridge', name: 'br2' }),
    seen: (() => {
      const { host, guest } = connected([]);
      return seen({ host: { ...host, network: undefined, networkType: undefined }, guest });
    })(),
    plan: ['ip link add br2 type bridge', 'ip link set veth1pl42 master br2'],
    undo: ['ip link set veth1pl42 master br1', 'ip link del br2'],
  },
  'a tag instead of trunks': {
    want: wanted({ ...ovs0, vid: 200 }),
    seen: onOvs({ vid: undefined, trunks: [100, 200] }),
    plan: ['ovs-vsctl set port veth1pl42 tag=200 trunks=[]'],
    undo: ['ovs-vsctl set port veth1pl42 tag=[] trunks=100,200'],
  },
  'other trunks': {
    want: wanted({ kind: 'ovs', name: 'ovs0', trunks: [0, 100] }),
    seen: onOvs({ vid: undefined, trunks: [100, 200] }),
    plan: ['ovs-vsctl set port veth1pl42 trunks=0,100'],
    undo: ['ovs-vsctl set port veth1pl42 trunks=100,200'],
  },
  'the same trunks': {
    want: wanted({ kind: 'ovs', name: 'ovs0', trunks: [100, 200] }),
    seen: onOvs({ vid: undefined, trunks: [100, 200] }),
    plan: [],
    undo: [],
  },
  'from a trunk to a Linux bridge, and back when it fails': {
    want: wanted(br1),
    seen: (() => {
      const facts = onOvs({ vid: undefined, trunks: [100, 200] });
      const bridge = { network: link('br1', 9, { kind: 'bridge' }), networkType: 'bridge' as const };
      return { ...facts, host: { ...facts.host, ...bridge } };
    })(),
    plan: ['ovs-vsctl --if-exists del-port veth1pl42', 'ip link set veth1pl42 master br1'],
    undo: ['ip link set veth1pl42 nomaster', 'ovs-vsctl add-port ovs0 veth1pl42 trunks=100,200'],
  },
  'another tag': {
    want: wanted({ ...ovs0, vid: 200 }),
    seen: onOvs({ vid: 100, trunks: [] }),
    plan: ['ovs-vsctl set port veth1pl42 tag=200'],
    undo: ['ovs-vsctl set port veth1pl42 tag=100'],
  },
};

for (const [name, { want, seen: facts, plan, undo }] of Object.entries(inPlace)) {
  test(`change in place: ${name}`, () => {
    const steps = planAttach(want, facts, 'converge');
    assert.deepEqual(commands(steps), plan);
    assert.deepEqual(undoOf(steps), undo);
  });
}

test('made anew: the predecessor makes room, and goes when its successor is final', () => {
  const facts = onBridge(['10.0.0.2/24'], route('default via 10.0.0.1', 7));
  const want = wanted({ kind: 'macvlan', uplink: 'nic0', mode: 'bridge' });
  const here = { ...facts, host: { ...facts.host, network: nic, networkType: 'nic' as const } };
  const steps = planAttach(want, here, 'converge');
  const stash = /name (pw[0-9a-f]{13})$/.exec(commands(steps)[0] ?? '')?.[1];
  assert.deepEqual(commands(steps), [
    `ip -n GUEST link set eth1 down name ${stash}`,
    'ip link add link nic0 name eth1 mtu 1500 address 02:00:00:00:00:99 netns GUEST type macvlan mode bridge',
    'ip -n GUEST link set eth1 up',
    'ip -n GUEST addr add 10.0.0.2/24 brd 10.0.0.255 dev eth1',
    'ip -n GUEST route replace default via 10.0.0.1 dev eth1',
    `ip -n GUEST link del ${stash}`,
  ]);
  assert.deepEqual(undoOf(steps), [
    'ip -n GUEST route del default via 10.0.0.1 dev eth1',
    'ip -n GUEST link del eth1',
    `ip -n GUEST link set ${stash} name eth1 (and all else as before)`,
  ]);
  assert.deepEqual(
    steps.map(({ final }) => final === true),
    [false, false, false, false, false, true],
  );
});

test('made anew: IPv6 is switched on where new links have it off, whatever the predecessor had', () => {
  const facts = onBridge(['fd00::2/64']);
  const here = {
    ...facts,
    host: { ...facts.host, network: nic, networkType: 'nic' as const },
    guest: { ...facts.guest, ipv6DisabledOnNew: true },
  };
  const steps = planAttach(wanted({ kind: 'macvlan', uplink: 'nic0', mode: 'bridge' }), here, 'converge');
  const switched = 'ip netns exec GUEST sysctl net.ipv6.conf.eth1.disable_ipv6=0';
  assert.ok(commands(steps).includes(switched));
  assert.ok(
    !undoOf(steps).some((line) => line.includes('disable_ipv6')),
    'its undo would hit the predecessor',
  );
});

test('the mode of a child of a NIC is changed in place, passthru is not', () => {
  const child = (kind: 'macvlan' | 'ipvlan', data: Link['data']): Observed => {
    const { guest } = connected([], [], { kind, lower: 4, data });
    return seen({ host: { network: nic, networkType: 'nic' }, guest, record: recordOf() });
  };
  const change = (want: Attachment['network'], facts: Observed): string[] => {
    const steps = planAttach(wanted(want), facts, 'converge');
    return [...commands(steps), ...undoOf(steps).map((command) => `undo: ${command}`)];
  };
  const macvlan = { kind: 'macvlan', uplink: 'nic0' } as const;
  const ipvlan = { kind: 'ipvlan', uplink: 'nic0' } as const;
  const sourceMacs = ['02:00:00:00:00:01'];
  assert.deepEqual(change({ ...macvlan, mode: 'vepa' }, child('macvlan', { mode: 'source', sourceMacs })), [
    'ip -n GUEST link set eth1 type macvlan mode vepa',
    'undo: ip -n GUEST link set eth1 type macvlan mode source macaddr set 02:00:00:00:00:01',
    `undo: ${restored}`,
  ]);
  assert.deepEqual(
    change({ ...macvlan, mode: 'source' }, child('macvlan', { mode: 'source', sourceMacs })),
    [],
  );
  assert.match(
    change({ ...macvlan, mode: 'passthru' }, child('macvlan', { mode: 'bridge' }))[0] ?? '',
    /link del eth1/,
  );
  assert.deepEqual(change({ ...ipvlan, mode: 'l3' }, child('ipvlan', { mode: 'l3', flag: 'vepa' })), []);
  assert.equal(
    change({ ...ipvlan, mode: 'l3', flag: 'private' }, child('ipvlan', { mode: 'l2', flag: 'bridge' }))[0],
    'ip -n GUEST link set eth1 type ipvlan mode l3 private',
  );
});

test("refused: the host's NIC under the wanted name, and a drop-in command where the interface is", () => {
  const { host, guest } = connected([]);
  const taken = { name: 'nic0', up: true, mac: '', mtu: 1500, group: 0, addrs: [], routes: [] };
  assert.throws(
    () => planAttach(wanted(br1), seen({ host, guest, record: recordOf({ taken }) }), 'converge'),
    /it is the NIC nic0 of the host/,
  );
  assert.throws(() => planAttach(wanted(br1), seen({ host, guest }), 'refuse'), /exists and is up|is there/);
});
