/** The agent under its unit, with a real systemd: what the unit forbids, it must not need. */
import assert from 'node:assert/strict';
import test from 'node:test';
import { skipUnless } from '../lab.ts';
import { soon } from './agent-ground.ts';
import { type SystemdHost, systemdHost } from './systemd-host.ts';

const image = 'pipewright-test:1';

const yaml = `
networks:
  lan: { kind: bridge, bridge: br0, subnet: 10.1.0.0/24, range: 10.1.0.10-10.1.0.20, hostAddress: 10.1.0.254/24 }
attachments:
  - { container: w1, network: lan, addresses: 10.1.0.1/24, sysctls: { ipv4.forwarding: 1 }, rate: { in: 10mbit }, routes: [10.9.0.0/16 via 10.1.0.9] }
  - { container: w1, network: lan, ifname: eth2, addresses: dhcp, dns: container, ipv6: slaac, gateway: none }
  - { container: w2, network: lan, addresses: auto, dad: true }
`;

const isActive = (host: SystemdHost): boolean =>
  host.run('systemctl', ['is-active', 'pipewright'], { expect: 'any' }).stdout.trim() === 'active';

const journal = (host: SystemdHost): string =>
  host.run('journalctl', ['-u', 'pipewright', '--no-pager', '-o', 'cat'], { expect: 'any' }).stdout;

function states(host: SystemdHost): string {
  const { stdout } = host.run('pipewright', ['status', '--json'], { expect: 'any' });
  if (stdout === '') return '';
  const { attachments } = JSON.parse(stdout) as { attachments: { key: string; state: string }[] };
  return attachments.map(({ key, state }) => `${key} ${state}`).join();
}

const addressOf = (host: SystemdHost, container: string, ifname: string): string | undefined =>
  /inet ([\d./]+)/.exec(
    host.run('docker', ['exec', container, 'ip', '-4', 'addr', 'show', ifname], { expect: 'any' }).stdout,
  )?.[1];

const status = (host: SystemdHost): string => states(host) + journal(host);

test('the agent as a unit of systemd', async (t) => {
  if (skipUnless(t, 'root', 'docker', 'program:dnsmasq', 'program:pivot_root')) return;
  const host = await systemdHost(t, yaml);
  if (!host) return;
  const healthy = 'w1/eth1 healthy,w1/eth2 healthy,w2/eth1 healthy';

  await t.test('is ready before Docker Engine, which starts after it, and makes the network', async () => {
    assert.ok((await soon(() => isActive(host), 60_000)) !== undefined, journal(host));
    assert.match(host.run('ip', ['-br', 'addr', 'show', 'br0']).stdout, /10\.1\.0\.254\/24/);
  });

  await t.test('connects containers, in every way that its unit could be in', async () => {
    const answers = (): boolean => host.run('docker', ['version'], { expect: 'any' }).code === 0;
    assert.ok((await soon(answers, 60_000)) !== undefined);
    host.run('docker', ['load', '-i', '/srv/image.tar']);
    const lan = [
      '--port=0',
      '--interface=br0',
      '--bind-interfaces',
      '--dhcp-range=10.1.0.100,10.1.0.150,120',
    ];
    const files = ['--conf-file=/dev/null', '--dhcp-leasefile=/run/leases', '--pid-file=/run/dnsmasq.pid'];
    host.run('dnsmasq', [...lan, ...files, '--user=root', '--dhcp-option=6,10.1.0.53']);
    for (const name of ['w1', 'w2'])
      host.run('docker', ['run', '-d', '--name', name, '--network', 'none', image]);
    assert.ok((await soon(() => states(host) === healthy, 60_000)) !== undefined, status(host));
    assert.equal(addressOf(host, 'w1', 'eth1'), '10.1.0.1/24');
    assert.match(addressOf(host, 'w1', 'eth2') ?? '', /^10\.1\.0\.1\d\d\/24$/);
    assert.match(addressOf(host, 'w2', 'eth1') ?? '', /^10\.1\.0\.(1\d|20)\/24$/);
    const names = (): string => host.run('docker', ['exec', 'w1', 'cat', '/etc/resolv.conf']).stdout;
    assert.ok((await soon(() => names().includes('nameserver 10.1.0.53'))) !== undefined, names());
    assert.match(host.run('iptables', ['-S', 'DOCKER-USER']).stdout, /pipewright:br0/);
    host.run('docker', ['exec', 'w2', 'ping', '-c', '1', '-w', '5', '10.1.0.1']);
  });

  await t.test('connects again what restarts, and what commands ask for', async () => {
    const before = addressOf(host, 'w1', 'eth2');
    host.run('docker', ['restart', '-t', '0', 'w1']);
    assert.ok(
      (await soon(() => addressOf(host, 'w1', 'eth2') === before, 60_000)) !== undefined,
      status(host),
    );
    host.run('pipework', ['br7', '-i', 'eth7', 'w2', '10.7.0.1/24']);
    assert.equal(addressOf(host, 'w2', 'eth7'), '10.7.0.1/24');
  });

  await t.test('is reloaded, restarted, and stopped: the network stays', async () => {
    const all = `${healthy},w2/eth7 healthy`;
    assert.ok((await soon(() => states(host) === all, 60_000)) !== undefined, status(host));
    host.run('systemctl', ['reload', 'pipewright']);
    host.run('systemctl', ['restart', 'pipewright']);
    assert.ok((await soon(() => states(host) === all, 60_000)) !== undefined, status(host));
    host.run('systemctl', ['stop', 'pipewright']);
    assert.equal(isActive(host), false);
    assert.equal(addressOf(host, 'w1', 'eth1'), '10.1.0.1/24');
    assert.equal(addressOf(host, 'w2', 'eth7'), '10.7.0.1/24');
    assert.doesNotMatch(journal(host), /EPERM|EACCES|EROFS/);
  });
});
