/** `pipework route`, `rule` and `tc`: a program of the host, run in a container's network namespace. */
import { spawnSync } from 'node:child_process';
import { constants } from 'node:os';
import { PipewrightError } from '../errors.ts';
import { inNetns, type Netns } from '../kernel/netns.ts';

/**
 * Runs a program in a network namespace, with this program's input and output (`ip netns exec NS PROGRAM ARGS`).
 * Returns its exit code; when a signal ended it, 128 and the signal's number, as shells do.
 * Throws PROGRAM_MISSING, and PROGRAM_FAILED when it cannot be started.
 */
export function runInNetns(netns: Netns, program: string, args: readonly string[]): number {
  // The thread waits inside: what is started and ended between two setns calls needs no other care.
  const { error, status, signal } = inNetns(netns, () => spawnSync(program, args, { stdio: 'inherit' }));
  if (error !== undefined) {
    const { code } = error as NodeJS.ErrnoException;
    const what = { op: program, subject: netns.label, errno: code };
    if (code !== 'ENOENT') throw new PipewrightError('PROGRAM_FAILED', { ...what, detail: error.message });
    const detail = `${program} is not installed`;
    throw new PipewrightError('PROGRAM_MISSING', {
      ...what,
      detail,
      hint: 'ip and tc are in the package iproute2.',
    });
  }
  return status ?? 128 + (signal === null ? 0 : constants.signals[signal]);
}
