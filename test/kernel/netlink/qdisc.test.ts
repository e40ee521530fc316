import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { type TestContext, test } from 'node:test';
import {
  addIngress,
  delIngress,
  delRootQdisc,
  ingressParent,
  ingressRedirect,
  listQdiscs,
  redirectIngress,
  replaceTbf,
  rootParent,
  sameTbf,
  tbfHandle,
  tbfOf,
} from '../../../src/kernel/netlink/qdisc.ts';
import { skipUnless } from '../../lab/capability.ts';
import { createLab, ifindexOf, type Json, type Lab, run } from '../lab.ts';

/** `tc -n NAME -j ...`, parsed. */
function tc(lab: Lab, args: string): Json[] {
  return JSON.parse(run(`tc -n ${lab.name} -j -d ${args}`));
}

/** A veth pair, `host` in one namespace and `eth1` in another, both up. */
function pair(t: TestContext): { host: Lab; guest: Lab; hostEnd: number; eth1: number } {
  const [host, guest] = [createLab(t), createLab(t)];
  host.ip(`link add host up type veth peer name eth1 netns ${guest.name}`);
  guest.ip('link set eth1 up');
  host.ip('addr add 10.0.0.1/24 dev host');
  guest.ip('addr add 10.0.0.2/24 dev eth1');
  return { host, guest, hostEnd: ifindexOf(host, 'host'), eth1: ifindexOf(guest, 'eth1') };
}

// The first half second is TCP's: it overruns the queue, and may rest for 200 ms after that.
const receiver = `let bytes = 0, began;
  require('net').createServer((s) => s.on('error', () => {}).on('data', (d) => {
    began ??= performance.now() + 500;
    const ms = performance.now() - began;
    if (ms > 0) bytes += d.length;
    if (ms > 1000) { console.log(bytes / 125 / ms); process.exit(); }
  })).listen(5001, () => console.log('ready'));`;
const sender = `const s = require('net').connect(5001, process.argv[1]).on('error', () => process.exit());
  const fill = () => { while (s.write(Buffer.alloc(65536))); };
  s.on('connect', fill).on('drain', fill).on('close', () => process.exit());`;

/** Mbit/s of one TCP connection over a second, as the receiver counts it. */
async function throughput(from: Lab, to: Lab, ip: string): Promise<number> {
  const start = (lab: Lab, script: string, ...args: string[]) =>
    spawn('nsenter', [`--net=/run/netns/${lab.name}`, process.execPath, '-e', script, ...args], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
  const receiving = start(to, receiver);
  let said = '';
  receiving.stdout.setEncoding('utf8');
  await once(receiving.stdout, 'data');
  receiving.stdout.on('data', (text: string) => {
    said += text;
  });
  const sending = start(from, sender, ip);
  const limit = setTimeout(() => receiving.kill(), 8000);
  await Promise.all([once(receiving, 'close'), once(sending, 'close')]);
  clearTimeout(limit);
  return Number(said);
}

test('a token bucket as tc shows it', (t) => {
  if (skipUnless(t, 'tbf')) return;
  const { host, hostEnd } = pair(t);
  host.rtnl.request(replaceTbf(hostEnd, { rate: 10_000_000, burst: 20_000, latencyMs: 40 }));
  const [seen] = tc(host, 'qdisc show dev host root');
  assert.equal(seen.kind, 'tbf');
  assert.equal(seen.handle, '7077:');
  assert.equal(seen.options.rate, 1_250_000);
  assert.match(seen.options.burst, /^20000b/);
  assert.equal(seen.options.linklayer, 'ethernet');
  // tc prints microseconds.
  assert.ok(Math.abs(seen.options.lat - 40_000) <= 2, `latency ${seen.options.lat}`);
  const [ours] = listQdiscs(host.rtnl, hostEnd);
  assert.deepEqual(ours && [ours.kind, ours.handle, ours.parent], ['tbf', tbfHandle, rootParent]);
  assert.ok(ours?.tbf && sameTbf(ours.tbf, { rate: 10_000_000, burst: 20_000, limit: 70_000 }));
});

test('changed in place, put instead of another qdisc, deleted', (t) => {
  if (skipUnless(t, 'tbf')) return;
  const { host, hostEnd } = pair(t);
  run(`tc -n ${host.name} qdisc add dev host root tbf rate 1mbit burst 10kb latency 50ms`);
  const rates = (): number[] => tc(host, 'qdisc show dev host root').map(({ options }) => options.rate);
  for (const rate of [2_000_000, 3_000_000]) {
    host.rtnl.request(replaceTbf(hostEnd, { rate }));
    assert.deepEqual(rates(), [rate / 8]);
  }
  host.rtnl.request(delRootQdisc(hostEnd));
  assert.deepEqual(
    tc(host, 'qdisc show dev host root').map(({ kind }) => kind),
    ['noqueue'],
  );
  assert.throws(() => host.rtnl.request(delRootQdisc(hostEnd)), { op: 'qdisc.del', errno: 'ENOENT' });
});

test('rates from 1 kbit/s to 100 Gbit/s are read back as they were wanted', (t) => {
  if (skipUnless(t, 'tbf')) return;
  const { host, hostEnd } = pair(t);
  for (const rate of [1000, 64_000, 1_234_567, 1e8, 1e9, 10e9, 34_359_738_360, 34_359_738_368, 100e9]) {
    for (const mtu of [1500, 9000]) {
      const wanted = tbfOf({ rate, mtu });
      host.rtnl.request(replaceTbf(hostEnd, { rate, mtu }));
      const seen = listQdiscs(host.rtnl, hostEnd)[0]?.tbf;
      assert.ok(seen && sameTbf(seen, wanted), `${rate}: ${JSON.stringify({ seen, wanted })}`);
      assert.equal(tc(host, 'qdisc show dev host root')[0].options.rate, Math.floor(rate / 8));
    }
  }
  assert.ok(!sameTbf(tbfOf({ rate: 1e6 }), tbfOf({ rate: 1e6, burst: 20_000 })));
  assert.throws(() => replaceTbf(hostEnd, { rate: 999 }), RangeError);
  assert.throws(() => replaceTbf(hostEnd, { rate: Number.NaN }), RangeError);
});

test('defaults: ten frames or 4 ms, and 50 ms in the queue', () => {
  assert.deepEqual(tbfOf({ rate: 1_000_000 }), { rate: 1_000_000, burst: 15_140, limit: 21_390 });
  assert.deepEqual(tbfOf({ rate: 1e9 }), { rate: 1e9, burst: 500_000, limit: 6_750_000 });
  assert.equal(tbfOf({ rate: 1_000_000, mtu: 9000 }).burst, 90_140);
});

test('qdiscs of one link or of all, other kinds among them', (t) => {
  if (skipUnless(t, 'tbf')) return;
  const { host, hostEnd } = pair(t);
  host.ip('link add br1 up type bridge');
  host.rtnl.request(replaceTbf(hostEnd, { rate: 1e6 }));
  const kinds = Object.fromEntries(listQdiscs(host.rtnl).map(({ ifindex, kind }) => [ifindex, kind]));
  assert.deepEqual(
    kinds,
    Object.fromEntries(tc(host, 'qdisc').map(({ dev, kind }) => [ifindexOf(host, dev), kind])),
  );
  assert.equal(kinds[hostEnd], 'tbf');
  assert.deepEqual(listQdiscs(host.rtnl, 12345), []);
  assert.throws(() => host.rtnl.request(replaceTbf(12345, { rate: 1e6 })), { errno: 'ENODEV' });
});

test('10 Mbit/s are what goes through, in the one direction that is limited', async (t) => {
  if (skipUnless(t, 'tbf')) return;
  const { host, guest, hostEnd } = pair(t);
  host.rtnl.request(replaceTbf(hostEnd, { rate: 10_000_000 }));
  const limited = await throughput(host, guest, '10.0.0.2');
  // How much less, is up to how busy the machine is.
  assert.ok(limited > 1 && limited < 12, `${limited} Mbit/s`);
  const free = await throughput(guest, host, '10.0.0.1');
  assert.ok(free > 50, `${free} Mbit/s the other way`);
  t.diagnostic(`${limited.toFixed(1)} Mbit/s limited, ${free.toFixed(0)} Mbit/s the other way`);
});

/** A macvlan `eth1` in a namespace, with an ifb beside it, on a link whose other end is `host` in another. */
function macvlan(t: TestContext): { host: Lab; guest: Lab; eth1: number; ifb: number } | undefined {
  if (skipUnless(t, 'tbf', 'macvlan')) return undefined;
  const [host, guest] = [createLab(t), createLab(t)];
  try {
    guest.ip('link add ifb9 up type ifb');
  } catch {
    t.skip('kernel lacks ifb');
    return undefined;
  }
  host.ip('link add host up type veth peer name nic');
  host.ip('link set nic up');
  host.ip('link add eth1 link nic type macvlan mode bridge');
  host.ip(`link set eth1 netns ${guest.name} up`);
  host.ip('addr add 10.0.0.1/24 dev host');
  guest.ip('addr add 10.0.0.2/24 dev eth1');
  return { host, guest, eth1: ifindexOf(guest, 'eth1'), ifb: ifindexOf(guest, 'ifb9') };
}

test('what a macvlan receives, limited by an ifb in its namespace', async (t) => {
  const lab = macvlan(t);
  if (!lab) return;
  const { host, guest, eth1, ifb } = lab;
  const outcomes = guest.rtnl.batch([
    replaceTbf(ifb, { rate: 10_000_000 }),
    addIngress(eth1),
    redirectIngress(eth1, ifb),
  ]);
  if (outcomes[2]?.errno === 'ENOENT') return t.skip('kernel lacks u32 or mirred');
  assert.deepEqual(outcomes.filter(Boolean), []);
  const filters = tc(guest, 'filter show dev eth1 ingress').filter(({ options }) => options?.actions);
  assert.equal(filters.length, 1);
  assert.deepEqual([filters[0].protocol, filters[0].pref, filters[0].kind], ['all', 1, 'u32']);
  const [action] = filters[0].options.actions;
  assert.deepEqual(
    [action.kind, action.mirred_action, action.direction, action.to_dev],
    ['mirred', 'redirect', 'egress', 'ifb9'],
  );
  assert.equal(ingressRedirect(guest.rtnl, eth1), ifb);
  assert.ok(listQdiscs(guest.rtnl, eth1).some(({ parent }) => parent === ingressParent));
  const limited = await throughput(host, guest, '10.0.0.2');
  // How much less, is up to how busy the machine is.
  assert.ok(limited > 1 && limited < 12, `${limited} Mbit/s`);
  const free = await throughput(guest, host, '10.0.0.1');
  assert.ok(free > 50, `${free} Mbit/s the other way`);
  t.diagnostic(`${limited.toFixed(1)} Mbit/s limited, ${free.toFixed(0)} Mbit/s the other way`);
  assert.throws(() => guest.rtnl.request(addIngress(eth1)), { op: 'qdisc.add', errno: 'EEXIST' });
  guest.rtnl.request(delIngress(eth1));
  assert.equal(ingressRedirect(guest.rtnl, eth1), undefined);
  assert.deepEqual(
    tc(guest, 'qdisc show dev eth1').map(({ kind }) => kind),
    ['noqueue'],
  );
  assert.throws(() => guest.rtnl.request(delIngress(eth1)), { op: 'qdisc.del' });
  assert.ok((await throughput(host, guest, '10.0.0.2')) > 50);
});
