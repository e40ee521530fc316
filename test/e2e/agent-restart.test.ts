/** An agent that starts again, alone on its state directory, and follows its file. examples.test.ts has the rest. */
import assert from 'node:assert/strict';
import test, { type TestContext } from 'node:test';
import { cidrs, containerPid, ensureImage, ping, run, skipUnless } from '../lab.ts';
import { type AgentHost, agentHost, type RunningAgent, soon } from './agent-ground.ts';
import { defaults, nicOn } from './support.ts';

/** Containers of a scene, by a short name; a new container of the same name is another container. */
interface Scene {
  readonly host: AgentHost;
  /** The full names. */
  readonly containers: readonly string[];
  readonly yaml: string;
  /** What must hold whenever all is well. */
  check(): void;
}

function start(name: string): void {
  const label = `pwt.pid=${process.pid}`;
  run('docker', ['run', '-d', '--name', name, '--label', label, '--network', 'none', ensureImage()]);
}

function containers(t: TestContext, scene: string, count: number): string[] {
  return Array.from({ length: count }, (_, i) => {
    const name = `pwt-${scene}t${i + 1}-${process.pid}`;
    t.after(() => void run('docker', ['rm', '-f', name], { expect: 'any' }));
    start(name);
    return name;
  });
}

/** A bridge with a host address, a range, and the LAN's gateway, which is behind a NIC of the bridge. */
async function lan(t: TestContext): Promise<Scene> {
  const host = await agentHost(t, 'agl');
  const router = await agentHost(t, 'agr');
  const [one = '', two = ''] = containers(t, 'agl', 2);
  host.ip('link', 'add', 'br0', 'type', 'bridge');
  host.ip('link', 'set', 'br0', 'up');
  nicOn(host, 'nic0');
  host.ip('link', 'set', 'nic0', 'master', 'br0');
  host.ip('link', 'set', 'nic0p', 'netns', String(router.pid));
  router.ip('link', 'set', 'nic0p', 'up');
  router.ip('addr', 'add', '10.10.101.254/24', 'dev', 'nic0p');
  const yaml = `
networks:
  lan:
    kind: bridge
    bridge: br0
    subnet: 10.10.101.0/24
    gateway: 10.10.101.254
    range: 10.10.101.160-10.10.101.199
    hostAddress: 10.10.101.105/24
attachments:
  - { container: ${one}, network: lan, addresses: 10.10.101.150/24 }
  - { container: ${two}, network: lan, addresses: auto }
`;
  let given: string[] | undefined;
  const check = (): void => {
    const [a, b] = [containerPid(one), containerPid(two)];
    assert.deepEqual(cidrs(a, 'eth1'), ['10.10.101.150/24']);
    given ??= cidrs(b, 'eth1');
    assert.deepEqual(cidrs(b, 'eth1'), given);
    assert.deepEqual(defaults(a), ['via 10.10.101.254 dev eth1']);
    assert.ok(
      ping(a, '10.10.101.254', 3) && ping(b, '10.10.101.150', 3) && ping(host.name, '10.10.101.150', 3),
    );
    assert.ok(ping(router.pid, String(given[0]).replace(/\/.*/, ''), 3));
    // br0, nic0 and a host's end for each container.
    assert.equal(host.links().length, 4, host.links().join(' '));
    assert.equal(host.notes().length, 3, host.notes().join(' '));
  };
  return { host, containers: [one, two], yaml, check };
}

/** Waits until the agent calls everything healthy, then looks whether it is. */
async function allWell({ host, containers: names, check }: Scene, agent: RunningAgent): Promise<void> {
  const isWell = (): boolean => {
    const lines = host.status();
    return lines.length === names.length && lines.every(({ state }) => state === 'healthy');
  };
  const took = await soon(isWell, 10_000);
  assert.ok(took !== undefined, `${JSON.stringify(host.status())}\n${agent.log()}`);
  // What is of a container that is gone goes a moment after it.
  let failure: unknown;
  const holds = (): boolean => {
    try {
      check();
      return true;
    } catch (error) {
      failure = error;
      return false;
    }
  };
  if ((await soon(holds)) === undefined) throw failure;
}

test('an agent starts again without the loss of a packet', async (t) => {
  if (skipUnless(t, 'root', 'docker')) return;
  const scene = await lan(t);
  scene.host.write(scene.yaml);
  const agent = await scene.host.agent(t);
  await allWell(scene, agent);
  const pid = containerPid(scene.containers[0] ?? '');
  const script = 'ping -n -i 0.01 -c 300 -W 1 10.10.101.254 > $0 2>&1 &';
  const file = `${scene.host.lasting}.ping`;
  run('nsenter', [`--net=/proc/${pid}/ns/net`, 'sh', '-c', script, file]);
  await agent.stop('SIGKILL');
  const next = await scene.host.agent(t);
  await allWell(scene, next);
  const answer = (): string => run('cat', [file]).stdout;
  await soon(() => answer().includes('packet loss'), 15_000);
  assert.match(answer(), /300 packets transmitted, 300 (packets )?received/);
});

test('one agent on a state directory', async (t) => {
  if (skipUnless(t, 'root', 'docker')) return;
  const host = await agentHost(t, 'ago');
  const file = host.write('networks: {}\n');
  const agent = await host.agent(t);
  const other = await agentHost(t, 'agq');
  for (const place of [host, other]) {
    const { code, stderr } = place.pipewright(['agent', '--state-dir', host.lasting, file], {
      expect: 'any',
    });
    assert.equal(code, 1);
    assert.match(stderr, /another agent runs on this state directory/);
  }
  assert.equal((await agent.stop('SIGTERM')).code, 0);
});

test('an edit of the file', async (t) => {
  if (skipUnless(t, 'root', 'docker')) return;
  const host = await agentHost(t, 'age');
  const [name = ''] = containers(t, 'age', 1);
  const yaml = (addresses: string): string => `
networks: { lan: { kind: bridge, bridge: br0 } }
attachments: [{ container: ${name}, network: lan, addresses: ${addresses} }]
`;
  host.write(yaml('10.1.0.1/24'));
  const agent = await host.agent(t);
  const pid = containerPid(name);
  const has = (text: string) => (): boolean => cidrs(pid, 'eth1').join() === text;
  assert.ok((await soon(has('10.1.0.1/24'))) !== undefined);
  await t.test('is made by itself', async () => {
    host.write(yaml('10.1.0.2/24'));
    assert.ok((await soon(has('10.1.0.2/24'))) !== undefined, agent.log());
  });
  await t.test('is made at SIGHUP', async () => {
    host.write(yaml('10.1.0.3/24'));
    agent.process.kill('SIGHUP');
    assert.ok((await soon(has('10.1.0.3/24'))) !== undefined, agent.log());
  });
  await t.test('that is wrong leaves all as it is, and is told', async () => {
    host.write('networks: { lan: { kind: bridg } }\n');
    agent.process.kill('SIGHUP');
    const told = (): boolean => host.pipewright(['status'], { expect: 'any' }).stdout.includes('problem: ');
    assert.ok((await soon(told)) !== undefined);
    assert.ok(has('10.1.0.3/24')());
    assert.equal(host.pipewright(['status'], { expect: 'any' }).code, 1);
  });
  await t.test('that takes everything out leaves nothing', async () => {
    host.write('networks: {}\n');
    assert.ok(
      (await soon(() => host.links().length === 0 && host.notes().length === 0)) !== undefined,
      `${host.links()} ${host.notes()}`,
    );
    assert.deepEqual(cidrs(pid, 'eth1'), []);
    assert.deepEqual(host.status(), []);
  });
});
