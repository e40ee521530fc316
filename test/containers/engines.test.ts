/** Two engines asked at the same time, one of which may be away, hang, or be the other one. */
import assert from 'node:assert/strict';
import { symlinkSync } from 'node:fs';
import http from 'node:http';
import path from 'node:path';
import test, { type TestContext } from 'node:test';
import { Engine, type EngineName } from '../../src/containers/docker.ts';
import { Engines, idAmongAll } from '../../src/containers/engines.ts';
import { temporaryFolder } from './support.ts';

/** A server that lists containers of these names, all with this process as their first one. */
interface OwnEngine {
  names: string[];
  /** Whether nothing is answered. */
  hangs: boolean;
  /** Whether only questions about containers are not. */
  isSlow: boolean;
  readonly socketPath: string;
}

async function serve(t: TestContext, ...names: string[]): Promise<OwnEngine> {
  const waiting: (() => void)[] = [];
  let isHanging = false;
  const own: OwnEngine = {
    names,
    isSlow: false,
    socketPath: path.join(temporaryFolder(t), 'socket'),
    get hangs() {
      return isHanging;
    },
    set hangs(hangs) {
      isHanging = hangs;
      if (!hangs) for (const answer of waiting.splice(0)) answer();
    },
  };
  const server = http.createServer((request, response) => {
    const answer = (): void => {
      const asked = /^\/containers\/(id-[^/]+)\/json$/.exec(request.url ?? '')?.[1];
      const list = own.names.map((name) => ({ Id: `id-${name}`, Names: [`/${name}`], State: 'running' }));
      const State = { Pid: process.pid, Running: true, Status: 'running' };
      const found = own.names.find((name) => `id-${name}` === asked);
      if (request.url === '/version') response.end('{}');
      else if (asked === undefined) response.end(JSON.stringify(list));
      else if (found === undefined) response.writeHead(404).end('{}');
      else response.end(JSON.stringify({ Id: asked, Name: `/${found}`, State, Config: {}, HostConfig: {} }));
    };
    if (own.hangs || (own.isSlow && request.url !== '/version')) waiting.push(answer);
    else answer();
  });
  await new Promise<void>((resolve) => server.listen(own.socketPath, resolve));
  t.after(() => {
    server.closeAllConnections();
    server.close();
  });
  return own;
}

const engine = (runtime: EngineName, socketPath: string): Engine =>
  // Kept connections are the ones that do not block this thread.
  new Engine({ runtime, socketPath, keepAlive: true });

function both(t: TestContext, docker: string, podman: string, patienceMs?: number): Engines {
  const list = [engine('docker', docker), engine('podman', podman)];
  t.after(() => {
    for (const one of list) one.close();
  });
  return new Engines(list, patienceMs);
}

const seen = async (sighting: ReturnType<Engines['all']>): Promise<unknown> => {
  const { running, away } = await sighting;
  return [
    running.map(({ listed }) => `${listed.runtime}:${listed.name} ${listed.namesake ?? ''}`.trim()),
    [...away.keys()],
  ];
};

test('the containers of both, and who goes first where a name is there twice', async (t) => {
  const [docker, podman] = [await serve(t, 'a', 'web'), await serve(t, 'web', 'p')];
  const engines = both(t, docker.socketPath, podman.socketPath);
  const all = ['docker:a', 'docker:web', 'podman:web Docker', 'podman:p'];
  assert.deepEqual(await seen(engines.all()), [all, []]);
  const one = new Set([idAmongAll({ runtime: 'podman', id: 'id-web' })]);
  assert.deepEqual(await seen(engines.some(one)), [['podman:web Docker'], []]);
  docker.names = ['a'];
  assert.deepEqual(await seen(engines.all()), [['docker:a', 'podman:web', 'podman:p'], []]);
});

test('one that is not there, and one that was', async (t) => {
  const [docker, folder] = [await serve(t, 'a'), temporaryFolder(t)];
  const absent = path.join(folder, 'none');
  const without = await both(t, docker.socketPath, absent).all();
  assert.deepEqual(
    without.running.map(({ listed }) => listed.name),
    ['a'],
  );
  assert.deepEqual(
    [...without.away.values()].map(({ title, isAbsent, error }) => [title, isAbsent, error.errno]),
    [['Podman', true, 'ENOENT']],
  );
});

test('docker.sock that is a link to the socket of Podman is one engine', async (t) => {
  const podman = await serve(t, 'p');
  const link = path.join(temporaryFolder(t), 'docker.sock');
  symlinkSync(podman.socketPath, link);
  assert.deepEqual(await seen(both(t, link, podman.socketPath).all()), [['docker:p'], []]);
});

test('one that hangs is waited for once, and heard of when it answers', async (t) => {
  const [docker, podman] = [await serve(t, 'a'), await serve(t, 'p')];
  const engines = both(t, docker.socketPath, podman.socketPath, 50);
  let returns = 0;
  engines.onReturn(() => returns++);
  await engines.all();
  podman.hangs = true;
  const hanging = [['docker:a'], ['podman']];
  assert.deepEqual(await seen(engines.all()), hanging);
  assert.deepEqual(await seen(engines.all()), hanging);
  assert.equal(returns, 0);
  podman.hangs = false;
  while (returns === 0) await new Promise((resolve) => setImmediate(resolve));
  assert.deepEqual(await seen(engines.all()), [['docker:a', 'podman:p'], []]);
});

test('one that is only about to start, as at a socket of systemd, is not waited for', async (t) => {
  const [docker, podman] = [await serve(t, 'a'), await serve(t, 'p')];
  docker.hangs = true;
  const engines = both(t, docker.socketPath, podman.socketPath, 50);
  let returns = 0;
  engines.onReturn(() => returns++);
  assert.deepEqual(await seen(engines.all()), [['podman:p'], ['docker']]);
  docker.hangs = false;
  while (returns === 0) await new Promise((resolve) => setImmediate(resolve));
  assert.deepEqual(await seen(engines.all()), [['docker:a', 'podman:p'], []]);
});

test('one that is there is waited for at first, however slow it is', async (t) => {
  const [docker, podman] = [await serve(t, 'a'), await serve(t, 'p')];
  docker.isSlow = true;
  const all = both(t, docker.socketPath, podman.socketPath, 50).all();
  setTimeout(() => {
    docker.isSlow = false;
    docker.hangs = false;
  }, 200);
  assert.deepEqual(await seen(all), [['docker:a', 'podman:p'], []]);
});
