// Many commands at once, on a host of their own.
import assert from 'node:assert/strict';
import test, { type TestContext } from 'node:test';
import { cidrs, linkExists, nsenter, ping, type Ran, run, runAsync, skipUnless } from '../lab.ts';
import { differences, Ground, pipework, pipewright } from './fault-ground.ts';

interface Guest {
  readonly name: string;
  readonly pid: number;
}

const guests = (ground: Ground, t: TestContext, count: number): Promise<Guest[]> =>
  Promise.all(Array.from({ length: count }, () => ground.another(t)));

/** All at once; each has to end well, and without a word. */
async function atOnce(ground: Ground, lines: readonly (readonly string[])[]): Promise<void> {
  const done = await Promise.all(
    lines.map((words) => {
      const [command = '', ...args] = [...ground.enter, ...words];
      return runAsync(command, args, { expect: 'any', timeout: 120 });
    }),
  );
  const failed = done.filter(({ code, stderr }: Ran) => code !== 0 || stderr !== '');
  assert.deepEqual(failed, []);
}

/** Two interfaces for each guest. */
const addressOf = (i: number, which: 'a' | 'b'): string => `10.0.${which === 'a' ? 1 : 2}.${i + 1}`;

function pairOfLines(bridge: string, { pid }: Guest, i: number): string[][] {
  return (['a', 'b'] as const).map((which) => [
    ...[...pipework, bridge, '-i', `eth-${which}`, `pid:${pid}`, `${addressOf(i, which)}/24`],
  ]);
}

/** That every guest has both addresses, and reaches the next guest by both. */
async function assertConnected(all: readonly Guest[]): Promise<void> {
  for (const [i, { pid }] of all.entries()) {
    assert.deepEqual(cidrs(pid, 'eth-a'), [`${addressOf(i, 'a')}/24`]);
    assert.deepEqual(cidrs(pid, 'eth-b'), [`${addressOf(i, 'b')}/24`]);
  }
  const pings = all.flatMap(({ pid }, i) =>
    (['a', 'b'] as const).map(async (which) => {
      const [command = '', ...args] = [...nsenter(pid), 'ping', '-n', '-c1', '-W2'];
      const to = addressOf((i + 1) % all.length, which);
      const tries = [1, 2, 3];
      for (const _ of tries) {
        if ((await runAsync(command, [...args, to], { expect: 'any' })).code === 0) return undefined;
      }
      return `${addressOf(i, which)} does not reach ${to}`;
    }),
  );
  assert.deepEqual((await Promise.all(pings)).filter(Boolean), []);
}

const detachLines = ({ pid }: Guest): string[][] =>
  ['eth-a', 'eth-b'].map((ifname) => [...pipewright, 'detach', `pid:${pid}`, '--ifname', ifname]);

for (const [kind, bridge] of [
  ['Linux', 'br1'],
  ['Open vSwitch', 'ovs1'],
] as const) {
  test(`60 calls at once, two for each of 30 containers, on one new ${kind} bridge; then 60 detaches`, async (t) => {
    if (skipUnless(t, 'root', ...(bridge === 'ovs1' ? (['ovs'] as const) : []))) return;
    const ground = await Ground.make(t, { ovs: bridge === 'ovs1' });
    const before = ground.dump();
    const all = await guests(ground, t, 30);
    await atOnce(
      ground,
      all.flatMap((guest, i) => pairOfLines(bridge, guest, i)),
    );
    const links = run('ip', ['-n', ground.host.name, '-br', 'link']).stdout.split('\n').filter(Boolean);
    // Besides lo and the bridge; with Open vSwitch also its own ovs-netdev.
    const ends = links.filter((line) => !/^(lo|br1|ovs1|ovs-netdev)\b/.test(line));
    assert.equal(ends.length, 60, ends.join('\n'));
    if (bridge === 'ovs1') assert.equal(ground.vsctl('list-ports', bridge).trim().split('\n').length, 60);
    await assertConnected(all);
    await atOnce(ground, all.flatMap(detachLines));
    // The last one took the bridge and its firewall rule with it.
    const left = await differences(before, () => ground.dump());
    assert.deepEqual(
      left.filter((line) => !line.includes('ovs-netdev')),
      [],
    );
  });
}

test('attaches, changes, detaches and lists at once, several times over: what was asked last is there', async (t) => {
  if (skipUnless(t, 'root', 'macvlan')) return;
  const ground = await Ground.make(t);
  ground.onHost('link add nic0 type veth peer name wire1', 'link set wire1 up', 'link set nic0 up');
  const before = ground.dump();
  const all = await guests(ground, t, 8);
  const attach = ({ pid }: Guest, network: string, address: string): string[] => [
    ...[...pipewright, 'attach', `pid:${pid}`, '--network', network, '--address', address],
  ];
  const detach = ({ pid }: Guest): string[] => [...pipewright, 'detach', `pid:${pid}`];
  const odd = all.filter((_, i) => i % 2 === 1);
  const even = all.filter((_, i) => i % 2 === 0);
  await atOnce(
    ground,
    odd.map((guest, i) => attach(guest, 'bridge:br1', `10.0.0.${i + 101}/24`)),
  );
  for (let round = 0; round < 3; round++) {
    await atOnce(ground, [
      ...odd.map(detach),
      ...even.map((guest, i) => attach(guest, i % 2 ? 'bridge:br1' : 'nic0', `10.0.0.${i + 1}/24`)),
      [...pipewright, 'list'],
    ]);
    await atOnce(ground, [
      ...even.map((guest, i) => attach(guest, i % 2 ? 'bridge:br2' : 'nic0', `10.0.1.${i + 1}/24`)),
      ...odd.map((guest, i) => attach(guest, 'bridge:br2', `10.0.1.${i + 101}/24`)),
      [...pipewright, 'list', '--json'],
    ]);
    for (const [i, { pid }] of even.entries()) assert.deepEqual(cidrs(pid, 'eth1'), [`10.0.1.${i + 1}/24`]);
    for (const [i, { pid }] of odd.entries()) assert.deepEqual(cidrs(pid, 'eth1'), [`10.0.1.${i + 101}/24`]);
    assert.ok(ping(odd[0]?.pid ?? 0, '10.0.1.102', 3), 'over br2');
    assert.ok(ping(odd[0]?.pid ?? 0, '10.0.1.2', 3), 'and one that came from br1');
    await atOnce(ground, even.map(detach));
  }
  await atOnce(ground, odd.map(detach));
  for (const { pid } of all) assert.equal(linkExists(pid, 'eth1'), false);
  assert.deepEqual(await differences(before, () => ground.dump()), []);
});

test('the same attach sixteen times at once: one makes it, the others find it as asked', async (t) => {
  if (skipUnless(t, 'root')) return;
  const ground = await Ground.make(t);
  const words = [
    ...[...pipewright, 'attach', `pid:${ground.guest.pid}`, '--network', 'bridge:br1'],
    ...['--address', '10.0.0.1/24@10.0.0.254', '--json'],
  ];
  const [command = '', ...args] = [...ground.enter, ...words];
  const done = await Promise.all(Array.from({ length: 16 }, () => runAsync(command, args)));
  const changed = done.map(({ stdout }) => (JSON.parse(stdout) as { changed: boolean }).changed);
  assert.equal(changed.filter(Boolean).length, 1);
});

test('sixteen commands, eight of them killed at any time: the others do not notice', async (t) => {
  if (skipUnless(t, 'root')) return;
  const ground = await Ground.make(t);
  await ground.connectOther(t);
  const before = ground.dump();
  const all = await guests(ground, t, 16);
  const done = await Promise.all(
    all.map(({ pid }, i) => {
      const words = [...ground.enter, ...pipework, 'br1', `pid:${pid}`, `10.0.0.${i + 1}/24`];
      // `timeout -s KILL` of a little longer each time, so that some are killed while they wait for the lock.
      const timed = i % 2 ? ['timeout', '-s', 'KILL', String(0.05 + i * 0.02), ...words] : words;
      return runAsync(timed[0] ?? '', timed.slice(1), { expect: 'any' });
    }),
  );
  for (const [i, { code, stdout, stderr }] of done.entries()) {
    if (i % 2 === 0) assert.deepEqual([code, stdout, stderr], [0, '', '']);
  }
  await ground.nextCommand();
  for (const [i, { pid }] of all.entries()) {
    // Killed or not, it is there as asked or not at all.
    const there = linkExists(pid, 'eth1');
    if (i % 2 === 0 || there) assert.deepEqual(cidrs(pid, 'eth1'), [`10.0.0.${i + 1}/24`]);
    if (there) await ground.detach('eth1', pid);
  }
  assert.deepEqual(await differences(before, () => ground.dump()), []);
});
