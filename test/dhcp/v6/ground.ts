/** A client's namespace, and DHCPv6 servers in another one on the other end of a veth pair, which has fd77::1/64. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import type { TestContext } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { applyLease, removeLease } from '../../../src/dhcp/apply.ts';
import { Dhcp6Client } from '../../../src/dhcp/v6/client.ts';
import { Netns } from '../../../src/kernel/netns.ts';
import type { Lease } from '../../../src/model/lease.ts';
import { nsenter, plainNetns, run, runIn, type Sniffed, type Where } from '../../lab.ts';

export const duid = Buffer.from('0004000102030405860788090a0b0c0d0e0f', 'hex');

export interface Lab6 {
  /** Names below /run/netns. */
  readonly client: string;
  readonly server: string;
  readonly scratch: string;
  /** Starts a program in the server's namespace; it ends with the test. */
  serve(command: string, args: readonly string[]): ChildProcess;
}

/** A client's own namespace, its eth1 ready for a client. */
export async function lab6(t: TestContext, suffix: string): Promise<Lab6> {
  const { name: client } = await plainNetns(t, `d6c${suffix}`);
  const lab = await serverOn(t, suffix, { where: client, wire: 'eth1' });
  for (const setting of ['accept_ra=2', 'autoconf=0'])
    runIn(client, 'sysctl', ['-qw', `net.ipv6.conf.eth1.${setting}`]);
  run('ip', ['-n', client, 'link', 'set', 'eth1', 'up']);
  return lab;
}

/** A server's namespace, at the end of a wire whose other end is `wire` in the namespace `where`. */
export async function serverOn(
  t: TestContext,
  suffix: string,
  { where, wire }: { readonly where: string; readonly wire: string },
): Promise<Lab6> {
  const scratch = mkdtempSync(path.join(tmpdir(), 'pwt-dhcp6-'));
  // Servers that give up root have to reach it.
  chmodSync(scratch, 0o755);
  t.after(() => rmSync(scratch, { recursive: true, force: true }));
  const { name: server } = await plainNetns(t, `d6s${suffix}`);
  run('ip', ['-n', server, 'link', 'add', 's0', 'type', 'veth', 'peer', 'name', wire, 'netns', where]);
  // Kea gives up on a link-local address that is not there at once.
  runIn(server, 'sysctl', ['-qw', 'net.ipv6.conf.s0.accept_dad=0']);
  run('ip', ['-n', server, 'addr', 'add', 'fd77::1/64', 'dev', 's0', 'nodad']);
  run('ip', ['-n', server, 'link', 'set', 's0', 'up']);
  const serve = (command: string, args: readonly string[]): ChildProcess => {
    const [first = '', ...rest] = [...nsenter(server), command, ...args];
    const child = spawn(first, rest, { stdio: 'ignore' });
    t.after(() => void child.kill('SIGKILL'));
    return child;
  };
  return { client: where, server, scratch, serve };
}

/** dnsmasq; `range` is of `--dhcp-range`. */
export async function dnsmasq(
  lab: Lab6,
  range: string,
  words: readonly string[] = [],
): Promise<ChildProcess> {
  const { scratch, server } = lab;
  const child = lab.serve('dnsmasq', [
    ...['--keep-in-foreground', '--port=0', '--conf-file=/dev/null', '--interface=s0', '--bind-interfaces'],
    ...[`--dhcp-range=${range}`, `--dhcp-leasefile=${scratch}/leases`, `--pid-file=${scratch}/dnsmasq.pid`],
    ...[`--log-facility=${scratch}/log`, '--log-dhcp', '--enable-ra', ...words],
  ]);
  const log = `${scratch}/log`;
  await until(
    'dnsmasq is ready',
    () => listens(server) || (existsSync(log) && readFileSync(log, 'utf8').includes('router advertisement')),
  );
  return child;
}

/**
 * Kea with lifetimes in seconds. Those of the vendor class `pipewright` of enterprise 9 and of the user class `gold` are
 * told to search `classes.test`.
 */
export async function kea(lab: Lab6, times: Readonly<Record<string, number>>, pool = 'fd77::50 - fd77::60') {
  const { scratch, server } = lab;
  const config = {
    Dhcp6: {
      'interfaces-config': { interfaces: ['s0'] },
      'lease-database': { type: 'memfile', persist: true, name: `${scratch}/kea.csv`, 'lfc-interval': 0 },
      'server-id': { type: 'LL', htype: 1, identifier: '020000000001', persist: false },
      ...times,
      subnet6: [{ id: 1, subnet: 'fd77::/64', interface: 's0', 'rapid-commit': false, pools: [{ pool }] }],
      'client-classes': [
        {
          name: 'gold',
          test: "vendor-class[9].data == 'pipewright' and substring(option[15].hex, 2, 4) == 'gold'",
          'option-data': [{ name: 'domain-search', data: 'classes.test' }],
        },
      ],
      'option-data': [
        { name: 'dns-servers', data: 'fd77::53' },
        { name: 'domain-search', data: 'lan.test' },
      ],
      loggers: [{ name: 'kea-dhcp6', severity: 'INFO', output_options: [{ output: `${scratch}/kea.log` }] }],
    },
  };
  writeFileSync(path.join(scratch, 'kea.json'), JSON.stringify(config));
  const env = [`KEA_PIDFILE_DIR=${scratch}`, `KEA_LOCKFILE_DIR=${scratch}`];
  const child = lab.serve('env', [...env, 'kea-dhcp6', '-c', path.join(scratch, 'kea.json')]);
  await until('Kea listens', () => listens(server));
  return child;
}

/** Kills a server; its port is free then. */
export async function end(server: ChildProcess): Promise<void> {
  const ended = once(server, 'exit');
  server.kill('SIGKILL');
  await ended;
}

/** ISC dhcpd. */
export async function iscDhcpd(lab: Lab6, seconds: number): Promise<ChildProcess> {
  const { scratch, server } = lab;
  const config = `
    default-lease-time ${seconds};
    preferred-lifetime ${Math.floor(seconds * 0.75)};
    option dhcp-renewal-time ${Math.floor(seconds / 3)};
    option dhcp-rebinding-time ${Math.floor(seconds / 2)};
    option dhcp6.name-servers fd77::53;
    option dhcp6.domain-search "lan.test";
    subnet6 fd77::/64 { range6 fd77::50 fd77::60; }
  `;
  writeFileSync(path.join(scratch, 'dhcpd6.conf'), config);
  writeFileSync(path.join(scratch, 'dhcpd6.leases'), '');
  const files = [
    '-cf',
    `${scratch}/dhcpd6.conf`,
    '-lf',
    `${scratch}/dhcpd6.leases`,
    '-pf',
    `${scratch}/dhcpd6.pid`,
  ];
  const child = lab.serve('dhcpd', ['-6', '-f', '-q', '--no-pid', ...files.slice(0, 4), 's0']);
  await until('dhcpd listens', () => listens(server));
  return child;
}

function listens(server: string): boolean {
  return runIn(server, 'ss', ['-Hlun', 'sport', '=', '547']).stdout !== '';
}

/** What a client did to its interface. */
export interface Watched {
  readonly client: Dhcp6Client;
  readonly bound: Lease[];
  readonly unbound: { readonly lease: Lease; readonly reason: string }[];
}

/** A client of the lab's eth1, which ends with the test. */
export function client6(
  t: TestContext,
  lab: Lab6,
  over: {
    readonly when?: 'always' | 'asTold';
    readonly rapidCommit?: boolean;
    readonly formerMacs?: ReadonlySet<string>;
  } = {},
): Watched {
  const bound: Lease[] = [];
  const unbound: Watched['unbound'] = [];
  const client = new Dhcp6Client({
    ifname: 'eth1',
    identity: { duid, iaid: 7, rapidCommit: over.rapidCommit ?? false, hostname: 'web' },
    when: over.when ?? 'always',
    ...(over.formerMacs && { formerMacs: over.formerMacs }),
    openNetns: () => Netns.open(`/run/netns/${lab.client}`, lab.client),
    bind: (guest, lease, verified) => {
      applyLease(guest, 'eth1', lease, { now: Date.now(), was: bound.at(-1), keepMtu: false, verified });
      bound.push(lease);
    },
    unbind: (guest, lease, reason) => {
      removeLease(guest, 'eth1', lease);
      unbound.push({ lease, reason });
    },
    onChange: () => {},
  });
  t.after(() => client.stop());
  return { client, bound, unbound };
}

/** Kinds of DHCPv6 messages, as tcpdump names them: `solicit`, `information-request`. */
export function messagesIn({ lines }: Sniffed): string[] {
  const kinds: Readonly<Record<string, string>> = { 'inf-req': 'information-request' };
  return lines.map((line) => {
    const kind = / dhcp6 ([a-z-]+)/.exec(line)?.[1] ?? line;
    return kinds[kind] ?? kind;
  });
}

/** An address as `ip -j addr` shows it. */
export interface ShownAddr {
  readonly local: string;
  readonly prefixlen: number;
  readonly scope: string;
  readonly tentative?: boolean;
  readonly dadfailed?: boolean;
  readonly valid_life_time: number;
  readonly preferred_life_time: number;
}

/** Global IPv6 addresses of a link. */
export function globals(where: Where, link = 'eth1'): ShownAddr[] {
  const { stdout } = runIn(where, 'ip', ['-j', '-6', 'addr', 'show', 'dev', link, 'scope', 'global'], {
    expect: 'any',
  });
  const [shown] = JSON.parse(stdout || '[]') as { readonly addr_info?: ShownAddr[] }[];
  return (shown?.addr_info ?? []).filter(({ local }) => local !== undefined);
}

/** Waits for what a test waits for; fails after `seconds`. */
export async function until(what: string, holds: () => boolean, seconds = 15): Promise<void> {
  for (const end = Date.now() + seconds * 1000; !holds(); await sleep(20))
    if (Date.now() > end) throw new Error(`not so after ${seconds} s: ${what}`);
}
