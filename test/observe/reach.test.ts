import assert from 'node:assert/strict';
import { readdirSync, readlinkSync } from 'node:fs';
import { createServer } from 'node:net';
import { monitorEventLoopDelay } from 'node:perf_hooks';
import { type TestContext, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { inNetns } from '../../src/kernel/netns.ts';
import { syscalls } from '../../src/kernel/syscalls.ts';
import { type ProbeResult, probe, probeMatrix } from '../../src/observe/reach.ts';
import { createLab, type Lab, until } from '../kernel/lab.ts';
import { skipUnless } from '../lab/capability.ts';
import { ping } from '../lab/ground.ts';
import { runIn } from '../lab/run.ts';

const timeoutMs = 1000;

/** A namespace `10.0.0.N`, `fd00::N` for each N, in one subnet; odd ones on the one bridge, even ones on the other. */
function hosts(t: TestContext, ...numbers: number[]): Lab[] {
  const middle = createLab(t);
  for (const bridge of ['br0', 'br1']) middle.ip(`link add ${bridge} up type bridge`);
  return numbers.map((n) => {
    const lab = createLab(t);
    lab.ip('link set lo up');
    middle.ip(`link add port${n} up master br${n % 2} type veth peer name eth1 netns ${lab.name}`);
    lab.ip(`addr add 10.0.0.${n}/24 dev eth1`);
    lab.ip(`addr add fd00::${n}/64 dev eth1 nodad`);
    lab.ip('link set eth1 up');
    return lab;
  });
}

/** Listens in a namespace, on all addresses of both families; the connections that came. */
function listen(t: TestContext, lab: Lab, port: number): { connections: number } {
  const heard = { connections: 0 };
  const server = createServer((socket) => {
    heard.connections++;
    socket.on('error', () => {}).resume();
  });
  // struct sockaddr_in6: AF_INET6, port, address ::
  const address = Buffer.alloc(28);
  address.writeUInt16LE(10, 0);
  address.writeUInt16BE(port, 2);
  const sys = syscalls();
  const fd = inNetns(lab.netns, () => sys.socket(10, 1 | 0o2000000, 0, 'server'));
  sys.bind(fd, address, 'server');
  server.listen({ fd });
  t.after(() => server.close());
  return heard;
}

const pings = (from: Lab, ip: string, ms = timeoutMs): Promise<ProbeResult> =>
  probe(from.netns, { ip, protocol: 'ping' }, ms);
const connects = (from: Lab, ip: string, port: number, ms = timeoutMs): Promise<ProbeResult> =>
  probe(from.netns, { ip, protocol: 'tcp', port }, ms);

/** Milliseconds that it took, and what came of it. */
async function timed<T>(work: Promise<T>): Promise<[T, number]> {
  const began = performance.now();
  return [await work, performance.now() - began];
}

test('echo requests are answered, the first as well, which has to find the neighbour', async (t) => {
  const [one, three] = hosts(t, 1, 3);
  if (!one || !three) return;
  for (const ip of ['10.0.0.3', 'fd00::3', '10.0.0.3', '127.0.0.1', '::1', '10.0.0.1']) {
    const { reachable, detail, rttMs } = await pings(one, ip, 5000);
    assert.deepEqual({ reachable, detail }, { reachable: true, detail: 'echo reply' }, ip);
    assert.ok(rttMs !== undefined && rttMs > 0, `${ip}: ${rttMs} ms`);
    assert.ok(ping(one.name, ip));
  }
});

test('an open port, a closed one', async (t) => {
  const [one, three] = hosts(t, 1, 3);
  if (!one || !three) return;
  const heard = listen(t, three, 5432);
  for (const ip of ['10.0.0.3', 'fd00::3']) {
    const open = await connects(one, ip, 5432);
    assert.deepEqual([open.reachable, open.detail], [true, 'connected']);
    assert.ok(open.rttMs !== undefined && open.rttMs < 500);
    const closed = await connects(one, ip, 5433);
    const detail = `${ip} answers, but port 5433 is closed [ECONNREFUSED]`;
    assert.deepEqual(closed, { reachable: false, detail, errno: 'ECONNREFUSED' });
  }
  await sleep(20);
  assert.equal(heard.connections, 2);
});

test('on another bridge: silence until the time is over', async (t) => {
  const [one, two] = hosts(t, 1, 2);
  if (!one || !two) return;
  listen(t, two, 5432);
  const silence = { reachable: false, detail: 'no answer in 600 ms' };
  const all = [
    pings(one, '10.0.0.2', 600),
    pings(one, 'fd00::2', 600),
    connects(one, '10.0.0.2', 5432, 600),
    connects(one, 'fd00::2', 5432, 600),
  ];
  const [results, ms] = await timed(Promise.all(all));
  assert.deepEqual(results, Array(4).fill(silence));
  // One after the other would be 2400.
  assert.ok(ms > 550 && ms < 2000, `${ms} ms`);
  assert.ok(!ping(one.name, '10.0.0.2'));
});

test('a neighbour that is not there is known after three seconds', async (t) => {
  const [one] = hosts(t, 1);
  if (!one) return;
  const all = ['10.0.0.9', 'fd00::9'].flatMap((ip) => [pings(one, ip, 8000), connects(one, ip, 80, 8000)]);
  const results = await Promise.all(all);
  assert.deepEqual(
    results.map(({ reachable, errno }) => [reachable, errno]),
    Array(4).fill([false, 'EHOSTUNREACH']),
  );
});

test('what the kernel knows is said at once', async (t) => {
  const [one] = hosts(t, 1);
  if (!one) return;
  one.ip('route add prohibit 10.1.0.0/16');
  one.ip('route add blackhole 10.2.0.0/16');
  one.ip('route add unreachable 10.3.0.0/16');
  const known = {
    '192.0.2.1': 'ENETUNREACH',
    '2001:db8::1': 'ENETUNREACH',
    '10.1.0.1': 'EACCES',
    '10.2.0.1': 'EINVAL',
    '10.3.0.1': 'EHOSTUNREACH',
  };
  for (const [ip, errno] of Object.entries(known)) {
    const asked: Promise<ProbeResult>[] = [pings(one, ip), connects(one, ip, 80)];
    for (const answer of asked) {
      const [result, ms] = await timed(answer);
      assert.deepEqual([result.reachable, result.errno], [false, errno], ip);
      assert.match(result.detail, new RegExp(` \\[${errno}\\]$`));
      assert.ok(ms < timeoutMs, `${ip}: ${ms} ms`);
    }
  }
  assert.equal((await pings(one, '192.0.2.1')).detail, 'no route to 192.0.2.1 [ENETUNREACH]');
});

test('a firewall that drops, on either side', async (t) => {
  if (skipUnless(t, 'program:iptables')) return;
  const [one, three] = hosts(t, 1, 3);
  if (!one || !three) return;
  listen(t, three, 5432);
  const rule = (lab: Lab, text: string): void => void runIn(lab.name, 'iptables', ['-w', ...text.split(' ')]);
  rule(three, '-A INPUT -p tcp --dport 5432 -j DROP');
  assert.deepEqual(await connects(one, '10.0.0.3', 5432), {
    reachable: false,
    detail: 'no answer in 1000 ms',
  });
  assert.ok((await pings(one, '10.0.0.3')).reachable);
  rule(three, '-A INPUT -p icmp -j DROP');
  assert.equal((await pings(one, '10.0.0.3', 300)).detail, 'no answer in 300 ms');
  rule(three, '-F INPUT');
  rule(one, '-A OUTPUT -d 10.0.0.3 -j DROP');
  assert.equal((await pings(one, '10.0.0.3')).errno, 'EPERM');
  assert.equal((await connects(one, '10.0.0.3', 5432, 300)).reachable, false);
});

test('a neighbour that comes late is still reached', async (t) => {
  const [one, three] = hosts(t, 1, 3);
  if (!one || !three) return;
  three.ip('link set eth1 down');
  const asked = [pings(one, '10.0.0.3', 3000), connects(one, '10.0.0.3', 5432, 3000)];
  listen(t, three, 5432);
  await sleep(500);
  three.ip('link set eth1 up');
  assert.deepEqual(
    (await Promise.all(asked)).map(({ reachable }) => reachable),
    [true, true],
  );
});

test('IPv6 addresses that are not ready yet are waited for', async (t) => {
  const [one, three] = hosts(t, 1, 3);
  if (!one || !three) return;
  one.ip('link set eth1 down');
  one.ip('addr flush dev eth1');
  one.ip('addr add fd00::1/64 dev eth1');
  one.ip('link set eth1 up');
  listen(t, three, 5432);
  const asked = [pings(one, 'fd00::3', 5000), connects(one, 'fd00::3', 5432, 5000)];
  assert.ok(one.ipJson('-6 addr show dev eth1')[0].addr_info.some(({ tentative }: never) => tentative));
  assert.deepEqual(
    (await Promise.all(asked)).map(({ reachable }) => reachable),
    [true, true],
  );
});

test('ten by ten take the time of one, hold nothing up and leave nothing', async (t) => {
  const labs = hosts(t, ...Array.from({ length: 10 }, (_, i) => i + 1));
  for (const lab of labs) listen(t, lab, 5432);
  const home = readlinkSync('/proc/thread-self/ns/net');
  const open = readdirSync('/proc/self/fd').length;
  for (const target of [{ protocol: 'ping' }, { protocol: 'tcp', port: 5432 }] as const) {
    const jobs = labs.flatMap(({ netns }) =>
      labs.map((_, to) => ({ from: netns, target: { ip: `10.0.0.${to + 1}`, ...target } })),
    );
    const delay = monitorEventLoopDelay({ resolution: 5 });
    delay.enable();
    const [results, ms] = await timed(probeMatrix(jobs, timeoutMs));
    delay.disable();
    results.forEach(({ reachable, detail }, i) => {
      const [from, to] = [Math.floor(i / 10) + 1, (i % 10) + 1];
      assert.equal(reachable, from % 2 === to % 2, `${from} to ${to}: ${detail}`);
    });
    assert.equal(results.length, 100);
    // One after the other would be fifty times that.
    assert.ok(ms < 10 * timeoutMs, `${ms} ms`);
    const longest = delay.max / 1e6;
    assert.ok(longest < ms / 2, `the loop was held up for ${longest} ms`);
    t.diagnostic(`${target.protocol}: ${ms.toFixed(0)} ms, loop held up ${longest.toFixed(0)} ms at most`);
  }
  assert.equal(readlinkSync('/proc/thread-self/ns/net'), home);
  // The servers' ends of the connections close a moment after ours.
  await until(() => readdirSync('/proc/self/fd').length <= open, 'sockets to close');
});

test('what is no address is a mistake of the caller', async (t) => {
  const [one] = hosts(t, 1);
  if (!one) return;
  await assert.rejects(pings(one, 'web'), /not an IP address: web/);
  await assert.rejects(connects(one, 'fe80::1%eth1', 80), /not an IP address/);
});
