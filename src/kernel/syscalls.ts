/**
 * The system calls that Node has no function for, and the only file that knows how they are made (koffi).
 * Behind an interface, so that an addon of our own or node:ffi can take its place.
 * A wrong signature here is corrupted memory, not an exception: nothing but these few lines may know koffi.
 */
import { closeSync, existsSync, openSync, readSync } from 'node:fs';
import { createRequire } from 'node:module';
import path from 'node:path';
import type { KoffiFunc, LibraryHandle } from 'koffi';
import { refused } from './errno.ts';

/** Each call throws a PipewrightError; `subject` is what the error is about (`web`, `eth1 in web`). */
export interface Syscalls {
  /** socket(2): the new file descriptor. */
  socket(domain: number, type: number, protocol: number, subject: string): number;
  /** bind(2). */
  bind(fd: number, address: Uint8Array, subject: string): void;
  /** connect(2). */
  connect(fd: number, address: Uint8Array, subject: string): void;
  /** setsockopt(2). */
  setsockopt(fd: number, level: number, option: number, value: Uint8Array, subject: string): void;
  /** SO_ATTACH_FILTER: only what the program of classic BPF lets through is received; `program` is struct sock_filter[]. */
  attachFilter(fd: number, program: Uint8Array, subject: string): void;
  /** setns(2), which moves the calling thread only. */
  setns(fd: number, nstype: number, subject: string): void;
  /** socketpair(2). */
  socketpair(domain: number, type: number, protocol: number, subject: string): [number, number];
  /** dup3(2). */
  dup3(oldFd: number, newFd: number, flags: number, subject: string): void;
  /** flock(2): `operation` is LOCK_SH 1, LOCK_EX 2 or LOCK_UN 8, with LOCK_NB 4 to get EAGAIN instead of waiting. */
  flock(fd: number, operation: number, subject: string): void;
  /** io_uring_setup(2): the ring's file descriptor. `params` is a struct io_uring_params, 120 bytes. */
  ioUringSetup(entries: number, params: Uint8Array, subject: string): number;
  /** io_uring_register(2). `args` are `count` things of what `opcode` wants. */
  ioUringRegister(ring: number, opcode: number, args: Uint8Array, count: number, subject: string): void;
}

const signatures = {
  socket: 'int socket(int, int, int)',
  bind: 'int bind(int, const uint8_t *, uint32_t)',
  connect: 'int connect(int, const uint8_t *, uint32_t)',
  setsockopt: 'int setsockopt(int, int, int, const uint8_t *, uint32_t)',
  attach_filter: 'int setsockopt(int, int, int, const sock_fprog *, uint32_t)',
  setns: 'int setns(int, int)',
  socketpair: 'int socketpair(int, int, int, _Out_ int *)',
  dup3: 'int dup3(int, int, int)',
  flock: 'int flock(int, int)',
  // These two have no function in the C library.
  io_uring_setup: 'int syscall(long, uint32_t, uint8_t *)',
  io_uring_register: 'int syscall(long, int, uint32_t, const uint8_t *, uint32_t)',
} as const;

/** <linux/filter.h>: struct sock_fprog and the size of struct sock_filter; the same on 64-bit machines. */
const filterProgram = { len: 'uint16_t', filter: 'const uint8_t *' } as const;
const filterProgramSize = 16;
const filterSize = 8;
const SOL_SOCKET = 1;
const SO_ATTACH_FILTER = 26;

/** The same on every architecture but alpha: <asm-generic/unistd.h>, v5.1. */
const NR_IO_URING_SETUP = 425;
const NR_IO_URING_REGISTER = 427;

type Koffi = typeof import('koffi');

/** Whether this Node runs on musl, by the dynamic linker that its own executable names. */
function onMusl(): boolean {
  // PT_INTERP lies within the first page of the file.
  const head = Buffer.alloc(4096);
  const fd = openSync(process.execPath, 'r');
  try {
    readSync(fd, head, 0, head.length, 0);
  } finally {
    closeSync(fd);
  }
  return head.includes('/ld-musl-');
}

/**
 * koffi's binary itself. Its JavaScript (three files that look for the right binary and wrap it in deprecated
 * functions) takes 15 ms to load, the binary 2 ms, one of them Node's way of finding it. Where it is not at its usual place
 * koffi may look for it.
 */
function loadKoffi(): Koffi {
  // The released bundle is CommonJS and has __filename; run as a module (tests), only the script's path is known.
  const from = typeof __filename === 'string' ? __filename : (process.argv[1] ?? process.cwd());
  try {
    const libc = onMusl() ? 'musl' : 'linux';
    const binary = `@koromix/koffi-linux-${process.arch}/${libc}_${process.arch}/koffi.node`;
    const loaded = { exports: {} };
    process.dlopen(loaded, nearest(from, binary));
    return loaded.exports as Koffi;
  } catch {
    return createRequire(from)('koffi');
  }
}

/** The file in the first `node_modules` on the way up that has it. */
function nearest(from: string, file: string): string {
  for (let folder = path.dirname(from); ; folder = path.dirname(folder)) {
    const place = path.join(folder, 'node_modules', file);
    if (existsSync(place) || folder === '/') return place;
  }
}

/** The calls through koffi, each bound at its first use. */
class KoffiSyscalls implements Syscalls {
  readonly #koffi = loadKoffi();
  // The running process, whose C library has them all: right for glibc and musl alike.
  readonly #process: LibraryHandle = this.#koffi.load(null);
  readonly #bound = new Map<keyof typeof signatures, KoffiFunc<(...args: readonly unknown[]) => number>>();

  #call(name: keyof typeof signatures, subject: string, ...args: readonly unknown[]): number {
    let bound = this.#bound.get(name);
    if (bound === undefined) {
      if (name === 'attach_filter') this.#koffi.struct('sock_fprog', filterProgram);
      bound = this.#process.func(signatures[name]);
      this.#bound.set(name, bound);
    }
    const result: number = bound(...args);
    if (result < 0) throw refused(this.#koffi.errno(), { op: name, subject });
    return result;
  }

  socket(domain: number, type: number, protocol: number, subject: string): number {
    return this.#call('socket', subject, domain, type, protocol);
  }

  bind(fd: number, address: Uint8Array, subject: string): void {
    this.#call('bind', subject, fd, address, address.length);
  }

  connect(fd: number, address: Uint8Array, subject: string): void {
    this.#call('connect', subject, fd, address, address.length);
  }

  setsockopt(fd: number, level: number, option: number, value: Uint8Array, subject: string): void {
    this.#call('setsockopt', subject, fd, level, option, value, value.length);
  }

  attachFilter(fd: number, program: Uint8Array, subject: string): void {
    const fprog = { len: program.length / filterSize, filter: program };
    this.#call('attach_filter', subject, fd, SOL_SOCKET, SO_ATTACH_FILTER, fprog, filterProgramSize);
  }

  setns(fd: number, nstype: number, subject: string): void {
    this.#call('setns', subject, fd, nstype);
  }

  socketpair(domain: number, type: number, protocol: number, subject: string): [number, number] {
    const pair: [number, number] = [-1, -1];
    this.#call('socketpair', subject, domain, type, protocol, pair);
    return pair;
  }

  dup3(oldFd: number, newFd: number, flags: number, subject: string): void {
    this.#call('dup3', subject, oldFd, newFd, flags);
  }

  flock(fd: number, operation: number, subject: string): void {
    this.#call('flock', subject, fd, operation);
  }

  ioUringSetup(entries: number, params: Uint8Array, subject: string): number {
    return this.#call('io_uring_setup', subject, NR_IO_URING_SETUP, entries, params);
  }

  ioUringRegister(ring: number, opcode: number, args: Uint8Array, count: number, subject: string): void {
    this.#call('io_uring_register', subject, NR_IO_URING_REGISTER, ring, opcode, args, count);
  }
}

let loaded: Syscalls | undefined;

/** The system calls; koffi is loaded when they are first asked for, which takes about 3 ms. */
export function syscalls(): Syscalls {
  loaded ??= new KoffiSyscalls();
  return loaded;
}
