/** How often rounds about everything are, on a clock that the test moves. */
import assert from 'node:assert/strict';
import test, { type TestContext } from 'node:test';
import { Rest, settle } from '../../src/agent/settle.ts';

/** A minute of a host with an event every `everyMs`, whose rounds take `roundMs`. */
function minute(t: TestContext, everyMs: number, roundMs: number) {
  t.mock.timers.enable({ apis: ['setTimeout'] });
  let now = 0;
  const rest = new Rest(() => now);
  const rounds: { readonly from: number; readonly to: number }[] = [];
  let pending = false;
  let until = 0;
  // As the loop does it: one at a time, and what comes during a round is one more.
  const begin = (): void => {
    if (until > now) {
      pending = true;
      return;
    }
    rest.begin();
    until = now + roundMs;
    rounds.push({ from: now, to: until });
  };
  const event = settle(begin, rest, new AbortController().signal);
  while (now < 60_000) {
    if (until === now && rounds.length > 0) {
      rest.end();
      if (pending) begin();
      pending = false;
    }
    if (now % everyMs === 0) event();
    now++;
    t.mock.timers.tick(1);
  }
  const busyMs = rounds.reduce((sum, { from, to }) => sum + Math.min(to, now) - from, 0);
  return { rounds, share: busyMs / now };
}

test('where events never end, rounds take a fifth of the time', (t) => {
  const { rounds, share } = minute(t, 10, 150);
  assert.ok(share <= 0.2, String(share));
  assert.ok(rounds.length >= 60, String(rounds.length));
});

test('short rounds are as soon as ever', (t) => {
  const { rounds } = minute(t, 10, 5);
  assert.ok(rounds.length >= 500, String(rounds.length));
});

test('long rounds are at most 2 s apart', (t) => {
  const { rounds, share } = minute(t, 10, 1000);
  for (const [at, { to }] of rounds.entries()) {
    const next = rounds[at + 1];
    if (next) assert.ok(next.from - to <= 2110 && next.from - to >= 2000, `${next.from - to}`);
  }
  assert.ok(share <= 0.4, String(share));
});

test('a lone event is served after 100 ms, however long the last round took', (t) => {
  const { rounds } = minute(t, 10_000, 400);
  assert.deepEqual(
    rounds.map(({ from }) => from % 10_000),
    [100, 100, 100, 100, 100, 100],
  );
});

test('nothing comes after the end', (t) => {
  t.mock.timers.enable({ apis: ['setTimeout'] });
  const stop = new AbortController();
  let count = 0;
  const event = settle(() => count++, new Rest(), stop.signal);
  event();
  stop.abort();
  t.mock.timers.tick(1000);
  event();
  t.mock.timers.tick(1000);
  assert.equal(count, 0);
});
