/** `pipewright status` of those who have no topology file and no agent: what commands have made, and what became of it. */
import assert from 'node:assert/strict';
import test from 'node:test';
import { run, runContainer, runIn, skipUnless } from '../lab.ts';
import { agentHost } from './agent-ground.ts';

test('status without a topology file shows what commands have made', async (t) => {
  if (skipUnless(t, 'root', 'docker')) return;
  const host = await agentHost(t, 'stm');
  // Whatever topology this machine has.
  host.run('sh', ['-c', 'test ! -d /etc/pipewright || mount -t tmpfs tmpfs /etc/pipewright']);
  const [a, b] = [runContainer(t, 'stma'), runContainer(t, 'stmb')];
  const status = () => {
    const { code, stdout } = host.pipewright(['status', '--state-dir', host.lasting, '--json'], {
      expect: 'any',
    });
    const { agent, attachments } = JSON.parse(stdout) as {
      agent: boolean;
      attachments: { key: string; state: string; detail: string; addrs: string[] }[];
    };
    assert.equal(agent, false);
    return [
      code,
      ...attachments.map(({ key, state, detail, addrs }) =>
        `${key.slice(4, 8)} ${state} ${addrs.join()} ${detail}`.trim(),
      ),
    ];
  };
  assert.deepEqual(status(), [0]);
  const none = host.pipewright(['status', '--state-dir', host.lasting]).stdout;
  assert.match(none, /^no agent runs.*\nnothing is wanted, and nothing connected\n$/);

  for (const [{ name }, address] of [
    [a, '10.1.0.1/24'],
    [b, '10.1.0.2/24'],
  ] as const)
    host.pipewright(['attach', name, '--network', 'bridge:br0', '--address', address]);
  assert.deepEqual(status(), [0, 'stma healthy 10.1.0.1/24', 'stmb healthy 10.1.0.2/24']);
  // With a file about others they are there as well.
  const file = host.write('networks: { lan: { kind: bridge, bridge: br1 } }\n');
  const beside = host.pipewright(['status', '--state-dir', host.lasting, file], { expect: 1 }).stdout;
  assert.match(beside, /network lan +differs.*stma[^ ]* +healthy.*stmb[^ ]* +healthy/s);

  runIn(a.pid, 'ip', ['addr', 'flush', 'dev', 'eth1']);
  run('docker', ['rm', '-f', b.name]);
  assert.deepEqual(status(), [
    1,
    'stma differs  eth1 does not have 10.1.0.1/24',
    'stmb differs  its container has ended: what it had is lost',
  ]);
  host.pipewright(['destroy']);
  assert.deepEqual(status(), [0]);
});
