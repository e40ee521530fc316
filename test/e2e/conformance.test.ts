/** The drop-in against what the original left in the kernel and in Open vSwitch, case by case. */
import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import test from 'node:test';
import {
  conform,
  differences,
  loadAccepted,
  loadCases,
  loadObserved,
  patched,
  type Seen,
  unmet,
  withKernelDatapath,
} from '../conformance/conform.ts';
import { pipework, skipUnless } from '../lab.ts';

const hasModule = existsSync('/sys/module/openvswitch');
const observed = loadObserved(hasModule);
const accepted = loadAccepted();

for (const item of loadCases()) {
  const instead = accepted.get(item.name);
  test(`pipework: ${item.name}${instead ? ` (${instead.why})` : ''}`, async (t) => {
    if (skipUnless(t, 'root', 'docker')) return;
    const reason = unmet(item);
    if (reason !== undefined) return t.skip(reason);
    const recorded = observed.get(item.name);
    assert.ok(recorded, 'nothing was recorded for this case');
    const right = instead ? (patched(recorded, instead.instead) as Seen) : recorded;
    // What is right instead is written as it is with the other datapath.
    const want = instead && hasModule ? withKernelDatapath(right) : right;
    assert.deepEqual(await conform(t, item, want, (words) => pipework(words, { expect: 'any' })), []);
  });
}

test('every case in which the original is wrong says what is right instead', () => {
  const wrong = loadCases().filter((item) => item.original_is_wrong !== undefined);
  assert.deepEqual(wrong.map(({ name }) => name).sort(), [...accepted.keys()].sort());
});

test('what was seen with one datapath of Open vSwitch tells what is seen with the other', () => {
  const [small, full] = [loadObserved(false), loadObserved(true)];
  for (const name of ['ovs-static', 'ovs-vlan', 'ovs-seed-isolation', 'bridge-static']) {
    const [one, other] = [small.get(name), full.get(name)];
    assert.ok(one && other);
    assert.deepEqual(differences(withKernelDatapath(one), other), []);
  }
});

test('a difference is found wherever it is', () => {
  const base = { steps: [{ exit: 0 }], state: { c1: { links: [{ mtu: 1500 }, { mtu: 1400 }] } } };
  const other = patched(base, { state: { c1: { links: { 1: { mtu: 9000 } } } }, steps: { 0: { exit: 2 } } });
  assert.deepEqual(differences(base, other), [
    '/state/c1/links[1]/mtu: want 1400, got 9000',
    '/steps[0]/exit: want 0, got 2',
  ]);
  assert.deepEqual(differences([1], [1, 2], '/a'), ['/a: want [1], got [1,2]']);
});
