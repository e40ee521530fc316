// Bundles the test files with esbuild (Node 20 cannot read TypeScript) and runs them with node --test.
// usage: node scripts/test.mjs [--bundle=FOLDER] [FILE.test.ts | FOLDER ...]
// When nothing is named, all of test/ but test/vm. With --bundle they are only written there, FILE.mjs each.
// NODE_UNDER_TEST names another node binary to run them with.
import { spawnSync } from 'node:child_process';
import { readdirSync, rmSync, statSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';

const root = path.dirname(path.dirname(fileURLToPath(import.meta.url)));
process.chdir(root);

const testsIn = (place) =>
  statSync(place).isFile()
    ? [place].filter((file) => file.endsWith('.test.ts'))
    : readdirSync(place, { recursive: true })
        .map((name) => path.join(place, name))
        .filter((file) => file.endsWith('.test.ts'));

const words = process.argv.slice(2);
const bundle = words.find((word) => word.startsWith('--bundle='))?.replace('--bundle=', '');
const named = words.filter((word) => !word.startsWith('--'));
const everything = () =>
  readdirSync('test')
    .filter((name) => name !== 'vm')
    .map((name) => path.join('test', name));
const files = (named.length > 0 ? named : everything()).flatMap(testsIn).sort();
// A folder of its own for each run, so that two runs do not share files; inside the tree, so that packages are found.
const out = bundle ?? path.join(root, 'build', `test-${process.pid}`);
try {
  await build({
    entryPoints: files,
    outdir: out,
    outbase: 'test',
    outExtension: { '.js': '.mjs' },
    bundle: true,
    platform: 'node',
    format: 'esm',
    target: 'node20',
    packages: 'external',
    sourcemap: 'inline',
    logLevel: 'warning',
  });
  if (!bundle) process.exitCode = runAll();
} finally {
  if (!bundle) rmSync(out, { recursive: true, force: true });
}

function runAll() {
  const compiled = files.map((file) => path.join(out, path.relative('test', file)).replace(/\.ts$/, '.mjs'));
  const node = process.env.NODE_UNDER_TEST ?? process.execPath;
  const env = { ...process.env, PIPEWRIGHT_ROOT: root };
  // A variable of the surroundings that costs every Node 20 start 40 ms.
  delete env.NODE_EXTRA_CA_CERTS;
  // One file at a time: the tests share one kernel, one Docker Engine and one Open vSwitch.
  const flags = ['--enable-source-maps', '--test', '--test-concurrency=1', '--test-reporter=spec'];
  return spawnSync(node, [...flags, ...compiled], { stdio: 'inherit', env }).status ?? 1;
}
