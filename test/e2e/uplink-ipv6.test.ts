// IPv6 moves as well: addresses given by hand, made from a router's advertisements, temporary and link-local ones; and the
// default route that the router advertises, which the kernel learns again on the other link.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import test, { type TestContext } from 'node:test';
import { nsenter, ping, runIn, skipUnless } from '../lab.ts';
import { soon, startOvs } from './agent-ground.ts';
import {
  at,
  dump,
  patience,
  startPing,
  startTransfer,
  type UplinkGround,
  uplinkGround,
} from './uplink-ground.ts';

interface Address {
  readonly local: string;
  readonly scope: string;
  readonly temporary?: boolean;
  readonly dynamic?: boolean;
  readonly mngtmpaddr?: boolean;
}

interface Route {
  readonly dst: string;
  readonly gateway?: string;
  readonly protocol?: string;
  readonly metric: number;
}

/** dnsmasq on the router, which advertises the global prefix and itself. */
async function advertise(t: TestContext, { host, router }: UplinkGround): Promise<void> {
  const folder = mkdtempSync(path.join(tmpdir(), 'pwt-ra-'));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  runIn(router, 'ip', ['addr', 'add', '2001:db8:9::1/64', 'dev', 'lan', 'nodad']);
  runIn(router, 'sysctl', ['-qw', 'net.ipv6.conf.all.forwarding=1']);
  runIn(host.name, 'sysctl', ['-qw', 'net.ipv6.conf.eth0.use_tempaddr=2']);
  host.ip('-6', 'route', 'del', 'default');
  const [command = '', ...words] = [
    ...nsenter(router),
    ...['dnsmasq', '--no-daemon', '--port=0', '--conf-file=/dev/null', '--enable-ra', '--interface=lan'],
    ...['--bind-interfaces', `--pid-file=${folder}/pid`, `--dhcp-leasefile=${folder}/leases`],
    ...['--dhcp-range=2001:db8:9::,ra-only,64,3600', '--ra-param=lan,10,1200'],
  ];
  const child = spawn(command, words, { stdio: 'ignore' });
  child.unref();
  t.after(() => void child.kill('SIGKILL'));
  await soon(() => addresses(host.name, 'eth0').some(({ temporary }) => temporary === true), patience);
  await soon(() => defaults(host.name, 'eth0').length > 0, patience);
  dump({ host, router });
}

function addresses(where: string, link: string): Address[] {
  const [found] = JSON.parse(runIn(where, 'ip', ['-j', '-6', 'addr', 'show', 'dev', link]).stdout) as {
    addr_info?: Address[];
  }[];
  return found?.addr_info ?? [];
}

function routes(where: string, link: string): Route[] {
  return JSON.parse(runIn(where, 'ip', ['-j', '-6', 'route', 'show', 'dev', link]).stdout || '[]') as Route[];
}

function defaults(where: string, link: string): Route[] {
  return routes(where, link).filter(({ dst }) => dst === 'default');
}

const locals = (found: readonly Address[]): string[] => found.map(({ local }) => local);

for (const [kind, network] of Object.entries({ bridge: 'bridge:br0', ovs: 'ovs:ovs0' })) {
  test(`${kind}: IPv6 addresses and a router's advertisements`, async (t) => {
    const needs = [
      'root',
      'program:dnsmasq',
      'program:ethtool',
      ...(kind === 'ovs' ? (['ovs'] as const) : []),
    ] as const;
    if (skipUnless(t, ...needs)) return;
    const place = await uplinkGround(t, `u6${kind}`);
    const { host, router } = place;
    if (kind === 'ovs') await startOvs(t, host);
    await advertise(t, place);
    const bridge = network.split(':')[1] ?? '';
    const before = addresses(host.name, 'eth0');
    assert.deepEqual(
      [
        before.some(({ local, dynamic }) => local === at.host6 && !dynamic),
        before.some(({ local, mngtmpaddr }) => local.startsWith('2001:db8:9:') && mngtmpaddr === true),
        before.some(({ temporary }) => temporary === true),
        before.some(({ scope }) => scope === 'link'),
      ],
      [true, true, true, true],
    );
    const [learned] = defaults(host.name, 'eth0');
    const temporary = before.find((address) => address.temporary)?.local ?? '';
    const pings = await startPing(place, temporary);
    const transfer = await startTransfer(place, 5600, '2001:db8:9::1');

    host.pipewright(['uplink', 'add', 'eth0', '--network', network, '--confirm', '30s']);
    const moved = addresses(host.name, bridge);
    for (const { local } of before) assert.ok(locals(moved).includes(local), `${local} is on ${bridge}`);
    assert.deepEqual(addresses(host.name, 'eth0'), []);
    assert.deepEqual(routes(host.name, 'eth0'), []);
    host.pipewright(['confirm']);
    // The kernel's own route is there again, and nothing that stood in for it.
    await soon(() => defaults(host.name, bridge).length === 1, patience);
    assert.deepEqual(defaults(host.name, bridge).map(plain), learned && [plain(learned)]);
    for (const { local, scope } of before)
      assert.ok(ping(router, scope === 'link' ? `${local}%lan` : local, 5), `${local} is reached`);
    // New temporary addresses are the kernel's business again.
    await soon(() => addresses(host.name, bridge).some((address) => address.temporary === true), patience);
    assert.ok(addresses(host.name, bridge).some((address) => address.temporary === true));

    host.pipewright(['uplink', 'remove', 'eth0', '--confirm', '0']);
    const back = addresses(host.name, 'eth0');
    for (const { local } of before) assert.ok(locals(back).includes(local), `${local} is on eth0 again`);
    await soon(() => defaults(host.name, 'eth0').length === 1, patience);
    assert.deepEqual(defaults(host.name, 'eth0').map(plain), learned && [plain(learned)]);
    for (const { local, scope } of before)
      assert.ok(ping(router, scope === 'link' ? `${local}%lan` : local, 5), `${local} is reached`);
    const pinged = await pings.stop();
    const transferred = await transfer.stop();
    t.diagnostic(
      `${network}: ping of the temporary address ${JSON.stringify(pinged)}, TCP ${JSON.stringify(transferred)}`,
    );
    assert.equal(transferred.broken, undefined);
  });
}

const plain = ({ dst, gateway, protocol, metric }: Route): object => ({ dst, gateway, protocol, metric });
