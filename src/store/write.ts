/** Writing a file so that readers see the old one or the new one, never a part. */
import { closeSync, fsyncSync, openSync, renameSync, rmSync, writeSync } from 'node:fs';

/**
 * Write, fsync, rename. When the disk is full, the old file is as it was and no part of the new one is left.
 * @param lasting false for what need not outlive a crash of the machine: then without the fsync, which on a disk takes
 * a millisecond or more. After such a crash the file can be empty.
 * @param temporary where it is written first, on the same file system; what is left there was cut off by a SIGKILL
 */
export function writeAtomically(
  path: string,
  value: unknown,
  { lasting = true, temporary = `${path}.${process.pid}` } = {},
): void {
  try {
    const fd = openSync(temporary, 'w', 0o644);
    try {
      const bytes = Buffer.from(`${JSON.stringify(value)}\n`);
      for (let at = 0; at < bytes.length; ) at += writeSync(fd, bytes, at);
      if (lasting) fsyncSync(fd);
    } finally {
      closeSync(fd);
    }
    renameSync(temporary, path);
  } catch (error) {
    rmSync(temporary, { force: true });
    throw error;
  }
}
