/** IPv6 by router advertisements and DHCPv6, and the name servers of a lease, as the agent keeps them. */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { dnsmasq, globals, messagesIn, serverOn, until } from '../dhcp/v6/ground.ts';
import { containerPid, ping, run, runContainer, runIn, skipUnless, sniff } from '../lab.ts';
import { agentHost } from './agent-ground.ts';

const resolver = (): string => createHash('md5').update(readFileSync('/etc/resolv.conf')).digest('hex');

test('slaac, dhcp and auto: through restarts of containers and of the agent, until they are detached', async (t) => {
  if (skipUnless(t, 'root', 'docker', 'program:dnsmasq', 'program:tcpdump')) return;
  const untouched = resolver();
  const host = await agentHost(t, 'v6a');
  const names = ['slaac', 'dhcp', 'auto'] as const;
  const made = names.map((name) => runContainer(t, `v6${name}`));
  const [slaac, dhcp, auto] = made.map(({ name }) => name) as [string, string, string];
  const resolvConf = (): string => run('docker', ['exec', dhcp, 'cat', '/etc/resolv.conf']).stdout;
  const former = resolvConf();
  host.ip('link', 'add', 'br1', 'type', 'bridge');
  host.ip('link', 'set', 'br1', 'up');
  const lab = await serverOn(t, 'e', { where: host.name, wire: 'lan0' });
  host.ip('link', 'set', 'lan0', 'master', 'br1', 'up');
  runIn(lab.server, 'ip', ['addr', 'add', '10.77.0.1/24', 'dev', 's0']);
  const words = [
    ...['--dhcp-range=10.77.0.50,10.77.0.99,2m', '--dhcp-option=6,10.77.0.53', '--no-ping'],
    '--dhcp-option=option6:dns-server,[fd77::53]',
    '--dhcp-option=option6:domain-search,lan.test',
  ];
  await dnsmasq(lab, 'fd77::50,fd77::99,slaac,64,2m', words);
  const head = 'networks:\n  lan: {kind: bridge, bridge: br1}\nattachments:\n';
  const line = (name: string, rest: string): string => `  - {container: ${name}, network: lan, ${rest}}\n`;
  const all =
    line(slaac, 'ipv6: slaac') +
    line(dhcp, 'addresses: dhcp, ipv6: dhcp, dns: container') +
    line(auto, 'ipv6: auto, interfaceId: eui64');
  host.write(head + all);
  const agent = await host.agent(t);
  const addrs = (name: string): string[] =>
    globals(containerPid(name))
      .filter(({ tentative }) => !tentative)
      .map(({ local, prefixlen }) => `${local}/${prefixlen}`)
      .sort();
  const expected = { [slaac]: 1, [dhcp]: 1, [auto]: 2 };
  const settled = (): boolean =>
    Object.entries(expected).every(([name, count]) => addrs(name).length === count);
  await until('everybody has their addresses', settled, 30);
  const first = Object.fromEntries(made.map(({ name }) => [name, addrs(name)]));
  // The lease is one address; what a router advertises is of its subnet. EUI-64 has ff:fe in its midst.
  assert.match(first[slaac]?.[0] ?? '', /^fd77::[0-9a-f:]+\/64$/);
  assert.doesNotMatch(first[slaac]?.[0] ?? '', /ff:fe/);
  assert.match(first[dhcp]?.[0] ?? '', /^fd77::[5-9][0-9a-f]\/128$/);
  assert.ok(
    first[auto]?.some((cidr) => /ff:fe.*\/64$/.test(cidr)),
    String(first[auto]),
  );
  assert.ok(first[auto]?.some((cidr) => cidr.endsWith('/128')));
  for (const name of [slaac, dhcp, auto]) assert.ok(ping(containerPid(name), 'fd77::1', 3), name);
  await until('its name servers', () => /^nameserver fd77::53$/m.test(resolvConf()));
  await until('those of both families', () => /^nameserver 10\.77\.0\.53$/m.test(resolvConf()));
  assert.match(resolvConf(), /^search lan\.test$/m);
  assert.deepEqual(
    host.status().map(({ state }) => state),
    ['healthy', 'healthy', 'healthy'],
  );
  assert.match(
    host.pipewright(['status'], { expect: 'any' }).stdout,
    /fd77::[0-9a-f]+\/128 from [0-9a-f]+, \d+ s left, T1 in \d+ s/,
  );

  // The agent dies and comes back: nothing is asked for that is there.
  await agent.stop('SIGKILL');
  let agent2 = agent;
  const quiet = await sniff(lab.server, 's0', 'udp port 547', async () => {
    agent2 = await host.agent(t);
    await until('it sees the leases', () => host.pipewright(['status']).stdout.includes(' left, T1 in '));
  });
  assert.deepEqual(messagesIn(quiet), []);

  // Containers come back: with a new MAC address, the same addresses.
  const seen = await sniff(lab.server, 's0', 'udp port 547', async () => {
    run('docker', ['restart', '-t', '0', slaac, dhcp]);
    await until('the same addresses', settled, 30);
    await until('the server agrees', () => host.status().every(({ state }) => state === 'healthy'));
  });
  assert.deepEqual(
    [addrs(slaac), addrs(dhcp)],
    [first[slaac], first[dhcp]],
    `${agent2.log()}${messagesIn(seen)}`,
  );
  assert.deepEqual(messagesIn(seen).slice(0, 2), ['confirm', 'reply']);
  await until('its name servers again', () => /^nameserver fd77::53$/m.test(resolvConf()));

  // Wanted no more.
  const last = await sniff(lab.server, 's0', 'udp port 547', async () => {
    host.write(head + line(slaac, 'ipv6: slaac'));
    await until(
      'given back',
      () => runIn(containerPid(dhcp), 'ip', ['link']).stdout.includes('eth1') === false,
    );
    await until('what was there before', () => resolvConf() === former);
  });
  assert.equal(messagesIn(last).filter((message) => message === 'release').length, 2);
  assert.equal(resolver(), untouched);
});
