import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { parseTopology } from '../../../src/config/topology/load.ts';
import { formatCidr } from '../../../src/model/address.ts';
import { aboutPeers, otherEnds, ownEnds, pairsOf, peerNames } from '../../../src/plan/reachability.ts';
import { resolveTopology } from '../../../src/plan/topology.ts';

const text = `hosts: [a, b]
networks:
  green: { kind: ovs, bridge: ovs0, vlan: 100, subnet: 10.0.0.0/24, range: { a: 10.0.0.10-10.0.0.19, b: 10.0.0.20-10.0.0.29 } }
  blue: { kind: ovs, bridge: ovs0, vlan: 200, subnet: 10.0.0.0/24 }
  nic: { kind: macvlan, uplink: { a: eth0, b: enp3s0 }, subnet: 10.9.0.0/24, hostAddress: { a: 10.9.0.1/24, b: 10.9.0.2/24 } }
  only: { kind: bridge, bridge: br9, host: b }
attachments:
  - { container: test1, host: a, network: green, addresses: 10.0.0.1/24 }
  - { container: test2, host: b, network: green, addresses: 10.0.0.2/24 }
  - { container: test3, host: [a], network: blue, addresses: 10.0.0.3/24 }
  - { container: test4, host: b, network: blue, addresses: 10.0.0.4/24 }
  - { container: any, network: nic, addresses: 10.9.0.9/24 }
expect:
  - test1 -> test2 tcp/80
  - test4 -/-> test1
`;

const read = (host?: string, yaml = text) => parseTopology([{ file: 'lab.yaml', text: yaml }], host);

const problems = (yaml: string, host = 'a'): string => {
  try {
    read(host, yaml);
  } catch (error) {
    return (error as Error).message;
  }
  return '';
};

describe('files about several hosts', () => {
  test('each host has its own part, and knows of the others', () => {
    const a = read('a');
    assert.equal(a.host, 'a');
    assert.deepEqual(
      a.networks.map(({ name }) => name),
      ['green', 'blue', 'nic'],
    );
    const nic = a.networks.find(({ name }) => name === 'nic');
    assert.ok(nic && 'uplink' in nic);
    assert.equal(nic.uplink, 'eth0');
    assert.deepEqual(nic.hostAddresses.map(formatCidr), ['10.9.0.1/24']);
    const names = (topology: ReturnType<typeof read>) =>
      topology.attachments.map(({ selector }) => selector.by === 'name' && selector.name);
    assert.deepEqual(names(a), ['test1', 'test3', 'any']);
    assert.deepEqual(
      a.expects.map(({ from, to }) => `${from} ${to}`),
      ['test1 test2'],
    );
    assert.deepEqual(
      a.elsewhere?.map((other) => [other.host, names(other)]),
      [['b', ['test2', 'test4', 'any']]],
    );
    assert.equal(read('b').networks.find(({ name }) => name === 'green')?.ranges[0]?.first, '10.0.0.20');
  });

  test('a host that is none of them is told which there are', () => {
    assert.match(problems(text, 'c'), /about a, b, and this host is c/);
  });

  test('without hosts nothing changes, and nothing can be said by host', () => {
    const plain = 'networks: { lan: { kind: bridge, bridge: br0 } }\n';
    assert.deepEqual(
      read('x', plain).networks.map(({ name }) => name),
      ['lan'],
    );
    assert.equal(read('x', plain).elsewhere, undefined);
    assert.match(
      problems('networks:\n  lan: { kind: macvlan, uplink: { a: eth0 } }\n'),
      /lan.yaml|lab.yaml:2:35: "a" is a host, and these files have no hosts; say hosts: \[a, \.\.\.\]/,
    );
    assert.match(
      problems('networks: { n: { kind: dummy } }\nattachments:\n  - { container: c, network: n, host: a }\n'),
      /lab.yaml:3:39: "a" is a host, and these files have no hosts/,
    );
  });

  for (const [what, yaml, expected] of [
    [
      'a mistyped host',
      text.replace('host: [a]', 'host: [aa]'),
      /lab\.yaml:10:32: there is no host "aa" in these files; did you mean "a"\?/,
    ],
    [
      'a mistyped host of a value',
      text.replace('b: enp3s0', 'bb: enp3s0'),
      /lab\.yaml:5:\d+: there is no host "bb"/,
    ],
    ['no value for a host', text.replace(', b: enp3s0', ''), /uplink/],
    [
      'a network that this host has not',
      text.replace('network: blue, addresses: 10.0.0.3/24', 'network: only'),
      /lab\.yaml:10:\d+: there is no network "only"/,
    ],
    [
      'the same address on two hosts',
      text.replace('10.0.0.2/24', '10.0.0.1/24'),
      /lab\.yaml:9:\d+: 10\.0\.0\.1 is given to another on host a as well; see lab\.yaml:8:/,
    ],
    [
      'the same address of two hosts',
      text.replace('b: 10.9.0.2/24', 'b: 10.9.0.1/24'),
      /10\.9\.0\.1 is given to another on host a as well/,
    ],
    [
      'one range for two hosts',
      `${text.replace(/range: \{[^}]*\}/, 'range: 10.0.0.10-10.0.0.19').replace('expect:', '  - { container: "x*", network: green, addresses: auto }\nexpect:')}`,
      /lab\.yaml:3:\d+: hosts a and b would give out the same addresses; say the range of each: range: \{ a: \.\.\., b: \.\.\. \}/,
    ],
    ['no names', 'hosts: []\n', /lab\.yaml:1:8/],
    ['not a name', 'hosts: [a/b]\n', /"a\/b" is not the name of a host/],
  ] as const) {
    test(`refused: ${what}`, () => assert.match(problems(yaml), expected));
  }
});

describe('who must reach whom', () => {
  const on = (host: string, running: readonly string[]) => {
    const topology = read(host);
    const containers = running.map((name) => ({ runtime: 'docker' as const, id: name, name, labels: {} }));
    const { wanted } = resolveTopology(topology, containers, { addresses: new Map() });
    return { topology, own: ownEnds(topology, wanted), others: otherEnds(topology) };
  };
  const list = (host: string, running: readonly string[], peers: readonly string[] = []): string[] => {
    const { topology, own, others } = on(host, running);
    return pairsOf(own, others, topology, peers).map(
      ({ from, to, expected }) => `${from.key} ${expected ? '->' : '-/->'} ${to.key}`,
    );
  };

  test('the same network, on this host and others; not another VLAN of the same bridge; and not where the opposite is said', () => {
    assert.deepEqual(list('a', ['test1', 'test3']), [
      'test1/eth1 -/-> test3/eth1',
      'test1/eth1 -> test2/eth1',
      'test1/eth1 -/-> test4/eth1',
      'test3/eth1 -/-> test1/eth1',
      'test3/eth1 -/-> test2/eth1',
      'test3/eth1 -> test4/eth1',
      'a -> any/eth1',
      'a -> b',
    ]);
  });

  test('who does not run is there as the file says, unless it may be on any host', () => {
    const pairs = list('a', ['test1']);
    for (const pair of ['test1/eth1 -/-> test3/eth1', 'test3/eth1 -> test4/eth1'])
      assert.ok(pairs.includes(pair), pairs.join());
    assert.ok(!pairs.some((pair) => pair.startsWith('any/')));
  });

  test('only with some', () => {
    assert.deepEqual(list('b', ['test2', 'test4'], ['test3']), [
      'test2/eth1 -/-> test3/eth1',
      'test4/eth1 -> test3/eth1',
    ]);
    // A host stands for all that is on it.
    const withA = list('b', ['test2'], ['a']);
    assert.ok(withA.includes('test2/eth1 -> test1/eth1') && withA.includes('b -> a'));
    assert.ok(withA.every((pair) => !pair.endsWith('test4/eth1')));
    const { topology, own, others } = on('b', ['test2']);
    assert.deepEqual(aboutPeers(topology, ['test3']).expects, []);
    assert.deepEqual(aboutPeers(topology, ['a']).expects, topology.expects);
    assert.deepEqual(peerNames(topology, [...own, ...others]), [
      'a',
      'any',
      'b',
      'test1',
      'test2',
      'test3',
      'test4',
    ]);
  });
});
