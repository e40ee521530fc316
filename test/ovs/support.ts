// What the tests of this folder share: the real Open vSwitch as the judge, and an ovsdb-server of their own.
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import type { TestContext } from 'node:test';

/** Output of a program; throws with its stderr when it fails. */
export function run(program: string, ...args: string[]): string {
  return execFileSync(program, args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] });
}

/** Why the tests against the host's own Open vSwitch cannot run here. */
export function whyNoOvs(): string | undefined {
  try {
    run('ovs-vsctl', '--timeout=2', 'show');
    run('ovs-appctl', '--timeout=2', 'version');
    return undefined;
  } catch (error) {
    return `no running Open vSwitch: ${(error as Error).message.split('\n')[0]}`;
  }
}

/** The named columns of the rows that `ovs-vsctl find` prints, its sets and maps made plain. */
export function find(
  table: string,
  condition: string,
  columns: readonly string[],
): Record<string, unknown>[] {
  const text = run('ovs-vsctl', '--format=json', `--columns=${columns.join(',')}`, 'find', table, condition);
  const { headings, data } = JSON.parse(text) as { headings: string[]; data: unknown[][] };
  return data.map((row) => Object.fromEntries(row.map((value, i) => [headings[i] ?? '', plain(value)])));
}

function plain(value: unknown): unknown {
  if (!Array.isArray(value)) return value;
  const [kind, elements] = value as [string, unknown[]];
  if (kind === 'map') return Object.fromEntries(elements as [string, string][]);
  return kind === 'set' ? elements.map(plain) : value;
}

/** Names of a bridge's ports, by ovs-vsctl. */
export function portsOf(bridge: string): string[] {
  return run('ovs-vsctl', 'list-ports', bridge).split('\n').filter(Boolean);
}

/** Deletes the bridges at the end of the test, and before it what an interrupted run left. */
export function ownBridges(t: TestContext, ...names: string[]): void {
  const clear = (): void => {
    for (const name of names) run('ovs-vsctl', '--if-exists', 'del-br', name);
  };
  clear();
  t.after(clear);
}

/** Makes veth pairs of these names (the peers end in `p`) and deletes them at the end of the test. */
export function ownVeths(t: TestContext, ...names: string[]): void {
  const clear = (): void => {
    for (const name of names) {
      if (existsSync(`/sys/class/net/${name}`)) run('ip', 'link', 'del', name);
    }
  };
  clear();
  t.after(clear);
  for (const name of names) run('ip', 'link', 'add', name, 'type', 'veth', 'peer', 'name', `${name}p`);
}

/** An ovsdb-server without an ovs-vswitchd, in a folder of its own. */
export class OwnServer {
  readonly dir = mkdtempSync(path.join(tmpdir(), 'pwtov-'));
  readonly socket = path.join(this.dir, 'db.sock');
  private child: ChildProcess | undefined;

  /** Why no server can be started here. */
  static whyNot(): string | undefined {
    try {
      run('ovsdb-server', '--version');
      return existsSync(schema) ? undefined : `no ${schema}`;
    } catch {
      return 'no ovsdb-server';
    }
  }

  constructor(t: TestContext, initialised = true) {
    t.after(() => this.remove());
    run('ovsdb-tool', 'create', path.join(this.dir, 'conf.db'), schema);
    if (initialised) {
      const insert = ['Open_vSwitch', { op: 'insert', table: 'Open_vSwitch', row: {} }];
      run('ovsdb-tool', 'transact', path.join(this.dir, 'conf.db'), JSON.stringify(insert));
    }
  }

  get pid(): number {
    return this.child?.pid ?? 0;
  }

  async start(): Promise<void> {
    rmSync(this.socket, { force: true });
    const args = [`--remote=punix:${this.socket}`, '--unixctl=own.ctl', '--log-file=/dev/null', 'conf.db'];
    const env = { ...process.env, OVS_RUNDIR: this.dir };
    this.child = spawn('ovsdb-server', args, { cwd: this.dir, stdio: 'ignore', env });
    while (!(await listens(this.socket))) await new Promise((resolve) => setTimeout(resolve, 5));
  }

  async kill(): Promise<void> {
    const { child } = this;
    if (child === undefined || child.exitCode !== null || child.signalCode !== null) return;
    const gone = new Promise((resolve) => child.once('exit', resolve));
    child.kill('SIGKILL');
    await gone;
  }

  signal(name: 'SIGSTOP' | 'SIGCONT'): void {
    this.child?.kill(name);
  }

  async remove(): Promise<void> {
    await this.kill();
    rmSync(this.dir, { recursive: true, force: true });
  }
}

/** Whether somebody accepts connections: the file appears a moment before that. */
function listens(socket: string): Promise<boolean> {
  return new Promise((resolve) => {
    const client = connect({ path: socket });
    client.once('error', () => resolve(false));
    client.once('connect', () => {
      client.destroy();
      resolve(true);
    });
  });
}

const schema = '/usr/share/openvswitch/vswitch.ovsschema';
