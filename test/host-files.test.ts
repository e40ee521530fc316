/** What scripts/test.mjs finds changed on the host after all tests. */
import assert from 'node:assert/strict';
import { chmodSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { test } from 'node:test';
import { pathToFileURL } from 'node:url';
import { root } from './lab.ts';

interface HostFiles {
  hostFiles(places?: readonly string[]): ReadonlyMap<string, string>;
  differences(before: ReadonlyMap<string, string>, after: ReadonlyMap<string, string>): string[];
}

test('whatever becomes of a file of the host is seen', async (t) => {
  const script = pathToFileURL(path.join(root, 'scripts/host-files.mjs')).href;
  const { hostFiles, differences } = (await import(script)) as HostFiles;
  const folder = mkdtempSync(path.join(tmpdir(), 'pwt-files-'));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  const at = (...names: string[]): string => path.join(folder, ...names);
  mkdirSync(at('deep'));
  for (const name of ['same', 'grows', 'goes', 'mode']) writeFileSync(at('deep', name), 'a');
  symlinkSync('same', at('deep', 'link'));
  const before = hostFiles([folder]);
  assert.deepEqual(differences(before, hostFiles([folder])), []);
  writeFileSync(at('deep', 'grows'), 'b');
  rmSync(at('deep', 'goes'));
  chmodSync(at('deep', 'mode'), 0o600);
  rmSync(at('deep', 'link'));
  symlinkSync('grows', at('deep', 'link'));
  writeFileSync(at('comes'), '');
  assert.deepEqual(differences(before, hostFiles([folder])), [
    `new: ${at('comes')}`,
    `gone: ${at('deep', 'goes')}`,
    `changed: ${at('deep', 'grows')}`,
    `changed: ${at('deep', 'link')}`,
    `changed: ${at('deep', 'mode')}`,
  ]);
  assert.ok(hostFiles().size > 100);
});
