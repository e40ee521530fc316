/** An attachment that is to have its addresses by DHCP no more, and the other way round, while its interface stays. */
import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import type { DhcpServer } from '../dhcp/servers.ts';
import { dnsmasq, globals, serverOn } from '../dhcp/v6/ground.ts';
import { type Container, cidrs, ipAddrs, ipLink, run, runContainer, skipUnless } from '../lab.ts';
import { type AgentHost, agentHost, soon } from './agent-ground.ts';
import { bridgeWith, lanOf, leaseOf } from './dhcp-ground.ts';

/** Patience for what takes a second or so. */
const patience = 60_000;

interface Ground {
  readonly host: AgentHost;
  readonly web: Container;
  readonly server: DhcpServer;
}

async function ground(t: TestContext, name: string): Promise<Ground> {
  const host = await agentHost(t, name);
  const web = runContainer(t, name);
  const server = await bridgeWith(t, host, 'kea');
  await server.start({ pool: [50, 59], lease: 600 });
  return { host, web, server };
}

const addressed = (name: string): string => lanOf(name).replace('addresses: dhcp', 'addresses: 10.77.0.9/24');
const released = ({ server }: Ground): number => server.log().split('DHCP4_RELEASE ').length - 1;
const ipv4 = ({ web }: Ground): string[] => cidrs(web.pid, 'eth1').filter((cidr) => !cidr.includes(':'));

test('apply: a lease that is asked for no more goes back and off the interface, and can be had again', async (t) => {
  if (skipUnless(t, 'root', 'docker', 'program:kea-dhcp4')) return;
  const here = await ground(t, 'dhcpca');
  const { host, web } = here;
  const applies = (yaml: string): void => {
    host.write(yaml);
    const { code, stderr } = host.on('apply', '--yes');
    assert.equal(code, 0, stderr);
    assert.equal(host.on('plan').stdout, 'nothing to do\n');
  };
  applies(lanOf(web.name));
  const [leased = ''] = ipv4(here);
  assert.match(leased, /^10\.77\.0\.5\d\/24$/);
  const index = ipLink(web.pid, 'eth1')?.ifindex;
  applies(addressed(web.name));
  assert.deepEqual(ipv4(here), ['10.77.0.9/24']);
  await soon(() => released(here) === 1, patience);
  assert.equal(released(here), 1, here.server.log());
  assert.doesNotMatch(host.on('status').stdout, new RegExp(leased));
  applies(lanOf(web.name));
  const [again = ''] = ipv4(here);
  assert.match(again, /^10\.77\.0\.5\d\/24$/);
  assert.equal(ipv4(here).length, 1);
  // The leased address itself, for good.
  applies(addressed(web.name).replace('10.77.0.9/24', again));
  assert.deepEqual(ipv4(here), [again]);
  const [shown] = ipAddrs(web.pid, 'eth1').filter(({ family }) => family === 'inet');
  assert.equal(shown?.valid_life_time, 2 ** 32 - 1);
  t.diagnostic(`the interface is ${ipLink(web.pid, 'eth1')?.ifindex === index ? 'the same' : 'another'} one`);
});

test('the agent does the same, of both families', async (t) => {
  if (skipUnless(t, 'root', 'docker', 'program:kea-dhcp4', 'program:dnsmasq')) return;
  const here = await ground(t, 'dhcpcg');
  const { host, web } = here;
  const lab = await serverOn(t, 'cg', { where: host.name, wire: 'lan6' });
  host.ip('link', 'set', 'lan6', 'master', 'br1', 'up');
  await dnsmasq(lab, 'fd77::50,fd77::99,64,2m');
  const leased6 = (): string[] => globals(web.pid).map(({ local }) => local);
  const both = lanOf(web.name).replace('addresses: dhcp', 'addresses: dhcp, ipv6: dhcp');
  host.write(both);
  let agent = await host.agent(t);
  const isBound = (): boolean => ipv4(here).length === 1 && leased6().length === 1;
  await soon(isBound, patience);
  assert.ok(isBound(), agent.log());
  host.write(addressed(web.name));
  const isPlain = (): boolean => `${ipv4(here)}` === '10.77.0.9/24' && leased6().length === 0;
  await soon(isPlain, patience);
  assert.deepEqual([ipv4(here), leased6()], [['10.77.0.9/24'], []], agent.log());
  await soon(() => released(here) === 1, patience);
  assert.equal(released(here), 1, here.server.log());
  await soon(() => leaseOf(host, `${web.name}/eth1`).lease === undefined, patience);
  assert.equal(leaseOf(host, `${web.name}/eth1`).lease, undefined);
  // Changed while no agent runs.
  host.write(both);
  await soon(isBound, patience);
  assert.ok(isBound(), agent.log());
  await agent.stop('SIGKILL');
  host.write(addressed(web.name));
  agent = await host.agent(t);
  await soon(isPlain, patience);
  assert.deepEqual([ipv4(here), leased6()], [['10.77.0.9/24'], []], agent.log());
  await soon(() => released(here) === 2, patience);
  assert.equal(released(here), 2, here.server.log());
  run('docker', ['restart', '-t', '0', web.name]);
  await soon(() => leaseOf(host, `${web.name}/eth1`).state === 'healthy', patience);
});

test('a command that says nothing of addresses leaves a lease; status shows it without any topology file', async (t) => {
  if (skipUnless(t, 'root', 'docker', 'program:kea-dhcp4')) return;
  const here = await ground(t, 'dhcpcc');
  const { host, web } = here;
  const attach = ['attach', web.name, '--network', 'bridge:br1'];
  host.pipewright([...attach, '--dhcp']);
  const leased = ipv4(here);
  assert.match(leased.join(), /^10\.77\.0\.5\d\/24$/);
  const shown = host.pipewright(['status']).stdout;
  assert.match(shown, /10\.77\.0\.5\d\/24 from 10\.77\.0\.1, .* left, T1 in .*, nobody renews it/);
  host.pipewright([...attach, '--mtu', '1400']);
  assert.equal(ipLink(web.pid, 'eth1')?.mtu, 1400);
  assert.deepEqual(ipv4(here), leased);
  assert.equal(released(here), 0);
  // Another address is another matter.
  host.pipewright([...attach, '--address', '10.77.0.9/24']);
  assert.deepEqual(ipv4(here), ['10.77.0.9/24']);
  await soon(() => released(here) === 1, patience);
  assert.equal(released(here), 1);
});

test('dns: container, said later and taken back: the lease stays, and the file follows', async (t) => {
  if (skipUnless(t, 'root', 'docker', 'program:kea-dhcp4')) return;
  const here = await ground(t, 'dhcpcn');
  const { host, web } = here;
  const resolvConf = (): string => run('docker', ['exec', web.name, 'cat', '/etc/resolv.conf']).stdout;
  const former = resolvConf();
  const isServed = (): boolean => /^nameserver 10\.77\.0\.53$/m.test(resolvConf());
  const plain = lanOf(web.name);
  const named = plain.replace('addresses: dhcp', 'addresses: dhcp, dns: container');
  const applies = (yaml: string): void => {
    host.write(yaml);
    const { code, stderr } = host.on('apply', '--yes');
    assert.equal(code, 0, stderr);
    assert.equal(host.on('plan').stdout, 'nothing to do\n');
  };
  applies(plain);
  const leased = ipv4(here);
  assert.equal(resolvConf(), former);
  applies(named);
  assert.ok(isServed(), resolvConf());
  applies(plain);
  assert.equal(resolvConf(), former);
  // The same with an agent.
  const agent = await host.agent(t);
  host.write(named);
  await soon(isServed, patience);
  assert.ok(isServed(), agent.log());
  host.write(plain);
  await soon(() => resolvConf() === former, patience);
  assert.equal(resolvConf(), former, agent.log());
  assert.deepEqual([ipv4(here), released(here)], [leased, 0]);
});
