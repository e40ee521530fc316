/**
 * The process that watches over the move of a NIC. It is started before anything is touched, in a session of its own, holds
 * nothing of the terminal, and puts everything back when the command dies in the middle, nobody confirms in time, or somebody
 * takes the bridge or the NIC away meanwhile.
 * Whoever acts does so under the host's lock, by what the journal on disk says then.
 */
import { spawn } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { setPriority } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import { startTimeOf } from '../containers/proc.ts';
import { PipewrightError } from '../errors.ts';
import { acquireLock, type Lock } from '../kernel/lock.ts';
import type { StandIn, UplinkJournal } from '../model/uplink.ts';
import { Host } from './host.ts';
import { UplinkExecutor } from './uplink-execute.ts';
import { monotonicMs, relearn, takeBack } from './uplink-journal.ts';
import { isTorn } from './uplink-torn.ts';

/** The first word of the guard's command line. */
export const guardWord = '__guard-uplink';

const startTimeoutMs = 15_000;
const startPollMs = 5;
const watchMs = 50;
/** How long a command that is past its time may hold the lock. */
const lockPatienceMs = 500;
/** How long the guard goes on with what could not be put back, and with routes that the kernel has to relearn. */
const persistenceMs = 60_000;
const retryMs = 500;
/** nice(2). */
const guardPriority = -15;

/** Whether a process is the one that was meant: a pid can be used again. */
export function isAlive({ pid, startTime }: { readonly pid: number; readonly startTime: string }): boolean {
  return startTimeOf(pid) === startTime;
}

/** Starts the guard of a NIC, and returns when it watches. @throws PipewrightError PROGRAM_FAILED */
export async function startGuard(host: Host, nic: string): Promise<void> {
  host.state.writeGuard(nic, undefined);
  const program = process.argv[1] ?? '';
  const child = spawn(process.execPath, [program, guardWord, nic, host.ovsdbSocket], {
    // A session of its own: no hangup when the terminal goes, no interrupt from its keyboard.
    detached: true,
    stdio: 'ignore',
    cwd: '/',
    env: { PATH: process.env.PATH ?? '/usr/sbin:/usr/bin:/sbin:/bin' },
  });
  child.unref();
  const deadline = performance.now() + startTimeoutMs;
  while (performance.now() < deadline && child.exitCode === null && child.signalCode === null) {
    const guard = host.state.guard(nic);
    if (guard && guard.pid === child.pid && isAlive(guard)) return;
    await sleep(startPollMs);
  }
  child.kill('SIGKILL');
  throw new PipewrightError('PROGRAM_FAILED', {
    op: 'uplink.guard',
    subject: nic,
    detail: 'the process that would put everything back did not start, so nothing was touched',
  });
}

/** What the guard runs. @returns its exit code, which nobody sees */
export async function runGuard([nic = '', ovsdbSocket]: readonly string[]): Promise<number> {
  leaveLoginSession();
  goFirst();
  await using host = new Host(ovsdbSocket === undefined ? {} : { ovsdbSocket });
  host.state.writeGuard(nic, { pid: process.pid, startTime: startTimeOf(process.pid) ?? '' });
  let giveUpAt = Number.POSITIVE_INFINITY;
  let standIns: readonly StandIn[] = [];
  while (monotonicMs() < giveUpAt) {
    try {
      const journal = host.state.uplink(nic);
      if (!journal || journal.phase === 'settled') break;
      if (isOver(journal) || isTorn(host, journal)) {
        if (isOver(journal)) giveUpAt = Math.min(giveUpAt, monotonicMs() + persistenceMs);
        if (await putBack(host, nic)) break;
        await sleep(retryMs);
      } else {
        if (journal.phase === 'moved') standIns = new UplinkExecutor(host, 0).settle(journal.standIns);
        await sleep(watchMs);
      }
    } catch {
      // Whatever it was: nobody else is there to try again.
      await sleep(retryMs);
    }
  }
  // It was confirmed before the kernel had learned its routers again.
  if (host.state.uplink(nic)?.phase === 'settled') await relearn(host, standIns);
  host.state.writeGuard(nic, undefined);
  return 0;
}

/** Whether it is time to put everything back. */
export function isOver(journal: UplinkJournal): boolean {
  return monotonicMs() >= journal.deadline || (journal.phase === 'moving' && !isAlive(journal));
}

/** @returns whether nothing is left to be put back */
async function putBack(host: Host, nic: string): Promise<boolean> {
  const lock = await lockAnyway(host, nic);
  let standIns: readonly StandIn[];
  try {
    // It may have been confirmed, or put back, while we waited.
    const journal = host.state.uplink(nic);
    if (!journal || journal.phase === 'settled') return true;
    if (!isOver(journal) && !isTorn(host, journal)) return false;
    const failures = await takeBack(host, journal);
    if (failures.length > 0) return false;
    standIns = journal.undoStandIns;
  } finally {
    lock?.[Symbol.dispose]();
  }
  await relearn(host, standIns);
  return true;
}

/**
 * The lock; a command that hangs is ended for it. Another one's that is not given up is not waited for: to be unreachable
 * is worse than to be in each other's way.
 */
async function lockAnyway(host: Host, nic: string): Promise<Lock | undefined> {
  for (let attempt = 0; attempt < 2; attempt++) {
    try {
      return await acquireLock(host.state.lockPath, lockPatienceMs);
    } catch (error) {
      if (!(error instanceof PipewrightError) || error.code !== 'LOCK_TIMEOUT') throw error;
      const journal = host.state.uplink(nic);
      if (journal?.phase === 'moving' && isAlive(journal)) end(journal.pid);
    }
  }
  return undefined;
}

/** It may have ended meanwhile. */
function end(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
  }
}

/** On a host that is busy with something else the guard is in time as well. The agent's unit has no CAP_SYS_NICE. */
function goFirst(): void {
  try {
    setPriority(guardPriority);
  } catch {
    // Then it takes its turn.
  }
}

/** Where logind ends what a session leaves behind (KillUserProcesses), and where memory is short, the guard stays. */
function leaveLoginSession(): void {
  for (const [file, text] of [
    ['/proc/self/oom_score_adj', '-900'],
    ...loginGroups().map((folder) => [`${folder}/cgroup.procs`, String(process.pid)]),
  ] as const) {
    try {
      writeFileSync(file ?? '', text ?? '');
    } catch {
      // Then it stays where it is.
    }
  }
}

/** The roots of the control group hierarchies in which this process belongs to a user's session. */
function loginGroups(): string[] {
  return readFileSync('/proc/self/cgroup', 'utf8')
    .split('\n')
    .flatMap((line) => {
      const [, name, path = ''] = /^\d+:([^:]*):(.*)$/.exec(line) ?? [];
      if (!/\/user\.slice\//.test(path)) return [];
      if (name === '') return ['/sys/fs/cgroup', '/sys/fs/cgroup/unified'];
      return name === 'name=systemd' ? ['/sys/fs/cgroup/systemd'] : [];
    });
}
