import assert from 'node:assert/strict';
import test from 'node:test';
import type { SriovNetwork } from '../../src/model/attachment.ts';
import type { Observed } from '../../src/model/observed.ts';
import { planDetach } from '../../src/plan/detach.ts';
import { planAttach } from '../../src/plan/plan.ts';
import { freeVf } from '../../src/plan/sriov.ts';
import { commands, connected, link, now, recordOf, seen, undoOf, wanted } from './support.ts';

const network: SriovNetwork = { kind: 'sriov', uplink: 'eth0', vf: { vid: 100, spoofCheck: true } };
const was = { mac: '02:00:00:00:00:01', vid: 0, spoofCheck: false };
const virtual = { link: link('eth4', 9, { up: false }), addrs: [], routes: [] };

test('the first virtual function that nothing uses', () => {
  const vfs = ['eth4', undefined, 'eth6', 'eth7', 'eth8'].map((ifname, index) => ({ index, ifname }));
  const links = [
    link('eth0', 2),
    link('eth4', 3, { master: 8 }),
    link('eth6', 4),
    link('eth7', 5),
    link('eth7.7', 6, { lower: 5, kind: 'vlan' }),
    link('eth8', 7),
  ];
  const found = freeVf(vfs, links, ({ name }) => name === 'eth6');
  assert.deepEqual([found?.index, found?.link.name], [4, 'eth8']);
  assert.equal(
    freeVf(vfs.slice(0, 4), links, ({ name }) => name === 'eth6'),
    undefined,
  );
});

test('it is set, moved, and comes back as it was when that fails', () => {
  const facts = seen({
    host: { network: link('eth0', 2), networkType: 'nic', moving: virtual, vf: { index: 3, is: was } },
  });
  const steps = planAttach(wanted(network, [], { mac: '02:00:00:00:00:07' }), facts, 'converge');
  assert.deepEqual(commands(steps), [
    'ip link set eth0 vf 3 mac 02:00:00:00:00:07 vlan 100 spoofchk on',
    'ip link set eth4 netns GUEST name eth1',
    'ip -n GUEST link set eth1 address 02:00:00:00:00:07 up',
  ]);
  assert.deepEqual(undoOf(steps), [
    'ip -n GUEST link set eth1 netns HOST name eth4',
    'ip link set eth0 vf 3 mac 02:00:00:00:00:01 vlan 0 spoofchk off',
  ]);
});

test('its settings are changed where it is, and only those that are asked for', () => {
  const { guest } = connected([], [], { kind: undefined });
  const record = recordOf({ network, vf: { uplink: 'eth0', index: 3, was } });
  const facts = (is: typeof was): Observed =>
    seen({ host: { network: link('eth0', 2), networkType: 'nic', vf: { index: 3, is } }, guest, record });
  const plan = (want: SriovNetwork, is: typeof was): string[] =>
    commands(planAttach(wanted(want), facts(is), 'converge'));
  const set = { ...was, vid: 100, spoofCheck: true };
  assert.deepEqual(plan(network, set), []);
  assert.deepEqual(plan({ ...network, vf: {} }, set), []);
  assert.deepEqual(plan({ ...network, vf: { vid: 200 } }, set), ['ip link set eth0 vf 3 vlan 200']);
  assert.throws(() => plan({ ...network, uplink: 'eth9' }, set), /it is not the NIC that is asked for/);
});

test('there is none: why, and what to do', () => {
  const plan = (vfs: { made: number; most: number }) =>
    planAttach(wanted(network), seen({ host: { network: link('eth0', 2), vfs } }), 'converge');
  assert.throws(() => plan({ made: 0, most: 0 }), /has no virtual functions/);
  assert.throws(() => plan({ made: 0, most: 63 }), /is switched on; it can have 63/);
  assert.throws(() => plan({ made: 4, most: 63 }), /none of its 4 virtual functions is free/);
});

test('it goes home, and then is as it was', () => {
  const { guest } = connected([]);
  const taken = { name: 'eth4', up: false, mac: was.mac, mtu: 1500, group: 0, addrs: [], routes: [] };
  const plan = planDetach({
    ifname: 'eth1',
    record: recordOf({ network, taken, group: now, vf: { uplink: 'eth0', index: 3, was } }),
    guestLink: guest.link.link,
    cameHome: false,
    routes: [],
    guestIfindexes: [],
    hostEnd: undefined,
    ovsPort: undefined,
    bridge: undefined,
    ovsBridge: undefined,
    vlanLink: undefined,
    vlanShared: false,
    firewallRule: false,
    bridgeShared: false,
  });
  assert.deepEqual(commands(plan.interface), [
    'ip -n GUEST link set eth1 netns HOST name eth4',
    'ip link set eth0 vf 3 mac 02:00:00:00:00:01 vlan 0 spoofchk off',
  ]);
});
