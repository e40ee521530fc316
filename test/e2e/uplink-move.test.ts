// The move of a NIC to a bridge and back, under a ping every 10 ms and a TCP transfer both ways.
// PWT_UPLINK_RUNS sets how often, by default 3.
import assert from 'node:assert/strict';
import test, { type TestContext } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { runIn, skipUnless } from '../lab.ts';
import { startOvs } from './agent-ground.ts';
import {
  at,
  difference,
  dump,
  startPing,
  startTransfer,
  type UplinkGround,
  uplinkGround,
} from './uplink-ground.ts';

const runs = Number(process.env.PWT_UPLINK_RUNS ?? 3);
/** 200 ms of a ping every 10 ms. */
const mostLost = 20;
const bridges = { bridge: 'bridge:br0', ovs: 'ovs:ovs0' } as const;

for (const [kind, network] of Object.entries(bridges)) {
  test(`${kind}: there and back under traffic`, async (t) => {
    if (skipUnless(t, 'root', 'program:ethtool', ...(kind === 'ovs' ? ['ovs' as const] : []))) return;
    const ground = await uplinkGround(t, `um${kind}`);
    if (kind === 'ovs') await startOvs(t, ground.host);
    const gaps: number[] = [];
    for (let i = 0; i < runs; i++) gaps.push(await thereAndBack(t, ground, network, i));
    t.diagnostic(
      `${kind}: ${runs} moves and as many undone: longest ping gaps ${[...gaps].sort((a, b) => a - b).join(' ')} ms`,
    );
  });
}

test('a bridge that has a port and an address of its own, where the way of answers is checked', async (t) => {
  if (skipUnless(t, 'root', 'program:ethtool')) return;
  const ground = await uplinkGround(t, 'umx');
  const { host } = ground;
  for (const name of ['all', 'eth0'])
    runIn(host.name, 'sysctl', ['-qw', `net.ipv4.conf.${name}.rp_filter=1`]);
  for (const words of [
    'link add br0 type bridge',
    'link add port0 type veth peer name port0p',
    'link set port0 master br0 up',
    'link set port0p up',
    'link set br0 up',
    'addr add 10.77.0.1/24 dev br0',
    // Of the NIC's subnet: its route would be the first of two on the way back.
    'addr add 10.9.0.77/24 dev br0',
    'route add 10.78.0.0/16 via 10.77.0.9 dev br0',
  ])
    host.ip(...words.split(' '));
  await thereAndBack(t, ground, 'bridge:br0', 0, { own: ['10.77.0.1/24', '10.9.0.77/24'] });
});

test('a bridge that was down, and routes by nexthop objects', async (t) => {
  if (skipUnless(t, 'root', 'program:ethtool')) return;
  const ground = await uplinkGround(t, 'umn');
  const { host } = ground;
  for (const words of [
    'link add br0 up type bridge',
    'link set br0 down',
    'addr add 10.77.0.1/24 dev br0',
    'addr add fd77::1/64 dev br0',
    `nexthop add id 7 via ${at.router} dev eth0`,
    'nexthop add id 8 group 7',
    `nexthop add id 9 via ${at.router6} dev eth0`,
    'route add 10.60.0.0/16 nhid 7',
    `route add 10.61.0.0/16 nhid 8 src ${at.host}`,
    '-6 route add fd60::/64 nhid 9',
  ])
    host.ip(...words.split(' '));
  await thereAndBack(t, ground, 'bridge:br0', 0, {
    own: ['10.77.0.1/24', 'fd77::1/64'],
    whenMoved: () => {
      const objects = JSON.parse(host.ip('-j', 'nexthop').stdout) as { id: number; dev?: string }[];
      assert.deepEqual(
        objects.map(({ id, dev }) => [id, dev]),
        [
          [7, 'br0'],
          [8, undefined],
          [9, 'br0'],
        ],
      );
      for (const to of ['10.60.0.1', '10.61.0.1', 'fd60::1'])
        assert.match(host.ip('route', 'get', to).stdout, / dev br0 /);
    },
  });
  assert.doesNotMatch(host.ip('link', 'show', 'br0').stdout, /,UP/);
});

/** @returns the longest gap of the ping */
async function thereAndBack(
  t: TestContext,
  ground: UplinkGround,
  network: string,
  i: number,
  { own = [], whenMoved = () => {} }: { own?: readonly string[]; whenMoved?: () => void } = {},
): Promise<number> {
  const { host } = ground;
  const bridge = network.split(':')[1] ?? '';
  const before = dump(ground);
  const ping = await startPing(ground, at.host);
  const transfer = await startTransfer(ground, 5001 + i);
  host.pipewright(['uplink', 'add', 'eth0', '--network', network, '--confirm', '30s']);
  const moved = [...own, `${at.host}/24`, '10.9.0.6/24', `${at.host6}/64`];
  assert.deepEqual(addressesOn(ground, bridge).sort(), moved.sort());
  whenMoved();
  assert.deepEqual(addressesOn(ground, 'eth0'), []);
  const pinned = host.ip('-br', 'link', 'show', 'eth0').stdout.split(/\s+/)[2];
  assert.equal(host.ip('-br', 'link', 'show', bridge).stdout.split(/\s+/)[2], pinned);
  host.pipewright(['confirm']);
  await sleep(300);
  host.pipewright(['uplink', 'remove', 'eth0', '--confirm', '0']);
  await sleep(300);
  const pinged = await ping.stop();
  const transferred = await transfer.stop();
  t.diagnostic(`${network}: ping ${JSON.stringify(pinged)}, TCP ${JSON.stringify(transferred)}`);
  assert.equal(transferred.broken, undefined);
  assert.ok(transferred.bytes.every((count) => count > 0));
  if (network.startsWith('bridge')) assert.ok(pinged.lost <= mostLost, `${pinged.lost} lost`);
  assert.deepEqual(difference(before, dump(ground)), []);
  return pinged.longestGapMs;
}

/** Without link-local ones. */
function addressesOn({ host }: UplinkGround, link: string): string[] {
  const { stdout } = host.ip('-br', 'addr', 'show', 'dev', link);
  return stdout
    .trim()
    .split(/\s+/)
    .slice(2)
    .filter((address) => address.includes('/') && !address.startsWith('fe80:'));
}
