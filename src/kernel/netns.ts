/** Network namespaces: opened by path, entered by one synchronous function. */
import { closeSync, fstatSync, openSync, writeSync } from 'node:fs';
import { refusedByFs } from './errno.ts';
import { syscalls } from './syscalls.ts';

const CLONE_NEWNET = 0x40000000;

/** An open network namespace. It lives on while it is open, even when its last process is gone: close it. */
export class Netns implements Disposable {
  readonly fd: number;
  /** Number of the namespace, as in `readlink /proc/PID/ns/net`. A pid can be used again, this tells. */
  readonly inode: number;
  /** For error messages: `web`, `host`. */
  readonly label: string;

  private constructor(fd: number, label: string) {
    this.fd = fd;
    this.inode = fstatSync(fd).ino;
    this.label = label;
  }

  /** Opens `/proc/PID/ns/net`, `/run/netns/NAME` or the like. */
  static open(path: string, label: string): Netns {
    try {
      return new Netns(openSync(path, 'r'), label);
    } catch (error) {
      throw refusedByFs(error, { op: 'netns.open', subject: `${path} (${label})` });
    }
  }

  [Symbol.dispose](): void {
    closeSync(this.fd);
  }
}

let host: Netns | undefined;

/** The namespace this program was started in. Opened once and never closed. */
export function hostNetns(): Netns {
  // thread-self: /proc/self is the main thread, and the caller may be a Worker.
  host ??= Netns.open('/proc/thread-self/ns/net', 'host');
  return host;
}

/** What a body may return: no promise, because what follows an `await` would run in another namespace. */
export type Sync<T> = T extends PromiseLike<unknown> ? never : T;

/** Where this thread is; undefined: at home. */
let current: Netns | undefined;

function comeBack(to: Netns): void {
  try {
    syscalls().setns(to.fd, CLONE_NEWNET, to.label);
  } catch (error) {
    // Whatever ran next would configure the wrong namespace, exit handlers included.
    writeSync(2, `pipewright: cannot return to the network namespace of ${to.label}: ${String(error)}\n`);
    process.abort();
  }
}

/**
 * Runs `body` with this thread in `netns`, and comes back, also when it throws.
 *
 * The body must start nothing that ends later. Callbacks, promises and the pool of threads behind node:fs and dns run
 * in the host's namespace; and were the pool's first use in here, its threads would be born in this namespace and stay
 * in it for ever. (The pool needs no warming up for code that keeps to this: it is then always born at home.)
 */
export function inNetns<T>(netns: Netns, body: () => Sync<T>): T {
  const from = current ?? hostNetns();
  // Not even asked for when there is nowhere to go: reading the host needs no privilege.
  if (netns.inode === from.inode) return body() as T;
  syscalls().setns(netns.fd, CLONE_NEWNET, netns.label);
  current = netns;
  try {
    return body() as T;
  } finally {
    comeBack(from);
    current = from;
  }
}
