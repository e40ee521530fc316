/** `pipewright import --from-host`: what is there becomes a file, which changes nothing, and brings all of it back. */
import assert from 'node:assert/strict';
import { rmSync } from 'node:fs';
import test, { type TestContext } from 'node:test';
import {
  type Container,
  cidrs,
  containerPid,
  ipLink,
  ipRoutes,
  jsonIn,
  linkExists,
  run,
  runContainer,
  runIn,
  skipUnless,
} from '../lab.ts';
import { type AgentHost, agentHost, soon, startOvs } from './agent-ground.ts';
import { defaults, emptyGuest, linkNames, nicOn } from './support.ts';

interface Ground {
  readonly host: AgentHost;
  readonly a: Container;
  readonly b: Container;
  /** On Docker's own bridge. */
  readonly c: Container;
}

const end = (pid: number, ifname = 'eth1'): string => `v${ifname}pl${pid}`;

function imported(host: AgentHost): { yaml: string; notes: string[] } {
  const { stdout, code } = host.pipewright(['import', '--from-host', '--json'], { expect: 'any' });
  const answer = JSON.parse(stdout) as { yaml: string; notes: string[] };
  assert.equal(code, answer.notes.length > 0 ? 1 : 0);
  // Containers of other tests are there as well, and not connected to this host.
  const isOthers = (line: string): boolean =>
    line.includes(' was left out: ') && !line.includes(`-${process.pid}/`);
  return {
    yaml: answer.yaml
      .split('\n')
      .filter((line) => !isOthers(line))
      .join('\n'),
    notes: answer.notes.filter((note) => !isOthers(note)),
  };
}

const vlansOf = (host: AgentHost, port: string): string =>
  host
    .run('ovs-vsctl', ['get', 'port', port, 'tag', 'trunks'], { expect: 'any' })
    .stdout.replace('\n', ' ')
    .trim();

/** What others say of the container's interfaces, without what is chosen anew each time. */
function lookOf(host: AgentHost, pid: number): string[] {
  return [
    ...linkNames(pid).flatMap((name) => [
      `${name} ${ipLink(pid, name)?.linkinfo?.info_kind} mtu ${ipLink(pid, name)?.mtu} ${cidrs(pid, name).join()}`,
      ...jsonIn(pid, 'tc', ['-j', 'qdisc', 'show', 'dev', name]).map(({ kind, options }) =>
        kind === 'tbf' ? `${name} ${JSON.stringify(options)}` : '',
      ),
      `${name} ${vlansOf(host, end(pid, name))}`,
    ]),
    ...['-4', '-6'].flatMap((family) =>
      runIn(pid, 'ip', [family, 'route', 'show', 'table', 'all'])
        .stdout.split('\n')
        .filter((line) => !/fe80|ff00|table local/.test(line))
        .sort(),
    ),
    ...runIn(pid, 'ip', ['rule']).stdout.split('\n'),
  ]
    .map((line) => line.replace('proto 112 ', '').trim())
    .filter((line) => !/eth0|172\.17\./.test(line));
}

const onHost = ({ links, name }: AgentHost): string[] =>
  links()
    .filter((link) => /^(br|ovs|pwh)/.test(link) && !link.startsWith('ovs-'))
    .map((link) => `${link} ${cidrs(name, link).join()}`);

/** The file changes nothing; with everything taken away it brings it back. */
function roundTrip(host: AgentHost, containers: readonly Container[]): string {
  const { yaml, notes } = imported(host);
  assert.deepEqual(notes, []);
  host.write(yaml);
  const planned = host.on('plan');
  assert.equal(planned.stdout + planned.stderr, 'nothing to do\n', yaml);
  const before = [onHost(host), ...containers.map(({ pid }) => lookOf(host, pid))];
  host.pipewright(['destroy']);
  for (const { pid } of containers) assert.ok(linkNames(pid).every((name) => name === 'eth0'));
  const applied = host.on('apply', '--yes');
  assert.equal(applied.code, 0, applied.stdout + yaml);
  assert.deepEqual([onHost(host), ...containers.map(({ pid }) => lookOf(host, pid))], before);
  return yaml;
}

const cases: Record<string, (ground: Ground, t: TestContext) => void | Promise<void>> = {
  'what commands have made, in one go and in several': ({ host, a, b, c }) => {
    nicOn(host, 'nic0');
    const attach = (container: Container, ...words: readonly string[]): void =>
      void host.pipewright(['attach', container.name, ...words]);
    attach(a, '--network', 'bridge:br0', '--address', '10.1.0.1/24@10.1.0.254', '--mtu', '1400');
    // The second says nothing of addresses: they stay, and are in the file.
    attach(a, '--network', 'bridge:br0', '--route', '10.5.0.0/16 via 10.1.0.9 metric 7');
    attach(a, '--network', 'bridge:br0', '--route', 'default via 10.1.0.9 table 100');
    attach(
      a,
      '--network',
      'ovs:ovs0',
      '--vlan',
      '100',
      '--ifname',
      'eth2',
      '--address',
      '10.2.0.1/24,fd02::1/64',
    );
    attach(
      b,
      '--network',
      'ovs:ovs0',
      '--vlan',
      '200',
      '--address',
      '10.2.0.1/24',
      '--mac',
      '02:00:00:00:00:07',
    );
    attach(
      b,
      '--network',
      'macvlan:nic0',
      '--mode',
      'private',
      '--ifname',
      'lan0',
      '--address',
      '10.3.0.1/24',
    );
    host.pipework(['br0', c.name, '10.1.0.3/24']);
    const yaml = roundTrip(host, [a, b, c]);
    assert.match(yaml, /default via 10\.1\.0\.9 table 100/);
    assert.match(yaml, /mode: private/);
    assert.equal(ipLink(b.pid, 'eth1')?.address, '02:00:00:00:00:07');
    assert.ok(!yaml.includes('ifname: eth0') && !yaml.includes('172.'), yaml);
  },

  'what a file has made, its networks with all that they have': ({ host, a, b, c }) => {
    nicOn(host, 'nic0');
    host.write(`
networks:
  office: { kind: bridge, bridge: br0, subnet: 10.1.0.0/24, gateway: 10.1.0.254, range: 10.1.0.100-10.1.0.120, hostAddress: 10.1.0.254/24, mtu: 1450 }
  trunk: { kind: ovs, bridge: ovs0, trunks: [100, 200] }
  red: { kind: ovs, bridge: ovs0, vlan: 100, subnet: 10.2.0.0/24 }
  idle: { kind: bridge, bridge: br9, hostAddress: 10.9.0.1/24 }
  nic: { kind: macvlan, uplink: nic0, subnet: 10.3.0.0/24, hostAddress: 10.3.0.254/24 }
attachments:
  - { container: ${a.name}, network: office, addresses: auto, sysctls: { ipv4.forwarding: 1 }, rate: { in: 8mbit, out: 16mbit } }
  - { container: ${a.name}, network: trunk, ifname: eth2 }
  - { container: ${b.name}, network: red, addresses: 10.2.0.2/24, rules: [{ from: 10.2.0.2, table: 100, priority: 1000 }], routes: [default via 10.2.0.9 table 100] }
  - { container: ${b.name}, network: red, vlan: 300, ifname: eth2, addresses: 10.2.0.3/24 }
  - { container: ${b.name}, network: nic, ifname: eth3, addresses: 10.3.0.2/24, mtu: 1400 }
  - { container: ${c.name}, network: office, addresses: 10.1.0.7/24, gateway: none }
`);
    const applied = host.on('apply', '--yes');
    assert.equal(applied.code, 0, applied.stdout);
    host.pipewright([
      'attach',
      c.name,
      '--network',
      'bridge:br0',
      '--ifname',
      'eth5',
      '--address',
      '10.77.0.1/24',
    ]);
    const yaml = roundTrip(host, [a, b, c]);
    for (const part of [
      'office:',
      'range: 10.1.0.100-10.1.0.120',
      'hostAddress: 10.3.0.254/24',
      'gateway: none',
    ])
      assert.ok(yaml.includes(part), `${part}\n${yaml}`);
  },

  'ports of Open vSwitch of every sort, and copies': ({ host, a, b, c }) => {
    host.run('ovs-vsctl', ['set', 'Open_vSwitch', '.', 'other_config:vlan-limit=2']);
    host.write(`
networks:
  int: { kind: ovs, bridge: ovs0, vlan: 100, mode: internal }
  tagged: { kind: ovs, bridge: ovs0, vlan: 10, trunks: [20, 30], vlanMode: native-tagged }
  untagged: { kind: ovs, bridge: ovs0, vlan: 10, trunks: [20, 30] }
  tunnel: { kind: ovs, bridge: ovs0, vlan: 300, vlanMode: dot1q-tunnel, cvlans: [10], qinqEthtype: 802.1q }
  tap: { kind: ovs, bridge: ovs0 }
attachments:
  - { container: ${a.name}, network: int, ifname: pwta, addresses: 10.1.0.1/24 }
  - { container: ${a.name}, network: tagged, ifname: eth2, addresses: 10.2.0.1/24, policing: { rate: 10mbit, burst: 1mbit } }
  - { container: ${a.name}, network: untagged, ifname: eth3, addresses: 10.3.0.1/24, policing: 5mbit }
  - { container: ${b.name}, network: tunnel, addresses: 10.4.0.1/24 }
  - { container: ${b.name}, network: tap, ifname: pwtb, mode: internal }
  - { container: ${c.name}, network: tap, mirror: { of: [${a.name}/eth2], direction: src, vlans: [10] } }
  - { container: ${c.name}, network: tap, ifname: eth2, mirror: all }
`);
    const applied = host.on('apply', '--yes');
    assert.equal(applied.code, 0, applied.stdout);
    const words = ['--network', 'ovs:ovs0', '--ifname', 'eth4', '--vlan', '11', '--trunks', '20'];
    host.pipewright(['attach', b.name, ...words, '--vlan-mode', 'native-tagged']);
    const columns = (): string =>
      ['port', 'interface', 'mirror']
        .map((table) => {
          const shown =
            table === 'port' ? 'tag,trunks,vlan_mode,cvlans,other_config' : 'type,ingress_policing_rate';
          const names = table === 'mirror' ? 'name,select_all,select_vlan' : `name,${shown}`;
          return host
            .run('ovs-vsctl', ['--format=csv', `--columns=${names}`, 'list', table])
            .stdout.split('\n')
            .sort();
        })
        .join();
    const before = columns();
    roundTrip(host, [a, b, c]);
    assert.equal(columns(), before);
  },

  'an empty host, and a file besides': ({ host }) => {
    const { yaml, notes } = imported(host);
    assert.deepEqual([yaml.trim(), notes], ['version: 1', []]);
    const said = host.pipewright(['import', '--from-host', 'x.sh'], { expect: 1 }).stderr;
    assert.equal(said, 'pipewright: import x.sh: with --from-host no file is read\n');
  },

  'what somebody else has made: as it was when all have started anew': async ({ host, a, b, c }) => {
    nicOn(host, 'nic0');
    host.ip('link', 'add', 'br7', 'type', 'bridge');
    host.ip('link', 'set', 'br7', 'up');
    const pair = (pid: number, ifname: string, name: string): void => {
      host.ip('link', 'add', name, 'type', 'veth', 'peer', 'name', ifname, 'netns', String(pid));
      host.ip('link', 'set', name, 'up');
      runIn(pid, 'ip', ['link', 'set', ifname, 'up']);
    };
    pair(a.pid, 'eth1', 'hand1');
    host.ip('link', 'set', 'hand1', 'master', 'br7');
    runIn(a.pid, 'sh', ['-c', 'echo 0 > /proc/sys/net/ipv6/conf/eth1/disable_ipv6']);
    for (const words of [
      ['link', 'set', 'eth1', 'address', '02:00:00:00:00:77', 'mtu', '1300'],
      ['addr', 'add', '10.7.0.1/24', 'dev', 'eth1'],
      ['addr', 'add', 'fd07::1/64', 'dev', 'eth1'],
      ['route', 'add', 'default', 'via', '10.7.0.254'],
      ['route', 'add', '10.8.0.0/16', 'via', '10.7.0.253', 'metric', '20'],
      ['route', 'add', 'default', 'via', '10.7.0.253', 'table', '100'],
      ['rule', 'add', 'from', '10.7.0.1', 'table', '100', 'priority', '900'],
    ])
      runIn(a.pid, 'ip', words);
    pair(b.pid, 'eth1', 'hand2');
    pair(b.pid, 'eth2', 'hand3');
    pair(b.pid, 'eth3', 'hand4');
    pair(b.pid, 'eth4', 'hand5');
    host.run('ovs-vsctl', [
      'add-port',
      'ovs0',
      'hand2',
      'tag=100',
      '--',
      'add-port',
      'ovs0',
      'hand3',
      'trunks=200,100',
      ...['--', 'add-port', 'ovs0', 'hand5', 'tag=7', 'trunks=9,8', 'vlan_mode=native-tagged'],
      ...['--', 'set', 'interface', 'hand5', 'ingress_policing_rate=5000'],
    ]);
    host.ip('link', 'add', 'mv0', 'link', 'nic0', 'type', 'macvlan', 'mode', 'bridge');
    host.ip('link', 'set', 'mv0', 'netns', String(c.pid), 'name', 'lan0');
    runIn(c.pid, 'ip', ['link', 'set', 'lan0', 'up']);
    runIn(c.pid, 'ip', ['addr', 'add', '10.9.0.1/24', 'dev', 'lan0']);
    const before = [lookOf(host, a.pid), lookOf(host, c.pid)];
    const macs = (a: number, b: number, c: number) => [
      ipLink(a, 'eth1')?.address,
      ipLink(b, 'eth1')?.address,
      ipLink(c, 'lan0')?.address,
    ];
    const had = macs(a.pid, b.pid, c.pid);
    const { yaml, notes } = imported(host);
    assert.deepEqual(notes, [`${b.name}/eth3 was left out: its other end hand4 is a port of no bridge`]);
    assert.ok(!yaml.includes('eth0') && yaml.includes('made by something else'), yaml);
    host.write(yaml);
    assert.equal(host.on('plan').code, 1, 'what is there is not ours');
    for (const { name } of [a, b, c]) run('docker', ['restart', '-t', '0', name]);
    host.ip('link', 'del', 'br7');
    host.run('ovs-vsctl', ['del-br', 'ovs0']);
    // The kernel takes a moment to take down the namespace that a container had before, with the MAC addresses in it.
    await soon(() => host.on('apply', '--yes').code === 0, 30_000);
    assert.equal(host.on('plan').stdout, 'nothing to do\n', yaml);
    const [pa, pb, pc] = [containerPid(a.name), containerPid(b.name), containerPid(c.name)];
    assert.deepEqual([lookOf(host, pa), lookOf(host, pc)], before);
    assert.deepEqual(macs(pa, pb, pc), had);
    assert.equal(vlansOf(host, end(pb)), '100 []');
    assert.equal(vlansOf(host, end(pb, 'eth2')), '[] [100, 200]');
    assert.equal(vlansOf(host, end(pb, 'eth4')), '7 [8, 9]');
    const [mode, rate] = [
      ['port', 'vlan_mode'],
      ['interface', 'ingress_policing_rate'],
    ].map(([table = '', column = '']) =>
      host.run('ovs-vsctl', ['get', table, end(pb, 'eth4'), column]).stdout.trim(),
    );
    assert.deepEqual([mode, rate], ['native-tagged', '5000']);
    assert.equal(ipLink(host.name, end(pa))?.master, 'br7');
    assert.deepEqual(defaults(pa), ['via 10.7.0.254 dev eth1']);
    assert.equal(ipRoutes(pa, 4, 'table', '100')[0]?.gateway, '10.7.0.253');
    assert.ok(linkExists(pc, 'eth0'));
  },
};

/** As before everything, with an Open vSwitch bridge that is the user's. */
function empty({ host, a, b, c }: Ground): void {
  host.pipewright(['destroy']);
  host.run('ovs-vsctl', ['--if-exists', 'del-br', 'ovs0']);
  for (const { pid } of [a, b, c]) emptyGuest(pid, 'eth0');
  for (const link of host.links())
    if (!link.startsWith('ovs')) host.run('ip', ['link', 'del', link], { expect: 'any' });
  for (const folder of [host.stateDir, host.lasting]) rmSync(folder, { recursive: true, force: true });
  host.run('ovs-vsctl', ['add-br', 'ovs0', '--', 'set', 'bridge', 'ovs0', 'datapath_type=netdev']);
}

test('import from the host', async (t) => {
  if (skipUnless(t, 'root', 'docker', 'ovs', 'macvlan', 'ipv6')) return;
  const host = await agentHost(t, 'imh');
  await startOvs(t, host);
  const ground = {
    host,
    a: runContainer(t, 'ima'),
    b: runContainer(t, 'imb'),
    c: runContainer(t, 'imc', { network: 'bridge' }),
  };
  for (const [name, act] of Object.entries(cases)) {
    await t.test(name, async (t) => {
      empty(ground);
      await act(ground, t);
    });
  }
});
