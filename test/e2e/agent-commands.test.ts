/** One-line commands while an agent runs are kept; and a host that lost everything gets it back. */
import assert from 'node:assert/strict';
import { rmSync } from 'node:fs';
import test, { type TestContext } from 'node:test';
import { type Container, cidrs, containerPid, ping, run, runContainer, skipUnless } from '../lab.ts';
import { type AgentHost, agentHost, soon } from './agent-ground.ts';
import { clear, emptyGuest, linkNames } from './support.ts';

interface Ground {
  readonly host: AgentHost;
  readonly a: Container;
  readonly b: Container;
}

const restart = ({ name }: Container): number => {
  run('docker', ['restart', '-t', '0', name]);
  return containerPid(name);
};

/** Waits until a container's eth1 has this address. */
async function gets(pid: number, cidr: string): Promise<void> {
  const took = await soon(() => cidrs(pid, 'eth1').join() === cidr);
  assert.ok(took !== undefined, `${cidr}: ${cidrs(pid, 'eth1')}`);
}

/** Waits until every round that a restart caused is over, and finds no interface. */
async function staysEmpty(host: AgentHost, pid: number): Promise<void> {
  await soon(() => linkNames(pid).length > 0, 700);
  assert.deepEqual(linkNames(pid), []);
  assert.deepEqual(
    host.status().filter(({ state }) => state === 'healthy'),
    [],
  );
}

const cases: Record<string, (ground: Ground, t: TestContext) => Promise<void>> = {
  'pipework persists, and detach forgets': async ({ host, a }, t) => {
    host.write('networks: {}\n');
    await host.agent(t);
    const ran = host.pipework(['br0', a.name, '10.1.0.1/24']);
    assert.equal(ran.stdout + ran.stderr, '');
    assert.deepEqual(cidrs(containerPid(a.name), 'eth1'), ['10.1.0.1/24']);
    await gets(restart(a), '10.1.0.1/24');
    assert.equal((await soon(() => host.status()[0]?.state === 'healthy')) !== undefined, true);
    // A file that does not say so leaves it alone.
    assert.equal(host.on('plan').stdout, 'nothing to do\n');
    host.pipewright(['detach', a.name, '--ifname', 'eth1']);
    assert.deepEqual(linkNames(containerPid(a.name)), []);
    await staysEmpty(host, restart(a));
  },

  'pipewright attach persists, past a restart of the agent too': async ({ host, a }, t) => {
    host.write('networks: {}\n');
    const agent = await host.agent(t);
    host.pipewright(['attach', a.name, '--network', 'br0', '--address', '10.1.0.1/24']);
    await agent.stop('SIGKILL');
    const pid = restart(a);
    assert.deepEqual(linkNames(pid), []);
    await host.agent(t);
    await gets(pid, '10.1.0.1/24');
    host.pipewright(['detach', a.name, '--ifname', 'eth1']);
  },

  'a second command changes what is kept': async ({ host, a }, t) => {
    host.write('networks: {}\n');
    await host.agent(t);
    host.pipework(['br0', a.name, '10.1.0.1/24']);
    host.pipewright(['attach', a.name, '--network', 'br0', '--address', '10.1.0.9/24']);
    await gets(containerPid(a.name), '10.1.0.9/24');
    await gets(restart(a), '10.1.0.9/24');
    host.pipewright(['detach', a.name, '--ifname', 'eth1']);
  },

  'what is made with --once does not persist': async ({ host, a, b }, t) => {
    host.write('networks: {}\n');
    await host.agent(t);
    host.pipework(['--once', 'br0', a.name, '10.1.0.1/24']);
    host.pipewright(['attach', b.name, '--network', 'br0', '--address', '10.1.0.2/24', '--once']);
    assert.deepEqual(cidrs(containerPid(a.name), 'eth1'), ['10.1.0.1/24']);
    assert.deepEqual(cidrs(containerPid(b.name), 'eth1'), ['10.1.0.2/24']);
    await staysEmpty(host, restart(a));
    await staysEmpty(host, restart(b));
  },

  'what is made with --once is not adopted by the next agent': async ({ host, a }, t) => {
    host.write('networks: {}\n');
    host.pipework(['--once', 'br0', a.name, '10.1.0.1/24']);
    await host.agent(t);
    await staysEmpty(host, restart(a));
  },

  'what a command made without an agent is adopted at its start': async ({ host, a, b }, t) => {
    host.pipework(['br0', a.name, '10.1.0.1/24']);
    host.pipewright(['attach', b.name, '--network', 'br0', '--address', '10.1.0.2/24']);
    host.write('networks: {}\n');
    const agent = await host.agent(t);
    assert.equal(agent.log().match(/adopted/g)?.length, 2, agent.log());
    await gets(restart(a), '10.1.0.1/24');
    await gets(restart(b), '10.1.0.2/24');
    for (const { name } of [a, b]) host.pipewright(['detach', name, '--ifname', 'eth1']);
  },

  'the file goes before a command': async ({ host, a }, t) => {
    const attachments = `attachments: [{ container: ${a.name}, network: lan, addresses: 10.1.0.1/24 }]`;
    host.write(`networks: { lan: { kind: bridge, bridge: br0 } }\n${attachments}\n`);
    await host.agent(t);
    const status = host.status();
    assert.deepEqual(
      status.map(({ key, state }) => [key, state]),
      [[`${a.name}/eth1`, 'healthy']],
    );
    host.pipework(['br0', '-i', 'eth2', a.name, '10.1.0.77/24']);
    await gets(restart(a), '10.1.0.1/24');
    await soon(() => cidrs(containerPid(a.name), 'eth2').length > 0);
    assert.deepEqual(cidrs(containerPid(a.name), 'eth2'), ['10.1.0.77/24']);
    host.pipewright(['detach', a.name, '--ifname', 'eth2']);
    assert.deepEqual(linkNames(containerPid(a.name)), ['eth1']);
  },

  'a host that starts anew has all of it back before the agent is ready': async ({ host, a, b }, t) => {
    const network =
      'lan: { kind: bridge, bridge: br0, subnet: 10.1.0.0/24, range: 10.1.0.100-10.1.0.119, hostAddress: 10.1.0.254/24 }';
    host.write(
      `networks: { ${network} }\nattachments: [{ container: ${a.name}, network: lan, addresses: auto }]\n`,
    );
    const agent = await host.agent(t);
    host.pipework(['br1', b.name, '10.2.0.2/24']);
    const given = cidrs(containerPid(a.name), 'eth1');
    assert.equal(given.length, 1);
    await agent.stop('SIGKILL');
    run('docker', ['stop', '-t', '0', a.name, b.name]);
    for (const name of host.links()) host.run('ip', ['link', 'del', name], { expect: 'any' });
    host.run('sh', ['-c', 'rm -rf /run/pipewright/*']);
    run('docker', ['start', a.name, b.name]);
    const next = await host.agent(t);
    assert.deepEqual(cidrs(containerPid(a.name), 'eth1'), given);
    assert.deepEqual(cidrs(containerPid(b.name), 'eth1'), ['10.2.0.2/24']);
    const said = next.log();
    const ready = said.indexOf('"msg":"ready"');
    for (const { name } of [a, b]) assert.ok(said.lastIndexOf(`"key":"${name}/eth1"`) < ready, said);
    assert.ok(ping(host.name, given.join().replace(/\/.*/, ''), 3));
  },
};

test('commands and the agent', async (t) => {
  if (skipUnless(t, 'root', 'docker')) return;
  const host = await agentHost(t, 'ach');
  const ground: Ground = { host, a: runContainer(t, 'aca'), b: runContainer(t, 'acb') };
  for (const [name, act] of Object.entries(cases)) {
    await t.test(name, async (t) => {
      for (const container of [ground.a, ground.b]) emptyGuest(containerPid(container.name));
      clear(ground);
      rmSync(host.lasting, { recursive: true, force: true });
      await act(ground, t);
    });
  }
});
