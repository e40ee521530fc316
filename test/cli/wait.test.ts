import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { type TestContext, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { build } from 'esbuild';
import { waitForLink } from '../../src/cli/wait.ts';
import { nsenter, plainNetns, root, run } from '../lab.ts';

/** Starts a program that waits for a link in a namespace. */
async function startWaiting(t: TestContext, netns: string, ifname: string) {
  const folder = mkdtempSync(path.join(tmpdir(), 'pwt-wait-'));
  t.after(() => rmSync(folder, { recursive: true }));
  const contents = `import { waitForLink } from '${root}/src/cli/wait.ts'; await waitForLink(process.argv[2]);`;
  const outfile = path.join(folder, 'wait.mjs');
  await build({
    stdin: { contents, resolveDir: root },
    bundle: true,
    platform: 'node',
    format: 'esm',
    outfile,
    logLevel: 'warning',
  });
  const [command = '', ...args] = [...nsenter(netns), process.execPath, outfile, ifname];
  const child = spawn(command, args, { stdio: 'inherit' });
  t.after(() => void child.kill('SIGKILL'));
  const state: { code?: number | null; endedAt?: number } = {};
  child.once('exit', (code) => Object.assign(state, { code, endedAt: performance.now() }));
  return state;
}

test('returns when the link is there, down and without an address, as the original does', async (t) => {
  const { name } = await plainNetns(t, 'wait');
  const waiting = await startWaiting(t, name, 'eth1');
  run('ip', ['-n', name, 'link', 'add', 'eth10', 'type', 'veth', 'peer', 'name', 'xeth1']);
  await sleep(700);
  assert.equal(waiting.code, undefined);
  run('ip', ['-n', name, 'link', 'add', 'eth1', 'type', 'veth', 'peer', 'name', 'p1']);
  const deadline = Date.now() + 20_000;
  while (waiting.endedAt === undefined && Date.now() < deadline) await sleep(10);
  assert.equal(waiting.code, 0);
});

test('a link that is there already is not waited for', async () => {
  // No time is left: it would be told if it waited.
  await waitForLink('lo', { timeoutMs: 0 });
});

test('gives up when it is told to', async () => {
  const started = performance.now();
  await assert.rejects(waitForLink('pwt-nosuch', { timeoutMs: 150 }), {
    code: 'WAIT_TIMEOUT',
    message: 'wait pwt-nosuch: there is no pwt-nosuch after 150 ms',
  });
  assert.ok(performance.now() - started >= 149);
});
