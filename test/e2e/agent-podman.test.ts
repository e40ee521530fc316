/** The agent looks after containers of Docker and of Podman on one host, whichever of the two is there. */
import assert from 'node:assert/strict';
import test from 'node:test';
import { type Container, cidrs, ping, run, runContainer, runIn, skipUnless } from '../lab.ts';
import { type AgentHost, agentHost, soon } from './agent-ground.ts';
import { become, detailOf, lines, network, type OwnPodman, ownPodman, states } from './own-podman.ts';
import { command } from './support.ts';

function problems(host: AgentHost): string[] {
  const { stdout } = host.run(process.execPath, command('pipewright', ['status', '--json']).slice(1), {
    expect: 'any',
  });
  return (JSON.parse(stdout) as { problems: string[] }).problems;
}

/** The interface's index, which is another one when the interface is. */
const indexOf = (pid: number): string =>
  runIn(pid, 'cat', ['/sys/class/net/eth1/ifindex'], { expect: 'any' }).stdout.trim();

const meet = (a: Container, pid: number): boolean => ping(a.pid, '10.9.0.2', 5) && ping(pid, '10.9.0.1', 5);

test('Podman comes after the agent, goes, and comes again', async (t) => {
  if (skipUnless(t, 'root', 'docker', 'program:podman', 'program:curl')) return;
  const host = await agentHost(t, 'apa');
  const podman = await ownPodman(t, host);
  if (!podman) return;
  const a = runContainer(t, 'apaa');
  host.write(`
networks: { ${network} }
attachments:
  - { container: ${a.name}, network: lan, addresses: 10.9.0.1/24 }
  - { container: p, network: lan, addresses: 10.9.0.2/24 }
`);
  const agent = await host.agent(t);
  const well = [`${a.name}/eth1 healthy`, 'podman:p/eth1 healthy'];

  await t.test('without Podman nothing is said of it', () => {
    assert.deepEqual(states(host), ['p/eth1 waiting', `${a.name}/eth1 healthy`]);
    assert.deepEqual(problems(host), []);
    assert.deepEqual(lines(agent, 'Podman'), []);
  });

  await t.test('its service starts, with a container that ran before', async () => {
    podman.run('p');
    await podman.start();
    await become(host, agent, ...well);
    assert.ok(meet(a, podman.pid('p')));
  });

  await t.test('a container is put right', async () => {
    runIn(podman.pid('p'), 'ip', ['addr', 'flush', 'dev', 'eth1']);
    // Nothing of the container's namespace is heard on the host: the interface's end there is.
    host.ip('link', 'set', hostEnd(host, a), 'down');
    host.ip('link', 'set', hostEnd(host, a), 'up');
    assert.ok(await soon(() => cidrs(podman.pid('p'), 'eth1').join() === '10.9.0.2/24', 10_000), agent.log());
    await become(host, agent, ...well);
  });

  for (const [name, act] of lifeCases(podman)) {
    await t.test(name, async (t) => {
      const before = podman.pid('p');
      act();
      const right = (): boolean => cidrs(podman.pid('p'), 'eth1').join() === '10.9.0.2/24';
      const took = await soon(right, 15_000);
      assert.ok(took !== undefined, agent.log());
      t.diagnostic(`right after ${took} ms`);
      assert.notEqual(podman.pid('p'), before);
      await become(host, agent, ...well);
      assert.ok(meet(a, podman.pid('p')));
    });
  }

  await t.test('its service hangs: those of Docker are cared for all the same', async () => {
    podman.signal('SIGSTOP');
    host.ip('link', 'del', hostEnd(host, a));
    assert.ok(await soon(() => cidrs(a.pid, 'eth1').join() === '10.9.0.1/24', 15_000), agent.log());
    await become(host, agent, `${a.name}/eth1 healthy`, 'podman:p/eth1 waiting');
    assert.match(problems(host).join(), /: Podman does not answer \[ETIME\]$/);
    podman.signal('SIGCONT');
    await become(host, agent, ...well);
    assert.ok(meet(a, podman.pid('p')));
  });

  await t.test(
    'its service is killed: its containers stay as they are, those of Docker are cared for',
    async () => {
      const index = indexOf(podman.pid('p'));
      const backs = lines(agent, 'Podman is back').length;
      await podman.kill();
      await become(host, agent, `${a.name}/eth1 healthy`, 'podman:p/eth1 waiting');
      assert.match(problems(host).join(), /^podman\.list .*Podman is not running/);
      assert.match(detailOf(host, 'podman:p/eth1'), /^Podman does not answer$/);
      host.ip('link', 'del', hostEnd(host, a));
      assert.ok(await soon(() => cidrs(a.pid, 'eth1').join() === '10.9.0.1/24', 10_000), agent.log());
      run('docker', ['restart', '-t', '0', a.name]);
      const pid = (): number => Number(run('docker', ['inspect', '-f', '{{.State.Pid}}', a.name]).stdout);
      assert.ok(await soon(() => cidrs(pid(), 'eth1').join() === '10.9.0.1/24', 10_000), agent.log());
      assert.ok(ping(podman.pid('p'), '10.9.0.1'));
      assert.equal(indexOf(podman.pid('p')), index);
      assert.equal(lines(agent, 'Podman is not running').length, 1, agent.log());
      await podman.start();
      await become(host, agent, ...well);
      assert.equal(indexOf(podman.pid('p')), index);
      await soon(() => lines(agent, 'Podman is back').length > backs);
      assert.equal(lines(agent, 'Podman is back').length, backs + 1, agent.log());
      assert.deepEqual(problems(host), []);
      assert.equal(lines(agent, 'broken off').length, 0, agent.log());
    },
  );

  await t.test('plan and status without an agent see both', async () => {
    await agent.stop('SIGTERM');
    const plan = host.on('plan');
    assert.equal(plan.code, 0, plan.stdout + plan.stderr);
    const status = JSON.parse(host.on('status', '--json').stdout) as { attachments: { key: string }[] };
    assert.deepEqual(status.attachments.map(({ key }) => key).sort(), [
      'network lan',
      'podman:p/eth1',
      `${a.name}/eth1`,
    ]);
    await podman.kill();
    const without = host.on('plan');
    assert.equal(without.code, 0, without.stdout + without.stderr);
    assert.match(without.stderr, /^warning: .*: what there is of containers of Podman stays as it is\n$/);
  });
});

/** The end on the host of a container's eth1. */
function hostEnd(host: AgentHost, { name }: Container): string {
  const { stdout } = host.pipewright(['list', '--json']);
  const { attachments } = JSON.parse(stdout) as { attachments: { container: string; hostIfname: string }[] };
  return attachments.find(({ container }) => container === name)?.hostIfname ?? '';
}

function lifeCases(podman: OwnPodman): [string, () => void][] {
  return [
    ['podman restart', () => podman.podman(['restart', '-t', '1', 'p'])],
    [
      'podman stop and start',
      () => {
        podman.podman(['stop', '-t', '1', 'p']);
        podman.podman(['start', 'p']);
      },
    ],
    [
      'another one of the same name',
      () => {
        podman.podman(['rm', '-f', '-t', '0', 'p']);
        podman.run('p');
      },
    ],
  ];
}
