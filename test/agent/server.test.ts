/** The agent's API, asked by curl; what it did is judged by ip. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readdirSync, statSync, writeFileSync } from 'node:fs';
import net from 'node:net';
import path from 'node:path';
import test from 'node:test';
import { z } from '@hono/zod-openapi';
import {
  answerSchema,
  appliedSchema,
  attachedSchema,
  attachmentsSchema,
  detachedSchema,
  eventSchema,
  planSchema,
  statusSchema,
} from '../../src/agent/api/schemas.ts';
import { topologySchema } from '../../src/agent/api/topology-schema.ts';
import { startServer } from '../../src/agent/server.ts';
import { PipewrightError } from '../../src/errors.ts';
import type { Topology } from '../../src/model/topology.ts';
import { cidrs, ipLinks, linkExists, run, runContainer, skipUnless } from '../lab.ts';
import { ownFolder, refusedWith, request, startAgent } from './lab.ts';

const kept = (stateDir: string): string[] =>
  existsSync(path.join(stateDir, 'attachments')) ? readdirSync(path.join(stateDir, 'attachments')) : [];

const place = { file: '/etc/pipewright/lan.yaml', line: 7, column: 3 };

function topologyOf(container: string, address: string): Topology {
  return {
    networks: [
      {
        name: 'lan',
        kind: 'bridge',
        bridge: 'br1',
        place,
        subnets: [],
        gateways: [],
        ranges: [],
        hostAddresses: [],
      },
    ],
    attachments: [
      {
        place,
        selector: { by: 'name', name: container },
        network: 'lan',
        ifname: 'eth1',
        addresses: [{ family: 4, ip: address, prefixLen: 24 }],
        gateways: [],
        routes: [],
        rules: [],
        sysctls: {},
      },
    ],
    expects: [],
  };
}

test('questions are answered as the document says', async (t) => {
  if (skipUnless(t, 'root', 'docker', 'program:curl')) return;
  const own = await startAgent(t, 'aq');
  const container = runContainer(t, 'aq');
  own.topology = topologyOf(container.name, '10.60.0.2');

  await t.test('nothing is wanted, so the plan is empty', async () => {
    const { status, json } = await request(own.socketPath, 'GET', '/v1/plan');
    assert.deepEqual([status, planSchema.parse(json)], [200, { outcomes: [] }]);
  });
  await t.test('apply reads the files, makes what they say, and tells', async () => {
    const { status, json } = await request(own.socketPath, 'POST', '/v1/apply');
    assert.equal(status, 200);
    const { events, status: now } = z.strictObject(appliedSchema.shape).parse(json);
    assert.deepEqual(
      events.map(({ key, what }) => `${what} ${key}`),
      ['made network lan', `made ${container.name}/eth1`],
    );
    assert.deepEqual(
      now.attachments.map(({ key, state }) => [key, state]),
      [[`${container.name}/eth1`, 'healthy']],
    );
    assert.deepEqual(cidrs(container.pid, 'eth1'), ['10.60.0.2/24']);
  });
  await t.test('status, topology and attachments are complete', async () => {
    const status = await request(own.socketPath, 'GET', '/v1/status');
    assert.equal(z.strictObject(statusSchema.shape).parse(status.json).version, '1.2.3');
    const topology = await request(own.socketPath, 'GET', '/v1/topology');
    assert.deepEqual(topologySchema.parse(topology.json), own.topology);
    const listed = attachmentsSchema.parse((await request(own.socketPath, 'GET', '/v1/attachments')).json);
    assert.deepEqual(
      listed.attachments.map(({ container, network, addrs, state }) => [container, network, addrs, state]),
      [[container.name, 'bridge:br1', ['10.60.0.2/24'], 'up']],
    );
  });
  await t.test('the plan says what has gone, and why', async () => {
    run('nsenter', [
      `--net=/proc/${container.pid}/ns/net`,
      'ip',
      'addr',
      'del',
      '10.60.0.2/24',
      'dev',
      'eth1',
    ]);
    const { outcomes } = planSchema.parse((await request(own.socketPath, 'GET', '/v1/plan')).json);
    assert.equal(outcomes.length, 1);
    assert.match(outcomes[0]?.steps[0]?.command ?? '', /^ip .*addr add 10\.60\.0\.2\/24/);
  });
  await t.test('the OpenAPI document names every path', async () => {
    const { status, json } = await request(own.socketPath, 'GET', '/openapi.json');
    assert.equal(status, 200);
    assert.equal(json.openapi, '3.1.0');
    assert.deepEqual(Object.keys(json.paths), [
      '/v1/status',
      '/v1/topology',
      '/v1/plan',
      '/v1/apply',
      '/v1/attachments',
      '/v1/attach',
      '/v1/detach',
      '/v1/pipework',
      '/v1/pipewright',
      '/v1/events',
    ]);
  });
});

test('attach keeps, detach forgets', async (t) => {
  if (skipUnless(t, 'root', 'docker', 'program:curl')) return;
  const own = await startAgent(t, 'ak');
  const container = runContainer(t, 'ak');
  const key = `${container.name}/eth1`;
  const order = { container: container.id.slice(0, 12), network: 'bridge:br1', address: ['10.61.0.2/24'] };

  await t.test('a dry run changes and keeps nothing', async () => {
    const { status, json } = await request(own.socketPath, 'POST', '/v1/attach', { ...order, dryRun: true });
    assert.equal(status, 200);
    assert.ok(attachedSchema.parse(json).changed);
    assert.deepEqual(
      ipLinks(container.pid).map(({ ifname }) => ifname),
      ['lo'],
    );
    assert.deepEqual(kept(own.stateDir), []);
  });
  await t.test('once is made, and not kept', async () => {
    const { json } = await request(own.socketPath, 'POST', '/v1/attach', {
      ...order,
      ifname: 'eth9',
      address: ['10.61.9.2/24'],
      once: true,
    });
    assert.deepEqual(attachedSchema.parse(json).warnings, []);
    assert.deepEqual(cidrs(container.pid, 'eth9'), ['10.61.9.2/24']);
    assert.deepEqual(kept(own.stateDir), []);
    own.agent.wake();
    await own.agent.idle();
    assert.ok(linkExists(container.pid, 'eth9'), 'a round leaves it alone');
  });
  await t.test('what is made is put right from then on', async () => {
    const { status, json } = await request(own.socketPath, 'POST', '/v1/attach', order);
    assert.equal(status, 200, JSON.stringify(json));
    assert.equal(z.strictObject(attachedSchema.shape).parse(json).container, container.name);
    assert.deepEqual(kept(own.stateDir).length, 1);
    await own.agent.idle();
    const { origin } = own.host.state.records().find(({ ifname }) => ifname === 'eth1') ?? {};
    assert.equal(origin, 'kept');
    run('nsenter', [`--net=/proc/${container.pid}/ns/net`, 'ip', 'link', 'del', 'eth1']);
    own.agent.wake();
    await own.agent.idle();
    assert.deepEqual(cidrs(container.pid, 'eth1'), ['10.61.0.2/24']);
  });
  await t.test('asked again it is as asked, and stays kept', async () => {
    const { json } = await request(own.socketPath, 'POST', '/v1/attach', order);
    assert.equal(attachedSchema.parse(json).changed, false);
    assert.deepEqual(kept(own.stateDir).length, 1);
  });
  await t.test('once, of what is kept, warns', async () => {
    const { json } = await request(own.socketPath, 'POST', '/v1/attach', { ...order, once: true });
    assert.match(json.warnings.join(), /is kept as it was/);
  });
  await t.test('after a restart it is there again', async () => {
    run('docker', ['restart', '-t', '0', container.name]);
    own.agent.wake();
    await own.agent.idle();
    const pid = Number(run('docker', ['inspect', '-f', '{{.State.Pid}}', container.name]).stdout);
    assert.deepEqual(cidrs(pid, 'eth1'), ['10.61.0.2/24']);
    assert.ok(!linkExists(pid, 'eth9'), 'what was made once is not');
  });
  await t.test('detached it stays away', async () => {
    const { status, json } = await request(own.socketPath, 'POST', '/v1/detach', {
      container: container.name,
    });
    assert.equal(status, 200, JSON.stringify(json));
    assert.deepEqual(z.strictObject(detachedSchema.shape).parse(json).ifnames, ['eth1']);
    await own.agent.idle();
    const pid = Number(run('docker', ['inspect', '-f', '{{.State.Pid}}', container.name]).stdout);
    assert.ok(!linkExists(pid, 'eth1'));
    assert.deepEqual(kept(own.stateDir), []);
    const { json: after } = await request(own.socketPath, 'GET', '/v1/status');
    assert.deepEqual(
      after.attachments.filter((one: { key: string }) => one.key === key),
      [],
    );
  });
  await t.test('of a container that does not run, what was kept is forgotten', async () => {
    await request(own.socketPath, 'POST', '/v1/attach', order);
    run('docker', ['stop', '-t', '0', container.name]);
    own.agent.wake();
    await own.agent.idle();
    assert.deepEqual(kept(own.stateDir).length, 1, 'stopping forgets nothing');
    const { status, json } = await request(own.socketPath, 'POST', '/v1/detach', {
      container: container.name,
    });
    assert.deepEqual([status, json.ifnames], [200, ['eth1']], JSON.stringify(json));
    assert.deepEqual(kept(own.stateDir), []);
  });
  await t.test('a process is no container that comes back', async () => {
    run('docker', ['start', container.name]);
    const pid = run('docker', ['inspect', '-f', '{{.State.Pid}}', container.name]).stdout.trim();
    const { json } = await request(own.socketPath, 'POST', '/v1/attach', {
      ...order,
      container: `pid:${pid}`,
    });
    assert.ok(attachedSchema.parse(json).changed);
    assert.deepEqual(kept(own.stateDir), []);
    own.agent.wake();
    await own.agent.idle();
    assert.ok(linkExists(Number(pid), 'eth1'), 'and a round does not take it for a leftover');
  });
});

test('the file goes before a command, and that is said', async (t) => {
  if (skipUnless(t, 'root', 'docker', 'program:curl')) return;
  const own = await startAgent(t, 'af');
  const container = runContainer(t, 'af');
  own.topology = topologyOf(container.name, '10.62.0.2');
  await request(own.socketPath, 'POST', '/v1/apply');
  const attached = await request(own.socketPath, 'POST', '/v1/attach', {
    container: container.name,
    network: 'bridge:br1',
    address: ['10.62.0.9/24'],
  });
  assert.match(attached.json.warnings.join(), /is in \/etc\/pipewright\/lan\.yaml:7/);
  const detached = await request(own.socketPath, 'POST', '/v1/detach', { container: container.name });
  assert.match(detached.json.warnings.join(), /it will be made again/);
  await own.agent.idle();
  assert.deepEqual(cidrs(container.pid, 'eth1'), ['10.62.0.2/24']);
});

test('command lines are run as the programs run them', async (t) => {
  if (skipUnless(t, 'root', 'docker', 'program:curl')) return;
  const own = await startAgent(t, 'ac');
  const container = runContainer(t, 'ac');
  const netnsInode = own.host.netns.inode;
  const pipework = (...argv: string[]) =>
    request(own.socketPath, 'POST', '/v1/pipework', { argv, netnsInode });
  const pipewright = (...argv: string[]) =>
    request(own.socketPath, 'POST', '/v1/pipewright', { argv, netnsInode });

  await t.test('pipework connects, silently, and it is kept', async () => {
    const { status, json } = await pipework('br1', container.name, '10.63.0.2/24');
    assert.deepEqual([status, answerSchema.parse(json)], [200, { exitCode: 0, stdout: '', stderr: '' }]);
    assert.deepEqual(cidrs(container.pid, 'eth1'), ['10.63.0.2/24']);
    assert.deepEqual(kept(own.stateDir).length, 1);
  });
  await t.test('pipework --once is not kept', async () => {
    await pipework('--once', 'br1', '-i', 'eth2', container.name, '10.63.2.2/24');
    assert.deepEqual(cidrs(container.pid, 'eth2'), ['10.63.2.2/24']);
    assert.deepEqual(kept(own.stateDir).length, 1);
  });
  await t.test("a refusal has the original's words, place and exit code", async () => {
    const { json } = await pipework('br1', container.name, '10.63.0.2/24');
    const { exitCode, stdout, stderr } = answerSchema.parse(json);
    assert.equal(exitCode, 1);
    assert.match(stdout, /^Link veth1pl\d+ exists and is up\n$/);
    assert.equal(stderr, '');
    const { json: bad } = await pipework('br1', container.name, '10.63.0.2');
    assert.deepEqual(bad, {
      exitCode: 1,
      stdout: '',
      stderr: 'The IP address should include a netmask.\nMaybe you meant 10.63.0.2/24 ?\n',
    });
  });
  await t.test('pipewright attach and detach, with their exit codes', async () => {
    const { json } = await pipewright(
      'attach',
      container.name,
      '--network',
      'bridge:br1',
      '--ifname',
      'eth3',
      '--json',
    );
    assert.deepEqual([json.exitCode, json.stderr], [0, '']);
    assert.equal(JSON.parse(json.stdout).changed, true);
    assert.deepEqual(kept(own.stateDir).length, 2);
    const { json: gone } = await pipewright('detach', container.name, '--all');
    assert.deepEqual([gone.exitCode, gone.stderr], [0, '']);
    assert.match(gone.stdout, /^\+ ip link del /);
    assert.deepEqual(kept(own.stateDir), []);
    const { json: bad } = await pipewright('attach', container.name);
    assert.equal(bad.exitCode, 1);
    assert.match(bad.stderr, /^pipewright: .*network/);
    const { json: unknown } = await pipewright('attach', 'pwta-no-such', '--network', 'bridge:br1');
    assert.deepEqual([unknown.exitCode, unknown.stdout], [1, '']);
    assert.match(unknown.stderr, /No such object: pwta-no-such/);
  });
  await t.test('what only the caller can do is handed back', async () => {
    for (const argv of [
      ['br1', container.name, 'udhcpc:-n'],
      ['route', container.name, 'show'],
      ['rule', container.name, 'show'],
      ['tc', container.name, 'qdisc'],
      ['--wait'],
      ['--help'],
      ['--version'],
      [],
    ])
      refusedWith(await pipework(...argv), 409, 'ACT_DIRECTLY');
    for (const argv of [['list'], ['agent'], ['--help'], []])
      refusedWith(await pipewright(...argv), 409, 'ACT_DIRECTLY');
  });
  await t.test('so is what is said on another host', async () => {
    const elsewhere = { argv: ['br1', container.name, '10.63.0.2/24'], netnsInode: netnsInode + 1 };
    for (const url of ['/v1/pipework', '/v1/pipewright'])
      refusedWith(await request(own.socketPath, 'POST', url, elsewhere), 409, 'ACT_DIRECTLY', /namespace/);
    const body = { container: container.name, netnsInode: netnsInode + 1 };
    refusedWith(await request(own.socketPath, 'POST', '/v1/detach', body), 409, 'ACT_DIRECTLY');
    const order = { ...body, network: 'bridge:br1' };
    refusedWith(await request(own.socketPath, 'POST', '/v1/attach', order), 409, 'ACT_DIRECTLY');
  });
  await t.test('many at the same time', async () => {
    const all = await Promise.all(
      Array.from({ length: 12 }, (_, i) =>
        pipework('br1', '-i', `net${i}`, container.name, `10.63.${i}.3/24`),
      ),
    );
    assert.deepEqual(
      all.map(({ json }) => json.exitCode),
      all.map(() => 0),
    );
    assert.deepEqual(kept(own.stateDir).length, 12);
    const { json } = await pipewright('detach', container.name, '--all');
    assert.equal(json.exitCode, 0, json.stderr);
    assert.deepEqual(kept(own.stateDir), []);
    assert.deepEqual(
      ipLinks(container.pid).map(({ ifname }) => ifname),
      ['lo'],
    );
  });
});

test('requests that are wrong', async (t) => {
  if (skipUnless(t, 'root', 'docker', 'program:curl')) return;
  const { socketPath, agent } = await startAgent(t, 'aw');
  const post = (url: string, body: unknown, headers?: string[]) =>
    request(socketPath, 'POST', url, body, headers);
  const good = { argv: [], netnsInode: 1 };

  for (const [what, body, message] of [
    ['no JSON', '{"argv": [', /JSON/],
    ['an unknown key', { ...good, shell: true }, /shell/],
    ['a missing key', { argv: [] }, /netnsInode/],
    ['a wrong type', { ...good, argv: 'br1 web' }, /argv/],
    ['a list of wrong things', { ...good, argv: ['br1', 7] }, /argv\.1/],
    ['no object', [], /./],
    ['too many words', { ...good, argv: Array.from({ length: 10_001 }, () => 'x') }, /argv/],
  ] as const) {
    await t.test(what, async () =>
      refusedWith(await post('/v1/pipework', body), 400, 'BAD_REQUEST', message),
    );
  }
  await t.test('no content type', async () =>
    assert.equal((await post('/v1/pipework', '{}', ['content-type:'])).status >= 400, true),
  );
  await t.test('another content type', async () =>
    refusedWith(await post('/v1/pipework', 'argv=1', ['content-type: text/plain']), 415, 'BAD_REQUEST'),
  );
  await t.test('too large', async () => {
    const body = { ...good, argv: ['x'.repeat(1024 * 1024)] };
    refusedWith(await post('/v1/pipework', body), 413, 'TOO_LARGE');
  });
  await t.test('no length', async () =>
    refusedWith(
      await post('/v1/pipework', good, ['content-type: application/json', 'transfer-encoding: chunked']),
      411,
      'BAD_REQUEST',
    ),
  );
  await t.test('no such place, or no such method there', async () => {
    refusedWith(await request(socketPath, 'GET', '/v2/status'), 404, 'NOT_FOUND');
    refusedWith(await post('/v1/status', {}), 404, 'NOT_FOUND');
  });
  await t.test("the program's own errors have their codes", async () => {
    const order = { container: 'pwta-no-such', network: 'bridge:br1' };
    refusedWith(await post('/v1/attach', order), 404, 'CONTAINER_UNKNOWN');
    refusedWith(await post('/v1/attach', { ...order, mtu: '9' }), 400, 'BAD_ARGUMENT', /68/);
    refusedWith(await post('/v1/detach', { container: 'pwta-no-such' }), 404, 'CONTAINER_UNKNOWN');
    refusedWith(await post('/v1/detach', { container: '../x' }), 400, 'BAD_ARGUMENT');
  });
  await t.test('a mistake of the program is told and logged, and the agent goes on', async (t) => {
    t.mock.method(agent, 'status', () => {
      throw new TypeError('a mistake');
    });
    refusedWith(await request(socketPath, 'GET', '/v1/status'), 500, 'INTERNAL');
    t.mock.restoreAll();
    assert.equal((await request(socketPath, 'GET', '/v1/status')).status, 200);
  });
});

test('events arrive as they happen, and end with the server', async (t) => {
  if (skipUnless(t, 'root', 'docker', 'program:curl')) return;
  const own = await startAgent(t, 'ae');
  const container = runContainer(t, 'ae');
  const curl = spawn('curl', ['-sSN', '--unix-socket', own.socketPath, 'http://agent/v1/events']);
  t.after(() => void curl.kill());
  let heard = '';
  curl.stdout.setEncoding('utf8').on('data', (text: string) => {
    heard += text;
  });
  await once(curl.stdout, 'data');
  own.topology = topologyOf(container.name, '10.64.0.2');
  await request(own.socketPath, 'POST', '/v1/apply');
  const deadline = Date.now() + 5000;
  while (!heard.includes('eth1') && Date.now() < deadline) await new Promise((done) => setTimeout(done, 20));
  const events = heard
    .split('\n\n')
    .filter((text) => text.startsWith('data: '))
    .map((text) => eventSchema.parse(JSON.parse(text.slice('data: '.length))));
  assert.deepEqual(
    events.map(({ key, what }) => `${what} ${key}`),
    ['made network lan', `made ${container.name}/eth1`],
  );
});

test('the socket', async (t) => {
  if (skipUnless(t, 'root', 'docker', 'program:curl')) return;
  const { agent, host, socketPath } = await startAgent(t, 'as');
  const log = { info: () => {}, warn: () => {} };
  const parts = { agent, host, engines: [], version: '1', log };
  const refuses = (place: string, message: RegExp) =>
    assert.rejects(
      startServer({ ...parts, socketPath: place }),
      (error) =>
        error instanceof PipewrightError && error.code === 'NAME_TAKEN' && message.test(error.message),
    );

  await t.test('is of root and the group', () => {
    const { mode, uid, gid } = statSync(socketPath);
    assert.equal(mode & 0o7777, 0o660);
    assert.equal(uid, 0);
    const entry = run('getent', ['group', 'pipewright'], { expect: 'any' }).stdout.split(':')[2];
    assert.equal(gid, Number(entry ?? 0));
  });
  await t.test('of an agent that answers is not taken', async () => {
    await refuses(socketPath, /another agent answers/);
    assert.equal((await request(socketPath, 'GET', '/v1/status')).status, 200);
  });
  await t.test('of an agent that is dead is replaced', async (t) => {
    const place = path.join(ownFolder(t), 'agent.sock');
    const code = `const s = require('net').createServer().listen(${JSON.stringify(place)}, () => process.kill(process.pid, 'SIGKILL'))`;
    run(process.execPath, ['-e', code], { expect: 'any' });
    assert.ok(statSync(place).isSocket());
    const server = await startServer({ ...parts, socketPath: place });
    assert.equal((await request(place, 'GET', '/v1/status')).status, 200);
    await server[Symbol.asyncDispose]();
    assert.ok(!existsSync(place));
  });
  await t.test('is not made in the place of a file', async (t) => {
    const place = path.join(ownFolder(t), 'agent.sock');
    writeFileSync(place, 'mine');
    await refuses(place, /not the socket of an agent/);
    assert.equal(statSync(place).size, 4);
  });
  await t.test('is not made where there is no folder', async (t) =>
    refuses(path.join(ownFolder(t), 'none', 'agent.sock'), /ENOENT|EACCES/),
  );
  await t.test('stops with a reader of events and an idle connection open', async (t) => {
    const place = path.join(ownFolder(t), 'agent.sock');
    const server = await startServer({ ...parts, socketPath: place });
    const reader = net.connect(place).resume();
    reader.write('GET /v1/events HTTP/1.1\r\nHost: a\r\n\r\n');
    await once(reader, 'data');
    const idle = net.connect(place).resume();
    await once(idle, 'connect');
    const ends = Promise.all([once(reader, 'close'), once(idle, 'close')]);
    await server[Symbol.asyncDispose]();
    await ends;
  });
  await t.test('no TCP port is opened', () => {
    const { stdout } = run('ss', ['-Hltnp'], { expect: 'any' });
    assert.doesNotMatch(stdout, new RegExp(`pid=${process.pid},`));
  });
});
