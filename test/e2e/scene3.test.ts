/** Scene 3 of the brief on one kernel: two hosts that are namespaces, and between them a wire that is another one. */
import assert from 'node:assert/strict';
import test from 'node:test';
import { root, skipUnless, sniff } from '../lab.ts';
import { EngineHost, makeWire } from './engine-ground.ts';
import { Scene3, type SceneHost, tagsExpected, tagsOf } from './scene3.ts';

const image = async (host: SceneHost): Promise<string> =>
  (await host.run(`${root}/scripts/image.sh`, [])).stdout.trim();

test('VLANs across two hosts, with an Open vSwitch and a Docker Engine each', async (t) => {
  if (skipUnless(t, 'root', 'docker', 'ovs', 'program:tcpdump')) return;
  const wire = makeWire(t, 's3w');
  const [a, b] = [new EngineHost(t, 's3a', wire), new EngineHost(t, 's3b', wire)];
  await Promise.all([a.on(), b.on()]);
  const scene = new Scene3([a, b], 'netdev');
  await scene.setUp(image);
  await scene.settled(20);
  const check = async (): Promise<void> => {
    const { lines } = await sniff(wire, 'wire', '', async () => {
      const { expected, seen } = await scene.pings();
      assert.deepEqual(seen, expected);
    });
    assert.deepEqual(tagsOf(lines), tagsExpected);
  };
  await t.test('six pings, and tags on the wire', check);
  await t.test('one host is switched off and on: all comes back with no command typed', async () => {
    await a.off();
    await a.on();
    await scene.settled(20);
    await check();
  });
});
