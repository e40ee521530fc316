import assert from 'node:assert/strict';
import { execFileSync, spawn, spawnSync } from 'node:child_process';
import { mkdirSync, readdirSync, readlinkSync, symlinkSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import test, { type TestContext } from 'node:test';
import { parseContainerRef } from '../../src/config/container-ref.ts';
import type { Container } from '../../src/containers/container.ts';
import { openContainerNetns, type ResolveOptions, resolveContainer } from '../../src/containers/resolve.ts';
import { hostNetns } from '../../src/kernel/netns.ts';
import { image, needImage } from './image.ts';
import { docker, failure, newName, serveUnix, startContainer, temporaryFolder } from './support.ts';

const missing = needImage();
const real = (title: string, body: (t: TestContext) => Promise<void>) =>
  test(title, { skip: missing ?? false }, body);

const resolve = (text: string, options: ResolveOptions = {}) =>
  resolveContainer(parseContainerRef(text), options);

const nowhere = '/nonexistent/socket';

/** What another program says about the container. */
function assertIs(container: Container, name: string): void {
  const [id, pid] = docker('inspect', '-f', '{{.Id}} {{.State.Pid}}', name).split(' ');
  assert.equal(container.id, id);
  assert.equal(container.name, name);
  assert.equal(String(container.pid), pid);
  assert.equal(container.netnsPath, `/proc/${pid}/ns/net`);
  using netns = openContainerNetns(container);
  assert.equal(`net:[${netns.inode}]`, readlinkSync(`/proc/${pid}/ns/net`));
}

function openFiles(): number {
  return readdirSync('/proc/self/fd').length;
}

/** A process in a network namespace of its own. */
async function sleeper(t: TestContext, ...unshare: string[]): Promise<number> {
  const child = spawn('unshare', [...unshare, '--net', 'sleep', '600'], { stdio: 'ignore' });
  t.after(() => child.kill('SIGKILL'));
  assert.ok(child.pid);
  while (readlinkSync(`/proc/${child.pid}/exe`).includes('unshare')) {
    await new Promise((done) => setTimeout(done, 5));
  }
  return child.pid;
}

real('a container by name, by id, by a unique beginning of its id', async (t) => {
  const { name, id } = startContainer(t, '--label', 'pwt.a=grün', '--label', 'pwt.b=');
  for (const text of [name, `docker:${name}`, id, id.slice(0, 40), `docker:${id.slice(0, 20)}`]) {
    const container = await resolve(text);
    assert.equal(container.runtime, 'docker');
    assertIs(container, name);
    assert.deepEqual(container.labels, { 'pwt.a': 'grün', 'pwt.b': '' });
  }
});

real('an ambiguous beginning of an id is refused', async (t) => {
  // 17 containers have two ids at least that start with the same digit.
  const names = Array.from({ length: 17 }, () => newName(t));
  const firsts = names.map((name) =>
    docker('create', '--network', 'none', '--name', name, image, 'true').slice(0, 1),
  );
  const twice = firsts.find((first, at) => firsts.indexOf(first) !== at);
  await assert.rejects(resolve(`docker:${twice}`), failure('CONTAINER_AMBIGUOUS', /provided prefix/));
  await assert.rejects(resolve(`${twice}`), failure('CONTAINER_AMBIGUOUS'));
});

real('an unknown container, an image, a network', async () => {
  for (const name of ['pwtc-nosuch', 'pwt-busybox', 'bridge']) {
    await assert.rejects(resolve(name), failure('CONTAINER_UNKNOWN', new RegExp(`No such object: ${name}$`)));
    await assert.rejects(resolve(`docker:${name}`), failure('CONTAINER_UNKNOWN'));
  }
});

real('names that are no names never reach the engine', async () => {
  for (const name of [
    '',
    '..',
    '../info',
    'a/../../info',
    'a b',
    '$(id)',
    ';id',
    'a?all=1',
    'a#',
    'a%2f',
    '-i',
    'é',
  ]) {
    const ref = { runtime: 'docker', name } as const;
    await assert.rejects(resolveContainer(ref), failure('CONTAINER_UNKNOWN'));
  }
});

real('a container that does not run: the words of the original, after three seconds', async (t) => {
  const name = newName(t);
  docker('create', '--network', 'none', '--name', name, image, 'sleep', '600');
  const start = Date.now();
  const invalid = failure('CONTAINER_NOT_RUNNING', /: Docker inspect returned invalid PID 0$/);
  await assert.rejects(resolve(name), invalid);
  assert.ok(Date.now() - start > 2800 && Date.now() - start < 4000);
  docker('start', name);
  docker('kill', name);
  await assert.rejects(resolve(name, { startTimeoutMs: 0 }), invalid);
});

real('a container that is being started is waited for', async (t) => {
  const name = newName(t);
  docker('create', '--network', 'none', '--name', name, image, 'sleep', '600');
  const found = resolve(name);
  await new Promise((done) => setTimeout(done, 300));
  spawn('docker', ['start', name], { stdio: 'ignore' });
  assertIs(await found, name);
});

real('a container that is removed while it is waited for', async (t) => {
  const name = newName(t);
  docker('create', '--network', 'none', '--name', name, image, 'sleep', '600');
  const found = resolve(name);
  await new Promise((done) => setTimeout(done, 300));
  docker('rm', name);
  await assert.rejects(found, failure('CONTAINER_UNKNOWN'));
});

real('a paused container', async (t) => {
  const { name } = startContainer(t);
  docker('pause', name);
  assertIs(await resolve(name), name);
});

real("the host's own network is refused", async (t) => {
  const { name } = startContainer(t, '--network', 'host');
  const container = await resolve(name);
  const before = openFiles();
  assert.throws(() => openContainerNetns(container), failure('CONTAINER_ON_HOST_NETWORK', new RegExp(name)));
  assert.equal(openFiles(), before);
  const self = await resolve(`pid:${process.pid}`);
  assert.throws(() => openContainerNetns(self), failure('CONTAINER_ON_HOST_NETWORK'));
  const path = await resolve('netns:/proc/self/ns/net');
  assert.throws(() => openContainerNetns(path), failure('CONTAINER_ON_HOST_NETWORK'));
});

real("another container's network is that container's namespace", async (t) => {
  const { name } = startContainer(t);
  const { name: guest } = startContainer(t, '--network', `container:${name}`);
  using one = openContainerNetns(await resolve(name));
  using two = openContainerNetns(await resolve(guest));
  assert.equal(one.inode, two.inode);
});

real('a container that died, or was restarted, between the two steps', async (t) => {
  const { name } = startContainer(t);
  hostNetns();
  const dead = await resolve(name);
  docker('kill', name);
  const before = openFiles();
  assert.throws(() => openContainerNetns(dead), failure('CONTAINER_GONE', new RegExp(name)));
  docker('start', name);
  assert.throws(() => openContainerNetns(dead), failure('CONTAINER_GONE'));
  assert.equal(openFiles(), before);
  assertIs(await resolve(name), name);
});

real('a pid that was used again is not opened', async (t) => {
  const { name } = startContainer(t);
  const container = await resolve(name);
  const recycled = { ...container, startTime: String(Number(container.startTime) + 1) };
  const before = openFiles();
  assert.throws(() => openContainerNetns(recycled), failure('CONTAINER_GONE'));
  assert.equal(openFiles(), before);
});

real('podman answers the same API on its own socket', async (t) => {
  const { name } = startContainer(t);
  const podmanSocket = '/var/run/docker.sock';
  const named = await resolve(`podman:${name}`, { podmanSocket });
  assert.equal(named.runtime, 'podman');
  assertIs(named, name);
  const found = await resolve(name, { dockerSocket: nowhere, podmanSocket });
  assert.equal(found.runtime, 'podman');
  const both = await resolve(name, { podmanSocket });
  assert.equal(both.runtime, 'docker');
  const unknown = { dockerSocket: nowhere, podmanSocket };
  await assert.rejects(resolve('pwtc-nosuch', unknown), failure('CONTAINER_UNKNOWN'));
});

test('no runtime at all', async (t) => {
  const cgroupRoot = temporaryFolder(t);
  const options = { dockerSocket: nowhere, podmanSocket: nowhere, cgroupRoot, searchPath: '' };
  const absent = failure('RUNTIME_UNAVAILABLE', /Docker is not there: no socket .*\[ENOENT\]$/);
  await assert.rejects(resolve('web', options), absent);
  await assert.rejects(resolve('docker:web', options), absent);
  await assert.rejects(resolve('podman:web', options), failure('RUNTIME_UNAVAILABLE', /Podman is not there/));
  await assert.rejects(resolve('lxc:web', options), failure('CONTAINER_UNKNOWN'));
  // Where there is LXC, it is LXC that does not know the name.
  mkdirSync(path.join(cgroupRoot, 'lxc.payload.other'));
  await assert.rejects(resolve('web', options), failure('CONTAINER_UNKNOWN'));
});

test('Docker is stopped: said so, unless another runtime has the container', async (t) => {
  // A socket that nobody listens on any more, as a killed daemon leaves it.
  const dockerSocket = path.join(temporaryFolder(t), 'dead');
  const listen =
    'require("net").createServer().listen(process.argv[1], () => process.kill(process.pid, "SIGKILL"))';
  spawnSync(process.execPath, ['-e', listen, dockerSocket]);
  const cgroupRoot = temporaryFolder(t);
  const options = { dockerSocket, podmanSocket: nowhere, cgroupRoot };
  const stopped = failure(
    'RUNTIME_UNAVAILABLE',
    /Docker is not running: nothing listens at .*\[ECONNREFUSED\]$/,
  );
  await assert.rejects(resolve('web', options), stopped);
  await assert.rejects(resolve('docker:web', options), stopped);
  const cgroup = path.join(cgroupRoot, 'lxc.payload.web');
  mkdirSync(cgroup);
  writeFileSync(path.join(cgroup, 'cgroup.procs'), `${await sleeper(t)}\n`);
  assert.equal((await resolve('web', options)).runtime, 'lxc');
  await assert.rejects(resolve('other', options), stopped);
});

test('a daemon that hangs', async (t) => {
  const dockerSocket = await serveUnix(t, () => {});
  const hung = failure('RUNTIME_UNAVAILABLE', /no answer within 0.1 s \[ETIMEDOUT\]$/);
  await assert.rejects(resolve('web', { dockerSocket, timeoutMs: 100 }), hung);
});

for (const value of [
  'tcp://127.0.0.1:2375',
  'ssh://host',
  'unix://',
  'unix://relative',
  'npipe:////./pipe/docker',
  '/run/docker.sock',
]) {
  test(`DOCKER_HOST=${value} is refused`, async (t) => {
    const before = process.env.DOCKER_HOST;
    t.after(() => {
      if (before === undefined) delete process.env.DOCKER_HOST;
      else process.env.DOCKER_HOST = before;
    });
    process.env.DOCKER_HOST = value;
    await assert.rejects(resolve('web'), failure('RUNTIME_UNAVAILABLE', /only a unix socket/));
    await assert.rejects(resolve('docker:web'), failure('RUNTIME_UNAVAILABLE', /only a unix socket/));
  });
}

real('DOCKER_HOST=unix:// is where Docker is', async (t) => {
  const { name } = startContainer(t);
  const link = path.join(temporaryFolder(t), 'docker.sock');
  symlinkSync('/var/run/docker.sock', link);
  process.env.DOCKER_HOST = `unix://${link}`;
  t.after(() => delete process.env.DOCKER_HOST);
  assert.equal((await resolve(name)).name, name);
  process.env.DOCKER_HOST = `unix://${link}-not`;
  await assert.rejects(resolve(`docker:${name}`), failure('RUNTIME_UNAVAILABLE', /docker.sock-not/));
});

test('a process by its pid', async (t) => {
  const pid = await sleeper(t);
  const container = await resolve(`pid:${pid}`);
  assert.deepEqual([container.id, container.pid], [String(pid), pid]);
  using netns = openContainerNetns(container);
  assert.equal(`net:[${netns.inode}]`, readlinkSync(`/proc/${pid}/ns/net`));
  process.kill(pid, 'SIGKILL');
  while (spawnSync('test', ['-e', `/proc/${pid}`]).status === 0)
    await new Promise((done) => setTimeout(done, 5));
  assert.throws(() => openContainerNetns(container), failure('CONTAINER_GONE'));
  await assert.rejects(resolve(`pid:${pid}`), failure('CONTAINER_NOT_RUNNING', /ESRCH/));
});

test('a zombie has no namespace', async (t) => {
  // Its parent never asks for its end.
  const parent = spawn('sh', ['-c', 'sleep 0 & echo $!; exec sleep 600'], {
    stdio: ['ignore', 'pipe', 'ignore'],
  });
  t.after(() => parent.kill('SIGKILL'));
  const pid = await new Promise<string>((done) =>
    parent.stdout.once('data', (data) => done(String(data).trim())),
  );
  await new Promise((done) => setTimeout(done, 100));
  await assert.rejects(resolve(`pid:${pid}`), failure('CONTAINER_NOT_RUNNING'));
});

test('a named network namespace, and a path', async (t) => {
  const name = `pwt-c${process.pid}`;
  execFileSync('ip', ['netns', 'add', name]);
  t.after(() => execFileSync('ip', ['netns', 'del', name]));
  for (const text of [`netns:${name}`, `netns:/run/netns/${name}`]) {
    const container = await resolve(text);
    assert.equal(container.netnsPath, `/run/netns/${name}`);
    assert.equal(container.pid, undefined);
    using netns = openContainerNetns(container);
    const inode = execFileSync('stat', ['-L', '-c', '%i', `/run/netns/${name}`], { encoding: 'utf8' }).trim();
    assert.equal(String(netns.inode), inode);
  }
});

test('paths that are no network namespace', async (t) => {
  const folder = temporaryFolder(t);
  writeFileSync(path.join(folder, 'file'), '');
  execFileSync('mkfifo', [path.join(folder, 'fifo')]);
  symlinkSync('/proc/self/ns/mnt', path.join(folder, 'mnt'));
  for (const bad of [
    folder,
    `${folder}/file`,
    `${folder}/fifo`,
    `${folder}/mnt`,
    '/dev/null',
    '/proc/self/ns/mnt',
    '/proc/self/ns/user',
  ]) {
    await assert.rejects(resolve(`netns:${bad}`), failure('BAD_ARGUMENT', /is not a network namespace$/));
  }
  await assert.rejects(resolve('netns:pwt-nosuch'), failure('CONTAINER_UNKNOWN', /\/run\/netns\/pwt-nosuch/));
  await assert.rejects(resolve('netns:/dev/null/x'), failure('CONTAINER_UNKNOWN', /ENOTDIR/));
});
