/** bin/NAME as scripts/build.mjs makes it: found through links, and careful with its code cache. */
import assert from 'node:assert/strict';
import {
  chmodSync,
  cpSync,
  mkdtempSync,
  readdirSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import test, { type TestContext } from 'node:test';
import { root, run } from './lab.ts';

/** A copy of the built programs, as a package is installed, and their cache folder. */
function installed(t: TestContext): { program: string; cache: string; folder: string } {
  const folder = mkdtempSync(path.join(tmpdir(), 'pwt-'));
  t.after(() => rmSync(folder, { recursive: true }));
  const notCache = (file: string): boolean => path.basename(file) !== '.cache';
  cpSync(path.join(root, 'bin'), path.join(folder, 'bin'), { recursive: true, filter: notCache });
  symlinkSync(path.join(root, 'node_modules'), path.join(folder, 'node_modules'));
  return { program: path.join(folder, 'bin/pipework'), cache: path.join(folder, 'bin/.cache'), folder };
}

// A rejected command line of several words: nothing is changed, and unlike --help it is worth a cache.
const words = ['pwtnosuch', 'pwtnosuch', '10.0.0.1/24'];
const said = /^I do not know how to setup interface pwtnosuch\.\n$/;

function answers(program: string): void {
  const { stderr } = run(process.execPath, [program, ...words], { expect: 1 });
  assert.match(stderr, said);
}

test('a program runs through a symbolic link, from any folder', (t) => {
  const { program, folder } = installed(t);
  const link = path.join(folder, 'elsewhere');
  symlinkSync(program, link);
  const { stdout } = run('env', ['-C', '/', process.execPath, link, '--version']);
  assert.match(stdout, /\d+\.\d+\.\d+/);
});

test('the code cache is for its owner alone, used again, and made anew when V8 refuses it', (t) => {
  const { program, cache } = installed(t);
  run(process.execPath, [program, '--version']);
  assert.deepEqual(readdirSync(cache), [], '--version is not worth a cache');
  answers(program);
  assert.equal(statSync(cache).mode & 0o777, 0o700);
  // What hands over to the agent, and the program itself.
  const names = readdirSync(cache).sort();
  assert.equal(names.length, 2);
  for (const name of names) {
    assert.match(name, new RegExp(`^[0-9a-f]{16}-${process.version}-${process.arch}$`));
    const file = path.join(cache, name);
    const { size, mode, ino } = statSync(file);
    assert.equal(mode & 0o777, 0o600);
    assert.ok(size > 1000);
    answers(program);

    writeFileSync(file, 'nonsense');
    answers(program);
    assert.ok(statSync(file).size > 1000);
    assert.notEqual(statSync(file).ino, ino);
    assert.deepEqual(readdirSync(cache).sort(), names);
  }
});

test('a cache folder that others may write to is not used, nor one that cannot be made', (t) => {
  const { program, cache, folder } = installed(t);
  answers(program);
  for (const name of readdirSync(cache)) rmSync(path.join(cache, name));
  chmodSync(cache, 0o770);
  answers(program);
  assert.deepEqual(readdirSync(cache), []);

  rmSync(cache, { recursive: true });
  symlinkSync(folder, cache);
  answers(program);
  assert.deepEqual(readdirSync(folder).sort(), ['bin', 'node_modules']);

  rmSync(cache);
  writeFileSync(cache, '');
  answers(program);
});
