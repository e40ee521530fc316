// A command that is killed before a step, whichever it is: when the next command has run, all is as before it.
import assert from 'node:assert/strict';
import { readdirSync } from 'node:fs';
import path from 'node:path';
import test, { type TestContext } from 'node:test';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';
import { root, run, type Snapshot, skipUnless } from '../lab.ts';
import type { ChildOrder } from './fault-child.ts';
import { differences, Ground, normalise } from './fault-ground.ts';
import { type Scenario, scenarios } from './fault-scenarios.ts';

/** Bundled next to this file, where packages are found. */
const child = path.join(path.dirname(fileURLToPath(import.meta.url)), 'fault-child.mjs');

test.before(async () => {
  await build({
    entryPoints: [path.join(root, 'test/e2e/fault-child.ts')],
    outfile: child,
    bundle: true,
    platform: 'node',
    format: 'esm',
    target: 'node20',
    packages: 'external',
    logLevel: 'warning',
  });
});

async function prepared(t: TestContext, scenario: Scenario): Promise<Ground> {
  const ground = await Ground.make(t, scenario);
  // Another NIC, for the next command.
  ground.onHost('link add other0 type veth peer name other1', 'link set other0 up', 'link set other1 up');
  await scenario.prepare(ground, t);
  return ground;
}

/** Runs the attach in a process of its own, which dies before this step. */
function killed(ground: Ground, { want }: Scenario, killAt: number | 'commit'): void {
  const { host, guest, ovsdbSocket } = ground;
  const order: ChildOrder = {
    netnsPath: `/run/netns/${host.name}`,
    ovsdbSocket,
    pid: guest.pid,
    want: ground.attachment(want),
    ifPresent: 'converge',
    killAt,
  };
  const { code, stderr } = run(process.execPath, [child, JSON.stringify(order)], { expect: 'any' });
  assert.deepEqual([code, stderr], [-1, ''], 'the child was killed');
  assert.equal(readdirSync(`${ground.stateDir}/journal`).length, 1, 'its journal is there');
}

/** Without the notes of other containers, and what a macvlan does to its uplink. */
function withoutOthers(snapshot: Snapshot, { guest }: Ground): Snapshot {
  const isIts = (key: string): boolean =>
    key === 'host link other0 promiscuity' ||
    (key.includes('/attachments/') && !key.includes(`/pid-${guest.pid}+`));
  return new Map([...snapshot].filter(([key]) => !isIts(key)));
}

/** A command that has nothing to do with it, and what is there then, without what that command made. */
async function afterAnother(ground: Ground, t: TestContext): Promise<() => Snapshot> {
  const other = await ground.another(t);
  const network = { kind: 'macvlan', uplink: 'other0', mode: 'bridge' } as const;
  // Several of them at the same time have the same address.
  const want = { network, addrs: ['10.200.0.2/24'], dad: false };
  const { warnings } = await ground.attach(want, {}, other.pid);
  assert.deepEqual(warnings, []);
  return () => withoutOthers(ground.dump(), ground);
}

for (const scenario of scenarios) {
  test(`SIGKILL before each step: ${scenario.name}`, async (t) => {
    if (skipUnless(t, 'root', 'macvlan', ...(scenario.needs ?? []))) return;
    const clean = await prepared(t, scenario);
    const { steps } = await clean.attach(scenario.want);
    const done = () => normalise(clean.dump(), clean);
    const final = scenario.final ?? 0;
    const firstFinal = final > 0 ? steps.length - final : steps.length + 1;

    const reused = await prepared(t, scenario);
    const before = withoutOthers(reused.dump(), reused);
    for (let at = 0; at < firstFinal; at++) {
      const where = `killed before step ${at} of ${steps.length}: ${steps[at]?.command}`;
      killed(reused, scenario, at === steps.length ? 'commit' : at);
      assert.deepEqual(await differences(before, await afterAnother(reused, t)), [], where);
    }
    // What another command has cleared away is not in the way of the same one either.
    await reused.attach(scenario.want);

    for (let at = 0; at < steps.length + (final > 0 ? 0 : 1); at++) {
      // The first part has killed it everywhere; here every other step will do, and those that nothing takes back.
      if (at % 2 === 0 && at < firstFinal - 1) continue;
      const where = `killed before step ${at} of ${steps.length}, then the same: ${steps[at]?.command}`;
      const ground = await prepared(t, scenario);
      killed(ground, scenario, at === steps.length ? 'commit' : at);
      if (at >= firstFinal) {
        const now = await afterAnother(ground, t);
        const wanted = () => normalise(withoutOthers(clean.dump(), clean), clean);
        assert.deepEqual(await differences(wanted, () => normalise(now(), ground)), [], where);
      }
      const { steps: again, warnings } = await ground.attach(scenario.want);
      assert.equal(again.length, at >= firstFinal ? 0 : steps.length);
      assert.deepEqual(warnings, []);
      if (at >= firstFinal) continue;
      assert.deepEqual(await differences(done, () => normalise(ground.dump(), ground)), [], where);
    }
  });
}
