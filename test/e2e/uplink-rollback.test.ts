// A move goes back by itself when somebody does not answer any more, or nobody confirms it, whatever became of the command.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import test, { type TestContext } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { ping, runAsync, runIn, skipUnless } from '../lab.ts';
import { soon } from './agent-ground.ts';
import { command, line } from './support.ts';
import { at, difference, dump, isAs, patience, type UplinkGround, uplinkGround } from './uplink-ground.ts';

const add = (confirm: string): string[] => [
  'uplink',
  'add',
  'eth0',
  '--network',
  'bridge:br0',
  '--confirm',
  confirm,
];

/** Waits until the host is as it was, and is reached. */
async function isBack(ground: UplinkGround, before: readonly string[]): Promise<void> {
  await soon(() => isAs(ground, before), patience);
  assert.deepEqual(difference(before, dump(ground)), []);
  assert.ok(ping(ground.router, at.host, 5));
  assert.ok(ping(ground.host.name, at.router, 5));
}

function journal({ host }: UplinkGround): string {
  return `${host.stateDir}/uplinks/eth0.json`;
}

/** Milliseconds until the move goes back. */
function untilDeadline(ground: UplinkGround): number {
  const { deadline } = JSON.parse(readFileSync(journal(ground), 'utf8')) as { deadline: number };
  return deadline - Number(process.hrtime.bigint() / 1_000_000n);
}

/** Ends the time for the confirmation, however long the machine took to get here. */
function endTime(ground: UplinkGround): void {
  const text = readFileSync(journal(ground), 'utf8').replace(/"deadline":\d+/, '"deadline":0');
  writeFileSync(`${journal(ground)}.new`, text);
  renameSync(`${journal(ground)}.new`, journal(ground));
}

/** In the order in which they are run; each but the last two begins and ends with the NIC as it was made. */
const cases: Readonly<Record<string, (ground: UplinkGround, t: TestContext) => Promise<void>>> = {
  'the gateway does not answer after the move': async (ground) => {
    const before = dump(ground);
    const { router } = ground;
    const { said, ended } = await stopAtLast(ground);
    const pid = await stopped(ground);
    runIn(router, 'ip', ['link', 'set', 'lan', 'down']);
    process.kill(pid, 'SIGCONT');
    const [code] = await ended;
    assert.equal(code, 1, said());
    assert.match(said(), /answered before and does not any more; everything is as it was/);
    runIn(router, 'ip', ['link', 'set', 'lan', 'up']);
    runIn(router, 'ip', ['addr', 'replace', `${at.router6}/64`, 'dev', 'lan', 'nodad']);
    await isBack(ground, before);
  },
  'nobody confirms, and the terminal is gone': async (ground) => {
    const before = dump(ground);
    const { host } = ground;
    // A session with a controlling terminal, which is hung up.
    const words = command('pipewright', add('60s')).join(' ');
    const child = spawn(
      'nsenter',
      [
        ...[`--mount=/proc/${host.pid}/ns/mnt`, `--net=/run/netns/${host.name}`],
        ...['script', '-qec', `${words}; sleep 60`, '/dev/null'],
      ],
      { stdio: 'ignore', detached: true },
    );
    const ended = once(child, 'exit');
    await soon(
      () => existsSync(journal(ground)) && readFileSync(journal(ground), 'utf8').includes('"moved"'),
      patience,
    );
    process.kill(-(child.pid ?? 0), 'SIGKILL');
    await ended;
    assert.equal(host.ip('-br', 'addr', 'show', 'eth0').stdout.includes(at.host), false);
    endTime(ground);
    await isBack(ground, before);
  },
  'the guard is killed as well: the next command puts it back': async (ground) => {
    const before = dump(ground);
    const { host } = ground;
    host.pipewright(add('60s'));
    const { pid } = JSON.parse(readFileSync(`${journal(ground)}.guard`, 'utf8')) as { pid: number };
    process.kill(pid, 'SIGKILL');
    endTime(ground);
    await sleep(300);
    assert.ok(host.ip('-br', 'addr', 'show', 'br0').stdout.includes(at.host));
    host.pipewright(['uplink', 'list']);
    await isBack(ground, before);
  },
  'the guard is killed and there is time left: the next command starts another one': async (ground) => {
    const before = dump(ground);
    const { host } = ground;
    host.pipewright(add('60s'));
    const guard = (): number =>
      (JSON.parse(readFileSync(`${journal(ground)}.guard`, 'utf8')) as { pid: number }).pid;
    const former = guard();
    process.kill(former, 'SIGKILL');
    host.pipewright(['uplink', 'list']);
    assert.notEqual(guard(), former);
    endTime(ground);
    await isBack(ground, before);
  },
  'a journal of another run of the machine says nothing': async (ground) => {
    const before = dump(ground);
    const { host } = ground;
    host.pipewright(add('30s'));
    host.pipewright(['confirm']);
    host.pipewright(['uplink', 'remove', 'eth0', '--confirm', '30s']);
    const text = readFileSync(journal(ground), 'utf8');
    host.pipewright(['confirm']);
    writeFileSync(journal(ground), text.replace(/"bootId":"[^"]*"/, '"bootId":"another"'));
    assert.equal(host.pipewright(['uplink', 'list']).stdout, 'pipewright has made no uplink\n');
    assert.equal(existsSync(journal(ground)), false);
    await isBack(ground, before);
  },
  'a confirmation at the last moment: it stays, or goes back and is told so': async (ground, t) => {
    const before = dump(ground);
    const { host } = ground;
    const ends: string[] = [];
    for (const early of [500, 220, 60]) {
      host.pipewright(add('5s'));
      await sleep(Math.max(0, untilDeadline(ground) - early));
      const { code, stderr } = host.pipewright(['confirm'], { expect: 'any' });
      ends.push(code === 0 ? 'stays' : 'goes back');
      if (code === 0) {
        await sleep(500);
        assert.ok(host.ip('-br', 'addr', 'show', 'br0').stdout.includes(at.host));
        host.pipewright(['uplink', 'remove', 'eth0', '--confirm', '0']);
      } else assert.match(stderr, /time is over|taken back/);
      await isBack(ground, before);
    }
    t.diagnostic(`confirmed 500, 220 and 60 ms before the end: ${ends.join(', ')}`);
  },
  'the peer of the SSH session is asked': async (ground) => {
    const { host } = ground;
    const env = { SSH_CONNECTION: `${at.router} 50000 ${at.host} 22` };
    const answer = host.pipewright([...add('0'), '--json'], { env });
    const { reached } = JSON.parse(answer.stdout) as { reached: string[] };
    assert.deepEqual(reached, [at.router, at.router6, at.router]);
    host.pipewright(['uplink', 'remove', 'eth0', '--confirm', '0']);
  },
  'command and guard are killed together in the middle: the next command puts it back': async (ground) => {
    const before = dump(ground);
    const { host } = ground;
    const { ended } = await stopAtLast(ground);
    await stopped(ground);
    const pids = [journal(ground), `${journal(ground)}.guard`].map(
      (file) => (JSON.parse(readFileSync(file, 'utf8')) as { pid: number }).pid,
    );
    for (const pid of pids) process.kill(pid, 'SIGKILL');
    await ended;
    assert.ok(host.ip('link', 'show', 'eth0').stdout.includes('master br0'));
    host.pipewright(['uplink', 'list']);
    await isBack(ground, before);
  },
  'the bridge is deleted while the move waits: back at once, and a confirmation is told so': async (
    ground,
  ) => {
    const before = dump(ground);
    const { host } = ground;
    host.pipewright(add('60m'));
    host.ip('link', 'del', 'br0');
    await isBack(ground, before);
    host.pipewright(add('60m'));
    const { pid } = JSON.parse(readFileSync(`${journal(ground)}.guard`, 'utf8')) as { pid: number };
    process.kill(pid, 'SIGSTOP');
    host.ip('link', 'del', 'br0');
    const answer = host.pipewright(['confirm'], { expect: 1 });
    process.kill(pid, 'SIGCONT');
    assert.match(
      line(answer),
      /br0 is gone, so there is nothing to confirm; what was left of the move is taken back/,
    );
    await isBack(ground, before);
  },
  'the cable is pulled and put in again while the move waits: it stays': async (ground) => {
    const before = dump(ground);
    const { host, router } = ground;
    host.pipewright(add('60s'));
    for (const to of ['down', 'up', 'down', 'up']) {
      runIn(router, 'ip', ['link', 'set', 'lan', to]);
      await soon(
        () => host.ip('link', 'show', 'br0').stdout.includes('NO-CARRIER') === (to === 'down'),
        patience,
      );
    }
    runIn(router, 'ip', ['addr', 'replace', `${at.router6}/64`, 'dev', 'lan', 'nodad']);
    host.pipewright(['confirm']);
    assert.ok(ping(host.name, at.router, 5));
    host.pipewright(['uplink', 'remove', 'eth0', '--confirm', '0']);
    await isBack(ground, before);
  },
  'two commands at once: one moves it, and the other is told': async (ground) => {
    const before = dump(ground);
    const { host } = ground;
    const [first = '', ...rest] = [...host.inside, ...command('pipewright', add('60s'))];
    const ran = await Promise.all([0, 1].map(() => runAsync(first, rest, { expect: 'any' })));
    assert.deepEqual(ran.map(({ code }) => code).sort(), [0, 1]);
    assert.match(ran.map(({ stderr }) => stderr).join(''), /a change of it waits to be confirmed/);
    endTime(ground);
    await isBack(ground, before);
  },
  'a settled uplink whose bridge is deleted is told as such, and the bridge of the next move is taken away again':
    async (ground) => {
      const { host } = ground;
      host.pipewright(add('0'));
      host.ip('link', 'del', 'br0');
      assert.match(host.pipewright(['uplink', 'list']).stdout, /^eth0 .* br0 is gone$/m);
      host.ip('addr', 'add', `${at.host}/24`, 'dev', 'eth0');
      host.pipewright(add('0'));
      host.pipewright(['uplink', 'remove', 'eth0', '--confirm', '0']);
      assert.doesNotMatch(host.ip('-br', 'link').stdout, /^br0/m);
      assert.ok(host.ip('-br', 'addr', 'show', 'eth0').stdout.includes(at.host));
    },
  'the NIC is taken out while the move waits: nothing is left of it': async (ground) => {
    const { host } = ground;
    host.pipewright(add('60m'));
    host.ip('link', 'del', 'eth0');
    await soon(() => !existsSync(journal(ground)), patience);
    assert.equal(host.pipewright(['uplink', 'list']).stdout, 'pipewright has made no uplink\n');
    assert.doesNotMatch(host.ip('-br', 'link').stdout, /^br0/m);
  },
};

/** The command, stopped at its last step: it has moved all, and is watched by nobody but the guard. */
async function stopAtLast({
  host,
}: UplinkGround): Promise<{ said: () => string; ended: Promise<unknown[]> }> {
  const words = command('pipewright', add('60s'));
  const calls = host.run('strace', ['-qq', '-e', 'trace=write', ...words]).stderr;
  host.pipewright(['confirm']);
  host.pipewright(['uplink', 'remove', 'eth0', '--confirm', '0']);
  const writes = calls.split('\n').filter((call) => call.startsWith('write('));
  const last = writes.findLastIndex((call) => /^write\(\d+, "\d+", \d\)/.test(call)) + 1;
  assert.ok(last > 0);
  const inject = `inject=write:signal=STOP:when=${last}`;
  const inside = ['-qq', '-o', '/dev/null', '-e', 'trace=write', '-e', inject];
  const child = spawn(
    'nsenter',
    [`--mount=/proc/${host.pid}/ns/mnt`, `--net=/run/netns/${host.name}`, 'strace', ...inside, ...words],
    { stdio: ['ignore', 'ignore', 'pipe'] },
  );
  let said = '';
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    said += text;
  });
  const ended = once(child, 'close');
  await soon(() => host.ip('link', 'show', 'eth0').stdout.includes('master br0'), patience);
  return { said: () => said, ended };
}

/** The command, when it has stood still for a while; strace stops it for a moment at each call. */
async function stopped(ground: UplinkGround): Promise<number> {
  const { pid } = JSON.parse(readFileSync(journal(ground), 'utf8')) as { pid: number };
  let still = 0;
  const isStopped = (): boolean => {
    still = /^State:\s+T/im.test(readFileSync(`/proc/${pid}/status`, 'utf8')) ? still + 1 : 0;
    return still >= 10;
  };
  assert.ok((await soon(isStopped, patience)) !== undefined, 'the command was not stopped');
  return pid;
}

test('what is not confirmed goes back', async (t) => {
  if (skipUnless(t, 'root', 'program:strace', 'program:ethtool', 'program:script')) return;
  const ground = await uplinkGround(t, 'ur');
  for (const [name, act] of Object.entries(cases)) await t.test(name, (t) => act(ground, t));
});

test('what cannot be an uplink is refused with the reason, and nothing is changed', async (t) => {
  if (skipUnless(t, 'root', 'program:ethtool')) return;
  const ground = await uplinkGround(t, 'uf');
  const { host } = ground;
  const ip = (text: string): void => void host.ip(...text.split(' '));
  for (const text of [
    'link add nic1 type veth peer name nic1p',
    'link add nic2 type veth peer name nic2p',
    'link add br1 type bridge',
    'link add br2 type bridge stp_state 1',
    'link set nic1 master br1',
    'link add link nic2 name mv0 type macvlan mode bridge',
    'link add group 1879048193 name pw0 type veth peer name pw0p',
    'tuntap add dev tun0 mode tun',
  ])
    ip(text);
  const before = dump(ground);
  const refusals: readonly [string, string, RegExp][] = [
    ['lo', 'bridge:br0', /lo is the loopback interface/],
    ['nic9', 'bridge:br0', /there is no nic9 on this host; see: ip link/],
    ['nic1', 'bridge:br0', /nic1 is a port of br1 already/],
    ['nic2', 'bridge:br0', /mv0 rides on nic2, and the kernel lets a NIC have either/],
    ['mv0', 'bridge:br0', /mv0 is a macvlan on another NIC/],
    ['pw0', 'bridge:br0', /pw0 is the host's end of a container's interface/],
    ['tun0', 'bridge:br0', /tun0 is not an Ethernet interface/],
    ['br1', 'bridge:br0', /br1 is a bridge/],
    ['eth0', 'bridge:eth0', /eth0 is the bridge itself/],
    ['eth0', 'bridge:nic2', /nic2 is a veth, not a Linux bridge/],
    ['eth0', 'bridge:br2', /STP is on on br2/],
    ['eth0', 'br0', /the network of an uplink is bridge:NAME or ovs:NAME; bridge:br0/],
    ['eth0', 'ovs:br1', /Open vSwitch|not an Open vSwitch bridge/],
  ];
  for (const [nic, network, why] of refusals) {
    const answer = host.pipewright(['uplink', 'add', nic, '--network', network], { expect: 1 });
    assert.match(line(answer), why);
    assert.equal(line(answer).split('\n').length, 1);
  }
  assert.match(
    line(host.pipewright(['uplink', 'remove', 'eth0'], { expect: 1 })),
    /has not made it an uplink/,
  );
  assert.match(line(host.pipewright(['confirm'], { expect: 1 })), /nothing waits to be confirmed/);
  assert.deepEqual(difference(before, dump(ground)), []);
});
