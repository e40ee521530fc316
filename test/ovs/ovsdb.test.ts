// Failures, against an ovsdb-server of the test's own that no ovs-vswitchd listens to.
import assert from 'node:assert/strict';
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { type TestContext, test } from 'node:test';
import type { PipewrightError } from '../../src/errors.ts';
import { addBridge, getBridge } from '../../src/ovs/bridge.ts';
import { usableDatapath } from '../../src/ovs/datapath.ts';
import { Ovsdb } from '../../src/ovs/ovsdb.ts';
import { addPort, getPort } from '../../src/ovs/port.ts';
import { setPortVlans } from '../../src/ovs/port-settings.ts';
import { OvsdbWatch } from '../../src/ovs/watch.ts';
import { OwnServer, run } from './support.ts';

const skip = OwnServer.whyNot() ?? false;
const about = { op: 'test', subject: 'test' };
const noWait = { waitMs: undefined };
const pwtov = { name: 'pwtov1', datapathType: 'netdev' } as const;

async function own(t: TestContext): Promise<{ server: OwnServer; db: Ovsdb }> {
  const server = new OwnServer(t);
  await server.start();
  const db = await Ovsdb.connect(server.socket, { timeoutMs: 300 });
  t.after(() => db.close());
  return { server, db };
}

/** A server that does what `answer` says, for answers that no real one gives. */
async function fake(t: TestContext, answer: (socket: Socket, request: string) => void): Promise<string> {
  const dir = mkdtempSync(path.join(tmpdir(), 'pwtov-'));
  const server = createServer((socket) => {
    socket.on('error', () => {});
    socket.on('data', (chunk) => answer(socket, chunk.toString()));
  });
  await new Promise<void>((resolve) => server.listen(path.join(dir, 's'), resolve));
  t.after(() => {
    server.close();
    rmSync(dir, { recursive: true });
  });
  return path.join(dir, 's');
}

async function until(condition: () => boolean, ms = 3000): Promise<void> {
  const deadline = Date.now() + ms;
  while (!condition()) {
    assert.ok(Date.now() < deadline, `not within ${ms} ms: ${condition}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

test('nobody there: one error that says how to start it', { skip }, async (t) => {
  const server = new OwnServer(t);
  const hint = /openvswitch-switch start.*systemctl start/;
  await assert.rejects(Ovsdb.connect(server.socket), { code: 'OVS_UNAVAILABLE', errno: 'ENOENT', hint });
  await server.start();
  await server.kill();
  await assert.rejects(Ovsdb.connect(server.socket), {
    code: 'OVS_UNAVAILABLE',
    errno: 'ECONNREFUSED',
    hint,
  });
});

test('a server that ends rejects what is under way and what comes after', { skip }, async (t) => {
  const { server, db } = await own(t);
  server.signal('SIGSTOP');
  const under = assert.rejects(getBridge(db, 'x'), { code: 'OVS_UNAVAILABLE' });
  await server.kill();
  await under;
  await assert.rejects(getBridge(db, 'x'), { code: 'OVS_UNAVAILABLE' });
  assert.equal((await db.closed).code, 'OVS_UNAVAILABLE');
});

test('a server that hangs costs the timeout and not more', { skip }, async (t) => {
  const { server, db } = await own(t);
  server.signal('SIGSTOP');
  const start = Date.now();
  await assert.rejects(getBridge(db, 'x'), {
    code: 'OVS_UNAVAILABLE',
    message: /no answer to transact within 300 ms/,
  });
  assert.ok(Date.now() - start < 1000);
  // The kernel accepts connections for it until its queue is full; then they wait.
  const many = Array.from({ length: 80 }, async () => {
    const one = await Ovsdb.connect(server.socket, { timeoutMs: 200 });
    try {
      await one.echo();
    } finally {
      one.close();
    }
  });
  const outcomes = await Promise.allSettled(many);
  const codes = outcomes.map((one) =>
    one.status === 'rejected' ? (one.reason as PipewrightError).code : 'ok',
  );
  assert.deepEqual([...new Set(codes)], ['OVS_UNAVAILABLE']);
});

test('without ovs-vswitchd a wait ends in time and takes the change back', { skip }, async (t) => {
  const { db } = await own(t);
  const start = Date.now();
  await assert.rejects(addPort(db, { bridge: pwtov, port: 'pwtova' }, { waitMs: 200 }), {
    code: 'OVS_TIMEOUT',
    hint: /ovs-vswitchd/,
  });
  assert.ok(Date.now() - start >= 195 && Date.now() - start < 1000);
  assert.equal(await getBridge(db, 'pwtov1'), undefined);
  assert.equal(await getPort(db, 'pwtova'), undefined);

  await addPort(db, { bridge: pwtov, port: 'pwtova', tag: 7 }, noWait);
  assert.equal((await getPort(db, 'pwtova'))?.tag, 7);
  await assert.rejects(addPort(db, { bridge: pwtov, port: 'pwtovb' }, { waitMs: 0 }), {
    code: 'OVS_TIMEOUT',
  });
  assert.deepEqual((await getBridge(db, 'pwtov1'))?.ports, ['pwtova']);
});

test('a bridge is not taken back when another command has plugged into it', { skip }, async (t) => {
  const { db, server } = await own(t);
  const failing = assert.rejects(addBridge(db, pwtov, { waitMs: 250 }), { code: 'OVS_TIMEOUT' });
  const other = await Ovsdb.connect(server.socket);
  await addPort(other, { bridge: pwtov, port: 'pwtova' }, noWait);
  other.close();
  await failing;
  assert.deepEqual((await getBridge(db, 'pwtov1'))?.ports, ['pwtova']);
});

test('the connection ends during the wait', { skip }, async (t) => {
  const { server, db } = await own(t);
  const adding = assert.rejects(addBridge(db, pwtov, { waitMs: 3000 }), { code: 'UNDO_INCOMPLETE' });
  await new Promise((resolve) => setTimeout(resolve, 50));
  await server.kill();
  await adding;
});

test('a database that was never initialised', { skip }, async (t) => {
  const server = new OwnServer(t, false);
  await server.start();
  const db = await Ovsdb.connect(server.socket);
  t.after(() => db.close());
  await assert.rejects(addBridge(db, pwtov, noWait), {
    code: 'OVS_REFUSED',
    hint: /ovs-vsctl --no-wait init/,
  });
});

test('an operation error and a commit error both come with the text of OVS', { skip }, async (t) => {
  const { db } = await own(t);
  await assert.rejects(db.transact([{ op: 'delete', table: 'Nonsense', where: [] }], about), {
    code: 'OVS_REFUSED',
    op: 'test',
    message: /No table named Nonsense/,
  });
  // Refused only when all of it is there to be checked: two bridges of one name.
  const bridge = { op: 'insert', table: 'Bridge', row: { name: 'twice' } } as const;
  const into = (name: string) =>
    ({
      op: 'mutate',
      table: 'Open_vSwitch',
      where: [],
      mutations: [['bridges', 'insert', ['named-uuid', name]]],
    }) as const;
  const twice = [{ ...bridge, 'uuid-name': 'a' }, into('a'), { ...bridge, 'uuid-name': 'b' }, into('b')];
  await assert.rejects(db.transact(twice, about), {
    code: 'OVS_REFUSED',
    message: /constraint violation.*twice/,
  });
  const { failure } = await db.tryTransact(twice, about);
  assert.equal(failure?.index, twice.length);
});

test('answers that no server should give', async (t) => {
  const http = await fake(t, (socket) => socket.write('HTTP/1.1 400 Bad Request\r\n\r\n'));
  await assert.rejects((await Ovsdb.connect(http)).echo(), {
    code: 'OVS_UNAVAILABLE',
    message: /not JSON-RPC/,
  });
  const refusing = await fake(t, (socket) =>
    socket.write('{"id":1,"result":null,"error":{"error":"unknown database"}}'),
  );
  const db = await Ovsdb.connect(refusing);
  t.after(() => db.close());
  await assert.rejects(db.echo(), { code: 'OVS_REFUSED', message: /unknown database/ });
});

test('news of ovs-vswitchd that comes in one piece with the answers is not lost', async (t) => {
  const cfg = (n: number) => ({ Open_vSwitch: { u: { new: { cur_cfg: n } } } });
  let asked = '';
  const socket = await fake(t, (peer, request) => {
    asked += request;
    if (!asked.includes('transact')) return;
    const results = [{ count: 1 }, { count: 1 }, { rows: [{ next_cfg: 8 }] }];
    const messages = [
      { id: 1, result: cfg(7), error: null },
      { id: 2, result: results, error: null },
      { method: 'update', params: ['m1', cfg(8)], id: null },
    ];
    peer.write(messages.map((message) => JSON.stringify(message)).join(''));
  });
  const db = await Ovsdb.connect(socket);
  t.after(() => db.close());
  await setPortVlans(db, 'x', { tag: 1 }, { waitMs: 500 });
});

test('the echo of the server is answered', async (t) => {
  const heard: string[] = [];
  const socket = await fake(t, (peer, request) => {
    heard.push(request);
    if (heard.length === 1)
      peer.write('{"id":"echo","method":"echo","params":["ü"]}{"id":1,"result":[],"error":null}');
  });
  const db = await Ovsdb.connect(socket);
  t.after(() => db.close());
  await db.echo();
  await until(() => heard.length > 1);
  assert.deepEqual(JSON.parse(heard[1] ?? ''), { id: 'echo', result: ['ü'], error: null });
});

test('a monitor wakes on changes of its columns until it is stopped', { skip }, async (t) => {
  const { server, db } = await own(t);
  let wakes = 0;
  const stop = await db.monitor({ Port: ['tag'] }, () => wakes++);
  const other = await Ovsdb.connect(server.socket);
  t.after(() => other.close());
  await addPort(other, { bridge: pwtov, port: 'pwtova' }, noWait);
  await until(() => wakes === 1);
  run('ovs-vsctl', `--db=unix:${server.socket}`, '--no-wait', 'set', 'bridge', 'pwtov1', 'external_ids:a=b');
  await db.echo();
  assert.equal(wakes, 1);
  await stop();
  run('ovs-vsctl', `--db=unix:${server.socket}`, '--no-wait', 'set', 'port', 'pwtova', 'tag=3');
  await db.echo();
  assert.equal(wakes, 1);
});

test('a watch outlives its server: killed and restarted, stopped and continued', { skip }, async (t) => {
  const server = new OwnServer(t);
  let wakes = 0;
  const lost: string[] = [];
  const watch = new OvsdbWatch(
    { Bridge: ['name'] },
    {
      path: server.socket,
      onWake: () => wakes++,
      onLost: ({ code }) => lost.push(code),
      timeoutMs: 150,
      probeMs: 50,
    },
  );
  t.after(() => watch[Symbol.asyncDispose]());
  await until(() => lost.length === 1);
  await server.start();
  await until(() => wakes === 1);
  await server.kill();
  await until(() => lost.length === 2);
  await server.start();
  await until(() => wakes === 2);
  run('ovs-vsctl', `--db=unix:${server.socket}`, '--no-wait', 'add-br', 'pwtov1');
  await until(() => wakes === 3);
  server.signal('SIGSTOP');
  await until(() => lost.length === 3);
  server.signal('SIGCONT');
  await until(() => wakes === 4);
  await watch[Symbol.asyncDispose]();
  run('ovs-vsctl', `--db=unix:${server.socket}`, '--no-wait', 'del-br', 'pwtov1');
  assert.equal(wakes, 4);
  assert.deepEqual(lost, ['OVS_UNAVAILABLE', 'OVS_UNAVAILABLE', 'OVS_UNAVAILABLE']);
});

test('the datapath without a loaded module is what ovs-vswitchd says', async (t) => {
  const answers = {
    'opening datapath system@ovs-system failed (No such file or directory)': 'netdev',
    'opening datapath system@ovs-system failed (Address family not supported by protocol)': 'netdev',
    'opening datapath system@ovs-system failed (No such device)': 'system',
  };
  const { existsSync } = await import('node:fs');
  if (existsSync('/sys/module/openvswitch')) return t.skip('the openvswitch module is loaded');
  for (const [error, want] of Object.entries(answers)) {
    const socket = await fake(t, (peer) => peer.write(JSON.stringify({ id: 1, result: null, error })));
    const dir = path.dirname(socket);
    run('mv', socket, path.join(dir, 'ovs-vswitchd.77.ctl'));
    writeFileSync(path.join(dir, 'ovs-vswitchd.pid'), '77\n');
    assert.equal(await usableDatapath(path.join(dir, 'db.sock')), want, error);
  }
  assert.equal(await usableDatapath('/nonexistent/db.sock'), 'system');
});

test('a socket that may not be opened', { skip }, async (t) => {
  const server = new OwnServer(t);
  await server.start();
  chmodSync(server.dir, 0o711);
  chmodSync(server.socket, 0o600);
  process.seteuid?.(65534);
  try {
    await assert.rejects(Ovsdb.connect(server.socket), { code: 'NOT_PERMITTED' });
  } finally {
    process.seteuid?.(0);
  }
});
