/** Trunk ports of Open vSwitch from topology files: made, seen on the wire, changed in place, kept. */
import assert from 'node:assert/strict';
import test from 'node:test';
import { type Container, ipLink, runContainer, runIn, skipUnless, sniff } from '../lab.ts';
import { type AgentHost, agentHost, soon, startOvs } from './agent-ground.ts';

/** A column of the host's end of a container's eth1, as ovs-vsctl prints it. */
const column = (host: AgentHost, { pid }: Container, name: string): string =>
  host.run('ovs-vsctl', ['get', 'port', `veth1pl${pid}`, name], { expect: 'any' }).stdout.trim();

const vlansOf = (host: AgentHost, container: Container): string =>
  `${column(host, container, 'tag')} ${column(host, container, 'trunks')}`;

function made(host: AgentHost, yaml: string): string {
  host.write(yaml);
  const ran = host.on('apply', '--yes');
  assert.equal(ran.code, 0, ran.stdout + ran.stderr);
  assert.equal(host.on('plan').stdout, 'nothing to do\n');
  return ran.stdout;
}

test('trunks', async (t) => {
  if (skipUnless(t, 'root', 'docker', 'ovs', 'program:tcpdump')) return;
  const host = await agentHost(t, 'trk');
  await startOvs(t, host);
  host.run('ovs-vsctl', ['add-br', 'ovs0', '--', 'set', 'bridge', 'ovs0', 'datapath_type=netdev']);
  const [a, b, c] = [runContainer(t, 'trka'), runContainer(t, 'trkb'), runContainer(t, 'trkc')];
  const file = (trunks: string, own = ''): string => `
networks:
  trunk: { kind: ovs, bridge: ovs0, ${trunks} }
  v100: { kind: ovs, bridge: ovs0, vlan: 100 }
  v300: { kind: ovs, bridge: ovs0, vlan: 300 }
attachments:
  - { container: ${a.name}, network: trunk${own} }
  - { container: ${b.name}, network: v100, addresses: 10.1.0.2/24 }
  - { container: ${c.name}, network: v300, addresses: 10.1.0.3/24 }
`;
  /** The VLANs of what the container on the trunk hears when the others ask for an address. */
  const heard = async (): Promise<string[]> => {
    const { lines } = await sniff(a.pid, 'eth1', 'vlan and arp', () => {
      for (const { pid } of [b, c])
        runIn(pid, 'arping', ['-c1', '-w1', '-I', 'eth1', '10.1.0.77'], { expect: 'any' });
    });
    return [...new Set(lines.flatMap((line) => /vlan (\d+)/.exec(line)?.[1] ?? []))].sort();
  };

  await t.test('the network says them, and the wire has them, with their tags', async () => {
    const said = made(host, file('trunks: [200, 100]'));
    assert.match(said, new RegExp(`ovs-vsctl add-port ovs0 veth1pl${a.pid} trunks=100,200 `));
    assert.equal(vlansOf(host, a), '[] [100, 200]');
    assert.equal(vlansOf(host, b), '100 []');
    assert.deepEqual(await heard(), ['100']);
  });

  await t.test('others in place; the attachment goes before the network; a tag and back', async () => {
    const index = ipLink(a.pid, 'eth1')?.ifindex;
    assert.match(made(host, file('trunks: [0, 300]')), /trunks: 100,200 -> 0,300/);
    assert.deepEqual(await heard(), ['300']);
    made(host, file('trunks: [0, 300]', ', trunks: [100, 300]'));
    assert.equal(vlansOf(host, a), '[] [100, 300]');
    assert.deepEqual(await heard(), ['100', '300']);
    assert.match(
      made(host, file('trunks: [300]', ', vlan: 100')),
      /tag: none -> 100, trunks: 100,300 -> none/,
    );
    assert.equal(vlansOf(host, a), '100 []');
    made(host, file('vlan: 100', ', trunks: 5'));
    assert.equal(vlansOf(host, a), '[] [5]');
    made(host, file('mtu: 1500'));
    assert.equal(vlansOf(host, a), '[] []');
    assert.equal(ipLink(a.pid, 'eth1')?.ifindex, index);
  });

  await t.test('the agent keeps them, and the list shows them', async (t) => {
    host.write(file('trunks: [100, 200]'));
    const agent = await host.agent(t);
    assert.equal(vlansOf(host, a), '[] [100, 200]');
    const { stdout } = host.pipewright(['list']);
    assert.match(stdout, /ovs:ovs0@trunks=100,200/);
    for (const change of ['trunks=5', 'trunks=[]', 'tag=7', 'trunks=100,200,300']) {
      host.run('ovs-vsctl', ['set', 'port', `veth1pl${a.pid}`, change]);
      const took = await soon(() => vlansOf(host, a) === '[] [100, 200]');
      assert.ok(took !== undefined, `${change}: ${vlansOf(host, a)}\n${agent.log()}`);
    }
    await soon(() => host.status().every(({ state }) => state === 'healthy'));
    assert.ok(host.status().some(({ detail }) => /trunks=100,200/.test(detail)));
  });
});
