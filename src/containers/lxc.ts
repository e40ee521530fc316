/** LXC, which has no daemon: a container is found by its cgroup, else by `lxc-info`. */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { PipewrightError } from '../errors.ts';
import type { Container } from './container.ts';
import { startTimeOf, statOf } from './proc.ts';

/** A name that is neither a path, nor an option, nor a pattern. */
const nameForm = /^[a-zA-Z0-9_][a-zA-Z0-9_.@:+-]*$/;

/** Where to look. */
export interface LxcOptions {
  /** Mount point of the cgroup file systems; /sys/fs/cgroup when not given. */
  readonly cgroupRoot?: string;
  /** Folders that may hold `lxc-info`; those of PATH when not given. */
  readonly searchPath?: string;
}

/**
 * The running container `name`: its init process is that of cgroup `lxc.payload.NAME`, or what
 * `lxc-info -n NAME -p -H` says. Undefined when there is none. Throws CONTAINER_NOT_RUNNING for one without a process.
 */
export async function findLxc(name: string, options: LxcOptions = {}): Promise<Container | undefined> {
  if (!nameForm.test(name)) return undefined;
  const cgroups = payloadCgroups(name, options.cgroupRoot ?? '/sys/fs/cgroup');
  const lxcInfo = programIn(options.searchPath ?? process.env.PATH ?? '', 'lxc-info');
  const asked = async () => (lxcInfo === undefined ? undefined : pidFromLxcInfo(lxcInfo, name));
  const pid = initOf(cgroups) ?? (await asked());
  // `stopped`: it is known, but its cgroup is empty or lxc-info names no pid.
  if (pid === undefined && cgroups.length === 0) return undefined;
  const startTime = pid === undefined || pid === 'stopped' ? undefined : startTimeOf(pid);
  if (pid === undefined || pid === 'stopped' || startTime === undefined) {
    throw new PipewrightError('CONTAINER_NOT_RUNNING', {
      op: 'lxc.inspect',
      subject: name,
      detail: `Could not find a process inside container ${name}.`,
      hint: `Start it: lxc-start -n ${name}`,
    });
  }
  return { runtime: 'lxc', id: name, name, pid, netnsPath: `/proc/${pid}/ns/net`, startTime };
}

/** Whether this host looks as if it ran LXC: some container's cgroup, or its tools. */
export function lxcPresent(options: LxcOptions = {}): boolean {
  const bases = cgroupBases(options.cgroupRoot ?? '/sys/fs/cgroup');
  return (
    bases.some((base) =>
      foldersOf(base).some((folder) => folder === 'lxc' || folder.startsWith('lxc.payload')),
    ) || programIn(options.searchPath ?? process.env.PATH ?? '', 'lxc-info') !== undefined
  );
}

/**
 * The cgroups that hold the container's own processes; never `lxc.monitor.NAME`, whose process is in the host's
 * namespaces. LXC >= 4 puts them at the top of the hierarchy, LXC 3 below `lxc/`, cgroup v1 repeats them for each controller.
 */
function payloadCgroups(name: string, root: string): string[] {
  const places = [`lxc.payload.${name}`, `lxc/lxc.payload.${name}`, `lxc.payload/${name}`, `lxc/${name}`];
  return cgroupBases(root)
    .flatMap((base) => places.map((place) => path.join(base, place)))
    .filter((folder) => existsSync(path.join(folder, 'cgroup.procs')));
}

/** The one hierarchy of cgroup v2, or `unified` and the controllers of v1; and one level below either. */
function cgroupBases(root: string): string[] {
  return [root, ...foldersOf(root).map((folder) => path.join(root, folder))];
}

function foldersOf(place: string): string[] {
  try {
    return readdirSync(place, { withFileTypes: true })
      .filter((entry) => entry.isDirectory())
      .map((entry) => entry.name);
  } catch {
    return []; // the container may stop while it is looked at
  }
}

/** The first process: of those whose parent is outside, the oldest. `lxc-attach` puts more there, but later. */
function initOf(cgroups: readonly string[]): number | undefined {
  for (const cgroup of cgroups) {
    const inside = new Set(processesIn(cgroup));
    const heads = [...inside].flatMap((pid) => {
      const stat = statOf(pid);
      return stat && !inside.has(stat.parent) ? [{ pid, startTime: BigInt(stat.startTime) }] : [];
    });
    const [first] = heads.sort((a, b) => Number(a.startTime - b.startTime) || a.pid - b.pid);
    if (first) return first.pid;
  }
  return undefined;
}

/** Those of the cgroups below too: an init such as systemd moves itself to `init.scope`. */
function processesIn(cgroup: string): number[] {
  let text: string;
  try {
    text = readFileSync(path.join(cgroup, 'cgroup.procs'), 'latin1');
  } catch {
    text = '';
  }
  // 0 stands for a process of a pid namespace that is not visible from here.
  const own = text
    .split('\n')
    .map(Number)
    .filter((pid) => pid > 0);
  return [...own, ...foldersOf(cgroup).flatMap((folder) => processesIn(path.join(cgroup, folder)))];
}

function programIn(searchPath: string, program: string): string | undefined {
  return searchPath
    .split(':')
    .filter((folder) => folder.startsWith('/'))
    .map((folder) => path.join(folder, program))
    .find((file) => existsSync(file));
}

/** The one child process of this layer: it knows containers in places of their own, those of other users for instance. */
async function pidFromLxcInfo(program: string, name: string): Promise<number | 'stopped' | undefined> {
  const { execFile } = await import('node:child_process');
  return new Promise((resolve) => {
    execFile(program, ['-n', name, '-p', '-H'], { timeout: 10_000 }, (error, stdout) => {
      const pid = Number(stdout.trim());
      if (error) resolve(undefined);
      else resolve(Number.isSafeInteger(pid) && pid > 0 ? pid : 'stopped');
    });
  });
}
