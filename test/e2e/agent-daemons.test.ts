/** The agent and the daemons that it depends on: Docker and Open vSwitch stop, start again, and forget. */
import assert from 'node:assert/strict';
import test from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { cidrs, ping, run, runContainer, skipUnless } from '../lab.ts';
import { type AgentHost, agentHost, type RunningAgent, soon, startOvs } from './agent-ground.ts';
import { type OwnDocker, startDocker } from './own-docker.ts';

const yaml = `
networks: { lan: { kind: bridge, bridge: br0, subnet: 10.1.0.0/24 } }
attachments:
  - { container: test1, network: lan, addresses: 10.1.0.1/24 }
  - { container: test2, network: lan, addresses: 10.1.0.2/24 }
`;

const rulesOf = (host: AgentHost): string => host.run('iptables', ['-S', 'DOCKER-USER']).stdout;
const ours = '-A DOCKER-USER -i br0 -o br0 -m comment --comment "pipewright:br0" -j ACCEPT';

/** Both containers are connected, the agent says so, and Docker's firewall lets them pass. */
function isWell(host: AgentHost, engine: OwnDocker): boolean {
  const [a, b] = [engine.pid('test1'), engine.pid('test2')];
  return (
    a > 0 &&
    b > 0 &&
    cidrs(a, 'eth1').join() === '10.1.0.1/24' &&
    ping(a, '10.1.0.2') &&
    rulesOf(host)
      .split('\n')
      .filter((line) => line === ours).length === 1 &&
    host.status().length === 2 &&
    host.status().every(({ state }) => state === 'healthy')
  );
}

async function wellSoon(host: AgentHost, engine: OwnDocker, agent: RunningAgent): Promise<number> {
  const took = await soon(() => isWell(host, engine), 20_000);
  assert.ok(took !== undefined, `${JSON.stringify(host.status())}\n${rulesOf(host)}\n${agent.log()}`);
  return took;
}

test('dockerd restarts', async (t) => {
  if (skipUnless(t, 'root', 'docker', 'program:iptables')) return;
  const host = await agentHost(t, 'add');
  const engine = await startDocker(t, host);
  for (const name of ['test1', 'test2']) engine.run(name, '--restart', 'always');
  host.write(yaml);
  const agent = await host.agent(t);
  await wellSoon(host, engine, agent);

  await t.test('and stops its containers, which their restart policy starts again', async (t) => {
    const before = engine.pid('test1');
    await engine.stop();
    await engine.start();
    t.diagnostic(`well after ${await wellSoon(host, engine, agent)} ms`);
    assert.notEqual(engine.pid('test1'), before);
  });

  await t.test('having been killed', async () => {
    await engine.stop('SIGKILL');
    await engine.start();
    await wellSoon(host, engine, agent);
  });

  await t.test('on a host whose firewall was emptied', async () => {
    await engine.stop();
    host.run('sh', ['-c', 'iptables -F && iptables -X && iptables -t nat -F && iptables -t nat -X']);
    await engine.start();
    await wellSoon(host, engine, agent);
  });

  await t.test('and the agent says once that it was away', async () => {
    const said = (words: string): number => agent.log().split(words).length - 1;
    const [backs, aways] = [said('Docker is back'), said('"msg":"docker.')];
    await engine.stop();
    await sleep(1500);
    await engine.start();
    await wellSoon(host, engine, agent);
    await soon(() => said('Docker is back') > backs);
    assert.equal(said('Docker is back'), backs + 1, agent.log());
    assert.equal(said('"msg":"docker.'), aways + 1, agent.log());
    assert.equal(said('a round was broken off'), 0, agent.log());
  });
});

test('dockerd restarts with live-restore: the containers go on, and no packet is lost', async (t) => {
  if (skipUnless(t, 'root', 'docker', 'program:iptables')) return;
  const host = await agentHost(t, 'adr');
  const engine = await startDocker(t, host, ['--live-restore']);
  for (const name of ['test1', 'test2']) engine.run(name);
  host.write(yaml);
  const agent = await host.agent(t);
  await wellSoon(host, engine, agent);
  const pid = engine.pid('test1');
  const links = host.links();
  const answers = `${host.lasting}.ping`;
  const script = 'exec ping -n -i 0.01 -W 1 10.1.0.2 > $0 2>&1 & echo $!';
  const pinging = run('nsenter', [`--net=/proc/${pid}/ns/net`, 'sh', '-c', script, answers]).stdout.trim();
  for (const signal of ['SIGTERM', 'SIGKILL'] as const) {
    await engine.stop(signal);
    await sleep(300);
    await engine.start();
    await wellSoon(host, engine, agent);
  }
  const repairs = host.status().map((line) => line.repairs);
  assert.deepEqual(repairs, [0, 0]);
  host.run('iptables', ['-F', 'DOCKER-USER']);
  await wellSoon(host, engine, agent);
  run('kill', ['-INT', pinging]);
  await soon(() => run('cat', [answers]).stdout.includes('packet loss'));
  const [, sent, received] =
    /(\d+) packets transmitted, (\d+) received/.exec(run('cat', [answers]).stdout) ?? [];
  assert.ok(Number(sent) > 100, sent);
  t.diagnostic(`${received} of ${sent} pings answered`);
  assert.equal(received, sent);
  assert.equal(engine.pid('test1'), pid);
  assert.deepEqual(host.links(), links);
});

test('Open vSwitch restarts', async (t) => {
  if (skipUnless(t, 'root', 'docker', 'ovs')) return;
  const [host, a, b] = [await agentHost(t, 'adv'), runContainer(t, 'adva'), runContainer(t, 'advb')];
  const c = runContainer(t, 'advc');
  const ovs = await startOvs(t, host);
  host.write(`
networks:
  vlan100: { kind: ovs, bridge: ovs0, vlan: 100, subnet: 192.168.0.0/24 }
  vlan200: { kind: ovs, bridge: ovs0, vlan: 200, subnet: 192.168.0.0/24 }
attachments:
  - { container: ${a.name}, network: vlan100, addresses: 192.168.0.1/24 }
  - { container: ${b.name}, network: vlan100, addresses: 192.168.0.2/24 }
  - { container: ${c.name}, network: vlan200, addresses: 192.168.0.3/24 }
`);
  const agent = await host.agent(t);
  const tags = (): string[] =>
    [a, b, c].map(({ pid }) =>
      host
        .run('ovs-vsctl', ['--if-exists', 'get', 'port', `veth1pl${pid}`, 'tag'], { expect: 'any' })
        .stdout.trim(),
    );
  const isRight = (): boolean =>
    tags().join() === '100,100,200' &&
    ping(a.pid, '192.168.0.2') &&
    !ping(a.pid, '192.168.0.3') &&
    host.status().length === 3 &&
    host.status().every(({ state }) => state === 'healthy');
  const rightSoon = async (): Promise<number> => {
    const took = await soon(isRight, 20_000);
    assert.ok(took !== undefined, `${tags()}\n${JSON.stringify(host.status())}\n${agent.log()}`);
    return took;
  };
  await rightSoon();
  const links = host.links();

  for (const empty of [false, true]) {
    await t.test(`with ${empty ? 'an empty' : 'its'} database`, async (t) => {
      await ovs.kill();
      await ovs.start({ empty });
      t.diagnostic(`right after ${await rightSoon()} ms`);
      assert.deepEqual(host.links(), links);
      const ports = host.run('ovs-vsctl', ['list-ports', 'ovs0']).stdout.split('\n').filter(Boolean);
      assert.equal(ports.length, 3);
    });
  }

  await t.test('having been away for a while', async () => {
    await ovs.kill();
    await sleep(3000);
    await ovs.start({ empty: true });
    await rightSoon();
  });
});

test('Open vSwitch starts after the agent', async (t) => {
  if (skipUnless(t, 'root', 'docker', 'ovs')) return;
  const [host, a] = [await agentHost(t, 'adw'), runContainer(t, 'adwa')];
  host.write(`
networks: { vlan100: { kind: ovs, bridge: ovs0, vlan: 100 } }
attachments: [{ container: ${a.name}, network: vlan100, addresses: 192.168.0.1/24 }]
`);
  const agent = await host.agent(t);
  const states = (): string[] => host.status().map(({ key, state }) => `${key} ${state}`);
  assert.ok(states().includes(`${a.name}/eth1 failing`), states().join());
  await startOvs(t, host);
  const took = await soon(() => states().join() === `${a.name}/eth1 healthy`, 10_000);
  assert.ok(took !== undefined, `${states()}\n${agent.log()}`);
});
