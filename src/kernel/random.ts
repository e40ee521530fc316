/** Random bytes from the kernel, random(4). node:crypto has them too, and takes 9 ms to load. */
import { closeSync, openSync, readSync } from 'node:fs';

export function randomBytes(count: number): Buffer {
  const bytes = Buffer.alloc(count);
  const fd = openSync('/dev/urandom', 'r');
  try {
    readSync(fd, bytes);
    return bytes;
  } finally {
    closeSync(fd);
  }
}
