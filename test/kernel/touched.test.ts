import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import test, { type TestContext } from 'node:test';
import { touched } from '../../src/kernel/touched.ts';

const longMs = 60_000;
const never = new AbortController().signal;

function ownFolder(t: TestContext): string {
  const folder = mkdtempSync(path.join(tmpdir(), 'pwtt-'));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

test('what is made later, in a folder that is made later', async (t) => {
  const folder = ownFolder(t);
  const place = path.join(folder, 'run', 'engine', 'socket');
  const made = touched(place, { wasThere: false, ms: longMs, signal: never });
  mkdirSync(path.dirname(place), { recursive: true });
  await new Promise((resolve) => setImmediate(resolve));
  writeFileSync(path.join(path.dirname(place), 'other'), '');
  writeFileSync(place, '');
  assert.equal(await made, true);
});

test('what was made just before', async (t) => {
  const place = path.join(ownFolder(t), 'socket');
  writeFileSync(place, '');
  assert.equal(await touched(place, { wasThere: false, ms: longMs, signal: never }), true);
});

test('what is taken away, and what is replaced', async (t) => {
  const place = path.join(ownFolder(t), 'socket');
  writeFileSync(place, '');
  const gone = touched(place, { wasThere: true, ms: longMs, signal: never });
  rmSync(place);
  assert.equal(await gone, true);
  writeFileSync(place, '');
  const replaced = touched(place, { wasThere: true, ms: longMs, signal: never });
  writeFileSync(`${place}.new`, '');
  renameSync(`${place}.new`, place);
  assert.equal(await replaced, true);
});

test('what a link leads to', async (t) => {
  const folder = ownFolder(t);
  mkdirSync(path.join(folder, 'podman'));
  symlinkSync('podman/socket', path.join(folder, 'docker.sock'));
  const made = touched(path.join(folder, 'docker.sock'), { wasThere: false, ms: longMs, signal: never });
  writeFileSync(path.join(folder, 'podman', 'socket'), '');
  assert.equal(await made, true);
});

test('nothing happens until the time is over, or nobody waits any more', async (t) => {
  const folder = ownFolder(t);
  const place = path.join(folder, 'none', 'socket');
  const waiting = touched(place, { wasThere: false, ms: 200, signal: never });
  writeFileSync(path.join(folder, 'other'), '');
  assert.equal(await waiting, false);
  const stop = new AbortController();
  const stopped = touched(place, { wasThere: false, ms: longMs, signal: stop.signal });
  stop.abort();
  assert.equal(await stopped, false);
  assert.equal(await touched(place, { wasThere: false, ms: longMs, signal: stop.signal }), false);
});
