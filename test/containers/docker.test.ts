import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import type { Socket } from 'node:net';
import test, { type TestContext } from 'node:test';
import { type ContainerEvent, Engine, engineSocket } from '../../src/containers/docker.ts';
import { image, needImage } from './image.ts';
import { docker, failure, newName, serveScript, serveUnix, startContainer } from './support.ts';

const missing = needImage();
const real = (title: string, body: (t: TestContext) => Promise<void>) =>
  test(title, { skip: missing ?? false }, body);

real('inspect says what docker inspect says', async (t) => {
  const { name, id } = startContainer(t, '--label', 'a=b', '--network', 'host');
  const engine = new Engine();
  const [pid] = docker('inspect', '-f', '{{.State.Pid}}', id).split('\n');
  const want = {
    id,
    name,
    pid: Number(pid),
    running: true,
    paused: false,
    state: 'running',
    labels: { a: 'b' },
    networkMode: 'host',
  };
  assert.deepEqual(await engine.inspectContainer(name), want);
  docker('pause', name);
  assert.deepEqual(await engine.inspectContainer(id), { ...want, paused: true, state: 'paused' });
  docker('unpause', name);
  docker('kill', name);
  assert.deepEqual(await engine.inspectContainer(id), { ...want, pid: 0, running: false, state: 'exited' });
});

real('list is docker ps', async (t) => {
  const { name, id } = startContainer(t, '--label', 'a=b');
  const stopped = newName(t);
  docker('create', '--name', stopped, '--network', 'none', image, 'true');
  const engine = new Engine({ keepAlive: true });
  t.after(() => engine.close());
  const running = await engine.listContainers();
  assert.deepEqual(
    running.find((each) => each.id === id),
    { id, name, running: true, paused: false, state: 'running', labels: { a: 'b' }, networkMode: 'none' },
  );
  assert.ok(!running.some((each) => each.name === stopped));
  const all = await engine.listContainers({ all: true });
  assert.equal(all.find((each) => each.name === stopped)?.state, 'created');
  const ids = docker('ps', '-aq', '--no-trunc').split('\n').sort();
  assert.deepEqual(
    all.map((each) => each.id).filter((each) => !ids.includes(each)),
    [],
  );
});

real('ping', async () => {
  const { version, apiVersion } = await new Engine().ping();
  assert.equal(version, docker('version', '-f', '{{.Server.Version}}'));
  assert.match(apiVersion, /^1\.\d+$/);
});

real('events as they happen, and again from the time of one of them', async (t) => {
  const engine = new Engine();
  const name = newName(t);
  const stop = new AbortController();
  t.after(() => stop.abort());
  const seen: ContainerEvent[] = [];
  const times: number[] = [];
  const watched = (async () => {
    for await (const event of engine.events(undefined, stop.signal)) {
      if (event.name !== name) continue;
      seen.push(event);
      times.push(Date.now());
      if (event.action === 'destroy') return;
    }
  })();
  await new Promise((done) => setTimeout(done, 100));
  const id = docker(
    'run',
    '-d',
    '--name',
    name,
    '--label',
    'grün=a\nb',
    '--network',
    'none',
    image,
    'sleep',
    '600',
  );
  docker('rm', '-f', name);
  await watched;
  assert.deepEqual(
    seen.map((event) => event.action),
    ['create', 'start', 'kill', 'die', 'destroy'],
  );
  for (const event of seen) {
    assert.equal(event.id, id);
    assert.equal(event.attributes.grün, 'a\nb');
    assert.match(event.time, /^\d{10}\.\d{9}$/);
  }
  const start = seen[1];
  assert.ok(start);
  const again: ContainerEvent[] = [];
  for await (const event of engine.events(start.time, stop.signal)) {
    if (event.name !== name) continue;
    again.push(event);
    if (event.action === 'destroy') break;
  }
  assert.deepEqual(again, seen.slice(1));
});

real('watching events ends by abort and leaves nothing that holds the process', async () => {
  const stop = new AbortController();
  setTimeout(() => stop.abort(), 50);
  for await (const _ of new Engine().events(undefined, stop.signal));
  assert.ok(stop.signal.aborted);
});

/** An engine whose every answer is this. */
async function engineSaying(t: TestContext, status: number, body: string): Promise<Engine> {
  const head = `HTTP/1.1 ${status} X\r\nContent-Length: ${Buffer.byteLength(body)}\r\n\r\n`;
  const socketPath = await serveScript(t, { pieces: [head, body] });
  return new Engine({ socketPath, timeoutMs: 20_000 });
}

for (const body of [
  '',
  'null',
  '[]',
  '{}',
  '"x"',
  '{"Id":"a","Name":"/b","State":{"Pid":"1"}}',
  '<html>',
  '{"Id":1}',
  '{"Id":"a","Name":"/b","State":{"Pid":-1}}',
]) {
  test(`an answer that is none: ${body}`, async (t) => {
    const engine = await engineSaying(t, 200, body);
    await assert.rejects(engine.inspectContainer('web'), failure('RUNTIME_UNAVAILABLE', /does not speak/));
  });
}

test("the engine's own words, when it refuses", async (t) => {
  const engine = await engineSaying(t, 500, '{"message":"disk\\nfull"}');
  await assert.rejects(engine.inspectContainer('web'), failure('RUNTIME_UNAVAILABLE', /disk full$/));
  await assert.rejects(engine.listContainers(), failure('RUNTIME_UNAVAILABLE', /disk full$/));
  await assert.rejects(engine.events().next(), failure('RUNTIME_UNAVAILABLE', /disk full$/));
  const silent = await engineSaying(t, 502, '');
  await assert.rejects(silent.ping(), failure('RUNTIME_UNAVAILABLE', /Docker answered with status 502$/));
  const podman = await engineSaying(t, 500, '{"message":"more than one result for container name a"}');
  await assert.rejects(podman.inspectContainer('a'), failure('CONTAINER_AMBIGUOUS'));
});

test('events in pieces, with what is no event between them', async (t) => {
  const event = (nr: number) =>
    `{"Type":"container","Action":"start","Actor":{"ID":"${nr}","Attributes":{"name":"grün","x":"\\"timeNano\\":1234567890123"}},"time":1764000000,"timeNano":1764000000123456789}\n`;
  const text = Buffer.from(`${event(1)}\nnot json\n{"Type":"x"}\n${event(2)}${event(3).trim()}`);
  const send = async (socket: Socket) => {
    socket.write('HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n');
    for (let at = 0; at < text.length; at += 7) {
      const piece = text.subarray(at, at + 7);
      socket.write(
        Buffer.concat([Buffer.from(`${piece.length.toString(16)}\r\n`), piece, Buffer.from('\r\n')]),
      );
      await new Promise((done) => setImmediate(done));
    }
    socket.end('0\r\n\r\n');
  };
  const socketPath = await serveUnix(t, (socket) => void send(socket));
  const seen: ContainerEvent[] = [];
  for await (const each of new Engine({ socketPath }).events()) seen.push(each);
  assert.deepEqual(
    seen.map(({ id, name, time }) => [id, name, time]),
    ['1', '2', '3'].map((id) => [id, 'grün', '1764000000.123456789']),
  );
});

test('where the sockets are', () => {
  assert.equal(engineSocket('docker', {}), '/var/run/docker.sock');
  assert.equal(
    engineSocket('docker', { DOCKER_HOST: '', CONTAINER_HOST: 'ssh://x' }),
    '/var/run/docker.sock',
  );
  assert.equal(engineSocket('docker', { DOCKER_HOST: 'unix:///a/b' }), '/a/b');
  assert.equal(engineSocket('podman', { DOCKER_HOST: 'tcp://x' }), '/run/podman/podman.sock');
  assert.equal(engineSocket('podman', { CONTAINER_HOST: 'unix:///a/b' }), '/a/b');
  assert.throws(
    () => engineSocket('podman', { CONTAINER_HOST: 'ssh://x' }),
    failure('RUNTIME_UNAVAILABLE', /CONTAINER_HOST/),
  );
  assert.equal(new Engine({ runtime: 'podman' }).socketPath, engineSocket('podman'));
});

test('without permission to open the socket', async (t) => {
  if (process.getuid?.() !== 0) return t.skip('needs root to become somebody else');
  const engine = await engineSaying(t, 200, '{}');
  execFileSync('chmod', ['700', engine.socketPath.replace(/\/socket$/, '')]);
  const effective = process.geteuid?.() ?? 0;
  process.seteuid?.(65534);
  try {
    await assert.rejects(engine.ping(), failure('RUNTIME_UNAVAILABLE', /no permission .*\[EACCES\]$/));
  } finally {
    process.seteuid?.(effective);
  }
});

test('the tests leave no container', { skip: missing ?? false }, () => {
  assert.equal(spawnSync('docker', ['ps', '-aq', '-f', `name=pwtc-${process.pid}-`]).stdout.toString(), '');
});
