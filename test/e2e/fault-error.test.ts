// A step that fails, whichever it is: host, container, Open vSwitch and firewall are as before.
import assert from 'node:assert/strict';
import test from 'node:test';
import type { Step } from '../../src/model/operation.ts';
import { skipUnless } from '../lab.ts';
import { differences, Ground, normalise } from './fault-ground.ts';
import { scenarios } from './fault-scenarios.ts';

const faultAt = (at: number, kinds: string[]) => {
  const fault = new Error(`fault before step ${at}`);
  const fail = (): never => {
    throw fault;
  };
  const beforeStep = (step: Step, index: number): void => {
    kinds[index] = step.op.do;
    if (index === at) fail();
  };
  return { fault, beforeStep, fail };
};

for (const scenario of scenarios) {
  test(`an error before each step: ${scenario.name}`, async (t) => {
    if (skipUnless(t, 'root', ...(scenario.needs ?? []))) return;
    const ground = await Ground.make(t, scenario);
    await scenario.prepare(ground, t);
    const kinds: string[] = [];
    const before = ground.dump();
    const { steps } = await ground.attach(scenario.want, { dryRun: true });
    assert.deepEqual(await differences(before, () => ground.dump()), [], 'a dry run changed something');
    const final = scenario.final ?? 0;
    for (let at = 0; at <= steps.length - final; at++) {
      const { fault, beforeStep, fail } = faultAt(at, kinds);
      const options = { beforeStep, beforeCommit: async () => fail() };
      await assert.rejects(ground.attach(scenario.want, options), (error) => {
        assert.equal(error, fault);
        return true;
      });
      const changed = await differences(before, () => ground.dump());
      assert.deepEqual(changed, [], `a fault before step ${at} of ${steps.length}: ${kinds[at]}`);
    }
    const { warnings } = await ground.attach(scenario.want, { beforeStep: faultAt(-1, kinds).beforeStep });
    assert.deepEqual(warnings, []);
    assert.equal(kinds.join(' '), scenario.operations);
    assert.deepEqual((await ground.attach(scenario.want)).steps, [], 'a second attach has nothing to do');
  });

  for (let left = scenario.final ?? 0; left > 0; left--) {
    test(`an error in a final step, ${left} from the last: ${scenario.name}`, async (t) => {
      if (skipUnless(t, 'root', ...(scenario.needs ?? []))) return;
      const ground = await Ground.make(t, scenario);
      await scenario.prepare(ground, t);
      const { steps } = await ground.attach(scenario.want, { dryRun: true });
      const { beforeStep } = faultAt(steps.length - left, []);
      const { warnings } = await ground.attach(scenario.want, { beforeStep });
      assert.deepEqual(warnings, [
        `something is left over, until the next command: fault before step ${steps.length - left}`,
      ]);
      const next = await ground.attach(scenario.want);
      assert.deepEqual([next.steps, next.warnings], [[], []]);
      const clean = await Ground.make(t, scenario);
      await scenario.prepare(clean, t);
      await clean.attach(scenario.want);
      const expected = () => normalise(clean.dump(), clean);
      assert.deepEqual(await differences(expected, () => normalise(ground.dump(), ground)), []);
    });
  }
}
