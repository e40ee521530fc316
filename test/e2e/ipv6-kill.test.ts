/** DHCPv6 on every kind of network, and an agent that is killed in every state of its client. */
import assert from 'node:assert/strict';
import type { ChildProcess } from 'node:child_process';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { dnsmasq, end, globals, kea, messagesIn, serverOn, until } from '../dhcp/v6/ground.ts';
import { containerPid, run, runContainer, runIn, skipUnless, sniff } from '../lab.ts';
import { agentHost, startOvs } from './agent-ground.ts';
import { leaseOf } from './dhcp-ground.ts';
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
  - {container: ${web.name}, network: vlan, ifname: eth2, ipv6: dhcp}
`);
  const both = (): string[] => ['eth1', 'eth2'].flatMap((link) => leased(web.name, link));
  const agent = await host.agent(t);
  await until('both leases', () => both().length === 2, 30);
  const first = both();
  assert.match(first.join(' '), /^fd77::[89][0-9a-f] fd77::5[0-9a-f]$/);
  // By the server's word: it knows who asks by what was said over DHCPv6.
  const { lease } = leaseOf(host, `${web.name}/eth1`).lease ?? {};
  assert.deepEqual((lease as unknown as { search: string[] }).search, ['classes.test']);
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

test('killed in every state of DHCPv6: no lease is lost, and there are never two addresses', async (t) => {
  if (skipUnless(t, 'root', 'docker', 'program:kea-dhcp6')) return;
  const host = await agentHost(t, 'v6k');
  const web = runContainer(t, 'v6k');
  host.ip('link', 'add', 'br1', 'type', 'bridge');
  host.ip('link', 'set', 'br1', 'up');
  const lab = await serverOn(t, 'k6', { where: host.name, wire: 'lan0' });
  host.ip('link', 'set', 'lan0', 'master', 'br1', 'up');
  host.write(
    `networks:\n  lan: {kind: bridge, bridge: br1}\nattachments:\n  - {container: ${web.name}, network: lan, ipv6: dhcp}\n`,
  );
  const key = `${web.name}/eth1`;
  const state = (): string | undefined => leaseOf(host, key).lease?.state;
  const addresses = (): string[] => globals(containerPid(web.name)).map(({ local }) => local);
  let agent = await host.agent(t);
  /** Killed and started again: at no time there is more than one address. */
  const again = async (): Promise<void> => {
    await agent.stop('SIGKILL');
    assert.ok(addresses().length <= 1, `${addresses()}`);
    agent = await host.agent(t);
    assert.ok(addresses().length <= 1, `${addresses()}`);
  };
  await until('it asks', () => state() === 'SOLICITING');
  await again();
  await until('it asks again', () => state() === 'SOLICITING');
  assert.deepEqual(addresses(), []);
  const times = { 'renew-timer': 3, 'rebind-timer': 8, 'preferred-lifetime': 200, 'valid-lifetime': 300 };
  let server: ChildProcess = await kea(lab, times);
  // Anywhere between Solicit and the end of duplicate address detection.
  for (const ms of [0, 300, 1000]) {
    await again();
    await sleep(ms);
  }
  await until('bound', () => leased(web.name, 'eth1').length === 1 && state() !== 'SOLICITING', 30);
  const held = addresses();
  await again();
  assert.deepEqual(addresses(), held);
  await end(server);
  for (const phase of ['RENEWING', 'REBINDING']) {
    await until(phase, () => state() === phase, 30);
    await again();
    // On a slow machine the next phase may have come meanwhile.
    await until(`${phase} again`, () => ['RENEWING', 'REBINDING'].includes(state() ?? ''), 30);
    assert.deepEqual(addresses(), held);
  }
  run('docker', ['restart', '-t', '0', web.name]);
  await until('it confirms', () => state() === 'CONFIRMING', 30);
  await again();
  assert.deepEqual(addresses(), held);
  server = await kea(lab, { ...times, 'renew-timer': 100, 'rebind-timer': 200 });
  await until('the server agrees', () => state() === 'BOUND', 30);
  assert.deepEqual(addresses(), held);
  // Somebody else takes the address: it is declined, and another one is had.
  run('docker', ['stop', '-t', '0', web.name]);
  runIn(lab.server, 'ip', ['addr', 'add', `${held[0]}/64`, 'dev', 's0', 'nodad']);
  const messages = await sniff(lab.server, 's0', 'udp port 547', async () => {
    run('docker', ['start', web.name]);
    await until('it is gone', () => addresses().length === 0 && state() !== 'CONFIRMING', 30);
    await again();
    const isOther = (): boolean =>
      leased(web.name, 'eth1').length === 1 && !addresses().includes(held[0] ?? '');
    await until('another one', isOther, 60);
  });
  assert.ok(messagesIn(messages).includes('decline'), `${messagesIn(messages)}`);
  assert.equal(addresses().length, 1);
});
