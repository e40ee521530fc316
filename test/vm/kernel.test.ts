/** What needs a full kernel, run on Debian's in a virtual machine: each test there is one here. */
import assert from 'node:assert/strict';
import path from 'node:path';
import test from 'node:test';
import { guestTests } from './guest-tests.ts';
import { allowedSkips, kernelTests } from './kernel-tests.ts';
import { accelerator, whyNoMachine } from './machine.ts';

test("on Debian's kernel", { timeout: 1_500_000 }, async (t) => {
  const why = whyNoMachine();
  if (why !== undefined) return t.skip(why);
  t.diagnostic(`processor: ${await accelerator()}`);
  const seen = new Set<string>();
  for await (const { file, name, ok, skip, error, ms } of guestTests(kernelTests)) {
    seen.add(file);
    await t.test(`${path.basename(file, '.test.ts')}: ${name} (${Math.round(ms)} ms there)`, (t) => {
      assert.ok(ok, error);
      if (skip === undefined) return;
      const allowed = allowedSkips[name];
      assert.ok(allowed !== undefined && skip.startsWith(allowed), `skipped there: ${skip}`);
      t.skip(skip);
    });
  }
  assert.deepEqual(
    kernelTests.map(({ file }) => file).filter((file) => !seen.has(file)),
    [],
    'nothing was run of these',
  );
});
