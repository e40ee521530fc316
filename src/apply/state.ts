/** The state directory of one host: lock, journals, and what is noted of each attachment. All below /run. */
import { mkdirSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { PipewrightError } from '../errors.ts';
import type { AttachmentRecord } from '../model/observed.ts';
import type { Operation } from '../model/operation.ts';
import { writeAtomically } from '../store/write.ts';

/** A host's files are told apart by its network namespace: several hosts can share one /run. */
const root = '/run/pipewright';

/** What a transaction writes down before its first step: how to take all of it back, whoever does. */
export interface Journal {
  readonly version: 1;
  /** The process that is at work; the journal is nobody's when it is gone. */
  readonly pid: number;
  readonly startTime: string;
  /** The container's namespace, checked by inode before anything is undone there. */
  readonly guest:
    | { readonly netnsPath: string; readonly netnsInode: number; readonly label: string }
    | undefined;
  /** In the order in which they are to be run. */
  readonly undo: readonly Operation[];
  /** The note of the attachment as it was before. */
  readonly note:
    | { readonly containerKey: string; readonly ifname: string; readonly was: AttachmentRecord | undefined }
    | undefined;
}

/** Paths and files of one host, by the inode of its network namespace. */
export class StateDir {
  readonly path: string;

  constructor(hostInode: number) {
    this.path = `${root}/net-${hostInode}`;
    mkdirSync(`${this.path}/journal`, { recursive: true, mode: 0o755 });
    mkdirSync(`${this.path}/attachments`, { recursive: true, mode: 0o755 });
  }

  get lockPath(): string {
    return `${this.path}/lock`;
  }

  /** Writes a journal and returns its path. On a tmpfs this is no disk access. */
  writeJournal(journal: Journal, transaction: number): string {
    const file = `${this.path}/journal/${journal.pid}-${transaction.toString(16)}.json`;
    writeAtomically(file, journal);
    return file;
  }

  rewriteJournal(path: string, journal: Journal): void {
    writeAtomically(path, journal);
  }

  /** Every journal with its path. */
  journals(): { path: string; value: Journal }[] {
    return this.#read<Journal>('journal');
  }

  removeFile(path: string): void {
    rmSync(path, { force: true });
  }

  #recordPath(containerKey: string, ifname: string): string {
    return `${this.path}/attachments/${encodeURIComponent(containerKey)}-${encodeURIComponent(ifname)}.json`;
  }

  /** @param containerKey `docker-0123456789ab`, see {@link containerKey} */
  record(containerKey: string, ifname: string): AttachmentRecord | undefined {
    const path = this.#recordPath(containerKey, ifname);
    try {
      return JSON.parse(readFileSync(path, 'utf8')) as AttachmentRecord;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
      throw unreadable(path, error);
    }
  }

  writeRecord(containerKey: string, record: AttachmentRecord): void {
    writeAtomically(this.#recordPath(containerKey, record.ifname), record);
  }

  removeRecord(containerKey: string, ifname: string): void {
    rmSync(this.#recordPath(containerKey, ifname), { force: true });
  }

  /** A few of the notes, other ones each time, so that all are looked at sooner or later and no command reads them all. */
  someRecords(most: number): AttachmentRecord[] {
    const names = readdirSync(`${this.path}/attachments`);
    const first = Math.floor(Math.random() * names.length);
    return this.#read<AttachmentRecord>(
      'attachments',
      [...names.slice(first), ...names.slice(0, first)].slice(0, most),
    ).map(({ value }) => value);
  }

  records(): AttachmentRecord[] {
    return this.#read<AttachmentRecord>('attachments').map(({ value }) => value);
  }

  #read<T>(folder: string, names = readdirSync(`${this.path}/${folder}`)): { path: string; value: T }[] {
    return names
      .filter((name) => name.endsWith('.json'))
      .sort()
      .flatMap((name) => {
        const path = `${this.path}/${folder}/${name}`;
        try {
          return [{ path, value: JSON.parse(readFileSync(path, 'utf8')) as T }];
        } catch (error) {
          if ((error as NodeJS.ErrnoException).code === 'ENOENT') return [];
          throw unreadable(path, error);
        }
      });
  }
}

/** The part of a record's file name that stands for its container. */
export function containerKey(container: { readonly runtime: string; readonly id: string }): string {
  const { runtime, id } = container;
  return `${runtime}-${/^[0-9a-f]{64}$/.test(id) ? id.slice(0, 12) : id}`;
}

function unreadable(path: string, cause: unknown): PipewrightError {
  return new PipewrightError('STATE_UNREADABLE', {
    op: 'state.read',
    subject: path,
    detail: cause instanceof Error ? cause.message : String(cause),
    hint: `look at it; move it away if it is damaged: mv ${path} ${path}.bad`,
    cause,
  });
}
