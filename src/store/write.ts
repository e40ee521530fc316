/** Writing a file so that readers see the old one or the new one, never a part. */
import { closeSync, fsyncSync, openSync, renameSync, rmSync, writeSync } from 'node:fs';

/** Write, fsync, rename. When the disk is full, the old file is as it was and no part of the new one is left. */
export function writeAtomically(path: string, value: unknown): void {
  const temporary = `${path}.${process.pid}`;
  try {
    const fd = openSync(temporary, 'w', 0o644);
    try {
      const bytes = Buffer.from(`${JSON.stringify(value)}\n`);
      for (let at = 0; at < bytes.length; ) at += writeSync(fd, bytes, at);
      fsyncSync(fd);
    } finally {
      closeSync(fd);
    }
    renameSync(temporary, path);
  } catch (error) {
    rmSync(temporary, { force: true });
    throw error;
  }
}
