import assert from 'node:assert/strict';
import { closeSync, mkdtempSync, openSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { test } from 'node:test';
import { PipewrightError } from '../../src/errors.ts';
import { syscalls } from '../../src/kernel/syscalls.ts';

test('a refused system call names itself, its object and the errno', () => {
  const error = {
    name: 'PipewrightError',
    code: 'KERNEL_REFUSED',
    op: 'setns',
    subject: 'web',
    errno: 'EBADF',
  };
  assert.throws(() => syscalls().setns(-1, 0x40000000, 'web'), error);
  assert.throws(() => syscalls().bind(-1, Buffer.alloc(12), 'x'), { op: 'bind', errno: 'EBADF' });
  assert.throws(() => syscalls().connect(-1, Buffer.alloc(12), 'x'), { op: 'connect', errno: 'EBADF' });
  assert.throws(() => syscalls().setsockopt(-1, 1, 1, Buffer.alloc(4), 'x'), {
    op: 'setsockopt',
    errno: 'EBADF',
  });
  assert.throws(() => syscalls().dup3(-1, 99, 0, 'x'), { op: 'dup3', errno: 'EBADF' });
  assert.throws(() => syscalls().socket(9999, 3, 0, 'x'), { op: 'socket', errno: 'EAFNOSUPPORT' });
  assert.throws(() => syscalls().socketpair(16, 3, 0, 'x'), { op: 'socketpair', errno: 'EOPNOTSUPP' });
});

test('flock: a second holder is refused with EAGAIN, and gets the lock when it is given up', (t) => {
  const dir = mkdtempSync(path.join(tmpdir(), 'pwt-flock-'));
  t.after(() => rmSync(dir, { recursive: true }));
  const lock = path.join(dir, 'lock');
  const [first, second] = [openSync(lock, 'w'), openSync(lock, 'w')];
  const exclusive = 2 | 4;
  syscalls().flock(first, exclusive, lock);
  assert.throws(
    () => syscalls().flock(second, exclusive, lock),
    (error) => error instanceof PipewrightError && error.errno === 'EAGAIN' && error.op === 'flock',
  );
  syscalls().flock(first, 8, lock);
  syscalls().flock(second, exclusive, lock);
  closeSync(first);
  closeSync(second);
});
