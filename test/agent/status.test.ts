import assert from 'node:assert/strict';
import test from 'node:test';
import { contestedAfter, contestedWindowMs, Ledger } from '../../src/agent/status.ts';

test('failures are tried again later and later, and a success ends that', () => {
  const ledger = new Ledger('web/eth1');
  const waits = Array.from({ length: 10 }, () => {
    ledger.failed('no', 0, 1);
    return ledger.waitMs(0);
  });
  assert.deepEqual(waits, [1000, 2000, 4000, 8000, 16_000, 32_000, 60_000, 60_000, 60_000, 60_000]);
  assert.equal(ledger.status().state, 'failing');
  ledger.right();
  assert.equal(ledger.status().state, 'healthy');
  ledger.failed('no', 0, 1);
  assert.equal(ledger.waitMs(0), 1000);
});

test('two that fail at the same time are not tried at the same time', () => {
  const [a, b] = [new Ledger('a'), new Ledger('b')];
  a.failed('no', 0, 0);
  b.failed('no', 0, 1);
  assert.deepEqual([a.waitMs(0), b.waitMs(0)], [500, 1000]);
});

test('a container that starts anew is not made to wait', () => {
  const ledger = new Ledger('web/eth1');
  ledger.failed('no', 0, 1);
  ledger.retryNow();
  assert.equal(ledger.waitMs(0), 0);
});

test('who undoes every repair is not fought for ever', () => {
  const ledger = new Ledger('web/eth1');
  const told = Array.from({ length: contestedAfter + 2 }, (_, i) => ledger.repaired('addr', i * 1000));
  assert.deepEqual(told.indexOf(true), contestedAfter);
  assert.equal(told.filter(Boolean).length, 1);
  assert.equal(ledger.status().state, 'contested');
  assert.equal(ledger.status().repairs, contestedAfter + 2);
  assert.ok(ledger.waitMs((contestedAfter + 1) * 1000) >= contestedWindowMs);
});

test('repairs far apart are no contest', () => {
  const ledger = new Ledger('web/eth1');
  for (let i = 0; i < 5 * contestedAfter; i++) ledger.repaired('addr', i * contestedWindowMs);
  assert.equal(ledger.status().state, 'healthy');
});
