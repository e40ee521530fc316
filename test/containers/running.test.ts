/** What is known of containers without asking for it. */
import assert from 'node:assert/strict';
import test from 'node:test';
import { Engine } from '../../src/containers/docker.ts';
import { ContainerCache } from '../../src/containers/running.ts';
import { skipUnless } from '../lab.ts';
import { docker, startContainer } from './support.ts';

test('a container that starts is known by its event, and is the same that the engine speaks of', async (t) => {
  if (skipUnless(t, 'root', 'docker')) return;
  const engine = new Engine();
  const asked: string[] = [];
  // What it asks the engine for goes the way it always goes, and is counted.
  const inspect = engine.inspectContainer.bind(engine);
  engine.inspectContainer = (id) => {
    asked.push(id);
    return inspect(id);
  };
  const cache = new ContainerCache(engine);
  const first = startContainer(t);
  await cache.some([first.id]);
  const { id, name } = startContainer(t, '--label', 'tier=front');
  const event = { action: 'start', id, name, attributes: { image: 'any', name, tier: 'front' }, time: '1.0' };

  cache.heard(event);
  const told = await cache.some([id]);
  assert.deepEqual(asked, [first.id]);
  assert.equal(told[0]?.container.pid, Number(docker('inspect', '-f', '{{.State.Pid}}', id)));
  assert.equal(told[0]?.listed.labels.tier, 'front');
  assert.equal(told[0]?.listed.labels.image, undefined);
  // A look at everything asks for the rest; a label of the image is one of the container too.
  const all = await cache.all();
  assert.ok(asked.includes(id));
  assert.deepEqual(all.find(({ container }) => container.id === id)?.container, {
    ...told[0]?.container,
    labels: JSON.parse(docker('inspect', '-f', '{{json .Config.Labels}}', id)),
  });

  asked.length = 0;
  docker('restart', '-t', '0', id);
  cache.heard(event);
  const [again] = await cache.some([id]);
  assert.deepEqual(asked, []);
  assert.equal(again?.container.pid, Number(docker('inspect', '-f', '{{.State.Pid}}', id)));
  assert.notEqual(again?.container.pid, told[0]?.container.pid);

  docker('stop', '-t', '0', id);
  cache.heard(event);
  assert.deepEqual(await cache.some([id]), []);
  assert.deepEqual(asked, [id]);
});
