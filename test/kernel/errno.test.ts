import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { errnoName, refused, refusedByFs } from '../../src/kernel/errno.ts';

test('errno numbers have the names that the kernel gives them', () => {
  const names = [1, 2, 11, 17, 19, 35, 95, 101, 105, 524].map(errnoName);
  assert.deepEqual(names, [
    'EPERM',
    'ENOENT',
    'EAGAIN',
    'EEXIST',
    'ENODEV',
    'EDEADLK',
    'EOPNOTSUPP',
    'ENETUNREACH',
    'ENOBUFS',
    'ENOTSUPP',
  ]);
  assert.equal(errnoName(4000), 'errno 4000');
});

test('a missing right is its own code, whatever else was meant', () => {
  const about = { op: 'link.add', subject: 'br1', code: 'KIND_UNSUPPORTED' } as const;
  assert.equal(refused(1, about).code, 'NOT_PERMITTED');
  assert.equal(refused(13, about).code, 'NOT_PERMITTED');
  assert.equal(refused(95, about).code, 'KIND_UNSUPPORTED');
  assert.equal(refused(16, { op: 'x', subject: 'y' }).code, 'KERNEL_REFUSED');
});

test('the error of node:fs keeps its errno; a mistake of the program goes through', () => {
  try {
    readFileSync('/nowhere');
    assert.fail();
  } catch (error) {
    const refusal = refusedByFs(error, { op: 'sysctl.get', subject: 'x' });
    assert.equal(refusal.errno, 'ENOENT');
    assert.equal(refusal.message, 'sysctl.get x: no such file or directory [ENOENT]');
  }
  assert.throws(() => refusedByFs(new TypeError('mine'), { op: 'a', subject: 'b' }), TypeError);
});
