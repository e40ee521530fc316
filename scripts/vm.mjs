// Runs test files in a virtual machine with Debian's kernel and prints what the test runner says there.
// usage: node scripts/vm.mjs FILE.test.ts ...     VM_ACCEL=kvm|tcg: how the processor is made, else what works
import { spawnSync } from 'node:child_process';
import { rmSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';

const root = path.dirname(path.dirname(fileURLToPath(import.meta.url)));
process.chdir(root);
const out = path.join(root, 'build', `vm-${process.pid}`);
try {
  await build({
    entryPoints: ['test/vm/main.ts'],
    outdir: out,
    outExtension: { '.js': '.mjs' },
    bundle: true,
    platform: 'node',
    format: 'esm',
    target: 'node20',
    packages: 'external',
    logLevel: 'warning',
  });
  const env = { ...process.env, PIPEWRIGHT_ROOT: root };
  const words = [path.join(out, 'main.mjs'), ...process.argv.slice(2)];
  process.exitCode = spawnSync(process.execPath, words, { stdio: 'inherit', env }).status ?? 1;
} finally {
  rmSync(out, { recursive: true, force: true });
}
