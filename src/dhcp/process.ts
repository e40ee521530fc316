/** Programs that are started once and looked after: found in the PATH, run to their end, found again, ended. */
import { type ChildProcess, type SpawnOptions, spawn } from 'node:child_process';
import { accessSync, closeSync, constants, openSync, readFileSync, rmSync, statSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { printable } from '../config/names.ts';
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
export interface Run {
  readonly argv: readonly string[];
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
 * Throws PROGRAM_MISSING; PROGRAM_FAILED with the last line that it printed; the signal's reason when that ended it.
 */
export async function run({ argv, netns, env, logFile, failure, signal }: Run): Promise<void> {
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
        detail: lastLine(readFileSync(logFile, 'utf8')) ?? `${program} ended with ${exit}`,
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

/** The last line that says something. Docker ends its complaints with advice. */
function lastLine(output: string): string | undefined {
  const line = output
    .split('\n')
    .filter((text) => text.trim() !== '' && !/^(See '|Run ')docker/.test(text))
    .at(-1);
  return line === undefined ? undefined : printable(line.trim());
}

/** The pid in a pid file, when a process of this program and with `mark` in its environment has it. */
export function livePid(pidFile: string, program: string, mark?: string): number | undefined {
  try {
    const pid = Number(readFileSync(pidFile, 'latin1').trim());
    if (!Number.isSafeInteger(pid) || pid <= 1) return undefined;
    if (readFileSync(`/proc/${pid}/comm`, 'latin1').trim() !== program) return undefined;
    if (mark === undefined) return pid;
    return readFileSync(`/proc/${pid}/environ`, 'latin1').split('\0').includes(mark) ? pid : undefined;
  } catch {
    return undefined;
  }
}

/** Ends a process, by SIGKILL when SIGTERM does not within two seconds, and waits until it is gone. */
export async function endProcess(pid: number): Promise<void> {
  for (let waitedMs = 0; signalled(pid, waitedMs === 0 ? 'SIGTERM' : 0); waitedMs += 10) {
    if (waitedMs === 2000) signalled(pid, 'SIGKILL');
    if (waitedMs >= 3000) return;
    await sleep(10);
  }
}

/** Whether the process was there to get the signal. */
function signalled(pid: number, signal: NodeJS.Signals | 0): boolean {
  try {
    return process.kill(pid, signal);
  } catch {
    return false;
  }
}
