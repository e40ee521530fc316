/** The agent's state directory: on a disk that is full, and with files that were cut off. */
import assert from 'node:assert/strict';
import test from 'node:test';
import { cidrs, runContainer, skipUnless } from '../lab.ts';
import { agentHost, soon } from './agent-ground.ts';

test('a full disk', async (t) => {
  if (skipUnless(t, 'root', 'docker')) return;
  const host = await agentHost(t, 'atf');
  const at = (name: string): string => `${host.lasting}/${name}`;
  host.run('mkdir', ['-p', host.lasting]);
  host.run('mount', ['-t', 'tmpfs', '-o', 'size=64k', 'tmpfs', host.lasting]);
  const a = runContainer(t, 'atfa');
  host.write(`
networks: { lan: { kind: bridge, bridge: br0, subnet: 10.1.0.0/24, range: 10.1.0.100-10.1.0.199 } }
attachments:
  - { container: 'pwt-atf?-${process.pid}', network: lan, addresses: auto }
  - { container: pwt-atfix-${process.pid}, network: lan, addresses: 10.1.0.2/24 }
`);
  const agent = await host.agent(t);
  const states = (): string[] => host.status().map(({ key, state }) => `${key} ${state}`);
  const said = (): string => host.pipewright(['status'], { expect: 'any' }).stdout;
  assert.deepEqual(states(), [`${a.name}/eth1 healthy`, `pwt-atfix-${process.pid}/eth1 waiting`]);
  const address = cidrs(a.pid, 'eth1');
  const kept = host.run('cat', [at('addresses.json')]).stdout;
  // Until it says that there is no space.
  host.run('dd', ['if=/dev/zero', `of=${at('fill')}`, 'bs=1k'], { expect: 'any' });

  const b = runContainer(t, 'atfb');
  const c = runContainer(t, 'atfix');
  await t.test('what cannot be written down is not done, and the rest goes on', async () => {
    const isSo = (): boolean =>
      states().join() ===
      [`${a.name}/eth1 healthy`, `${b.name}/eth1 failing`, `${c.name}/eth1 healthy`].join();
    assert.ok((await soon(isSo)) !== undefined, `${states()}\n${agent.log()}`);
    assert.deepEqual(cidrs(c.pid, 'eth1'), ['10.1.0.2/24']);
    assert.deepEqual([cidrs(a.pid, 'eth1'), cidrs(b.pid, 'eth1')], [address, []]);
  });
  await t.test('the old file stays, and the status names the error', () => {
    assert.equal(host.run('cat', [at('addresses.json')]).stdout, kept);
    assert.match(said(), /^problem: state\.write .*addresses\.json: .*ENOSPC/m);
    assert.match(said(), new RegExp(`${b.name}/eth1 .*its address cannot be kept`));
    assert.equal(host.pipewright(['status'], { expect: 'any' }).code, 1);
    assert.equal(agent.log().split('addresses.json: ENOSPC').length - 1 <= 3, true, agent.log());
  });
  await t.test('a command is carried out, and says that it is not kept', () => {
    const ran = host.pipewright(
      ['attach', c.name, '--network', 'bridge:br9', '--ifname', 'eth5', '--address', '10.9.0.1/24'],
      { expect: 'any' },
    );
    assert.equal(ran.code, 0, ran.stderr);
    assert.match(
      ran.stderr,
      /eth5 is connected, and ends with the container, for it cannot be kept: .*ENOSPC/,
    );
    assert.deepEqual(cidrs(c.pid, 'eth5'), ['10.9.0.1/24']);
  });
  await t.test('an agent starts there, too', async () => {
    assert.equal((await agent.stop('SIGTERM')).code, 0);
    const next = await host.agent(t);
    assert.deepEqual(cidrs(a.pid, 'eth1'), address);
    assert.deepEqual(cidrs(c.pid, 'eth5'), ['10.9.0.1/24']);
    assert.match(next.log(), /what a command had made cannot be kept/);
  });
  await t.test('with room again, all is well by itself', async () => {
    host.run('rm', [at('fill')]);
    const isWell = (): boolean =>
      cidrs(b.pid, 'eth1').length === 1 && !said().includes('addresses.json') && !said().includes('failing');
    assert.ok((await soon(isWell, 20_000)) !== undefined, said());
    assert.deepEqual(cidrs(a.pid, 'eth1'), address);
  });
});

test('files that were cut off', async (t) => {
  if (skipUnless(t, 'root', 'docker')) return;
  const host = await agentHost(t, 'att');
  const [a, b] = [runContainer(t, 'atta'), runContainer(t, 'attb')];
  host.write(`
networks: { lan: { kind: bridge, bridge: br0, subnet: 10.1.0.0/24, range: 10.1.0.100-10.1.0.199 } }
attachments: [{ container: ${a.name}, network: lan, addresses: auto }]
`);
  const attach = (ifname: string, address: string): void =>
    void host.pipewright([
      ...['attach', b.name, '--network', 'bridge:br9', '--ifname', ifname, '--address', address],
    ]);
  const isHealthy = (count: number) => (): boolean =>
    host.status().length === count && host.status().every(({ state }) => state === 'healthy');
  const agent = await host.agent(t);
  attach('eth1', '10.9.0.1/24');
  attach('eth2', '10.9.0.2/24');
  assert.ok((await soon(isHealthy(3))) !== undefined, agent.log());
  const address = cidrs(a.pid, 'eth1');
  await agent.stop('SIGTERM');
  const files = ['addresses.json', `attachments/${b.name}%20eth1.json`].map(
    (name) => `${host.lasting}/${name}`,
  );
  for (const file of files) host.run('truncate', ['-s', '20', file]);
  const next = await host.agent(t);
  assert.ok((await soon(isHealthy(3))) !== undefined, `${JSON.stringify(host.status())}\n${next.log()}`);
  assert.deepEqual(cidrs(a.pid, 'eth1'), address);
  assert.deepEqual([cidrs(b.pid, 'eth1'), cidrs(b.pid, 'eth2')], [['10.9.0.1/24'], ['10.9.0.2/24']]);
  const said = (): string => host.pipewright(['status'], { expect: 'any' }).stdout;
  for (const file of files) {
    assert.ok(said().includes(`problem: ${file} was not readable: look at ${file}.damaged`), said());
    assert.ok(next.log().includes(`${file} was not readable`), next.log());
    assert.equal(host.run('stat', ['-c', '%s', `${file}.damaged`]).stdout, '20\n');
    host.run('rm', [`${file}.damaged`]);
  }
  assert.doesNotMatch(said(), /problem/);
  await t.test('while it runs', async () => {
    host.run('truncate', ['-s', '20', files[1] ?? '']);
    next.process.kill('SIGHUP');
    assert.ok((await soon(() => said().includes('.damaged'))) !== undefined, said());
    assert.deepEqual(cidrs(b.pid, 'eth1'), ['10.9.0.1/24'], 'nobody said that it is wanted no more');
  });
});
