/** The demo, on what this machine has and on nothing but the kernel: every ping as expected, and nothing left of it. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import path from 'node:path';
import test from 'node:test';
import { diffSnapshots, type Ran, root, run, skipUnless, snapshot } from '../lab.ts';

const script = path.join(root, 'scripts/demo.mjs');

function demo(args: readonly string[], env: Readonly<Record<string, string>> = {}): Ran {
  return run(process.execPath, [script, ...args], { env, timeout: 60, expect: 'any' });
}

/** What is new or changed and is the demo's; other programs of the machine go on meanwhile. */
function leftBy(act: () => Ran): { ran: Ran; left: string[] } {
  const before = snapshot();
  const ran = act();
  // The host's ends have no name of the demo's.
  const ends = ran.stdout.match(/\bveth1pl\d+|\bpw[0-9a-f]{13}\b/g) ?? [];
  const names = ['pwdemo', '/etc/resolv.conf', ...ends];
  const left = diffSnapshots(before, snapshot()).filter((line) => names.some((name) => line.includes(name)));
  const containers = run('docker', ['ps', '-aq', '--filter', 'name=pwdemo-'], { expect: 'any' }).stdout;
  return { ran, left: [...left, ...containers.split('\n').filter(Boolean)] };
}

function assertGood({ code, stdout, stderr }: Ran): void {
  assert.equal(code, 0, stdout + stderr);
  assert.equal(stdout.match(/seen: .* as expected$/gm)?.length, 12);
  assert.match(stdout, /^Taken away: nothing of it is left on this host\.$/m);
  assert.match(stdout, /^\/etc\/resolv\.conf is untouched/m);
}

test('the demo on the Docker Engine and Open vSwitch', (t) => {
  if (skipUnless(t, 'root', 'docker', 'ovs', 'program:dnsmasq')) return;
  const { ran, left } = leftBy(() => demo([]));
  assertGood(ran);
  assert.match(ran.stdout, /^Used: Docker Engine \d/);
  assert.match(
    ran.stdout,
    /ovs0-pwdemo ─┬─ veth1pl\d+, tag 100 ─+ eth1 {2}pwdemo-test1 {2}192\.168\.0\.1\/24/,
  );
  assert.deepEqual(left, []);
});

test('the demo on the kernel alone', (t) => {
  if (skipUnless(t, 'root', 'program:dnsmasq')) return;
  const { ran, left } = leftBy(() => demo(['--embedded']));
  assertGood(ran);
  assert.match(ran.stdout, /^Used: network namespaces/);
  assert.match(ran.stdout, /br200-pwdemo, VLAN 200 ─┬─ .* eth1 {2}pwdemo-test3/);
  assert.deepEqual(left, []);
});

test('a Docker Engine that does not answer is not used', (t) => {
  if (skipUnless(t, 'root', 'program:dnsmasq')) return;
  const { ran, left } = leftBy(() => demo([], { DOCKER_HOST: 'unix:///nowhere/docker.sock' }));
  assertGood(ran);
  assert.match(ran.stdout, /^Used: network namespaces/);
  assert.deepEqual(left, []);
});

test('a demo that is interrupted takes away what it made', async (t) => {
  if (skipUnless(t, 'root', 'program:dnsmasq')) return;
  const before = snapshot();
  const child = spawn(process.execPath, [script, '--embedded'], { stdio: ['ignore', 'pipe', 'pipe'] });
  let shown = '';
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    shown += text;
    // While the second container waits for its lease.
    if (/pwdemo-test2 (udhcpc|dhclient|dhcpcd)\n$/.test(text)) child.kill('SIGINT');
  });
  const code = await new Promise((resolve) => child.once('close', resolve));
  assert.equal(code, 130, shown);
  assert.match(shown, /^Taken away: nothing of it is left on this host\.$/m);
  assert.deepEqual(
    diffSnapshots(before, snapshot()).filter((line) => /pwdemo|resolv\.conf/.test(line)),
    [],
  );
});
