/** Leases that the agent keeps, from servers that are other people's programs. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { dhcpServer } from '../dhcp/servers.ts';
import { cidrs, ipRoutes, run, runContainer, runIn, skipUnless } from '../lab.ts';
import { agentHost, soon } from './agent-ground.ts';

test('the agent: a lease, docker restart, detach', async (t) => {
  if (skipUnless(t, 'root', 'docker', 'program:dnsmasq')) return;
  const host = await agentHost(t, 'dhcpa');
  const web = runContainer(t, 'dhcpa');
  host.ip('link', 'add', 'br1', 'type', 'bridge');
  host.ip('link', 'set', 'br1', 'up');
  const server = await dhcpServer(t, 'dnsmasq', { where: host.name, wire: 'lan0' });
  host.ip('link', 'set', 'lan0', 'master', 'br1');
  await server.start({ pool: [50, 99], lease: 600 });
  host.write(`networks:
  lan: {kind: bridge, bridge: br1}
attachments:
  - {container: ${web.name}, network: lan, addresses: dhcp}
`);
  const agent = await host.agent(t);
  await soon(() => cidrs(web.pid, 'eth1').length > 0);
  console.log(agent.log());
  console.log(host.pipewright(['status'], { expect: 'any' }).stdout);
  console.log(JSON.stringify(host.status()));
  const [first] = cidrs(web.pid, 'eth1');
  console.log(ipRoutes(web.pid));
  run('docker', ['restart', '-t', '0', web.name]);
  const pid = Number(run('docker', ['inspect', '-f', '{{.State.Pid}}', web.name]).stdout);
  await soon(() => cidrs(pid, 'eth1').length > 0);
  assert.deepEqual(cidrs(pid, 'eth1'), [first]);
  console.log(agent.log());
  console.log(
    server
      .log()
      .split('\n')
      .filter((l) => /DHCP[A-Z]+\(/.test(l))
      .join('\n'),
  );
  console.log(runIn(host.name, 'ls', ['-R', host.stateDir]).stdout);
});
