import assert from 'node:assert/strict';
import test from 'node:test';
import { Ledgers } from '../../src/agent/ledgers.ts';
import { contestedAfter } from '../../src/agent/status.ts';

test('an engine that is back helps what failed, not what somebody undoes again and again', () => {
  const ledgers = new Ledgers();
  ledgers.of('web/eth1').failed('no');
  for (let i = 0; i <= contestedAfter; i++) ledgers.of('db/eth1').repaired('addr');
  ledgers.retryNow(false);
  assert.equal(ledgers.waitMs('web/eth1'), 0);
  assert.ok(ledgers.waitMs('db/eth1') > 0);
  // A file that is edited says it anew.
  ledgers.retryNow(true);
  assert.equal(ledgers.waitMs('db/eth1'), 0);
});
