import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { type TestContext, test } from 'node:test';
import { gratuitousArp, routerSolicitation, unsolicitedAdvertisement } from '../../src/kernel/frames.ts';
import { inNetns } from '../../src/kernel/netns.ts';
import { announce, solicitRouters } from '../../src/kernel/packet.ts';
import { parseCidr } from '../../src/model/address.ts';
import { createLab, ifindexOf, type Lab, run, until } from './lab.ts';

const mac = '02:00:00:00:00:01';

/** Frames on a link, as `tcpdump -xx` shows them. */
async function sniff(t: TestContext, lab: Lab, link: string, filter: string): Promise<() => string> {
  const args = [
    'netns',
    'exec',
    lab.name,
    'tcpdump',
    '-i',
    link,
    '-xx',
    '-n',
    '-v',
    '-l',
    '-U',
    ...filter.split(' '),
  ];
  const child: ChildProcess = spawn('ip', args, { stdio: ['ignore', 'pipe', 'pipe'] });
  t.after(async () => {
    child.kill();
    await once(child, 'exit');
  });
  let out = '';
  let errors = '';
  child.stdout?.on('data', (chunk) => {
    out += chunk;
  });
  child.stderr?.on('data', (chunk) => {
    errors += chunk;
  });
  await until(() => errors.includes('listening on'), 'tcpdump');
  return () => out;
}

/** The bytes of each frame in what tcpdump has printed. */
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

function pair(t: TestContext): { lab: Lab; ifindex: number } {
  const lab = createLab(t);
  lab.ip(`link add va address ${mac} type veth peer name vb`);
  // No advertisements but the tested ones.
  run(`ip netns exec ${lab.name} sysctl -q net.ipv6.conf.va.disable_ipv6=1 net.ipv6.conf.vb.disable_ipv6=1`);
  lab.ip('link set va up');
  lab.ip('link set vb up');
  return { lab, ifindex: ifindexOf(lab, 'va') };
}

test('the ARP frame is the one that arping -A sends, byte for byte', async (t) => {
  const { lab, ifindex } = pair(t);
  lab.ip('addr add 10.0.0.2/24 dev va');
  const seen = await sniff(t, lab, 'vb', 'arp');
  run(`ip netns exec ${lab.name} arping -c 1 -w 1 -A -I va 10.0.0.2`);
  await until(() => frames(seen()).length > 0, 'frame of arping');
  const byArping = frames(seen()).length;
  announce(lab.netns, ifindex, mac, [parseCidr('10.0.0.2/24')!]);
  await until(() => frames(seen()).length > byArping, 'frame of announce');
  const [first] = frames(seen());
  assert.equal(frames(seen()).at(-1), first);
  assert.equal(gratuitousArp(mac, '10.0.0.2').toString('hex'), first);
});

test('the IPv6 advertisement is what RFC 4861 asks for, and its checksum is right', async (t) => {
  const { lab, ifindex } = pair(t);
  const seen = await sniff(t, lab, 'vb', 'icmp6');
  announce(lab.netns, ifindex, mac, [parseCidr('fd00::2/64')!, parseCidr('10.0.0.2/24')!]);
  await until(() => frames(seen()).length > 0, 'frame');
  assert.deepEqual(frames(seen()), [unsolicitedAdvertisement(mac, 'fd00::2').toString('hex')]);
  const text = seen();
  assert.match(text, /hlim 255/);
  assert.match(text, /fd00::2 > ff02::1: \[icmp6 sum ok\] ICMP6, neighbor advertisement, length 32/);
  assert.match(text, /tgt is fd00::2, Flags \[override\]/);
  assert.match(text, /destination link-address option \(2\), length 8 \(1\): 02:00:00:00:00:01/);
});

test('a neighbour with a stale entry believes both', async (t) => {
  const { lab, ifindex } = pair(t);
  const other = createLab(t);
  lab.ip(`link set vb netns ${other.name}`);
  run(`ip netns exec ${other.name} sysctl -q net.ipv6.conf.vb.disable_ipv6=0`);
  other.ip('link set vb up');
  other.ip('addr add fd00::1/64 dev vb nodad');
  other.ip('addr add 10.0.0.1/24 dev vb');
  other.ip('neigh add 10.0.0.2 lladdr 02:00:00:00:00:99 dev vb nud stale');
  other.ip('neigh add fd00::2 lladdr 02:00:00:00:00:99 dev vb nud stale');
  announce(lab.netns, ifindex, mac, [parseCidr('10.0.0.2/24')!, parseCidr('fd00::2/64')!]);
  const known = (): string[] => other.ipJson('neigh show dev vb').map((n: { lladdr: string }) => n.lladdr);
  await until(() => known().every((lladdr) => lladdr === mac), `neighbours ${known()}`);
});

test('a link that is down refuses; the socket is closed in either case', async (t) => {
  const { lab, ifindex } = pair(t);
  lab.ip('link set va down');
  const cidr = parseCidr('10.0.0.2/24')!;
  assert.throws(() => announce(lab.netns, ifindex, mac, [cidr]), { op: 'announce', errno: 'ENETDOWN' });
  assert.throws(() => announce(lab.netns, 9999, mac, [cidr]), { op: 'bind', errno: 'ENODEV' });
  lab.ip('link set va up');
  announce(lab.netns, ifindex, mac, [cidr]);
  announce(lab.netns, ifindex, mac, []);
  const sockets = (): boolean =>
    readFileSync('/proc/thread-self/net/packet', 'utf8').trim().split('\n').length > 1;
  await until(() => !inNetns(lab.netns, sockets), 'no packet socket');
});

test('the question to routers is what RFC 4861 asks for, and its checksum is right', async (t) => {
  const { lab, ifindex } = pair(t);
  const seen = await sniff(t, lab, 'vb', 'icmp6');
  solicitRouters(lab.netns, ifindex, mac, 'fe80::2');
  await until(() => frames(seen()).length > 0, 'frame');
  assert.deepEqual(frames(seen()), [routerSolicitation(mac, 'fe80::2').toString('hex')]);
  assert.match(seen(), /hlim 255/);
  assert.match(seen(), /fe80::2 > ff02::2: \[icmp6 sum ok\] ICMP6, router solicitation, length 16/);
  assert.match(seen(), /source link-address option \(1\), length 8 \(1\): 02:00:00:00:00:01/);
});
