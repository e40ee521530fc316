import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, readdirSync, readFileSync, writeSync } from 'node:fs';
import { monitorEventLoopDelay } from 'node:perf_hooks';
import { type TestContext, test } from 'node:test';
import { arpQuestion, claimant, gratuitousArp, solicitation } from '../../src/kernel/frames.ts';
import { inNetns } from '../../src/kernel/netns.ts';
import { openPacketSocket } from '../../src/kernel/packet-socket.ts';
import { type ProbingLink, probeAddress } from '../../src/kernel/probe.ts';
import { createLab, ifindexOf, type Lab, run, until } from './lab.ts';

const macs = { va: '02:00:00:00:00:01', vb: '02:00:00:00:00:02' } as const;

interface Ground {
  readonly near: Lab;
  readonly far: Lab;
  readonly link: ProbingLink;
}

/** Two hosts on one wire; the far one has 10.0.0.1 and fd00::1. */
function wire(t: TestContext): Ground {
  const [near, far] = [createLab(t), createLab(t)];
  near.ip(`link add va address ${macs.va} type veth peer name vb address ${macs.vb} netns ${far.name}`);
  near.ip('link set va up');
  far.ip('link set vb up');
  far.ip('addr add 10.0.0.1/24 dev vb');
  run(`ip netns exec ${far.name} sysctl -q net.ipv6.conf.vb.disable_ipv6=0`);
  far.ip('addr add fd00::1/64 dev vb nodad');
  return { near, far, link: { netns: near.netns, ifindex: ifindexOf(near, 'va'), mac: macs.va } };
}

function capture(
  t: TestContext,
  lab: Lab,
  link: string,
  filter: string,
): { text: () => string; ready: Promise<void> } {
  const child = spawn('ip', [
    'netns',
    'exec',
    lab.name,
    'tcpdump',
    '-i',
    link,
    '-xx',
    '-n',
    '-l',
    '-U',
    ...filter.split(' '),
  ]);
  t.after(async () => {
    child.kill();
    await once(child, 'exit');
  });
  let [out, errors] = ['', ''];
  child.stdout.on('data', (chunk) => {
    out += chunk;
  });
  child.stderr.on('data', (chunk) => {
    errors += chunk;
  });
  return { text: () => out, ready: until(() => errors.includes('listening on'), 'tcpdump') };
}

/** The bytes of the frames in what tcpdump has printed. */
function frames(dump: string): string[] {
  const found: string[] = [];
  for (const line of dump.split('\n')) {
    const [, offset, bytes = ''] = /^\s+0x([0-9a-f]{4}):\s+(.*?)\s*$/.exec(line) ?? [];
    if (offset === undefined) continue;
    if (offset === '0000') found.push('');
    found.push(`${found.pop()}${bytes.replaceAll(' ', '')}`);
  }
  return found;
}

const packetSockets = (lab: Lab): number =>
  inNetns(
    lab.netns,
    () => readFileSync('/proc/thread-self/net/packet', 'utf8').trim().split('\n').length - 1,
  );

test('whoever has an address is told by its MAC; nobody has a free one', async (t) => {
  const { near, link } = wire(t);
  assert.deepEqual(await probeAddress(link, '10.0.0.1'), { mac: macs.vb });
  assert.deepEqual(await probeAddress(link, 'fd00::1'), { mac: macs.vb });
  const free = ['10.0.0.2', 'fd00::2'].map((ip) => probeAddress(link, ip));
  assert.deepEqual(await Promise.all(free), [undefined, undefined]);
  await until(() => packetSockets(near) === 0, 'the sockets to be closed');
});

test('an answer is not waited for until the end', async (t) => {
  const { link } = wire(t);
  const slow = { probes: 1, spanMs: 60_000 };
  assert.deepEqual(await probeAddress(link, '10.0.0.1', slow), { mac: macs.vb });
});

test('what the asker was itself before does not count', async (t) => {
  const { link } = wire(t);
  const brief = { probes: 1, spanMs: 100, ignored: new Set([macs.vb]) };
  for (const ip of ['10.0.0.1', 'fd00::1']) assert.equal(await probeAddress(link, ip, brief), undefined);
});

test('the ARP probe is the one of arping -D, three of them', async (t) => {
  const { far, near, link } = wire(t);
  const seen = capture(t, far, 'vb', 'arp');
  await seen.ready;
  const byArping = spawn('nsenter', [
    `--net=/run/netns/${near.name}`,
    'arping',
    '-D',
    '-c',
    '1',
    '-w',
    '1',
    '-I',
    'va',
    '10.0.0.7',
  ]);
  await once(byArping, 'exit');
  await until(() => frames(seen.text()).length > 0, 'the frame of arping');
  const others = frames(seen.text());
  // iputils asks with the broadcast address as the target's MAC, RFC 5227 with zeros, which nobody looks at.
  const normal = (frame: string | undefined) => frame?.replace(/f{12}(0a000007)/, '000000000000$1');
  const ours = arpQuestion(macs.va, '10.0.0.7').toString('hex');
  assert.equal(normal(others[0]), ours);
  await probeAddress(link, '10.0.0.7');
  await until(() => frames(seen.text()).length === others.length + 3, 'three frames');
  assert.deepEqual(frames(seen.text()).slice(others.length), [ours, ours, ours]);
});

test("the IPv6 solicitation is the kernel's own, and its checksum is right", async (t) => {
  const { far, near, link } = wire(t);
  const seen = capture(t, far, 'vb', 'icmp6 and ip6[40] == 135');
  await seen.ready;
  // Without the nonce by which a kernel of today knows its own question again.
  const quiet = [
    'va.disable_ipv6=0',
    'va.enhanced_dad=0',
    'all.enhanced_dad=0',
    'va.router_solicitation_delay=0',
  ];
  run(`ip netns exec ${near.name} sysctl -q ${quiet.map((key) => `net.ipv6.conf.${key}`).join(' ')}`);
  near.ip('addr add fd00::7/64 dev va');
  const ours = solicitation(macs.va, 'fd00::7').toString('hex');
  await until(() => frames(seen.text()).includes(ours), 'the question of the kernel');
  near.ip('addr del fd00::7/64 dev va');
  const before = frames(seen.text()).filter((frame) => frame === ours).length;
  await probeAddress(link, 'fd00::7');
  const count = () => frames(seen.text()).filter((frame) => frame === ours).length;
  await until(() => count() === before + 3, 'three of ours');
});

test('of two that want an address at the same time one hears of it and yields', async (t) => {
  const { far, link } = wire(t);
  const other = { netns: far.netns, ifindex: ifindexOf(far, 'vb'), mac: macs.vb };
  for (const ip of ['10.0.0.9', 'fd00::9']) {
    const answers = await Promise.all([probeAddress(link, ip), probeAddress(other, ip)]);
    assert.deepEqual(answers, [{ mac: macs.vb }, undefined]);
  }
});

test('what passes in another VLAN says nothing of this one', async (t) => {
  const { far, link } = wire(t);
  const fd = openPacketSocket(far.netns, ifindexOf(far, 'vb'));
  t.after(() => closeSync(fd));
  const claim = gratuitousArp(macs.vb, '10.0.0.9');
  const tagged = Buffer.concat([claim.subarray(0, 12), Buffer.from('81000064', 'hex'), claim.subarray(12)]);
  const heardOf = async (frame: Buffer) => {
    const sending = setInterval(() => writeSync(fd, frame), 20);
    const heard = await probeAddress(link, '10.0.0.9');
    clearInterval(sending);
    return heard;
  };
  assert.equal(await heardOf(tagged), undefined);
  assert.deepEqual(await heardOf(claim), { mac: macs.vb });
});

test('a sibling on the same NIC is heard as well', async (t) => {
  const { near, far } = wire(t);
  const other = createLab(t);
  for (const [name, lab] of [
    ['mv1', other],
    ['mv2', near],
  ] as const) {
    far.ip(`link add ${name} link vb type macvlan mode bridge`);
    far.ip(`link set ${name} netns ${lab.name}`);
    run(`ip netns exec ${lab.name} sysctl -q net.ipv6.conf.${name}.disable_ipv6=0`);
    lab.ip(`link set ${name} up`);
  }
  other.ip('addr add 10.0.0.5/24 dev mv1');
  other.ip('addr add fd00::5/64 dev mv1 nodad');
  const [mac, own] = [other.ipJson('link show mv1')[0].address, near.ipJson('link show mv2')[0].address];
  // As where Docker has switched IPv6 off: the question needs none.
  run(`ip netns exec ${near.name} sysctl -q net.ipv6.conf.mv2.disable_ipv6=1`);
  const link = { netns: near.netns, ifindex: ifindexOf(near, 'mv2'), mac: own };
  assert.deepEqual(await probeAddress(link, '10.0.0.5'), { mac });
  assert.deepEqual(await probeAddress(link, 'fd00::5'), { mac });
});

test('a hundred at once: the loop goes on, and nothing is left open', async (t) => {
  const { near, link } = wire(t);
  const descriptors = () => readdirSync('/proc/self/fd').length;
  await probeAddress(link, '10.0.0.200');
  const before = descriptors();
  const delay = monitorEventLoopDelay({ resolution: 1 });
  delay.enable();
  const ips = Array.from({ length: 100 }, (_, i) => `10.0.0.${i + 1}`);
  const start = performance.now();
  const answers = await Promise.all(ips.map((ip) => probeAddress(link, ip)));
  const took = performance.now() - start;
  delay.disable();
  assert.deepEqual(answers, [{ mac: macs.vb }, ...Array(99).fill(undefined)]);
  t.diagnostic(`${took.toFixed(0)} ms, longest stop of the event loop: ${(delay.max / 1e6).toFixed(1)} ms`);
  await until(() => packetSockets(near) === 0 && descriptors() <= before, 'all to be closed');
});

test('a link that is down or gone, and a signal', async (t) => {
  const { near, link } = wire(t);
  const listening = probeAddress(link, '10.0.0.3', { spanMs: 60_000 });
  const controller = new AbortController();
  const stopped = probeAddress(link, '10.0.0.4', { spanMs: 60_000, signal: controller.signal });
  controller.abort(new Error('no more'));
  await assert.rejects(stopped, /no more/);
  near.ip('link set va down');
  await assert.rejects(listening, { op: 'addr.probe', errno: 'ENETDOWN' });
  await assert.rejects(probeAddress(link, '10.0.0.3'), { op: 'addr.probe', errno: 'ENETDOWN' });
  await assert.rejects(probeAddress({ ...link, ifindex: 9999 }, '10.0.0.3'), { errno: 'ENODEV' });
  await assert.rejects(probeAddress(link, '10.0.0.3', { signal: controller.signal }), /no more/);
  await until(() => packetSockets(near) === 0, 'the sockets to be closed');
});

test('frames of all sorts say nothing, and none throws', () => {
  const arp = arpQuestion('02:00:00:00:00:05', '10.0.0.3');
  const nd = solicitation('02:00:00:00:00:05', 'fd00::3');
  assert.equal(claimant(arp, '10.0.0.3'), '02:00:00:00:00:05');
  assert.equal(claimant(nd, 'fd00::3'), '02:00:00:00:00:05');
  for (const [frame, ip, other] of [
    [arp, '10.0.0.3', '10.0.0.4'],
    [nd, 'fd00::3', 'fd00::4'],
  ] as const) {
    assert.equal(claimant(frame, other), undefined);
    for (let length = 0; length < frame.length; length++) {
      assert.equal(claimant(frame.subarray(0, length), ip), undefined, `${length} bytes`);
    }
  }
  // Who asks in order to reach 10.0.0.3 does not say that it has it.
  const request = Buffer.from(arp);
  request.set([10, 0, 0, 9], 28);
  assert.equal(claimant(request, '10.0.0.3'), undefined);
  assert.equal(claimant(request, '10.0.0.9'), '02:00:00:00:00:05');
});
