/** Test files that are run in a machine: bundled here, where that is quick, run there one after the other. */
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { root, run } from '../lab/run.ts';
import { Machine } from './machine.ts';

/** A test file, or tests of it. */
export interface GuestTests {
  /** Path from the project's folder. */
  readonly file: string;
  /** Regular expressions, as `node --test-name-pattern` takes them; all of the file when there are none. */
  readonly only?: readonly string[];
}

/** How a test ended: a line of scripts/vm/report.mjs. */
export interface Result {
  readonly file: string;
  readonly name: string;
  readonly ok: boolean;
  /** Why it was skipped. */
  readonly skip?: string;
  readonly error?: string;
  /** Of the machine's time. */
  readonly ms: number;
}

/** A word that a shell takes as it is. */
export const quoted = (word: string): string => `'${word.replaceAll("'", "'\\''")}'`;

/** How long a machine is waited for, in milliseconds. */
export interface Limits {
  /** Until it has booted and its daemons answer. */
  readonly up: number;
  /** Until the last test has ended. */
  readonly all: number;
}

/** The machine, or this one around it, is too slow: what was to be run is not run. */
export class TooSlow extends Error {}

/**
 * Runs the tests in a machine and gives their results as they come. `print` is given what the runner says there.
 * @throws {@link TooSlow} at the limits
 */
export async function* guestTests(
  tests: readonly GuestTests[],
  print: (text: string) => void = () => {},
  limits: Limits = { up: Number.POSITIVE_INFINITY, all: Number.POSITIVE_INFINITY },
): AsyncGenerator<Result> {
  mkdirSync(path.join(root, 'build'), { recursive: true });
  const bundles = mkdtempSync(path.join(root, 'build/vm-'));
  try {
    run(process.execPath, ['scripts/test.mjs', `--bundle=${bundles}`, ...tests.map(({ file }) => file)]);
    const machine = await Machine.start({
      name: 'pwt-vm',
      script: scriptOf(tests, bundles),
      print,
    });
    try {
      for (const [at, { file }] of tests.entries()) {
        for await (const line of lines(machine, at, limits)) yield { file, ...JSON.parse(line) } as Result;
      }
      const code = await machine.end();
      if (code !== 0 && code !== 1) throw new Error(`the machine ended with ${code}: ${machine.said}`);
    } finally {
      await machine.remove();
    }
  } finally {
    rmSync(bundles, { recursive: true, force: true });
  }
}

/** Of each file a report and, at its end, its exit code: N.report, N.done. */
function scriptOf(tests: readonly GuestTests[], bundles: string): string {
  const lines = tests.map(({ file, only = [] }, at) => {
    const bundle = path.join(bundles, path.relative('test', file)).replace(/\.ts$/, '.mjs');
    const words = [
      ...[process.execPath, '--enable-source-maps'],
      ...['--test-reporter=spec', '--test-reporter-destination=stdout'],
      ...[
        `--test-reporter=${root}/scripts/vm/report.mjs`,
        `--test-reporter-destination=/run/share/${at}.report`,
      ],
      ...only.map((pattern) => `--test-name-pattern=${pattern}`),
      bundle,
    ];
    return `echo ${quoted(file)}; ${words.map(quoted).join(' ')}; echo $? >/run/share/${at}.done`;
  });
  return `ready; touch /run/share/up; cd ${quoted(root)}; export PIPEWRIGHT_ROOT=$PWD\n${lines.join('\n')}\n! grep -qvx 0 /run/share/*.done\n`;
}

async function* lines(machine: Machine, at: number, limits: Limits): AsyncGenerator<string> {
  const place = (name: string): string => path.join(machine.share, name);
  const [report, end] = [place(`${at}.report`), place(`${at}.done`)];
  for (let given = 0; ; await sleep(200)) {
    // Asked first: what was written before the end is read after it.
    const ended = existsSync(end) || !machine.isOn;
    const whole = existsSync(report) ? readFileSync(report, 'utf8').split('\n').slice(0, -1) : [];
    yield* whole.slice(given);
    given = whole.length;
    if (ended) break;
    const age = Date.now() - machine.started;
    const minutes = `${Math.round(age / 60_000)} minutes`;
    if (age > limits.up && !existsSync(place('up')))
      throw new TooSlow(`not up after ${minutes}: ${machine.said.slice(-500)}`);
    if (age > limits.all) throw new TooSlow(`not at its end after ${minutes}`);
  }
  if (!existsSync(end)) throw new Error(`the machine went off: ${machine.said}`);
}
