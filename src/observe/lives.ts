/** Whether the container of a note is still the one that the note speaks of. */
import { statSync } from 'node:fs';
import { startTimeOf } from '../containers/proc.ts';
import type { AttachmentRecord } from '../model/observed.ts';

/** The number of a namespace can be used again, as a pid can: only both together are the same. */
export function lives({ pid, startTime, netnsPath, netnsInode }: AttachmentRecord['container']): boolean {
  if (pid !== undefined && startTimeOf(pid) !== startTime) return false;
  return statSync(netnsPath, { throwIfNoEntry: false })?.ino === netnsInode;
}
