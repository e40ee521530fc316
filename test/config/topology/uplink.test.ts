// `uplink` of networks of kind bridge and ovs.
import assert from 'node:assert/strict';
import test from 'node:test';
import { parseTopology } from '../../../src/config/topology/load.ts';
import { PipewrightError } from '../../../src/errors.ts';

const parse = (...networks: readonly string[]) => {
  const text = `networks:\n${networks.map((network) => `  ${network}\n`).join('')}`;
  return parseTopology([{ file: 't.yaml', text }]).networks;
};

test('a bridge has an uplink', () => {
  const [lan, vlans] = parse(
    'lan: { kind: bridge, bridge: br0, uplink: eth0 }',
    'vlans: { kind: ovs, bridge: ovs0, uplink: eth1, vlan: 100 }',
  );
  assert.equal(lan && 'nic' in lan ? lan.nic : undefined, 'eth0');
  assert.equal(vlans && 'nic' in vlans ? vlans.nic : undefined, 'eth1');
});

test('each host has its own', () => {
  const text = [
    'hosts: [a, b]',
    'networks:',
    '  lan: { kind: ovs, bridge: ovs0, uplink: { a: eth0, b: enp3s0 } }',
    '  local: { kind: bridge, uplink: { a: eth1 } }',
  ].join('\n');
  const nics = (host: string) =>
    parseTopology([{ file: 't.yaml', text }], host).networks.map((network) =>
      'nic' in network ? network.nic : undefined,
    );
  assert.deepEqual(nics('a'), ['eth0', 'eth1']);
  assert.deepEqual(nics('b'), ['enp3s0', undefined]);
});

test('two VLANs of one bridge name the same uplink, or one of them does', () => {
  parse(
    'a: { kind: ovs, bridge: ovs0, uplink: eth0, vlan: 100 }',
    'b: { kind: ovs, bridge: ovs0, uplink: eth0, vlan: 200 }',
    'c: { kind: ovs, bridge: ovs0, vlan: 300 }',
  );
});

const refusals: readonly [string, readonly string[], RegExp][] = [
  [
    'one NIC on two bridges',
    ['a: { kind: bridge, uplink: eth0 }', 'b: { kind: ovs, uplink: eth0 }'],
    /eth0 cannot be a port of both a and b/,
  ],
  [
    'two uplinks of one bridge',
    [
      'a: { kind: ovs, bridge: ovs0, uplink: eth0, vlan: 1 }',
      'b: { kind: ovs, bridge: ovs0, uplink: eth1, vlan: 2 }',
    ],
    /ovs0 cannot have both eth0 and eth1 as its uplink/,
  ],
  [
    'a NIC with macvlans',
    ['a: { kind: macvlan, uplink: eth0 }', 'b: { kind: bridge, uplink: eth0 }'],
    /eth0 is a port of b with b: nothing else can use it/,
  ],
  [
    'a NIC that goes into a container',
    ['a: { kind: bridge, bridge: br0, uplink: eth0 }', 'b: { kind: phys, uplink: eth0 }'],
    /eth0 is a port of br0 with a: nothing else can use it/,
  ],
  ['a name that no NIC can have', ['a: { kind: bridge, uplink: eth/0 }'], /"eth\/0" .*slash/],
  ['a kind without one', ['a: { kind: dummy, uplink: eth0 }'], /a network of kind dummy has no uplink/],
];

for (const [name, networks, why] of refusals) {
  test(`refused: ${name}`, () => {
    assert.throws(
      () => parse(...networks),
      (error: unknown) => error instanceof PipewrightError && why.test(error.message),
    );
  });
}
