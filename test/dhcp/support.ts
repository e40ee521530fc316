/** A DHCP server in a namespace of its own, and a client's namespace on the other end of a veth pair. */
import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { chmodSync, existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import type { TestContext } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { startTimeOf } from '../../src/containers/proc.ts';
import type { DhcpRequest } from '../../src/dhcp/clients.ts';
import { Netns } from '../../src/kernel/netns.ts';
import { nsenter, plainNetns, run, runIn } from '../lab.ts';

/** One client's namespace, `eth1` in it, a server on 10.77.0.1, and folders that go when the test ends. */
export interface DhcpLab {
  /** Name below /run/netns of the client's namespace. */
  readonly client: string;
  readonly server: string;
  /** A process in the client's namespace, in the part of the container's first one. */
  readonly pid: number;
  readonly scratch: string;
  readonly netns: Netns;
  request(client: DhcpRequest['client'], options?: readonly string[]): DhcpRequest;
  /** Lines of the server's lease file: expiry, MAC, address, host name, client id. */
  leases(): string[][];
  /** Programs in the client's namespace besides the container's own. */
  clients(): { pid: number; comm: string }[];
}

/** @param words what the server is told besides: `--dhcp-option=...`; `none` for no server at all */
export async function dhcpLab(
  t: TestContext,
  words: readonly string[] | 'none' = [],
  suffix = '',
): Promise<DhcpLab> {
  const untouched = hostFiles();
  t.after(() => {
    if (hostFiles() !== untouched) throw new Error("the host's own files were changed");
  });
  const scratch = mkdtempSync(path.join(tmpdir(), 'pwt-dhcp-'));
  t.after(() => rmSync(scratch, { recursive: true, force: true }));
  const server = (await plainNetns(t, `dhcps${suffix}`)).name;
  const { name: client, pid } = await plainNetns(t, `dhcpc${suffix}`);
  const netns = Netns.open(`/run/netns/${client}`, client);
  t.after(() => netns[Symbol.dispose]());
  run('ip', ['-n', server, 'link', 'add', 's0', 'type', 'veth', 'peer', 'name', 'eth1', 'netns', client]);
  run('ip', ['-n', server, 'addr', 'add', '10.77.0.1/24', 'dev', 's0']);
  run('ip', ['-n', server, 'link', 'set', 's0', 'up']);
  const leaseFile = path.join(scratch, 'leases');
  if (words !== 'none') await startDnsmasq(t, server, { scratch, leaseFile, words });
  const lab: DhcpLab = {
    client,
    server,
    pid,
    scratch,
    netns,
    request: (word, options = []) => ({
      client: word,
      options,
      ifname: 'eth1',
      guest: `pwt-web-${process.pid}`,
      netns,
      stateDir: scratch,
      container: { runtime: 'docker', pid, startTime: startTimeOf(pid) },
    }),
    leases: () =>
      existsSync(leaseFile)
        ? readFileSync(leaseFile, 'utf8')
            .split('\n')
            .filter(Boolean)
            .map((line) => line.split(' '))
        : [],
    clients: () => clientsIn(client, pid),
  };
  t.after(() => {
    for (const left of lab.clients()) process.kill(left.pid, 'SIGKILL');
  });
  return lab;
}

function clientsIn(netns: string, container: number): { pid: number; comm: string }[] {
  const pids = run('ip', ['netns', 'pids', netns], { expect: 'any' })
    .stdout.split('\n')
    .filter(Boolean)
    .map(Number);
  return pids
    .filter((pid) => pid !== container)
    .flatMap((pid) => {
      const file = `/proc/${pid}/comm`;
      return existsSync(file) ? [{ pid, comm: readFileSync(file, 'utf8').trim() }] : [];
    });
}

async function startDnsmasq(
  t: TestContext,
  netns: string,
  { scratch, leaseFile, words }: { scratch: string; leaseFile: string; words: readonly string[] },
): Promise<void> {
  const range = '--dhcp-range=10.77.0.50,10.77.0.99,255.255.255.0,2m';
  const own = [
    '--keep-in-foreground',
    '--port=0',
    '--conf-file=/dev/null',
    '--interface=s0',
    '--bind-interfaces',
    range,
  ];
  const offered = ['--dhcp-option=3,10.77.0.1', '--dhcp-option=6,10.77.0.53', '--dhcp-option=15,lan.test'];
  const files = [
    `--dhcp-leasefile=${leaseFile}`,
    `--pid-file=${scratch}/dnsmasq.pid`,
    `--log-facility=${scratch}/log`,
  ];
  const quick = ['--dhcp-authoritative', '--no-ping'];
  const [command = '', ...args] = [
    ...nsenter(netns),
    'dnsmasq',
    ...own,
    ...offered,
    ...files,
    ...quick,
    ...words,
  ];
  const server = spawn(command, args, { stdio: 'ignore' });
  t.after(() => void server.kill('SIGKILL'));
  await until('dnsmasq listens', () => runIn(netns, 'ss', ['-Hlun', 'sport', '=', '67']).stdout !== '');
}

/** Waits for what a test waits for; a minute is for machines that have much else to do. */
export async function until(what: string, holds: () => boolean): Promise<void> {
  for (const began = Date.now(); !holds(); ) {
    if (Date.now() - began > 60_000) throw new Error(`not so after a minute: ${what}`);
    await sleep(20);
  }
}

/** What no DHCP client may change: a digest of the machine's resolver configuration, and its name. */
function hostFiles(): string {
  const digest = createHash('sha256').update(readFileSync('/etc/resolv.conf')).digest('hex');
  const beside = run('ls', ['-a', '/etc'])
    .stdout.split('\n')
    .filter((name) => name.includes('resolv'));
  return [digest, ...beside, run('uname', ['-n']).stdout].join('\n');
}

/** Runs `body` with a PATH that holds this program (a script) and nothing else. */
export async function withPath(
  t: TestContext,
  programs: Readonly<Record<string, string>>,
  body: () => Promise<void> | void,
): Promise<void> {
  const folder = mkdtempSync(path.join(tmpdir(), 'pwt-path-'));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  for (const [name, text] of Object.entries(programs)) {
    writeFileSync(path.join(folder, name), text);
    chmodSync(path.join(folder, name), 0o700);
  }
  const before = process.env.PATH;
  process.env.PATH = folder;
  try {
    await body();
  } finally {
    process.env.PATH = before;
  }
}
