/** Unix sockets by plain blocking calls: node:net takes 8 ms to load and to warm up, and has no datagrams. */
import { closeSync } from 'node:fs';
import { PipewrightError } from '../errors.ts';
import { syscalls } from './syscalls.ts';

const AF_UNIX = 1;
const SOCK_STREAM = 1;
const SOCK_DGRAM = 2;
const SOCK_CLOEXEC = 0o2000000;
const SOL_SOCKET = 1;
const SO_RCVTIMEO = 20;
const SO_SNDTIMEO = 21;
/** Length of sun_path, unix(7); a path's zero at the end included. */
const maxPathBytes = 108;

/** How a unix socket is used. */
export interface UnixSocketOptions {
  readonly type: 'stream' | 'datagram';
  /** Milliseconds after which connecting, a read or a write fails with EAGAIN. */
  readonly timeoutMs: number;
}

/**
 * A connected socket's file descriptor, for fs.readSync and fs.writeSync; the caller closes it.
 * @param place a path, or `@NAME` for the abstract namespace
 * @throws PipewrightError with the errno: ENOENT and ECONNREFUSED where nobody listens
 */
export function connectUnix(place: string, { type, timeoutMs }: UnixSocketOptions): number {
  const sys = syscalls();
  const address = addressOf(place);
  const fd = sys.socket(AF_UNIX, (type === 'stream' ? SOCK_STREAM : SOCK_DGRAM) | SOCK_CLOEXEC, 0, place);
  try {
    setTimeouts(fd, timeoutMs, place);
    sys.connect(fd, address, place);
    return fd;
  } catch (error) {
    closeSync(fd);
    throw error;
  }
}

/** Sets the limits of {@link UnixSocketOptions.timeoutMs}; the one for writing is for connect(2) too. */
export function setTimeouts(fd: number, timeoutMs: number, subject: string): void {
  const timeval = Buffer.alloc(16);
  timeval.writeBigInt64LE(BigInt(Math.floor(timeoutMs / 1000)), 0);
  timeval.writeBigInt64LE(BigInt((timeoutMs % 1000) * 1000), 8);
  for (const option of [SO_RCVTIMEO, SO_SNDTIMEO])
    syscalls().setsockopt(fd, SOL_SOCKET, option, timeval, subject);
}

/** struct sockaddr_un. An abstract name ends with the address, a path with a zero. */
function addressOf(place: string): Uint8Array {
  const isAbstract = place.startsWith('@');
  const path = Buffer.from(isAbstract ? `\0${place.slice(1)}` : `${place}\0`);
  if (path.length > maxPathBytes) {
    throw new PipewrightError('BAD_ARGUMENT', {
      op: 'connect',
      subject: place,
      errno: 'ENAMETOOLONG',
      detail: `the path of a socket has at most ${maxPathBytes - 1} bytes`,
    });
  }
  const family = Buffer.alloc(2);
  family.writeUInt16LE(AF_UNIX);
  return Buffer.concat([family, path]);
}
