/** `pipework --wait`: run inside a container before the program that needs the interface. */
import assert from 'node:assert/strict';
import test from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { ipLink, nsenter, runAsync, runIn, skipUnless } from '../lab.ts';
import { type Cases, command, type Ground, makeGround, runCases } from './support.ts';

/** `pipework WORDS` in a container's network namespace: how long it took and what it said. */
async function waitIn(pid: number, words: readonly string[]): Promise<{ seconds: number; said: string }> {
  const [first = '', ...rest] = [...nsenter(pid), ...command('pipework', words)];
  const began = performance.now();
  const { stdout, stderr } = await runAsync(first, rest, { timeout: 10 });
  return { seconds: (performance.now() - began) / 1000, said: stdout + stderr };
}

const cases: Cases<Ground> = {
  'blocks while the interface is absent, and returns within a second of its appearance': async ({
    host,
    a,
  }) => {
    const waiting = waitIn(a.pid, ['--wait']);
    await sleep(700);
    host.pipework(['br1', a.name, '10.0.0.1/24']);
    const { seconds, said } = await waiting;
    assert.ok(seconds > 0.7 && seconds < 2.5, `${seconds} s`);
    assert.equal(said, '');
  },

  'returns at once when it is there, even down': async ({ a }) => {
    runIn(a.pid, 'ip', ['link', 'add', 'eth1', 'type', 'bridge']);
    assert.ok(!ipLink(a.pid, 'eth1')?.flags.includes('UP'));
    assert.ok((await waitIn(a.pid, ['--wait'])).seconds < 0.7);
  },

  '-i names another interface; a word behind means nothing': async ({ host, a }) => {
    host.pipework(['br1', '-i', 'eth7', a.name, '10.0.0.1/24']);
    await waitIn(a.pid, ['--wait', '-i', 'eth7']);
    host.pipework(['br2', a.name, '10.0.1.1/24']);
    await waitIn(a.pid, ['--wait', 'eth9']);
  },
};

test('pipework --wait', async (t) => {
  if (skipUnless(t, 'root', 'docker')) return;
  await runCases(t, await makeGround(t, 'wt'), cases);
});
