import assert from 'node:assert/strict';
import test from 'node:test';
import { isConcerned, isToldWhole } from '../../src/agent/concern.ts';
import { parseTopology } from '../../src/config/topology/load.ts';
import type { ContainerEvent, EngineName } from '../../src/containers/docker.ts';
import type { ContainerRef } from '../../src/model/attachment.ts';

const topologyOf = (...containers: string[]) =>
  parseTopology([
    {
      file: 'test.yaml',
      text: `networks: { lan: { kind: bridge, bridge: br0, subnet: 10.1.0.0/16, range: 10.1.1.1-10.1.1.99 } }
attachments:
${containers.map((selector) => `  - { container: ${selector}, network: lan, addresses: auto }`).join('\n')}
`,
    },
  ]);

const event = (name: string, attributes: Record<string, string> = {}, action = 'start'): ContainerEvent => ({
  action,
  id: 'a'.repeat(64),
  name,
  attributes: { image: 'alpine', name, ...attributes },
  time: '1.000000000',
});

const topology = topologyOf('web', '"db-*"', '{ compose: shop/cart }', '{ label: tier=front }');
const kept: ContainerRef[] = [{ runtime: 'docker', name: 'kept' }];

/** Whether anybody wants to hear of it. */
const isHeard = (one: ContainerEvent, runtime: EngineName = 'docker', trustLabels = false): boolean =>
  isConcerned(runtime, one, { topology, trustLabels, kept });

test('of containers that something is wanted of', () => {
  for (const name of ['web', 'db-1', 'kept']) assert.ok(isHeard(event(name)), name);
  const compose = { 'com.docker.compose.project': 'shop', 'com.docker.compose.service': 'cart' };
  assert.ok(isHeard(event('shop-cart-1', compose)));
  assert.ok(isHeard(event('any', { tier: 'front' })));
  assert.ok(isHeard(event('any', { 'pipewright.lan': 'address=10.1.0.9/16' }), 'docker', true));
});

test('not of others', () => {
  for (const name of ['other', 'web2', 'db']) assert.ok(!isHeard(event(name)), name);
  assert.ok(!isHeard(event('any', { 'pipewright.lan': 'address=10.1.0.9/16' })));
  // A kept command is about a container of one engine.
  const own = topologyOf('"docker:web"');
  assert.ok(!isConcerned('podman', event('kept'), { topology: own, trustLabels: false, kept }));
});

test('in doubt it is: a new name, and an engine that may leave labels out', () => {
  assert.ok(isHeard(event('other', {}, 'rename')));
  assert.ok(isHeard(event('other'), 'podman'));
});

test('a label in whose place the event says something else', () => {
  assert.ok(isToldWhole(topology));
  assert.ok(!isToldWhole(topologyOf('{ label: image=mine }')));
});
