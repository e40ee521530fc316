/** The namespace of a container's earlier life, in which its macvlan still answers, and what the container is to have again. */
import assert from 'node:assert/strict';
import { closeSync, openSync } from 'node:fs';
import { type TestContext, test } from 'node:test';
import { dnsmasq, serverOn } from '../dhcp/v6/ground.ts';
import { containerPid, ipAddrs, run, runContainer, runIn, skipUnless } from '../lab.ts';
import { agentHost, soon } from './agent-ground.ts';
import { nicOn } from './support.ts';

/** Patience for what takes a second or so. */
const patience = 60_000;

/** Addresses past duplicate address detection, but for link-local ones. */
function usable(name: string): string[] {
  return ipAddrs(containerPid(name), 'eth1')
    .filter((addr) => addr.scope === 'global' && !addr.tentative && !addr.dadfailed)
    .map(({ local, prefixlen }) => `${local}/${prefixlen}`)
    .sort();
}

/** Keeps the container's present namespace, as the kernel does for a while on a busy host. */
function linger(t: TestContext, name: string): void {
  const fd = openSync(`/proc/${containerPid(name)}/ns/net`, 'r');
  t.after(() => closeSync(fd));
}

test('static addresses with and without dad, and SLAAC: the same ones, in use, while the former interface answers', async (t) => {
  if (skipUnless(t, 'root', 'docker', 'program:dnsmasq')) return;
  const host = await agentHost(t, 'former');
  const wire = nicOn(host, 'nic0');
  host.ip('link', 'add', 'sw0', 'type', 'bridge');
  const lab = await serverOn(t, 'fl', { where: host.name, wire: 'lan0' });
  for (const link of [wire, 'lan0']) host.ip('link', 'set', link, 'master', 'sw0', 'up');
  host.ip('link', 'set', 'sw0', 'up');
  runIn(lab.server, 'ip', ['addr', 'add', '10.77.0.1/24', 'dev', 's0']);
  await dnsmasq(lab, '::,constructor:s0,ra-only,64,10m', ['--ra-param=s0,1,60']);
  const names = ['former1', 'former2', 'former3', 'former4'].map((name) => runContainer(t, name).name);
  const [asking, plain, slaac, auto] = names;
  // With IPv6 addresses of their own alone they listen to no router.
  const deaf = 'sysctls: {ipv6.accept_ra: 0}';
  host.write(`networks:
  nic: {kind: macvlan, uplink: nic0, subnet: 10.77.0.0/24, range: 10.77.0.100-10.77.0.199}
attachments:
  - {container: ${asking}, network: nic, addresses: [10.77.0.21/24, "fd77::21/64"], dad: true, ${deaf}}
  - {container: ${plain}, network: nic, addresses: [10.77.0.22/24, "fd77::22/64"], ${deaf}}
  - {container: ${slaac}, network: nic, addresses: 10.77.0.23/24, ipv6: slaac}
  - {container: ${auto}, network: nic, addresses: auto, ipv6: slaac}
`);
  const agent = await host.agent(t);
  const isThere = (): boolean => names.every((name) => usable(name).length === 2);
  await soon(isThere, patience);
  const first = names.map(usable);
  assert.deepEqual(
    first.map(({ length }) => length),
    [2, 2, 2, 2],
    agent.log(),
  );
  const transmits = (name: string): string =>
    runIn(containerPid(name), 'cat', ['/proc/sys/net/ipv6/conf/default/dad_transmits']).stdout.trim();
  const usual = names.map(transmits);
  for (const name of names) linger(t, name);
  run('docker', ['restart', '-t', '0', ...names]);
  await soon(isThere, patience);
  assert.deepEqual(names.map(usable), first, agent.log());
  assert.deepEqual(names.map(transmits), usual, 'it is for its own interface alone, and for a moment');
  await soon(() => host.status().every(({ state }) => state === 'healthy'), patience);
  assert.deepEqual(
    host.status().map(({ state }) => state),
    ['healthy', 'healthy', 'healthy', 'healthy'],
  );
});
