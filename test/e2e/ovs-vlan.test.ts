/** Ports of Open vSwitch that carry more than one VLAN: native VLANs, and tunnels of VLANs (QinQ). */
import assert from 'node:assert/strict';
import test from 'node:test';
import {
  cleanupOvsBridge,
  ipLink,
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

  await t.test('what leaves by the port, in the words of Open vSwitch', () => {
    const mac = ipLink(a.pid, 'eth1')?.address ?? '';
    /** What it would do with a frame from this port. */
    const trace = (from: number, to: string, frame: string): string => {
      const port = run('ovs-vsctl', ['get', 'interface', `veth1pl${from}`, 'ofport']).stdout.trim();
      const flow = `in_port=${port},dl_src=02:00:00:00:00:01,dl_dst=${to},${frame}`;
      const { stdout } = run('ovs-appctl', ['ofproto/trace', bridge, flow]);
      return /Datapath actions: (.*)/.exec(stdout)?.[1] ?? stdout;
    };
    const back = (...words: readonly string[]): string => {
      connect(a.pid, 1, '--vlan', '100', '--trunks', '200', ...words);
      return trace(b.pid, mac, 'dl_type=0x0800');
    };
    assert.match(back('--vlan-mode', 'native-tagged'), /^push_vlan\(vid=100,pcp=0\)(,\d+)+$/);
    // The bridge's own port, where it is flooded to, carries all with their tags.
    assert.match(back(), /^(push_vlan\(vid=100,pcp=0\),\d+,pop_vlan,)?\d+$/);
    connect(a.pid, 1, '--vlan', '300', '--vlan-mode', 'dot1q-tunnel');
    const tunnelled = trace(a.pid, '02:00:00:00:00:02', 'dl_vlan=10,dl_vlan_pcp=0');
    assert.match(tunnelled, /^push_vlan\(tpid=0x88a8,vid=300,pcp=0\)/);
  });

  await t.test('drift: somebody changes the mode, and it is put right', () => {
    const words = ['--vlan', '100', '--trunks', '200'];
    connect(a.pid, 1, ...words);
    run('ovs-vsctl', ['set', 'port', `veth1pl${a.pid}`, 'vlan_mode=native-tagged', 'cvlans=5']);
    assert.match(connect(a.pid, 1, ...words), /vlan_mode=native-untagged cvlans=\[\]/);
    assert.deepEqual(vlansOf(a.pid), [100, 200, 'native-untagged']);
  });
});
