/** One file for two hosts, joined by a wire, and `check` from each of them. */
import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { run, runContainer, skipUnless } from '../lab.ts';
import { type AgentHost, agentHost, startOvs } from './agent-ground.ts';

interface PairLine {
  readonly from: string;
  readonly to: string;
  readonly expected: boolean;
  readonly seen: boolean | null;
}

const [t1 = '', t2 = '', t3 = ''] = ['t1', 't2', 't3'].map((name) => `pwt-${name}-${process.pid}`);

const yaml = `hosts: [a, b]
networks:
  lan: { kind: bridge, bridge: brlan, subnet: 10.44.0.0/24, hostAddress: { a: 10.44.0.101/24, b: 10.44.0.102/24 } }
  other: { kind: bridge, bridge: brother, subnet: 10.45.0.0/24, host: b }
attachments:
  - { container: ${t1}, host: a, network: lan, addresses: 10.44.0.1/24 }
  - { container: ${t2}, host: b, network: lan, addresses: [10.44.0.2/24, 'fd44::2/64'] }
  - { container: ${t3}, host: b, network: other, addresses: 10.45.0.3/24 }
expect:
  - ${t1} -> ${t2}
  - ${t1} -/-> ${t3}
`;

/** A veth pair between two namespaces, each end on the bridge of its host. */
function joinHosts(t: TestContext, a: AgentHost, b: AgentHost): void {
  run('ip', [
    'link',
    'add',
    'wire',
    'netns',
    a.name,
    'type',
    'veth',
    'peer',
    'name',
    'wire',
    'netns',
    b.name,
  ]);
  t.after(() => run('ip', ['-n', a.name, 'link', 'del', 'wire'], { expect: 'any' }));
  for (const { name } of [a, b]) {
    run('ip', ['-n', name, 'link', 'set', 'wire', 'master', 'brlan', 'up']);
  }
}

function check(host: AgentHost, name: string, file: string, ...words: readonly string[]) {
  const args = ['check', '--state-dir', host.lasting, '--host', name, ...words, file];
  return host.pipewright(args, { expect: 'any' });
}

function pairs(host: AgentHost, name: string, file: string, ...words: readonly string[]): string[] {
  const { stdout } = check(host, name, file, '--json', ...words);
  const answer = JSON.parse(stdout) as { pairs: PairLine[] };
  return answer.pairs.map(({ from, to, expected, seen }) =>
    `${from} ${to} ${expected}/${seen}`.replaceAll(/pwt-(t\d)-\d+/g, '$1'),
  );
}

test('one file, two hosts: each makes its part, and check tells who reaches whom', async (t) => {
  const [a, b] = [await agentHost(t, 'hosts-a'), await agentHost(t, 'hosts-b')];
  for (const name of ['t1', 't2', 't3']) runContainer(t, name);
  const file = a.write(yaml);
  for (const [host, name] of [
    [a, 'a'],
    [b, 'b'],
  ] as const) {
    const args = ['apply', '--yes', '--state-dir', host.lasting, '--host', name, file];
    // The other host is not there yet, so what is expected of it is not so.
    const { code } = host.pipewright(args, { expect: 'any' });
    assert.equal(code, name === 'a' ? 1 : 0);
  }
  assert.deepEqual(
    a.links().filter((link) => link.startsWith('br')),
    ['brlan'],
  );
  joinHosts(t, a, b);

  assert.deepEqual(pairs(a, 'a', file), [
    't1/eth1 a true/true',
    't1/eth1 t2/eth1 on b true/true',
    't1/eth1 b true/true',
    'a t1/eth1 true/true',
    'a t2/eth1 on b true/true',
    'a b true/true',
  ]);
  const onB = check(b, 'b', file);
  assert.equal(onB.code, 0, onB.stdout + onB.stderr);
  assert.match(onB.stdout, /^expected\/seen\n/);
  assert.deepEqual(pairs(b, 'b', file, '--peer', 'a'), [
    't2/eth1 t1/eth1 on a true/true',
    't2/eth1 a true/true',
    'b t1/eth1 on a true/true',
    'b a true/true',
  ]);
  const nobody = check(b, 'b', file, '--peer', 'nobody');
  assert.equal(nobody.code, 1);
  assert.match(nobody.stderr, /nobody: no container or host of the files has this name; known: a, b, pwt-t1/);
  const onA = check(a, 'a', file);
  assert.equal(onA.code, 0, onA.stdout + onA.stderr);
  assert.match(onA.stdout, new RegExp(`${t1}\\s+${t2}\\s+ping\\s+reachable\\s+reachable`));

  run('ip', ['-n', b.name, 'link', 'set', 'wire', 'down']);
  const cut = check(a, 'a', file);
  assert.equal(cut.code, 1);
  assert.match(cut.stdout, /yes\/no !/);
  assert.match(cut.stdout, /nobody on lan answers for 10\.44\.0\.2, fd44::2/);
});

test('a host that the file has not is told which there are, and nothing is done', async (t) => {
  const host = await agentHost(t, 'hosts-c');
  const file = host.write(yaml);
  for (const command of ['plan', 'apply', 'check', 'status']) {
    const { code, stderr } = host.pipewright([command, '--host', 'c', file], { expect: 'any' });
    assert.equal(code, 1, `${command}: ${stderr}`);
    assert.match(stderr, /about a, b, and this host is c; say which of them this is: --host NAME/);
  }
  assert.deepEqual(
    host.links().filter((link) => link !== 'lo'),
    [],
  );
});

test('check: IPv6 alone, several networks, replicas, VLANs that must not meet, and who does not run', async (t) => {
  if (skipUnless(t, 'root', 'docker', 'ovs', 'ipv6')) return;
  const host = await agentHost(t, 'check');
  await startOvs(t, host);
  const [a, b] = [runContainer(t, 'cha'), runContainer(t, 'chb')];
  for (const nr of [1, 2]) runContainer(t, `chr${nr}`);
  const stopped = `pwt-chs-${process.pid}`;
  const file = host.write(`
networks:
  six: { kind: bridge, bridge: br6 }
  red: { kind: ovs, bridge: ovs0, vlan: 100 }
  blue: { kind: ovs, bridge: ovs0, vlan: 200 }
  many: { kind: bridge, bridge: brm, subnet: 10.46.0.0/24, range: 10.46.0.100-10.46.0.150 }
attachments:
  - { container: ${a.name}, network: six, addresses: 'fd66::1/64' }
  - { container: ${b.name}, network: six, addresses: 'fd66::2/64' }
  - { container: ${a.name}, network: red, ifname: eth2, addresses: 10.5.0.1/24 }
  - { container: ${b.name}, network: blue, ifname: eth2, addresses: 10.5.0.2/24 }
  - { container: "pwt-chr?-${process.pid}", network: many, addresses: auto }
  - { container: ${stopped}, network: six, addresses: 'fd66::9/64' }
`);
  host.on('apply', '--yes');
  const words = ['check', '--state-dir', host.lasting, '--json', file];
  const tried = (...more: readonly string[]) => {
    const { code, stdout } = host.pipewright([...words, ...more], { expect: 'any' });
    const { pairs } = JSON.parse(stdout) as { pairs: (PairLine & { detail: string })[] };
    const short = (key: string): string => key.replace(/^pwt-ch(.*)-\d+/, '$1');
    const lines = pairs.map(
      ({ from, to, expected, seen }) => `${short(from)} ${short(to)} ${expected}/${seen}`,
    );
    return { code, lines: lines.sort(), details: [...new Set(pairs.map(({ detail }) => detail))] };
  };
  const replicas = ['r1', 'r2'].flatMap((from, _, all) =>
    all.filter((to) => to !== from).map((to) => `${from}/eth1 ${to}/eth1 true/true`),
  );
  const others = [
    'a/eth1 b/eth1 true/true',
    'a/eth2 b/eth2 false/false',
    'b/eth1 a/eth1 true/true',
    'b/eth2 a/eth2 false/false',
  ];
  const withStopped = [
    'a/eth1 s/eth1 true/false',
    'b/eth1 s/eth1 true/false',
    's/eth1 a/eth1 true/null',
    's/eth1 b/eth1 true/null',
  ];
  const all = tried();
  assert.deepEqual([all.code, all.lines], [1, [...replicas, ...others, ...withStopped].sort()]);
  const said = tried('--peer', stopped);
  assert.deepEqual(
    [said.code, said.lines, said.details],
    [1, withStopped.slice(0, 2), [`${stopped} does not run`]],
  );
  // The table has its columns in the order of its rows.
  const { stdout } = host.pipewright(['check', '--state-dir', host.lasting, file], { expect: 1 });
  const [, head = '', ...rows] = stdout.split('\n');
  const columns = head.trim().split(/ +/);
  assert.deepEqual(
    columns,
    rows.slice(0, columns.length).map((row) => row.split(' ')[0]),
  );

  // What must not meet meets: somebody has given the port the other's tag.
  host.run('ovs-vsctl', ['set', 'port', `veth2pl${b.pid}`, 'tag=100']);
  run('docker', ['run', '-d', '--network', 'none', '--name', stopped, 'pipewright-test:1', 'sleep', '3600']);
  t.after(() => run('docker', ['rm', '-f', stopped], { expect: 'any' }));
  const crossed = tried('--peer', b.name);
  assert.deepEqual(crossed.code, 1);
  assert.ok(crossed.lines.includes('a/eth2 b/eth2 false/true'), crossed.lines.join('\n'));
  assert.ok(crossed.lines.includes('s/eth1 b/eth1 true/null'), crossed.lines.join('\n'));
  host.on('apply', '--yes');
  const healed = tried();
  assert.deepEqual(
    [healed.code, healed.lines.filter((line) => !/(true.true|false.false)$/.test(line))],
    [0, []],
  );
});
