/** DHCPv6 on every kind of network, and an agent that is killed in every state of its client. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type MessageType, statusCodes } from '../../src/dhcp/v6/message.ts';
import { answer6, type FakeServer6, fakeServer6, iaFor } from '../dhcp/v6/fake-server.ts';
import { dnsmasq, globals, kea, messagesIn, serverOn, until } from '../dhcp/v6/ground.ts';
import { containerPid, run, runContainer, runIn, skipUnless, sniff } from '../lab.ts';
import { agentHost, startOvs } from './agent-ground.ts';
import { leaseOf, neighbour, restartable } from './dhcp-ground.ts';
import { nicOn } from './support.ts';

/** Addresses of leases, past duplicate address detection. */
const leased = (name: string, link: string): string[] =>
  globals(containerPid(name), link)
    .filter(({ tentative, prefixlen }) => !tentative && prefixlen === 128)
    .map(({ local }) => local);

test('on macvlan and on a VLAN of Open vSwitch: the same addresses after each restart', async (t) => {
  if (
    skipUnless(
      t,
      'root',
      'docker',
      'program:dnsmasq',
      'program:kea-dhcp6',
      'program:ovs-vsctl',
      'program:ethtool',
    )
  )
    return;
  const host = await agentHost(t, 'v6n');
  await startOvs(t, host);
  const web = runContainer(t, 'v6n');
  const wire = nicOn(host, 'nic0');
  host.ip('link', 'add', 'sw0', 'type', 'bridge');
  const onNic = await serverOn(t, 'n', { where: host.name, wire: 'lan1' });
  for (const name of [wire, 'lan1']) host.ip('link', 'set', name, 'master', 'sw0', 'up');
  host.ip('link', 'set', 'sw0', 'up');
  host.run('ovs-vsctl', ['add-br', 'ovs0', '--', 'set', 'bridge', 'ovs0', 'datapath_type=netdev']);
  const onVlan = await serverOn(t, 'o', { where: host.name, wire: 'lan2' });
  host.ip('link', 'set', 'lan2', 'up');
  // What a server's own NIC would do: its kernel leaves checksums to the device, and this datapath does not see to them.
  runIn(onVlan.server, 'ethtool', ['-K', 's0', 'tx', 'off']);
  host.run('ovs-vsctl', ['add-port', 'ovs0', 'lan2', 'tag=100']);
  await dnsmasq(onNic, 'fd77::80,fd77::99,64,2m', [
    ...['--dhcp-vendorclass=set:vc,enterprise:9,pipewright', '--dhcp-userclass=set:uc,gold'],
    '--dhcp-option=tag:vc,tag:uc,option6:domain-search,classes.test',
  ]);
  await kea(onVlan, {
    'renew-timer': 20,
    'rebind-timer': 40,
    'preferred-lifetime': 60,
    'valid-lifetime': 90,
  });
  host.write(`networks:
  nic: {kind: macvlan, uplink: nic0}
  vlan: {kind: ovs, bridge: ovs0, vlan: 100}
attachments:
  - container: ${web.name}
    network: nic
    ipv6: auto
    dhcp: {vendorClass: pipewright, enterprise: 9, userClass: gold}
  - container: ${web.name}
    network: vlan
    ifname: eth2
    ipv6: dhcp
    dhcp: {vendorClass: pipewright, enterprise: 9, userClass: [gold, b]}
`);
  const both = (): string[] => ['eth1', 'eth2'].flatMap((link) => leased(web.name, link));
  const agent = await host.agent(t);
  await until('both leases', () => both().length === 2, 30);
  const first = both();
  assert.match(first.join(' '), /^fd77::[89][0-9a-f] fd77::5[0-9a-f]$/);
  // By the servers' word, dnsmasq's and Kea's: they know who asks by what was said over DHCPv6.
  for (const link of ['eth1', 'eth2']) {
    const { lease } = leaseOf(host, `${web.name}/${link}`).lease ?? {};
    assert.deepEqual((lease as unknown as { search: string[] }).search, ['classes.test'], link);
  }
  for (let round = 0; round < 2; round++) {
    const asked = await sniff(onNic.server, 's0', 'udp port 547', async () => {
      run('docker', ['restart', '-t', '0', web.name]);
      await until('both again', () => both().length === 2, 30);
    });
    // The interface of the life before may still be there, and answer for the address.
    assert.deepEqual(both(), first, `${agent.log()}${messagesIn(asked)}`);
    assert.ok(!messagesIn(asked).includes('decline'), `${messagesIn(asked)}`);
  }
});

/** One that is renewed, or not, soon, and one that is left alone. Seconds. */
const restless = { t1: 2, t2: 12, preferred: 250, valid: 300 };
const long = { t1: 300, t2: 500, preferred: 600, valid: 900 };

/** Answers these kinds of questions, with one address. */
function gives(fake: FakeServer6, ip: string, kinds: readonly MessageType[], times = long): void {
  const { t1, t2, preferred, valid } = times;
  fake.behave((question) => {
    if (!kinds.includes(question.type)) return undefined;
    const ia = iaFor(question, { ip, preferred, valid }, { t1, t2 });
    if (question.type === 'solicit') return answer6(question, 'advertise', ia);
    const isPlain = question.type === 'confirm' || question.type === 'decline' || question.type === 'release';
    return answer6(question, 'reply', isPlain ? { status: { code: statusCodes.success, message: '' } } : ia);
  });
}

test('killed in every state of DHCPv6: no lease is lost, and there are never two addresses', async (t) => {
  if (skipUnless(t, 'root', 'docker')) return;
  const host = await agentHost(t, 'v6k');
  const web = runContainer(t, 'v6k');
  host.ip('link', 'add', 'br1', 'type', 'bridge');
  host.ip('link', 'set', 'br1', 'up');
  const fake = fakeServer6(t, await neighbour(t, host, 'fake', 'fd77::1/64'));
  const holder = await neighbour(t, host, 'holder', 'fd77::60/64');
  await until('it has its address', () => globals(holder).every(({ tentative }) => !tentative));
  const topology = (ipv6: string): string =>
    `networks:\n  lan: {kind: bridge, bridge: br1}\nattachments:\n  - {container: ${web.name}, network: lan, addresses: fd77::9/64${ipv6}}\n`;
  host.write(topology(', ipv6: dhcp'));
  const state = (): string | undefined => leaseOf(host, `${web.name}/eth1`).lease?.state;
  /** Those of leases; the other one is there so that there is IPv6 without a lease. */
  const shown = () => globals(containerPid(web.name)).filter(({ prefixlen }) => prefixlen === 128);
  const addresses = (): string[] => shown().map(({ local }) => local);
  const isSettled = (): boolean => shown().every(({ tentative }) => !tentative);
  const agent = restartable(t, host);
  const patience = 60;
  const comesTo = (phase: string): Promise<void> =>
    until(`${phase}: ${agent.log()}`, () => state() === phase, patience);
  /** Waits for a state, kills the agent in it, looks, and starts it again. */
  const killedIn = async (
    phase: string,
    held: readonly string[],
    between = (): void => {},
  ): Promise<void> => {
    await comesTo(phase);
    await agent.kill();
    assert.deepEqual(addresses(), held, phase);
    between();
    await agent.start();
    assert.deepEqual(addresses(), held, `${phase}, started again`);
  };
  await agent.start();
  await killedIn('SOLICITING', []);
  gives(fake, 'fd77::60', ['solicit']);
  await killedIn('REQUESTING', []);
  // Another host has what the server gives: the Decline is not answered, and then it is.
  gives(fake, 'fd77::60', ['solicit', 'request']);
  let before = 0;
  await killedIn('DECLINING', [], () => {
    before = fake.asked.length;
    gives(fake, 'fd77::60', ['solicit', 'request', 'decline']);
  });
  await comesTo('PAUSING');
  assert.equal(fake.asked[before], 'solicit', `what was declined is not remembered: ${fake.asked}`);
  gives(fake, 'fd77::61', ['solicit', 'request'], restless);
  await killedIn('PAUSING', []);
  // Duplicate address detection takes a second, in which this machine may be fast enough to kill it.
  const held = ['fd77::61'];
  await until('it has an address', () => addresses().length > 0, patience);
  await agent.kill();
  t.diagnostic(`killed when its address was ${isSettled() ? 'in use' : 'tentative'}`);
  assert.deepEqual(addresses(), held);
  await agent.start();
  await until('it is in use', isSettled, patience);
  await killedIn('RENEWING', held);
  // Whoever comes after it asks at once.
  await killedIn('REBINDING', held, () => gives(fake, 'fd77::61', ['rebind']));
  await killedIn('BOUND', held);
  run('docker', ['restart', '-t', '0', web.name]);
  await killedIn('CONFIRMING', held, () => gives(fake, 'fd77::61', ['confirm']));
  await comesTo('BOUND');
  assert.deepEqual(addresses(), held);
  await until('it is in use', isSettled, patience);
  const since = fake.asked.slice(fake.asked.lastIndexOf('request') + 1);
  assert.deepEqual([...new Set(since)], ['renew', 'rebind', 'confirm']);
  // Wanted no more: it is off the interface before the server hears of it, and is not had again.
  host.write(topology(''));
  await until('it is given back', () => fake.asked.includes('release'), patience);
  await agent.kill();
  assert.deepEqual(addresses(), []);
  await agent.start();
  await until('all is well', () => leaseOf(host, `${web.name}/eth1`).state === 'healthy', patience);
  assert.deepEqual(addresses(), []);
});
