/**
 * The process of a container that has just started, as containerd notes it: an engine takes a millisecond or more to say
 * the same. Where these notes are is learned from a container whose process is known.
 */
import { readFileSync, readlinkSync } from 'node:fs';
import path from 'node:path';
import { statOf } from './proc.ts';

/** A first process. */
interface Process {
  readonly pid: number;
  readonly startTime: string;
}

/** The folder of an engine in which containerd has one folder for each container, `ID/init.pid` in it. */
export class Bundles {
  #folder: string | undefined;

  /** @param pid of the container's first process */
  learn(id: string, pid: number): void {
    if (this.#folder !== undefined) return;
    const bundle = bundleOf(pid);
    if (bundle !== undefined && path.basename(bundle) === id) this.#folder = path.dirname(bundle);
  }

  /** Undefined when it is not known for sure: ask the engine. */
  processOf(id: string): Process | undefined {
    if (this.#folder === undefined) return undefined;
    const bundle = path.join(this.#folder, id);
    let pid: number;
    try {
      pid = Number(readFileSync(path.join(bundle, 'init.pid'), 'utf8'));
    } catch {
      // Another engine is there now, or it keeps them elsewhere.
      this.#folder = undefined;
      return undefined;
    }
    const stat = statOf(pid);
    // A pid can be used again; the parent of the right one works in this folder.
    if (!stat || stat.state === 'Z' || stat.state === 'X' || bundleOf(pid) !== bundle) return undefined;
    return { pid, startTime: stat.startTime };
  }
}

/** containerd-shim, the parent of a container's first process, works in the container's folder. */
function bundleOf(pid: number): string | undefined {
  const stat = statOf(pid);
  if (!stat) return undefined;
  try {
    return readlinkSync(`/proc/${stat.parent}/cwd`);
  } catch {
    return undefined;
  }
}
