/** Commands of which the agent does the work, and those of which it cannot; in a namespace where /run/pipewright is the test's. */
import assert from 'node:assert/strict';
import { existsSync, mkdirSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import net from 'node:net';
import path from 'node:path';
import test, { type TestContext } from 'node:test';
import { ownFolder, startAgent } from '../agent/lab.ts';
import {
  cidrs,
  linkExists,
  nsenter,
  plainNetns,
  type Ran,
  root,
  runAsync,
  runContainer,
  skipUnless,
} from '../lab.ts';

type Env = Readonly<Record<string, string | undefined>>;

/** Runs `bin/PROGRAM ARGS` on a host with `folder` as its /run/pipewright. */
async function command(
  { host, folder, env = {} }: { host: string; folder: string; env?: Env },
  program: 'pipework' | 'pipewright',
  ...args: readonly string[]
): Promise<Ran> {
  const [first = '', ...rest] = [
    ...nsenter(host),
    'unshare',
    '--mount',
    'sh',
    '-c',
    'mount --bind "$1" /run/pipewright && shift && exec "$@"',
    'sh',
    folder,
    process.execPath,
    path.join(root, 'bin', program),
    ...args,
  ];
  mkdirSync('/run/pipewright', { recursive: true });
  return runAsync(first, rest, { expect: 'any', env: { DOCKER_HOST: undefined, ...env } });
}

const kept = (stateDir: string): string[] =>
  existsSync(path.join(stateDir, 'attachments')) ? readdirSync(path.join(stateDir, 'attachments')) : [];

test('with an agent', async (t) => {
  if (skipUnless(t, 'root', 'docker')) return;
  const own = await startAgent(t, 'ha');
  const container = runContainer(t, 'ha');
  const place = { host: own.name, folder: path.dirname(own.socketPath) };
  const { name, pid } = container;

  await t.test('pipework is kept, and as silent as ever', async () => {
    const ran = await command(place, 'pipework', 'br1', name, '10.65.0.2/24');
    assert.deepEqual(ran, { code: 0, stdout: '', stderr: '' });
    assert.deepEqual(cidrs(pid, 'eth1'), ['10.65.0.2/24']);
    assert.equal(kept(own.stateDir).length, 1);
  });
  await t.test("its messages and exit codes are the original's", async () => {
    const ran = await command(place, 'pipework', 'br1', name, '10.65.0.2/24');
    assert.equal(ran.code, 1);
    assert.match(ran.stdout, /^Link veth1pl\d+ exists and is up\n$/);
    const [code, stderr] = [1, 'The IP address should include a netmask.\nMaybe you meant 10.65.0.2/24 ?\n'];
    assert.deepEqual(await command(place, 'pipework', 'br1', name, '10.65.0.2'), {
      code,
      stdout: '',
      stderr,
    });
  });
  await t.test('pipewright attach and detach', async () => {
    const options = ['--network', 'bridge:br1', '--ifname', 'eth2', '--address', '10.65.2.2/24'];
    const made = await command(place, 'pipewright', 'attach', name, ...options, '--json');
    assert.deepEqual([made.code, made.stderr, JSON.parse(made.stdout).changed], [0, '', true]);
    assert.equal(kept(own.stateDir).length, 2);
    const again = await command(place, 'pipewright', 'attach', name, ...options);
    assert.deepEqual([again.code, again.stdout], [0, `eth2 of ${name} is as asked: nothing to do\n`]);
    const gone = await command(place, 'pipewright', 'detach', name, '--all');
    assert.deepEqual([gone.code, gone.stderr], [0, '']);
    assert.deepEqual(kept(own.stateDir), []);
    assert.ok(!linkExists(pid, 'eth1') && !linkExists(pid, 'eth2'));
  });
  await t.test('--once keeps nothing', async () => {
    const options = ['--network', 'bridge:br1', '--address', '10.65.3.2/24', '--once'];
    assert.equal((await command(place, 'pipewright', 'attach', name, ...options)).code, 0);
    assert.equal(
      (await command(place, 'pipework', '--once', 'br1', '-i', 'eth4', name, '10.65.4.2/24')).code,
      0,
    );
    assert.deepEqual(
      own.host.state.records().map(({ origin }) => origin),
      ['once', 'once'],
    );
    assert.deepEqual(kept(own.stateDir), []);
  });
  await t.test('bad options are told as ever', async () => {
    const bad = await command(place, 'pipewright', 'attach', name, '--netwrok', 'bridge:br1');
    assert.equal(bad.code, 1);
    assert.match(bad.stderr, /^pipewright: .*netwrok/);
  });
  await t.test('what needs the process of the caller is done there', async () => {
    const routes = await command(place, 'pipework', 'route', name, 'show');
    assert.equal(routes.code, 0);
    assert.match(routes.stdout, /^10\.65\.3\.0\/24 dev eth1/);
    assert.match((await command(place, 'pipework', '--help')).stdout, /^pipework|^Syntax/m);
    assert.equal((await command(place, 'pipewright', 'attach', '--help')).code, 0);
  });
  await t.test('so is what is said on another host', async (t) => {
    const other = await plainNetns(t, 'hb');
    const there = runContainer(t, 'hb');
    const ran = await command({ ...place, host: other.name }, 'pipework', 'br9', there.name, '10.66.0.2/24');
    assert.deepEqual(ran, { code: 0, stdout: '', stderr: '' });
    assert.ok(linkExists(other.name, 'br9'));
    assert.ok(!linkExists(own.name, 'br9'));
    assert.deepEqual(kept(own.stateDir), []);
  });
  await t.test('and what is said to another engine', async () => {
    const env = { DOCKER_HOST: 'unix:///run/pwta-none.sock' };
    const ran = await command({ ...place, env }, 'pipework', 'br1', '-i', 'eth5', name, '10.65.5.2/24');
    assert.notEqual(ran.code, 0);
    assert.match(ran.stderr, /pwta-none\.sock/);
    const usual = { DOCKER_HOST: 'unix:///var/run/docker.sock' };
    await command({ ...place, env: usual }, 'pipework', 'br1', '-i', 'eth5', name, '10.65.5.2/24');
    assert.equal(kept(own.stateDir).length, 1);
  });
});

/** An agent that behaves as `answer` does; it gets what was sent so far at each piece. */
async function fake(
  t: TestContext,
  answer: (socket: net.Socket, heard: string) => void,
): Promise<{ folder: string; heard(): string }> {
  const folder = ownFolder(t);
  let heard = '';
  const server = net.createServer((socket) => {
    let text = '';
    socket.on('error', () => {});
    socket.setEncoding('utf8').on('data', (piece: string) => {
      text += piece;
      heard = text;
      answer(socket, text);
    });
  });
  await new Promise<void>((resolve) => server.listen(path.join(folder, 'agent.sock'), resolve));
  t.after(() => server.close());
  return { folder, heard: () => heard };
}

const goOn = 'HTTP/1.1 100 Continue\r\n\r\n';
const response = (status: string, body: string): string =>
  `HTTP/1.1 ${status}\r\nContent-Length: ${Buffer.byteLength(body)}\r\n\r\n${body}`;

/** Answers the whole request, in these pieces. */
function answering(...pieces: readonly string[]): (socket: net.Socket, heard: string) => void {
  return (socket, heard) => {
    if (heard.endsWith('\r\n\r\n')) socket.write(goOn);
    if (!heard.endsWith('}')) return;
    for (const [i, piece] of pieces.entries()) setTimeout(() => socket.write(piece), 20 * i);
  };
}

test('without an agent that can be of help, a command acts by itself', async (t) => {
  if (skipUnless(t, 'root', 'docker')) return;
  const { name: host } = await plainNetns(t, 'hd');
  const container = runContainer(t, 'hd');
  let made = 0;
  const acts = async (folder: string, stderr: RegExp | ''): Promise<void> => {
    rmSync(path.join(folder, 'attachments'), { recursive: true, force: true });
    const ifname = `eth${++made}`;
    const ran = await command(
      { host, folder },
      'pipework',
      'br1',
      '-i',
      ifname,
      container.name,
      '10.67.0.2/24',
    );
    assert.deepEqual([ran.code, ran.stdout], [0, ''], ran.stderr);
    if (stderr === '') assert.equal(ran.stderr, '');
    else assert.match(ran.stderr, stderr);
    assert.ok(linkExists(container.pid, ifname));
  };

  await t.test('no socket', async (t) => acts(ownFolder(t), ''));
  await t.test('the socket of a dead agent', async (t) => {
    const folder = ownFolder(t);
    const code = `require('net').createServer().listen(${JSON.stringify(`${folder}/agent.sock`)}, () => process.kill(process.pid, 'SIGKILL'))`;
    await runAsync(process.execPath, ['-e', code], { expect: 'any' });
    await acts(folder, '');
  });
  await t.test('a file', async (t) => {
    const folder = ownFolder(t);
    writeFileSync(path.join(folder, 'agent.sock'), '');
    await acts(folder, '');
  });
  await t.test('an agent that hangs up', async (t) => {
    const { folder } = await fake(t, (socket) => socket.destroy());
    await acts(folder, '');
  });
  await t.test('an agent that dies in the middle', async (t) => {
    const { folder } = await fake(t, (socket, heard) => {
      if (heard.endsWith('\r\n\r\n')) socket.write(goOn);
      else socket.end('HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{"exit');
    });
    await acts(folder, '');
  });
  await t.test('an agent that stands still: it does not get the command later', async (t) => {
    const { folder, heard } = await fake(t, () => {});
    const began = performance.now();
    await acts(folder, /^warning: the agent does not answer, .*not kept\n$/);
    assert.ok(performance.now() - began > 2900);
    assert.match(heard(), /Expect: 100-continue\r\n[\s\S]*\r\n\r\n$/);
    assert.doesNotMatch(heard(), /argv/);
  });
  await t.test('an agent that refuses', async (t) => {
    const { folder } = await fake(t, (socket) => void socket.write(response('409 Conflict', '{"error":{}}')));
    await acts(folder, '');
  });
  await t.test('an agent of another version, or one that is broken', async (t) => {
    for (const [status, body] of [
      ['404 Not Found', '{"error":{}}'],
      ['500 Internal Server Error', 'no'],
      ['200 OK', '{"exitCode":"0"}'],
      ['200 OK', '<html>'],
    ] as const) {
      const { folder } = await fake(t, answering(response(status, body)));
      await acts(folder, /^warning: the agent answers \d+, .*not kept\n$/);
    }
  });
});

test('the answer is printed as it is, however it arrives', async (t) => {
  if (skipUnless(t, 'root')) return;
  const { name: host } = await plainNetns(t, 'hp');
  const stdout = `größe ${'x'.repeat(200_000)}\n`;
  const body = JSON.stringify({ exitCode: 7, stdout, stderr: 'said\n' });
  const whole = response('200 OK', body);
  const chunked = `HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n${Buffer.byteLength(body).toString(16)}\r\n${body}\r\n0\r\n\r\n`;
  for (const pieces of [[whole], [whole.slice(0, 9), whole.slice(9, 300), whole.slice(300)], [chunked]]) {
    const { folder } = await fake(t, answering(...pieces));
    const ran = await command({ host, folder }, 'pipework', 'br1', 'pwta-x', '10.68.0.2/24');
    assert.deepEqual(ran, { code: 7, stdout, stderr: 'said\n' });
  }
});

test('an agent that needs its time is waited for', async (t) => {
  if (skipUnless(t, 'root')) return;
  const { name: host } = await plainNetns(t, 'hw');
  const { folder } = await fake(t, (socket, heard) => {
    if (heard.endsWith('\r\n\r\n')) socket.write(goOn);
    if (heard.endsWith('}'))
      setTimeout(() => socket.write(response('200 OK', '{"exitCode":0,"stdout":"","stderr":""}')), 4500);
  });
  const ran = await command({ host, folder }, 'pipework', 'br1', 'pwta-x', '10.68.0.2/24');
  assert.deepEqual(ran, { code: 0, stdout: '', stderr: '' });
});

test('to hand over takes at most 15 ms more than Node itself', async (t) => {
  if (skipUnless(t, 'root')) return;
  const { folder } = await fake(t, answering(response('200 OK', '{"exitCode":0,"stdout":"","stderr":""}')));
  const empty = path.join(ownFolder(t), 'empty.cjs');
  writeFileSync(empty, '');
  const lines = {
    node: [empty],
    pipework: [path.join(root, 'bin/pipework'), 'br1', 'pwta-x', '10.68.0.2/24'],
    pipewright: [path.join(root, 'bin/pipewright'), 'attach', 'pwta-x', '--network', 'bridge:br1'],
  };
  // The children are timed by a program inside of the mount namespace, so that nothing of entering it is.
  const timer = `
    const { spawnSync } = require('node:child_process');
    const lines = ${JSON.stringify(lines)};
    const ms = Object.fromEntries(Object.keys(lines).map((name) => [name, []]));
    for (let i = 0; i < 28; i++) for (const [name, args] of Object.entries(lines)) {
      const began = performance.now();
      const { status, stderr } = spawnSync(process.execPath, args);
      if (i >= 3) ms[name].push(performance.now() - began);
      if (status !== 0) throw new Error(name + ' ' + stderr);
    }
    for (const all of Object.values(ms)) all.sort((a, b) => a - b);
    console.log(JSON.stringify(Object.fromEntries(Object.entries(ms).map(([name, all]) => [name, [all[0], all[12]]]))));`;
  const { stdout } = await runAsync(
    'unshare',
    [
      '--mount',
      'sh',
      '-c',
      'mount --bind "$1" /run/pipewright && exec "$2" -e "$3"',
      'sh',
      folder,
      process.execPath,
      timer,
    ],
    { env: { DOCKER_HOST: undefined } },
  );
  const took = JSON.parse(stdout) as Record<keyof typeof lines, [number, number]>;
  for (const [name, [least, median]] of Object.entries(took))
    t.diagnostic(`${name}: least ${least.toFixed(1)} ms, median ${median.toFixed(1)} ms`);
  // Node starts in 25 ms where nothing else runs; where that takes longer, so may the rest.
  const slowness = Math.max(1, took.node[0] / 25);
  for (const program of ['pipework', 'pipewright'] as const) {
    const more = took[program][0] - took.node[0];
    assert.ok(more <= 15 * slowness, `${program} took ${more.toFixed(1)} ms more`);
  }
});
