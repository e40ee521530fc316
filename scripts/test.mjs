// Bundles the test files with esbuild (Node 20 cannot read TypeScript) and runs them with node --test.
// usage: node scripts/test.mjs [--bundle=FOLDER] [--short] [FILE.test.ts | FOLDER ...]
// All of test/ but test/vm when nothing is named; with --short of that what is short as well. With --bundle they are only
// written there, FILE.mjs each.
// It fails, too, when files of the host are not as they were (host-files.mjs).
// NODE_UNDER_TEST names another node binary to run them with.
import { spawn } from 'node:child_process';
import { createWriteStream, readdirSync, readFileSync, rmSync, statSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';
import { differences, hostFiles } from './host-files.mjs';

const root = path.dirname(path.dirname(fileURLToPath(import.meta.url)));
process.chdir(root);

/**
 * Tests that touch nothing of the others', and are run beside them: those that mostly wait, for leases to end, or kill, in
 * namespaces of their own.
 */
const beside = /^test\/dhcp\/|^test\/e2e\/(dhcp|fault|ipv6|uplink)-/;
/** Those in virtual machines have the processors to themselves, after the others. */
const inMachines = /^test\/vm\//;

const testsIn = (place) =>
  statSync(place).isFile()
    ? [place].filter((file) => file.endsWith('.test.ts'))
    : readdirSync(place, { recursive: true })
        .map((name) => path.join(place, name))
        .filter((file) => file.endsWith('.test.ts'));

const words = process.argv.slice(2);
const bundle = words.find((word) => word.startsWith('--bundle='))?.replace('--bundle=', '');
const named = words.filter((word) => !word.startsWith('--'));
const here = readdirSync('test')
  .filter((name) => name !== 'vm')
  .map((name) => `test/${name}`);
if (words.includes('--short')) here.push('test/vm/short.test.ts');
const files = (named.length > 0 ? named : here).flatMap(testsIn).sort();
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
  if (!bundle) {
    const before = hostFiles();
    const code = await runAll();
    const changed = differences(before, hostFiles());
    for (const line of changed) console.log(`✖ a file of the host that no test may change: ${line}`);
    process.exitCode = changed.length > 0 ? 1 : code;
  }
} finally {
  if (!bundle) rmSync(out, { recursive: true, force: true });
}

async function runAll() {
  const last = files.filter((file) => inMachines.test(file));
  const asides = files.filter((file) => beside.test(file));
  const others = files.filter((file) => ![...last, ...asides].includes(file));
  const groups = [others, asides, last].filter(({ length }) => length > 0);
  if (groups.length === 1) return (await runFiles(files, 'inherit')).code;
  const log = path.join(out, 'beside.log');
  const began = performance.now();
  const ran = await Promise.all([
    ...(others.length > 0 ? [runFiles(others, process.stdout)] : []),
    ...(asides.length > 0 ? [runFiles(asides, createWriteStream(log))] : []),
  ]);
  // Those beside the others are told at the end.
  if (asides.length > 0) process.stdout.write(`\nbeside them:\n${readFileSync(log, 'utf8')}`);
  if (last.length > 0) ran.push(await runFiles(last, process.stdout));
  process.stdout.write('\nall:\n');
  for (const name of Object.keys(ran[0].counts)) {
    const sum = ran.reduce((all, { counts }) => all + (counts[name] ?? 0), 0);
    console.log(`ℹ ${name} ${name === 'duration_ms' ? performance.now() - began : sum}`);
  }
  return ran.find(({ code }) => code !== 0)?.code ?? 0;
}

/** Runs files one at a time: they share one kernel, one Docker Engine and one Open vSwitch. */
async function runFiles(list, to) {
  const compiled = list.map((file) => path.join(out, path.relative('test', file)).replace(/\.ts$/, '.mjs'));
  const env = { ...process.env, PIPEWRIGHT_ROOT: root };
  // A variable of the surroundings that costs every Node 20 start 40 ms.
  delete env.NODE_EXTRA_CA_CERTS;
  const flags = ['--enable-source-maps', '--test', '--test-concurrency=1', '--test-reporter=spec'];
  const node = process.env.NODE_UNDER_TEST ?? process.execPath;
  const child = spawn(node, [...flags, ...compiled], {
    stdio: ['inherit', to === 'inherit' ? to : 'pipe', 'inherit'],
    env,
  });
  let last = '';
  child.stdout?.setEncoding('utf8').on('data', (text) => {
    to.write(text);
    last = `${last}${text}`.slice(-100_000);
  });
  const code = await new Promise((resolve) => child.on('close', resolve));
  if (to !== process.stdout && to !== 'inherit') await new Promise((resolve) => to.end(resolve));
  const lines = [...last.matchAll(/^ℹ (\w+) ([\d.]+)$/gm)];
  return {
    code: code ?? 1,
    counts: Object.fromEntries(lines.map(([, name, count]) => [name, Number(count)])),
  };
}
