/** A host with a NIC, and the LAN that it is on: two namespaces and the wire between them; nothing of the machine's own. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import type { TestContext } from 'node:test';
import { nsenter, plainNetns, run, runIn } from '../lab.ts';
import { type AgentHost, agentHost, soon } from './agent-ground.ts';

/** Milliseconds that something may take on a slow machine. */
export const patience = 30_000;

/** The host and its LAN. */
export interface UplinkGround {
  readonly host: AgentHost;
  /** The namespace of the router, whose end of the wire is `lan`. */
  readonly router: string;
}

/** Addresses of both ends. */
export const at = { host: '10.9.0.5', router: '10.9.0.254', host6: 'fd09::5', router6: 'fd09::1' } as const;

/**
 * The host's NIC is eth0, with two IPv4 addresses, one IPv6 address, default routes, a route in another table and a rule.
 * All checksums are made by software: the userspace datapath of Open vSwitch does not make up for those left out.
 */
export async function uplinkGround(t: TestContext, name: string): Promise<UplinkGround> {
  const host = await agentHost(t, `${name}h`);
  const { name: router } = await plainNetns(t, `${name}r`);
  const lan = (...args: readonly string[]): void => void runIn(router, 'ip', args);
  run('ip', ['-n', host.name, 'link', 'add', 'eth0', 'type', 'veth', 'peer', 'name', 'lan', 'netns', router]);
  run('nsenter', [`--net=/run/netns/${host.name}`, 'ethtool', '-K', 'eth0', 'tx', 'off', 'tso', 'off']);
  runIn(router, 'ethtool', ['-K', 'lan', 'tx', 'off', 'tso', 'off']);
  lan('addr', 'add', `${at.router}/24`, 'dev', 'lan');
  lan('addr', 'add', `${at.router6}/64`, 'dev', 'lan', 'nodad');
  lan('link', 'set', 'lan', 'up');
  host.ip('link', 'set', 'eth0', 'up');
  host.ip('addr', 'add', `${at.host}/24`, 'brd', '+', 'dev', 'eth0');
  host.ip('addr', 'add', '10.9.0.6/24', 'dev', 'eth0', 'label', 'eth0:1');
  host.ip('addr', 'add', `${at.host6}/64`, 'dev', 'eth0', 'nodad');
  host.ip('route', 'add', 'default', 'via', at.router, 'dev', 'eth0', 'metric', '50');
  host.ip('-6', 'route', 'add', 'default', 'via', at.router6, 'dev', 'eth0');
  host.ip('route', 'add', '10.50.0.0/16', 'via', at.router, 'table', '100', 'mtu', '1400');
  host.ip('rule', 'add', 'iif', 'eth0', 'lookup', '100', 'priority', '77');
  const ground = { host, router };
  dump(ground);
  return ground;
}

/** Numbers that change by themselves, or with each new link; `nodad` says how an address was added. */
const volatile =
  /"(ifindex|link_index|link_netnsid|valid_life_time|preferred_life_time|expires|used|promiscuity)":\d+,?/g;

interface LinkAddrs {
  readonly ifname: string;
  readonly flags: readonly string[];
  readonly operstate: string;
  readonly inet6_addr_gen_mode?: string;
  readonly addr_info: readonly { readonly local?: string; readonly tentative?: boolean }[];
}

/** Of OVS's own, which comes up when it likes. */
const isOurs = ({ ifname }: { readonly ifname?: string }): boolean => ifname !== 'ovs-netdev';

/**
 * Whether the kernel is still at work on an address: looks for doubles of it, or is to make a link-local one. With the
 * address come and go routes.
 */
function isPending({ host }: UplinkGround): boolean {
  const links = (JSON.parse(host.ip('-j', '-d', 'addr').stdout) as LinkAddrs[]).filter(isOurs);
  return links.some(({ ifname, flags, operstate, inet6_addr_gen_mode, addr_info }) => {
    const isUp = flags.includes('LOWER_UP') && !flags.includes('LOOPBACK') && operstate !== 'DOWN';
    if (isUp && addr_info.some(({ tentative }) => tentative)) return true;
    const has = addr_info.some(({ local }) => local?.startsWith('fe80:'));
    if (!isUp || has || inet6_addr_gen_mode === undefined || inet6_addr_gen_mode === 'none') return false;
    return host.run('sysctl', ['-n', `net.ipv6.conf.${ifname}.disable_ipv6`]).stdout.trim() === '0';
  });
}

const clock = new Int32Array(new SharedArrayBuffer(4));

/**
 * All addresses, routes of all tables and rules, as `ip -j` prints them, sorted: when the kernel has done its part, so that
 * two of them tell only what somebody else did between.
 */
export function dump(ground: UplinkGround): string[] {
  const deadline = Date.now() + patience;
  let before: string[] = [];
  for (;;) {
    const now = isPending(ground) ? [] : dumpNow(ground);
    const isStill = now.length > 0 && difference(before, now).length === 0;
    if (isStill || Date.now() > deadline) return now.length > 0 ? now : dumpNow(ground);
    before = now;
    Atomics.wait(clock, 0, 0, 30);
  }
}

/** Whether all is as in a dump, now. */
export function isAs(ground: UplinkGround, before: readonly string[]): boolean {
  return difference(before, dumpNow(ground)).length === 0;
}

function dumpNow({ host }: UplinkGround): string[] {
  const lists = [
    ['addr'],
    ['nexthop'],
    ...['-4', '-6'].flatMap((family) => [
      [family, 'route', 'show', 'table', 'all'],
      [family, 'rule'],
    ]),
  ];
  return lists.flatMap((words) =>
    (JSON.parse(host.ip('-j', ...words).stdout || '[]') as { ifname?: string }[])
      .filter(isOurs)
      .map((entry) => `${words.join(' ')} ${JSON.stringify(entry).replace(volatile, '')}`)
      .sort(),
  );
}

/** What two dumps do not share. */
export function difference(before: readonly string[], after: readonly string[]): string[] {
  return [
    ...before.filter((line) => !after.includes(line)).map((line) => `- ${line}`),
    ...after.filter((line) => !before.includes(line)).map((line) => `+ ${line}`),
  ];
}

/** Something that runs all the time, and what it saw. */
export interface Traffic<T> {
  stop(): Promise<T>;
}

/** What a ping every 10 ms saw. */
export interface Pinged {
  readonly lost: number;
  /** Milliseconds between two answers, where one or more between them were lost. */
  readonly longestGapMs: number;
  readonly duplicates: number;
}

/** `ping -i 0.01` from the router. */
export async function startPing({ router }: UplinkGround, ip: string): Promise<Traffic<Pinged>> {
  const child = start([...nsenter(router), 'ping', '-n', '-D', '-i', '0.01', ip]);
  await soon(() => child.said().includes('icmp_seq='), patience);
  return {
    stop: async () => {
      child.process.kill('SIGINT');
      await child.ended;
      return readPing(child.said());
    },
  };
}

function readPing(text: string): Pinged {
  const answers = [...text.matchAll(/^\[([\d.]+)\].*icmp_seq=(\d+) .*time=[\d.]+ ms( \(DUP!\))?/gm)].map(
    ([, time, seq, dup]) => ({ ms: 1000 * Number(time), seq: Number(seq), dup: dup !== undefined }),
  );
  const first = answers.filter(({ dup }) => !dup);
  let longestGapMs = 0;
  let lost = 0;
  for (const [i, { ms, seq }] of first.entries()) {
    const before = first[i - 1];
    if (!before || seq <= before.seq + 1) continue;
    lost += seq - before.seq - 1;
    longestGapMs = Math.max(longestGapMs, ms - before.ms);
  }
  return { lost, longestGapMs: Math.round(longestGapMs), duplicates: answers.length - first.length };
}

/** What a TCP connection saw that sends all the time, both ways. */
export interface Transferred {
  /** Received by the host and by the router. */
  readonly bytes: readonly [number, number];
  readonly longestGapMs: number;
  /** Why the connection ended before it was to. */
  readonly broken: string | undefined;
}

/** Each end sends 4 KiB every 5 ms, and prints what it saw when it is stopped. */
const endScript = `
const net = require('net');
const [host, port] = process.argv.slice(1);
setInterval(() => {}, 60000);
let bytes = 0, last = 0, gap = 0, broken;
const use = (socket) => {
  const block = Buffer.alloc(4096);
  const timer = setInterval(() => socket.write(block), 5);
  socket.on('data', (data) => {
    const now = performance.now();
    if (last) gap = Math.max(gap, now - last);
    last = now;
    if (bytes === 0) console.log('flows');
    bytes += data.length;
  });
  socket.on('error', (error) => { broken = error.message; });
  socket.on('close', () => { broken ??= 'closed'; clearInterval(timer); });
};
if (host) use(net.connect(Number(port), host));
else net.createServer(use).listen(Number(port), () => console.log('listens'));
process.on('SIGTERM', () => { console.log(JSON.stringify({ bytes, gap: Math.round(gap), broken })); process.exit(0); });
`;

/** A running transfer between host and router. */
export async function startTransfer(
  ground: UplinkGround,
  port: number,
  ip: string = at.router,
): Promise<Traffic<Transferred>> {
  const end = (words: readonly string[], args: readonly string[]) =>
    start([...words, process.execPath, '-e', endScript, '--', ...args]);
  const server = end(nsenter(ground.router), ['', String(port)]);
  await soon(() => server.said().includes('listens'), patience);
  const client = end(nsenter(ground.host.name), [ip, String(port)]);
  await soon(() => server.said().includes('flows') && client.said().includes('flows'), patience);
  return {
    stop: async () => {
      const seen: { bytes: number; gap: number; broken?: string }[] = [];
      // The client last: when it ends, the server sees the connection close.
      for (const child of [server, client]) {
        child.process.kill('SIGTERM');
        await child.ended;
        seen.push(JSON.parse(child.said().trim().split('\n').at(-1) ?? '{}'));
      }
      const [atRouter, atHost] = seen;
      return {
        bytes: [atHost?.bytes ?? 0, atRouter?.bytes ?? 0],
        longestGapMs: Math.max(...seen.map(({ gap }) => gap)),
        // The host's end is told that the other one is gone, just now.
        broken: atRouter?.broken,
      };
    },
  };
}

interface Started {
  readonly process: ChildProcess;
  readonly ended: Promise<unknown>;
  said(): string;
}

function start([command = '', ...args]: readonly string[]): Started {
  const env = { ...process.env, NODE_EXTRA_CA_CERTS: undefined };
  const child = spawn(command, args, { stdio: ['ignore', 'pipe', 'pipe'], env });
  let text = '';
  const take = (chunk: string): void => {
    text += chunk;
  };
  child.stdout.setEncoding('utf8').on('data', take);
  child.stderr.setEncoding('utf8').on('data', take);
  return { process: child, ended: once(child, 'close'), said: () => text };
}
