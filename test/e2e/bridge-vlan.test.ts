/** VLANs on Linux bridges: access and trunk ports, the host in a VLAN, bridges that somebody else made. */
import assert from 'node:assert/strict';
import { rmSync } from 'node:fs';
import test, { type TestContext } from 'node:test';
import {
  type Container,
  cidrs,
  ensureImage,
  ipLink,
  linkExists,
  ping,
  plainNetns,
  runContainer,
  runIn,
  skipUnless,
} from '../lab.ts';
import { agentHost, soon } from './agent-ground.ts';
import { changesBy, emptyGuest, nicOn, type OwnHost, ownHost, reaches, vlansOf } from './support.ts';

interface Guest {
  readonly name: string;
  readonly pid: number;
}

/** A host and four namespaces that stand for containers: no engine is needed. */
interface Ground {
  readonly host: OwnHost;
  readonly guests: readonly [Guest, Guest, Guest, Guest];
}

const portOf = (guest: Guest): string => `veth1pl${guest.pid}`;

function connect(host: OwnHost, guest: Guest, last: number, ...words: readonly string[]): string {
  const address = `10.3.0.${last}/24`;
  const { stdout } = host.pipewright([
    'attach',
    `pid:${guest.pid}`,
    '--network',
    'bridge:br0',
    '--address',
    address,
    ...words,
  ]);
  return stdout;
}

const filters = (host: OwnHost): unknown => ipLink(host.name, 'br0')?.linkinfo?.info_data?.vlan_filtering;

const cases: Record<string, (ground: Ground) => void | Promise<void>> = {
  'access ports: those of one VLAN reach each other, and nobody else; a change is made in place': ({
    host,
    guests: [a, b, c, d],
  }) => {
    for (const [at, guest] of [a, b, c, d].entries())
      connect(host, guest, at + 1, '--vlan', at < 2 ? '100' : '200');
    assert.equal(filters(host), 1);
    assert.deepEqual(vlansOf(host, portOf(a)), ['100 pvid untagged']);
    assert.deepEqual(vlansOf(host, portOf(c)), ['200 pvid untagged']);
    assert.ok(reaches(a.pid, '10.3.0.2') && reaches(c.pid, '10.3.0.4'));
    assert.ok(!ping(a.pid, '10.3.0.3') && !ping(c.pid, '10.3.0.2'));
    assert.match(connect(host, a, 1, '--vlan', '100'), /nothing to do/);

    const { ifindex } = ipLink(a.pid, 'eth1') ?? {};
    assert.match(connect(host, a, 1, '--vlan', '200'), /bridge vlan add dev \S+ vid 200 pvid untagged/);
    assert.deepEqual(vlansOf(host, portOf(a)), ['200 pvid untagged']);
    assert.equal(ipLink(a.pid, 'eth1')?.ifindex, ifindex);
    assert.ok(reaches(a.pid, '10.3.0.3') && !ping(a.pid, '10.3.0.2'));
    connect(host, a, 1);
    assert.deepEqual(vlansOf(host, portOf(a)), ['1 pvid untagged']);
  },

  'trunk ports carry VLANs with their tags, and one without': ({ host, guests: [a, b, c] }) => {
    connect(host, a, 1, '--trunks', '100,200-299');
    assert.deepEqual(vlansOf(host, portOf(a)), ['100', '200-299']);
    connect(host, a, 1, '--trunks', '100,205', '--vlan', '7');
    assert.deepEqual(vlansOf(host, portOf(a)), ['7 pvid untagged', '100', '205']);
    connect(host, b, 2, '--vlan', '7');
    connect(host, c, 3, '--vlan', '100');
    assert.ok(reaches(a.pid, '10.3.0.2') && !ping(a.pid, '10.3.0.3'));
  },

  'a bridge that somebody else made is left alone, unless the user says so; then it is switched back': ({
    host,
    guests: [a, b],
  }) => {
    // With a MAC address and a port of its own it looks the same with and without ours.
    host.ip('link', 'add', 'br0', 'address', '02:00:00:00:00:b0', 'up', 'type', 'bridge');
    const wire = nicOn(host, 'nic0');
    host.ip('link', 'set', wire, 'master', 'br0');
    const changes = changesBy(host, [a.pid, b.pid], () => {
      const attach = ['attach', `pid:${a.pid}`, '--network', 'br0', '--vlan', '100'];
      const { stderr } = host.pipewright(attach, { expect: 1 });
      assert.match(stderr, /br0: the bridge does not filter VLANs, and pipewright did not make it/);
      assert.match(stderr, /vlanFiltering: true/);
      assert.equal(filters(host), 0);
      host.pipewright([...attach, '--vlan-filtering']);
      host.pipewright(['attach', `pid:${b.pid}`, '--network', 'br0', '--vlan', '200']);
      assert.equal(filters(host), 1);
      host.pipewright(['detach', `pid:${a.pid}`]);
      assert.equal(filters(host), 1);
      host.pipewright(['detach', `pid:${b.pid}`]);
      assert.equal(filters(host), 0);
    });
    assert.deepEqual(changes, []);
  },

  'what fails leaves the VLANs of a port as they were': ({ host, guests: [a] }) => {
    connect(host, a, 1, '--vlan', '7', '--trunks', '100');
    const attach = ['attach', `pid:${a.pid}`, '--network', 'bridge:br0', '--vlan', '100'];
    host.pipewright([...attach, '--route', '10.9.0.0/16 via 10.77.0.1'], { expect: 1 });
    assert.deepEqual(vlansOf(host, portOf(a)), ['7 pvid untagged', '100']);
  },

  'pipework takes @VLAN on a Linux bridge where it is told to': ({ host, guests: [a, b] }) => {
    host.pipework(['br0', `pid:${a.pid}`, '10.3.0.1/24', '@100'], { expect: 1 });
    host.pipework(['br0', `pid:${a.pid}`, '10.3.0.1/24', '@100'], { env: { PIPEWORK_BRIDGE_VLAN: '1' } });
    host.pipework(['--bridge-vlan', 'br0', `pid:${b.pid}`, '10.3.0.2/24', '@100']);
    assert.deepEqual(vlansOf(host, portOf(b)), ['100 pvid untagged']);
    assert.ok(reaches(a.pid, '10.3.0.2'));
  },
};

async function guest(t: TestContext, name: string): Promise<Guest> {
  return await plainNetns(t, name);
}

test('VLANs on a Linux bridge', async (t) => {
  if (skipUnless(t, 'root', 'vlan-filtering')) return;
  const host = await ownHost(t, 'bvh');
  const guests = [
    await guest(t, 'bva'),
    await guest(t, 'bvb'),
    await guest(t, 'bvc'),
    await guest(t, 'bvd'),
  ] as const;
  for (const [name, act] of Object.entries(cases)) {
    await t.test(name, async () => {
      for (const { pid } of guests) emptyGuest(pid);
      for (const name of host.links()) runIn(host.name, 'ip', ['link', 'del', name], { expect: 'any' });
      rmSync(host.stateDir, { recursive: true, force: true });
      await act({ host, guests: [...guests] });
    });
  }
});

const topology = (a: Container, b: Container): string => `networks:
  red: { kind: bridge, bridge: br0, vlan: 100, subnet: 10.3.0.0/24, hostAddress: 10.3.0.254/24 }
  blue: { kind: bridge, bridge: br0, vlan: 200, subnet: 10.3.0.0/24 }
attachments:
  - { container: ${a.name}, network: red, addresses: 10.3.0.1/24 }
  - { container: ${b.name}, network: blue, addresses: 10.3.0.2/24 }
  - { container: ${b.name}, network: blue, ifname: eth2, vlan: 7, trunks: [100, 300-309] }
`;

test('VLANs on a Linux bridge by a topology, kept by the agent', async (t) => {
  if (skipUnless(t, 'root', 'vlan-filtering', 'vlan', 'docker')) return;
  ensureImage();
  const host = await agentHost(t, 'bvt');
  const [a, b] = [runContainer(t, 'bvta'), runContainer(t, 'bvtb')];
  host.write(topology(a, b));
  const changes = changesBy(host, [a.pid, b.pid], () => {
    const made = host.on('apply', '--yes');
    assert.equal(made.code, 0, made.stdout + made.stderr);
    assert.equal(host.on('plan').stdout, 'nothing to do\n');
    assert.deepEqual(vlansOf(host, `veth2pl${b.pid}`), ['7 pvid untagged', '100', '300-309']);
    assert.deepEqual(cidrs(host.name, 'br0.100'), ['10.3.0.254/24']);
    assert.ok(reaches(host.name, '10.3.0.1') && !ping(host.name, '10.3.0.2'));
    assert.equal(host.pipewright(['destroy']).code, 0);
  });
  assert.deepEqual(changes, []);

  await host.agent(t);
  assert.ok(await soon(() => vlansOf(host, `veth1pl${a.pid}`).join() === '100 pvid untagged', 10_000));
  runIn(host.name, 'bridge', ['vlan', 'add', 'dev', `veth1pl${a.pid}`, 'vid', '200', 'pvid', 'untagged']);
  assert.ok(await soon(() => vlansOf(host, `veth1pl${a.pid}`).join() === '100 pvid untagged', 10_000));
  host.ip('link', 'set', 'br0', 'type', 'bridge', 'vlan_filtering', '0');
  assert.ok(await soon(() => ipLink(host.name, 'br0')?.linkinfo?.info_data?.vlan_filtering === 1, 10_000));
  runIn(host.name, 'bridge', ['vlan', 'del', 'dev', 'br0', 'vid', '100', 'self']);
  assert.ok(await soon(() => vlansOf(host, 'br0').includes('100'), 10_000));
  assert.ok(reaches(host.name, '10.3.0.1'));
  assert.ok(linkExists(host.name, 'br0.100'));
});
