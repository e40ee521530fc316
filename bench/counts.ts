/** What one attachment takes: messages to the kernel, system calls, programs. */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { hasProgram } from '../test/lab/capability.ts';
import { run } from '../test/lab/run.ts';
import { type Attacher, bridge, type Cleanup, makeNamespaces, program } from './ground.ts';

/** Absent where there is no strace. */
export interface Counts {
  readonly sends: number;
  readonly messages: number;
  readonly systemCalls?: number;
  /** System calls of `bin/pipework` less those of `node -e 0`. */
  readonly processSystemCalls?: number;
  /** Programs that `bin/pipework` starts. */
  readonly childProcesses?: number;
}

const attaches = fileURLToPath(new URL('attaches.mjs', import.meta.url));
const few = 5;
const many = 25;

/** Counts by difference, as the first attachment of a process also loads what all of them use. */
export async function count(cleanup: Cleanup, attacher: Attacher): Promise<Counts> {
  const scratch = mkdtempSync(path.join(tmpdir(), 'pwbench-'));
  cleanup.add(() => rmSync(scratch, { recursive: true, force: true }));
  const file = path.join(scratch, 'strace');
  const traced = hasProgram('strace') ? ['strace', '-f', '-c', '-o', file] : [];
  const [less, more] = [few, many].map((times) => {
    const name = `pwbench-count${times}`;
    makeNamespaces(cleanup, [name]);
    cleanup.add(() => forget(attacher, name));
    const [command = '', ...args] = [...traced, process.execPath, attaches, name, String(times)];
    const counters = JSON.parse(run(command, args).stdout) as { sends: number; messages: number };
    return { ...counters, calls: traced.length > 0 ? totalIn(file) : Number.NaN };
  });
  const each = (of: 'sends' | 'messages' | 'calls'): number =>
    ((more?.[of] ?? Number.NaN) - (less?.[of] ?? Number.NaN)) / (many - few);
  const counts = { sends: each('sends'), messages: each('messages') };
  if (traced.length === 0) return counts;
  const name = 'pwbench-count1';
  makeNamespaces(cleanup, [name]);
  cleanup.add(() => forget(attacher, name));
  const words = (ifname: string): string[] => {
    return [program('pipework'), bridge, '-i', ifname, `netns:${name}`, '10.99.0.4/24'];
  };
  const strace = (args: readonly string[]): void => void run('strace', ['-f', ...args]);
  strace(['-c', '-o', file, 'node', '-e', '0']);
  const empty = totalIn(file);
  strace(['-c', '-o', file, ...words('eth1')]);
  const processSystemCalls = totalIn(file) - empty;
  strace(['-e', 'trace=execve', '-qq', '-o', file, ...words('eth2')]);
  return { ...counts, systemCalls: each('calls'), processSystemCalls, childProcesses: programsIn(file) };
}

/** The last line of `strace -c`: the share of time, seconds, time for each call, calls, errors, `total`. */
function totalIn(file: string): number {
  const total = readFileSync(file, 'utf8')
    .split('\n')
    .find((line) => line.endsWith(' total'));
  return Number(total?.trim().split(/\s+/)[3]);
}

/** Programs that were started, without env and node. */
function programsIn(file: string): number {
  const started = readFileSync(file, 'utf8')
    .split('\n')
    .filter((line) => /execve\(.* = 0$/.test(line));
  return started.length - 2;
}

/** Notes of containers that are gone would be taken away with time; these at once. */
function forget({ host }: Attacher, name: string): void {
  for (const { container, ifname } of host.state.records()) {
    if (container.name.endsWith(name)) host.state.removeRecord(`netns-${container.id}`, ifname);
  }
}
