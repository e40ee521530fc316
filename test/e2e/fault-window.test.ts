// Moments that lie between the steps: a program of ours at work, a file half-written, others at work meanwhile.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import test from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { attach } from '../../src/apply/attach.ts';
import type { Held } from '../../src/apply/transaction.ts';
import { resolvePid } from '../../src/containers/proc.ts';
import { hasProgram, run, runIn, type Snapshot, skipUnless } from '../lab.ts';
import { differences, Ground, pipework } from './fault-ground.ts';

const bridge = { network: { kind: 'bridge', name: 'br1' } } as const;

/** Waits up to 5 s. */
async function until(what: string, isSo: () => boolean): Promise<void> {
  for (const deadline = Date.now() + 5000; !isSo(); await sleep(5)) {
    if (Date.now() > deadline) throw new Error(`not so after 5 s: ${what}`);
  }
}

/** Starts a command, and kills it (not what it started) as soon as `isTime`. */
async function killedWhen(words: readonly string[], isTime: () => boolean, what: string): Promise<void> {
  const child = spawn(words[0] ?? '', words.slice(1), { stdio: 'ignore' });
  const gone = once(child, 'exit');
  await until(what, isTime);
  child.kill('SIGKILL');
  await gone;
}

test('killed while iptables is at work: the next command waits for it, and takes the rule away', async (t) => {
  if (skipUnless(t, 'root', 'program:iptables')) return;
  const ground = await Ground.make(t);
  await ground.connectOther(t);
  const before = ground.dump();
  const flag = `${ground.stateDir}/journal/flag`;
  const slow = { iptables: `case "$*" in *-I*) touch ${flag}; sleep 0.5;; esac` };
  const words = [...ground.enterWith(t, slow), ...pipework, 'br1', `pid:${ground.guest.pid}`, '10.1.0.5/24'];
  await killedWhen(words, () => existsSync(flag), 'iptables runs');
  run('rm', [flag]);
  const began = performance.now();
  await ground.nextCommand();
  assert.ok(performance.now() - began > 250, 'it waited');
  await sleep(500);
  assert.deepEqual(await differences(before, () => ground.dump()), []);
});

test('what a killed command has left half-written is removed, and what a living one writes is not', async (t) => {
  if (skipUnless(t, 'root')) return;
  const ground = await Ground.make(t);
  await ground.attach(bridge);
  await ground.detach();
  const dead = spawn('true', { stdio: 'ignore' });
  await once(dead, 'exit');
  writeFileSync(`${ground.stateDir}/journal/torn.${dead.pid}`, '{"version":1,');
  writeFileSync(`${ground.stateDir}/journal/torn.${process.ppid}`, '{"version":1,');
  await ground.attach(bridge);
  assert.deepEqual(readdirSync(`${ground.stateDir}/journal`), [`torn.${process.ppid}`]);
});

test('a journal whose process lives is left alone; one whose pid another process has is run', async (t) => {
  if (skipUnless(t, 'root')) return;
  const ground = await Ground.make(t);
  await ground.connectOther(t);
  const before = ground.dump();
  ground.onHost('link add mine0 group 1879048321 type bridge', 'link set lo mtu 1500');
  mkdirSync(`${ground.stateDir}/journal`, { recursive: true });
  const stat = readFileSync(`/proc/${process.pid}/stat`, 'utf8');
  const startTime = stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19];
  const journal = (started: string | undefined) => ({
    version: 1,
    pid: process.pid,
    startTime: started,
    undo: [
      { do: 'link.del', side: 'host', name: 'mine0', onlyGroup: 1879048321 },
      { do: 'link.set', side: 'host', name: 'lo', set: { mtu: 65536 } },
    ],
  });
  const file = `${ground.stateDir}/journal/${process.pid}-1.json`;
  writeFileSync(file, JSON.stringify(journal(startTime)));
  await ground.nextCommand();
  assert.ok(existsSync(file));
  writeFileSync(file, JSON.stringify(journal('1')));
  await ground.nextCommand();
  assert.deepEqual(await differences(before, () => ground.dump()), []);
});

test('an undo that cannot be finished is told, and finished by a later command', async (t) => {
  if (skipUnless(t, 'root', 'ovs')) return;
  const ground = await Ground.make(t, { ovs: true });
  await ground.connectOther(t);
  const before = ground.dump();
  const ovs = { network: { kind: 'ovs', name: 'ovs0' } } as const;
  await using host = ground.openHost();
  // Its connection is lost in the middle.
  const beforeStep = ({ op }: { op: { do: string } }): void => {
    if (op.do === 'link.set') ground.stopOvsdb();
  };
  const options = { ifPresent: 'refuse', firewall: true, beforeStep } as const;
  const beforeCommit = async () => {
    throw new Error('no lease');
  };
  const container = resolvePid(String(ground.guest.pid));
  await assert.rejects(
    attach(host, container, ground.attachment(ovs), { ...options, beforeCommit }),
    (error: Error) => {
      assert.match(error.message, /^undo no lease: and it could not all be taken back: ovsdb\.connect /);
      return true;
    },
  );
  const { warnings } = await ground.nextCommand();
  assert.match(
    String(warnings),
    /^something is left over, until the next command: ovsdb\.connect [^,]*ECONNREFUSED\]$/,
  );
  await ground.startOvsdb();
  assert.deepEqual((await ground.nextCommand()).warnings, []);
  assert.deepEqual(await differences(before, () => ground.dump()), []);
});

test('while one waits for a DHCP server, others use what it has made; it fails, and they keep it', async (t) => {
  if (skipUnless(t, 'root', 'macvlan')) return;
  const ground = await Ground.make(t);
  ground.onHost('link add nic0 type veth peer name wire1', 'link set wire1 up');
  const other = await ground.another(t);
  for (const network of [
    { kind: 'bridge', name: 'br1' },
    { kind: 'macvlan', uplink: 'nic0', mode: 'bridge' },
  ] as const) {
    let theirs = ground.dump(other);
    await assert.rejects(
      ground.attach(
        { network },
        {
          beforeCommit: async () => {
            await ground.attach({ network, addrs: ['10.1.0.6/24'] }, {}, other.pid);
            theirs = ground.dump(other);
            throw new Error('no lease');
          },
        },
      ),
      /^Error: no lease$/,
    );
    // The interface of the first and its notes, and nothing else.
    const first = new RegExp(`(pl|pid-)${ground.guest.pid}\\b|/journal/`);
    const without = (snapshot: Snapshot): Snapshot =>
      new Map([...snapshot].filter(([key]) => !first.test(key)));
    assert.deepEqual(await differences(without(theirs), () => without(ground.dump(other))), []);
    await ground.detach('eth1', other.pid);
  }
});

test('killed while it waits for a DHCP server: its client and its interface go with the next command', async (t) => {
  if (skipUnless(t, 'root', 'program:udhcpc')) return;
  const ground = await Ground.make(t);
  await ground.connectOther(t);
  const before = ground.dump();
  const clients = (): string[] =>
    run('ps', ['-eo', 'args'])
      .stdout.split('\n')
      .filter((line) => line.includes('udhcpc') && line.includes(ground.stateDir));
  const words = [...ground.enter, ...pipework, 'br1', `pid:${ground.guest.pid}`, 'udhcpc'];
  await killedWhen(words, () => clients().length > 0, 'udhcpc runs');
  assert.equal(clients().length > 0, true, 'the client outlives the command');
  await ground.nextCommand();
  assert.deepEqual(clients(), []);
  assert.deepEqual(await differences(before, () => ground.dump()), []);
});

test('what is held, to be confirmed, is taken back when the call that made it has long returned', async (t) => {
  if (skipUnless(t, 'root')) return;
  const ground = await Ground.make(t);
  const before = ground.dump();
  await using host = ground.openHost();
  const held: Held[] = [];
  const options = {
    ifPresent: 'converge',
    firewall: true,
    hold: (pending: Held) => held.push(pending),
  } as const;
  const container = resolvePid(String(ground.guest.pid));
  const want = { ...bridge, addrs: ['10.1.0.5/24@10.1.0.1'] };
  await attach(host, container, ground.attachment(want), options);
  await assert.rejects(
    held[0]?.rollBack(new Error('not confirmed')) ?? Promise.resolve(),
    /^Error: not confirmed$/,
  );
  assert.deepEqual(await differences(before, () => ground.dump()), []);
});

test('a container whose interface has a name as long as it can be, in a namespace with a long path', async (t) => {
  if (skipUnless(t, 'root')) return;
  const ground = await Ground.make(t);
  const before = ground.dump();
  const dir = `/run/netns/pwt-f-${'long-'.repeat(40)}${process.pid}`;
  t.after(() => {
    run('umount', [`${dir}/ns`], { expect: 'any' });
    run('rm', ['-rf', dir]);
  });
  mkdirSync(dir);
  writeFileSync(`${dir}/ns`, '');
  run('mount', ['--bind', `/proc/${ground.guest.pid}/ns/net`, `${dir}/ns`]);
  const [command = '', ...args] = [...ground.enter, ...pipework];
  run(command, [...args, 'br1', '-i', 'eth-of-15-bytes', `netns:${dir}/ns`, '10.1.0.5/24']);
  assert.equal(runIn(ground.guest.name, 'ip', ['link', 'show', 'eth-of-15-bytes']).code, 0);
  const bin = pipework.map((word) => word.replace(/pipework$/, 'pipewright'));
  run(command, [...args.slice(0, -2), ...bin, 'detach', `netns:${dir}/ns`, '--ifname', 'eth-of-15-bytes']);
  assert.deepEqual(await differences(before, () => ground.dump()), []);
});

test('/run is full: nothing is changed, and it is said', async (t) => {
  if (skipUnless(t, 'root') || !hasProgram('unshare')) return;
  const ground = await Ground.make(t);
  const before = ground.dump();
  const cover =
    'mount -t tmpfs -o size=64k,mode=755 tmpfs /run/pipewright && mkdir -p "$0/journal" "$0/attachments" "$0/networks" && ' +
    '{ head -c 100k /dev/zero >"$0/full" 2>/dev/null; exec "$@"; }';
  const words = [...ground.enter, 'unshare', '--mount', 'sh', '-c', cover, ground.stateDir, ...pipework];
  const [command = '', ...args] = [...words, 'br1', `pid:${ground.guest.pid}`, '10.1.0.5/24'];
  mkdirSync('/run/pipewright', { recursive: true });
  const { code, stdout, stderr } = run(command, args, { expect: 'any' });
  assert.equal(code, 1);
  assert.match(stdout + stderr, /^pipework: state\.write [^\n]*ENOSPC[^\n]*\n$/);
  assert.deepEqual(await differences(before, () => ground.dump()), []);
});
