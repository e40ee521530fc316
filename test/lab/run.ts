/** Running programs from tests: argument lists, never a shell; by default a failure throws with what was said. */
import { spawn, spawnSync } from 'node:child_process';
import path from 'node:path';

/** What a program answered. */
export interface Ran {
  /** Exit code; -1 when a signal or the time limit ended it, or it could not be started. */
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

export interface RunOptions {
  /** The exit code that is right; anything else throws. Default 0; `any` takes all. */
  readonly expect?: number | 'any';
  readonly input?: string;
  /** Added to the environment; undefined takes a variable away. */
  readonly env?: Readonly<Record<string, string | undefined>>;
  /** Seconds, default 60. */
  readonly timeout?: number;
}

/** A network namespace: the machine's own, that of a process, or a name below /run/netns. */
export type Where = 'host' | number | string;

/** The folder of the project: the test runner sets it, as tests run from their bundles. */
export const root = process.env.PIPEWRIGHT_ROOT ?? process.cwd();

function environment(added: RunOptions['env'] = {}): NodeJS.ProcessEnv {
  // NODE_EXTRA_CA_CERTS costs every start of Node 20 40 ms.
  return { ...process.env, NODE_EXTRA_CA_CERTS: undefined, ...added };
}

function judged(command: string, args: readonly string[], ran: Ran, expect: number | 'any' = 0): Ran {
  if (expect === 'any' || ran.code === expect) return ran;
  const said = `${ran.stdout}${ran.stderr}`.trim();
  throw new Error(`${[command, ...args].join(' ')}: exit ${ran.code} instead of ${expect}: ${said}`);
}

/** Runs a program to its end. */
export function run(command: string, args: readonly string[], options: RunOptions = {}): Ran {
  const done = spawnSync(command, args, {
    encoding: 'utf8',
    input: options.input ?? '',
    env: environment(options.env),
    timeout: 1000 * (options.timeout ?? 60),
    maxBuffer: 64 * 1024 * 1024,
  });
  const failure = done.error ? `${done.error.message}\n` : '';
  const ran = {
    code: done.status ?? -1,
    stdout: done.stdout ?? '',
    stderr: `${done.stderr ?? ''}${failure}`,
  };
  return judged(command, args, ran, options.expect);
}

/** Likewise, for several at the same time. */
export function runAsync(command: string, args: readonly string[], options: RunOptions = {}): Promise<Ran> {
  const child = spawn(command, args, {
    env: environment(options.env),
    timeout: 1000 * (options.timeout ?? 60),
    stdio: ['pipe', 'pipe', 'pipe'],
  });
  let stdout = '';
  let stderr = '';
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    stdout += text;
  });
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    stderr += text;
  });
  child.stdin.on('error', () => {}).end(options.input ?? '');
  return new Promise((resolve, reject) => {
    child.once('error', reject);
    child.once('close', (code) => {
      try {
        resolve(judged(command, args, { code: code ?? -1, stdout, stderr }, options.expect));
      } catch (error) {
        reject(error);
      }
    });
  });
}

/** The words before a command that make it run in a namespace: `nsenter --net=...`; none for the host. */
export function nsenter(where: Where): string[] {
  if (where === 'host') return [];
  return ['nsenter', `--net=${typeof where === 'number' ? `/proc/${where}/ns/net` : `/run/netns/${where}`}`];
}

/** Runs a program in a network namespace; files and mounts stay the machine's. */
export function runIn(where: Where, command: string, args: readonly string[], options: RunOptions = {}): Ran {
  const [first = command, ...rest] = [...nsenter(where), command, ...args];
  return run(first, rest, options);
}

const program = (name: string): string => path.join(root, 'bin', name);

/** `bin/pipework ARGS`, run by the Node that runs the tests. */
export function pipework(args: readonly string[], options: RunOptions = {}): Ran {
  return run(process.execPath, [program('pipework'), ...args], options);
}

/** `bin/pipewright ARGS`, run by the Node that runs the tests. */
export function pipewright(args: readonly string[], options: RunOptions = {}): Ran {
  return run(process.execPath, [program('pipewright'), ...args], options);
}

/** Several at once: `Promise.all(list.map((args) => pipeworkAsync(args)))`. */
export function pipeworkAsync(args: readonly string[], options: RunOptions = {}): Promise<Ran> {
  return runAsync(process.execPath, [program('pipework'), ...args], options);
}
