// Bundles the test files with esbuild (Node 20 cannot read TypeScript) and runs them with node --test.
// usage: node scripts/test.mjs [--only=REGEX ...] [FILE.test.ts | FOLDER ...]     all of test/ when nothing is named
// NODE_UNDER_TEST names another node binary to run them with, TEST_REPORT a file for the results as lines of JSON.
import { spawnSync } from 'node:child_process';
import { readdirSync, rmSync, statSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';

const root = path.dirname(path.dirname(fileURLToPath(import.meta.url)));
process.chdir(root);

const testsIn = (place) =>
  statSync(place).isFile()
    ? [place]
    : readdirSync(place, { recursive: true })
        .map((name) => path.join(place, name))
        .filter((file) => file.endsWith('.test.ts'));

const words = process.argv.slice(2);
const only = words.filter((word) => word.startsWith('--only='));
const named = words.filter((word) => !only.includes(word));
const files = (named.length > 0 ? named : ['test']).flatMap(testsIn).sort();
// A folder of its own for each run, so that two runs do not share files; inside the tree, so that packages are found.
const out = path.join(root, 'build', `test-${process.pid}`);
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
  const compiled = files.map((file) => path.join(out, path.relative('test', file)).replace(/\.ts$/, '.mjs'));
  const node = process.env.NODE_UNDER_TEST ?? process.execPath;
  const env = { ...process.env, PIPEWRIGHT_ROOT: root };
  // A variable of the surroundings that costs every Node 20 start 40 ms.
  delete env.NODE_EXTRA_CA_CERTS;
  // One file at a time: the tests share one kernel, one Docker Engine and one Open vSwitch.
  const flags = ['--enable-source-maps', '--test', '--test-concurrency=1'];
  flags.push('--test-reporter=spec', '--test-reporter-destination=stdout');
  flags.push(...only.map((word) => word.replace('--only=', '--test-name-pattern=')));
  if (process.env.TEST_REPORT) {
    flags.push(`--test-reporter=${path.join(root, 'scripts/vm/report.mjs')}`);
    flags.push(`--test-reporter-destination=${process.env.TEST_REPORT}`);
  }
  process.exitCode = spawnSync(node, [...flags, ...compiled], { stdio: 'inherit', env }).status ?? 1;
} finally {
  rmSync(out, { recursive: true, force: true });
}
