import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import test, { type TestContext } from 'node:test';
import { containerKey, type Journal, StateDir } from '../../src/apply/state.ts';
import { skipUnless } from '../lab.ts';
import { recordOf, route } from '../plan/support.ts';

let number = 0;

/** A state directory that is no host's. */
function stateDir(t: TestContext): StateDir {
  number += 1;
  const state = new StateDir(Number(`${process.pid}${number}`));
  t.after(() => rmSync(state.path, { recursive: true, force: true }));
  return state;
}

const journalOf = (more: Partial<Journal> = {}): Journal => ({
  version: 1,
  pid: process.pid,
  startTime: '1',
  guest: undefined,
  undo: [{ do: 'firewall.revoke', bridge: 'br1' }],
  note: undefined,
  ...more,
});

const key = containerKey({ runtime: 'docker', id: 'c0ffee'.repeat(11).slice(0, 64) });

test('notes are kept by container and interface', (t) => {
  if (skipUnless(t, 'root')) return;
  const state = stateDir(t);
  assert.equal(key, 'docker-c0ffeec0ffee');
  assert.equal(state.record(key, 'eth1'), undefined);
  state.writeRecord(key, recordOf());
  state.writeRecord(key, recordOf({ ifname: 'eth2' }));
  state.writeRecord(key, recordOf({ hostIfname: 'other' }));
  assert.equal(state.record(key, 'eth1')?.hostIfname, 'other');
  assert.deepEqual(
    state.records().map(({ ifname }) => ifname),
    ['eth1', 'eth2'],
  );
  state.removeRecord(key, 'eth1');
  state.removeRecord(key, 'eth1');
  assert.deepEqual(
    state.records().map(({ ifname }) => ifname),
    ['eth2'],
  );
});

test('what the kernel said of a route and this program does not know comes back as bytes', (t) => {
  if (skipUnless(t, 'root')) return;
  const state = stateDir(t);
  const metrics = { type: 8, data: Buffer.from('0800010014000000', 'hex') };
  const replaced = [route('default via 172.17.0.1', 2, { unknown: [metrics] })];
  state.writeRecord(key, recordOf({ replaced }));
  assert.deepEqual(state.record(key, 'eth1')?.replaced, replaced);
  const file = state.writeJournal(
    journalOf({ undo: [{ do: 'route.restore', side: 'guest', route: replaced[0]! }] }),
    0xbeef,
  );
  assert.match(file, new RegExp(`/journal/${process.pid}-beef\\.json$`));
  assert.deepEqual(state.journals()[0]?.value.undo, [
    { do: 'route.restore', side: 'guest', route: replaced[0] },
  ]);
});

test('names of any length and with any letter are told apart', (t) => {
  if (skipUnless(t, 'root')) return;
  const state = stateDir(t);
  const keys = [
    '/run/netns/a-b',
    '/run/netns/a',
    `/x/${'é'.repeat(2000)}a`,
    `/x/${'é'.repeat(2000)}b`,
    '..',
    '%2F',
  ].map((id) => containerKey({ runtime: 'netns', id }));
  for (const [i, one] of keys.entries()) {
    state.writeRecord(one, recordOf({ ifname: 'b-eth1', since: i }));
    state.writeRecord(one, recordOf({ ifname: 'eth1', since: 100 + i }));
  }
  assert.equal(state.records().length, 2 * keys.length);
  for (const [i, one] of keys.entries()) {
    assert.equal(state.record(one, 'b-eth1')?.since, i);
    assert.equal(state.record(one, 'eth1')?.since, 100 + i);
  }
});

test('a damaged file is named, with what to do about it', (t) => {
  if (skipUnless(t, 'root')) return;
  const state = stateDir(t);
  state.writeRecord(key, recordOf());
  const file = `${state.path}/attachments/${key}+eth1.json`;
  writeFileSync(file, '{"version":1,"cont');
  for (const read of [() => state.record(key, 'eth1'), () => state.records()]) {
    assert.throws(read, {
      code: 'STATE_UNREADABLE',
      subject: file,
      hint: /^look at it; move it away if it is damaged: mv /,
    });
  }
});

test('no space: it is said, the old file stays, and nothing else is left', (t) => {
  if (skipUnless(t, 'root')) return;
  const state = stateDir(t);
  state.writeRecord(key, recordOf({ hostIfname: 'old' }));
  // A directory where the file is to be written first has the same effect, without filling a file system.
  mkdirSync(`${state.path}/journal/torn.${process.pid}/x`, { recursive: true });
  assert.throws(() => state.writeRecord(key, recordOf({ hostIfname: 'new' })), {
    code: 'STATE_UNREADABLE',
    op: 'state.write',
    errno: /EISDIR/,
  });
  assert.equal(state.record(key, 'eth1')?.hostIfname, 'old');
  assert.deepEqual(readdirSync(`${state.path}/attachments`), [`${key}+eth1.json`]);
});

test('what a process that was killed has left half-written goes, what a living one writes stays', async (t) => {
  if (skipUnless(t, 'root')) return;
  const state = stateDir(t);
  const dead = spawn('true', { stdio: 'ignore' });
  await once(dead, 'exit');
  for (const pid of [dead.pid, process.ppid]) writeFileSync(`${state.path}/journal/torn.${pid}`, '{');
  assert.deepEqual(state.journals(), []);
  assert.deepEqual(readdirSync(`${state.path}/journal`), [`torn.${process.ppid}`]);
});

test('a reader sees the old text or the new one, whenever it reads', async (t) => {
  if (skipUnless(t, 'root')) return;
  const state = stateDir(t);
  const file = state.writeJournal(journalOf(), 1);
  const reader = spawn('sh', ['-c', 'for i in $(seq 300); do cat "$0"; done', file], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  let text = '';
  reader.stdout.setEncoding('utf8').on('data', (chunk: string) => {
    text += chunk;
  });
  const ended = once(reader, 'close');
  let isOver = false;
  void ended.then(() => {
    isOver = true;
  });
  for (let i = 0; !isOver; i++) {
    state.rewriteJournal(file, journalOf({ startTime: 'x'.repeat(i % 5000) }));
    if (i % 50 === 0) await new Promise((resolve) => setImmediate(resolve));
  }
  const lines = text.split('\n').filter(Boolean);
  assert.equal(lines.length, 300);
  for (const line of lines) assert.equal((JSON.parse(line) as Journal).version, 1);
  assert.equal(JSON.parse(readFileSync(file, 'utf8')).version, 1);
});
