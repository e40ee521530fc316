// A NIC's move as a plan: what is refused, and in which order what is done.
import assert from 'node:assert/strict';
import test from 'node:test';
import { PipewrightError } from '../../src/errors.ts';
import { parseCidr } from '../../src/model/address.ts';
import type { Addr, Link, Route } from '../../src/model/link.ts';
import {
  describeUplinkOp,
  type LinkState,
  type ObservedUplink,
  type UplinkOp,
  type UplinkWant,
} from '../../src/model/uplink.ts';
import { planUplinkAdd, planUplinkRemove } from '../../src/plan/uplink.ts';

const cidr = (text: string): Addr['cidr'] => {
  const parsed = parseCidr(text);
  if (!parsed) throw new Error(text);
  return parsed;
};

const link = (name: string, ifindex: number, more: Partial<Link> = {}): Link => ({
  ifindex,
  name,
  altnames: [],
  kind: undefined,
  arphrd: 1,
  mac: '02:00:00:00:00:01',
  mtu: 1500,
  group: 0,
  up: true,
  carrier: true,
  operstate: 'up',
  master: undefined,
  lower: undefined,
  linkNetnsid: undefined,
  data: {},
  ...more,
});

const addr = (text: string, more: Partial<Addr> = {}): Addr => ({
  ifindex: 2,
  cidr: cidr(text),
  scope: 0,
  flags: 0x80,
  ...more,
});

const route = (more: Partial<Route>): Route => ({
  family: 4,
  dev: 2,
  scope: 0,
  table: 254,
  protocol: 3,
  type: 1,
  unknown: [],
  ...more,
});

const nothing = (name: string): LinkState => ({
  name,
  ifindex: 0,
  addrs: [],
  routes: [],
  made: [],
  nexthops: [],
  rules: [],
  neighs: [],
});

const gateway = route({ gateway: '10.0.0.1' });
const subnet = route({ dst: cidr('10.0.0.0/24'), protocol: 2, scope: 253 });
const learned = route({ family: 6, gateway: 'fe80::1', protocol: 9, metric: 1024 });

const state: LinkState = {
  ...nothing('eth0'),
  ifindex: 2,
  addrs: [addr('10.0.0.5/24'), addr('fd00::5/64'), addr('fe80::5/64', { scope: 253 })],
  routes: [gateway, learned],
  made: [subnet],
  rules: [{ family: 4, priority: 77, iif: 'eth0', table: 100, unknown: [] }],
  neighs: [{ ifindex: 2, ip: '10.0.0.1', mac: '02:00:00:00:00:09', state: 2, flags: 0 }],
};

const want: UplinkWant = {
  nic: 'eth0',
  bridge: { kind: 'bridge', name: 'br0' },
  keepMac: false,
  trunks: [],
};

const seen: ObservedUplink = {
  nic: link('eth0', 2),
  master: undefined,
  wireless: false,
  riders: [],
  vlanLinks: [],
  takenBy: undefined,
  alias: undefined,
  uplinkOf: undefined,
  ovsBridgeOfNic: undefined,
  isOurs: false,
  state,
  nicConf: { 'ipv4/rp_filter': '0', 'ipv6/accept_ra': '1', 'ipv6/forwarding': '0', 'ipv6/use_tempaddr': '2' },
  routes: [gateway, subnet, learned],
  bridge: undefined,
  bridgeKind: undefined,
  otherUplinks: [],
  bridgeState: nothing('br0'),
  nicVlans: [],
  bridgeVlans: [],
  otherVlans: [],
  ovsTrunks: [],
  bridgeConf: { 'ipv6/accept_ra': '1', 'ipv6/forwarding': '0', 'ipv6/use_tempaddr': '0' },
  ovsMac: undefined,
  userspaceDatapath: false,
  rpFilterAll: 0,
  group: 0x70000001,
};

const opsOf = (more: Partial<ObservedUplink> = {}, wanted = want): UplinkOp[] =>
  planUplinkAdd(wanted, { ...seen, ...more }).steps.map(({ op }) => op);

const at = (ops: readonly UplinkOp[], is: (op: UplinkOp) => boolean): number => {
  const found = ops.findIndex(is);
  assert.ok(found >= 0);
  return found;
};

const native = { vid: 1, pvid: true, untagged: true } as const;
const tagged = (vid: number, last?: number) => ({
  vid,
  ...(last === undefined ? {} : { last }),
  pvid: false,
  untagged: false,
});
const filtering = link('br0', 3, { kind: 'bridge', data: { vlanFiltering: true, defaultPvid: 1 } });

const refusals: readonly [string, Partial<ObservedUplink>, Partial<UplinkWant>, RegExp][] = [
  ['a Wi-Fi interface', { wireless: true }, {}, /eth0 is a Wi-Fi interface/],
  [
    'a member of a bond',
    { nic: link('eth0', 2, { master: 9 }), master: link('bond0', 9, { kind: 'bond' }) },
    {},
    /eth0 is a member of the bond bond0/,
  ],
  [
    'a port of another bridge',
    { nic: link('eth0', 2, { master: 9 }), master: link('br9', 9, { kind: 'bridge' }) },
    {},
    /eth0 is a port of br9 already/,
  ],
  ['a port of another Open vSwitch', { ovsBridgeOfNic: 'ovs9' }, {}, /the Open vSwitch bridge ovs9/],
  ['another name of a NIC', { nic: undefined, alias: 'enp1s0' }, {}, /eth0 is another name of enp1s0/],
  [
    'the uplink of another bridge',
    {
      nic: link('eth0', 2, { master: 9 }),
      master: link('br9', 9, { kind: 'bridge' }),
      uplinkOf: 'br9',
    },
    {},
    /eth0 is the uplink of br9 already/,
  ],
  ['a NIC in a container', { nic: undefined, takenBy: 'web' }, {}, /moved into the container web/],
  ['the loopback interface', { nic: link('eth0', 2, { arphrd: 772 }) }, {}, /loopback/],
  ['not Ethernet', { nic: link('eth0', 2, { arphrd: 32 }) }, {}, /not an Ethernet interface \(type 32\)/],
  ['a NIC with a macvlan', { riders: ['mv0', 'mv1'] }, {}, /mv0, mv1 ride on eth0/],
  [
    'a bridge with another uplink',
    { bridge: link('br0', 3, { kind: 'bridge' }), bridgeKind: 'bridge', otherUplinks: ['eth1'] },
    {},
    /br0 has the uplink eth1 already/,
  ],
  [
    'an Open vSwitch bridge in the way',
    { bridge: link('br0', 3, { kind: 'tun' }), bridgeKind: 'ovs' },
    {},
    /br0 is an Open vSwitch bridge, not a Linux bridge/,
  ],
  [
    'a bridge that filters VLANs and has none without a tag itself',
    { bridge: filtering, bridgeKind: 'bridge', bridgeVlans: [{ vid: 7, pvid: false, untagged: false }] },
    {},
    /br0 itself carries nothing without a tag/,
  ],
  [
    'a trunk that a sub-interface of the NIC has',
    { vlanLinks: [link('eth0.100', 5, { kind: 'vlan', data: { vid: 100 } })] },
    { trunks: [100] },
    /what comes with tag 100 goes to eth0.100 before the bridge sees it/,
  ],
  [
    'other VLANs of a port that somebody else made',
    {
      bridge: filtering,
      bridgeKind: 'bridge',
      bridgeVlans: [{ vid: 1, pvid: true, untagged: true }],
      nic: link('eth0', 2, { master: 3 }),
      master: filtering,
      state: nothing('eth0'),
      nicVlans: [{ vid: 1, pvid: true, untagged: true }],
    },
    { trunks: [100] },
    /eth0 is a port of br0 already, by somebody else, and carries other VLANs/,
  ],
];

for (const [name, more, wanted, why] of refusals) {
  test(`refused: ${name}`, () => {
    assert.throws(
      () => planUplinkAdd({ ...want, ...wanted }, { ...seen, ...more }),
      (error: unknown) =>
        error instanceof PipewrightError && error.code === 'UPLINK_REFUSED' && why.test(error.message),
    );
  });
}

test('the host is reached at every moment: addresses, port, routes, and only then the NIC loses its own', () => {
  const ops = opsOf();
  const up = at(ops, (op) => op.do === 'link.up');
  const address = at(ops, (op) => op.do === 'addr.add' && op.addr.cidr.ip === '10.0.0.5');
  const port = at(ops, (op) => op.do === 'port.add');
  const ready = at(ops, (op) => op.do === 'link.ready');
  const linkLocal = at(ops, (op) => op.do === 'addr.add' && op.addr.cidr.ip === 'fe80::5');
  const way = at(ops, (op) => op.do === 'route.add');
  const loss = at(ops, (op) => op.do === 'addr.del');
  const order = [up, address, port, ready, linkLocal, way, loss];
  assert.deepEqual(
    order,
    [...order].sort((a, b) => a - b),
  );
});

test('the way back is the same in reverse: the bridge loses its addresses before its port', () => {
  const { undo } = planUplinkAdd(want, seen);
  const address = at(undo, (op) => op.do === 'addr.add' && op.link === 'eth0');
  const way = at(undo, (op) => op.do === 'route.add' && op.link === 'eth0');
  const loss = at(undo, (op) => op.do === 'addr.del' && op.link === 'br0');
  const port = at(undo, (op) => op.do === 'port.del');
  const bridge = at(undo, (op) => op.do === 'bridge.del');
  const order = [address, way, loss, port, bridge];
  assert.deepEqual(
    order,
    [...order].sort((a, b) => a - b),
  );
});

test('a route that the kernel learned is stood in for by one of a higher metric', () => {
  const { standIns, steps } = planUplinkAdd(want, seen);
  assert.deepEqual(
    standIns.map(({ link: name, standIn }) => [name, standIn.metric]),
    [['br0', 1025]],
  );
  const texts = steps.map(({ op }) => describeUplinkOp(op));
  assert.ok(texts.includes('ip -6 route append default via fe80::1 dev br0 metric 1025'));
  assert.ok(!texts.includes('ip -6 route append default via fe80::1 dev br0 metric 1024'));
  // A program that learns routes itself has the kernel not do so, and its routes are moved like any.
  const byProgram = planUplinkAdd(want, { ...seen, nicConf: { ...seen.nicConf, 'ipv6/accept_ra': '0' } });
  assert.deepEqual(byProgram.standIns, []);
});

test('a bridge that is there keeps what is its own', () => {
  const bridge = link('br0', 3, { kind: 'bridge', mac: '02:00:00:00:00:02' });
  const bridgeState = { ...nothing('br0'), ifindex: 3, addrs: [addr('10.7.0.1/16', { ifindex: 3 })] };
  const there = { bridge, bridgeKind: 'bridge', bridgeState } as const;
  const { steps, undo } = planUplinkAdd(want, { ...seen, ...there });
  assert.ok(!steps.some(({ op }) => op.do === 'bridge.add'));
  assert.deepEqual(
    steps.map(({ op }) => op).filter((op) => op.do === 'mac.set'),
    [{ do: 'mac.set', bridge: want.bridge, mac: '02:00:00:00:00:01' }],
  );
  assert.deepEqual(
    undo.filter((op) => op.do === 'mac.set'),
    [{ do: 'mac.set', bridge: want.bridge, mac: '02:00:00:00:00:02' }],
  );
  assert.ok(!undo.some((op) => op.do === 'bridge.del'));
  assert.ok(!undo.some((op) => op.do === 'addr.del' && op.addr.cidr.ip === '10.7.0.1'));
  const kept = opsOf(there, { ...want, keepMac: true });
  assert.deepEqual(
    kept.filter((op) => op.do === 'mac.set'),
    [{ do: 'mac.set', bridge: want.bridge, mac: '02:00:00:00:00:02' }],
  );
  const [own] = opsOf({}, { ...want, keepMac: true });
  assert.equal(own?.do === 'bridge.add' && own.mac, '02:70:70:00:00:01');
});

test('where answers are checked against the way they came, the check is loose until all has moved', () => {
  const ops = opsOf({ rpFilterAll: 1 });
  const values = ops.flatMap((op) =>
    op.do === 'sysctl.set' && op.key === 'ipv4/rp_filter' ? [op.value] : [],
  );
  assert.deepEqual(values, ['2', '0']);
});

test('what is the uplink already needs nothing', () => {
  const bridge = link('br0', 3, { kind: 'bridge' });
  const there = {
    bridge,
    bridgeKind: 'bridge',
    nic: link('eth0', 2, { master: 3 }),
    master: bridge,
    state: nothing('eth0'),
  } as const;
  assert.deepEqual(opsOf(there), []);
});

test('after a boot a port may have the addresses: they move, and it stays a port whatever becomes of that', () => {
  const there = {
    ovsBridgeOfNic: 'ovs0',
    bridge: link('ovs0', 3, { kind: 'tun' }),
    bridgeKind: 'ovs',
  } as const;
  const wanted = { ...want, bridge: { kind: 'ovs', name: 'ovs0' } } as const;
  const { steps, undo } = planUplinkAdd(wanted, { ...seen, ...there });
  assert.ok(steps.some(({ op }) => op.do === 'addr.add' && op.link === 'ovs0'));
  assert.ok(undo.some((op) => op.do === 'addr.add' && op.link === 'eth0'));
  assert.ok(!undo.some((op) => op.do === 'port.del'));
});

test('what the bridge got meanwhile goes back with the NIC, and its own stays', () => {
  const { record } = planUplinkAdd(want, seen);
  const bridge = link('br0', 3, { kind: 'bridge' });
  const now = { ...state, name: 'br0', ifindex: 3, addrs: [addr('10.0.0.99/24'), addr('10.8.0.1/16')] };
  const there = { ...seen, bridge, bridgeKind: 'bridge', bridgeState: now } as const;
  const { steps } = planUplinkRemove(record, there, [cidr('10.8.0.1/16')]);
  const added = steps.flatMap(({ op }) =>
    op.do === 'addr.add' && op.link === 'eth0' ? [op.addr.cidr.ip] : [],
  );
  assert.deepEqual(added, ['10.0.0.99']);
  assert.ok(steps.some(({ op }) => op.do === 'rule.add' && op.rule.iif === 'eth0'));
});

const vlanText = (ops: readonly UplinkOp[]): string[] =>
  ops.map(describeUplinkOp).filter((text) => /vlan|trunks/.test(text));

test('trunks on a Linux bridge: with their tags, and the host without one', () => {
  assert.deepEqual(vlanText(opsOf({}, { ...want, trunks: [100, 200] })), [
    'ip link add br0 address 02:00:00:00:00:01 mtu 1500 type bridge vlan_filtering 1',
    'bridge vlan add dev eth0 vid 100',
    'bridge vlan add dev eth0 vid 200',
  ]);
  // Without a limit, of a bridge that is new, VLANs are not filtered.
  assert.deepEqual(vlanText(opsOf()), []);
});

test('on a bridge that filters VLANs the uplink carries what is used there, and without a tag what the bridge itself does', () => {
  const there = { bridge: filtering, bridgeKind: 'bridge', bridgeVlans: [native] } as const;
  const otherVlans = [
    native,
    tagged(100),
    { vid: 200, pvid: true, untagged: true },
    tagged(300, 302),
    tagged(100),
  ];
  const ops = opsOf({ ...there, otherVlans });
  assert.deepEqual(vlanText(ops), [
    'bridge vlan add dev eth0 vid 100',
    'bridge vlan add dev eth0 vid 200',
    'bridge vlan add dev eth0 vid 300-302',
  ]);
  assert.ok(at(ops, (op) => op.do === 'port.add') < at(ops, (op) => op.do === 'vlan.add'));
  assert.ok(at(ops, (op) => op.do === 'vlan.add') < at(ops, (op) => op.do === 'route.add'));
  assert.deepEqual(vlanText(opsOf({ ...there, otherVlans }, { ...want, trunks: [100] })), [
    'bridge vlan add dev eth0 vid 100',
  ]);
  const host = { ...there, bridgeVlans: [{ vid: 10, pvid: true, untagged: true }, tagged(1)] };
  assert.deepEqual(vlanText(opsOf({ ...host, otherVlans: host.bridgeVlans })), [
    'bridge vlan add dev eth0 vid 1',
    'bridge vlan add dev eth0 vid 10 pvid untagged',
  ]);
});

test('a bridge is switched to filtering where it is ours, or the user says so; and is switched back', () => {
  const trunks = [100];
  const plain = (group: number) =>
    ({
      bridge: link('br0', 3, { kind: 'bridge', group, data: { vlanFiltering: false, defaultPvid: 1 } }),
      bridgeKind: 'bridge',
      bridgeVlans: [native],
    }) as const;
  const ours = planUplinkAdd({ ...want, trunks }, { ...seen, ...plain(0x70000009) });
  assert.deepEqual(vlanText(ours.steps.map(({ op }) => op)), [
    'ip link set br0 type bridge vlan_filtering 1',
    'bridge vlan add dev eth0 vid 100',
  ]);
  assert.deepEqual(vlanText(ours.undo), ['ip link set br0 type bridge vlan_filtering 0']);
  assert.throws(
    () => opsOf(plain(0), { ...want, trunks }),
    (error: unknown) => error instanceof PipewrightError && error.code === 'VLAN_FILTERING_OFF',
  );
  assert.deepEqual(vlanText(opsOf(plain(0), { ...want, trunks, vlanFiltering: true })).slice(0, 2), [
    'ip link property add dev br0 altname pipewright-vlan-filtering-br0',
    'ip link set br0 type bridge vlan_filtering 1',
  ]);
});

test('the trunks of an uplink are changed in place, and changed back', () => {
  const there = {
    ...seen,
    isOurs: true,
    state: nothing('eth0'),
    nic: link('eth0', 2, { master: 3 }),
    master: filtering,
    bridge: filtering,
    bridgeKind: 'bridge',
    bridgeVlans: [native],
    nicVlans: [native, tagged(100, 101)],
    otherVlans: [native, tagged(300)],
  } as const;
  const { steps, undo, inPlace } = planUplinkAdd({ ...want, trunks: [101, 200] }, there);
  assert.equal(inPlace, true);
  assert.deepEqual(
    steps.map(({ op }) => describeUplinkOp(op)),
    ['bridge vlan add dev eth0 vid 200', 'bridge vlan del dev eth0 vid 100'],
  );
  assert.deepEqual(undo.map(describeUplinkOp), [
    'bridge vlan add dev eth0 vid 100',
    'bridge vlan del dev eth0 vid 200',
  ]);
  // Without a limit what is missing is added, and nothing is taken away.
  assert.deepEqual(vlanText(planUplinkAdd(want, there).steps.map(({ op }) => op)), [
    'bridge vlan add dev eth0 vid 300',
  ]);
  assert.deepEqual(planUplinkAdd(want, { ...there, isOurs: false }).steps, []);
});

test('trunks on Open vSwitch leave the host what has no tag, and are changed in place', () => {
  const ovs = { kind: 'ovs', name: 'ovs0' } as const;
  const wanted = { ...want, bridge: ovs, trunks: [100, 200] };
  assert.deepEqual(vlanText(opsOf({}, wanted)), ['ovs-vsctl add-port ovs0 eth0 trunks=0,100,200']);
  const there = {
    ovsBridgeOfNic: 'ovs0',
    ovsTrunks: [0, 100],
    isOurs: true,
    state: nothing('eth0'),
  } as const;
  const { steps, undo } = planUplinkAdd(wanted, { ...seen, ...there });
  assert.deepEqual(vlanText(steps.map(({ op }) => op)), ['ovs-vsctl set port eth0 trunks=0,100,200']);
  assert.deepEqual(vlanText(undo), ['ovs-vsctl set port eth0 trunks=0,100']);
  assert.deepEqual(planUplinkAdd({ ...wanted, trunks: [100] }, { ...seen, ...there }).steps, []);
  assert.deepEqual(vlanText(opsOf(there, { ...wanted, trunks: [] })), ['ovs-vsctl clear port eth0 trunks']);
});

test('an uplink that was removed and goes back carries the VLANs that it had', () => {
  const { record } = planUplinkAdd(want, {
    ...seen,
    bridge: filtering,
    bridgeKind: 'bridge',
    bridgeVlans: [native],
  });
  const nicVlans = [native, tagged(400)];
  const bridgeState = { ...state, name: 'br0', ifindex: 3 };
  const there = { ...seen, bridge: filtering, bridgeState, bridgeVlans: [native], nicVlans };
  const { undo } = planUplinkRemove(record, there, []);
  assert.deepEqual(vlanText(undo), ['bridge vlan add dev eth0 vid 400']);
});
