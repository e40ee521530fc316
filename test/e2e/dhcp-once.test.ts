/** Leases without an agent: got once, or renewed by a process that stays. */
import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { type DhcpServer, dhcpServer } from '../dhcp/servers.ts';
import { cidrs, containerPid, ipAddrs, ipRoutes, run, runContainer, skipUnless } from '../lab.ts';
import { type AgentHost, agentHost, soon } from './agent-ground.ts';

async function ground(t: TestContext, name: string): Promise<{ host: AgentHost; server: DhcpServer }> {
  const host = await agentHost(t, name);
  host.ip('link', 'add', 'br1', 'type', 'bridge');
  host.ip('link', 'set', 'br1', 'up');
  const server = await dhcpServer(t, 'kea', { where: host.name, wire: 'lan0', suffix: name });
  host.ip('link', 'set', 'lan0', 'master', 'br1');
  return { host, server };
}

/** Patience for what takes seconds. */
const patience = 60_000;

const acks = (server: DhcpServer): number => server.log().split('DHCP4_LEASE_ALLOC').length - 1;

/** Processes that renew a lease of this container. */
function staying(ifname: string, id: string): string[] {
  return run('ps', ['-eo', 'args'])
    .stdout.split('\n')
    .filter((words) => words.includes('--keep-lease') && words.includes(id) && words.endsWith(` ${ifname}`));
}

/** Seconds that the IPv4 address of an interface is valid. */
const leftOf = (pid: number): number =>
  Number(ipAddrs(pid, 'eth1').find(({ family }) => family === 'inet')?.valid_life_time ?? 0);

test('pipework ... dhcp: a lease with its lifetime, and what it takes to keep it; detach gives it back', async (t) => {
  if (skipUnless(t, 'root', 'docker', 'program:kea-dhcp4')) return;
  const { host, server } = await ground(t, 'dhcpo');
  const web = runContainer(t, 'dhcpo');
  await server.start({ pool: [50, 59], lease: 100 });
  const { stdout, stderr } = host.pipework(['br1', web.name, 'dhcp:-r 10.77.0.55']);
  assert.equal(stdout, '');
  assert.match(
    stderr,
    /^note: eth1 has 10\.77\.0\.55\/24 until .*; renewal needs the agent \(pipewright agent\), or --stay\n$/,
  );
  assert.deepEqual(cidrs(web.pid, 'eth1'), ['10.77.0.55/24']);
  assert.ok(leftOf(web.pid) > 50 && leftOf(web.pid) <= 100);
  assert.deepEqual(
    ipRoutes(web.pid).map(({ dst, gateway }) => `${dst} ${gateway ?? ''}`),
    ['default 10.77.0.1', '10.77.0.0/24 '],
  );
  assert.deepEqual(staying('eth1', web.id.slice(0, 12)), []);
  // After a restart it asks for the same address again.
  run('docker', ['restart', '-t', '0', web.name]);
  host.pipework(['br1', web.name, 'dhcp']);
  assert.deepEqual(cidrs(containerPid(web.name), 'eth1'), ['10.77.0.55/24']);
  host.pipewright(['detach', web.name]);
  await soon(() => server.log().includes('DHCP4_RELEASE'));
  assert.match(server.log(), /DHCP4_RELEASE .*10\.77\.0\.55/);
  assert.deepEqual(host.notes(), []);
});

test('no server: the interface goes again, and why is said', async (t) => {
  if (skipUnless(t, 'root', 'docker', 'program:kea-dhcp4')) return;
  const { host } = await ground(t, 'dhcpn');
  const web = runContainer(t, 'dhcpn');
  const { stderr } = host.pipework(['br1', web.name, 'dhcp'], { expect: 1 });
  assert.match(stderr, /^pipework: dhcp eth1 in \S+: no DHCP server answers; is there a DHCP server/);
  assert.deepEqual(cidrs(web.pid, 'eth1'), []);
  assert.deepEqual(host.notes(), []);
  for (const [words, why] of [
    [['br1', web.name, 'dhcp:-s /bin/true'], /other options need udhcpc:OPTIONS/],
    [['br1', web.name, 'dhcp:-r 10.0.0.300'], /is not an IPv4 address/],
    [['--stay', 'br1', web.name, '10.0.0.2/24'], /--stay goes with dhcp/],
  ] as const)
    assert.match(host.pipework(words, { expect: 1 }).stderr, why);
});

test('--stay: one process renews the lease, until the agent does, or the interface goes', async (t) => {
  if (skipUnless(t, 'root', 'docker', 'program:kea-dhcp4')) return;
  const { host, server } = await ground(t, 'dhcps');
  const web = runContainer(t, 'dhcps');
  const id = web.id.slice(0, 12);
  await server.start({ pool: [50, 59], lease: 40, t1: 2, t2: 20 });
  assert.equal(host.pipework(['--stay', 'br1', web.name, 'dhcp']).stderr, '');
  const before = acks(server);
  await soon(() => acks(server) > before + 1, patience);
  assert.ok(acks(server) > before + 1, 'it is renewed');
  assert.equal(staying('eth1', id).length, 1);
  const held = cidrs(web.pid, 'eth1');
  // The agent takes over what a command has made, and its lease.
  const agent = await host.agent(t);
  await soon(() => staying('eth1', id).length === 0);
  assert.deepEqual(staying('eth1', id), []);
  const now = acks(server);
  await soon(() => acks(server) > now);
  assert.ok(acks(server) > now, agent.log());
  assert.deepEqual(cidrs(web.pid, 'eth1'), held);
  await agent.stop('SIGTERM');
  host.pipewright(['detach', web.name]);
  host.pipework(['--stay', 'br1', web.name, 'dhcp']);
  await soon(() => staying('eth1', id).length === 1);
  host.pipewright(['detach', web.name]);
  await soon(() => staying('eth1', id).length === 0);
  host.pipework(['--stay', 'br1', web.name, 'dhcp']);
  await soon(() => staying('eth1', id).length === 1);
  run('docker', ['kill', web.name]);
  await soon(() => staying('eth1', id).length === 0);
  assert.deepEqual(staying('eth1', id), []);
});

test('apply without an agent gets a lease once, and another when that one is over', async (t) => {
  if (skipUnless(t, 'root', 'docker', 'program:kea-dhcp4')) return;
  const { host, server } = await ground(t, 'dhcpy');
  const web = runContainer(t, 'dhcpy');
  await server.start({ pool: [50, 59], lease: 10 });
  host.write(`networks: {lan: {kind: bridge, bridge: br1}}
attachments:
  - container: ${web.name}
    network: lan
    addresses: dhcp
    dhcp: {hostname: db, vendorClass: pipewright, userClass: [a, b], clientId: db-1, options: {43: "01:02"}}
`);
  const made = host.on('apply', '--yes');
  assert.equal(made.code, 0, made.stderr);
  assert.match(made.stdout, /note: eth1 has 10\.77\.0\.5\d\/24 until .*; renewal needs the agent/);
  assert.equal(host.on('apply', '--yes').stdout, 'nothing to do\n');
  await soon(() => cidrs(web.pid, 'eth1').length === 0, patience);
  assert.deepEqual(cidrs(web.pid, 'eth1'), []);
  assert.match(host.on('apply', '--yes').stdout, /DHCP on eth1 {3}# it has no lease/);
  assert.equal(cidrs(web.pid, 'eth1').length, 1);
  assert.match(server.log(), /cid=\[00:64:62:2d:31\]/);
});
