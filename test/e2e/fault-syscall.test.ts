// The programs themselves are killed: at every system call that changes something, and at any time.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import test, { type TestContext } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { run, type Snapshot, skipUnless } from '../lab.ts';
import { differences, Ground, normalise, pipework, pipewright } from './fault-ground.ts';
import { type Scenario, scenarioOf } from './fault-scenarios.ts';

const asked = process.env.PIPEWRIGHT_FAULT_ROUNDS;
const rounds = Number(asked ?? 12);
/** Of the system calls of what is coarse one in so many, and all where rounds are asked for; the last is always among them. */
const stride = asked === undefined ? 6 : 1;

/** Of the main thread, which does all but the deletion of links. */
const changing = 'write,rename,unlink,mkdir,flock,clone,vfork';

interface Case {
  readonly name: string;
  readonly like: string;
  readonly words: (ground: Ground) => readonly string[];
  /** Steps that fault-kill.test.ts has all of: what lies between them is sampled. */
  readonly isCoarse?: true;
}

const guestOf = ({ guest }: Ground): string => `pid:${guest.pid}`;

const cases: readonly Case[] = [
  {
    name: 'pipework, a new bridge with its firewall rule, and a gateway',
    like: 'bridge, new',
    words: (ground) => [...pipework, 'br1', guestOf(ground), '10.1.0.5/24@10.1.0.1,fd01::5/64@fd01::1'],
  },
  {
    name: 'pipework, a new Open vSwitch bridge with a tag',
    like: 'Open vSwitch, new',
    words: (ground) => [...pipework, 'ovs0', guestOf(ground), '10.1.0.5/24@10.1.0.1', '@100'],
  },
  {
    name: 'pipewright attach, an internal port of Open vSwitch',
    like: 'Open vSwitch, an internal port',
    isCoarse: true,
    words: (ground) => [
      ...[...pipewright, 'attach', guestOf(ground), '--network', 'ovs:ovs0', '--mode', 'internal'],
      ...['--vlan', '100', '--address', '10.1.0.5/24@10.1.0.1'],
    ],
  },
  {
    name: 'pipewright attach, a port that gets copies, and is policed',
    like: 'Open vSwitch, a port that gets copies',
    isCoarse: true,
    words: (ground) => [
      ...[...pipewright, 'attach', guestOf(ground), '--network', 'ovs:sw1'],
      ...['--mirror', 'port:port0', '--policing', '1mbit,100kbit'],
    ],
  },
  {
    name: 'pipework --direct-phys',
    like: 'the NIC itself, with',
    words: (ground) => [...pipework, '--direct-phys', 'nic0', guestOf(ground), '10.1.0.5/24@10.1.0.1'],
  },
  {
    name: 'pipewright attach, a change in place',
    like: 'change in place: address',
    words: (ground) => [
      ...[...pipewright, 'attach', guestOf(ground), '--network', 'br1', '--mtu', '1400'],
      ...['--address', '10.1.0.7/24,10.2.0.6/24@10.2.0.1', '--mac', '02:00:00:00:00:02'],
    ],
  },
  {
    name: 'pipewright attach, made anew',
    like: 'made anew: from a bridge',
    isCoarse: true,
    words: (ground) => [...pipewright, 'attach', guestOf(ground), '--network', 'nic0'],
  },
  {
    name: 'pipewright detach',
    like: 'change in place: another tag',
    isCoarse: true,
    words: (ground) => [...pipewright, 'detach', guestOf(ground)],
  },
];

/** Before, or as after a run that nobody killed; nothing in between. */
class Outcome {
  readonly #before: Snapshot;
  readonly #after: () => Snapshot;

  private constructor(before: Snapshot, after: () => Snapshot) {
    this.#before = before;
    this.#after = after;
  }

  static async of(t: TestContext, scenario: Scenario, { words }: Case) {
    const ground = await prepared(t, scenario);
    const before = normalise(ground.dump(), ground);
    const [command = '', ...args] = [...ground.enter, ...words(ground)];
    const began = performance.now();
    run(command, args);
    const durationMs = performance.now() - began;
    return { outcome: new Outcome(before, () => normalise(ground.dump(), ground)), durationMs };
  }

  /** What the next command finds. A detach is not taken back but repeated. */
  async check(ground: Ground, { words, name }: Case, where: string): Promise<'before' | 'after'> {
    const { warnings } = await ground.nextCommand();
    assert.deepEqual(warnings, [], where);
    const now = (): Snapshot => normalise(ground.dump(), ground);
    if (name.includes('detach')) {
      const [command = '', ...args] = [...ground.enter, ...words(ground)];
      run(command, args, { expect: 'any' });
      assert.deepEqual(await differences(this.#after, now), [], where);
      return 'after';
    }
    for (const deadline = Date.now() + 3000; Date.now() < deadline; await sleep(30)) {
      if ((await differences(this.#before, now, 0)).length === 0) return 'before';
      if ((await differences(this.#after, now, 0)).length === 0) return 'after';
    }
    assert.deepEqual(await differences(this.#before, now, 0), [], where);
    return 'before';
  }
}

async function prepared(t: TestContext, scenario: Scenario): Promise<Ground> {
  const ground = await Ground.make(t, scenario);
  await ground.connectOther(t);
  await scenario.prepare(ground, t);
  return ground;
}

/** The system calls of the main thread, in order. */
function callsOf(t: TestContext, ground: Ground, words: readonly string[]): string[] {
  const dir = mkdtempSync(path.join(tmpdir(), 'pwt-strace-'));
  t.after(() => rmSync(dir, { recursive: true, force: true }));
  const strace = ['strace', '-qq', '-o', `${dir}/calls`, '-e', `trace=${changing}`, '-e', 'signal=none'];
  const [command = '', ...args] = [...ground.enter, ...strace, ...words];
  run(command, args);
  return readFileSync(`${dir}/calls`, 'utf8').split('\n').filter(Boolean);
}

for (const one of cases) {
  test(`SIGKILL at each system call: ${one.name}`, async (t) => {
    const scenario = scenarioOf(one.like);
    if (skipUnless(t, 'root', 'program:strace', ...(scenario.needs ?? []))) return;
    const { outcome } = await Outcome.of(t, scenario, one);
    const traced = await prepared(t, scenario);
    const calls = callsOf(t, traced, one.words(traced));
    // Before it opens the state directory it has only been starting.
    const first = calls.findIndex((call) => call.includes('/run/pipewright') || call.startsWith('flock'));
    assert.ok(first > 0);
    let ground = await prepared(t, scenario);
    const ends = new Set<string>();
    const step = one.isCoarse ? stride : 1;
    for (let nr = first + 1 + ((calls.length - first - 1) % step); nr <= calls.length; nr += step) {
      const inject = `inject=${changing}:signal=KILL:when=${nr}`;
      const strace = ['strace', '-qq', '-o', '/dev/null', '-e', `trace=${changing}`, '-e', inject];
      const [command = '', ...args] = [...ground.enter, ...strace, ...one.words(ground)];
      run(command, args, { expect: 'any' });
      const end = await outcome.check(
        ground,
        one,
        `killed at call ${nr} of ${calls.length}: ${calls[nr - 1]}`,
      );
      ends.add(end);
      if (end === 'after') ground = await prepared(t, scenario);
    }
    assert.ok(ends.has('after'));
    assert.equal(ends.has('before'), !one.name.includes('detach'));
  });

  if (one.isCoarse && asked === undefined) continue;
  test(`SIGKILL at any time: ${one.name}`, async (t) => {
    const scenario = scenarioOf(one.like);
    if (skipUnless(t, 'root', ...(scenario.needs ?? []))) return;
    const { outcome, durationMs } = await Outcome.of(t, scenario, one);
    let ground = await prepared(t, scenario);
    for (let round = 0; round < rounds; round++) {
      const waitMs = (durationMs * 1.2 * (round + 0.5)) / rounds;
      const [command = '', ...args] = [...ground.enter, ...one.words(ground)];
      const child = spawn(command, args, { stdio: 'ignore' });
      const gone = once(child, 'exit');
      await sleep(waitMs);
      child.kill('SIGKILL');
      await gone;
      const end = await outcome.check(
        ground,
        one,
        `killed after ${waitMs.toFixed(1)} of ${durationMs.toFixed(1)} ms`,
      );
      if (end === 'after') ground = await prepared(t, scenario);
    }
  });
}
