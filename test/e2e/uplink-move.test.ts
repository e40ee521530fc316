// The move of a NIC to a bridge and back, under a ping every 10 ms and a TCP transfer both ways.
// PWT_UPLINK_RUNS sets how often, by default 3.
import assert from 'node:assert/strict';
import test, { type TestContext } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { runIn, skipUnless } from '../lab.ts';
import { startOvs } from './agent-ground.ts';
import { line } from './support.ts';
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

for (const [kind, network] of Object.entries(bridges)) {
  test(`${kind}: --keep-mac given otherwise the next time`, async (t) => {
    if (skipUnless(t, 'root', 'program:ethtool', ...(kind === 'ovs' ? ['ovs' as const] : []))) return;
    const ground = await uplinkGround(t, `umk${kind}`);
    const { host } = ground;
    if (kind === 'ovs') await startOvs(t, host);
    const before = dump(ground);
    const macOf = (name: string): string =>
      (JSON.parse(host.ip('-j', 'link', 'show', name).stdout) as [{ address: string }])[0].address;
    const add = (...words: readonly string[]): string =>
      host.pipewright(['uplink', 'add', 'eth0', '--network', network, '--confirm', '0', ...words]).stdout;
    const bridge = network.replace(/.*:/, '');
    add();
    const transfer = await startTransfer(ground, 5900);
    assert.equal(macOf(bridge), macOf('eth0'));
    const isTap =
      kind === 'ovs' && JSON.stringify(host.ip('-j', '-d', 'link', 'show', bridge).stdout).includes('tun');
    if (isTap) {
      const words = ['uplink', 'add', 'eth0', '--network', network, '--keep-mac'];
      assert.match(
        line(host.pipewright(words, { expect: 1 })),
        /cannot be changed while addresses are on it; pipewright uplink remove eth0, then: /,
      );
      assert.equal(macOf(bridge), macOf('eth0'));
      assert.equal((await transfer.stop()).broken, undefined);
      return;
    }
    assert.match(add('--keep-mac'), /MAC address of its own/);
    const own = macOf(bridge);
    assert.notEqual(own, macOf('eth0'));
    assert.match(add('--keep-mac'), /nothing to do/);
    assert.match(host.pipewright(['uplink', 'list']).stdout, new RegExp(` ${own} `));
    assert.match(add(), /leases and neighbours know this MAC address/);
    assert.equal(macOf(bridge), macOf('eth0'));
    assert.equal((await transfer.stop()).broken, undefined);
    host.pipewright(['uplink', 'remove', 'eth0', '--confirm', '0']);
    assert.deepEqual(difference(before, dump(ground)), []);
  });
}

test('an Open vSwitch bridge that has addresses and routes of its own keeps them', async (t) => {
  if (skipUnless(t, 'root', 'program:ethtool', 'ovs')) return;
  const ground = await uplinkGround(t, 'umo');
  const { host } = ground;
  await startOvs(t, host);
  const userspace = ['--', 'set', 'bridge', 'ovs0', 'datapath_type=netdev'];
  host.run('ovs-vsctl', ['add-br', 'ovs0', ...userspace]);
  for (const words of [
    'link set ovs0 up',
    'addr add 10.77.0.1/24 dev ovs0',
    'addr add fd77::1/64 dev ovs0 nodad',
    'route add 10.78.0.0/16 via 10.77.0.9 dev ovs0',
    '-6 route add fd78::/64 via fd77::9 dev ovs0',
  ])
    host.ip(...words.split(' '));
  await thereAndBack(t, ground, 'ovs:ovs0', 0, { own: ['10.77.0.1/24', 'fd77::1/64'] });
});

/** One of each kind that the kernel can be told of a link. */
const rich = [
  'link set eth0 mtu 9000',
  'addr add 10.9.0.7/32 dev eth0 metric 55',
  'addr add 10.10.0.1 peer 10.10.0.2/32 dev eth0',
  'addr add 10.11.0.1/24 dev eth0 noprefixroute',
  'addr add 10.12.0.1/24 broadcast 10.12.0.77 dev eth0 scope link valid_lft 5000 preferred_lft 4000',
  'addr add 10.13.0.1/24 dev eth0 scope host',
  'addr add fd09::6/128 dev eth0 home nodad',
  'addr add fd0a::6/64 dev eth0 noprefixroute nodad',
  'addr add fd0b::6/64 dev eth0 metric 77 valid_lft 5000 preferred_lft 0 nodad',
  'addr add fd0c::1 peer fd0c::2/64 dev eth0 nodad',
  'addr add fe80::77/64 dev eth0 nodad',
  `route add default via ${at.router} metric 100 src 10.9.0.6 tos 0x10`,
  'route add 10.30.0.0/16 via 10.99.0.1 dev eth0 onlink',
  'route add 10.31.0.0/16 dev eth0 src 10.9.0.6 mtu lock 1400 advmss 1300 table 1000000 proto static',
  `route add 10.34.0.0/16 nexthop via ${at.router} weight 3 nexthop via 10.77.0.2 dev eth1`,
  `route add 10.36.0.0/16 via inet6 ${at.router6} dev eth0`,
  'route add local 10.40.0.0/16 dev eth0 table 255',
  'route add blackhole 10.32.0.0/16',
  `-6 route add fd30::/32 nexthop via ${at.router6} dev eth0 nexthop via fd09::9 dev eth0 weight 4`,
  `-6 route add fd31::/32 from fd09::/64 via ${at.router6} dev eth0 table 201 mtu 1300`,
  'rule add oif eth0 from 10.9.0.6 fwmark 5/0xff lookup 200 pref 101',
  'rule add iif eth0 oif eth1 ipproto tcp sport 80-90 uidrange 0-1000 lookup 300 pref 102',
  'rule add not iif eth0 lookup 200 suppress_prefixlength 0 pref 103',
  'rule add iif eth0 blackhole pref 104',
  '-6 rule add oif eth0 from fd09::/64 to fd30::/32 goto 32766 pref 105',
  'neigh add 10.9.0.33 lladdr 02:00:00:00:00:33 dev eth0 nud permanent',
  'neigh add fd09::33 lladdr 02:00:00:00:00:33 dev eth0 nud permanent',
  'neigh add proxy 10.9.0.44 dev eth0',
  'neigh add proxy fd09::44 dev eth0',
];

test('all that a link can have moves as it is, and a neighbour that the bridge had before stays', async (t) => {
  if (skipUnless(t, 'root', 'program:ethtool')) return;
  const ground = await uplinkGround(t, 'umr');
  const { host, router } = ground;
  for (const words of [
    'link add eth1 up type veth peer name eth1p',
    'link set eth1p up',
    'addr add 10.77.0.1/24 dev eth1',
    'link add br0 type bridge',
    'link set br0 addrgenmode none',
    'link set br0 up',
    ...rich,
  ])
    host.ip(...words.split(' '));
  runIn(router, 'ip', ['link', 'set', 'lan', 'mtu', '9000']);
  host.ip('neigh', 'add', '10.9.0.55', 'lladdr', '02:00:00:00:00:55', 'dev', 'br0', 'nud', 'permanent');
  // When the kernel has done its part.
  dump(ground);
  const before = contentOf(ground, 'eth0');
  host.pipewright(['uplink', 'add', 'eth0', '--network', 'bridge:br0', '--confirm', '0']);
  const own = 'neigh show nud permanent {"dst":"10.9.0.55","dev":"br0","lladdr":"02:00:00:00:00:55"}';
  const moved = before.map((line) => line.replaceAll('"eth0', '"br0'));
  assert.deepEqual(difference([...moved, own], contentOf(ground, 'br0')), []);
  assert.deepEqual(contentOf(ground, 'eth0'), []);
  assert.match(host.ip('link', 'show', 'br0').stdout, / mtu 9000 /);
  host.pipewright(['uplink', 'remove', 'eth0', '--confirm', '0']);
  assert.deepEqual(difference(before, contentOf(ground, 'eth0')), []);
  assert.deepEqual(contentOf(ground, 'br0'), [own]);
});

/** What names a link, one line each, without what the kernel learns and changes by itself. */
function contentOf({ host }: UplinkGround, link: string): string[] {
  const lists = [
    'addr',
    ...['-4', '-6'].flatMap((family) => [`${family} route show table all`, `${family} rule`]),
    ...['nud permanent', 'proxy'].map((which) => `neigh show ${which}`),
  ];
  return lists.flatMap((words) =>
    (JSON.parse(host.ip('-j', ...words.split(' ')).stdout || '[]') as Named[])
      .flatMap((entry) => entry.addr_info?.map((addr) => ({ ...addr, dev: entry.ifname })) ?? [entry])
      .map((entry) =>
        `${words} ${JSON.stringify({ ...entry, state: undefined })}`
          .replaceAll(changing, '')
          .replaceAll(',}', '}'),
      )
      // The kernel's own, for each link that is up.
      .filter((line) => line.includes(`"${link}`) && !line.includes('"dst":"ff00::/8"')),
  );
}

/** An entry of a list of `ip -j`. */
interface Named {
  readonly ifname?: string;
  readonly addr_info?: readonly Named[];
}

const changing = /"(valid_life_time|preferred_life_time|expires|nodad)":[a-z0-9]+,?/g;

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
