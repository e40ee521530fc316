/** Ports of Open vSwitch for capture, what a port drops, and the host's own interfaces in VLANs. */
import assert from 'node:assert/strict';
import test from 'node:test';
import { type Container, cidrs, ipLink, ping, run, runContainer, runIn, skipUnless, sniff } from '../lab.ts';
import { type AgentHost, agentHost, applied, soon, startOvs } from './agent-ground.ts';
import { reaches } from './support.ts';

const vsctl = (host: AgentHost, ...args: readonly string[]): string =>
  host.run('ovs-vsctl', args, { expect: 'any' }).stdout.trim();

const mirrorsOf = (host: AgentHost): string[] =>
  vsctl(host, '--bare', '--columns=name', 'list', 'mirror').split('\n').filter(Boolean).sort();

const portOf = ({ pid }: Container): string => `veth1pl${pid}`;

test('a port of Open vSwitch that gets copies', async (t) => {
  if (skipUnless(t, 'root', 'docker', 'ovs', 'program:tcpdump')) return;
  const host = await agentHost(t, 'mir');
  await startOvs(t, host);
  const [a, b, c] = [runContainer(t, 'mira'), runContainer(t, 'mirb'), runContainer(t, 'mirc')];
  const file = (mirror: string): string => `
networks:
  lan: { kind: ovs, bridge: ovs0, vlan: 100 }
  tap: { kind: ovs, bridge: ovs0 }
attachments:
  - { container: ${c.name}, network: tap${mirror} }
  - { container: ${a.name}, network: lan, addresses: 10.1.0.1/24 }
  - { container: ${b.name}, network: lan, addresses: 10.1.0.2/24 }
`;
  /** Of a ping between two others, and what comes back, what the capturing container sees. */
  const seen = async (): Promise<string[]> => {
    assert.ok(reaches(a.pid, '10.1.0.2'));
    const { lines } = await sniff(c.pid, 'eth1', 'icmp or (vlan and icmp)', () => ping(a.pid, '10.1.0.2'));
    return [
      ...new Set(
        lines.flatMap((line) => /vlan (\d+).*echo (request|reply)/.exec(line)?.slice(1).join(' ') ?? []),
      ),
    ];
  };

  await t.test('of all that passes the bridge', async () => {
    const said = applied(host, file(', mirror: all'));
    assert.match(said, new RegExp(`create mirror name=${portOf(c)} select-all=true output-port=@p`));
    assert.match(said, /gets a copy of what passes the bridge/);
    assert.deepEqual(await seen(), ['100 request', '100 reply']);
  });

  await t.test('of some, one way, in some VLANs; edits are made in place', async () => {
    const said = applied(host, file(`, mirror: { of: [${a.name}/eth1], vlans: [100] }`));
    assert.match(said, new RegExp(`mirror: all -> src ${portOf(a)} dst ${portOf(a)} vlans 100`));
    assert.deepEqual(await seen(), ['100 request', '100 reply']);
    applied(host, file(`, mirror: { of: [${a.name}], vlans: [200] }`));
    assert.deepEqual(await seen(), []);
    applied(host, file(`, mirror: { of: [port:nothing, ${a.name}], direction: src }`));
    const columns = ['select_src_port', 'select_dst_port'].map((column) =>
      vsctl(host, 'get', 'mirror', portOf(c), column),
    );
    assert.match(columns.join(' '), /^\[[0-9a-f-]{36}\] \[\]$/);
    assert.deepEqual(mirrorsOf(host), [portOf(c)]);
  });

  await t.test("with the agent: what is changed is put right, and somebody else's stays", async (t) => {
    const agent = await host.agent(t);
    const log = (): string => agent.log().split('\n').slice(-6).join('\n');
    vsctl(
      host,
      '--',
      '--id=@m',
      'create',
      'mirror',
      'name=theirs',
      'select-all=true',
      '--',
      'add',
      'bridge',
      'ovs0',
      'mirrors',
      '@m',
    );
    const isRight = (): boolean =>
      mirrorsOf(host).join() === ['theirs', portOf(c)].sort().join() &&
      /^\[[0-9a-f-]{36}\]$/.test(vsctl(host, 'get', 'mirror', portOf(c), 'select_src_port')) &&
      vsctl(host, 'get', 'mirror', portOf(c), 'select_all') === 'false';
    for (const change of [
      () => vsctl(host, 'remove', 'bridge', 'ovs0', 'mirrors', portOf(c)),
      () => vsctl(host, 'set', 'mirror', portOf(c), 'select_all=true'),
      () => vsctl(host, 'del-port', portOf(a)),
      () => vsctl(host, 'del-port', portOf(c)),
    ]) {
      assert.ok(isRight(), log());
      change();
      assert.ok((await soon(isRight, 20_000)) !== undefined, log());
    }
    host.write(file(''));
    assert.ok((await soon(() => mirrorsOf(host).join() === 'theirs', 20_000)) !== undefined, log());
    host.write(file(', mirror: all'));
    assert.ok((await soon(() => mirrorsOf(host).length === 2, 20_000)) !== undefined, log());
    await agent.stop('SIGTERM');
  });

  await t.test('it goes with the attachment', () => {
    host.pipewright(['detach', c.name]);
    assert.deepEqual(mirrorsOf(host), ['theirs']);
    const words = ['--network', 'ovs:ovs0', '--mirror', `${a.name},${b.name}`, '--mirror-direction', 'dst'];
    host.pipewright(['attach', c.name, ...words]);
    assert.deepEqual(mirrorsOf(host), ['theirs', portOf(c)].sort());
    run('docker', ['rm', '-f', c.name]);
    // The kernel takes its time for a namespace that nobody uses.
    host.run('ip', ['link', 'del', portOf(c)], { expect: 'any' });
    const said = applied(
      host,
      `networks: { lan: { kind: ovs, bridge: ovs0, vlan: 100 } }
attachments: [{ container: ${a.name}, network: lan, addresses: 10.1.0.1/24, policing: { rate: 10mbit, burst: 1mbit } }]`,
    );
    assert.deepEqual(mirrorsOf(host), ['theirs'], said);
  });

  await t.test('what a port drops: set, changed in place, put right, asked for no more', () => {
    const policing = (): string =>
      ['ingress_policing_rate', 'ingress_policing_burst']
        .map((column) => vsctl(host, 'get', 'interface', portOf(a), column))
        .join(' ');
    const wants = (own: string): string =>
      applied(
        host,
        `networks: { lan: { kind: ovs, bridge: ovs0, vlan: 100 } }
attachments: [{ container: ${a.name}, network: lan, addresses: 10.1.0.1/24${own} }]`,
      );
    assert.equal(policing(), '10000 1000');
    vsctl(host, 'set', 'interface', portOf(a), 'ingress_policing_rate=5');
    const said = wants(', policing: 20mbit');
    assert.match(said, /policing: 5 kbit\/s with bursts of 1000 kbit -> 20000 kbit\/s/);
    assert.match(said, /ovs0 has the userspace datapath, on which policing has no effect/);
    assert.equal(policing(), '20000 0');
    wants('');
    assert.equal(policing(), '0 0');
  });

  await t.test('a tunnel of VLANs: which inner ones, which tag, and what it needs', () => {
    const mode = 'vlan: 300, vlanMode: dot1q-tunnel, cvlans: [10], qinqEthtype: 802.1q';
    const yaml = `networks: { lan: { kind: ovs, bridge: ovs0, ${mode} } }
attachments: [{ container: ${a.name}, network: lan, addresses: 10.1.0.1/24 }]`;
    assert.match(applied(host, yaml), /ovs-vsctl set Open_vSwitch \. other_config:vlan-limit=2/);
    const port = vsctl(host, 'get', 'interface', portOf(a), 'ofport');
    const trace = (vid: number): string => {
      const flow = `in_port=${port},dl_src=02:00:00:00:00:01,dl_dst=02:00:00:00:00:02,dl_vlan=${vid},dl_vlan_pcp=0`;
      return host.run('ovs-appctl', ['ofproto/trace', 'ovs0', flow]).stdout;
    };
    assert.match(trace(10), /Datapath actions: push_vlan\(vid=300,pcp=0\)/);
    assert.match(trace(20), /Datapath actions: drop/);
  });
});

test("the host's addresses in VLANs of one Open vSwitch bridge", async (t) => {
  if (skipUnless(t, 'root', 'docker', 'ovs')) return;
  const host = await agentHost(t, 'hov');
  await startOvs(t, host);
  const [a, b] = [runContainer(t, 'hova'), runContainer(t, 'hovb')];
  const file = (blue = 200): string => `
networks:
  red: { kind: ovs, bridge: ovs0, vlan: 100, hostAddress: [10.1.0.254/24, "fd00:1::fe/64"] }
  blue: { kind: ovs, bridge: ovs0, vlan: ${blue}, hostAddress: 10.2.0.254/24 }
  plain: { kind: ovs, bridge: ovs0, hostAddress: 10.3.0.254/24 }
attachments:
  - { container: ${a.name}, network: red, addresses: [10.1.0.1/24, "fd00:1::1/64"] }
  - { container: ${b.name}, network: blue, addresses: [10.2.0.1/24, 10.1.0.77/24] }
`;

  await t.test('each on a port of its own, reached from its VLAN only', () => {
    const said = applied(host, file());
    assert.match(said, /add-port ovs0 ovs0\.100 tag=100 -- set interface ovs0\.100 type=internal/);
    assert.equal(vsctl(host, 'get', 'port', 'ovs0.200', 'tag'), '200');
    assert.equal(vsctl(host, 'get', 'port', 'ovs0', 'tag'), '[]');
    assert.deepEqual(cidrs(host.name, 'ovs0'), ['10.3.0.254/24']);
    assert.ok(reaches(host.name, '10.1.0.1'));
    assert.ok(reaches(host.name, '10.2.0.1'));
    assert.ok(reaches(host.name, 'fd00:1::1'));
    assert.ok(!ping(b.pid, '10.1.0.254'));
  });

  await t.test("a container's end of a pair is not the host's to answer on", () => {
    const end = ipLink(host.name, portOf(b))?.address;
    runIn(b.pid, 'ip', ['neigh', 'flush', 'all']);
    ping(b.pid, '10.1.0.254');
    // What answers, if any, is the host's port in that VLAN.
    const { stdout } = runIn(b.pid, 'ip', ['neigh', 'show', '10.1.0.254']);
    assert.ok(end !== undefined && !stdout.includes(end), stdout);
    assert.deepEqual(cidrs(host.name, portOf(b)), []);
  });

  await t.test('what is changed is put right; another VLAN; no more', async () => {
    vsctl(host, 'set', 'port', 'ovs0.100', 'tag=7');
    host.run('sysctl', ['-w', `net.ipv4.conf.${portOf(a)}.arp_ignore=0`]);
    assert.match(applied(host, file()), /tag: 7 -> 100[\s\S]*arp_ignore=8/);
    vsctl(host, 'del-port', 'ovs0.100');
    applied(host, file());
    assert.ok(reaches(host.name, '10.1.0.1'));
    applied(host, file(300));
    assert.equal(ipLink(host.name, 'ovs0.200'), undefined);
    assert.ok(reaches(host.name, '10.2.0.1'));
    applied(host, 'networks: { plain: { kind: ovs, bridge: ovs0, hostAddress: 10.3.0.254/24 } }');
    assert.equal(vsctl(host, 'list-ports', 'ovs0'), '');
    host.pipewright(['destroy']);
    assert.equal(vsctl(host, 'list-br'), '');
    assert.deepEqual(host.notes(), []);
  });
});
