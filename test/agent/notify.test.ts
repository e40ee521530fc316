/** sd_notify(3), heard by Python. */
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import path from 'node:path';
import test, { type TestContext } from 'node:test';
import { type Notification, notify } from '../../src/agent/notify.ts';
import { skipUnless } from '../lab.ts';
import { ownFolder } from './lab.ts';

const receiver = `
import socket, sys
place = sys.argv[1]
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.bind('\\0' + place[1:] if place.startswith('@') else place)
print('ready', flush=True)
while True:
    print(repr(s.recv(65536).decode()), flush=True)
`;

/** What a service manager at `place` hears. */
async function hear(
  t: TestContext,
  place: string,
): Promise<{ child: ChildProcess; next(): Promise<string> }> {
  const child = spawn('python3', ['-c', receiver, place], { stdio: ['ignore', 'pipe', 'inherit'] });
  t.after(() => void child.kill());
  const lines: string[] = [];
  let rest = '';
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    const [last = '', ...whole] = (rest + text).split('\n').reverse();
    rest = last;
    lines.push(...whole.reverse());
  });
  const next = async (): Promise<string> => {
    while (lines.length === 0) await once(child.stdout, 'data');
    return lines.shift() ?? '';
  };
  assert.equal(await next(), 'ready');
  return { child, next };
}

for (const kind of ['a path', 'an abstract name']) {
  test(`at ${kind}`, async (t) => {
    if (skipUnless(t, 'program:python3')) return;
    const place = kind === 'a path' ? path.join(ownFolder(t), 'notify') : `@pwta-notify-${process.pid}`;
    const { next } = await hear(t, place);
    for (const state of ['READY=1', 'STOPPING=1', 'STATUS=3 attachments'] satisfies Notification[]) {
      assert.equal(notify(state, place), true);
      assert.equal(await next(), `'${state}'`);
    }
    assert.equal(notify('STATUS=one\ntwo', place), true);
    assert.equal(await next(), "'STATUS=one two'", 'no second assignment by a line break');
    assert.equal(notify('RELOADING=1', place), true);
    const [, at] = /^'RELOADING=1\\nMONOTONIC_USEC=(\d+)'$/.exec(await next()) ?? [];
    assert.ok(Math.abs(Number(at) - performance.now() * 1000 - performanceOffsetUs()) < 5e6);
  });
}

/** CLOCK_MONOTONIC at performance.now() = 0. */
function performanceOffsetUs(): number {
  return Number(process.hrtime.bigint() / 1000n) - performance.now() * 1000;
}

test('the place is that of $NOTIFY_SOCKET', async (t) => {
  if (skipUnless(t, 'program:python3')) return;
  const place = path.join(ownFolder(t), 'notify');
  const { next } = await hear(t, place);
  process.env.NOTIFY_SOCKET = place;
  t.after(() => {
    delete process.env.NOTIFY_SOCKET;
  });
  assert.equal(notify('READY=1'), true);
  assert.equal(await next(), "'READY=1'");
});

test('a place where nobody listens is no failure', async (t) => {
  const folder = ownFolder(t);
  for (const place of [undefined, '', '@', '/', 'relative', path.join(folder, 'none'), `/${'x'.repeat(200)}`])
    assert.equal(notify('READY=1', place), false, place);
});

test('a service manager that went away is no failure', async (t) => {
  if (skipUnless(t, 'program:python3')) return;
  const place = path.join(ownFolder(t), 'notify');
  const { child } = await hear(t, place);
  child.kill('SIGKILL');
  await once(child, 'exit');
  assert.equal(notify('READY=1', place), false);
});
