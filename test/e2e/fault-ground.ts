/**
 * A host of one's own: a network namespace that counts as the host's, with Docker's firewall chain and an Open vSwitch
 * that nobody else uses, so that what is there before and after can be compared to the last line.
 */
import { spawn } from 'node:child_process';
import {
  copyFileSync,
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  realpathSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import type { TestContext } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { attach } from '../../src/apply/attach.ts';
import { detach } from '../../src/apply/detach.ts';
import { Host } from '../../src/apply/host.ts';
import type { BeforeStep } from '../../src/apply/transaction.ts';
import { parseContainerRef } from '../../src/config/container-ref.ts';
import { resolvePid } from '../../src/containers/proc.ts';
import { Netns } from '../../src/kernel/netns.ts';
import { parseCidr, parseIp } from '../../src/model/address.ts';
import type { AddrSpec, Attachment, Network } from '../../src/model/attachment.ts';
import { diffSnapshots, hasProgram, nsenter, root, run, runIn, type Snapshot } from '../lab.ts';

/** A namespace with a process in it. */
interface Place {
  readonly name: string;
  readonly pid: number;
}

/** What an attachment needs besides its container. */
export type Want = Partial<Omit<Attachment, 'container' | 'network' | 'addrs'>> & {
  readonly network: Network;
  /** `10.0.0.2/24@10.0.0.1`; without an address `@10.0.0.1`. */
  readonly addrs?: readonly string[];
};

/** Options of attach that tests choose. */
export interface AttachAs {
  readonly ifPresent?: 'refuse' | 'converge';
  readonly dryRun?: boolean;
  readonly beforeStep?: BeforeStep;
  readonly beforeCommit?: () => Promise<void>;
}

let number = 0;

const otherWant: Want = {
  network: { kind: 'bridge', name: 'other0' },
  hostIfname: 'other1',
  addrs: ['10.201.0.2/24'],
};

/** The words that start `bin/pipework`. */
export const pipework = [process.execPath, path.join(root, 'bin/pipework')];

/** And `bin/pipewright`. */
export const pipewright = [process.execPath, path.join(root, 'bin/pipewright')];

/** The host, and one container on it. */
export class Ground {
  readonly host: Place;
  readonly guest: Place;
  readonly #netns: Netns;
  readonly #ovsDir: string | undefined;
  #other: Place | undefined;

  private constructor(host: Place, guest: Place, netns: Netns, ovsDir: string | undefined) {
    this.host = host;
    this.guest = guest;
    this.#netns = netns;
    this.#ovsDir = ovsDir;
  }

  /** Made for one test, and gone after it. */
  static async make(t: TestContext, { ovs = false } = {}): Promise<Ground> {
    number += 1;
    const host = await makePlace(t, `pwt-f-h${number}-${process.pid}`);
    const guest = await makePlace(t, `pwt-f-g${number}-${process.pid}`);
    for (const program of ['iptables', 'ip6tables'].filter(hasProgram)) {
      runIn(host.name, program, ['-w', '-N', 'DOCKER-USER']);
      runIn(host.name, program, ['-w', '-P', 'FORWARD', 'DROP']);
      runIn(host.name, program, ['-w', '-A', 'FORWARD', '-j', 'DOCKER-USER']);
    }
    const netns = Netns.open(`/run/netns/${host.name}`, 'host');
    const stateDir = `/run/pipewright/net-${netns.inode}`;
    const forget = (): void => rmSync(stateDir, { recursive: true, force: true });
    // The number of a namespace may have been another one's, of a run that was killed.
    forget();
    t.after(() => {
      netns[Symbol.dispose]();
      forget();
    });
    return new Ground(host, guest, netns, ovs ? await startOvs(t, host) : undefined);
  }

  /** A container that is connected to a bridge of its own, for {@link nextCommand}. */
  async connectOther(t: TestContext): Promise<void> {
    this.#other = await this.another(t);
    await this.attach(otherWant, {}, this.#other.pid);
  }

  /** A command that has nothing to do with the container, and finds nothing to do. */
  async nextCommand() {
    if (!this.#other) throw new Error('connectOther() first');
    const done = await this.attach(otherWant, {}, this.#other.pid);
    if (done.steps.length > 0) throw new Error('the other container has lost something');
    return done;
  }

  get otherPid(): number | undefined {
    return this.#other?.pid;
  }

  /** Another container on this host. */
  async another(t: TestContext): Promise<Place> {
    number += 1;
    return makePlace(t, `pwt-f-g${number}-${process.pid}`);
  }

  get stateDir(): string {
    return `/run/pipewright/net-${this.#netns.inode}`;
  }

  get ovsdbSocket(): string {
    return `${this.#ovsDir ?? '/nonexistent'}/db.sock`;
  }

  /** Lines of `ip` for the host, each `link add ...`. */
  onHost(...lines: readonly string[]): void {
    for (const line of lines) run('ip', ['-n', this.host.name, ...line.split(' ')]);
  }

  /** And for the container. */
  inGuest(...lines: readonly string[]): void {
    for (const line of lines) run('ip', ['-n', this.guest.name, ...line.split(' ')]);
  }

  vsctl(...args: readonly string[]): string {
    return run('ovs-vsctl', [`--db=unix:${this.ovsdbSocket}`, '--timeout=5', ...args]).stdout;
  }

  /** ovsdb-server ends as if it had crashed; its database is kept. */
  stopOvsdb(): void {
    killDaemon(`${this.#ovsDir}/ovsdb-server.pid`);
    rmSync(`${this.#ovsDir}/ovsdb-server.pid`);
  }

  async startOvsdb(): Promise<void> {
    startOvsdb(this.#ovsDir ?? '');
    while (!(await answers(this.ovsdbSocket))) await sleep(5);
  }

  openHost(): Host {
    return new Host({ netns: this.#netns, ovsdbSocket: this.ovsdbSocket });
  }

  attachment(want: Want, pid = this.guest.pid): Attachment {
    const addrs = (want.addrs ?? []).map(addrSpec);
    return { ifname: 'eth1', routes: [], ...want, container: parseContainerRef(`pid:${pid}`), addrs };
  }

  /** Attaches, in this process, as a new command would. */
  async attach(want: Want, { ifPresent = 'converge', ...options }: AttachAs = {}, pid = this.guest.pid) {
    await using host = this.openHost();
    const all = { ifPresent, firewall: true, ...options };
    return await attach(host, resolvePid(String(pid)), this.attachment(want, pid), all);
  }

  async detach(ifname = 'eth1', pid = this.guest.pid) {
    await using host = this.openHost();
    return await detach(host, [{ container: resolvePid(String(pid)), ifname }]);
  }

  /** The words before a command that make it run on this host, its Open vSwitch included. */
  get enter(): string[] {
    if (this.#ovsDir === undefined) return nsenter(this.host.name);
    const cover = 'mount --bind "$0" /run/openvswitch && exec "$@"';
    return [...nsenter(this.host.name), 'unshare', '--mount', 'sh', '-c', cover, this.#ovsDir];
  }

  /**
   * `bin/pipework WORDS` on this host, where a program of /usr/sbin is a script instead. In it `$real` is the program.
   * The words before it, for those who start it otherwise: {@link enterWith}.
   */
  pipeworkWith(t: TestContext, scripts: Readonly<Record<string, string>>, words: readonly string[]) {
    const [command = '', ...args] = [...this.enterWith(t, scripts), ...pipework, ...words];
    return run(command, args, { expect: 'any' });
  }

  enterWith(t: TestContext, scripts: Readonly<Record<string, string>>): string[] {
    const dir = mkdtempSync(path.join(tmpdir(), 'pwt-bin-'));
    t.after(() => rmSync(dir, { recursive: true, force: true }));
    // The two programs are one, which looks at its name.
    const binary = realpathSync('/usr/sbin/iptables');
    for (const name of ['iptables', 'ip6tables']) copyFileSync(binary, `${dir}/${name}`);
    const cases = Object.entries(scripts).map(([name, script]) => `*/${name}) ${script};;`);
    const text = `#!/bin/sh\nreal=${dir}/\${0##*/}\ncase $0 in\n${cases.join('\n')}\nesac\nexec "$real" "$@"\n`;
    writeFileSync(`${dir}/script`, text, { mode: 0o755 });
    const cover = `mount --bind ${dir}/script ${binary} && exec "$@"`;
    return [...this.enter, 'unshare', '--mount', 'sh', '-c', cover, 'sh'];
  }

  /** All that an attach can change: both namespaces, Open vSwitch, the firewall, the state directory. */
  dump(guest = this.guest): Snapshot {
    const entries = new Map<string, string>();
    addPlace(entries, 'host', this.host.name);
    addPlace(entries, 'guest', guest.name);
    if (this.#ovsDir !== undefined) this.#addOvs(entries);
    for (const program of ['iptables-save', 'ip6tables-save'].filter(hasProgram)) {
      const { stdout } = runIn(this.host.name, program, []);
      const rules = stdout.split('\n').filter((line) => /^[*:-]/.test(line));
      for (const rule of rules) entries.set(`${program} ${rule.replace(/ \[.*/, '')}`, '');
    }
    for (const file of filesIn(this.stateDir)) entries.set(`file ${file}`, '');
    return entries;
  }

  #addOvs(entries: Map<string, string>): void {
    for (const table of ['Bridge', 'Port', 'Interface', 'Mirror']) {
      const columns = {
        Bridge: 'external_ids,datapath_type',
        Port: 'tag,external_ids',
        Interface: 'external_ids,type,ingress_policing_rate,ingress_policing_burst',
        Mirror: 'external_ids,select_all,select_vlan',
      };
      const text = this.vsctl(
        '--format=json',
        `--columns=name,${columns[table as keyof typeof columns]}`,
        'list',
        table,
      );
      const rows = (JSON.parse(text) as { data: unknown[][] }).data;
      for (const [name, ...rest] of rows) entries.set(`ovs ${table} ${String(name)}`, JSON.stringify(rest));
    }
  }
}

/** What is different; empty when nothing is. The kernel and ovs-vswitchd may take a moment to settle. */
export async function differences(
  before: Snapshot | (() => Snapshot),
  now: () => Snapshot,
  patienceMs = 10_000,
): Promise<string[]> {
  for (const deadline = Date.now() + patienceMs; ; ) {
    const lines = diffSnapshots(typeof before === 'function' ? before() : before, now());
    if (lines.length === 0 || Date.now() >= deadline) return lines;
    await sleep(30);
  }
}

/** The same thing on two grounds has other numbers: pids, groups, random MAC addresses and names. */
export function normalise(snapshot: Snapshot, { guest, stateDir, otherPid }: Ground): Snapshot {
  const plain = (text: string): string =>
    text
      .replaceAll(stateDir, 'STATE')
      .replaceAll(new RegExp(`(pl|pid-|")${guest.pid}\\b`, 'g'), '$1PID')
      .replaceAll(`pid-${otherPid}+`, 'pid-OTHER+')
      .replace(/\bpw[0-9a-f]{13}\b/g, 'pwNAME')
      .replace(/"(startTime|id|name|netnsPath)":"(\d+|\/proc\/\d+\/ns\/net)"/g, '"$1":"NUMBER"')
      .replace(/"(pid|netnsInode|group)":\d+/g, '"$1":0')
      .replace(/pipewright\.group",?"?:?"(\d+)"/g, 'pipewright.group":"ours"')
      .replace(/"(\d{10}|([0-9a-f]{2}:){5}[0-9a-f]{2})"/g, '"NUMBER"')
      .replace(/"fe80:[0-9a-f:]*"/g, '"LL"')
      .replace(/\bfe80:[0-9a-f:]+/g, 'LL');
  return new Map([...snapshot].map(([key, value]) => [plain(key), plain(value)]));
}

function addrSpec(text: string): AddrSpec {
  const [address = '', via] = text.split('@');
  const cidr = address === '' ? undefined : parseCidr(address);
  const gateway = via === undefined ? undefined : parseIp(via);
  return { ...(cidr && { cidr }), ...(gateway && { gateway }) };
}

async function makePlace(t: TestContext, name: string): Promise<Place> {
  t.after(() => void run('ip', ['netns', 'del', name], { expect: 'any' }));
  run('ip', ['netns', 'add', name]);
  run('ip', ['-n', name, 'link', 'set', 'lo', 'up']);
  const [command = '', ...args] = [...nsenter(name), 'sleep', '3600'];
  const holder = spawn(command, args, { stdio: 'ignore' });
  t.after(() => void holder.kill('SIGKILL'));
  holder.unref();
  const pid = holder.pid ?? 0;
  const wanted = statSync(`/run/netns/${name}`).ino;
  for (let waited = 0; statSync(`/proc/${pid}/ns/net`).ino !== wanted; waited += 2) {
    if (waited > 5000) throw new Error(`nsenter did not enter ${name}`);
    await sleep(2);
  }
  return { name, pid };
}

const detached = ['--pidfile', '--detach', '--no-chdir', '-vconsole:off', '-vsyslog:off'];

function startOvsdb(dir: string): void {
  const env = { OVS_RUNDIR: dir, OVS_LOGDIR: dir, OVS_DBDIR: dir };
  run('ovsdb-server', [`--remote=punix:${dir}/db.sock`, ...detached, `${dir}/conf.db`], { env });
}

/** ovsdb-server and ovs-vswitchd of this host alone, with the userspace datapath. */
async function startOvs(t: TestContext, host: Place): Promise<string> {
  const dir = mkdtempSync(path.join(tmpdir(), 'pwt-ovs-'));
  const env = { OVS_RUNDIR: dir, OVS_LOGDIR: dir, OVS_DBDIR: dir };
  // One after the other: the pid files lie in the folder.
  t.after(() => {
    for (const program of ['ovs-vswitchd', 'ovsdb-server']) killDaemon(`${dir}/${program}.pid`);
    rmSync(dir, { recursive: true, force: true });
  });
  run('ovsdb-tool', ['create', `${dir}/conf.db`, '/usr/share/openvswitch/vswitch.ovsschema']);
  startOvsdb(dir);
  run('ovs-vsctl', [`--db=unix:${dir}/db.sock`, '--no-wait', 'init']);
  runIn(host.name, 'ovs-vswitchd', [`unix:${dir}/db.sock`, ...detached], { env });
  while (!(await answers(`${dir}/db.sock`))) await sleep(5);
  return dir;
}

function killDaemon(pidFile: string): void {
  const pid = existsSync(pidFile) ? readFileSync(pidFile, 'utf8').trim() : '';
  // It may have ended by itself, with its namespace.
  if (pid !== '' && existsSync(`/proc/${pid}`)) process.kill(Number(pid), 'SIGKILL');
}

function answers(socket: string): Promise<boolean> {
  return new Promise((resolve) => {
    const client = connect({ path: socket });
    client.once('error', () => resolve(false));
    client.once('connect', () => {
      client.destroy();
      resolve(true);
    });
  });
}

/** Change by themselves, or are new numbers for an old thing. */
const volatile = new Set([
  ...['ifindex', 'link_index', 'stats64', 'tentative', 'link_netnsid', 'link_netns', 'flags'],
  ...['hello_timer', 'tcn_timer', 'topology_change_timer', 'gc_timer', 'hold_timer', 'forward_delay_timer'],
  ...['message_age_timer', 'topology_change', 'topology_change_detected', 'expires'],
]);
/** A bridge takes these from its ports, so they move with every port and do not come back. */
const ofPorts = new Set(['bridge_id', 'root_id', 'designated_root', 'designated_bridge', 'root_path_cost']);

function text(value: unknown): string {
  const strip = (inner: unknown): unknown => {
    if (Array.isArray(inner)) return inner.map(strip);
    if (inner === null || typeof inner !== 'object') return inner;
    const kept = Object.entries(inner).filter(([key]) => !volatile.has(key) && !ofPorts.has(key));
    return Object.fromEntries(kept.sort().map(([key, deeper]) => [key, strip(deeper)]));
  };
  return JSON.stringify(strip(value));
}

type Json = Record<string, unknown>;

function json(name: string, ...args: string[]): Json[] {
  const { stdout } = run('ip', ['-n', name, '-j', '-d', ...args]);
  if (stdout.trim() === '') return [];
  return (JSON.parse(stdout) as Json[]).filter((item) => Object.keys(item).length > 0);
}

/** Links with their addresses in their order, routes of all tables, and where IPv6 is switched off. */
function addPlace(entries: Map<string, string>, label: string, name: string): void {
  const links = json(name, 'addr');
  for (const { addr_info: addrs, flags, ifname, ...link } of links) {
    const key = `${label} link ${String(ifname)}`;
    // Of the flags only IFF_UP is a setting.
    entries.set(key, (flags as string[]).includes('UP') ? 'up' : 'down');
    entries.set(`${key} kind`, text(link.linkinfo ?? {}));
    for (const [name, value] of Object.entries(link)) {
      if (!volatile.has(name) && name !== 'linkinfo') entries.set(`${key} ${name}`, text(value));
    }
    // In their order, which decides on source addresses. A link of our own goes with those that the kernel gave it.
    for (const [at, addr] of (addrs as Json[]).entries()) entries.set(`${key} addr ${at}`, text(addr));
  }
  for (const family of ['-4', '-6']) {
    // The kernel makes those of the table local itself.
    for (const route of json(name, family, 'route', 'show', 'table', 'all')) {
      if (route.table === 'local' || String(route.dst).startsWith('ff00')) continue;
      entries.set(`${label} route ${family} ${text({ ...route, flags: undefined })}`, text(route.flags));
    }
  }
  const keys = links.map(({ ifname }) => `net.ipv6.conf.${String(ifname).replaceAll('.', '/')}.disable_ipv6`);
  const { stdout } = runIn(name, 'sysctl', ['-e', 'net.ipv6.conf.default.disable_ipv6', ...keys], {
    expect: 'any',
  });
  for (const line of stdout.split('\n').filter(Boolean)) entries.set(`${label} ${line}`, '');
}

function filesIn(folder: string): string[] {
  if (!existsSync(folder)) return [];
  return readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile() && entry.name !== 'lock')
    .map((entry) => {
      const file = path.join(entry.parentPath ?? entry.path, entry.name);
      const content = readFileSync(file, 'utf8').replace(/"since":\d+/, '"since":0');
      return `${file} ${content.trim()}`;
    });
}
