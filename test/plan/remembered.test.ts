import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isSameMemory, type Memory, reclaimableOf, remember } from '../../src/plan/remembered.ts';

const memory: Memory = {
  'web/eth1 lan 4': { ip: '10.0.0.1' },
  'old/eth1 lan 4': { ip: '10.0.0.2', unusedSince: 200 },
  'older/eth1 lan 4': { ip: '10.0.0.3', unusedSince: 100 },
  'ancient/eth1 lan 4': { ip: '10.0.0.4', unusedSince: 100 },
  'unseen/eth1 lan 4': { ip: '10.0.0.5' },
  'stopped/eth1 lan 4': { ip: '10.0.0.6', unusedSince: 1 },
};

test('what nobody has used for longest comes first; what a container has, running or not, never', () => {
  assert.deepEqual(reclaimableOf(memory, new Set(['web', 'stopped'])), [
    'ancient/eth1 lan 4',
    'older/eth1 lan 4',
    'old/eth1 lan 4',
    'unseen/eth1 lan 4',
  ]);
});

test('the order is the same whatever order they are kept in', () => {
  const backwards = Object.fromEntries(Object.entries(memory).reverse());
  const existing = new Set(['web']);
  assert.deepEqual(reclaimableOf(backwards, existing), reclaimableOf(memory, existing));
});

test('since when an address is not used is noted once, by a look at everything, and forgotten when it is used', () => {
  const addresses = new Map([
    ['web/eth1 lan 4', '10.0.0.1'],
    ['old/eth1 lan 4', '10.0.0.2'],
    ['unseen/eth1 lan 4', '10.0.0.5'],
  ]);
  const used = new Set(['web/eth1 lan 4']);
  assert.deepEqual(remember(memory, addresses, used, { isComplete: true, now: 900 }), {
    'web/eth1 lan 4': { ip: '10.0.0.1' },
    'old/eth1 lan 4': { ip: '10.0.0.2', unusedSince: 200 },
    'unseen/eth1 lan 4': { ip: '10.0.0.5', unusedSince: 900 },
  });
  assert.deepEqual(remember(memory, addresses, new Set(addresses.keys()), { isComplete: false, now: 900 }), {
    'web/eth1 lan 4': { ip: '10.0.0.1' },
    'old/eth1 lan 4': { ip: '10.0.0.2' },
    'unseen/eth1 lan 4': { ip: '10.0.0.5' },
  });
  const some = remember(memory, addresses, used, { isComplete: false, now: 900 });
  assert.deepEqual(some['unseen/eth1 lan 4'], { ip: '10.0.0.5' });
});

test('nothing is written when nothing differs', () => {
  const same = Object.fromEntries(Object.entries(memory).reverse());
  assert.ok(isSameMemory(memory, same));
  assert.ok(!isSameMemory(memory, { ...memory, 'web/eth1 lan 4': { ip: '10.0.0.9' } }));
  assert.ok(!isSameMemory(memory, { ...memory, 'new/eth1 lan 4': { ip: '10.0.0.9' } }));
  assert.ok(!isSameMemory(memory, { ...memory, 'old/eth1 lan 4': { ip: '10.0.0.2' } }));
});
