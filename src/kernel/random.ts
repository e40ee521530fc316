/** Random bytes from the kernel, random(4). node:crypto has them too, and takes 9 ms to load. */
import { closeSync, openSync, readSync } from 'node:fs';

/** Read ahead; each byte is given out once. */
let pool: Buffer = Buffer.alloc(0);

/** @param count at most 256 */
export function randomBytes(count: number): Buffer {
  if (pool.length < count) pool = readPool();
  const bytes = pool.subarray(0, count);
  pool = pool.subarray(count);
  return bytes;
}

function readPool(): Buffer {
  const bytes = Buffer.alloc(256);
  const fd = openSync('/dev/urandom', 'r');
  try {
    // Never cut short, up to 256 bytes.
    readSync(fd, bytes);
    return bytes;
  } finally {
    closeSync(fd);
  }
}
