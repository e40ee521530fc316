/** `pipewright attach --dhcp` and `--ipv6`, with and without an agent. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { type TestContext, test } from 'node:test';
import { dnsmasq, globals, type Lab6, serverOn, until } from '../dhcp/v6/ground.ts';
import { cidrs, containerPid, run, runContainer, runIn, skipUnless, sniff } from '../lab.ts';
import { type AgentHost, agentHost } from './agent-ground.ts';

/** A bridge, and dnsmasq on it that leases addresses of both families. */
async function ground(t: TestContext, name: string, mode = ''): Promise<{ host: AgentHost; lab: Lab6 }> {
  const host = await agentHost(t, name);
  host.ip('link', 'add', 'br1', 'type', 'bridge');
  host.ip('link', 'set', 'br1', 'up');
  const lab = await serverOn(t, name, { where: host.name, wire: 'lan0' });
  host.ip('link', 'set', 'lan0', 'master', 'br1', 'up');
  runIn(lab.server, 'ip', ['addr', 'add', '10.77.0.1/24', 'dev', 's0']);
  await dnsmasq(lab, `fd77::50,fd77::99,${mode}64,2m`, [
    ...['--dhcp-range=10.77.0.50,10.77.0.99,2m', '--dhcp-option=6,10.77.0.53', '--no-ping'],
    ...['--dhcp-option=option6:dns-server,[fd77::53]', '--dhcp-vendorclass=set:vc,enterprise:9,pipewright'],
    ...['--dhcp-userclass=set:uc,gold', '--dhcp-option=tag:vc,tag:uc,option6:domain-search,classes.test'],
  ]);
  return { host, lab };
}

const addrs = (pid: number): string[] =>
  [
    ...cidrs(pid, 'eth1').filter((cidr) => !cidr.includes(':')),
    ...globals(pid).map(({ local, prefixlen }) => `${local}/${prefixlen}`),
  ].sort();

test('without an agent: leases of both families once, what renews them, and given back on detach', async (t) => {
  if (skipUnless(t, 'root', 'docker', 'program:dnsmasq', 'program:tcpdump')) return;
  const { host, lab } = await ground(t, 'dhca');
  const web = runContainer(t, 'dhca');
  const attach = ['attach', web.name, '--network', 'bridge:br1'];
  const both = [...attach, '--dhcp', '--ipv6', 'dhcp'];
  const said = [
    ...['--request-address', '10.77.0.77', '--request-address', 'fd77::77', '--hostname', 'db'],
    ...['--vendor-class', 'pipewright', '--enterprise', '9', '--user-class', 'gold', '--user-class', 'b'],
    ...['--dhcp-option', '43=01:02', '--dhcp6-option', '17=00:00:00:09:00:01:00:02:ab:cd'],
    ...['--dns', 'container'],
  ];
  let note = '';
  const seen = await sniff(lab.server, 's0', 'udp port 547 or udp port 67', () => {
    note = host.pipewright([...both, ...said]).stderr;
  });
  assert.deepEqual(addrs(web.pid), ['10.77.0.77/24', 'fd77::77/128']);
  assert.ok(
    globals(web.pid).every(({ tentative }) => !tentative),
    'past duplicate address detection',
  );
  assert.match(
    note,
    /^note: eth1 has 10\.77\.0\.77\/24 until .*, fd77::77\/128 until .*; renewal needs the agent .*, or --stay\n$/,
  );
  const resolvConf = run('docker', ['exec', web.name, 'cat', '/etc/resolv.conf']).stdout;
  assert.match(resolvConf, /^nameserver 10\.77\.0\.53$/m);
  assert.match(resolvConf, /^nameserver fd77::53$/m);
  // The server knows the classes by what it was told over DHCPv6.
  assert.match(resolvConf, /^search classes\.test$/m);
  const has = (hex: string) =>
    seen.frames.some((frame) => Buffer.from(frame).includes(Buffer.from(hex, 'hex')));
  const text = (word: string): string => Buffer.from(word).toString('hex');
  // Options 16, 15, 17 and 39 of DHCPv6; 60 and 43 of DHCP.
  assert.ok(has(`0010001000000009000a${text('pipewright')}`));
  assert.ok(has(`000f00090004${text('gold')}0001${text('b')}`));
  assert.ok(has('0011000a0000000900010002abcd'));
  assert.ok(
    has(`0027000401 02${text('db')}`.replace(' ', '')) ||
      has(`0027000501 02${text('db')}00`.replace(' ', '')),
  );
  assert.ok(has(`3c0a${text('pipewright')}`) && has('2b020102'));

  const again = host.pipewright([...both, ...said]);
  assert.match(again.stdout, /^eth1 of \S+ is as asked: nothing to do\n$/);
  // The leases are remembered: after a restart they are asked for again.
  run('docker', ['restart', '-t', '0', web.name]);
  host.pipewright(both);
  const log = readFileSync(`${lab.scratch}/log`, 'utf8');
  assert.deepEqual(addrs(containerPid(web.name)), ['10.77.0.77/24', 'fd77::77/128'], log);
  assert.match(log, /DHCPCONFIRM/);
  // Nobody renews them, and that is shown.
  host.write('networks: {}\n');
  const status = host.on('status').stdout;
  assert.match(
    status,
    /10\.77\.0\.77\/24 from 10\.77\.0\.1, \d+ s left, T1 in \d+ s, T2 in \d+ s, nobody renews it, name servers 10\.77\.0\.53/,
  );
  assert.match(status, /fd77::77\/128 from [0-9a-f]+, \d+ s left, .*nobody renews it/);
  const gone = await sniff(lab.server, 's0', 'udp port 547 or udp port 67', () => {
    host.pipewright(['detach', web.name]);
  });
  assert.equal(gone.lines.filter((line) => /dhcp6 release/.test(line)).length, 1, `${gone.lines}`);
  assert.deepEqual(host.notes(), []);
});

test('with an agent it is kept; --stay renews until the agent does', async (t) => {
  if (skipUnless(t, 'root', 'docker', 'program:dnsmasq')) return;
  const { host } = await ground(t, 'dhck', 'slaac,');
  const [web, db] = [runContainer(t, 'dhck1'), runContainer(t, 'dhck2')];
  const staying = (id: string): number =>
    run('ps', ['-eo', 'args'])
      .stdout.split('\n')
      .filter((words) => words.includes('--keep-lease') && words.includes(id.slice(0, 12))).length;
  const dhcp = ['--network', 'bridge:br1', '--dhcp', '--ipv6', 'auto'];
  assert.equal(host.pipewright(['attach', db.name, ...dhcp, '--stay']).stderr, '');
  await until('a process stays', () => staying(db.id) === 1);
  host.write('networks: {}\n');
  await until('it renews', () => /renewed by process \d+/.test(host.on('status').stdout));
  // An address by advertisements, one by DHCPv6 and one by DHCP.
  await until('all addresses', () => addrs(db.pid).length === 3);
  const first = addrs(db.pid);
  await host.agent(t);
  await until('the agent renews', () => staying(db.id) === 0);
  assert.equal(host.pipewright(['attach', web.name, ...dhcp]).stderr, '');
  const healthy = (): boolean =>
    host.status().length === 2 && host.status().every(({ state }) => state === 'healthy');
  await until('both are healthy', healthy);
  await until('all addresses', () => addrs(web.pid).length === 3);
  const second = addrs(web.pid);
  run('docker', ['restart', '-t', '0', web.name, db.name]);
  await until('the same addresses', () => `${addrs(containerPid(web.name))}` === `${second}`, 30);
  await until('the same of the other', () => `${addrs(containerPid(db.name))}` === `${first}`, 30);
  host.pipewright(['detach', web.name]);
  host.pipewright(['detach', db.name]);
  assert.deepEqual(host.notes(), []);
});
