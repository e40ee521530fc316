/** One benchmark at a time, as its names are always the same; and what a killed one has left goes first. */
import { readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { run } from '../test/lab/run.ts';
import { bridge, type Cleanup, ovsBridge } from './ground.ts';

const pidFile = '/run/pwbench.pid';

/** @throws when another benchmark is running */
export function claim(cleanup: Cleanup): void {
  const other = read(pidFile);
  if (other !== '' && read(`/proc/${other}/cmdline`).includes('bench')) {
    throw new Error(`another benchmark is running, process ${other}`);
  }
  writeFileSync(pidFile, String(process.pid));
  cleanup.add(() => rmSync(pidFile, { force: true }));
  sweep();
}

function read(file: string): string {
  try {
    return readFileSync(file, 'latin1');
  } catch {
    return '';
  }
}

/** By names: everything of the benchmark's begins with `pwbench`, but for the two bridges. */
function sweep(): void {
  const words = (command: string, ...args: readonly string[]): string[] =>
    run(command, args, { expect: 'any' }).stdout.split('\n').filter(Boolean);
  const remove = (command: string, ...args: readonly string[]): unknown =>
    run(command, args, { expect: 'any' });
  for (const id of words('docker', 'ps', '-aq', '--filter', 'name=^pwbench-'))
    remove('docker', 'rm', '-f', id);
  for (const id of words('docker', 'network', 'ls', '-q', '--filter', 'name=^pwbench-'))
    remove('docker', 'network', 'rm', id);
  for (const name of namespaces()) remove('ip', 'netns', 'del', name);
  remove('ip', 'link', 'del', bridge);
  remove('ovs-vsctl', '--timeout=5', '--if-exists', 'del-br', ovsBridge);
}

function namespaces(): string[] {
  try {
    return readdirSync('/run/netns').filter((name) => name.startsWith('pwbench-'));
  } catch {
    return [];
  }
}
