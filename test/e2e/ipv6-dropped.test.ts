/** IPv6 from the network, asked for no more: the interface is as it was before. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { dnsmasq, globals, serverOn, until } from '../dhcp/v6/ground.ts';
import { ipRoutes, runContainer, runIn, skipUnless } from '../lab.ts';
import { agentHost } from './agent-ground.ts';

const keys = ['accept_ra', 'accept_ra_defrtr', 'autoconf', 'addr_gen_mode', 'ndisc_notify', 'disable_ipv6'];

for (const disabled of ['0', '1'] as const)
  test(`without ipv6, where it was ${disabled === '1' ? 'off' : 'on'} before`, async (t) => {
    if (skipUnless(t, 'root', 'docker', 'program:dnsmasq')) return;
    const host = await agentHost(t, `v6d${disabled}`);
    const web = runContainer(t, `v6d${disabled}`);
    // One that listens to no router by itself, so that what it has is what was asked for.
    for (const setting of ['accept_ra=0', `disable_ipv6=${disabled}`])
      runIn(web.pid, 'sysctl', ['-qw', `net.ipv6.conf.default.${setting}`]);
    host.ip('link', 'add', 'br1', 'type', 'bridge');
    host.ip('link', 'set', 'br1', 'up');
    const lab = await serverOn(t, `v6d${disabled}`, { where: host.name, wire: 'lan0' });
    host.ip('link', 'set', 'lan0', 'master', 'br1', 'up');
    await dnsmasq(lab, 'fd77::50,fd77::99,slaac,64,2m');
    const conf = (): string[] =>
      keys.map((key) => runIn(web.pid, 'sysctl', ['-n', `net.ipv6.conf.eth1.${key}`]).stdout.trim());
    const file = (more: string): string =>
      `networks:\n  lan: {kind: bridge, bridge: br1}\nattachments:\n  - {container: ${web.name}, network: lan, addresses: 10.77.0.9/24${more}}\n`;
    const routes6 = (): string =>
      JSON.stringify(
        ipRoutes(web.pid, 6).filter(({ dev, dst }) => dev === 'eth1' && !/^fe80/.test(`${dst}`)),
      );
    host.write(file(''));
    assert.equal(host.on('apply', '--yes').code, 0);
    const before = [conf(), routes6()];
    host.write(file(', ipv6: auto'));
    const agent = await host.agent(t);
    await until(
      'both addresses',
      () => globals(web.pid).filter(({ tentative }) => !tentative).length === 2,
      30,
    );
    assert.notDeepEqual([conf(), routes6()], before);

    host.write(file(''));
    await until('the addresses are gone', () => globals(web.pid).length === 0, 30);
    const isSame = (): boolean => JSON.stringify([conf(), routes6()]) === JSON.stringify(before);
    await until('all is as before', isSame).catch(() =>
      assert.deepEqual([conf(), routes6()], before, agent.log()),
    );
    await until('healthy', () => host.status().every(({ state }) => state === 'healthy'));
    await until('it is told', () => /accept_ra=0/.test(agent.log()));
    await agent.stop('SIGTERM');
    assert.equal(host.on('plan').stdout, 'nothing to do\n');
  });

test('the plan says what goes back', async (t) => {
  if (skipUnless(t, 'root', 'docker')) return;
  const host = await agentHost(t, 'v6p');
  const web = runContainer(t, 'v6p');
  const file = (more: string): string =>
    `networks:\n  lan: {kind: bridge, bridge: br1}\nattachments:\n  - {container: ${web.name}, network: lan${more}}\n`;
  host.write(file(', sysctls: {ipv4.forwarding: 0, ipv6.accept_dad: 0}'));
  assert.equal(host.on('apply', '--yes').code, 0);
  host.write(file(', sysctls: {ipv4.forwarding: 0}'));
  assert.match(
    host.on('plan').stdout,
    /accept_dad=1 {3}# ipv6\/accept_dad is asked for no more: 0 -> 1, as before/,
  );
  assert.equal(host.on('apply', '--yes').code, 0);
  assert.equal(runIn(web.pid, 'sysctl', ['-n', 'net.ipv6.conf.eth1.accept_dad']).stdout, '1\n');
  assert.equal(host.on('plan').stdout, 'nothing to do\n');
});
