import assert from 'node:assert/strict';
import { test } from 'node:test';
import { stableSecretOf } from '../../src/dhcp/identity.ts';
import { ipv6Sysctls, withStableSecret } from '../../src/plan/ipv6.ts';
import { planAttach } from '../../src/plan/plan.ts';
import { commands, link, seen, wanted } from './support.ts';

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
