/** Many commands at the same time. */
import assert from 'node:assert/strict';
import { readdirSync } from 'node:fs';
import test, { type TestContext } from 'node:test';
import {
  cidrs,
  cleanupOvsBridge,
  ovsPort,
  ovsPorts,
  ping,
  pipeworkAsync,
  plainNetns,
  type Ran,
  runContainer,
  skipUnless,
} from '../lab.ts';
import {
  type Cases,
  type Ground,
  linkNames,
  makeGround,
  nicOn,
  ownHost,
  reaches,
  runCases,
} from './support.ts';

const failed = (done: readonly Ran[]): Ran[] =>
  done.filter(({ code, stdout, stderr }) => code !== 0 || stdout + stderr !== '');

/** Containers of the Docker Engine, several started at a time. */
function containers(t: TestContext, count: number): { name: string; pid: number }[] {
  return Array.from({ length: count }, (_, i) => runContainer(t, `cc${i}`));
}

test('60 calls at once: two interfaces for each of 30 containers, all on one new bridge', async (t) => {
  if (skipUnless(t, 'root', 'docker')) return;
  const host = await ownHost(t, 'cch');
  const plain = await Promise.all(Array.from({ length: 27 }, (_, i) => plainNetns(t, `cn${i}`)));
  const guests = [
    ...containers(t, 3),
    ...plain.map(({ pid, name }, i) => ({ pid, name: i % 2 ? `pid:${pid}` : `netns:${name}` })),
  ];
  const lines = guests.flatMap(({ name }, i) => [
    ['br1', '-i', 'eth-a', name, `10.0.1.${i + 1}/24`],
    ['br1', '-i', 'eth-b', name, `10.0.2.${i + 1}/24`],
  ]);
  assert.deepEqual(
    failed(await Promise.all(lines.map((words) => host.pipeworkAsync(words, { expect: 'any' })))),
    [],
  );
  for (const [i, { pid }] of guests.entries()) {
    assert.deepEqual(linkNames(pid), ['eth-a', 'eth-b']);
    assert.deepEqual(cidrs(pid, 'eth-a'), [`10.0.1.${i + 1}/24`]);
    assert.deepEqual(cidrs(pid, 'eth-b'), [`10.0.2.${i + 1}/24`]);
  }
  assert.equal(host.links().length, 61);
  assert.deepEqual(readdirSync(`${host.stateDir}/journal`), []);
  const [first] = guests;
  assert.ok(first && reaches(first.pid, '10.0.1.30') && reaches(first.pid, '10.0.2.30'));
});

const cases: Cases<Ground> = {
  'the same line eight times at once: one makes it, the others are refused, nothing else is there': async ({
    host,
    a,
  }) => {
    const words = ['br1', a.name, '10.0.0.1/24@10.0.0.254'];
    const done = await Promise.all(
      Array.from({ length: 8 }, () => host.pipeworkAsync(words, { expect: 'any' })),
    );
    assert.deepEqual(done.map(({ code }) => code).sort(), [0, 1, 1, 1, 1, 1, 1, 1]);
    assert.deepEqual(linkNames(a.pid), ['eth1']);
    assert.deepEqual(host.links(), ['br1', `veth1pl${a.pid}`]);
    assert.deepEqual(readdirSync(`${host.stateDir}/journal`), []);
  },

  'eight macvlans of one NIC in one container at once': async ({ host, a }) => {
    nicOn(host, 'phy0');
    const lines = Array.from({ length: 8 }, (_, i) => [
      'phy0',
      '-i',
      `verylong-name-${i}`,
      a.name,
      `10.0.${i}.1/24`,
    ]);
    assert.deepEqual(
      failed(await Promise.all(lines.map((words) => host.pipeworkAsync(words, { expect: 'any' })))),
      [],
    );
    assert.equal(linkNames(a.pid).length, 8);
    assert.deepEqual(host.links(), ['phy0', 'phy0p']);
  },
};

test('pipework at the same time for one container', async (t) => {
  if (skipUnless(t, 'root', 'docker', 'macvlan')) return;
  await runCases(t, await makeGround(t, 'cs'), cases);
});

test('16 ports of a new Open vSwitch bridge at once, each with its tag', async (t) => {
  if (skipUnless(t, 'root', 'ovs')) return;
  const bridge = `ovspwt${process.pid % 100_000}`;
  cleanupOvsBridge(t, bridge);
  const guests = await Promise.all(Array.from({ length: 16 }, (_, i) => plainNetns(t, `co${i}`)));
  const lines = guests.map(({ pid }, i) => [bridge, `pid:${pid}`, `10.0.0.${i + 1}/24`, `@${100 + (i % 2)}`]);
  assert.deepEqual(
    failed(await Promise.all(lines.map((words) => pipeworkAsync(words, { expect: 'any' })))),
    [],
  );
  assert.equal(ovsPorts(bridge)?.length, 16);
  for (const [i, { pid }] of guests.entries()) assert.equal(ovsPort(`veth1pl${pid}`)?.tag, 100 + (i % 2));
  assert.equal(reaches(guests[0]?.pid ?? 0, '10.0.0.3'), true);
  assert.equal(ping(guests[0]?.pid ?? 0, '10.0.0.2'), false);
});
