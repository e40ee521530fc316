import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import path from 'node:path';
import test, { type TestContext } from 'node:test';
import { UnixHttp } from '../../src/containers/http.ts';
import { ResponseParser } from '../../src/containers/http-parser.ts';
import { needImage } from './image.ts';
import { docker, serveScript, serveUnix, temporaryFolder } from './support.ts';

const chunked =
  'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n1;ext=1\r\n \r\n006\r\nw\r\nrld\r\n0\r\nTrailer: x\r\n\r\n';
const answers = [
  ['chunked, with an extension, a trailer and CRLF inside the data', chunked, 'hello w\r\nrld', true],
  ['content-length', 'HTTP/1.1 200 OK\r\nCONTENT-length:  5\r\n\r\nhello', 'hello', true],
  ['no body', 'HTTP/1.1 204 No Content\r\n\r\n', '', true],
  ['empty body', 'HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n', '', true],
  ['until close', 'HTTP/1.0 200 OK\r\n\r\nhello', 'hello', false],
  ['connection: close', 'HTTP/1.1 200 OK\r\nConnection: Close\r\nContent-Length: 2\r\n\r\nhi', 'hi', false],
  ['interim answer', 'HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200\r\nContent-Length: 2\r\n\r\nhi', 'hi', true],
  ['UTF-8', 'HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\ngrün €', 'grün €', true],
] as const;

/** As a whole, byte by byte, and every way to cut it in two. */
function cuts(bytes: Buffer): Buffer[][] {
  const halves = [...bytes.keys()].slice(1).map((at) => [bytes.subarray(0, at), bytes.subarray(at)]);
  return [[bytes], [...bytes].map((byte) => Buffer.from([byte])), ...halves];
}

for (const [title, text, want, reusable] of answers) {
  test(`an answer in pieces of any size: ${title}`, () => {
    for (const pieces of cuts(Buffer.from(text))) {
      const parser = new ResponseParser();
      const body = Buffer.concat(pieces.flatMap((piece) => parser.push(piece)));
      if (!parser.done) parser.close();
      assert.equal(body.toString(), want);
      assert.equal(parser.reusable, reusable);
    }
  });
}

for (const [title, text] of [
  ['another protocol', 'SSH-2.0-OpenSSH_9.2\r\n'],
  ['HTTP/2', 'HTTP/2 200\r\n\r\n'],
  ['bad status', 'HTTP/1.1 2x0 OK\r\n\r\n'],
  ['bad chunk size', 'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n'],
  ['chunk without an end', 'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nabcdef\r\n'],
  ['bad length', 'HTTP/1.1 200 OK\r\nContent-Length: 1e3\r\n\r\n'],
  ['endless head', `HTTP/1.1 200 OK\r\n${'x: y\r\n'.repeat(20_000)}`],
] as const) {
  test(`no HTTP: ${title}`, () => {
    assert.throws(() => new ResponseParser().push(Buffer.from(text)), { code: 'EPROTO' });
  });
}

test('an answer that breaks off is an error wherever it breaks', () => {
  for (let length = 0; length < chunked.length; length++) {
    const parser = new ResponseParser();
    parser.push(Buffer.from(chunked.slice(0, length)));
    assert.throws(() => parser.close(), { code: 'ECONNRESET' });
  }
});

test('what comes after an answer makes the connection useless', () => {
  const parser = new ResponseParser();
  parser.push(Buffer.from('HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nab'));
  assert.ok(parser.done);
  assert.ok(!parser.reusable);
});

/** Both ways of asking: blocking calls, and node:net. */
const ways = { once: {}, kept: { keepAlive: true } } as const;
/** For who answers; and for who does not. */
const [patient, impatient] = [{ timeoutMs: 20_000 }, { timeoutMs: 500 }];

for (const [way, options] of Object.entries(ways)) {
  const ask = async (t: TestContext, pieces: readonly string[], hold = false, patience = patient) => {
    const http = new UnixHttp(await serveScript(t, { pieces, hold }), { ...options, ...patience });
    t.after(() => http.close());
    return http.get('/');
  };

  test(`${way}: split and delayed answers over a socket`, async (t) => {
    assert.deepEqual(await ask(t, [...chunked]), { status: 200, body: 'hello w\r\nrld' });
    assert.deepEqual(await ask(t, [...chunked], true), { status: 200, body: 'hello w\r\nrld' });
    assert.deepEqual(await ask(t, ['HTTP/1.0 404 No\r\n\r\n', 'a', 'b']), { status: 404, body: 'ab' });
  });

  test(`${way}: a large answer`, async (t) => {
    const body = 'grün'.repeat(500_000);
    const head = `HTTP/1.1 200 OK\r\nContent-Length: ${Buffer.byteLength(body)}\r\n\r\n`;
    const response = await ask(t, [head, body], true);
    assert.ok(response.body === body);
  });

  test(`${way}: silence, an end in the middle, another protocol`, async (t) => {
    await assert.rejects(ask(t, [], true, impatient), { code: 'ETIMEDOUT' });
    await assert.rejects(ask(t, ['HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n', 'x'], true, impatient), {
      code: 'ETIMEDOUT',
    });
    await assert.rejects(ask(t, []), { code: /ECONNRESET|EPIPE/ });
    await assert.rejects(ask(t, [chunked.slice(0, -4)]), { code: 'ECONNRESET' });
    await assert.rejects(ask(t, ['220 ready\r\n'], true), { code: 'EPROTO' });
  });

  test(`${way}: a path that nobody listens at`, async (t) => {
    const folder = temporaryFolder(t);
    writeFileSync(path.join(folder, 'file'), '');
    await assert.rejects(new UnixHttp(path.join(folder, 'none'), options).get('/'), { code: 'ENOENT' });
    await assert.rejects(new UnixHttp(path.join(folder, 'file'), options).get('/'), { code: 'ECONNREFUSED' });
  });
}

test('a path that is too long for a socket', async () => {
  await assert.rejects(new UnixHttp(`/${'x'.repeat(108)}`).get('/'), { code: 'ENAMETOOLONG' });
});

test('a signal does not fail a request that waits', async (t) => {
  const delayed = ['HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n', ...Array(40).fill(''), 'hi'];
  const socketPath = await serveScript(t, { pieces: delayed });
  let seen = 0;
  const count = () => void seen++;
  process.on('SIGUSR2', count);
  t.after(() => process.off('SIGUSR2', count));
  spawn('sh', ['-c', `sleep 0.02; kill -USR2 ${process.pid}; sleep 0.02; kill -USR2 ${process.pid}`]);
  const http = new UnixHttp(socketPath);
  for (let round = 0; round < 3; round++) assert.equal((await http.get('/')).body, 'hi');
  assert.equal(seen, 2);
});

test('a slow server is waited for without standing still', async (t) => {
  const socketPath = await serveUnix(t, (socket) => {
    // This server is in the same thread: it can only answer when that is free.
    socket.on('data', () => socket.write(ok('late')));
  });
  let ticks = 0;
  const timer = setInterval(() => ticks++, 5);
  t.after(() => clearInterval(timer));
  assert.deepEqual(await new UnixHttp(socketPath).get('/'), { status: 200, body: 'late' });
  assert.ok(ticks > 0);
});

test('a server that drips is not waited for longer than one that is silent', async (t) => {
  const socketPath = await serveScript(t, {
    pieces: ['HTTP/1.1 200 OK\r\n\r\n', ...'x'.repeat(5000)],
    hold: true,
  });
  const start = Date.now();
  await assert.rejects(new UnixHttp(socketPath, { timeoutMs: 200 }).get('/'), { code: 'ETIMEDOUT' });
  assert.ok(Date.now() - start < 1000);
});

const ok = (text: string) => `HTTP/1.1 200 OK\r\nContent-Length: ${text.length}\r\n\r\n${text}`;

test('keep-alive: one connection for many requests, another when the server closed it', async (t) => {
  const socketPath = await serveUnix(t, (socket, nr) => {
    let served = 0;
    socket.on('data', () => {
      // The second connection is closed by the next request instead of an answer, as at an idle timeout.
      if (nr === 2 && served++ === 1) socket.destroy();
      else socket.write(ok(String(nr)));
    });
    if (nr === 1) setTimeout(() => socket.end(), 100);
  });
  const http = new UnixHttp(socketPath, { keepAlive: true, timeoutMs: 2000 });
  t.after(() => http.close());
  const ask = async () => (await http.get('/')).body;
  assert.deepEqual([await ask(), await ask(), await ask()], ['1', '1', '1']);
  await new Promise((resolve) => setTimeout(resolve, 200));
  assert.deepEqual([await ask(), await ask(), await ask()], ['2', '3', '3']);
});

test('keep-alive: requests at the same time each get their own answer', async (t) => {
  const socketPath = await serveUnix(t, (socket) => {
    socket.on('data', (data) => {
      const target = /GET (\S+)/.exec(data.toString())?.[1] ?? '';
      setTimeout(() => socket.write(ok(target)), Number(target.slice(1)) % 7);
    });
  });
  const http = new UnixHttp(socketPath, { keepAlive: true });
  t.after(() => http.close());
  for (const round of [0, 100]) {
    const targets = Array.from({ length: 20 }, (_, nr) => `/${round + nr}`);
    const bodies = await Promise.all(targets.map(async (target) => (await http.get(target)).body));
    assert.deepEqual(bodies, targets);
  }
});

test('the real engine, with and without keep-alive', async (t) => {
  const missing = needImage();
  if (missing) return t.skip(missing);
  const once = new UnixHttp('/var/run/docker.sock');
  const kept = new UnixHttp('/var/run/docker.sock', { keepAlive: true });
  t.after(() => kept.close());
  const want = docker('version', '--format', '{{.Server.Version}}');
  for (const http of [once, kept, kept, kept]) {
    const { status, body } = await http.get('/version');
    assert.equal(status, 200);
    assert.equal(JSON.parse(body).Version, want);
  }
});

test('streams end by abort, by the server, and by breaking off the loop', async (t) => {
  const closed: number[] = [];
  const socketPath = await serveUnix(t, (socket, nr) => {
    socket.on('close', () => closed.push(nr)).resume();
    socket.write('HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n');
    socket.write('1\r\na\r\n1\r\nb\r\n');
    if (nr === 2) socket.end('0\r\n\r\n');
    if (nr === 4) socket.end();
  });
  const http = new UnixHttp(socketPath);
  const read = async (stop: (count: number) => boolean, signal?: AbortSignal) => {
    let text = '';
    for await (const piece of http.stream('/', signal)) {
      text += piece.toString();
      if (stop(text.length)) break;
    }
    return text;
  };
  const aborter = new AbortController();
  setTimeout(() => aborter.abort(), 50);
  assert.equal(await read(() => false, aborter.signal), 'ab');
  assert.equal(await read(() => false), 'ab');
  assert.equal(await read((count) => count === 1), 'a');
  await assert.rejects(
    read(() => false),
    { code: 'ECONNRESET' },
  );
  assert.equal(await read(() => false, AbortSignal.abort()), '');
  await new Promise((resolve) => setTimeout(resolve, 20));
  assert.deepEqual(closed.sort(), [1, 2, 3, 4]);
});
