// Bundles the programs that package.json names in "bin": src/bin/NAME.ts becomes the launcher bin/NAME and the
// CommonJS file bin/lib/NAME.cjs. Every other file in src/bin (a worker) becomes bin/lib/NAME.cjs.
// usage: node scripts/build.mjs [ROOT]     ROOT/src/bin is read, ROOT/bin written; this folder when nothing is named
import { chmodSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';

const here = path.dirname(path.dirname(fileURLToPath(import.meta.url)));
const root = path.resolve(process.argv[2] ?? here);
const lib = path.join(root, 'bin/lib');
const manifest = JSON.parse(readFileSync(path.join(here, 'package.json'), 'utf8'));

/**
 * What bin/NAME holds. Only code that is loaded after enableCompileCache() (Node >= 22.1) is cached, so the program
 * itself is a second file; on Node 20 that costs about 0.3 ms.
 *
 * Where the cache lies is a matter of safety: the program runs as root, and whoever can write the cache decides what
 * is run. Node's own default, a foreseeable name in /tmp, will not do. It lies beside the program, where who may
 * write may change the program as well, and is used only while the folder is ours and nobody else may write to it.
 * Where it cannot be used (another user's, a read-only file system) the program starts a few milliseconds later.
 */
const launcher = (program) => `#!/usr/bin/env node
'use strict';
const { enableCompileCache } = require('node:module');
if (enableCompileCache) {
  const { lstatSync, mkdirSync } = require('node:fs');
  const dir = \`\${__dirname}/.cache\`;
  try {
    let stat = lstatSync(dir, { throwIfNoEntry: false });
    if (!stat) {
      mkdirSync(dir, { mode: 0o700 });
      stat = lstatSync(dir);
    }
    if (stat.isDirectory() && stat.uid === process.geteuid() && (stat.mode & 0o022) === 0) enableCompileCache(dir);
  } catch {}
}
require('./lib/${program}.cjs');
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
  return outputFiles.map((file) => [path.basename(file.path), file.text]);
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
  ...(await bundle(Object.fromEntries(entries), [packagesApart])),
  ...(await bundle(Object.fromEntries(apart.map((name) => [fileOf(name), name])), [])),
];
mkdirSync(lib, { recursive: true });
for (const [name, text] of files) replace(path.join(lib, name), text, 0o644);
// The package is of type module.
replace(path.join(root, 'bin/package.json'), '{ "type": "commonjs" }\n', 0o644);
for (const program of programs) replace(path.join(root, 'bin', program), launcher(program), 0o755);
const wanted = new Set(files.map(([name]) => name));
for (const name of readdirSync(lib)) if (!wanted.has(name)) rmSync(path.join(lib, name), { recursive: true });
