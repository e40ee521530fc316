import assert from 'node:assert/strict';
import test from 'node:test';
import { UnixHttp } from '../../src/containers/http.ts';
import { ResponseParser } from '../../src/containers/http-parser.ts';
import { needImage } from './image.ts';
import { docker, serveUnix } from './support.ts';

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

test('split and delayed answers over a socket', async (t) => {
  const socketPath = await serveUnix(t, (socket) => {
    socket.once('data', async () => {
      for (const byte of chunked) {
        socket.write(byte);
        await new Promise((resolve) => setImmediate(resolve));
      }
    });
  });
  assert.deepEqual(await new UnixHttp(socketPath).get('/'), { status: 200, body: 'hello w\r\nrld' });
});

test('a server that says nothing ends in ETIMEDOUT, at once when it hangs up', async (t) => {
  const silent = await serveUnix(t, () => {});
  await assert.rejects(new UnixHttp(silent, { timeoutMs: 50 }).get('/'), { code: 'ETIMEDOUT' });
  const slow = await serveUnix(t, (socket) => {
    socket.write('HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n');
    const timer = setInterval(() => socket.write('x'), 10);
    socket.on('close', () => clearInterval(timer));
  });
  await assert.rejects(new UnixHttp(slow, { timeoutMs: 100 }).get('/'), { code: 'ETIMEDOUT' });
  const rude = await serveUnix(t, (socket) => void socket.end());
  await assert.rejects(new UnixHttp(rude).get('/'), { code: /ECONNRESET|EPIPE/ });
  const other = await serveUnix(t, (socket) => void socket.write('220 ready\r\n'));
  await assert.rejects(new UnixHttp(other).get('/'), { code: 'EPROTO' });
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
      const path = /GET (\S+)/.exec(data.toString())?.[1] ?? '';
      setTimeout(() => socket.write(ok(path)), Number(path.slice(1)) % 7);
    });
  });
  const http = new UnixHttp(socketPath, { keepAlive: true });
  t.after(() => http.close());
  for (const round of [0, 100]) {
    const paths = Array.from({ length: 20 }, (_, nr) => `/${round + nr}`);
    const bodies = await Promise.all(paths.map(async (path) => (await http.get(path)).body));
    assert.deepEqual(bodies, paths);
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
