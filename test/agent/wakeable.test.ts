import assert from 'node:assert/strict';
import test from 'node:test';
import { type Scope, Wakeable } from '../../src/agent/wakeable.ts';

/** Rounds that go on until they are let go. */
function controlled() {
  const scopes: Scope[] = [];
  const ends: (() => void)[] = [];
  const wakeable = new Wakeable((scope) => {
    scopes.push(scope);
    return new Promise<void>((resolve) => ends.push(resolve));
  });
  const next = async (): Promise<void> => {
    ends.shift()?.();
    await new Promise((resolve) => setImmediate(resolve));
  };
  return { wakeable, scopes, next };
}

test('any number of wake-ups during a round become one more', async () => {
  const { wakeable, scopes, next } = controlled();
  for (let i = 0; i < 5; i++) wakeable.wake();
  assert.equal(scopes.length, 1);
  for (let i = 0; i < 5; i++) wakeable.wake();
  await next();
  assert.equal(scopes.length, 2);
  await next();
  assert.equal(scopes.length, 2);
  await wakeable.idle();
});

test('a container that starts goes before looking at everything', async () => {
  const { wakeable, scopes, next } = controlled();
  wakeable.wake();
  wakeable.wake();
  wakeable.wake('web');
  wakeable.wake('db');
  await next();
  await next();
  await next();
  assert.deepEqual(scopes, ['all', new Set(['web', 'db']), 'all']);
});

test('after closing nothing runs any more', async () => {
  const { wakeable, scopes, next } = controlled();
  wakeable.wake();
  wakeable.wake();
  const closed = wakeable.close();
  await next();
  await closed;
  wakeable.wake();
  assert.equal(scopes.length, 1);
});
