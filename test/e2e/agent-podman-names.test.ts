/** Which containers of two engines are meant: by commands, which the agent keeps, and by a file. */
import assert from 'node:assert/strict';
import test from 'node:test';
import { cidrs, containerPid, ping, run, runContainer, skipUnless } from '../lab.ts';
import { agentHost, soon } from './agent-ground.ts';
import { become, detailOf, lines, network, ownPodman } from './own-podman.ts';

test('commands for containers of Podman are kept, and names that both engines have are told apart', async (t) => {
  if (skipUnless(t, 'root', 'docker', 'program:podman', 'program:curl')) return;
  const host = await agentHost(t, 'apc');
  const podman = await ownPodman(t, host);
  if (!podman) return;
  await podman.start();
  const a = runContainer(t, 'apca');
  for (const name of ['p', a.name]) podman.run(name);
  const isRight = (name: string, ifname: string, cidr: string) => (): boolean =>
    cidrs(podman.pid(name), ifname).join() === cidr;

  host.pipewright(['attach', 'podman:p', '--network', 'bridge:br0', '--address', '10.9.0.11/24']);
  host.use();
  const agent = await host.agent(t);

  await t.test('what was made before the agent started is adopted', async () => {
    assert.equal(lines(agent, 'adopted').length, 1, agent.log());
    podman.podman(['restart', '-t', '1', 'p']);
    assert.ok(await soon(isRight('p', 'eth1', '10.9.0.11/24'), 15_000), agent.log());
    await become(host, agent, 'podman:p/eth1 healthy');
  });

  await t.test('what is made while it runs is kept until it is detached', async () => {
    const { stderr } = host.pipework(['br0', '-i', 'eth2', 'podman:p', '10.9.0.12/24']);
    assert.equal(stderr, '');
    podman.podman(['restart', '-t', '1', 'p']);
    assert.ok(await soon(isRight('p', 'eth2', '10.9.0.12/24'), 15_000), agent.log());
    await become(host, agent, 'podman:p/eth1 healthy', 'podman:p/eth2 healthy');
    podman.podman(['stop', '-t', '1', 'p']);
    host.pipewright(['detach', 'podman:p', '--ifname', 'eth2']);
    podman.podman(['start', 'p']);
    assert.ok(await soon(isRight('p', 'eth1', '10.9.0.11/24'), 15_000), agent.log());
    await become(host, agent, 'podman:p/eth1 healthy');
    assert.equal(cidrs(podman.pid('p'), 'eth2').length, 0);
  });

  await t.test('a container of each engine has the same name, and both are kept', async () => {
    host.pipewright(['attach', `podman:${a.name}`, '--network', 'bridge:br0', '--address', '10.9.0.21/24']);
    host.pipewright(['attach', a.name, '--network', 'bridge:br0', '--address', '10.9.0.22/24']);
    const keys = ['podman:p/eth1', `podman:${a.name}/eth1`, `${a.name}/eth1`];
    await become(host, agent, ...keys.map((key) => `${key} healthy`));
    assert.equal(cidrs(a.pid, 'eth1').join(), '10.9.0.22/24');
    assert.ok(isRight(a.name, 'eth1', '10.9.0.21/24')());
    for (const name of [`podman:${a.name}`, a.name, 'podman:p']) host.pipewright(['detach', name]);
    await agent.stop('SIGTERM');
  });

  await t.test('a plain name in a file is of Docker, and the other is refused by name', async (t) => {
    host.use(
      host.write(`
networks: { ${network} }
attachments:
  - { container: ${a.name}, network: lan, addresses: 10.9.0.1/24 }
  - { container: "podman:*", network: lan, ifname: eth5 }
  - { container: "podman:${a.name}", network: lan, ifname: eth6, addresses: 10.9.0.6/24 }
`),
    );
    const others = ['podman:p/eth5', `podman:${a.name}/eth5`, `podman:${a.name}/eth6`].map(
      (key) => `${key} healthy`,
    );
    // Its container of Docker does not run at first, so that the name is of Podman.
    run('docker', ['stop', '-t', '0', a.name]);
    const second = await host.agent(t);
    await become(host, second, `podman:${a.name}/eth1 healthy`, ...others);
    run('docker', ['start', a.name]);
    await become(host, second, `${a.name}/eth1 healthy`, `podman:${a.name}/eth1 failing`, ...others);
    assert.deepEqual(cidrs(podman.pid(a.name), 'eth1'), []);
    const pid = containerPid(a.name);
    assert.deepEqual(cidrs(pid, 'eth1'), ['10.9.0.1/24']);
    assert.match(
      detailOf(host, `podman:${a.name}/eth1`),
      /^Docker has a container \S+ too, which goes first: say podman:\S+ for this one$/,
    );
    assert.ok(ping(pid, '10.9.0.6'));
  });

  await t.test('what is on the host is imported from both', () => {
    const { stdout } = host.pipewright(['import', '--from-host', '--json'], { expect: 'any' });
    const { yaml, notes } = JSON.parse(stdout) as { yaml: string; notes: string[] };
    const entries = [`docker:${a.name}\n`, 'podman:p\n', `podman:${a.name}\n`].map(
      (end) => `- container: ${end}`,
    );
    for (const entry of entries) assert.ok(yaml.includes(entry), yaml);
    // Containers of other tests are there as well.
    assert.deepEqual(
      notes.filter((note) => !/its other end is not on the host/.test(note)),
      [],
    );
    host.write(yaml);
    assert.equal(host.on('plan').stdout, 'nothing to do\n', yaml);
  });
});
