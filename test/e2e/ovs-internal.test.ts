/** Interfaces that are ports of Open vSwitch themselves: made, changed, kept through what may happen to them, taken away. */
import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import test from 'node:test';
import {
  type Container,
  cidrs,
  containerPid,
  ipLink,
  ping,
  run,
  runContainer,
  runIn,
  skipUnless,
} from '../lab.ts';
import { type AgentHost, agentHost, applied, soon, startOvs } from './agent-ground.ts';
import { defaults, reaches } from './support.ts';

/** `ovs-vsctl get TABLE RECORD COLUMN`; empty when there is none. */
const get = (host: AgentHost, table: string, record: string, column: string): string =>
  host.run('ovs-vsctl', ['--if-exists', 'get', table, record, column], { expect: 'any' }).stdout.trim();

const portsOf = (host: AgentHost, bridge = 'ovs0'): string[] =>
  host.run('ovs-vsctl', ['list-ports', bridge], { expect: 'any' }).stdout.split('\n').filter(Boolean).sort();

/** The kernel's datapath knows its ports by their names: there they keep them, and what they are is another thing. */
const isKernels = existsSync('/sys/module/openvswitch');
const kind = isKernels ? 'openvswitch' : 'tun';

const kindOf = ({ pid }: Container, ifname: string): string | undefined =>
  ipLink(pid, ifname)?.linkinfo?.info_kind;

const waits = async (isSo: () => boolean, why: () => string): Promise<void> => {
  assert.ok((await soon(isSo, 20_000)) !== undefined, why());
};

test('internal ports of Open vSwitch', async (t) => {
  if (skipUnless(t, 'root', 'docker', 'ovs')) return;
  const host = await agentHost(t, 'int');
  const ovs = await startOvs(t, host);
  const [a, b] = [runContainer(t, 'inta'), runContainer(t, 'intb')];
  const port = isKernels ? 'pwta' : `vpwtapl${a.pid}`;
  const file = (network: string, own = ''): string => `
networks: { lan: { kind: ovs, bridge: ovs0, ${network}, gateway: 10.1.0.254 } }
attachments:
  - { container: ${a.name}, network: lan, ifname: pwta, addresses: 10.1.0.1/24, mac: "02:00:00:00:01:01"${own} }
  - { container: ${b.name}, network: lan, ifname: pwtb, addresses: 10.1.0.2/24 }
`;

  await t.test('made, with a tag, a MAC address, an address and a default route', () => {
    const said = applied(host, file('mode: internal, vlan: 100'));
    assert.match(said, new RegExp(`add-port ovs0 ${port} tag=100 -- set interface ${port} type=internal`));
    assert.match(said, new RegExp(`ip link set ${port} netns GUEST name pwta`));
    assert.equal(get(host, 'interface', port, 'type'), 'internal');
    assert.equal(get(host, 'port', port, 'tag'), '100');
    assert.equal(kindOf(a, 'pwta'), kind);
    assert.equal(ipLink(a.pid, 'pwta')?.address, '02:00:00:00:01:01');
    assert.deepEqual(cidrs(a.pid, 'pwta'), ['10.1.0.1/24']);
    assert.deepEqual(defaults(a.pid), ['via 10.1.0.254 dev pwta']);
    assert.ok(!host.links().includes(port));
    assert.ok(reaches(a.pid, '10.1.0.2'));
  });

  await t.test('VLANs are changed in place; a pair instead of it, and back', () => {
    const index = ipLink(a.pid, 'pwta')?.ifindex;
    applied(host, file('mode: internal, vlan: 100', ', vlan: 200'));
    assert.equal(get(host, 'port', port, 'tag'), '200');
    assert.ok(!ping(a.pid, '10.1.0.2'));
    applied(host, file('mode: internal, vlan: 100', ', vlan: 100, trunks: [300]'));
    assert.equal(get(host, 'port', port, 'vlan_mode'), 'native-untagged');
    assert.equal(ipLink(a.pid, 'pwta')?.ifindex, index);
    const said = applied(host, file('mode: internal, vlan: 100', ', mode: veth'));
    assert.match(said, new RegExp(`made anew, kind: ${kind} -> veth`));
    assert.equal(kindOf(a, 'pwta'), 'veth');
    assert.equal(portsOf(host).length, 2);
    assert.ok(reaches(a.pid, '10.1.0.2'));
    assert.match(applied(host, file('vlan: 100', ', mode: internal')), /made anew, kind: veth -> internal/);
    assert.equal(kindOf(a, 'pwta'), kind);
    assert.equal(kindOf(b, 'pwtb'), 'veth');
    assert.equal(portsOf(host).length, 2);
    assert.ok(reaches(a.pid, '10.1.0.2'));
    applied(host, file('mode: internal, vlan: 100'));
    assert.ok(reaches(a.pid, '10.1.0.2'));
  });

  await t.test('with the agent', async (t) => {
    const agent = await host.agent(t);
    const log = (): string => agent.log().split('\n').slice(-8).join('\n');
    const isRight = (): boolean =>
      cidrs(a.pid, 'pwta').join() === '10.1.0.1/24' &&
      defaults(a.pid).join() === 'via 10.1.0.254 dev pwta' &&
      ipLink(a.pid, 'pwta')?.address === '02:00:00:00:01:01' &&
      portsOf(host).length === 2 &&
      ping(a.pid, '10.1.0.2');
    assert.ok(isRight());

    await t.test('ovs-vswitchd starts anew, and makes its ports anew on the host', async () => {
      await ovs.kill();
      await ovs.start();
      await waits(isRight, log);
      assert.ok(!host.links().some((name) => portsOf(host).includes(name)), host.links().join());
    });

    await t.test('the port, or the interface, is deleted', async () => {
      for (const name of portsOf(host)) host.run('ovs-vsctl', ['del-port', name]);
      await waits(isRight, log);
      runIn(a.pid, 'ip', ['link', 'del', 'pwta']);
      await waits(isRight, log);
    });

    await t.test('the container ends: its port goes; it comes back: so does the port', async () => {
      run('docker', ['stop', '-t0', a.name]);
      await waits(() => portsOf(host).length === 1, log);
      assert.ok(!host.links().some((name) => name.includes('pwta')));
      run('docker', ['start', a.name]);
      const back = { ...a, pid: containerPid(a.name) };
      await waits(() => cidrs(back.pid, 'pwta').length === 1 && ping(back.pid, '10.1.0.2'), log);
    });
    await agent.stop('SIGTERM');
  });

  await t.test('without the agent the next command deletes the port of a container that is gone', () => {
    run('docker', ['rm', '-f', a.name]);
    const before = portsOf(host);
    host.pipewright(['attach', b.name, '--network', 'ovs:ovs0', '--ifname', 'eth2', '--once']);
    assert.equal(before.filter((name) => portsOf(host).includes(name)).length, 1);
  });

  await t.test('taken away, and nothing is left', () => {
    host.pipewright(['destroy']);
    assert.equal(ipLink(b.pid, 'pwtb'), undefined);
    assert.equal(host.run('ovs-vsctl', ['list-br']).stdout, '');
    assert.deepEqual(host.notes(), []);
  });
});
