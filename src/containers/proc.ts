/** Processes and network namespaces that are named directly: `pid:N`, `netns:NAME`, `netns:/path`. */
import { closeSync, openSync, readFileSync, readlinkSync, statfsSync } from 'node:fs';
import { PipewrightError } from '../errors.ts';
import type { ContainerRef } from '../model/attachment.ts';
import type { Container } from './container.ts';

/** NSFS_MAGIC, linux/magic.h. */
const nsfsMagic = 0x6e736673;

interface ProcStat {
  readonly state: string;
  readonly parent: number;
  /** Clock ticks since boot, as text: it is compared, never counted with. */
  readonly startTime: string;
}

/** /proc/PID/stat, proc_pid_stat(5); undefined when there is no such process. */
export function statOf(pid: number): ProcStat | undefined {
  let text: string;
  try {
    // As utf8, which Node reads in one call.
    text = readFileSync(`/proc/${pid}/stat`, 'utf8');
  } catch {
    return undefined;
  }
  // The second field is the program's name in parentheses and may itself hold spaces and parentheses.
  const fields = text.slice(text.lastIndexOf(')') + 2).split(' ');
  const [state, parent] = fields;
  const startTime = fields[19];
  if (state === undefined || parent === undefined || startTime === undefined) return undefined;
  return { state, parent: Number(parent), startTime };
}

/**
 * When process `pid` started, in clock ticks since boot (`ps -o lstart` in other units). Undefined when it does
 * not exist or is a zombie, which has no namespaces any more.
 */
export function startTimeOf(pid: number): string | undefined {
  const stat = statOf(pid);
  return stat === undefined || stat.state === 'Z' || stat.state === 'X' ? undefined : stat.startTime;
}

/** `pid:N`. Throws CONTAINER_NOT_RUNNING when there is no such process. */
export function resolvePid(name: string): Container {
  const pid = Number(name);
  const startTime = startTimeOf(pid);
  if (startTime === undefined) {
    throw new PipewrightError('CONTAINER_NOT_RUNNING', {
      op: 'container.resolve',
      subject: `pid:${name}`,
      errno: 'ESRCH',
      detail: `there is no process ${name}`,
    });
  }
  return { runtime: 'pid', id: name, name, pid, netnsPath: `/proc/${pid}/ns/net`, startTime };
}

/** `netns:NAME` (`ip netns exec NAME`) or `netns:/path`. Throws CONTAINER_UNKNOWN, or BAD_ARGUMENT on another kind of file. */
export function resolveNetns(name: string): Container {
  const path = name.startsWith('/') ? name : `/run/netns/${name}`;
  checkNetns(path, { runtime: 'netns', name });
  return { runtime: 'netns', id: path, name, pid: undefined, netnsPath: path, startTime: undefined };
}

function checkNetns(path: string, ref: ContainerRef): void {
  const subject = `${ref.runtime}:${ref.name}`;
  let type: number;
  try {
    // Asks the file system, not the file: a FIFO put there does not block this.
    type = statfsSync(path).type;
  } catch (error) {
    throw new PipewrightError('CONTAINER_UNKNOWN', {
      op: 'container.resolve',
      subject,
      errno: (error as NodeJS.ErrnoException).code,
      detail: `there is no network namespace ${path}`,
      hint: 'ip netns list shows those that have a name.',
      cause: error,
    });
  }
  if (type !== nsfsMagic || isOtherNamespace(path)) {
    throw new PipewrightError('BAD_ARGUMENT', {
      op: 'container.resolve',
      subject,
      detail: `${path} is not a network namespace`,
    });
  }
}

/** An open /proc/PID/ns/KIND tells its kind. A bind mount of it does not: there setns(2) has the last word. */
function isOtherNamespace(path: string): boolean {
  const fd = openSync(path, 'r');
  try {
    const target = readlinkSync(`/proc/self/fd/${fd}`);
    return /^[a-z_]+:\[\d+\]$/.test(target) && !target.startsWith('net:');
  } finally {
    closeSync(fd);
  }
}
