/**
 * A host for tests of topology files and of the agent: a network namespace, and mounts of its own, so that its notes, its
 * agent's socket and, where asked for, its Open vSwitch are nobody else's.
 */
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  closeSync,
  existsSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import type { TestContext } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { plainNetns, type Ran, type RunOptions, removeFolder, run } from '../lab.ts';
import { command, linkNames, type OwnHost } from './support.ts';

/** A host of its own, with topology files and an agent. */
export interface AgentHost extends OwnHost {
  /** For what outlives a reboot. */
  readonly lasting: string;
  /** Variables of everything that runs there: DOCKER_HOST when the host has an engine of its own. */
  readonly env: Record<string, string>;
  /** The words before a command that make it run there. */
  readonly inside: readonly string[];
  /** Writes the topology. @returns its path */
  write(yaml: string): string;
  /** Any program there. */
  run(command: string, args: readonly string[], options?: RunOptions): Ran;
  /** `pipewright COMMAND --state-dir ... FILE`, by default of the topology last written. */
  on(command: 'plan' | 'apply' | 'status', ...words: readonly string[]): Ran;
  /** Uses these files or folders instead of what {@link write} writes. */
  use(...paths: readonly string[]): void;
  /** The files of its notes, below {@link stateDir}, without the lock. */
  notes(): string[];
  /** Starts the agent and waits until it is ready. */
  agent(t: TestContext, ...words: readonly string[]): Promise<RunningAgent>;
  /** Starts the agent. */
  startAgent(...words: readonly string[]): RunningAgent;
  /** Its attachments as the agent tells them. */
  status(): StatusLine[];
}

/** As `pipewright status --json` prints it. */
export interface StatusLine {
  readonly key: string;
  readonly state: string;
  readonly repairs: number | null;
  readonly detail: string;
}

/** An agent that runs. */
export interface RunningAgent {
  readonly process: ChildProcess;
  /** What it has written so far. */
  log(): string;
  /** Resolves when it is ready, or has ended. */
  ready(): Promise<void>;
  /** Sends a signal and waits for its end. @returns milliseconds, and how it ended */
  stop(signal: 'SIGTERM' | 'SIGKILL'): Promise<{ ms: number; code: number | null }>;
}

const holderScript =
  'mkdir -p /run/pipewright /run/openvswitch && mount -t tmpfs tmpfs /run/pipewright && mount -t tmpfs tmpfs /run/openvswitch && exec sleep 3600';

/** @param name part of the namespace's name */
export async function agentHost(t: TestContext, name: string): Promise<AgentHost> {
  const netns = await plainNetns(t, name);
  const holder = spawn(
    'unshare',
    ['--mount', '--propagation', 'private', 'nsenter', `--net=${netns.path}`, 'sh', '-c', holderScript],
    { stdio: 'ignore' },
  );
  holder.unref();
  t.after(() => void holder.kill('SIGKILL'));
  const pid = holder.pid ?? 0;
  await soon(
    () =>
      existsSync(`/proc/${pid}`) &&
      run('ps', ['-o', 'comm=', '-p', String(pid)], { expect: 'any' }).stdout.trim() === 'sleep',
  );
  const folder = mkdtempSync(path.join(tmpdir(), 'pwt-'));
  const started: RunningAgent[] = [];
  t.after(async () => {
    for (const agent of started) await agent.stop('SIGKILL');
    await removeFolder(folder);
  });
  const lasting = path.join(folder, 'lib');
  const file = path.join(folder, 'pipewright.yaml');
  let files: readonly string[] = [file];
  const env: Record<string, string> = {};
  const inside = ['nsenter', `--mount=/proc/${pid}/ns/mnt`, `--net=${netns.path}`];
  const runThere = (words: readonly string[], options?: RunOptions): Ran => {
    const [first = '', ...rest] = [...inside, ...words];
    return run(first, rest, { ...options, env: { ...env, ...options?.env } });
  };
  const stateDir = `/proc/${pid}/root/run/pipewright/net-${statSync(netns.path).ino}`;
  const host: AgentHost = {
    name: netns.name,
    pid,
    stateDir,
    lasting,
    env,
    inside,
    pipework: (args, options) => runThere(command('pipework', args), options),
    pipewright: ([verb = '', ...args], options) => {
      const own = verb === 'destroy' ? ['--state-dir', lasting] : [];
      return runThere(command('pipewright', [verb, ...own, ...args]), options);
    },
    pipeworkAsync: () => Promise.reject(new Error('not there')),
    ip: (...args) => runThere(['ip', ...args]),
    links: () => linkNames(netns.name),
    run: (program, args, options) => runThere([program, ...args], options),
    write: (yaml) => {
      writeFileSync(file, yaml);
      return file;
    },
    on: (verb, ...words) =>
      runThere(command('pipewright', [verb, '--state-dir', lasting, ...words, ...files]), { expect: 'any' }),
    use: (...paths) => {
      files = paths;
    },
    notes: () =>
      ['attachments', 'networks', 'journal'].flatMap((kind) => {
        const place = path.join(stateDir, kind);
        return existsSync(place) ? readdirSync(place).map((entry) => `${kind}/${entry}`) : [];
      }),
    startAgent: (...words) => {
      const own = ['agent', '--state-dir', lasting, '--log-format', 'json', ...words, ...files];
      const agent = startAgent(host, own);
      started.push(agent);
      return agent;
    },
    agent: async (test, ...words) => {
      const agent = host.startAgent(...words);
      test.after(() => agent.stop('SIGKILL'));
      await agent.ready();
      return agent;
    },
    status: () => {
      const { stdout } = runThere(command('pipewright', ['status', '--json']), { expect: 'any' });
      const answer = JSON.parse(stdout) as { agent: boolean; attachments: StatusLine[] };
      assert.ok(answer.agent, 'no agent answers');
      return answer.attachments;
    },
  };
  return host;
}

/** Applies it, and finds nothing left to do. */
export function applied(host: AgentHost, yaml: string): string {
  host.write(yaml);
  const ran = host.on('apply', '--yes');
  assert.equal(ran.code, 0, ran.stdout + ran.stderr);
  const again = host.on('plan');
  assert.equal(again.code, 0, again.stdout + again.stderr);
  assert.equal(again.stdout, 'nothing to do\n');
  return ran.stdout;
}

/** How many were started. */
let agents = 0;

function startAgent({ inside, env, lasting }: AgentHost, args: readonly string[]): RunningAgent {
  const [first = '', ...rest] = [...inside, ...command('pipewright', args)];
  // A file, not a pipe: a test that only runs commands, one after the other, reads no pipe in between.
  const file = `${lasting}-${agents++}.log`;
  const errors = openSync(file, 'wx');
  const child = spawn(first, rest, {
    stdio: ['ignore', 'ignore', errors],
    env: { ...process.env, NODE_EXTRA_CA_CERTS: undefined, ...env },
  });
  closeSync(errors);
  // Tests ask for it even when the file has gone with its host.
  let said = '';
  const log = (): string => {
    if (existsSync(file)) said = readFileSync(file, 'utf8');
    return said;
  };
  const ended = once(child, 'exit');
  return {
    process: child,
    log,
    ready: async () => {
      await soon(() => log().includes('"msg":"ready"') || child.exitCode !== null, 15_000);
    },
    stop: async (signal) => {
      const began = Date.now();
      child.kill(signal);
      await ended;
      return { ms: Date.now() - began, code: child.exitCode };
    },
  };
}

/** The daemons of an Open vSwitch. */
export interface OwnOvs {
  /** Ends both at once, as a crash does. */
  kill(): Promise<void>;
  /** Starts both, by default with the database that they had. */
  start(options?: { readonly empty: boolean }): Promise<void>;
}

/** An Open vSwitch of this host alone, with the userspace datapath: bridges are made with `datapath_type=netdev`. */
export async function startOvs(t: TestContext, host: AgentHost): Promise<OwnOvs> {
  const folder = '/run/openvswitch';
  const db = `${folder}/conf.db`;
  let daemons: ChildProcess[] = [];
  const there = (program: string, ...args: readonly string[]): void => {
    const [first = '', ...rest] = [...host.inside, program, ...args];
    const child = spawn(first, rest, { stdio: 'ignore' });
    child.unref();
    daemons.push(child);
  };
  const answers = (): boolean =>
    host.run('ovs-appctl', ['-t', 'ovs-vswitchd', 'version'], { expect: 'any' }).code === 0;
  const ovs: OwnOvs = {
    kill: async () => {
      const ends = daemons.map((child) => once(child, 'exit'));
      for (const child of daemons) {
        child.ref();
        child.kill('SIGKILL');
      }
      await Promise.all(ends);
      daemons = [];
      host.run('sh', ['-c', `rm -f ${folder}/*.pid ${folder}/*.ctl ${folder}/db.sock`]);
    },
    start: async ({ empty } = { empty: false }) => {
      if (empty) {
        host.run('rm', ['-f', db, `${folder}/.conf.db.~lock~`]);
        host.run('ovsdb-tool', ['create', db, '/usr/share/openvswitch/vswitch.ovsschema']);
      }
      there('ovsdb-server', db, `--remote=punix:${folder}/db.sock`, '--pidfile');
      await soon(() => existsSync(`/proc/${host.pid}/root${folder}/db.sock`));
      host.run('ovs-vsctl', ['--no-wait', 'init']);
      there('ovs-vswitchd', '--pidfile');
      await soon(answers);
    },
  };
  t.after(() => {
    for (const child of daemons) child.kill('SIGKILL');
  });
  await ovs.start({ empty: true });
  return ovs;
}

/** Waits until it is so. @returns milliseconds that it took, or undefined: it is not so after `ms` */
export async function soon(isSo: () => boolean, ms = 15_000): Promise<number | undefined> {
  const began = Date.now();
  while (!isSo()) {
    if (Date.now() - began > ms) return undefined;
    await sleep(20);
  }
  return Date.now() - began;
}
