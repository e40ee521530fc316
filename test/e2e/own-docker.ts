/** A Docker Engine of one test host: it can be stopped and started, and all names of containers are free there. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import type { TestContext } from 'node:test';
import { type Ran, type RunOptions, removeFolder, root, run } from '../lab.ts';
import { type AgentHost, soon } from './agent-ground.ts';

/** The engine; what runs on the host after this finds it by DOCKER_HOST. */
export interface OwnDocker {
  /** `docker ARGS` of this engine. */
  docker(args: readonly string[], options?: RunOptions): Ran;
  /** A container without a network, of the tests' image. */
  run(name: string, ...options: readonly string[]): void;
  /** The pid of a container's first process; 0 when it does not run. */
  pid(name: string): number;
  /** `systemctl stop docker`, or what happens to it without a warning. */
  stop(signal?: 'SIGTERM' | 'SIGKILL'): Promise<void>;
  /** Ends its containers too, as the end of the machine does. */
  crash(): Promise<void>;
  /** `systemctl start docker`. */
  start(): Promise<void>;
  /** A signal to dockerd. */
  signal(signal: 'SIGSTOP' | 'SIGCONT'): void;
}

/** @param flags of dockerd, `--live-restore` for example */
export async function startDocker(
  t: TestContext,
  host: AgentHost,
  flags: readonly string[] = [],
): Promise<OwnDocker> {
  const folder = mkdtempSync(path.join(tmpdir(), 'pwtd-'));
  const at = (name: string): string => path.join(folder, name);
  const address = `unix://${at('docker.sock')}`;
  // The machine's own settings are not for this one.
  writeFileSync(at('daemon.json'), '{}\n');
  const docker = (args: readonly string[], options?: RunOptions): Ran =>
    run('docker', ['-H', address, ...args], options);
  let daemon: ChildProcess | undefined;
  const own: OwnDocker = {
    docker,
    run: (name, ...options) =>
      void docker(['run', '-d', '--name', name, '--network', 'none', ...options, 'pipewright-test:1']),
    pid: (name) => Number(docker(['inspect', '-f', '{{.State.Pid}}', name]).stdout),
    stop: async (signal = 'SIGTERM') => {
      if (!daemon || daemon.exitCode !== null || daemon.signalCode !== null) return;
      const containerd = Number(readFileSync(at('exec/containerd/containerd.pid'), 'utf8'));
      daemon.ref();
      const ended = once(daemon, 'exit');
      daemon.kill(signal);
      await ended;
      // It dies with its dockerd, but a dockerd that still sees it waits 15 s for its answer.
      await soon(() => !existsSync(`/proc/${containerd}`));
    },
    crash: async () => {
      await own.stop('SIGKILL');
      killAllOf(folder);
      await soon(() => shimsOf(folder).length === 0);
    },
    signal: (signal) => void daemon?.kill(signal),
    start: async () => {
      const [first = '', ...rest] = [
        ...[...host.inside, 'dockerd', '--config-file', at('daemon.json'), '-H', address],
        ...['--data-root', at('data'), '--exec-root', at('exec'), '--pidfile', at('pid')],
        ...['--log-level', 'error', ...flags],
      ];
      daemon = spawn(first, rest, { stdio: 'ignore' });
      daemon.unref();
      const answers = (): boolean => docker(['version'], { expect: 'any' }).code === 0;
      if ((await soon(answers, 30_000)) === undefined) throw new Error('dockerd did not start');
    },
  };
  t.after(async () => {
    await own.crash();
    await removeFolder(folder);
  });
  await own.start();
  run(path.join(root, 'scripts/image.sh'), ['pipewright-test:1'], { env: { DOCKER_HOST: address } });
  host.env.DOCKER_HOST = address;
  return own;
}

/** containerd's processes for containers, which outlive a killed dockerd; `-address FOLDER/exec/...` tells whose. */
function shimsOf(folder: string): number[] {
  const isOurs = (pid: string): boolean => {
    try {
      return readFileSync(`/proc/${pid}/cmdline`, 'utf8').includes(`${folder}/exec/`);
    } catch {
      return false;
    }
  };
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name) && isOurs(name))
    .map(Number);
}

function killAllOf(folder: string): void {
  for (const shim of shimsOf(folder)) {
    const { stdout } = run('ps', ['-o', 'pid=', '--ppid', String(shim)], { expect: 'any' });
    for (const pid of [...stdout.split('\n').filter(Boolean).map(Number), shim]) {
      try {
        process.kill(pid, 'SIGKILL');
      } catch {
        // It ended by itself.
      }
    }
  }
}
