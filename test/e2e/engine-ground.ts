/**
 * A host made of namespaces (network, mounts, processes, name) with a Docker Engine and an Open vSwitch of its own, that can be
 * switched off and on: what is in a folder outlives that.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, existsSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import type { TestContext } from 'node:test';
import { type Ran, type RunOptions, run, runAsync } from '../lab.ts';
import { soon } from './agent-ground.ts';
import type { SceneHost } from './scene3.ts';
import { command } from './support.ts';

/** Of the first process there: mounts, then nothing. When it dies the kernel ends all other processes there. */
const holderScript = `set -e
hostname "$1"
mount -t proc proc /proc
mount -t tmpfs tmpfs /run
mkdir -p /run/openvswitch /run/pipewright
echo ready
exec sleep 2147483647`;

/** The wire's end of a host's NIC. */
const wireEnd = (name: string): string => `wire-${name}`;

export class EngineHost implements SceneHost {
  readonly #netns: string;
  readonly #wire: string;
  readonly #name: string;
  readonly #folder = mkdtempSync(path.join(tmpdir(), 'pwt-host-'));
  #holder: ChildProcess | undefined;

  /** @param name its host name
   * @param wire the network namespace that the other end of eth0 is in, a port of the bridge `wire` there */
  constructor(t: TestContext, name: string, wire: string) {
    this.#name = name;
    // The pid at the end, as of all that a later run may take away.
    this.#netns = wire.replace(/-(\d+)$/, `-${name}-$1`);
    this.#wire = wire;
    t.after(async () => {
      await this.off();
      rmSync(this.#folder, { recursive: true, force: true });
    });
  }

  /** Starts it: NIC, Open vSwitch, Docker Engine, and the agent where there is a topology file. */
  async on(): Promise<void> {
    const end = wireEnd(this.#name);
    run('ip', ['netns', 'add', this.#netns]);
    run('ip', ['-n', this.#netns, 'link', 'set', 'lo', 'up']);
    run('ip', ['-n', this.#wire, 'link', 'add', end, 'type', 'veth', 'peer', 'eth0', 'netns', this.#netns]);
    run('ip', ['-n', this.#wire, 'link', 'set', end, 'master', 'wire', 'up']);
    // As a host's own configuration does at every boot.
    run('ip', ['-n', this.#netns, 'link', 'set', 'eth0', 'up']);
    const unshare = [
      'unshare',
      '--mount',
      '--propagation',
      'private',
      '--pid',
      '--uts',
      '--fork',
      '--kill-child',
    ];
    const words = [`--net=/run/netns/${this.#netns}`, ...unshare, 'sh', '-c', holderScript, 'sh', this.#name];
    const holder = spawn('nsenter', words, { stdio: ['ignore', 'pipe', 'ignore'] });
    this.#holder = holder;
    await Promise.race([once(holder.stdout, 'data'), once(holder, 'exit')]);
    await Promise.all([this.#startOvs(), this.#startDocker()]);
    if (existsSync(this.#file)) this.#startAgent();
  }

  /** Ends all that runs there, at once, and takes its network away. */
  async off(): Promise<void> {
    const holder = this.#holder;
    if (holder === undefined) return;
    this.#holder = undefined;
    const closed = once(holder, 'exit');
    run('kill', ['-KILL', String(this.#pid(holder))], { expect: 'any' });
    await closed;
    run('ip', ['netns', 'del', this.#netns], { expect: 'any' });
    await soon(
      () => run('ip', ['-n', this.#wire, 'link', 'del', wireEnd(this.#name)], { expect: 'any' }).code !== 0,
    );
  }

  /** The first process there, as seen from here: the child of unshare. */
  #pid(holder: ChildProcess): number {
    const { pid = 0 } = holder;
    return Number(readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').trim().split(' ')[0]);
  }

  #enter(words: readonly string[]): [string, string[]] {
    if (this.#holder === undefined) throw new Error(`${this.#name} is off`);
    const target = ['-t', String(this.#pid(this.#holder)), '--mount', '--net', '--pid', '--uts'];
    return ['nsenter', [...target, ...words]];
  }

  run(program: string, args: readonly string[], options?: RunOptions): Promise<Ran> {
    return runAsync(...this.#enter([program, ...args]), options);
  }

  pipewright(args: readonly string[], options?: RunOptions): Promise<Ran> {
    return runAsync(...this.#enter(command('pipewright', args)), options);
  }

  get #files(): string[] {
    return ['--state-dir', path.join(this.#folder, 'pipewright'), this.#file];
  }

  get #file(): string {
    return path.join(this.#folder, 'pipewright.yaml');
  }

  check(): Promise<Ran> {
    return this.pipewright(['check', '--json', ...this.#files], { expect: 'any' });
  }

  async keep(yaml: string): Promise<void> {
    writeFileSync(this.#file, yaml);
    this.#startAgent();
  }

  #daemon(words: readonly string[]): ChildProcess {
    const log = openSync(path.join(this.#folder, `${path.basename(words[0] ?? '')}.log`), 'a');
    const child = spawn(...this.#enter(words), { stdio: ['ignore', log, log] });
    closeSync(log);
    child.unref();
    return child;
  }

  #startAgent(): void {
    this.#daemon(command('pipewright', ['agent', ...this.#files]));
  }

  async #startDocker(): Promise<void> {
    this.#daemon(['dockerd', '--data-root', path.join(this.#folder, 'docker')]);
    const up = await soon(
      () => run(...this.#enter(['docker', 'version']), { expect: 'any' }).code === 0,
      30_000,
    );
    if (up === undefined) throw new Error(`dockerd: ${this.log('dockerd')}`);
  }

  async #startOvs(): Promise<void> {
    const file = path.join(this.#folder, 'conf.db');
    if (!existsSync(file)) run('ovsdb-tool', ['create', file, '/usr/share/openvswitch/vswitch.ovsschema']);
    this.#daemon(['ovsdb-server', file, '--remote=punix:/run/openvswitch/db.sock', '--pidfile']);
    const vsctl = (...args: readonly string[]): boolean =>
      run(...this.#enter(['ovs-vsctl', '--timeout=1', ...args]), { expect: 'any' }).code === 0;
    await soon(() => vsctl('--no-wait', 'init'));
    this.#daemon(['ovs-vswitchd', '--pidfile']);
    if ((await soon(() => vsctl('add-br', 'up', '--', 'del-br', 'up'))) === undefined)
      throw new Error(`ovs-vswitchd: ${this.log('ovs-vswitchd')}`);
  }

  /** Takes an image of this machine's Docker Engine over. */
  loadImage(image: string): void {
    const file = path.join(this.#folder, 'image.tar');
    run('docker', ['save', '-o', file, image]);
    run(...this.#enter(['docker', 'load', '-q', '-i', file]));
  }

  /** What a daemon has written. */
  log(program: string): string {
    return readFileSync(path.join(this.#folder, `${program}.log`), 'utf8');
  }
}

/** A namespace that is the switch between hosts: their NICs are plugged into its bridge `wire`. */
export function makeWire(t: TestContext, name: string): string {
  const netns = `pwt-${name}-${process.pid}`;
  t.after(() => void run('ip', ['netns', 'del', netns], { expect: 'any' }));
  run('ip', ['netns', 'add', netns]);
  run('ip', ['-n', netns, 'link', 'add', 'wire', 'up', 'type', 'bridge']);
  return netns;
}
