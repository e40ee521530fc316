// Bundles the programs that package.json names in "bin": src/bin/NAME.ts becomes the launcher bin/NAME and the
// CommonJS file bin/lib/NAME.cjs. Every other file in src/bin (a worker) becomes bin/lib/NAME.cjs.
// usage: node scripts/build.mjs [ROOT]     ROOT/src/bin is read, ROOT/bin written; this folder when nothing is named
import { createHash } from 'node:crypto';
import {
  chmodSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';

const here = path.dirname(path.dirname(fileURLToPath(import.meta.url)));
const root = path.resolve(process.argv[2] ?? here);
const lib = path.join(root, 'bin/lib');
const manifest = JSON.parse(readFileSync(path.join(here, 'package.json'), 'utf8'));

/**
 * What bin/NAME holds: it runs bin/lib/NAME.cjs with V8's code cache, which saves 15 ms of compiling at every start
 * (Node's own module.enableCompileCache() is only in Node >= 22.1, and saves a third of it). Each file of lib/ begins
 * with a hash of itself, the name of its cache, so that one is never taken for another's.
 *
 * Where the cache lies is a matter of safety: the program runs as root, and whoever can write the cache decides what
 * is run. It lies beside the program, where who may write may change the program as well, not under a foreseeable
 * name in /tmp, and is used only while the folder is ours and nobody else may write to it. Where it cannot be used
 * (another user's, a read-only file system) the program starts a little later.
 */
const launcher = (program) => String.raw`#!/usr/bin/env node
'use strict';
const fs = require('node:fs');
const { createRequire } = require('node:module');
const { Script } = require('node:vm');

const lib = __dirname + '/lib/';
const folder = __dirname + '/.cache';
const requireThere = createRequire(lib);
const loaded = new Map();

function isOurs() {
  try {
    let stat = fs.lstatSync(folder, { throwIfNoEntry: false });
    if (!stat) {
      fs.mkdirSync(folder, { mode: 0o700 });
      stat = fs.lstatSync(folder);
    }
    return stat.isDirectory() && stat.uid === process.geteuid() && (stat.mode & 0o022) === 0;
  } catch {
    return false;
  }
}

function read(file) {
  try {
    return fs.readFileSync(file);
  } catch {
    return undefined;
  }
}

/** The functions that ran are in the cache. Whole on the disk before it has its name: V8 would not notice. */
function keep(file, script, old) {
  const data = script.createCachedData();
  if (old && data.length <= old.length * 1.02) return;
  const draft = file + '.' + process.pid;
  try {
    fs.writeFileSync(draft, data, { mode: 0o600, flag: 'wx', flush: true });
    fs.renameSync(draft, file);
  } catch {
    fs.rmSync(draft, { force: true });
  }
}

function load(name) {
  const known = loaded.get(name);
  if (known) return known.exports;
  const module = { exports: {} };
  loaded.set(name, module);
  const filename = lib + name;
  // esbuild writes ASCII.
  const source = fs.readFileSync(filename, 'latin1');
  const cache = trusted ? folder + '/' + source.slice(3, 19) + '-' + process.version + '-' + process.arch : undefined;
  const cachedData = cache && read(cache);
  const head = '(function (exports, require, module, __filename, __dirname) {';
  const script = new Script(head + source + '\n})', { filename, cachedData });
  const valid = cachedData && !script.cachedDataRejected ? cachedData : undefined;
  // Not after --help or --version, which run hardly anything; and now and then a look whether it has grown.
  const due = valid ? process.pid % 16 === 0 : process.argv.length > 3;
  if (cache && due) process.once('exit', () => keep(cache, script, valid));
  const required = (id) => (id.startsWith('./') ? load(id.slice(2)) : requireThere(id));
  script.runInThisContext().call(module.exports, module.exports, required, module, filename, __dirname + '/lib');
  return module.exports;
}

const trusted = isOurs();
load('${program}.cjs');
`;

/** Native code: not bundled, found by Node from the real path of the file, also through a symbolic link. */
const native = ['koffi', '@koromix/*'];
/** Small, and needed by every command of its program. */
const inlined = ['@stricli/core'];
/** The other packages: a file each, loaded by the code that imports it when that code is first reached. */
const apart = Object.keys(manifest.dependencies).filter((name) => ![...native, ...inlined].includes(name));
const fileOf = (name) => `package-${name.replace('@', '').replace('/', '-')}`;

/**
 * Our own code is one file for each program, in which import() runs what is there: on the way of an attach, twenty
 * files cost 4 ms more than one. A big package in that file would cost every command, even unused: 30 ms for zod and
 * yaml on Node 20.
 */
const packagesApart = {
  name: 'packages-apart',
  setup: ({ onResolve }) =>
    onResolve({ filter: /^[^.]/ }, ({ path: name, kind }) =>
      kind !== 'entry-point' && apart.includes(name)
        ? { path: `./${fileOf(name)}.cjs`, external: true }
        : undefined,
    ),
};

/**
 * src/bin/NAME-program.ts is a file of its own, lib/NAME-program.cjs, which NAME.ts loads by import() when the agent does
 * not do the work: a command that only hands over takes 3 to 7 ms less without it.
 */
const programsApart = {
  name: 'programs-apart',
  setup: ({ onResolve }) =>
    onResolve({ filter: /-program\.ts$/ }, ({ path: name, kind }) =>
      kind === 'entry-point' ? undefined : { path: name.replace(/ts$/, 'cjs'), external: true },
    ),
};

/** Modules of Node's that cost a command 1 to 9 ms and that most commands never use. */
const slowBuiltins = ['child_process', 'crypto', 'net', 'timers/promises'].map((name) => `node:${name}`);

/**
 * Has each of them loaded when a function of it is first called, and not when the program starts. What is imported of
 * them and is not a function makes the build fail.
 */
const builtinsLate = {
  name: 'builtins-late',
  setup: ({ onResolve, onLoad }) => {
    onResolve({ filter: /^node:/ }, ({ path: name, kind }) =>
      slowBuiltins.includes(name) && kind === 'import-statement'
        ? { path: name, namespace: 'late', sideEffects: false }
        : undefined,
    );
    onLoad({ filter: /./, namespace: 'late' }, async ({ path: name }) => {
      const callable = Object.entries(await import(name)).filter(
        ([key, value]) => typeof value === 'function' && key !== 'default',
      );
      const lines = callable.map(
        ([key]) => `export function ${key}(...args) {
  const { ${key}: real } = require('${name}');
  return new.target ? new real(...args) : real(...args);
}`,
      );
      return { contents: lines.join('\n') };
    });
  },
};

/** zod brings its messages in fifty languages; our own are in English, and the others take 6 MB of memory. */
const englishOnly = {
  name: 'english-only',
  setup: ({ onResolve, onLoad }) => {
    onResolve({ filter: /\/locales\/index\.js$/ }, ({ importer }) =>
      importer.includes('/zod/') ? { path: 'locales', namespace: 'english-only' } : undefined,
    );
    onLoad({ filter: /./, namespace: 'english-only' }, () => ({ contents: 'export {};' }));
  },
};

/** Bundles `entries`, {name: source}, to CommonJS: [[file, text]]. */
async function bundle(entries, plugins) {
  const { outputFiles } = await build({
    absWorkingDir: root,
    entryPoints: entries,
    outdir: lib,
    bundle: true,
    write: false,
    platform: 'node',
    format: 'cjs',
    target: 'node20',
    external: native,
    outExtension: { '.js': '.cjs' },
    define: { PIPEWRIGHT_VERSION: JSON.stringify(manifest.version) },
    // As require(), which does not start Node's loader of ES modules.
    supported: { 'dynamic-import': false },
    // Dead branches go, names stay, so that a stack trace can be read. Full minifying gained nothing measurable.
    minifySyntax: true,
    legalComments: 'none',
    logLevel: 'warning',
    plugins,
  });
  return outputFiles.map((file) => {
    const hash = createHash('sha256').update(file.text).digest('hex').slice(0, 16);
    return [path.basename(file.path), `/* ${hash} */\n${file.text}`];
  });
}

/** Writes beside the file and renames, so that a program that starts meanwhile finds the old text or the new one. */
function replace(file, text, mode) {
  writeFileSync(`${file}.new`, text, { mode });
  chmodSync(`${file}.new`, mode);
  renameSync(`${file}.new`, file);
}

const programs = Object.keys(manifest.bin);
const sources = readdirSync(path.join(root, 'src/bin')).filter((file) => file.endsWith('.ts'));
const missing = programs.filter((program) => !sources.includes(`${program}.ts`));
if (missing.length > 0) throw new Error(`src/bin has no ${missing.join(', ')}`);

const entries = sources.map((file) => [path.basename(file, '.ts'), `src/bin/${file}`]);
const files = [
  ...(await bundle(Object.fromEntries(entries), [packagesApart, programsApart, builtinsLate])),
  // With packagesApart as well: @hono/zod-openapi with a zod of its own costs the agent 10 MB.
  ...(await bundle(Object.fromEntries(apart.map((name) => [fileOf(name), name])), [
    packagesApart,
    englishOnly,
  ])),
];
mkdirSync(lib, { recursive: true });
for (const [name, text] of files) replace(path.join(lib, name), text, 0o644);
// The package is of type module.
replace(path.join(root, 'bin/package.json'), '{ "type": "commonjs" }\n', 0o644);
for (const program of programs) replace(path.join(root, 'bin', program), launcher(program), 0o755);
const wanted = new Set(files.map(([name]) => name));
for (const name of readdirSync(lib)) if (!wanted.has(name)) rmSync(path.join(lib, name), { recursive: true });
// Caches of texts that are gone.
const hashes = files.map(([, text]) => text.slice(3, 19));
const cache = path.join(root, 'bin/.cache');
for (const name of existsSync(cache) ? readdirSync(cache) : []) {
  if (!hashes.some((hash) => name.startsWith(hash))) rmSync(path.join(cache, name), { recursive: true });
}
