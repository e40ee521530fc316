/** A Podman of one test host, with its service at the usual place there: it can be started, and killed. */
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import type { TestContext } from 'node:test';
import { type Ran, type RunOptions, removeFolder, root, run } from '../lab.ts';
import { type AgentHost, type RunningAgent, soon } from './agent-ground.ts';

/** Podman's containers go on without its service. */
export interface OwnPodman {
  /** `podman ARGS`, which needs no service. */
  podman(args: readonly string[], options?: RunOptions): Ran;
  /** A container without a network, of the tests' image. */
  run(name: string, ...options: readonly string[]): void;
  /** The pid of a container's first process; 0 when it does not run. */
  pid(name: string): number;
  /** `systemctl start podman.socket`, and waits until it answers. */
  start(): Promise<void>;
  /** Ends the service without a warning. */
  kill(): Promise<void>;
  /** A signal to the service. */
  signal(signal: 'SIGSTOP' | 'SIGCONT'): void;
}

const image = 'pipewright-test:1';
const socket = '/run/podman/podman.sock';
// runc fails where it cannot raise the limits that Podman asks for by itself.
const limits = ['--ulimit', 'nofile=1024:1024', '--ulimit', 'nproc=1024:1024'];

/** @returns the service not started yet; undefined, and the test skipped, where Podman runs no container */
export async function ownPodman(t: TestContext, host: AgentHost): Promise<OwnPodman | undefined> {
  const folder = mkdtempSync(path.join(tmpdir(), 'pwtm-'));
  const places = ['root', 'runroot', 'tmpdir'].map((name) => `--${name}=${path.join(folder, name)}`);
  const flags = [...places, '--storage-driver=vfs', '--cgroup-manager=cgroupfs', '--events-backend=file'];
  host.run('sh', ['-c', 'mkdir -p /run/podman && mount -t tmpfs tmpfs /run/podman']);
  let service: ChildProcess | undefined;
  const podman = (args: readonly string[], options?: RunOptions): Ran =>
    host.run('podman', [...flags, ...args], options);
  const start = ['run', '-d', '--network', 'none', ...limits];
  const own: OwnPodman = {
    podman,
    run: (name, ...options) => void podman([...start, '--name', name, ...options, image]),
    pid: (name) => Number(podman(['inspect', '-f', '{{.State.Pid}}', name], { expect: 'any' }).stdout),
    start: async () => {
      // What a killed one leaves is in the way of the next, as systemd takes care of.
      host.run('rm', ['-f', socket]);
      const [first = '', ...rest] = [...host.inside, 'podman', ...flags];
      service = spawn(first, [...rest, 'system', 'service', '--time', '0', `unix://${socket}`], {
        stdio: 'ignore',
      });
      service.unref();
      const asked = ['-sf', '--unix-socket', socket, 'http://podman/_ping'];
      const answers = (): boolean => host.run('curl', asked, { expect: 'any' }).code === 0;
      if ((await soon(answers, 20_000)) === undefined) throw new Error('podman system service did not start');
    },
    kill: async () => {
      if (!service || service.exitCode !== null || service.signalCode !== null) return;
      service.ref();
      const ended = once(service, 'exit');
      service.kill('SIGKILL');
      await ended;
    },
    signal: (signal) => void service?.kill(signal),
  };
  t.after(async () => {
    await own.kill();
    // The host may be gone already; all that a container is known by is in the folder.
    run('podman', [...flags, 'rm', '-f', '-t', '0', '-a'], { expect: 'any' });
    await removeFolder(folder);
  });
  run(path.join(root, 'scripts/image.sh'), [image]);
  const archive = path.join(folder, 'image.tar');
  run('docker', ['image', 'save', '-o', archive, image]);
  podman(['load', '-i', archive]);
  const { code, stderr } = podman([...start, '--rm', image, 'true'], { expect: 'any' });
  if (code === 0) return own;
  t.skip(`Podman runs no container here: ${stderr.trim()}`);
  return undefined;
}

/** The network of the tests, as a file has it. */
export const network =
  'lan: { kind: bridge, bridge: br0, subnet: 10.9.0.0/24, range: 10.9.0.100-10.9.0.199 }';

/** Keys and states, sorted: the names of containers that hold a pid come here or there among others. */
export const states = (host: AgentHost): string[] =>
  host
    .status()
    .map(({ key, state }) => `${key} ${state}`)
    .sort();

/** What the status says of one. */
export const detailOf = (host: AgentHost, key: string): string =>
  host.status().find((line) => line.key === key)?.detail ?? '';

/** Lines of the log in which a word is. */
export const lines = (agent: RunningAgent, word: string): string[] =>
  agent
    .log()
    .split('\n')
    .filter((text) => text.includes(word));

/** Waits until the status is so, in any order. */
export async function become(
  host: AgentHost,
  agent: RunningAgent,
  ...want: readonly string[]
): Promise<void> {
  const took = await soon(() => states(host).join() === [...want].sort().join(), 15_000);
  assert.ok(took !== undefined, `${states(host)}\n${agent.log()}`);
}
