/** The agent under a service manager: readiness, reload and stop, and a host that has just booted. */
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import path from 'node:path';
import test, { type TestContext } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { cidrs, ipLink, linkExists, ping, skipUnless } from '../lab.ts';
import { type AgentHost, agentHost, soon, startOvs } from './agent-ground.ts';
import { dumpOf } from './dump.ts';
import { startDocker } from './own-docker.ts';
import { defaults } from './support.ts';

/** Prints each datagram in a line; whoever says READY=1 is stopped (SIGSTOP) at once, to be looked at. */
const manager = `
import os, signal, socket, struct, sys
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
s.bind(sys.argv[1])
print('listening', flush=True)
while True:
    text, ancillary, _, _ = s.recvmsg(65536, 1024)
    pid = struct.unpack('3i', ancillary[0][2])[0]
    if text == b'READY=1':
        os.kill(pid, signal.SIGSTOP)
    print(repr(text.decode()), flush=True)
`;

interface Manager {
  /** What it was told so far. */
  readonly told: string[];
}

/** Listens at $NOTIFY_SOCKET of all that runs on this host. */
async function listen(t: TestContext, host: AgentHost): Promise<Manager> {
  const place = path.join(path.dirname(host.lasting), 'notify');
  const child: ChildProcess = spawn('python3', ['-c', manager, place], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  t.after(() => void child.kill());
  const told: string[] = [];
  child.stdout?.setEncoding('utf8').on('data', (text: string) => {
    told.push(...text.split('\n').filter(Boolean));
  });
  await soon(() => told.length > 0);
  told.length = 0;
  host.env.NOTIFY_SOCKET = place;
  return { told };
}

const yaml = `
networks:
  lan:
    kind: bridge
    bridge: br0
    subnet: 10.1.0.0/24
    gateway: 10.1.0.254
    range: 10.1.0.100-10.1.0.199
    hostAddress: 10.1.0.254/24
  vlan100: { kind: ovs, bridge: ovs0, vlan: 100, subnet: 192.168.0.0/24 }
attachments:
  - { container: test1, network: lan, addresses: auto }
  - { container: test2, network: lan, addresses: 10.1.0.2/24 }
  - { container: test1, network: vlan100, ifname: eth2, addresses: 192.168.0.1/24 }
  - { container: test2, network: vlan100, ifname: eth2, addresses: 192.168.0.2/24 }
`;

test('a host boots: readiness comes when all is as it was', async (t) => {
  if (skipUnless(t, 'root', 'docker', 'ovs', 'program:python3', 'program:iptables')) return;
  const host = await agentHost(t, 'asb');
  const ovs = await startOvs(t, host);
  const engine = await startDocker(t, host);
  for (const name of ['test1', 'test2']) engine.run(name, '--restart', 'always');
  const { told } = await listen(t, host);
  host.write(yaml);
  /** Starts it and stops it at its READY=1. */
  const started = async () => {
    told.length = 0;
    const agent = host.startAgent();
    t.after(() => agent.stop('SIGKILL'));
    assert.ok((await soon(() => told.length > 0, 15_000)) !== undefined, agent.log());
    assert.deepEqual(told, ["'READY=1'"]);
    return agent;
  };
  const bridgesAreThere = (): void => {
    assert.deepEqual(cidrs(host.name, 'br0'), ['10.1.0.254/24']);
    assert.ok(ipLink(host.name, 'br0')?.flags.includes('UP'));
    assert.equal(host.run('ovs-vsctl', ['list-br']).stdout, 'ovs0\n');
  };
  let given: string[] | undefined;
  const allIsThere = (): void => {
    bridgesAreThere();
    const [a, b] = [engine.pid('test1'), engine.pid('test2')];
    given ??= cidrs(a, 'eth1');
    assert.match(given.join(), /^10\.1\.0\.1\d\d\/24$/);
    assert.deepEqual(cidrs(a, 'eth1'), given, 'the address that was given out');
    for (const pid of [a, b]) assert.deepEqual(defaults(pid), ['via 10.1.0.254 dev eth1']);
    assert.ok(ping(a, '10.1.0.2') && ping(a, '10.1.0.254') && ping(a, '192.168.0.2'));
    const tags = [a, b].map((pid) => host.run('ovs-vsctl', ['get', 'port', `veth2pl${pid}`, 'tag']).stdout);
    assert.deepEqual(tags, ['100\n', '100\n']);
    assert.match(host.run('iptables', ['-S', 'DOCKER-USER']).stdout, /pipewright:br0/);
  };
  /** Everything in the kernel and in Open vSwitch goes, and what was below /run. */
  const reboot = async (): Promise<void> => {
    await engine.crash();
    await ovs.kill();
    for (const link of host.links()) host.run('ip', ['link', 'del', link], { expect: 'any' });
    host.run('sh', ['-c', 'iptables -F; iptables -X; iptables -t nat -F; iptables -t nat -X']);
    host.run('sh', ['-c', 'rm -rf /run/pipewright/*']);
    assert.deepEqual(host.links(), []);
    await ovs.start({ empty: true });
  };

  await t.test('for the first time', async () => {
    const agent = await started();
    allIsThere();
    await agent.stop('SIGKILL');
  });

  await t.test('with Docker before the agent', async () => {
    await reboot();
    await engine.start();
    assert.ok((await soon(() => engine.pid('test1') > 0 && engine.pid('test2') > 0)) !== undefined);
    assert.equal(linkExists(host.name, 'br0'), false);
    const agent = await started();
    allIsThere();
    await agent.stop('SIGKILL');
  });

  await t.test('with the agent before Docker', async () => {
    await reboot();
    const agent = await started();
    bridgesAreThere();
    agent.process.kill('SIGCONT');
    await engine.start();
    const isWell = (): boolean =>
      host.status().length === 4 && host.status().every(({ state }) => state === 'healthy');
    assert.ok((await soon(isWell, 15_000)) !== undefined, agent.log());
    allIsThere();
    await agent.stop('SIGKILL');
  });
});

test('reload and stop', async (t) => {
  if (skipUnless(t, 'root', 'docker', 'program:python3')) return;
  const host = await agentHost(t, 'ass');
  const engine = await startDocker(t, host);
  engine.run('test1');
  const { told } = await listen(t, host);
  const file = (addresses: string): string => `
networks: { lan: { kind: bridge, bridge: br0, subnet: 10.1.0.0/24, hostAddress: 10.1.0.254/24 } }
attachments: [{ container: test1, network: lan, addresses: ${addresses} }]
`;
  host.write(file('10.1.0.1/24'));
  const agent = host.startAgent();
  t.after(() => agent.stop('SIGKILL'));
  const toldSoon = async (...words: readonly string[]): Promise<void> => {
    await soon(() => told.length >= words.length, 10_000);
    assert.deepEqual(
      told.map((text) => text.replace(/\d{4,}/, 'TIME')),
      words,
      agent.log(),
    );
    told.length = 0;
  };
  await toldSoon("'READY=1'");

  await t.test('SIGHUP: RELOADING=1, and READY=1 when the new files are in force', async () => {
    host.write(file('10.1.0.9/24'));
    agent.process.kill('SIGHUP');
    agent.process.kill('SIGCONT');
    await toldSoon("'RELOADING=1\\nMONOTONIC_USEC=TIME'", "'READY=1'");
    assert.deepEqual(cidrs(engine.pid('test1'), 'eth1'), ['10.1.0.9/24']);
    agent.process.kill('SIGCONT');
  });

  await t.test('a second agent on the same state directory is refused, and says nothing', async () => {
    const second = host.startAgent();
    await once(second.process, 'exit');
    assert.equal(second.process.exitCode, 1);
    assert.match(second.log(), /another agent runs on this state directory/);
    assert.deepEqual(told, []);
    assert.deepEqual(
      host.status().map(({ state }) => state),
      ['healthy'],
    );
  });

  await t.test('SIGTERM: STOPPING=1, an end within 5 s, and the network stays', async () => {
    const before = dumpOf(host, [engine.pid('test1')]);
    const { ms, code } = await agent.stop('SIGTERM');
    assert.deepEqual([ms < 5000, code], [true, 0], `${ms} ms`);
    await toldSoon("'STOPPING=1'");
    assert.deepEqual(dumpOf(host, [engine.pid('test1')]), before);
    assert.ok(ping(host.name, '10.1.0.9'));
  });

  await t.test('SIGTERM while Docker does not answer', async () => {
    engine.signal('SIGSTOP');
    try {
      const waiting = host.startAgent();
      t.after(() => waiting.stop('SIGKILL'));
      await sleep(1500);
      assert.deepEqual(told, []);
      const { ms, code } = await waiting.stop('SIGTERM');
      assert.deepEqual([ms < 5000, code], [true, 0], `${ms} ms`);
      await toldSoon("'STOPPING=1'");
    } finally {
      engine.signal('SIGCONT');
    }
  });
});
