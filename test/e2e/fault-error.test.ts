// A step that fails, whichever it is: host, container, Open vSwitch and firewall are as before.
import assert from 'node:assert/strict';
import test from 'node:test';
import { skipUnless } from '../lab.ts';
import { differences, Ground } from './fault-ground.ts';
import { scenarios } from './fault-scenarios.ts';

for (const scenario of scenarios) {
  test(`an error before each step: ${scenario.name}`, async (t) => {
    if (skipUnless(t, 'root', ...(scenario.needs ?? []))) return;
    const ground = await Ground.make(t, { ovs: scenario.ovs ?? false });
    await scenario.prepare(ground, t);
    const kinds: string[] = [];
    const before = ground.dump();
    const count = (await ground.attach(scenario.want, { dryRun: true })).steps.length;
    assert.deepEqual(await differences(before, () => ground.dump()), [], 'a dry run changed something');
    for (let at = 0; at <= count; at++) {
      const fault = new Error(`fault before step ${at}`);
      const options = {
        beforeStep: (step: { op: { do: string } }, index: number) => {
          kinds[index] = step.op.do;
          if (index === at) throw fault;
        },
        beforeCommit: async () => {
          throw fault;
        },
      };
      await assert.rejects(ground.attach(scenario.want, options), (error) => {
        assert.equal(error, fault);
        return true;
      });
      assert.deepEqual(
        await differences(before, () => ground.dump()),
        [],
        `a fault before step ${at} of ${count}: ${kinds[at]}`,
      );
    }
    assert.equal(kinds.join(' '), scenario.operations);
  });
}
