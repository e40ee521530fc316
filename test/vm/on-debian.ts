/** Tests of the suite as tests here that are run in a machine with Debian's kernel. */
import assert from 'node:assert/strict';
import path from 'node:path';
import type { TestContext } from 'node:test';
import { type GuestTests, guestTests, type Limits, type Result, TooSlow } from './guest-tests.ts';
import { allowedSkips } from './kernel-tests.ts';
import { accelerator, whyNoMachine } from './machine.ts';

/**
 * Each test there is one here. Where no machine can be started it is skipped, and with limits so is what is not run within
 * them; the reason is told.
 */
export async function onDebian(t: TestContext, tests: readonly GuestTests[], limits?: Limits): Promise<void> {
  const why = whyNoMachine();
  if (why !== undefined) return t.skip(why);
  t.diagnostic(`processor: ${await accelerator()}`);
  const seen = new Set<string>();
  try {
    for await (const result of guestTests(tests, undefined, limits)) {
      seen.add(result.file);
      await told(t, result);
    }
  } catch (error) {
    if (!(error instanceof TooSlow)) throw error;
    await t.test('the rest', (t) => t.skip(error.message));
    return;
  }
  const files = tests.map(({ file }) => file);
  assert.deepEqual(
    files.filter((file) => !seen.has(file)),
    [],
    'nothing was run of these',
  );
}

async function told(t: TestContext, { file, name, ok, skip, error, ms }: Result): Promise<void> {
  await t.test(`${path.basename(file, '.test.ts')}: ${name} (${Math.round(ms)} ms there)`, (t) => {
    assert.ok(ok, error);
    if (skip === undefined) return;
    const allowed = allowedSkips[name];
    assert.ok(allowed !== undefined && skip.startsWith(allowed), `skipped there: ${skip}`);
    t.skip(skip);
  });
}
