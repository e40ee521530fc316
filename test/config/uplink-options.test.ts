// The options of `pipewright uplink`.
import assert from 'node:assert/strict';
import test from 'node:test';
import { parseConfirm, parseTarget, parseUplink } from '../../src/config/uplink-options.ts';
import { PipewrightError } from '../../src/errors.ts';

const refused = (why: RegExp) => (error: unknown) =>
  error instanceof PipewrightError && error.code === 'BAD_ARGUMENT' && why.test(error.message);

test('a NIC and its bridge', () => {
  assert.deepEqual(parseUplink('eth0', { network: 'ovs:ovs0', keepMac: true, trunks: '200, 100,200' }), {
    nic: 'eth0',
    bridge: { kind: 'ovs', name: 'ovs0' },
    keepMac: true,
    trunks: [100, 200],
  });
});

test('times for a confirmation', () => {
  const times: readonly [string | undefined, number][] = [
    [undefined, 30_000],
    ['0', 0],
    ['45', 45_000],
    ['30s', 30_000],
    ['2m', 120_000],
    ['1500ms', 1500],
    ['60m', 3_600_000],
  ];
  for (const [text, ms] of times) assert.equal(parseConfirm(text), ms);
  for (const text of ['', 's', '-1', '1h', '61m', '1.5s', '3 s'])
    assert.throws(() => parseConfirm(text), refused(/the time for a confirmation is/));
});

test('what is wrong is told in one line', () => {
  const network = 'bridge:br0';
  const wrong: readonly [() => unknown, RegExp][] = [
    [() => parseUplink('a/b', { network, keepMac: false }), /the name of a NIC contains a slash/],
    [() => parseUplink('eth0', { network: 'macvlan:eth1', keepMac: false }), /bridge:NAME or ovs:NAME/],
    [() => parseUplink('eth0', { network: 'bridge:', keepMac: false }), /the name of a bridge is empty/],
    [() => parseUplink('eth0', { network, keepMac: false, trunks: '1,x' }), /"x" is not a VLAN id/],
    [
      () => parseUplink('eth0', { network: 'ovs:ovs0', keepMac: false, vlanFiltering: true }),
      /Open vSwitch filters VLANs in any case/,
    ],
    [() => parseTarget('ifcfg'), /one of netplan, networkd, ifupdown, nmcli/],
  ];
  for (const [act, why] of wrong) assert.throws(act, refused(why));
});
