import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { test } from 'node:test';
import { runInNetns } from '../../src/cli/passthrough.ts';
import { Netns } from '../../src/kernel/netns.ts';
import { ipRoutes, ipRules, jsonIn, plainNetns, run } from '../lab.ts';

test('ip route, ip rule and tc run in the namespace, and their exit codes come back', async (t) => {
  const { name, path: netnsPath } = await plainNetns(t, 'pass');
  using netns = Netns.open(netnsPath, name);
  run('ip', ['-n', name, 'link', 'add', 'eth1', 'type', 'veth', 'peer', 'name', 'x1']);
  run('ip', ['-n', name, 'addr', 'add', '10.0.0.2/24', 'dev', 'eth1']);
  run('ip', ['-n', name, 'link', 'set', 'eth1', 'up']);
  const words = (line: string): string[] => line.split(' ');

  assert.equal(runInNetns(netns, 'ip', words('route add 10.5.0.0/16 via 10.0.0.1')), 0);
  assert.ok(ipRoutes(name).some(({ dst, gateway }) => dst === '10.5.0.0/16' && gateway === '10.0.0.1'));
  assert.equal(runInNetns(netns, 'ip', words('rule add from 172.19.0.2/32 table 1')), 0);
  assert.ok(ipRules(name).some(({ src, table }) => src === '172.19.0.2' && table === '1'));
  const tbf = words('qdisc add dev eth1 root tbf rate 1mbit burst 10kb latency 50ms');
  assert.equal(runInNetns(netns, 'tc', tbf), 0);
  assert.ok(jsonIn(name, 'tc', ['-j', 'qdisc']).some(({ kind, dev }) => kind === 'tbf' && dev === 'eth1'));

  assert.equal(runInNetns(netns, 'tc', tbf), 2);
  assert.equal(runInNetns(netns, 'ip', ['route', 'bogus']), 255);
  assert.equal(jsonIn('host', 'tc', ['-j', 'qdisc']).filter(({ dev }) => dev === 'eth1').length, 0);
});

test('a program that a signal ended, one that is not there, one that cannot be run', async (t) => {
  const { name, path: netnsPath } = await plainNetns(t, 'pass');
  using netns = Netns.open(netnsPath, name);
  const folder = mkdtempSync(path.join(tmpdir(), 'pwt-pass-'));
  t.after(() => rmSync(folder, { recursive: true }));
  const script = path.join(folder, 'script');
  writeFileSync(script, '#!/bin/sh\nkill -9 $$\n', { mode: 0o700 });
  assert.equal(runInNetns(netns, script, []), 137);
  assert.throws(() => runInNetns(netns, path.join(folder, 'absent'), []), {
    code: 'PROGRAM_MISSING',
    errno: 'ENOENT',
  });
  writeFileSync(path.join(folder, 'text'), 'not a program', { mode: 0o600 });
  assert.throws(() => runInNetns(netns, path.join(folder, 'text'), []), {
    code: 'PROGRAM_FAILED',
    errno: 'EACCES',
  });
  assert.equal(
    spawnSync('ip', ['netns', 'identify', String(process.pid)], { encoding: 'utf8' }).stdout.trim(),
    '',
  );
});

test('arguments arrive as they are', async (t) => {
  const { name, path: netnsPath } = await plainNetns(t, 'pass');
  using netns = Netns.open(netnsPath, name);
  const folder = mkdtempSync(path.join(tmpdir(), 'pwt-pass-'));
  t.after(() => rmSync(folder, { recursive: true }));
  const script = path.join(folder, 'script');
  const out = path.join(folder, 'out');
  writeFileSync(script, `#!/bin/sh\nfor word; do printf '[%s]' "$word"; done >${out}\n`, { mode: 0o700 });
  runInNetns(netns, script, ['', 'a b', '$(id)', ';', '*', "'", '"', '\n']);
  assert.equal(readFileSync(out, 'utf8'), '[][a b][$(id)][;][*][\']["][\n]');
});
