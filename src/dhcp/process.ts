/** Programs that are started once and looked after: found in the PATH, run to their end, found again, ended. */
import { type ChildProcess, type SpawnOptions, spawn } from 'node:child_process';
import {
  accessSync,
  closeSync,
  constants,
  existsSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
} from 'node:fs';
import { delimiter, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { printable } from '../config/names.ts';
import { startTimeOf } from '../containers/proc.ts';
import { type ErrorDetails, PipewrightError } from '../errors.ts';
import { inNetns, type Netns } from '../kernel/netns.ts';

/** The path of a program, as execvp(3) finds it, or undefined when it is not installed. */
export function findProgram(name: string): string | undefined {
  const folders = (process.env.PATH ?? '/usr/sbin:/usr/bin:/sbin:/bin').split(delimiter);
  return folders.map((folder) => join(folder || '.', name)).find(isProgram);
}

function isProgram(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return statSync(path).isFile();
  } catch {
    return false;
  }
}

/** A program to be run, where, and what it is run for. */
interface Run {
  readonly argv: readonly string[];
  /** The program that this comes down to, for what is said of it. */
  readonly name: string;
  readonly netns: Netns;
  readonly env: NodeJS.ProcessEnv;
  /** Collects what the program prints; removed when it has ended. */
  readonly logFile: string;
  /** For the error. */
  readonly failure: Pick<ErrorDetails, 'op' | 'subject' | 'hint'>;
  /** Ends the program. */
  readonly signal?: AbortSignal | undefined;
}

/**
 * Runs a program in a network namespace until it exits, or leaves its work to a process in the background.
 * Throws PROGRAM_MISSING; PROGRAM_FAILED with the line in which the program says why; the signal's reason when that ended it.
 */
export async function run({ argv, name, netns, env, logFile, failure, signal }: Run): Promise<void> {
  signal?.throwIfAborted();
  const [program = '', ...args] = argv;
  // A file, not a pipe: a client that stays keeps its end of it, and would be killed by what it writes to a closed pipe.
  const log = openSync(logFile, 'w', 0o600);
  try {
    const options: SpawnOptions = { stdio: ['ignore', log, log], env, cwd: '/' };
    const exit = await ended(
      inNetns(netns, () => spawn(program, args, options)),
      signal,
    );
    signal?.throwIfAborted();
    if (exit === 'missing') {
      throw new PipewrightError('PROGRAM_MISSING', { ...failure, detail: `${program} is not installed` });
    }
    if (exit !== '0') {
      throw new PipewrightError('PROGRAM_FAILED', {
        ...failure,
        detail: complaintOf(name, readFileSync(logFile, 'utf8')) ?? `${name} ended with ${exit}`,
      });
    }
  } finally {
    closeSync(log);
    rmSync(logFile, { force: true });
  }
}

/** How a child ended: its exit code, the name of the signal, or `missing`. */
function ended(child: ChildProcess, signal: AbortSignal | undefined): Promise<string> {
  return new Promise((resolve, reject) => {
    const stop = () => child.kill('SIGTERM');
    signal?.addEventListener('abort', stop, { once: true });
    child.on('error', (error: NodeJS.ErrnoException) => {
      if (error.code === 'ENOENT') resolve('missing');
      else reject(error);
    });
    child.on('exit', (code, killedBy) => {
      signal?.removeEventListener('abort', stop);
      resolve(killedBy ?? String(code));
    });
  });
}

/** The last line that the program signs with its name; else the last line: usage and advice come unsigned, at the end. */
function complaintOf(program: string, output: string): string | undefined {
  const lines = output.split('\n').flatMap((line) => line.trim() || []);
  const line = lines.filter((text) => text.startsWith(`${program}: `)).at(-1) ?? lines.at(-1);
  return line === undefined ? undefined : printable(line);
}

/** Processes that were started with this variable, `NAME=value`, in their environment. */
export function findMarked(mark: string): number[] {
  const pids = readdirSync('/proc').filter((name) => /^\d+$/.test(name));
  return pids.map(Number).filter((pid) => readProc(pid, 'environ').split('\0').includes(mark));
}

/** The pid in a pid file, when a process of this program has it. */
export function livePid(pidFile: string, program: string): number | undefined {
  const pid = existsSync(pidFile) ? Number(readFileSync(pidFile, 'latin1').trim()) : 0;
  return pid > 1 && readProc(pid, 'comm').trim() === program ? pid : undefined;
}

function readProc(pid: number, file: 'environ' | 'comm'): string {
  try {
    return readFileSync(`/proc/${pid}/${file}`, 'latin1');
  } catch {
    return '';
  }
}

/** Ends a process, by SIGKILL when SIGTERM does not within two seconds, and waits until it is gone. */
export async function endProcess(pid: number): Promise<void> {
  const startTime = startTimeOf(pid);
  signalProcess(pid, 'SIGTERM');
  for (let waitedMs = 0; waitedMs < 3000 && startTime === startTimeOf(pid); waitedMs += 5) {
    if (waitedMs === 2000) signalProcess(pid, 'SIGKILL');
    await sleep(5);
  }
}

function signalProcess(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(pid, signal);
  } catch {
    // It was gone before.
  }
}
