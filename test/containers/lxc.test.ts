import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { chmodSync, mkdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import test, { type TestContext } from 'node:test';
import { findLxc, lxcPresent } from '../../src/containers/lxc.ts';
import { failure, temporaryFolder } from './support.ts';

/** Starts real processes: one that sleeps, `children` of it. The parent's pid first. */
async function processes(t: TestContext, children = 0): Promise<number[]> {
  const script = `${'sleep 600 & echo $!; '.repeat(children)} echo $$; exec sleep 600`;
  const parent = spawn('sh', ['-c', script], { stdio: ['ignore', 'pipe', 'ignore'], detached: true });
  t.after(() => parent.pid && process.kill(-parent.pid, 'SIGKILL'));
  let text = '';
  for await (const data of parent.stdout) {
    text += String(data);
    if (text.trim().split('\n').length > children) break;
  }
  return text.trim().split('\n').map(Number).reverse();
}

function cgroup(root: string, place: string, pids: readonly number[]): void {
  mkdirSync(path.join(root, place), { recursive: true });
  writeFileSync(path.join(root, place, 'cgroup.procs'), pids.map((pid) => `${pid}\n`).join(''));
}

/** A cgroup tree to search, without `lxc-info`. */
const emptyHost = (t: TestContext) => ({ cgroupRoot: temporaryFolder(t), searchPath: '' });

for (const place of [
  'lxc.payload.web',
  'unified/lxc.payload.web',
  'devices/lxc.payload.web',
  'lxc/lxc.payload.web',
  'pids/lxc/lxc.payload.web',
  'lxc/web',
  'memory/lxc/web',
]) {
  test(`found in ${place}`, async (t) => {
    const host = emptyHost(t);
    const [init = 0] = await processes(t);
    // The monitor's process is the test's own: it must never be taken.
    cgroup(
      host.cgroupRoot,
      place.replace('payload.web', 'monitor.web').replace(/lxc\/web$/, 'lxc.monitor/web'),
      [process.pid],
    );
    cgroup(host.cgroupRoot, `${place}-2`, [process.pid]);
    cgroup(host.cgroupRoot, place, [init]);
    assert.ok(lxcPresent(host));
    const found = await findLxc('web', host);
    assert.ok(found);
    const { startTime, ...rest } = found;
    assert.deepEqual(rest, {
      runtime: 'lxc',
      id: 'web',
      name: 'web',
      pid: init,
      netnsPath: `/proc/${init}/ns/net`,
    });
    assert.match(startTime ?? '', /^\d+$/);
  });
}

test('the init is the oldest process whose parent is outside, wherever it moved to', async (t) => {
  const host = emptyHost(t);
  const [init = 0, ...children] = await processes(t, 2);
  await new Promise((done) => setTimeout(done, 30));
  const [attached = 0] = await processes(t);
  cgroup(host.cgroupRoot, 'lxc.payload.web', []);
  cgroup(host.cgroupRoot, 'lxc.payload.web/system.slice/a.service', [attached, ...children]);
  cgroup(host.cgroupRoot, 'lxc.payload.web/init.scope', [init]);
  assert.equal((await findLxc('web', host))?.pid, init);
});

test('a cgroup that was left over is passed over for one with processes', async (t) => {
  const host = emptyHost(t);
  const [init = 0] = await processes(t);
  cgroup(host.cgroupRoot, 'devices/lxc.payload.web', []);
  cgroup(host.cgroupRoot, 'unified/lxc.payload.web', [init, 0]);
  assert.equal((await findLxc('web', host))?.pid, init);
});

test('a container without a process: the words of the original', async (t) => {
  const host = emptyHost(t);
  cgroup(host.cgroupRoot, 'lxc.payload.web', []);
  const text = /: Could not find a process inside container web\.$/;
  await assert.rejects(findLxc('web', host), failure('CONTAINER_NOT_RUNNING', text));
  cgroup(host.cgroupRoot, 'lxc.payload.web', [4_194_305]);
  await assert.rejects(findLxc('web', host), failure('CONTAINER_NOT_RUNNING', text));
});

test('unknown names, patterns and paths', async (t) => {
  const host = emptyHost(t);
  assert.ok(!lxcPresent(host));
  cgroup(host.cgroupRoot, 'lxc.payload.web', [process.pid]);
  cgroup(host.cgroupRoot, 'lxc.monitor.web', [process.pid]);
  for (const name of [
    'we',
    'web2',
    'w*',
    '*',
    'w?b',
    '../web',
    'web/../web',
    '',
    '.',
    '-n',
    'monitor',
    'a b',
  ]) {
    assert.equal(await findLxc(name, host), undefined, name);
  }
  assert.equal(await findLxc('web', { ...host, cgroupRoot: '/nonexistent' }), undefined);
});

test('lxc-info is asked for what has no cgroup in the usual places', async (t) => {
  const host = emptyHost(t);
  const [init = 0] = await processes(t);
  const searchPath = temporaryFolder(t);
  const program = path.join(searchPath, 'lxc-info');
  const answer = `[ "$*" = "-n web -p -H" ] && echo ${init} && exit; [ "$2" = off ] && exit; echo "$2 doesn't exist"; exit 1`;
  writeFileSync(program, `#!/bin/sh\n${answer}\n`);
  chmodSync(program, 0o755);
  const options = { ...host, searchPath: `relative:/nonexistent:${searchPath}` };
  assert.ok(lxcPresent(options));
  assert.equal((await findLxc('web', options))?.pid, init);
  assert.equal(await findLxc('other', options), undefined);
  await assert.rejects(findLxc('off', options), failure('CONTAINER_NOT_RUNNING'));
});
