import assert from 'node:assert/strict';
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { checkDhcp, runDhcpClient, stopDhcpClient } from '../../src/dhcp/clients.ts';
import { PipewrightError } from '../../src/errors.ts';
import { cidrs, hasProgram, ipAddrs, ipLink, ipRoutes, run } from '../lab.ts';
import { type DhcpLab, dhcpLab, until, withPath } from './support.ts';

const address = /^10\.77\.0\.\d+\/24$/;
const guest = `pwt-web-${process.pid}`;
const missing = (...programs: string[]) => programs.filter((name) => !hasProgram(name)).join(', ') || false;

/** Whether files of this test's clients are left in /run or in the state directory. */
function filesLeft(lab: DhcpLab): string[] {
  const folder = path.join(lab.scratch, 'dhcp');
  const inRun = readdirSync('/run').filter((name) => name.includes(guest));
  return [...inRun, ...(existsSync(folder) ? readdirSync(folder) : [])];
}

function assertLease(lab: DhcpLab): void {
  assert.match(cidrs(lab.client, 'eth1').join(), address);
  assert.ok(ipLink(lab.client, 'eth1')?.flags.includes('UP'));
  const [lease] = lab.leases();
  assert.equal(lease?.[3], guest, 'the server saw the host name');
  const [route] = ipRoutes(lab.client).filter(({ dst }) => dst === 'default');
  assert.equal(route?.gateway, '10.77.0.1');
  assert.equal(route?.dev, 'eth1');
}

for (const client of ['udhcpc', 'dhclient'] as const) {
  test(`${client}: address, broadcast, route and MTU, and then no client is left`, async (t) => {
    if (missing(client, 'dnsmasq')) return t.skip(`not installed: ${missing(client, 'dnsmasq')}`);
    const lab = await dhcpLab(t, ['--dhcp-option=26,1400']);
    await runDhcpClient(lab.request(client, client === 'udhcpc' ? ['-O', 'mtu'] : []));
    assertLease(lab);
    assert.equal(
      ipAddrs(lab.client, 'eth1').find(({ family }) => family === 'inet')?.broadcast,
      '10.77.0.255',
    );
    assert.equal(ipLink(lab.client, 'eth1')?.mtu, 1400);
    assert.deepEqual(lab.clients(), []);
    assert.deepEqual(filesLeft(lab), []);
  });

  test(`${client}-f: the client stays until it is stopped`, async (t) => {
    if (missing(client, 'dnsmasq')) return t.skip(`not installed: ${missing(client, 'dnsmasq')}`);
    const lab = await dhcpLab(t);
    const request = lab.request(`${client}-f`);
    await runDhcpClient(request);
    assertLease(lab);
    assert.deepEqual(
      lab.clients().map(({ comm }) => comm),
      [client],
    );
    const [running] = lab.clients();
    const pidFile = `/var/run/${client}.${guest}.pid`;
    assert.equal(Number(readFileSync(pidFile, 'utf8')), running?.pid);
    // Again, as when the container came back: the old client goes, there is one.
    await runDhcpClient(request);
    assert.equal(lab.clients().length, 1);
    assert.notEqual(lab.clients()[0]?.pid, running?.pid);
    await stopDhcpClient(request);
    assert.deepEqual(lab.clients(), []);
    assert.deepEqual(filesLeft(lab), []);
    await stopDhcpClient(request);
  });

  test(`${client}: RFC 3442 routes take the place of the router`, async (t) => {
    if (missing(client, 'dnsmasq')) return t.skip(`not installed: ${missing(client, 'dnsmasq')}`);
    const lab = await dhcpLab(t, [
      '--dhcp-option=121,10.9.8.0/22,10.77.0.2,10.6.0.0/16,0.0.0.0,0.0.0.0/0,10.77.0.3',
    ]);
    await runDhcpClient(lab.request(client, client === 'udhcpc' ? ['-O', 'staticroutes'] : []));
    const routes = ipRoutes(lab.client).map(({ dst, gateway }) => [dst, gateway]);
    for (const want of [
      ['10.9.8.0/22', '10.77.0.2'],
      ['10.6.0.0/16', undefined],
      ['default', '10.77.0.3'],
    ]) {
      assert.ok(
        routes.some(([dst, gateway]) => dst === want[0] && gateway === want[1]),
        JSON.stringify([want, routes]),
      );
    }
  });

  test(`${client}: a router off the subnet`, async (t) => {
    if (missing(client, 'dnsmasq')) return t.skip(`not installed: ${missing(client, 'dnsmasq')}`);
    const lab = await dhcpLab(t, ['--dhcp-option=3,192.168.9.1']);
    await runDhcpClient(lab.request(client));
    assert.equal(ipRoutes(lab.client).find(({ dst }) => dst === 'default')?.gateway, '192.168.9.1');
  });

  test(`${client}: the container's own default route stays, as with the stock scripts`, async (t) => {
    if (missing(client, 'dnsmasq')) return t.skip(`not installed: ${missing(client, 'dnsmasq')}`);
    const lab = await dhcpLab(t);
    run('ip', ['-n', lab.client, 'addr', 'add', '172.17.0.2/16', 'dev', 'lo']);
    run('ip', ['-n', lab.client, 'route', 'add', 'default', 'dev', 'lo']);
    await runDhcpClient(lab.request(client));
    assert.match(cidrs(lab.client, 'eth1').join(), address);
    assert.deepEqual(
      ipRoutes(lab.client).flatMap(({ dst, dev }) => (dst === 'default' ? [dev] : [])),
      ['lo'],
    );
  });
}

test('dhcpcd: lease, host name, options, and no hook that writes to the host', async (t) => {
  if (missing('dhcpcd', 'dnsmasq')) return t.skip(`not installed: ${missing('dhcpcd', 'dnsmasq')}`);
  const lab = await dhcpLab(t);
  // -A: no ARP probe, which takes five seconds.
  const request = lab.request('dhcpcd', ['-A', '-4']);
  await runDhcpClient(request);
  assertLease(lab);
  assert.ok(lab.clients().some(({ comm }) => comm === 'dhcpcd'));
  await stopDhcpClient(request);
  await until('dhcpcd is gone', () => lab.clients().length === 0);
  assert.deepEqual(filesLeft(lab), []);
});

test('dhcpcd: two containers with an interface of one name', async (t) => {
  if (missing('dhcpcd', 'dnsmasq')) return t.skip(`not installed: ${missing('dhcpcd', 'dnsmasq')}`);
  const [one, two] = [await dhcpLab(t), await dhcpLab(t, [], '2')];
  await Promise.all([
    runDhcpClient(one.request('dhcpcd', ['-A'])),
    runDhcpClient({ ...two.request('dhcpcd', ['-A']), guest: `${guest}-2` }),
  ]);
  for (const lab of [one, two]) assert.match(cidrs(lab.client, 'eth1').join(), address);
  await stopDhcpClient(one.request('dhcpcd'));
  await until('the first is gone', () => one.clients().length === 0);
  assert.ok(two.clients().length > 0);
  await stopDhcpClient({ ...two.request('dhcpcd'), guest: `${guest}-2` });
});

test('two interfaces of one container at the same time', async (t) => {
  if (missing('dhclient', 'dnsmasq')) return t.skip(`not installed: ${missing('dhclient', 'dnsmasq')}`);
  const lab = await dhcpLab(t);
  run('ip', ['-n', lab.server, 'link', 'add', 'br0', 'type', 'bridge']);
  run('ip', [
    '-n',
    lab.server,
    'link',
    'add',
    's1',
    'type',
    'veth',
    'peer',
    'name',
    'eth2',
    'netns',
    lab.client,
  ]);
  run('ip', ['-n', lab.client, 'link', 'set', 'eth1', 'name', 'eth1']);
  const first = lab.request('dhclient-f');
  await runDhcpClient(first);
  await assert.rejects(
    runDhcpClient({ ...lab.request('udhcpc-f', ['-n', '-t', '1', '-T', '1']), ifname: 'eth2' }),
    PipewrightError,
  );
  assert.equal(lab.clients().length, 1, 'the client of the other interface is left alone');
  assert.equal(Number(readFileSync(`/var/run/dhclient.${guest}.pid`, 'utf8')), lab.clients()[0]?.pid);
  await stopDhcpClient(first);
});

test('udhcpc-f renews its lease, and ends when the container has', async (t) => {
  if (missing('udhcpc', 'dnsmasq')) return t.skip(`not installed: ${missing('udhcpc', 'dnsmasq')}`);
  const lab = await dhcpLab(t);
  const request = lab.request('udhcpc-f');
  await runDhcpClient(request);
  const [client] = lab.clients();
  assert.ok(client);
  const before = Number(lab.leases()[0]?.[0]);
  await new Promise((resolve) => setTimeout(resolve, 1100));
  // It renews at half of the lease, which is a minute for it at the least; the signal makes it now.
  process.kill(client.pid, 'SIGUSR1');
  await until('the lease is renewed', () => Number(lab.leases()[0]?.[0]) > before);
  assert.match(cidrs(lab.client, 'eth1').join(), address);

  process.kill(lab.pid, 'SIGKILL');
  await until('the container is gone', () => !existsSync(`/proc/${lab.pid}/ns/net`) || isZombie(lab.pid));
  process.kill(client.pid, 'SIGUSR1');
  await until('the client is gone', () => lab.clients().length === 0);
  await stopDhcpClient(request);
});

test('scripts that the user names write to a copy of resolv.conf', async (t) => {
  if (missing('udhcpc', 'dnsmasq')) return t.skip(`not installed: ${missing('udhcpc', 'dnsmasq')}`);
  const lab = await dhcpLab(t);
  const script = path.join(lab.scratch, 'mine');
  const seen = path.join(lab.scratch, 'seen');
  const text = `#!/bin/sh\nip link set eth1 up\n[ "$1" = bound ] || exit\necho "nameserver $dns" >/etc/resolv.conf\ncp /etc/resolv.conf ${seen}\n`;
  writeFileSync(script, text, { mode: 0o700 });
  await runDhcpClient(lab.request('udhcpc', ['-s', script]));
  assert.equal(readFileSync(seen, 'utf8'), 'nameserver 10.77.0.53\n');
});

test('scripts run where the state directory is mounted noexec', async (t) => {
  if (missing('udhcpc', 'dnsmasq')) return t.skip(`not installed: ${missing('udhcpc', 'dnsmasq')}`);
  const lab = await dhcpLab(t);
  run('mount', ['-t', 'tmpfs', '-o', 'noexec,nosuid,nodev', 'pwt', lab.scratch]);
  try {
    await runDhcpClient(lab.request('udhcpc'));
    assert.match(cidrs(lab.client, 'eth1').join(), address);
  } finally {
    run('umount', [lab.scratch]);
  }
});

const noLease: [
  client: 'udhcpc' | 'udhcpc-f' | 'dhclient' | 'dhclient-f' | 'dhcpcd',
  options: string[],
  says: RegExp,
][] = [
  ['udhcpc', ['-n', '-t', '1', '-T', '1'], /: udhcpc: no lease, failing$/],
  ['udhcpc-f', ['-n', '-t', '1', '-T', '1'], /: udhcpc: no lease, failing$/],
  ['dhclient', ['-1'], /: .*lease/],
  ['dhclient-f', [], /: dhclient got no lease$/],
  ['dhcpcd', ['-t', '1'], /: .*timed out/],
  ['udhcpc', ['--no-such-option'], /no-such-option|Usage|unrecognized/],
];
for (const [client, options, says] of noLease) {
  test(`${client} ${options.join(' ')}: without a lease it fails, and nothing is left`, async (t) => {
    const program = client.replace('-f', '');
    if (missing(program)) return t.skip(`not installed: ${program}`);
    const lab = await dhcpLab(t, 'none');
    const conf = path.join(lab.scratch, 'impatient.conf');
    writeFileSync(conf, 'timeout 1;\n');
    const all = program === 'dhclient' ? [...options, '-cf', conf] : options;
    await assert.rejects(runDhcpClient(lab.request(client, all)), (error) => {
      assert.ok(error instanceof PipewrightError);
      assert.equal(error.code, 'PROGRAM_FAILED');
      assert.match(error.message, /^dhcp eth1 in /);
      assert.match(error.message, says);
      assert.doesNotMatch(error.message, /\n/);
      return true;
    });
    await until('no client is left', () => lab.clients().length === 0);
    assert.deepEqual(filesLeft(lab), []);
  });
}

for (const client of ['udhcpc', 'dhclient', 'dhcpcd'] as const) {
  test(`${client}: given up while it waits for a server`, async (t) => {
    if (missing(client)) return t.skip(`not installed: ${client}`);
    const lab = await dhcpLab(t, 'none');
    const reason = new Error('interrupted');
    const abort = new AbortController();
    setTimeout(() => abort.abort(reason), 300);
    await assert.rejects(runDhcpClient({ ...lab.request(client), signal: abort.signal }), reason);
    await until('no client is left', () => lab.clients().length === 0);
    assert.deepEqual(filesLeft(lab), []);
  });
}

test('what cannot work is refused before anything is made', async (t) => {
  const target = (client: 'udhcpc' | 'dhclient-f' | 'dhcpcd') => ({
    client,
    options: [],
    ifname: 'eth1',
    guest: 'web',
  });
  await withPath(t, {}, () => {
    for (const [client, program] of [
      ['udhcpc', 'udhcpc'],
      ['dhclient-f', 'dhclient'],
      ['dhcpcd', 'dhcpcd'],
    ] as const) {
      const message = `You asked for DHCP client ${program}, but I can't find it.`;
      assert.throws(() => checkDhcp(target(client)), { name: 'PipeworkRefusal', message });
    }
  });
  await withPath(t, { dhcpcd: '' }, () => {
    assert.throws(() => checkDhcp({ ...target('dhcpcd'), ifname: '-x' }), { code: 'BAD_ARGUMENT' });
  });
});

function isZombie(pid: number): boolean {
  return readFileSync(`/proc/${pid}/stat`, 'utf8').includes(') Z');
}
