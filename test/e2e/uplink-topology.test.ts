// `uplink: NIC` of a network: made by apply and by the agent, taken back with the network, and after a failure.
import assert from 'node:assert/strict';
import { rmSync } from 'node:fs';
import path from 'node:path';
import test from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { ensureImage, ping, root, runIn, skipUnless } from '../lab.ts';
import { soon, startOvs } from './agent-ground.ts';
import { startDocker } from './own-docker.ts';
import {
  at,
  difference,
  dump,
  patience,
  startTransfer,
  type UplinkGround,
  uplinkGround,
} from './uplink-ground.ts';

const yaml = (network: string): string => `version: 1\nnetworks:\n  lan: ${network}\n`;

function isMoved({ host }: UplinkGround, bridge: string): boolean {
  return host.ip('-br', 'addr', 'show', 'dev', bridge).stdout.includes(at.host);
}

test('apply makes a network with an uplink, and takes it back when the file says it no more', async (t) => {
  if (skipUnless(t, 'root', 'program:ethtool')) return;
  const ground = await uplinkGround(t, 'ut');
  const { host, router } = ground;
  const before = dump(ground);
  const transfer = await startTransfer(ground, 5700);
  host.write(yaml('{ kind: bridge, bridge: br0, uplink: eth0, hostAddress: [10.9.0.5/24, 10.9.0.7/24] }'));
  assert.equal(host.on('plan').code, 2);
  assert.deepEqual(difference(before, dump(ground)), []);
  const applied = host.on('apply', '--yes');
  assert.equal(applied.code, 0, applied.stderr);
  assert.match(applied.stdout, /\+ network lan uplink eth0\n/);
  assert.ok(isMoved(ground, 'br0'));
  assert.equal(host.on('plan').stdout, 'nothing to do\n');
  assert.ok(ping(router, '10.9.0.7', 5));
  // Without the uplink the bridge keeps what is its own.
  host.write(yaml('{ kind: bridge, bridge: br0, hostAddress: 10.77.0.1/24 }'));
  assert.match(host.on('apply', '--yes').stdout, /- network lan uplink eth0\n/);
  assert.ok(isMoved(ground, 'eth0'));
  assert.match(host.ip('-br', 'addr', 'show', 'br0').stdout, /10\.77\.0\.1/);
  host.pipewright(['destroy']);
  assert.equal((await transfer.stop()).broken, undefined);
  assert.deepEqual(difference(before, dump(ground)), []);
});

test('apply --rollback takes the move back when what is expected is not reached', async (t) => {
  if (skipUnless(t, 'root', 'program:ethtool', 'docker')) return;
  const ground = await uplinkGround(t, 'ux');
  const { host } = ground;
  const before = dump(ground);
  host.write(
    `${yaml('{ kind: bridge, bridge: br0, uplink: eth0 }')}attachments:\n  - { container: nobody, network: lan }\nexpect:\n  - nobody -> 10.9.0.254\n`,
  );
  const applied = host.on('apply', '--yes', '--rollback');
  assert.equal(applied.code, 1);
  assert.match(applied.stdout, /taken back: everything is as it was before/);
  assert.deepEqual(difference(before, dump(ground)), []);
});

test('the agent makes it and keeps it', async (t) => {
  if (skipUnless(t, 'root', 'ovs', 'program:ethtool', 'docker')) return;
  const ground = await uplinkGround(t, 'ua');
  const { host, router } = ground;
  await startOvs(t, host);
  host.write(yaml('{ kind: ovs, bridge: ovs0, uplink: eth0 }'));
  const agent = await host.agent(t);
  assert.ok(isMoved(ground, 'ovs0'));
  assert.ok(ping(router, at.host, 5));
  // Somebody takes it off: it is put on again.
  host.run('ovs-vsctl', ['del-port', 'eth0']);
  await soon(() => host.run('ovs-vsctl', ['list-ports', 'ovs0']).stdout.includes('eth0'), patience);
  assert.ok(host.run('ovs-vsctl', ['list-ports', 'ovs0']).stdout.includes('eth0'));
  assert.ok(ping(router, at.host, 5));
  await agent.stop('SIGTERM');
  assert.ok(isMoved(ground, 'ovs0'));
  host.pipewright(['destroy']);
  assert.ok(isMoved(ground, 'eth0'));
  await sleep(100);
  runIn(router, 'ip', ['neigh', 'flush', 'dev', 'lan']);
  assert.ok(ping(router, at.host, 5));
});

test('after a boot Open vSwitch has kept the port, and the NIC has its addresses: they move again', async (t) => {
  if (skipUnless(t, 'root', 'ovs', 'program:ethtool')) return;
  const ground = await uplinkGround(t, 'ub');
  const { host, router } = ground;
  await startOvs(t, host);
  host.write(yaml('{ kind: ovs, bridge: ovs0, uplink: eth0 }'));
  assert.equal(host.on('apply', '--yes').code, 0);
  // A boot: the notes of this run of the machine are gone, and its configuration sets up the NIC.
  rmSync(`${host.stateDir}/uplinks`, { recursive: true });
  for (const words of [
    'addr flush dev ovs0',
    'link set ovs0 down',
    `addr add ${at.host}/24 dev eth0`,
    `route add default via ${at.router} dev eth0 metric 50`,
  ])
    host.ip(...words.split(' '));
  assert.equal(host.on('plan').code, 2);
  const applied = host.on('apply', '--yes');
  assert.equal(applied.code, 0, applied.stdout + applied.stderr);
  assert.ok(isMoved(ground, 'ovs0') && !isMoved(ground, 'eth0'));
  assert.equal(host.on('plan').stdout, 'nothing to do\n');
  assert.ok(ping(router, at.host, 5));
  // Somebody's DHCP client that was not told of the bridge: no quarrel about it.
  host.ip('addr', 'add', '10.9.0.66/24', 'dev', 'eth0');
  assert.equal(host.on('plan').stdout, 'nothing to do\n');
  host.ip('addr', 'del', '10.9.0.66/24', 'dev', 'eth0');
  host.write('version: 1\n');
  assert.equal(host.on('apply', '--yes').code, 0);
  assert.ok(isMoved(ground, 'eth0'));
  assert.ok(ping(router, at.host, 5));
});

test('at boot the agent comes before what configures the NIC: the addresses move when they are there', async (t) => {
  if (skipUnless(t, 'root', 'program:ethtool', 'docker')) return;
  const ground = await uplinkGround(t, 'uc');
  const { host, router } = ground;
  host.ip('addr', 'flush', 'dev', 'eth0');
  host.write(yaml('{ kind: bridge, bridge: br0, uplink: eth0 }'));
  await host.agent(t);
  assert.match(host.ip('-br', 'link', 'show', 'master', 'br0').stdout, /eth0/);
  for (const words of [`addr add ${at.host}/24 dev eth0`, `route add default via ${at.router} dev eth0`])
    host.ip(...words.split(' '));
  const isThere = (): boolean => isMoved(ground, 'br0') && !isMoved(ground, 'eth0');
  assert.ok((await soon(isThere, patience)) !== undefined, host.ip('addr').stdout);
  const routes = (): string => host.ip('route', 'show', 'default').stdout;
  assert.ok((await soon(() => routes().includes('dev br0'), patience)) !== undefined, routes());
  assert.ok(ping(router, at.host, 5));
});

test('examples/uplink: a container on the LAN of its host', async (t) => {
  if (skipUnless(t, 'root', 'docker', 'program:ethtool', 'program:iptables')) return;
  const ground = await uplinkGround(t, 'ue');
  const { host, router } = ground;
  runIn(router, 'ip', ['addr', 'add', '10.10.101.254/24', 'dev', 'lan']);
  host.ip('addr', 'add', '10.10.101.105/24', 'dev', 'eth0');
  const engine = await startDocker(t, host);
  engine.docker(['run', '-d', '--name', 'test1', '--network', 'none', ensureImage()]);
  const before = dump(ground);
  const transfer = await startTransfer(ground, 5900, '10.10.101.254');
  host.use(path.join(root, 'examples/uplink/pipewright.yaml'));
  const applied = host.on('apply', '--yes');
  assert.equal(applied.code, 0, applied.stdout + applied.stderr);
  assert.match(host.ip('-br', 'addr', 'show', 'br0').stdout, /10\.10\.101\.105/);
  assert.ok(ping(router, '10.10.101.150', 5) && ping(router, '10.10.101.105', 5));
  assert.equal(host.on('plan').stdout, 'nothing to do\n');
  host.pipewright(['destroy']);
  assert.equal((await transfer.stop()).broken, undefined);
  assert.deepEqual(difference(before, dump(ground)), []);
});
