/** What somebody changes behind the agent's back is right again a moment later. */
import assert from 'node:assert/strict';
import test, { type TestContext } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import {
  type Container,
  cidrs,
  ipLink,
  ipRoutes,
  ipRules,
  linkExists,
  ping,
  runContainer,
  runIn,
  skipUnless,
} from '../lab.ts';
import { type AgentHost, agentHost, type RunningAgent, soon, startOvs } from './agent-ground.ts';
import { defaults } from './support.ts';

interface Ground {
  readonly host: AgentHost;
  readonly agent: RunningAgent;
  readonly a: Container;
  readonly b: Container;
}

/** Milliseconds that a change may last. */
const patienceMs = 15_000;

interface Drift {
  readonly act: (ground: Ground) => void;
  readonly isRight: (ground: Ground) => boolean;
}

const inside = ({ pid }: Container, ...args: readonly string[]): void => void runIn(pid, 'ip', args);

/** The host's end of a container's eth1. */
const end = ({ pid }: Container): string => `veth1pl${pid}`;

const limitOf = (place: string | number, link: string): string | undefined =>
  / tbf .* rate (\S+)/.exec(runIn(place, 'tc', ['qdisc', 'show', 'dev', link]).stdout)?.[1];

const isPort = ({ host, a }: Ground): boolean => ipLink(host.name, end(a))?.master === 'br0';

const bridgeDrifts: Record<string, Drift> = {
  'an address is deleted in a container': {
    act: ({ a }) => inside(a, 'addr', 'del', '10.1.0.1/24', 'dev', 'eth1'),
    isRight: ({ a }) => cidrs(a.pid, 'eth1').join() === '10.1.0.1/24' && ping(a.pid, '10.1.0.2'),
  },
  'an address is added in a container': {
    act: ({ a }) => inside(a, 'addr', 'add', '10.1.0.77/24', 'dev', 'eth1'),
    isRight: ({ a }) => cidrs(a.pid, 'eth1').join() === '10.1.0.1/24',
  },
  'an interface is set down': {
    act: ({ a }) => inside(a, 'link', 'set', 'eth1', 'down'),
    isRight: ({ a }) => ping(a.pid, '10.1.0.2') && defaults(a.pid).join() === 'via 10.1.0.254 dev eth1',
  },
  'an interface is deleted': {
    act: ({ a }) => inside(a, 'link', 'del', 'eth1'),
    isRight: ({ a }) => ping(a.pid, '10.1.0.2'),
  },
  'an interface has another MTU': {
    act: ({ a }) => inside(a, 'link', 'set', 'eth1', 'mtu', '1300'),
    isRight: ({ a }) => ipLink(a.pid, 'eth1')?.mtu === 1400,
  },
  'the default route is deleted': {
    act: ({ a }) => inside(a, 'route', 'del', 'default'),
    isRight: ({ a }) => defaults(a.pid).join() === 'via 10.1.0.254 dev eth1',
  },
  'a route is deleted': {
    act: ({ a }) => inside(a, 'route', 'del', '10.5.0.0/16'),
    isRight: ({ a }) =>
      ipRoutes(a.pid).some(({ dst, gateway }) => dst === '10.5.0.0/16' && gateway === '10.1.0.253'),
  },
  'a rule is deleted': {
    act: ({ a }) => inside(a, 'rule', 'del', 'priority', '1000'),
    isRight: ({ a }) => ipRules(a.pid).some(({ priority }) => priority === 1000),
  },
  'a port is pulled off the bridge': {
    act: ({ host, a }) => void host.ip('link', 'set', end(a), 'nomaster'),
    isRight: (ground) => isPort(ground) && ping(ground.a.pid, '10.1.0.2'),
  },
  "the host's end is deleted": {
    act: ({ host, a }) => void host.ip('link', 'del', end(a)),
    isRight: (ground) => isPort(ground) && ping(ground.a.pid, '10.1.0.2'),
  },
  'the bridge is set down': {
    act: ({ host }) => void host.ip('link', 'set', 'br0', 'down'),
    isRight: ({ a }) => ping(a.pid, '10.1.0.2'),
  },
  'the bridge is deleted': {
    act: ({ host }) => void host.ip('link', 'del', 'br0'),
    isRight: ({ host, a }) =>
      linkExists(host.name, 'br0') && ping(a.pid, '10.1.0.2') && ping(host.name, '10.1.0.1'),
  },
  'the limit of what a container sends is taken off': {
    act: ({ a }) => void runIn(a.pid, 'tc', ['qdisc', 'del', 'dev', 'eth1', 'root']),
    isRight: ({ a }) => limitOf(a.pid, 'eth1') === '16Mbit',
  },
  'the limit of what a container receives is another one': {
    act: ({ host, a }) =>
      void host.run('tc', [
        'qdisc',
        'replace',
        'dev',
        end(a),
        ...'root tbf rate 1mbit burst 10k latency 10ms'.split(' '),
      ]),
    isRight: ({ host, a }) => limitOf(host.name, end(a)) === '8Mbit',
  },
  "the host's address is deleted": {
    act: ({ host }) => void host.ip('addr', 'del', '10.1.0.254/24', 'dev', 'br0'),
    isRight: ({ host }) => cidrs(host.name, 'br0').join() === '10.1.0.254/24',
  },
};

const tagOf = (host: AgentHost, port: string): string =>
  host.run('ovs-vsctl', ['--if-exists', 'get', 'port', port, 'tag'], { expect: 'any' }).stdout.trim();

const columnsOf = (host: AgentHost, port: string): string =>
  host
    .run('ovs-vsctl', [
      'get',
      'port',
      port,
      'trunks',
      'vlan_mode',
      '--',
      'get',
      'interface',
      port,
      'ingress_policing_rate',
    ])
    .stdout.replace(/\n/g, ' ')
    .trim();

const isTrunk = ({ host, b }: Ground): boolean =>
  columnsOf(host, `veth2pl${b.pid}`) === '[20, 30] native-tagged 10000';

const ovsDrifts: Record<string, Drift> = {
  'trunks, the mode and the policed rate of a port are changed': {
    act: ({ host, b }) => {
      const port = `veth2pl${b.pid}`;
      const words = ['set', 'port', port, 'trunks=40', 'vlan_mode=native-untagged'];
      host.run('ovs-vsctl', [...words, '--', 'set', 'interface', port, 'ingress_policing_rate=5']);
    },
    isRight: isTrunk,
  },
  'the policed rate alone is changed': {
    act: ({ host, b }) =>
      void host.run('ovs-vsctl', ['set', 'interface', `veth2pl${b.pid}`, 'ingress_policing_rate=5']),
    isRight: isTrunk,
  },
  'the VLAN tag is changed': {
    act: ({ host, a }) => void host.run('ovs-vsctl', ['set', 'port', end(a), 'tag=200']),
    isRight: ({ host, a }) => tagOf(host, end(a)) === '100',
  },
  'the VLAN tag is taken off': {
    act: ({ host, a }) => void host.run('ovs-vsctl', ['clear', 'port', end(a), 'tag']),
    isRight: ({ host, a }) => tagOf(host, end(a)) === '100',
  },
  'the port is deleted': {
    act: ({ host, a }) => void host.run('ovs-vsctl', ['del-port', end(a)]),
    isRight: ({ host, a }) => tagOf(host, end(a)) === '100' && ping(a.pid, '10.1.0.2'),
  },
  'the Open vSwitch bridge is deleted': {
    act: ({ host }) => void host.run('ovs-vsctl', ['del-br', 'ovs0']),
    isRight: ({ host, a, b }) =>
      tagOf(host, end(a)) === '100' && tagOf(host, end(b)) === '100' && ping(a.pid, '10.1.0.2'),
  },
};

/** The repairs of all attachments so far. */
const repairsOf = (host: AgentHost): number =>
  host.status().reduce((sum, { repairs }) => sum + (repairs ?? 0), 0);

async function show(t: TestContext, ground: Ground, drifts: Record<string, Drift>): Promise<void> {
  const { host, agent } = ground;
  for (const [name, { act, isRight }] of Object.entries(drifts)) {
    await t.test(name, async (t) => {
      assert.ok(isRight(ground), 'before');
      act(ground);
      const took = await soon(() => isRight(ground), patienceMs);
      assert.ok(
        took !== undefined,
        `not right after ${patienceMs} ms\n${agent.log().split('\n').slice(-6).join('\n')}`,
      );
      t.diagnostic(`${took} ms`);
      await soon(() => host.status().every(({ state }) => state === 'healthy'));
      assert.ok(
        host.status().every(({ state }) => state === 'healthy'),
        JSON.stringify(host.status()),
      );
    });
  }
}

test('drift on a bridge', async (t) => {
  if (skipUnless(t, 'root', 'docker')) return;
  const [host, a, b] = [await agentHost(t, 'adb'), runContainer(t, 'adba'), runContainer(t, 'adbb')];
  const rest =
    'mtu: 1400, routes: [10.5.0.0/16 via 10.1.0.253], rules: [{ from: 10.1.0.1, table: 254, priority: 1000 }], rate: { in: 8mbit, out: 16mbit }';
  host.write(`
networks: { lan: { kind: bridge, bridge: br0, subnet: 10.1.0.0/24, gateway: 10.1.0.254, hostAddress: 10.1.0.254/24 } }
attachments:
  - { container: ${a.name}, network: lan, addresses: 10.1.0.1/24, ${rest} }
  - { container: ${b.name}, network: lan, addresses: 10.1.0.2/24 }
`);
  const ground = { host, a, b, agent: await host.agent(t) };
  await show(t, ground, bridgeDrifts);
  await t.test('repairs are counted, and told in the status', () => {
    assert.ok(repairsOf(host) >= 8, JSON.stringify(host.status()));
  });
  await t.test('nothing is done when nothing changes', async () => {
    // What was repaired last is in the kernel a moment before it is in the log.
    await sleep(500);
    const [before, said] = [repairsOf(host), ground.agent.log()];
    await sleep(1500);
    assert.equal(repairsOf(host), before);
    assert.equal(ground.agent.log(), said);
  });
});

test('drift on Open vSwitch', async (t) => {
  if (skipUnless(t, 'root', 'docker', 'ovs')) return;
  const [host, a, b] = [await agentHost(t, 'ado'), runContainer(t, 'adoa'), runContainer(t, 'adob')];
  await startOvs(t, host);
  host.run('ovs-vsctl', ['add-br', 'ovs0', '--', 'set', 'bridge', 'ovs0', 'datapath_type=netdev']);
  host.write(`
networks:
  lan: { kind: ovs, bridge: ovs0, vlan: 100 }
  trunk: { kind: ovs, bridge: ovs0, vlan: 10, trunks: [20, 30], vlanMode: native-tagged }
attachments:
  - { container: ${a.name}, network: lan, addresses: 10.1.0.1/24 }
  - { container: ${b.name}, network: lan, addresses: 10.1.0.2/24 }
  - { container: ${b.name}, network: trunk, ifname: eth2, policing: 10mbit }
`);
  await show(t, { host, a, b, agent: await host.agent(t) }, ovsDrifts);
  assert.ok(repairsOf(host) >= 4);
});

test("the rules in Docker's firewall", async (t) => {
  if (skipUnless(t, 'root', 'docker', 'program:iptables')) return;
  const [host, a, b] = [await agentHost(t, 'adf'), runContainer(t, 'adfa'), runContainer(t, 'adfb')];
  const rules = (): string => host.run('iptables', ['-S', 'DOCKER-USER'], { expect: 'any' }).stdout;
  // As Docker leaves a host: nothing is forwarded, but for what the users' chain lets pass.
  host.run('iptables', ['-P', 'FORWARD', 'DROP']);
  host.run('iptables', ['-N', 'DOCKER-USER']);
  host.run('iptables', ['-A', 'DOCKER-USER', '-j', 'RETURN']);
  host.run('iptables', ['-I', 'FORWARD', '-j', 'DOCKER-USER']);
  host.write(`
networks: { lan: { kind: bridge, bridge: br0 } }
attachments:
  - { container: ${a.name}, network: lan, addresses: 10.1.0.1/24 }
  - { container: ${b.name}, network: lan, addresses: 10.1.0.2/24 }
`);
  const agent = await host.agent(t);
  const made = rules();
  if (!made.includes('br0')) return t.skip('Docker forwards nothing through iptables here');
  host.run('iptables', ['-F', 'DOCKER-USER']);
  const took = await soon(() => rules().includes('br0'), patienceMs);
  assert.ok(took !== undefined, `${rules()}\n${agent.log()}`);
  t.diagnostic(`${took} ms`);
  // What is added there by others is not ours, and is no reason to do anything.
  const repairs = repairsOf(host);
  host.run('iptables', ['-I', 'DOCKER-USER', '-s', '10.9.0.1', '-j', 'DROP']);
  await sleep(1000);
  assert.equal(repairsOf(host), repairs);
});

test('the same repair again and again is contested', async (t) => {
  if (skipUnless(t, 'root', 'docker')) return;
  const [host, a] = [await agentHost(t, 'adc'), runContainer(t, 'adca')];
  host.write(`
networks: { lan: { kind: bridge, bridge: br0 } }
attachments: [{ container: ${a.name}, network: lan, addresses: 10.1.0.1/24 }]
`);
  const agent = await host.agent(t);
  for (let round = 1; round <= 11; round++) {
    runIn(a.pid, 'ip', ['addr', 'del', '10.1.0.1/24', 'dev', 'eth1']);
    const took = await soon(() => cidrs(a.pid, 'eth1').length === 1, patienceMs);
    assert.ok(took !== undefined, `repair ${round}\n${agent.log()}`);
  }
  const contested = (): boolean => host.status()[0]?.state === 'contested';
  assert.ok((await soon(contested)) !== undefined, JSON.stringify(host.status()));
  assert.equal(host.status()[0]?.repairs, 11);
  assert.ok((await soon(() => agent.log().includes('"what":"contested"'))) !== undefined);
  assert.equal(host.pipewright(['status'], { expect: 'any' }).code, 1);
  // Whoever undoes it has it their way then.
  runIn(a.pid, 'ip', ['addr', 'del', '10.1.0.1/24', 'dev', 'eth1']);
  await sleep(1000);
  assert.deepEqual(cidrs(a.pid, 'eth1'), []);
  assert.ok(contested());
});
