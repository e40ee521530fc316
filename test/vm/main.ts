/** `node scripts/vm.mjs`: runs test files in a machine and prints what the runner says there. */
import { guestTests } from './guest-tests.ts';
import { accelerator, whyNoMachine } from './machine.ts';

const files = process.argv.slice(2);
const why = whyNoMachine() ?? (files.length === 0 ? 'no test file is named' : undefined);
if (why === undefined) {
  console.log(`vm: processor: ${await accelerator()}`);
  const print = (text: string): void => void process.stdout.write(text);
  let failed = 0;
  for await (const { ok } of guestTests(
    files.map((file) => ({ file })),
    print,
  ))
    failed += ok ? 0 : 1;
  process.exitCode = Math.min(failed, 1);
} else {
  console.error(`vm: ${why}`);
  process.exitCode = 1;
}
