import assert from 'node:assert/strict';
import test from 'node:test';
import type { GuestVlan } from '../../src/model/attachment.ts';
import type { LinkWithAddrs, ObservedVlan } from '../../src/model/observed.ts';
import { planAttach } from '../../src/plan/plan.ts';
import {
  addr,
  addrSpec,
  commands,
  connected,
  earlier,
  link,
  recordOf,
  seen,
  undoOf,
  wanted,
} from './support.ts';

const br1 = { kind: 'bridge', name: 'br1' } as const;
const vlan = (vid: number, ...addrs: readonly string[]): GuestVlan => ({
  vid,
  ifname: `eth1.${vid}`,
  cidrs: addrs.flatMap((text) => addrSpec(text).cidr ?? []),
});

/** eth1.VID on eth1 (ifindex 7), as an earlier transaction made it. */
const there = (vid: number, addrs: readonly string[], more = {}): ObservedVlan => {
  const made: LinkWithAddrs = {
    link: link(`eth1.${vid}`, vid, { kind: 'vlan', group: earlier, lower: 7, data: { vid }, ...more }),
    addrs: addrs.map((text) => addr(text, vid)),
    routes: [],
  };
  return { ifname: `eth1.${vid}`, link: made, ipv6Disabled: false };
};

const plan = (
  vlans: readonly GuestVlan[] | undefined,
  present: readonly ObservedVlan[],
  was: readonly GuestVlan[] = [],
) => {
  const { host, guest } = connected([]);
  const want = wanted(br1, [], { ...(vlans && { vlans }) });
  const record = recordOf({ want: wanted(br1, [], { vlans: was }) });
  return planAttach(want, seen({ host, guest: { ...guest, vlans: present }, record }), 'converge');
};

test('a new interface has them when it is up', () => {
  const want = wanted(br1, [], { vlans: [vlan(100, '10.1.0.2/24'), vlan(200)] });
  assert.deepEqual(commands(planAttach(want, seen(), 'converge')).slice(2), [
    'ip -n GUEST link set eth1 up',
    'ip -n GUEST link add link eth1 name eth1.100 type vlan id 100',
    'ip -n GUEST link set eth1.100 up',
    'ip -n GUEST addr add 10.1.0.2/24 brd 10.1.0.255 dev eth1.100',
    'ip -n GUEST link add link eth1 name eth1.200 type vlan id 200',
    'ip -n GUEST link set eth1.200 up',
  ]);
});

test('what is there is changed in place, and comes back by one operation', () => {
  const steps = plan([vlan(100, '10.1.0.3/24')], [there(100, ['10.1.0.2/24'], { up: false })]);
  assert.deepEqual(commands(steps), [
    'ip -n GUEST link set eth1.100 up',
    'ip -n GUEST addr del 10.1.0.2/24 dev eth1.100',
    'ip -n GUEST addr add 10.1.0.3/24 brd 10.1.0.255 dev eth1.100',
  ]);
  assert.deepEqual(undoOf(steps), ['ip -n GUEST link set eth1.100 name eth1.100 (and all else as before)']);
  assert.deepEqual(plan([vlan(100, '10.1.0.2/24')], [there(100, ['10.1.0.2/24'])]), []);
});

test('an address that goes takes those of its subnet along: they are added again', () => {
  const steps = plan(
    [vlan(100, '10.1.0.3/24', '10.2.0.1/24')],
    [there(100, ['10.1.0.2/24', '10.1.0.3/24', '10.2.0.1/24'])],
  );
  assert.deepEqual(commands(steps), [
    'ip -n GUEST addr del 10.1.0.2/24 dev eth1.100',
    'ip -n GUEST addr add 10.1.0.3/24 brd 10.1.0.255 dev eth1.100',
  ]);
});

test('one that is asked for no more goes, unless nothing is said of them', () => {
  const present = [there(100, []), there(200, [])];
  const steps = plan([vlan(100)], present, [vlan(100), vlan(200)]);
  assert.deepEqual(commands(steps), ['ip -n GUEST link del eth1.200']);
  assert.ok(steps[0]?.final);
  assert.deepEqual(plan(undefined, present, [vlan(100), vlan(200)]), []);
});

test('another interface of that name is not touched', () => {
  const wrong = [{ group: 0 }, { lower: 8 }, { data: { vid: 5 } }, { kind: 'veth' }];
  for (const more of wrong) assert.throws(() => plan([vlan(100)], [there(100, [], more)]), /eth1\.100 in/);
});

test('made anew, the interface gets them again, also when nothing is said of them', () => {
  const { host, guest } = connected([]);
  const record = recordOf({ want: wanted(br1, [], { vlans: [vlan(100, '10.1.0.2/24')] }) });
  const facts = seen({ host, guest: { ...guest, vlans: [there(100, ['10.1.0.2/24'])] }, record });
  const steps = planAttach(wanted({ kind: 'dummy' }), facts, 'converge');
  const plan = commands(steps).map((command) => command.replace(/pw[0-9a-f]{13}/, 'STASH'));
  assert.deepEqual(plan, [
    'ip -n GUEST link set eth1.100 down name STASH',
    'ip -n GUEST link set eth1 down name STASH',
    'ip link add eth1 address 02:00:00:00:00:99 type dummy',
    'ip -n GUEST link set eth1 up',
    'ip -n GUEST link add link eth1 name eth1.100 type vlan id 100',
    'ip -n GUEST link set eth1.100 up',
    'ip -n GUEST addr add 10.1.0.2/24 brd 10.1.0.255 dev eth1.100',
    'ip -n GUEST link del STASH',
  ]);
});
