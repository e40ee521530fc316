import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import test from 'node:test';
import { FileCache } from '../../src/store/file-cache.ts';

test('only what has changed is read again', (t) => {
  const folder = mkdtempSync(path.join(tmpdir(), 'pwts-'));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  const [a, b] = ['a', 'b'].map((name) => path.join(folder, name)) as [string, string];
  const reads: string[] = [];
  const cache = new FileCache<string>();
  const look = (): string[] =>
    cache
      .all([a, b], (file) => {
        reads.push(path.basename(file));
        return readFileSync(file, 'utf8');
      })
      .map(({ value }) => value);
  writeFileSync(a, '1');
  assert.deepEqual(look(), ['1']);
  writeFileSync(b, '2');
  assert.deepEqual(
    [look(), look()],
    [
      ['1', '2'],
      ['1', '2'],
    ],
  );
  assert.deepEqual(reads, ['a', 'b']);
  // Of the same length, in the place of the former one.
  writeFileSync(`${a}.new`, '3');
  renameSync(`${a}.new`, a);
  assert.deepEqual(look(), ['3', '2']);
  writeFileSync(b, 'longer');
  assert.deepEqual(look(), ['3', 'longer']);
  rmSync(a);
  assert.deepEqual(look(), ['longer']);
  assert.deepEqual(reads, ['a', 'b', 'a', 'b']);
});
