import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import test, { type TestContext } from 'node:test';
import { TopologyError } from '../../src/config/topology/problem.ts';
import { PipewrightError } from '../../src/errors.ts';
import { readTopologyFiles } from '../../src/observe/topology-files.ts';

function folder(t: TestContext, files: Record<string, string | Buffer>): string {
  const dir = mkdtempSync(path.join(tmpdir(), 'pwt-'));
  t.after(() => rmSync(dir, { recursive: true }));
  for (const [name, text] of Object.entries(files)) writeFileSync(path.join(dir, name), text);
  return dir;
}

function refusal(paths: string[]): PipewrightError {
  try {
    readTopologyFiles(paths);
  } catch (error) {
    assert.ok(error instanceof PipewrightError, String(error));
    assert.equal(error.code, 'BAD_TOPOLOGY');
    return error;
  }
  return assert.fail('it was read');
}

test('files, and folders in the order of their names', (t) => {
  const dir = folder(t, {
    'b.yaml': 'b',
    'a.yml': 'a',
    'c.txt': 'c',
    '.d.yaml': 'd',
    'e.yaml~': 'e',
    'f.yaml.swp': 'f',
  });
  mkdirSync(path.join(dir, 'sub.yaml'));
  writeFileSync(path.join(dir, 'sub.yaml', 'g.yaml'), 'g');
  symlinkSync('c.txt', path.join(dir, 'z.yaml'));
  const at = (name: string): string => path.join(dir, name);
  assert.deepEqual(readTopologyFiles([at('c.txt'), dir, at('b.yaml')]), [
    { file: at('c.txt'), text: 'c' },
    { file: at('a.yml'), text: 'a' },
    { file: at('b.yaml'), text: 'b' },
    { file: at('z.yaml'), text: 'c' },
  ]);
  assert.deepEqual(readTopologyFiles([`${dir}/./b.yaml`, at('b.yaml')]).length, 1);
});

test('an empty folder', (t) => assert.deepEqual(readTopologyFiles([folder(t, {})]), []));

test('a byte order mark is left out', (t) => {
  const dir = folder(t, { 'a.yaml': '\ufeffversion: 1\n' });
  assert.equal(readTopologyFiles([dir])[0]?.text, 'version: 1\n');
});

test('what is not there, and what cannot be read', (t) => {
  const dir = folder(t, {});
  const missing = refusal([path.join(dir, 'no.yaml')]);
  assert.equal(missing.errno, 'ENOENT');
  assert.match(missing.message, /no\.yaml: there is no such file \[ENOENT\]$/);
  symlinkSync('nowhere', path.join(dir, 'x.yaml'));
  assert.equal(refusal([dir]).errno, 'ENOENT');
});

test('a file of more than 1 MiB', (t) => {
  const dir = folder(t, { 'a.yaml': Buffer.alloc((1 << 20) + 1, '#') });
  assert.match(refusal([dir]).message, /a\.yaml:1:1: the file is larger than 1 MiB/);
  assert.match(refusal(['/dev/zero']).message, /larger than 1 MiB/);
  assert.equal(
    readTopologyFiles([folder(t, { 'a.yaml': Buffer.alloc(1 << 20, '#') })])[0]?.text.length,
    1 << 20,
  );
});

test('bytes that are not UTF-8, with their place', (t) => {
  const rows: [bytes: Buffer, place: string][] = [
    [Buffer.from([0xff]), '1:1'],
    [Buffer.from('a: b\nc: ä\xff\n', 'latin1'), '2:4'],
    [Buffer.concat([Buffer.from('a: ä😀'), Buffer.from([0xc3, 0x0a])]), '1:7'],
    [Buffer.concat([Buffer.from('a\n\nb'), Buffer.from([0xe2, 0x82])]), '3:2'],
    [Buffer.from('networks: {}\n', 'utf16le'), '1:1'],
  ];
  for (const [bytes, place] of rows) {
    const dir = folder(t, { 'a.yaml': bytes });
    if (bytes.includes(0) && bytes[0] !== 0xff) {
      // UTF-16 without a mark is UTF-8 with NULs in it: that the parser refuses.
      assert.equal(readTopologyFiles([dir]).length, 1);
      continue;
    }
    const error = refusal([dir]);
    assert.ok(error instanceof TopologyError);
    assert.equal(error.message, `${path.join(dir, 'a.yaml')}:${place}: this is not UTF-8`);
  }
});

test('a pipe', (t) => {
  const dir = folder(t, { 'a.yaml': 'version: 1\n' });
  const fifo = path.join(dir, 'pipe');
  if (spawnSync('mkfifo', [fifo]).status !== 0) return t.skip('no mkfifo');
  spawn('sh', ['-c', `cat '${dir}/a.yaml' > '${fifo}'`], { stdio: 'ignore' });
  assert.deepEqual(readTopologyFiles([fifo]), [{ file: fifo, text: 'version: 1\n' }]);
});
