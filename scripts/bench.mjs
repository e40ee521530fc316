// Bundles the benchmark with esbuild (Node 20 cannot read TypeScript) and runs it.
// usage: node scripts/bench.mjs [--json] [--rounds N] [--only commands|agent]     20 rounds when nothing is said
import { spawn } from 'node:child_process';
import { rmSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';

const root = path.dirname(path.dirname(fileURLToPath(import.meta.url)));
process.chdir(root);
// A folder of its own for each run; inside the tree, so that packages are found.
const out = path.join(root, 'build', `bench-${process.pid}`);
try {
  await build({
    entryPoints: ['bench/main.ts', 'bench/attaches.ts'],
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
  // A variable of the surroundings that costs every Node 20 start 40 ms.
  delete env.NODE_EXTRA_CA_CERTS;
  // With a state directory of its own: no agent takes part and no other command's lock is waited for, and it is a tmpfs
  // also where /run is none (a machine without an init system), as a millisecond of disk is not what is compared.
  const mount = 'mkdir -p /run/pipewright && mount -t tmpfs tmpfs /run/pipewright && exec "$@"';
  const program = [process.execPath, path.join(out, 'main.mjs'), ...process.argv.slice(2)];
  const words = ['--mount', '--propagation', 'private', 'sh', '-c', mount, 'sh', ...program];
  const child = spawn('unshare', words, { stdio: 'inherit', env });
  // What it made it takes away itself, and then ends.
  for (const signal of ['SIGINT', 'SIGTERM']) process.on(signal, () => child.kill(signal));
  process.exitCode = await new Promise((resolve) => child.on('exit', (code) => resolve(code ?? 1)));
} finally {
  rmSync(out, { recursive: true, force: true });
}
