/**
 * Scenes of examples/, the files themselves: applied, and kept by an agent that is killed at random moments while all
 * containers, and the Docker Engine, restart. PIPEWRIGHT_ROUNDS says how often; a failure tells how to play its round again.
 */
import assert from 'node:assert/strict';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import test, { type TestContext } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { cidrs, root, runAsync, skipUnless } from '../lab.ts';
import { type AgentHost, agentHost, type RunningAgent, soon, startOvs } from './agent-ground.ts';
import { type OwnDocker, startDocker } from './own-docker.ts';
import { defaults, linkNames, nicOn } from './support.ts';

const rounds = Number(process.env.PIPEWRIGHT_ROUNDS ?? 4);
const seed = Number(process.env.PIPEWRIGHT_SEED ?? Date.now() % 1_000_000);
/** Only this round of them. */
const onlyRound = process.env.PIPEWRIGHT_ROUND;

const verbose = process.env.PIPEWRIGHT_VERBOSE !== undefined;

interface Scene {
  readonly host: AgentHost;
  readonly engine: OwnDocker;
  /** Below examples/. */
  readonly name: string;
  readonly containers: readonly string[];
  /** Links of the host besides a container's end for each container. */
  readonly links: readonly string[];
  /** Entries of the state directory besides the lock. */
  readonly lasting: readonly string[];
  readonly networks: number;
  /** Lines of `iptables-save` that are ours. */
  readonly rules: number;
  /** What else holds when all is well. */
  check(): void;
  /** Pids of every life of every container. */
  readonly pids: Set<number>;
}

/** Numbers from 0 to 1 that follow from two numbers: mulberry32. */
function randomFrom(a: number, b: number): () => number {
  let state = (a * 7919 + b) | 0;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

const fileOf = (name: string): string => path.join(root, 'examples', name, 'pipewright.yaml');

/** What the file says of who reaches whom, tried by ping(8): a line for each that is not so. */
async function unmet({ engine, name }: Scene): Promise<string[]> {
  const said = readFileSync(fileOf(name), 'utf8').matchAll(/^ {2}- (test\d) (->|-\/->) (\S+)$/gm);
  const tried = [...said].map(async ([line, from = '', arrow, to = '']) => {
    const target = to.startsWith('test') ? cidrs(engine.pid(to), 'eth1')[0]?.replace(/\/.*/, '') : to;
    const words = ['-c', arrow === '->' ? '3' : '1', '-W', '1', '-n', '-i', '0.2', String(target)];
    const there = [`--net=/proc/${engine.pid(from)}/ns/net`, 'ping', ...words];
    const { code } = await runAsync('nsenter', there, { expect: 'any' });
    return (code === 0) === (arrow === '->') ? [] : [`not so: ${line}`];
  });
  return (await Promise.all(tried)).flat();
}

/** Everything of ours on the host and in the containers, and nothing else of ours. */
function inventory(scene: Scene): void {
  const { host, engine, containers, links, lasting, networks, rules } = scene;
  const pids = containers.map((name) => engine.pid(name));
  for (const pid of pids) scene.pids.add(pid);
  assert.deepEqual(host.links(), [...links, ...pids.map((pid) => `veth1pl${pid}`)].sort());
  for (const pid of pids) assert.deepEqual(linkNames(pid), ['eth1']);
  const count = (kind: string): number => host.notes().filter((note) => note.startsWith(kind)).length;
  assert.deepEqual(
    ['attachments', 'networks', 'journal'].map(count),
    [containers.length, networks, 0],
    host.notes().join(' '),
  );
  assert.deepEqual(readdirSync(host.lasting).sort(), ['agent.lock', ...lasting].sort());
  for (const pid of scene.pids) assert.ok(!existsSync(`/run/netns/${pid}`), `/run/netns/${pid}`);
  const saved = host.run('sh', ['-c', 'iptables-save; ip6tables-save']).stdout.split('\n');
  assert.equal(saved.filter((line) => line.includes('pipewright')).length, rules, saved.join('\n'));
  assert.deepEqual(
    host.status().map(({ key, state }) => `${key} ${state}`),
    containers.map((name) => `${name}/eth1 healthy`),
  );
  scene.check();
}

/** Waits until all is well: what is of a container that is gone goes a moment after it. */
async function allWell(scene: Scene, agent: RunningAgent): Promise<void> {
  let failure: unknown;
  const holds = (): boolean => {
    try {
      inventory(scene);
      return true;
    } catch (error) {
      failure = error;
      return false;
    }
  };
  const took = await soon(holds, 60_000);
  assert.ok(took !== undefined, `${failure}\n${agent.log()}`);
  assert.deepEqual(await unmet(scene), []);
  assert.equal(scene.host.on('plan').stdout, 'nothing to do\n');
}

type Act = (scene: Scene) => Promise<unknown>;

const docker = ({ host }: Scene, ...args: readonly string[]): Promise<unknown> =>
  runAsync('docker', args, { env: host.env });

const acts: Readonly<Record<string, Act>> = {
  'docker restart': (scene) => docker(scene, 'restart', '-t', '0', ...scene.containers),
  'docker stop and start': async (scene) => {
    await docker(scene, 'stop', '-t', '0', ...scene.containers);
    await docker(scene, 'start', ...scene.containers);
  },
  'docker rm, and run under the same name': async (scene) => {
    await docker(scene, 'rm', '-f', ...scene.containers);
    for (const name of scene.containers) await docker(scene, ...runWords(name));
  },
  'dockerd restart': async ({ engine }) => {
    await engine.stop();
    await engine.start();
  },
};

const runWords = (name: string): string[] => [
  ...['run', '-d', '--name', name, '--network', 'none', '--restart', 'always', 'pipewright-test:1'],
];

/** One act, and the agent killed some times meanwhile: while it works, and while it starts. */
async function playRound(scene: Scene, agent: RunningAgent, round: number): Promise<RunningAgent> {
  const random = randomFrom(seed, round);
  const [title, act] = Object.entries(acts)[round % Object.keys(acts).length] ?? assert.fail();
  const delays = Array.from({ length: 1 + Math.floor(random() * 3) }, () => Math.floor(random() * 900));
  let current = agent;
  try {
    const acting = act(scene);
    for (const delay of delays) {
      await sleep(delay);
      await current.stop('SIGKILL');
      current = scene.host.startAgent();
    }
    await acting;
    const acted = performance.now();
    await current.ready();
    await allWell(scene, current);
    if (verbose)
      console.error(
        `${scene.name}: round ${round}, ${title}, killed after ${delays.join(', ')} ms, well ${Math.round(performance.now() - acted)} ms after it`,
      );
    return current;
  } catch (error) {
    await current.stop('SIGKILL');
    const again = `PIPEWRIGHT_SEED=${seed} PIPEWRIGHT_ROUND=${round}`;
    throw new Error(`round ${round}, ${title}, killed after ${delays.join(', ')} ms (${again})`, {
      cause: error,
    });
  }
}

async function play(t: TestContext, scene: Scene, afterApply: () => void = () => {}): Promise<void> {
  const { host, name, engine, containers } = scene;
  t.diagnostic(`PIPEWRIGHT_SEED=${seed}`);
  const before = host.links();
  for (const each of containers) engine.docker(runWords(each));
  host.use(fileOf(name));
  const applied = host.on('apply', '--yes');
  assert.equal(applied.code, 0, applied.stdout + applied.stderr);
  afterApply();
  let agent = await host.agent(t);
  await allWell(scene, agent);
  const played = onlyRound === undefined ? Array.from({ length: rounds }, (_, i) => i) : [Number(onlyRound)];
  for (const round of played) {
    agent = await playRound(scene, agent, round);
  }
  const { ms, code } = await agent.stop('SIGTERM');
  assert.deepEqual([ms < 5000, code], [true, 0], `${ms} ms`);
  assert.deepEqual(await unmet(scene), []);
  // A bridge with a port of somebody else's would stay.
  host.run('ip', ['link', 'del', 'nic0'], { expect: 'any' });
  assert.equal(host.pipewright(['destroy']).code, 0);
  assert.deepEqual(host.links(), before);
  for (const each of containers) assert.deepEqual(linkNames(engine.pid(each)), []);
  assert.deepEqual(host.notes(), []);
  assert.doesNotMatch(host.run('iptables-save', []).stdout, /pipewright/);
}

test(`examples/lan, ${rounds} rounds`, async (t) => {
  if (skipUnless(t, 'root', 'docker', 'program:iptables')) return;
  const [host, router] = [await agentHost(t, 'exl'), await agentHost(t, 'exr')];
  const engine = await startDocker(t, host);
  let given: string[] | undefined;
  const scene: Scene = {
    host,
    engine,
    name: 'lan',
    containers: ['test1', 'test2'],
    links: ['br0', 'docker0', 'nic0'],
    lasting: ['addresses.json'],
    networks: 1,
    rules: 1,
    pids: new Set(),
    check: () => {
      assert.deepEqual(cidrs(engine.pid('test1'), 'eth1'), ['10.10.101.150/24']);
      const second = cidrs(engine.pid('test2'), 'eth1');
      given ??= second;
      assert.deepEqual(second, given, 'the address of the range is the same in each life');
      for (const name of ['test1', 'test2'])
        assert.deepEqual(defaults(engine.pid(name)), ['via 10.10.101.254 dev eth1']);
      const words = [`--net=/proc/${engine.pid('test2')}/ns/net`, 'ping', '-c1', '-W1', '10.10.101.254'];
      assert.equal(host.run('nsenter', words, { expect: 'any' }).code, 0, 'the gateway answers');
    },
  };
  // The LAN: a NIC that somebody put on the bridge, and the gateway behind it.
  await play(t, scene, () => {
    nicOn(host, 'nic0');
    host.ip('link', 'set', 'nic0', 'master', 'br0');
    host.ip('link', 'set', 'nic0p', 'netns', String(router.pid));
    router.ip('link', 'set', 'nic0p', 'up');
    router.ip('addr', 'add', '10.10.101.254/24', 'dev', 'nic0p');
  });
});

test(`examples/vlans, ${rounds} rounds`, async (t) => {
  if (skipUnless(t, 'root', 'docker', 'ovs', 'program:iptables')) return;
  const host = await agentHost(t, 'exv');
  await startOvs(t, host);
  const engine = await startDocker(t, host);
  const containers = ['test1', 'test2', 'test3', 'test4'];
  const scene: Scene = {
    host,
    engine,
    name: 'vlans',
    containers,
    links: ['docker0', 'ovs-netdev', 'ovs0'],
    lasting: [],
    networks: 2,
    rules: 0,
    pids: new Set(),
    check: () => {
      const ports = host.run('ovs-vsctl', ['list-ports', 'ovs0']).stdout.split('\n').filter(Boolean);
      const ends = containers.map((name) => `veth1pl${engine.pid(name)}`);
      assert.deepEqual(ports.sort(), ends.toSorted());
      assert.deepEqual(
        ends.map((end) => host.run('ovs-vsctl', ['get', 'port', end, 'tag']).stdout.trim()),
        ['100', '100', '200', '200'],
      );
    },
  };
  await play(t, scene);
  assert.equal(host.run('ovs-vsctl', ['list-br']).stdout, '');
});
