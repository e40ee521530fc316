import assert from 'node:assert/strict';
import { test } from 'node:test';
import { stableSecretOf } from '../../src/dhcp/identity.ts';
import { formerSysctls } from '../../src/plan/extras.ts';
import { ipv6Sysctls, withStableSecret } from '../../src/plan/ipv6.ts';
import { planAttach } from '../../src/plan/plan.ts';
import { addr, commands, earlier, link, recordOf, route, seen, wanted } from './support.ts';

const stable = { mode: 'slaac', interfaceId: 'stable-privacy' } as const;

test('a secret is stable, of this host and interface alone, and written as the kernel prints it', () => {
  const secret = stableSecretOf('machine', 'web', 'eth1');
  assert.match(secret, /^([0-9a-f]{4}:){7}[0-9a-f]{4}$/);
  assert.equal(stableSecretOf('machine', 'web', 'eth1'), secret);
  const others = [
    stableSecretOf('other', 'web', 'eth1'),
    stableSecretOf('machine', 'db', 'eth1'),
    stableSecretOf('machine', 'web', 'eth2'),
  ];
  assert.equal(new Set([secret, ...others]).size, 4);
});

test('what the kernel is told of each way', () => {
  const own = ipv6Sysctls(stable, undefined);
  assert.deepEqual([own['ipv6/autoconf'], own['ipv6/addr_gen_mode']], ['1', '2']);
  const leased = ipv6Sysctls({ mode: 'dhcp', interfaceId: 'eui64' }, true);
  assert.deepEqual([leased['ipv6/autoconf'], leased['ipv6/addr_gen_mode']], ['0', '0']);
  assert.equal(leased['ipv6/accept_ra_defrtr'], '0', 'no default route by this interface');
  assert.deepEqual(Object.keys(withStableSecret(own, stable, 'secret'))[0], 'ipv6/stable_secret');
  const mine = withStableSecret({ 'ipv6/stable_secret': 'mine' }, stable, 'secret');
  assert.deepEqual(mine, { 'ipv6/stable_secret': 'mine' });
  assert.equal(
    'ipv6/stable_secret' in withStableSecret(own, { ...stable, interfaceId: 'eui64' }, 'x'),
    false,
  );
});

test('all of it before the interface is up, and IPv6 switched on', () => {
  const sysctls = { 'ipv6/stable_secret': 's', 'ipv6/addr_gen_mode': '2' };
  const want = { ...wanted({ kind: 'bridge', name: 'br1' }, []), ipv6: stable, sysctls };
  const bridge = link('br1', 3, { kind: 'bridge' });
  const plan = planAttach(
    want,
    seen({ host: { network: bridge, networkType: 'bridge' }, guest: { ipv6Disabled: true } }),
    'refuse',
  );
  assert.deepEqual(commands(plan).slice(1), [
    'ip netns exec GUEST sysctl net/ipv6/conf/eth1/stable_secret=s',
    'ip netns exec GUEST sysctl net/ipv6/conf/eth1/addr_gen_mode=2',
    'ip netns exec GUEST sysctl net.ipv6.conf.eth1.disable_ipv6=0',
    'ip -n GUEST link set eth1 up',
  ]);
});

const onBridge = (more: object) => wanted({ kind: 'bridge', name: 'br1' }, [], { rules: [], ...more });

/** An interface that has what `ipv6` brought, and what was there before. */
function withIpv6(record: object, addrs = [addr('fd00::7/64', 7, { flags: 0 })]) {
  const bridge = link('br1', 3, { kind: 'bridge' });
  const own = link('eth1', 7, { kind: 'veth', group: earlier, lower: 9 });
  const routes = [
    route('default via fe80::1', 7, { protocol: 9, metric: 1024 }),
    route('fd00::/64', 7, { protocol: 2, metric: 256 }),
    route('fe80::/64', 7, { protocol: 2, metric: 256 }),
  ];
  return seen({
    host: {
      ...{ network: bridge, networkType: 'bridge' as const },
      hostEnd: link('veth1pl42', 9, { kind: 'veth', master: 3, group: earlier, lower: 7 }),
    },
    guest: {
      link: { link: own, addrs, routes },
      sysctls: { 'ipv6/accept_ra': '2', 'ipv6/autoconf': '1', 'ipv6/ndisc_notify': '5' },
    },
    record: recordOf({
      want: onBridge({ ipv6: stable, sysctls: { 'ipv6/accept_ra': '2', 'ipv6/ndisc_notify': '1' } }),
      formerSysctls: { 'ipv6/accept_ra': '1', 'ipv6/ndisc_notify': '0', 'ipv6/disable_ipv6': '1' },
      ...record,
    }),
  });
}

test('asked for no more, it goes back to what was before', () => {
  const del = 'ip -n GUEST addr del fd00::7/64 dev eth1';
  assert.deepEqual(commands(planAttach(onBridge({}), withIpv6({}), 'converge')), [
    // Not ndisc_notify, which somebody else has set since.
    'ip netns exec GUEST sysctl net/ipv6/conf/eth1/accept_ra=1',
    del,
    'ip -n GUEST route del default via fe80::1 dev eth1 metric 1024',
    'ip -n GUEST route del fd00::/64 dev eth1 metric 256',
    'ip netns exec GUEST sysctl net.ipv6.conf.eth1.disable_ipv6=1',
  ]);
  const asked = onBridge({ ipv6: stable, sysctls: { 'ipv6/accept_ra': '2' } });
  assert.deepEqual(commands(planAttach(asked, withIpv6({}), 'converge')), []);
  // A command does not say all that is wanted.
  const { rules: _, ...command } = onBridge({});
  assert.deepEqual(commands(planAttach(command, withIpv6({}), 'converge')), []);
  // What somebody put there needs IPv6, and its subnet.
  const others = [addr('fd00::7/64', 7, { flags: 0 }), addr('fd00::9/64', 7)];
  assert.deepEqual(
    commands(planAttach(onBridge({ sysctls: { 'ipv6/accept_ra': '2' } }), withIpv6({}, others), 'converge')),
    [del, 'ip -n GUEST route del default via fe80::1 dev eth1 metric 1024'],
  );
});

test('what is noted is what was before the first time', () => {
  const want = onBridge({ ipv6: stable, sysctls: { 'ipv6/accept_ra': '2', 'ipv6/autoconf': '0' } });
  const facts = withIpv6({});
  assert.deepEqual(formerSysctls(want, facts, planAttach(want, facts, 'converge')), {
    'ipv6/accept_ra': '1',
    'ipv6/autoconf': '1',
    'ipv6/disable_ipv6': '1',
  });
  const none = onBridge({});
  assert.equal(formerSysctls(none, facts, planAttach(none, facts, 'converge')), undefined);
});

test('what is left of an earlier life of the container goes first', () => {
  const host = {
    ...{ network: link('br1', 3, { kind: 'bridge' }), networkType: 'bridge' as const },
    formerEnd: link('veth1pl41', 8, { kind: 'veth', group: earlier }),
  };
  const plan = planAttach(onBridge({}), seen({ host }), 'converge');
  assert.equal(commands(plan)[0], 'ip link del veth1pl41');
  assert.match(plan[0]?.because ?? '', /earlier life/);
});
