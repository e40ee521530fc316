/** Sockets that node:net does not know (netlink, packet), read by Node's event loop all the same. */
import { closeSync } from 'node:fs';
import { Socket } from 'node:net';
import { syscalls } from './syscalls.ts';

const AF_UNIX = 1;
const SOCK_STREAM_NONBLOCK_CLOEXEC = 1 | 0o4000 | 0o2000000;
const O_CLOEXEC = 0o2000000;

/**
 * Calls `onData` with each datagram that arrives; one that is longer than `bufferBytes` is cut off by the kernel. The
 * bytes are overwritten by the next one. The caller's descriptor stays the caller's to close, and is to be non-blocking:
 * what is read is a duplicate of it, closed by destroy().
 *
 * `net.Socket` takes no such socket, only sees what a descriptor is when it is made, and reads one just as well: so it is
 * given a unix socket, whose descriptor then becomes the other one. In one tick, so that the loop never polls the first.
 * (Reading by node:fs would hold a thread of the pool and hang process.exit().)
 */
export function readInLoop(
  fd: number,
  onData: (bytes: Buffer) => void,
  { subject, bufferBytes = 4096 }: { readonly subject: string; readonly bufferBytes?: number },
): Socket {
  const sys = syscalls();
  const [kept, other] = sys.socketpair(AF_UNIX, SOCK_STREAM_NONBLOCK_CLOEXEC, 0, subject);
  const buffer = Buffer.alloc(bufferBytes);
  const callback = (length: number): boolean => {
    onData(buffer.subarray(0, length));
    return true;
  };
  const options = { fd: kept, readable: true, writable: false, onread: { buffer, callback } };
  const socket = new Socket(options);
  sys.dup3(fd, kept, O_CLOEXEC, subject);
  closeSync(other);
  return socket;
}
