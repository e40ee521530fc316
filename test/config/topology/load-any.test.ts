import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { stringify } from 'yaml';
import { parseTopology } from '../../../src/config/topology/load.ts';
import { TopologyError } from '../../../src/config/topology/problem.ts';
import { contains } from '../../../src/model/address.ts';
import type { NetworkSpec, Topology } from '../../../src/model/topology.ts';

const parse = (text: string): Topology => parseTopology([{ file: 't.yaml', text }]);
const v4 = (ip: string, prefixLen: number) => ({ family: 4, ip, prefixLen });

/** Anything that YAML can say, often with words that mean something here. */
const word = fc.constantFrom(
  ...['version', 'networks', 'attachments', 'expect', 'kind', 'bridge', 'ovs', 'macvlan', 'phys', 'uplink'],
  ...[
    'subnet',
    'range',
    'gateway',
    'hostAddress',
    'container',
    'network',
    'addresses',
    'auto',
    'dhcp',
    'mac',
  ],
  ...[
    'routes',
    'rules',
    'sysctls',
    'rate',
    'lan',
    'web',
    '10.0.0.0/24',
    '10.0.0.2/24',
    '10.0.0.1',
    'fd00::1/64',
  ],
  ...[
    'web -> db',
    'ipv4.forwarding',
    '02:00:00:00:00:01',
    'eth1',
    '<<',
    '__proto__',
    'constructor',
    'toString',
  ],
);
const scalar = fc.oneof(
  { weight: 4, arbitrary: word },
  fc.string(),
  fc.integer(),
  fc.double(),
  fc.boolean(),
  fc.constant(null),
);
const { tree } = fc.letrec<{ tree: unknown }>((tie) => ({
  tree: fc.oneof(
    { maxDepth: 5 },
    scalar,
    fc.dictionary(fc.oneof({ weight: 6, arbitrary: word }, fc.string()), tie('tree'), { maxKeys: 6 }),
    fc.array(tie('tree'), { maxLength: 4 }),
  ),
}));
const network = fc.dictionary(word, tree, { maxKeys: 6 });
const file = fc.oneof(
  tree,
  fc.record({
    networks: fc.dictionary(fc.constantFrom('lan', 'wan', 'x y'), network, { maxKeys: 3 }),
    attachments: fc.array(network, { maxLength: 4 }),
    expect: fc.array(scalar, { maxLength: 3 }),
  }),
);

/** Runs `act`; the only thing that it may throw is a TopologyError with places. */
function onlyTopologyErrors(act: () => void): void {
  try {
    act();
  } catch (error) {
    if (!(error instanceof TopologyError)) throw error;
    assert.equal(error.code, 'BAD_TOPOLOGY');
    assert.ok(error.problems.length > 0);
    for (const { place, message } of error.problems) {
      assert.ok(place.line >= 1 && place.column >= 1, JSON.stringify(place));
      assert.doesNotMatch(message, /\n|undefined|\[object/);
    }
  }
}

describe('whatever is in a file', () => {
  test('data of any form', () => {
    fc.assert(
      fc.property(file, (data) => onlyTopologyErrors(() => void parse(stringify(data)))),
      { numRuns: 500 },
    );
  });
  test('text of any form', () => {
    const text = fc.array(
      fc.oneof(
        word,
        fc.constantFrom(...': - [ ] { } , & * ! | > \' " % @ ` # ? \n \t ~ &a *a'.split(' '), '\n', '  '),
      ),
      { maxLength: 40 },
    );
    fc.assert(
      fc.property(text, (parts) => onlyTopologyErrors(() => void parse(parts.join('')))),
      { numRuns: 1000 },
    );
    fc.assert(fc.property(fc.string({ unit: 'binary' }), (any) => onlyTopologyErrors(() => void parse(any))));
  });
});

describe('right files of any form', () => {
  const byte = fc.integer({ min: 1, max: 254 });
  const entries = fc.uniqueArray(
    fc.record({
      name: fc.stringMatching(/^[a-z][a-z0-9-]{0,10}$/),
      byte,
      ifname: fc.constantFrom('eth1', 'eth2'),
    }),
    { maxLength: 12, selector: ({ name }) => name },
  );
  test('say in any layout what they say', () => {
    fc.assert(
      fc.property(entries, fc.boolean(), (list, flow) => {
        const unique = list.filter(
          ({ byte: own }, at) => list.findIndex((other) => other.byte === own) === at,
        );
        const data = {
          networks: { lan: { kind: 'bridge', subnet: '10.0.0.0/24' } },
          attachments: unique.map(({ name, byte: own, ifname }) => ({
            container: name,
            network: 'lan',
            ifname,
            addresses: [`10.0.0.${own}/24`],
          })),
        };
        const text = flow ? JSON.stringify(data) : stringify(data);
        const { networks, attachments } = parse(text);
        const [lan] = networks as [NetworkSpec];
        assert.deepEqual(
          attachments.map(({ selector, ifname, addresses }) => ({ selector, ifname, addresses })),
          unique.map(({ name, byte: own, ifname }) => ({
            selector: { by: 'name', name },
            ifname,
            addresses: [v4(`10.0.0.${own}`, 24)],
          })),
        );
        for (const { place } of attachments) {
          const line = text.split('\n')[place.line - 1] ?? '';
          assert.match(line.slice(place.column - 1), flow ? /^\{"container"/ : /^container:/);
        }
        assert.ok(lan.subnets.every((subnet) => contains(subnet, '10.0.0.7')));
      }),
    );
  });
});
