/** What needs a full kernel, run on Debian's in a virtual machine: each test there is one here. */
import assert from 'node:assert/strict';
import { existsSync, readFileSync } from 'node:fs';
import path from 'node:path';
import test from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { root } from '../lab/run.ts';
import { allowedSkips, kernelTests } from './kernel-tests.ts';
import { accelerator, Machine, whyNoMachine } from './machine.ts';

/** A line of scripts/vm/report.mjs. */
interface Result {
  readonly file: string;
  readonly name: string;
  readonly ok: boolean;
  readonly skip?: string;
  readonly error?: string;
  readonly ms: number;
}

const quoted = (word: string): string => `'${word.replaceAll("'", "'\\''")}'`;

/** Whole files together, the others each with its patterns. */
function script(): string {
  const whole = kernelTests.filter(({ only }) => only === undefined).map(({ file }) => file);
  const parts = kernelTests.filter(({ only }) => only !== undefined);
  const named = [
    ...parts.flatMap(({ only = [] }) => only.map((each) => `--only=${each}`)),
    ...parts.map(({ file }) => file),
  ];
  const line = (words: readonly string[], report: string): string =>
    [
      `TEST_REPORT=/run/share/${report}`,
      quoted(process.execPath),
      'scripts/test.mjs',
      ...words.map(quoted),
    ].join(' ');
  return `cd ${quoted(root)}\n${line(whole, 'report1')}; one=$?\n${line(named, 'report2')}; exit $((one + $?))\n`;
}

/** The results as they come. */
async function* results(machine: Machine): AsyncGenerator<Result> {
  for (const name of ['report1', 'report2']) {
    const file = path.join(machine.share, name);
    for (let done = 0, last = false; ; await sleep(200)) {
      // What was written before it ended is read after that.
      last = !machine.isOn || (name === 'report1' && existsSync(path.join(machine.share, 'report2')));
      const lines = existsSync(file) ? readFileSync(file, 'utf8').split('\n').slice(0, -1) : [];
      for (const line of lines.slice(done)) yield JSON.parse(line) as Result;
      done = lines.length;
      if (last) break;
    }
  }
}

test("on Debian's kernel", async (t) => {
  const why = whyNoMachine();
  if (why !== undefined) return t.skip(why);
  t.diagnostic(`processor: ${await accelerator()}`);
  const machine = await Machine.start({ name: 'pwt-vm', script: script() });
  t.after(() => machine.remove());
  const seen = new Set<string>();
  for await (const { file, name, ok, skip, error, ms } of results(machine)) {
    seen.add(file);
    await t.test(`${file}: ${name} (${Math.round(ms)} ms there)`, (t) => {
      assert.ok(ok, error);
      if (skip === undefined) return;
      assert.ok(
        allowedSkips[name] !== undefined && skip.startsWith(allowedSkips[name]),
        `skipped there: ${skip}`,
      );
      t.skip(skip);
    });
  }
  assert.equal(await machine.end(), 0, machine.said);
  const wanted = kernelTests.map(({ file }) => path.basename(file, '.ts'));
  assert.deepEqual(
    wanted.filter((file) => !seen.has(file)),
    [],
    machine.said,
  );
});
