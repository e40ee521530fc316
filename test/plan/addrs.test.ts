import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseCidr } from '../../src/model/address.ts';
import type { Network } from '../../src/model/attachment.ts';
import { planAddrs } from '../../src/plan/addrs.ts';
import { planAttach } from '../../src/plan/plan.ts';
import { commands, connected, seen, wanted } from './support.ts';

const bridge: Network = { kind: 'bridge', name: 'br1' };
const both = ['10.0.0.2/24', 'fd00::2/64'];
const cidrs = both.map((text) => parseCidr(text)!);
const probe = (network: Network, dad: boolean | undefined, verified: readonly string[] = []): string[] => {
  const want = wanted(network, both, dad === undefined ? {} : { dad });
  return commands(planAddrs(want, { ...seen(), verified: new Set(verified) }, cidrs)).slice(0, -2);
};

test('asked for on the link before any of them is used, when that is wanted', () => {
  const asked = ['ip netns exec GUEST arping -D -c 3 -I eth1 10.0.0.2 fd00::2'];
  assert.deepEqual(probe(bridge, true), asked);
  assert.deepEqual(probe({ kind: 'macvlan', uplink: 'nic0', mode: 'bridge' }, true), asked);
  assert.deepEqual(probe({ kind: 'phys', uplink: 'nic0' }, true), asked);
  assert.deepEqual(probe(bridge, undefined), []);
  assert.deepEqual(probe(bridge, false), []);
});

test('what was asked for already is not asked for again, and IPv6 is usable at once', () => {
  assert.deepEqual(probe(bridge, true, ['10.0.0.2']), ['ip netns exec GUEST arping -D -c 3 -I eth1 fd00::2']);
  assert.deepEqual(probe(bridge, true, ['10.0.0.2', 'fd00::2']), []);
  const want = wanted(bridge, both, { dad: true });
  assert.deepEqual(
    commands(planAddrs(want, { ...seen(), verified: new Set(['fd00::2']) }, cidrs)).slice(-2),
    [
      'ip -n GUEST addr add 10.0.0.2/24 brd 10.0.0.255 dev eth1',
      'ip -n GUEST addr add fd00::2/64 dev eth1 nodad',
    ],
  );
});

test('an ipvlan asks by its uplink, whose MAC address it has; who has no layer 2 asks nobody', () => {
  const ipvlan = (mode: 'l2' | 'l3' | 'l3s', vid?: number): Network => ({
    kind: 'ipvlan',
    uplink: 'nic0',
    mode,
    ...(vid === undefined ? {} : { vid }),
  });
  assert.deepEqual(probe(ipvlan('l2'), true), ['arping -D -c 3 -I nic0 10.0.0.2 fd00::2']);
  assert.deepEqual(probe(ipvlan('l2', 7), true), ['arping -D -c 3 -I nic0.7 10.0.0.2 fd00::2']);
  for (const network of [ipvlan('l3'), ipvlan('l3s'), { kind: 'dummy' } as const]) {
    assert.deepEqual(probe(network, true), []);
  }
});

test('of an interface that is there only new addresses are asked for, before the old ones go', () => {
  const { host, guest, record } = connected(['10.0.0.2/24']);
  const plan = (addrs: string[]) =>
    commands(
      planAttach(wanted(bridge, addrs, { dad: true }), seen({ host, guest, record }), 'converge'),
    ).filter((command) => !command.includes('promote_secondaries'));
  assert.deepEqual(plan(['10.0.0.2/24']), []);
  assert.deepEqual(plan(['10.0.0.3/24']), [
    'ip netns exec GUEST arping -D -c 3 -I eth1 10.0.0.3',
    'ip -n GUEST addr add 10.0.0.3/24 brd 10.0.0.255 dev eth1',
    'ip -n GUEST addr del 10.0.0.2/24 dev eth1',
  ]);
  // It is its own already, with another prefix length.
  assert.deepEqual(plan(['10.0.0.2/16']), [
    'ip -n GUEST addr add 10.0.0.2/16 brd 10.0.255.255 dev eth1',
    'ip -n GUEST addr del 10.0.0.2/24 dev eth1',
  ]);
});
