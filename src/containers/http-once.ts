/**
 * One GET over a unix socket by plain blocking calls. An engine answers in less than a millisecond, and in a process that
 * asks once this takes 1 ms, where node:net takes 8: 4 to load, 4 to warm up.
 */
import { closeSync, readSync, writeSync } from 'node:fs';
import { PipewrightError } from '../errors.ts';
import { syscalls } from '../kernel/syscalls.ts';
import { type HttpResponse, ResponseParser, requestFor, WireError } from './http-parser.ts';

const AF_UNIX = 1;
const SOCK_STREAM_CLOEXEC = 1 | 0o2000000;
const SOL_SOCKET = 1;
const SO_RCVTIMEO = 20;
const SO_SNDTIMEO = 21;
/** Length of sun_path with its zero at the end, unix(7). */
const maxPathBytes = 108;

/**
 * The whole answer; undefined when it is not there within about `patienceMs`, for which the whole process stands still,
 * or a signal interrupts.
 * Throws WireError with the errno name of what failed.
 */
export function getOnce(socketPath: string, path: string, patienceMs: number): HttpResponse | undefined {
  try {
    const fd = connect(socketPath, patienceMs);
    try {
      writeSync(fd, requestFor(path, false));
      return receive(fd, Date.now() + patienceMs);
    } finally {
      closeSync(fd);
    }
  } catch (error) {
    const errno = errnoOf(error);
    // A time limit of the socket ran out; or a signal came, whose handler must get its turn.
    if (errno === 'EAGAIN' || errno === 'EINTR') return undefined;
    if (errno === undefined) throw error;
    throw new WireError(errno, error instanceof Error ? error.message : errno);
  }
}

function connect(socketPath: string, patienceMs: number): number {
  const sys = syscalls();
  const place = Buffer.from(socketPath);
  if (place.length >= maxPathBytes) throw new WireError('ENAMETOOLONG', 'the path of the socket is too long');
  const address = Buffer.alloc(2 + maxPathBytes); // struct sockaddr_un
  address.writeUInt16LE(AF_UNIX, 0);
  place.copy(address, 2);
  const fd = sys.socket(AF_UNIX, SOCK_STREAM_CLOEXEC, 0, socketPath);
  try {
    const timeval = Buffer.alloc(16);
    timeval.writeBigInt64LE(BigInt(Math.floor(patienceMs / 1000)), 0);
    timeval.writeBigInt64LE(BigInt((patienceMs % 1000) * 1000), 8);
    // The second is for connect() too, which waits when the server does not take its connections.
    sys.setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, timeval, socketPath);
    sys.setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, timeval, socketPath);
    sys.connect(fd, address, socketPath);
    return fd;
  } catch (error) {
    closeSync(fd);
    throw error;
  }
}

function receive(fd: number, deadline: number): HttpResponse | undefined {
  const parser = new ResponseParser();
  const body: Buffer[] = [];
  while (!parser.done) {
    const piece = Buffer.allocUnsafe(16_384);
    const bytes = readSync(fd, piece);
    if (bytes === 0) parser.close();
    else body.push(...parser.push(piece.subarray(0, bytes)));
    if (!parser.done && Date.now() > deadline) return undefined;
  }
  return { status: parser.status, body: Buffer.concat(body).toString() };
}

function errnoOf(error: unknown): string | undefined {
  if (error instanceof PipewrightError) return error.errno;
  return error instanceof Error && 'code' in error ? String(error.code) : undefined;
}
