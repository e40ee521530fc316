import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import {
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import test, { type TestContext } from 'node:test';
import { FileStore } from '../../src/store/file-store.ts';
import { run, skipUnless } from '../lab.ts';

function folder(t: TestContext): string {
  const made = mkdtempSync(path.join(tmpdir(), 'pwt-store-'));
  t.after(() => rmSync(made, { recursive: true, force: true }));
  return made;
}

test('a value is written, read, listed, replaced and removed', async (t) => {
  const store = new FileStore(folder(t));
  assert.equal(await store.read('a/web eth1'), undefined);
  assert.equal(await store.compareAndSet('a/web eth1', { n: 1 }, undefined), true);
  const first = await store.read<{ n: number }>('a/web eth1');
  assert.deepEqual(first?.value, { n: 1 });
  assert.equal(await store.compareAndSet('a/web eth1', { n: 2 }, first?.version), true);
  assert.deepEqual(
    (await store.list('a')).map(({ key, value }) => [key, value]),
    [['a/web eth1', { n: 2 }]],
  );
  const second = await store.read('a/web eth1');
  assert.equal(await store.compareAndSet('a/web eth1', undefined, second?.version), true);
  assert.deepEqual(await store.list('a'), []);
});

test('a version that is not the present one changes nothing', async (t) => {
  const store = new FileStore(folder(t));
  await store.compareAndSet('k', 1, undefined);
  assert.equal(await store.compareAndSet('k', 2, undefined), false);
  assert.equal(await store.compareAndSet('k', 2, 'another'), false);
  assert.equal((await store.read('k'))?.value, 1);
});

test('two stores on one directory lose nothing of each other', async (t) => {
  const root = folder(t);
  const add = async (store: FileStore, name: string): Promise<void> => {
    for (;;) {
      const stored = await store.read<string[]>('names');
      if (await store.compareAndSet('names', [...(stored?.value ?? []), name], stored?.version)) return;
    }
  };
  const names = Array.from({ length: 40 }, (_, index) => `n${index}`);
  const stores = [new FileStore(root), new FileStore(root)];
  await Promise.all(names.map((name, index) => add(stores[index % 2] as FileStore, name)));
  const { value } = (await new FileStore(root).read<string[]>('names')) ?? {};
  assert.deepEqual([...(value ?? [])].sort(), [...names].sort());
});

test('a command that writes beside it is waited for, and what it wrote is not lost', async (t) => {
  if (skipUnless(t, 'program:flock')) return;
  const root = folder(t);
  const store = new FileStore(root);
  await store.compareAndSet('k', 'old', undefined);
  const { version } = (await store.read('k')) ?? {};
  writeFileSync(
    path.join(root, 'theirs'),
    readFileSync(path.join(root, 'k.json'), 'utf8').replace('old', 'theirs'),
  );
  const script = 'echo locked; read go; mv theirs k.json';
  const other = spawn('flock', [root, 'sh', '-c', script], { cwd: root, stdio: ['pipe', 'pipe', 'inherit'] });
  t.after(() => other.kill());
  await once(other.stdout, 'data');
  const written = store.compareAndSet('k', 'ours', version);
  other.stdin.end('go\n');
  assert.equal(await written, false);
  assert.equal((await store.read('k'))?.value, 'theirs');
});

test('a directory that was taken away is made again, as a directory', async (t) => {
  const root = folder(t);
  const store = new FileStore(root);
  rmSync(root, { recursive: true });
  assert.equal(await store.compareAndSet('k', 1, undefined), true);
  assert.deepEqual(readdirSync(root), ['k.json']);
});

test('names that are no file names can be keys', async (t) => {
  const root = folder(t);
  const store = new FileStore(root);
  await store.compareAndSet('a/..', 'value', undefined);
  assert.equal((await store.read('a/..'))?.value, 'value');
  await store.compareAndSet('a/%2e%2e#?', 'value', undefined);
  assert.equal((await store.read('a/%2e%2e#?'))?.value, 'value');
  assert.deepEqual(readdirSync(path.join(root, 'a')).length, 2);
});

test('a file that was cut off is set aside and named, and the rest goes on', async (t) => {
  const root = folder(t);
  const store = new FileStore(root);
  await store.compareAndSet('a/one', { long: 'x'.repeat(100) }, undefined);
  await store.compareAndSet('a/two', 2, undefined);
  truncateSync(path.join(root, 'a/one.json'), 20);
  assert.deepEqual(
    (await store.list('a')).map(({ key }) => key),
    ['a/two'],
  );
  assert.match(store.problems().join(), /one\.json was not readable: look at .*one\.json\.damaged/);
  assert.ok(readdirSync(path.join(root, 'a')).includes('one.json.damaged'));
  assert.deepEqual([store.isDamaged('a/one'), store.isDamaged('a/two')], [true, false]);
  assert.equal(await store.compareAndSet('a/one', 3, undefined), true);
  assert.equal(new FileStore(root).problems().length, 1, 'until somebody has looked at it');
  rmSync(path.join(root, 'a/one.json.damaged'));
  assert.deepEqual(store.problems(), []);
});

test('a file of another format is set aside too', async (t) => {
  const root = folder(t);
  const store = new FileStore(root);
  writeFileSync(path.join(root, 'k.json'), '{"format":99,"value":1}');
  assert.equal(await store.read('k'), undefined);
  assert.equal(store.problems().length, 1);
});

test('on a full disk the old file stays, and the failure is told', async (t) => {
  if (skipUnless(t, 'root')) return;
  const root = folder(t);
  run('mount', ['-t', 'tmpfs', '-o', 'size=16k', 'tmpfs', root]);
  try {
    const store = new FileStore(root);
    await store.compareAndSet('k', 'old', undefined);
    const { version } = (await store.read('k')) ?? {};
    const refusal = { errno: 'ENOSPC', hint: /disk is full/ };
    await assert.rejects(store.compareAndSet('k', 'x'.repeat(100_000), version), refusal);
    assert.equal((await store.read('k'))?.value, 'old');
    assert.match(store.problems().join(), /ENOSPC/, 'also when the old one was read');
    assert.deepEqual(readdirSync(root), ['k.json']);
    assert.match(readFileSync(path.join(root, 'k.json'), 'utf8'), /old/);
  } finally {
    run('umount', [root]);
  }
});

test('a change wakes who watches', async (t) => {
  const store = new FileStore(folder(t));
  const woken = new Promise<void>((resolve) => {
    const watcher = store.watch('a', resolve);
    t.after(() => watcher[Symbol.dispose]());
  });
  const alive = setTimeout(() => {}, 10_000);
  await store.compareAndSet('a/k', 1, undefined);
  await woken;
  clearTimeout(alive);
});

test('what a killed process has left of a write goes, what a living one writes stays', async (t) => {
  const root = folder(t);
  const store = new FileStore(root);
  await store.compareAndSet('a/one', 1, undefined);
  const { pid: gone } = spawnSync('true');
  const left = ['a/one.json', 'a', 'addresses.json'].map((name) => path.join(root, `${name}.${gone}`));
  const old = path.join(root, `addresses.json.${process.ppid}`);
  for (const file of [...left, old]) writeFileSync(file, '{"form');
  utimesSync(old, 0, 0);
  writeFileSync(path.join(root, `addresses.json.${process.pid}`), '{"form');
  store.sweep();
  const entries = readdirSync(root, { recursive: true, encoding: 'utf8' }).sort();
  assert.deepEqual(entries, ['a', `a.${gone}`, 'a/one.json', `addresses.json.${process.pid}`].sort());
});
