/** `node scripts/vm.mjs`: runs test files in a machine and prints what the runner says there. */

import { copyFileSync } from 'node:fs';
import { root } from '../lab/run.ts';
import { accelerator, Machine, whyNoMachine } from './machine.ts';

const files = process.argv.slice(2);
const why = whyNoMachine();
if (why !== undefined) {
  console.error(`vm: ${why}`);
  process.exit(1);
}
console.log(`vm: ${await accelerator()}`);
const quoted = files.map((file) => `'${file.replaceAll("'", "'\\''")}'`).join(' ');
const machine = await Machine.start({
  name: 'pwt-vm',
  script: `cd '${root}' && TEST_REPORT=/run/share/report '${process.execPath}' scripts/test.mjs ${quoted}`,
  print: (text) => void process.stdout.write(text),
});
for (const signal of ['SIGINT', 'SIGTERM'] as const)
  process.on(signal, () => void machine.remove().then(() => process.exit(1)));
process.exitCode = await machine.end();
if (process.env.VM_KEEP) copyFileSync(`${machine.share}/report`, process.env.VM_KEEP);
await machine.remove();
