import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import test, { type TestContext } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { acquireLock, heldLocks } from '../../src/kernel/lock.ts';

function lockFile(t: TestContext): string {
  const dir = mkdtempSync(path.join(tmpdir(), 'pwt-lock-'));
  t.after(() => rmSync(dir, { recursive: true, force: true }));
  return path.join(dir, 'lock');
}

/** Whether another program gets the lock at once: flock(1) of util-linux. */
const isFree = (file: string): boolean => spawnSync('flock', ['--nonblock', file, 'true']).status === 0;

test('one at a time: the second waits until the first is done', async (t) => {
  const file = lockFile(t);
  const order: string[] = [];
  const work = async (name: string): Promise<void> => {
    using _lock = await acquireLock(file);
    order.push(`${name} begins`);
    await sleep(20);
    order.push(`${name} ends`);
  };
  await Promise.all([work('a'), work('b'), work('c')]);
  for (let i = 0; i < order.length; i += 2) assert.equal(order[i]?.[0], order[i + 1]?.[0], order.join(', '));
  assert.equal(isFree(file), true);
});

test('who waits too long is told for what', async (t) => {
  const file = lockFile(t);
  using _lock = await acquireLock(file);
  assert.equal(isFree(file), false);
  await assert.rejects(acquireLock(file, 50), {
    code: 'LOCK_TIMEOUT',
    subject: file,
    hint: `see who holds it: lsof ${file}`,
  });
});

test('it is free again when its holder is killed', async (t) => {
  const file = lockFile(t);
  const holder = spawn('flock', ['--no-fork', file, 'sleep', '60'], { stdio: 'ignore' });
  while (isFree(file)) await sleep(5);
  const waiting = acquireLock(file, 5000);
  holder.kill('SIGKILL');
  await once(holder, 'exit');
  (await waiting)[Symbol.dispose]();
});

test('a program that inherits it holds it on', async (t) => {
  const file = lockFile(t);
  const lock = await acquireLock(file);
  assert.deepEqual(heldLocks(), [lock.fd]);
  const heir = spawn('sleep', ['60'], { stdio: ['ignore', 'ignore', 'ignore', ...heldLocks()] });
  await once(heir, 'spawn');
  lock[Symbol.dispose]();
  assert.deepEqual(heldLocks(), []);
  assert.equal(isFree(file), false);
  heir.kill('SIGKILL');
  await once(heir, 'exit');
  assert.equal(isFree(file), true);
});

test('other programs do not inherit it', async (t) => {
  const file = lockFile(t);
  const lock = await acquireLock(file);
  const other = spawn('sleep', ['60'], { stdio: 'ignore' });
  await once(other, 'spawn');
  lock[Symbol.dispose]();
  assert.equal(isFree(file), true);
  other.kill('SIGKILL');
});
