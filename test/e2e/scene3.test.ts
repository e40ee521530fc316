/** Scene 3 of the brief on one kernel: two hosts that are namespaces, and between them a wire that is another one. */
import assert from 'node:assert/strict';
import test from 'node:test';
import { ensureImage, skipUnless, sniff } from '../lab.ts';
import { EngineHost, makeWire } from './engine-ground.ts';
import { Scene3, tagsExpected, tagsOf } from './scene3.ts';

test('VLANs across two hosts, with an Open vSwitch and a Docker Engine each', async (t) => {
  if (skipUnless(t, 'root', 'docker', 'ovs', 'program:tcpdump')) return;
  const wire = makeWire(t, 's3');
  const [a, b] = [new EngineHost(t, 'a', wire), new EngineHost(t, 'b', wire)];
  await Promise.all([a.on(), b.on()]);
  for (const host of [a, b]) host.loadImage(ensureImage());
  const scene = new Scene3(a, b, 'netdev');
  await scene.setUp(ensureImage());
  await scene.settled(60);
  const all = async (): Promise<void> => {
    const { lines } = await sniff(wire, 'wire', '', () => scene.ping());
    assert.deepEqual(tagsOf(lines), tagsExpected);
    await scene.check();
  };
  await t.test('six pings, tags on the wire, and what check says', all);
  await t.test('one host is switched off and on: all comes back with no command typed', async () => {
    await a.off();
    await a.on();
    await scene.settled(60);
    await all();
  });
});
