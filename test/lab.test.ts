import assert from 'node:assert/strict';
import test from 'node:test';
import * as lab from './lab.ts';

const bridge = `pwtl${process.pid}`;
const nic = `pwtn${process.pid}`;

test('run gives code and output, and throws on a code that was not expected', async () => {
  assert.deepEqual(lab.run('sh', ['-c', 'cat; echo b >&2; exit 3'], { expect: 3, input: 'a' }), {
    code: 3,
    stdout: 'a',
    stderr: 'b\n',
  });
  assert.throws(() => lab.run('sh', ['-c', 'echo why >&2; exit 3']), /exit 3 instead of 0: why/);
  assert.equal(lab.run('no-such-program', [], { expect: 'any' }).code, -1);
  assert.equal(lab.run('sleep', ['9'], { expect: 'any', timeout: 0.1 }).code, -1);
  const both = await Promise.all(
    ['1', '2'].map((n) => lab.runAsync('sh', ['-c', `exit ${n}`], { expect: 'any' })),
  );
  assert.deepEqual(
    both.map(({ code }) => code),
    [1, 2],
  );
  await assert.rejects(lab.runAsync('false', []), /exit 1 instead of 0/);
});

test('the built programs run with the Node that runs the tests', async () => {
  const { stdout } = lab.pipewright(['--version']);
  assert.match(stdout, /\d+\.\d+\.\d+/);
  const several = await Promise.all([1, 2].map(() => lab.pipeworkAsync([], { expect: 1 })));
  for (const ran of several) assert.equal(ran.stdout, lab.pipework([], { expect: 1 }).stdout);
});

test('capability probes once and says what is missing', (t) => {
  assert.equal(lab.capability('program:sh'), true);
  assert.equal(lab.lacks('program:no-such-program'), 'no-such-program is not installed');
  const skipped: (string | undefined)[] = [];
  const fake = { skip: (reason?: string) => skipped.push(reason) } as unknown as typeof t;
  assert.equal(lab.skipUnless(fake, 'program:sh'), false);
  assert.equal(lab.skipUnless(fake, 'program:sh', 'program:no-such-program'), true);
  assert.deepEqual(skipped, ['no-such-program is not installed']);
});

test('a container, a bridge and a veth pair: judges see them, pings pass, the snapshot tells', async (t) => {
  if (lab.skipUnless(t, 'root', 'docker', 'program:tcpdump')) return;
  const { pid, id, name } = lab.runContainer(t, 'lab');
  assert.match(id, /^[0-9a-f]{64}$/);
  assert.equal(lab.containerPid(name), pid);
  const before = lab.snapshot([pid]);
  // Something else may be at work on this machine.
  const ours = (line: string) => [bridge, nic, String(pid)].some((name) => line.includes(name));
  const changes = () => lab.diffSnapshots(before, lab.snapshot([pid])).filter(ours);
  assert.deepEqual(changes(), []);

  lab.cleanupBridge(t, bridge);
  lab.run('ip', ['link', 'add', bridge, 'type', 'bridge']);
  lab.run('ip', ['link', 'set', bridge, 'up']);
  lab.run('ip', ['addr', 'add', '192.168.243.1/24', 'dev', bridge]);
  const wire = lab.makeNic(t, nic);
  lab.run('ip', ['link', 'set', wire, 'master', bridge]);
  lab.run('ip', ['link', 'set', nic, 'netns', String(pid), 'name', 'eth1']);
  lab.runIn(pid, 'ip', ['addr', 'add', '192.168.243.2/24', 'brd', '+', 'dev', 'eth1']);
  lab.runIn(pid, 'ip', ['link', 'set', 'eth1', 'up']);

  assert.deepEqual(lab.bridgePorts(bridge), [wire]);
  assert.equal(lab.ipLink('host', wire)?.master, bridge);
  assert.equal(lab.ipLink(pid, 'eth1')?.linkinfo?.info_kind, 'veth');
  assert.equal(lab.ipLink(pid, 'eth9'), undefined);
  assert.equal(lab.linkExists(pid, 'eth1'), true);
  assert.deepEqual(lab.cidrs(pid, 'eth1'), ['192.168.243.2/24']);
  assert.equal(lab.ipAddrs(pid, 'eth1')[0]?.broadcast, '192.168.243.255');
  assert.deepEqual(
    lab.ipRoutes(pid).map(({ dst }) => dst),
    ['192.168.243.0/24'],
  );
  assert.equal(lab.ipRules(pid)[0]?.table, 'local');
  assert.equal(lab.ping(pid, '192.168.243.1', 3), true);
  assert.equal(lab.ping(pid, '192.168.243.9'), false);

  const { lines, frames } = await lab.sniff(pid, 'eth1', 'icmp', () => lab.ping('host', '192.168.243.2'));
  assert.match(lines[0] ?? '', /192\.168\.243\.1 > 192\.168\.243\.2: ICMP echo request/);
  assert.equal(frames.length, 2);
  assert.deepEqual([...(frames[0]?.subarray(12, 15) ?? [])], [8, 0, 0x45]);

  const changed = changes().map((line) => line.split(' ').slice(0, 4).join(' '));
  for (const line of [
    `+ host link ${bridge}`,
    `+ ${pid} link eth1`,
    `+ ${pid} addr eth1`,
    `+ ${pid} route -4`,
  ]) {
    assert.ok(changed.includes(line), `${line} in ${changed.join('\n')}`);
  }
  lab.run('ip', ['link', 'del', wire]);
  lab.run('ip', ['link', 'del', bridge]);
  assert.deepEqual(changes(), []);
});

test('a plain namespace has a name and a process in it', async (t) => {
  if (lab.skipUnless(t, 'root')) return;
  const netns = await lab.plainNetns(t, 'lab');
  lab.run('ip', ['-n', netns.name, 'link', 'add', 'pwtx', 'type', 'bridge']);
  assert.equal(lab.ipLink(netns.pid, 'pwtx')?.ifname, 'pwtx');
  assert.deepEqual(
    lab.ipLinks(netns.name).map(({ ifname }) => ifname),
    ['lo', 'pwtx'],
  );
});

test('Open vSwitch ports are read with their tags and ids', (t) => {
  if (lab.skipUnless(t, 'root', 'ovs')) return;
  const before = lab.snapshot();
  lab.makeOvsBridge(t, bridge);
  const wire = lab.makeNic(t, nic);
  const ids = ['external-ids:a.b=c', 'external-ids:d="1"'];
  lab.run('ovs-vsctl', ['add-port', bridge, wire, 'tag=100', '--', 'set', 'interface', wire, ...ids]);
  assert.deepEqual(lab.ovsPorts(bridge), [wire]);
  assert.equal(lab.ovsPorts('pwtnosuch'), undefined);
  assert.equal(lab.ovsPort('pwtnosuch'), undefined);
  const port = lab.ovsPort(wire);
  assert.ok((port?.ofport ?? -1) > 0);
  assert.deepEqual(
    { ...port, ofport: 1 },
    {
      bridge,
      tag: 100,
      trunks: [],
      portIds: {},
      externalIds: { 'a.b': 'c', d: '1' },
      ofport: 1,
      error: undefined,
    },
  );
  const changes = lab.diffSnapshots(before, lab.snapshot());
  assert.ok(
    changes.some((line) => line.startsWith(`+ ovs port ${wire} [100`)),
    changes.join('\n'),
  );
});
