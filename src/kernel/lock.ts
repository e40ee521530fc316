/** One transaction at a time on a host: an flock(2), which the kernel takes back when its holder dies. */
import { closeSync, openSync } from 'node:fs';
import { hasErrno, PipewrightError } from '../errors.ts';
import { syscalls } from './syscalls.ts';

const LOCK_EX = 2;
const LOCK_NB = 4;

/** A held lock. */
export interface Lock extends Disposable {
  readonly fd: number;
}

/**
 * Waits for the lock without blocking the event loop. A transaction takes milliseconds, so the wait is short steps.
 * @param path of a file, made when it is missing, or of a directory
 * @throws PipewrightError LOCK_TIMEOUT after `timeoutMs`, naming the holder
 */
export async function acquireLock(path: string, timeoutMs = 60_000): Promise<Lock> {
  const fd = open(path);
  try {
    const deadline = Date.now() + timeoutMs;
    for (let pauseMs = 1; ; pauseMs = Math.min(20, pauseMs * 2)) {
      if (tryLock(fd, path)) return hold(fd);
      if (Date.now() > deadline) throw lockTimeout(path);
      await new Promise((resolve) => setTimeout(resolve, pauseMs));
    }
  } catch (error) {
    closeSync(fd);
    throw error;
  }
}

function open(path: string): number {
  try {
    return openSync(path, 'a+', 0o644);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EISDIR') return openSync(path, 'r');
    throw error;
  }
}

const held = new Set<number>();

function hold(fd: number): Lock {
  held.add(fd);
  const release = (): void => {
    held.delete(fd);
    closeSync(fd);
  };
  return { fd, [Symbol.dispose]: release };
}

/**
 * The locks that this process holds, to be inherited by a program that changes something: should this process be killed,
 * the lock is held on until that program has ended, and nobody takes back what is not done yet.
 */
export function heldLocks(): readonly number[] {
  return [...held];
}

function tryLock(fd: number, path: string): boolean {
  try {
    syscalls().flock(fd, LOCK_EX | LOCK_NB, path);
  } catch (error) {
    if (hasErrno(error, 'EAGAIN', 'EWOULDBLOCK', 'EINTR')) return false;
    throw error;
  }
  return true;
}

function lockTimeout(path: string): PipewrightError {
  return new PipewrightError('LOCK_TIMEOUT', {
    op: 'lock',
    subject: path,
    hint: `see who holds it: lsof ${path}`,
  });
}
