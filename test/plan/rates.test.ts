import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Attachment } from '../../src/model/attachment.ts';
import { planRates } from '../../src/plan/rates.ts';
import { commands, connected, link, recordOf, seen, undoOf, wanted } from './support.ts';

const onNic = (rate: Attachment['rate']): Attachment =>
  wanted({ kind: 'macvlan', uplink: 'nic0', mode: 'bridge' }, [], { rules: [], ...(rate ? { rate } : {}) });
const there = { link: link('eth1', 7, { kind: 'macvlan' }), addrs: [], routes: [] };
const had = recordOf({ want: onNic({ in: 8_000_000 }) });
const detour = { isThere: true, rate: 8_000_000, hasIngress: true, leads: true };

test('a pair is limited at its two ends', () => {
  const { host, guest } = connected([]);
  const steps = planRates(
    wanted({ kind: 'bridge', name: 'br1' }, [], { rate: { in: 8_000_000, out: 4_000_000 } }),
    seen({ host, guest }),
    'veth1pl42',
  );
  assert.deepEqual(commands(steps), [
    'tc -n GUEST qdisc replace dev eth1 root tbf rate 4000000bit',
    'tc qdisc replace dev veth1pl42 root tbf rate 8000000bit',
  ]);
});

test('what has no end on the host is limited on a detour; taken back in the reverse order', () => {
  const steps = planRates(onNic({ in: 8_000_000 }), seen({}), '');
  assert.deepEqual(commands(steps), [
    'ip link add ifb-eth1 up netns GUEST type ifb',
    'tc -n GUEST qdisc replace dev ifb-eth1 root tbf rate 8000000bit',
    'tc -n GUEST filter add dev eth1 ingress matchall action mirred egress redirect dev ifb-eth1',
  ]);
  assert.deepEqual(undoOf(steps), [
    'tc -n GUEST qdisc del dev eth1 ingress',
    'tc -n GUEST qdisc del dev ifb-eth1 root',
    'ip -n GUEST link del ifb-eth1',
  ]);
});

test('in place: another rate, none, and nothing when it is as it should be', () => {
  const plan = (rate: Attachment['rate']) =>
    commands(planRates(onNic(rate), seen({ guest: { link: there, detour }, record: had }), ''));
  assert.deepEqual(plan({ in: 8_000_001 }), []);
  assert.deepEqual(plan({ in: 16_000_000 }), [
    'tc -n GUEST qdisc replace dev ifb-eth1 root tbf rate 16000000bit',
  ]);
  assert.deepEqual(plan(undefined), [
    'tc -n GUEST qdisc del dev eth1 ingress',
    'ip -n GUEST link del ifb-eth1',
  ]);
});

test('a part of it that somebody has taken away is put back', () => {
  const plan = (now: Partial<typeof detour>) =>
    commands(
      planRates(
        onNic({ in: 8_000_000 }),
        seen({ guest: { link: there, detour: { ...detour, ...now } }, record: had }),
        '',
      ),
    );
  const lead = 'tc -n GUEST filter add dev eth1 ingress matchall action mirred egress redirect dev ifb-eth1';
  const del = 'tc -n GUEST qdisc del dev eth1 ingress';
  assert.deepEqual(plan({ leads: false, hasIngress: false }), [lead]);
  assert.deepEqual(plan({ leads: false }), [del, lead]);
  assert.deepEqual(plan({ isThere: false, rate: undefined as never, leads: false }), [
    'ip link add ifb-eth1 up netns GUEST type ifb',
    'tc -n GUEST qdisc replace dev ifb-eth1 root tbf rate 8000000bit',
    del,
    lead,
  ]);
});
