/** One container can be named in several ways; its notes are kept under one. */
import { statSync } from 'node:fs';
import type { Container } from '../containers/container.ts';
import type { AttachmentRecord } from '../model/observed.ts';
import { lives } from './lives.ts';

/** The notes of what is in the container's namespace now, whatever it was called when they were made. */
export function recordsIn(container: Container, records: readonly AttachmentRecord[]): AttachmentRecord[] {
  const inode = statSync(container.netnsPath, { throwIfNoEntry: false })?.ino;
  return records.filter((record) => record.container.netnsInode === inode && lives(record.container));
}

/** The container by the name of its notes: `pid:4711` may be Docker's web. */
export function asNoted(
  container: Container,
  records: readonly AttachmentRecord[],
  ifname: string,
): Container {
  const known = recordsIn(container, records);
  const noted = known.find((record) => record.ifname === ifname) ?? known[0];
  return noted ? containerOf(noted) : container;
}

/** The container that a note speaks of. */
export function containerOf({ container }: AttachmentRecord): Container {
  return { ...container, runtime: container.runtime as Container['runtime'] };
}
