/** Ports of Open vSwitch that carry more than one VLAN: native VLANs, and tunnels of VLANs (QinQ). */
import assert from 'node:assert/strict';
import test from 'node:test';
import {
  cleanupOvsBridge,
  ovsRows,
  ping,
  pipewright,
  plainNetns,
  run,
  runIn,
  skipUnless,
  sniff,
} from '../lab.ts';
import { reaches } from './support.ts';

const bridge = `ovspwv${process.pid % 10_000}`;

/** The columns of a port that are about VLANs. */
function vlansOf(pid: number): unknown[] {
  const row = ovsRows('Port').find(({ name }) => name === `veth1pl${pid}`);
  return [row?.tag, row?.trunks, row?.vlan_mode];
}

const connect = (pid: number, last: number, ...words: readonly string[]): string =>
  pipewright([
    'attach',
    `pid:${pid}`,
    '--once',
    '--network',
    `ovs:${bridge}`,
    '--address',
    `10.214.7.${last}/24`,
    ...words,
  ]).stdout;

test('ports of Open vSwitch with a native VLAN, and tunnels', async (t) => {
  if (skipUnless(t, 'root', 'ovs')) return;
  const [a, b, c] = [await plainNetns(t, 'ova'), await plainNetns(t, 'ovb'), await plainNetns(t, 'ovc')];
  cleanupOvsBridge(t, bridge);
  t.after(() => {
    for (const { pid } of [a, b, c]) pipewright(['detach', `pid:${pid}`], { expect: 'any' });
  });
  connect(b.pid, 2, '--vlan', '100');

  await t.test('a tag and trunks: the tag is the native VLAN, without a tag; edits are made in place', () => {
    connect(a.pid, 1, '--vlan', '100', '--trunks', '200-201');
    assert.deepEqual(vlansOf(a.pid), [100, [200, 201], 'native-untagged']);
    assert.ok(reaches(a.pid, '10.214.7.2'));
    assert.match(connect(a.pid, 1, '--vlan', '100', '--trunks', '200-201'), /nothing to do/);
    const tagged = ['--vlan', '100', '--trunks', '200', '--vlan-mode', 'native-tagged'];
    assert.match(connect(a.pid, 1, ...tagged), /trunks=200 vlan_mode=native-tagged/);
    assert.deepEqual(vlansOf(a.pid), [100, 200, 'native-tagged']);
    // What comes back has a tag, which the interface itself does not take.
    runIn(b.pid, 'ip', ['neigh', 'flush', 'all']);
    assert.ok(!ping(b.pid, '10.214.7.1'));
    connect(a.pid, 1, '--vlan', '100');
    assert.deepEqual(vlansOf(a.pid), [100, undefined, undefined]);
    assert.ok(reaches(a.pid, '10.214.7.2'));
  });

  await t.test('dot1q-tunnel: what comes is put into the outer VLAN', async () => {
    connect(a.pid, 1, '--vlan', '300', '--vlan-mode', 'dot1q-tunnel');
    connect(c.pid, 3, '--trunks', '300');
    assert.deepEqual(vlansOf(a.pid), [300, undefined, 'dot1q-tunnel']);
    const { lines } = await sniff(c.pid, 'eth1', '', () => ping(a.pid, '10.214.7.3'));
    assert.match(lines.join('\n'), /802\.1Q-QinQ.* vlan 300/);
    connect(a.pid, 1, '--vlan', '100');
    assert.deepEqual(vlansOf(a.pid), [100, undefined, undefined]);
  });

  await t.test('drift: somebody changes the mode, and it is put right', () => {
    const words = ['--vlan', '100', '--trunks', '200'];
    connect(a.pid, 1, ...words);
    run('ovs-vsctl', ['set', 'port', `veth1pl${a.pid}`, 'vlan_mode=native-tagged', 'cvlans=5']);
    assert.match(connect(a.pid, 1, ...words), /vlan_mode=native-untagged cvlans=\[\]/);
    assert.deepEqual(vlansOf(a.pid), [100, 200, 'native-untagged']);
  });
});
