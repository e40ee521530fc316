/** Leases that the agent keeps, from servers that are other people's programs. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { type DhcpServer, dhcpServer } from '../dhcp/servers.ts';
import { cidrs, containerPid, ipRoutes, run, runContainer, skipUnless } from '../lab.ts';
import { agentHost, soon, startOvs } from './agent-ground.ts';
import { bridgeWith, leaseOf } from './dhcp-ground.ts';
import { nicOn } from './support.ts';

/** How often a server has given or renewed a lease. */
const acks = (server: DhcpServer): number =>
  server.log().split(/DHCPACK\(|DHCPACK on|DHCP4_LEASE_ALLOC/).length - 1;

/** Milliseconds between Docker's last start event of a container and the agent's word that the lease is in place. */
function startToLease(container: string, log: string): number {
  const filter = [
    '--since',
    '1m',
    '--until',
    '0s',
    '--filter',
    `container=${container}`,
    '--filter',
    'event=start',
  ];
  const starts = run('docker', ['events', ...filter, '--format', '{{.TimeNano}}'])
    .stdout.trim()
    .split('\n');
  const leases = log
    .split('\n')
    .filter((line) => line.includes('"what":"lease"'))
    .map((line) => Date.parse((JSON.parse(line) as { time: string }).time));
  return Math.round((leases.at(-1) ?? 0) - Number(starts.at(-1)) / 1e6);
}

test('on a bridge, on macvlan and on a VLAN of Open vSwitch, each from another server, and renewed', async (t) => {
  const needs = ['program:dnsmasq', 'program:kea-dhcp4', 'program:dhcpd', 'program:ovs-vsctl'] as const;
  if (skipUnless(t, 'root', 'docker', ...needs)) return;
  const host = await agentHost(t, 'dhcp3');
  await startOvs(t, host);
  const web = runContainer(t, 'dhcp3');
  const onBridge = await bridgeWith(t, host, 'dnsmasq');
  const wire = nicOn(host, 'nic0');
  host.ip('link', 'add', 'sw0', 'type', 'bridge');
  const onNic = await dhcpServer(t, 'kea', { where: host.name, wire: 'lan1', host: 2, suffix: 'e' });
  for (const name of [wire, 'lan1']) host.ip('link', 'set', name, 'master', 'sw0', 'up');
  host.ip('link', 'set', 'sw0', 'up');
  host.run('ovs-vsctl', ['add-br', 'ovs0', '--', 'set', 'bridge', 'ovs0', 'datapath_type=netdev']);
  const onVlan = await dhcpServer(t, 'dhcpd', { where: host.name, wire: 'lan2', host: 3, suffix: 'e' });
  host.run('ovs-vsctl', ['add-port', 'ovs0', 'lan2', 'tag=100']);
  await onBridge.start({ network: '10.77.0', pool: [50, 99], lease: 300, t2: 4 });
  await onNic.start({ network: '10.78.0', pool: [50, 99], lease: 30, t1: 3, t2: 20 });
  await onVlan.start({ network: '10.79.0', pool: [50, 99], lease: 30, t1: 3, t2: 20 });
  host.write(`networks:
  lan: {kind: bridge, bridge: br1}
  nic: {kind: macvlan, uplink: nic0}
  vlan: {kind: ovs, bridge: ovs0, vlan: 100}
attachments:
  - {container: ${web.name}, network: lan, addresses: dhcp}
  - {container: ${web.name}, network: nic, ifname: eth2, addresses: dhcp, gateway: none}
  - {container: ${web.name}, network: vlan, ifname: eth3, addresses: dhcp, dhcp: {requestAddress: 10.79.0.77}}
`);
  const agent = await host.agent(t);
  const addresses = (): (string | undefined)[] =>
    ['eth1', 'eth2', 'eth3'].map((name) => cidrs(web.pid, name)[0]);
  await soon(() => addresses().every((one) => one !== undefined), 10_000);
  const first = addresses();
  assert.match(first.join(' '), /^10\.77\.0\.\d+\/24 10\.78\.0\.\d+\/24 10\.79\.0\.77\/24$/, agent.log());
  // The first default route stays, and the others are not asked for or give way.
  assert.deepEqual(
    ipRoutes(web.pid)
      .filter(({ dst }) => dst === 'default')
      .map(({ gateway }) => gateway),
    ['10.77.0.1'],
  );
  const servers = [onBridge, onNic, onVlan];
  // PWT_DHCP_SECONDS: how long they are watched, by hand.
  const seconds = Number(process.env.PWT_DHCP_SECONDS ?? 0);
  await soon(() => servers.every((server) => acks(server) >= 3), 15_000);
  for (let left = seconds; left > 0; left -= 1) {
    await sleep(1000);
    assert.deepEqual(addresses(), first);
  }
  assert.deepEqual(
    servers.map((server) => acks(server) >= 3),
    [true, true, true],
  );
  assert.deepEqual(addresses(), first);
  t.diagnostic(host.pipewright(['status']).stdout);
  assert.deepEqual(
    host.status().map(({ state }) => state),
    ['healthy', 'healthy', 'healthy'],
  );
  assert.deepEqual(leaseOf(host, `${web.name}/eth2`).lease?.lease?.server, '10.78.0.2');
  // What somebody takes away is put back.
  run('nsenter', [`--net=/proc/${web.pid}/ns/net`, 'ip', 'addr', 'flush', 'dev', 'eth2']);
  await soon(() => addresses()[1] === first[1]);
  assert.deepEqual(addresses(), first);
});

test('docker restart: the same address with another MAC address, by one REQUEST; then detach gives it back', async (t) => {
  if (skipUnless(t, 'root', 'docker', 'program:dnsmasq')) return;
  const host = await agentHost(t, 'dhcpr');
  const web = runContainer(t, 'dhcpr');
  const server = await bridgeWith(t, host, 'dnsmasq');
  await server.start({ pool: [50, 99], lease: 600 });
  const agent = await host.agent(t);
  assert.equal(host.pipework(['br1', web.name, 'dhcp']).stderr, '');
  const [first] = cidrs(web.pid, 'eth1');
  assert.match(first ?? '', /^10\.77\.0\./);
  await soon(() => leaseOf(host, `${web.name}/eth1`).state === 'healthy');
  for (let round = 0; round < 3; round++) {
    const before = server.log().length;
    run('docker', ['restart', '-t', '0', web.name]);
    const pid = containerPid(web.name);
    await soon(() => cidrs(pid, 'eth1').length > 0);
    await soon(() => agent.log().split('"what":"lease"').length > round + 2);
    // Docker tells of whole seconds that are over.
    await sleep(1100);
    t.diagnostic(`usable ${startToLease(web.name, agent.log())} ms after the start event`);
    assert.deepEqual(cidrs(pid, 'eth1'), [first], agent.log());
    const asked = server.log().slice(before);
    assert.doesNotMatch(asked, /DHCPDISCOVER/);
    assert.match(asked, /DHCPREQUEST[\s\S]*DHCPACK/);
  }
  host.pipewright(['detach', web.name]);
  await soon(() => server.log().includes('DHCPRELEASE'));
  assert.match(server.log(), /DHCPRELEASE\(s0\) 10\.77\.0\./);
  assert.deepEqual(host.status(), []);
});
