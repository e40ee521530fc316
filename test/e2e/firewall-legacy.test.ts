/** A host whose iptables is of the older backend, iptables-legacy with the kernel's ip_tables: the rule is made there. */
import assert from 'node:assert/strict';
import { existsSync, realpathSync } from 'node:fs';
import test from 'node:test';
import { ping, run, runContainer, skipUnless } from '../lab.ts';
import { agentHost, soon } from './agent-ground.ts';
import { emptyGuest } from './support.ts';

const families = ['iptables', 'ip6tables'] as const;
const bridgeNetfilter = '/proc/sys/net/bridge/bridge-nf-call-iptables';

test('the rule of a bridge by iptables-legacy', async (t) => {
  if (skipUnless(t, 'root', 'docker', 'program:iptables', 'program:iptables-legacy')) return;
  if (run('unshare', ['-n', 'iptables-legacy', '-S'], { expect: 'any' }).code !== 0)
    return t.skip('kernel lacks ip_tables');
  const host = await agentHost(t, 'fwl');
  const nft = realpathSync(run('sh', ['-c', 'command -v iptables']).stdout.trim());
  const legacy = realpathSync(run('sh', ['-c', 'command -v iptables-legacy']).stdout.trim());
  // The programs are one, which goes by the name that it is called by.
  if (nft !== legacy) host.run('mount', ['--bind', legacy, nft]);
  assert.match(host.run('iptables', ['--version']).stdout, /legacy/);
  for (const program of families) {
    host.run(program, ['-N', 'DOCKER-USER']);
    host.run(program, ['-A', 'DOCKER-USER', '-j', 'RETURN']);
    host.run(program, ['-A', 'FORWARD', '-j', 'DOCKER-USER']);
    host.run(program, ['-P', 'FORWARD', 'DROP']);
  }
  host.run('sh', ['-c', `echo 1 > ${bridgeNetfilter}`], { expect: 'any' });
  const rules = (): string[] => families.map((program) => host.run(program, ['-S']).stdout);
  const before = rules();
  const [a, b] = [runContainer(t, 'fwa'), runContainer(t, 'fwb')];
  for (const { pid } of [a, b]) emptyGuest(pid);
  host.write(`networks:
  lan: { kind: bridge, bridge: lbr0 }
attachments:
  - { container: ${a.name}, network: lan, addresses: 10.1.0.1/24 }
  - { container: ${b.name}, network: lan, addresses: 10.1.0.2/24 }
`);
  const apply = (): void => {
    const ran = host.on('apply', '--yes');
    assert.equal(ran.code, 0, ran.stdout + ran.stderr);
    const ours = '-A DOCKER-USER -i lbr0 -o lbr0 -m comment --comment "pipewright:lbr0" -j ACCEPT';
    for (const [at, text] of rules().entries()) {
      const [first, ...others] = text.split('\n').filter((line) => line.startsWith('-A DOCKER-USER'));
      assert.deepEqual([first, others], [ours, ['-A DOCKER-USER -j RETURN']], families[at]);
    }
    assert.equal(host.on('plan').stdout, 'nothing to do\n');
  };

  await t.test('it is made in both families, once, and lets pass', () => {
    apply();
    assert.ok(ping(a.pid, '10.1.0.2'));
    host.run('iptables', ['-D', 'DOCKER-USER', '1']);
    assert.equal(ping(a.pid, '10.1.0.2'), !existsSync(bridgeNetfilter));
  });

  await t.test('taken away by somebody, it is made again', () => {
    assert.equal(host.on('plan').code, 2);
    apply();
  });

  await t.test('the agent finds a chain that was emptied at the next round', async (t) => {
    const agent = await host.agent(t);
    for (const program of families) {
      host.run(program, ['-F', 'DOCKER-USER']);
      host.run(program, ['-A', 'DOCKER-USER', '-j', 'RETURN']);
    }
    agent.process.kill('SIGHUP');
    const isBack = (): boolean => rules().every((text) => text.includes('pipewright:lbr0'));
    assert.ok((await soon(isBack, 30_000)) !== undefined, agent.log());
    await agent.stop('SIGTERM');
  });

  await t.test('it goes with the bridge', () => {
    host.pipewright(['destroy']);
    assert.deepEqual(rules(), before);
  });
});
