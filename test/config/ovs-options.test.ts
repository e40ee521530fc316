// What only ports of Open vSwitch have: as options of `pipewright attach`, and in a topology file.
import assert from 'node:assert/strict';
import test from 'node:test';
import { decideNetwork, parseNetworkName } from '../../src/config/attach-network.ts';
import { parseAttachment } from '../../src/config/attach-options.ts';
import { parseOvsOptions } from '../../src/config/ovs-options.ts';
import { parseRate } from '../../src/config/rate.ts';
import { parseTopology } from '../../src/config/topology/load.ts';
import { PipewrightError } from '../../src/errors.ts';

const refused = (why: RegExp) => (error: unknown) =>
  error instanceof PipewrightError && error.code === 'BAD_ARGUMENT' && why.test(error.message);

test('options: what is copied, and what is dropped', () => {
  assert.deepEqual(parseOvsOptions({}), {});
  assert.deepEqual(parseOvsOptions({ mirror: ['all'] }), { mirror: {} });
  const some = {
    mirror: ['web,podman:db/eth1', 'port:eth0'],
    mirrorDirection: 'src',
    mirrorVlans: ['200,100-101'],
  };
  assert.deepEqual(parseOvsOptions(some), {
    mirror: { of: ['podman:db/eth1', 'port:eth0', 'web'], direction: 'src', vlans: [100, 101, 200] },
  });
  assert.deepEqual(parseOvsOptions({ policing: '10mbit,500kbit' }), {
    policing: { rate: 10_000, burst: 500 },
  });
  assert.deepEqual(parseOvsOptions({ policing: '1gbit' }), { policing: { rate: 1_000_000, burst: 0 } });
  assert.equal(parseRate('1.5mbps'), 12_000_000);
});

test('options that are refused, in one line', () => {
  const ovs = (options: object) => () => decideNetwork({ kind: 'ovs', name: 'ovs0' }, undefined, options);
  const bridge = (options: object) => () =>
    decideNetwork({ kind: 'bridge', name: 'br0' }, undefined, options);
  const wrong: readonly [() => unknown, RegExp][] = [
    [() => parseOvsOptions({ mirror: ['we b'] }), /CONTAINER, CONTAINER\/IFNAME or port:NAME/],
    [() => parseOvsOptions({ mirror: ['web/a:b'] }), /the latter contains a colon/],
    [() => parseOvsOptions({ mirror: ['port:a/b'] }), /not the name of a port: it contains a slash/],
    [() => parseOvsOptions({ mirror: ['all'], mirrorDirection: 'src' }), /all is both/],
    [() => parseOvsOptions({ mirror: ['web'], mirrorDirection: 'in' }), /one of both, src, dst/],
    [() => parseOvsOptions({ mirrorVlans: ['100'] }), /goes with --mirror/],
    [() => parseOvsOptions({ policing: '10' }), /too slow/],
    [() => parseOvsOptions({ policing: '1mbit,1mbit,1' }), /RATE or RATE,BURST/],
    [bridge({ mirror: ['all'] }), /a network of kind bridge has no such setting/],
    [bridge({ mode: 'internal' }), /has no modes/],
    [ovs({ mode: 'l2' }), /one of veth, internal/],
    [ovs({ mode: 'internal', policing: '1mbit' }), /an internal port cannot be policed/],
    [
      () =>
        parseAttachment(
          { runtime: 'any', name: 'web' },
          { kind: 'ovs', name: 'ovs0' },
          {
            network: 'ovs:ovs0',
            mirror: ['all'],
            address: ['10.0.0.1/24'],
          },
        ),
      /copies and nothing else/,
    ],
  ];
  for (const [act, why] of wrong) assert.throws(act, refused(why));
  const internal = decideNetwork(parseNetworkName('ovs:ovs0'), undefined, { mode: 'internal', vlan: '7' });
  assert.deepEqual(internal, { kind: 'ovs', name: 'ovs0', internal: true, vid: 7 });
});

const file = (attachment: string, network = 'kind: ovs, bridge: ovs0') =>
  parseTopology([
    {
      file: 'a.yaml',
      text: `networks: { lan: { ${network} } }\nattachments: [{ container: web, network: lan, ${attachment} }]\n`,
    },
  ]);

test('a file: short and long forms', () => {
  const [of] = file('mirror: db, mode: internal').attachments;
  assert.deepEqual([of?.mirror, of?.internal], [{ of: ['db'] }, true]);
  const [all] = file('mirror: { vlans: [200, 100] }').attachments;
  assert.deepEqual(all?.mirror, { vlans: [100, 200] });
  const [limit] = file('policing: { rate: 10mbit, burst: 1mbit }').attachments;
  assert.deepEqual(limit?.policing, { rate: 10_000, burst: 1000 });
  const [network] = file('mode: veth', 'kind: ovs, bridge: ovs0, mode: internal').networks;
  assert.ok(network?.kind === 'ovs' && network.internal);
});

test('a file that is refused', () => {
  const wrong: readonly [string, RegExp, string?][] = [
    [
      'mirror: all, addresses: 10.0.0.1/24',
      /addresses: with mirror the interface gets copies and nothing else/,
    ],
    ['mirror: all, gateway: 10.0.0.1', /gateway: with mirror/],
    ['mirror: { direction: src }', /direction src needs a list/],
    ['mirror: { direction: in, of: web }', /direction/],
    ['mirror: [all, web]', /stands by itself, not in a list/],
    ['mode: internal, policing: 1mbit', /an internal port cannot be policed/],
    [
      'mode: internal',
      /mode: the network lan is of kind bridge, and only ovs has it/,
      'kind: bridge, bridge: br0',
    ],
  ];
  for (const [text, why, network] of wrong) assert.throws(() => file(text, network), why, text);
});
