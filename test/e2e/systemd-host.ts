/** A host with a real systemd as its first process, and Docker Engine and the agent as its units, in namespaces of its own. */
import { type ChildProcess, spawn } from 'node:child_process';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import type { TestContext } from 'node:test';
import { ensureImage, type Ran, type RunOptions, root, run } from '../lab.ts';
import { soon } from './agent-ground.ts';

const systemd = '/lib/systemd/systemd';
const cgroups = '/sys/fs/cgroup';

/** Programs run there as in a shell of it; /srv/image.tar is the tests' image. */
export interface SystemdHost {
  run(program: string, args: readonly string[], options?: RunOptions): Ran;
}

/** @param yaml its topology file @returns undefined, and the test skipped, where systemd cannot be started */
export async function systemdHost(t: TestContext, yaml: string): Promise<SystemdHost | undefined> {
  const why = !existsSync(systemd)
    ? 'systemd is not installed'
    : !existsSync(path.join(cgroups, 'systemd'))
      ? 'the control groups here are not of version 1, with a hierarchy for systemd'
      : undefined;
  if (why !== undefined) {
    t.skip(why);
    return undefined;
  }
  const folder = mkdtempSync(path.join(tmpdir(), 'pwts-'));
  writeFileSync(path.join(folder, 'pipewright.yaml'), yaml);
  run('docker', ['image', 'save', '-o', path.join(folder, 'image.tar'), ensureImage()]);
  mkdirSync(path.join(folder, 'fs'));
  const cgroup = ownCgroup();
  const namespaces = ['--fork', '--pid', '--mount', '--net', '--uts', '--ipc', '--kill-child'];
  const script = path.join(root, 'test/e2e/systemd-host.sh');
  const starter = spawn('unshare', [...namespaces, script, folder, root, cgroup], {
    stdio: ['ignore', 'ignore', 'inherit'],
  });
  starter.unref();
  t.after(async () => {
    starter.kill('SIGKILL');
    await soon(() => removeCgroup(cgroup), 20_000);
    rmSync(folder, { recursive: true, force: true });
  });
  const host: SystemdHost = {
    run: (program, args, options) =>
      run(
        'nsenter',
        [`--target=${childOf(starter)}`, ...['-m', '-n', '-p', '-u', '-i'], program, ...args],
        options,
      ),
  };
  const isUp = (): boolean =>
    childOf(starter) > 0 &&
    readFileSync(`/proc/${childOf(starter)}/comm`, 'utf8').trim() === 'systemd' &&
    host.run('systemctl', ['is-system-running'], { expect: 'any' }).stdout.trim() !== '';
  if ((await soon(isUp, 60_000)) === undefined) throw new Error('systemd did not start');
  return host;
}

function childOf({ pid = 0 }: ChildProcess): number {
  const file = `/proc/${pid}/task/${pid}/children`;
  return existsSync(file) ? Number(readFileSync(file, 'utf8').trim().split(' ')[0]) : 0;
}

const hierarchies = (): string[] =>
  readdirSync(cgroups)
    .filter((name) => name !== 'unified')
    .map((name) => path.join(cgroups, name));

/** One in each hierarchy, so that what systemd makes of control groups is below it. */
function ownCgroup(): string {
  const name = `pwt-systemd-${process.pid}`;
  for (const hierarchy of hierarchies()) {
    const place = path.join(hierarchy, name);
    mkdirSync(place);
    for (const file of ['cpuset.cpus', 'cpuset.mems'])
      if (existsSync(path.join(place, file)))
        writeFileSync(path.join(place, file), readFileSync(path.join(hierarchy, file)));
  }
  return name;
}

/** @returns whether nothing of it is left: what runs there takes a moment to end */
function removeCgroup(name: string): boolean {
  const places = hierarchies()
    .map((hierarchy) => path.join(hierarchy, name))
    .filter((place) => existsSync(place));
  if (places.length > 0)
    run('find', [...places, '-depth', '-type', 'd', '-exec', 'rmdir', '{}', ';'], { expect: 'any' });
  return places.every((place) => !existsSync(place));
}
