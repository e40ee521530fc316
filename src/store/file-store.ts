/** A store of small JSON files in a directory: written whole or not at all, readable by people. */
import { createHash } from 'node:crypto';
import {
  existsSync,
  type FSWatcher,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  watch,
} from 'node:fs';
import { startTimeOf } from '../containers/proc.ts';
import { PipewrightError } from '../errors.ts';
import { acquireLock, type Lock } from '../kernel/lock.ts';
import { FileCache } from './file-cache.ts';
import type { Store, Stored } from './store.ts';
import { writeAtomically } from './write.ts';

/** The format of the files; another number means another program wrote them. */
const format = 1;

/** What the name of a damaged file ends with. */
const setAsideAs = '.damaged';

interface File<T> {
  readonly format: number;
  readonly value: T;
}

/** Keys become paths below `root`; their names are percent-encoded, so any text can be one. */
export class FileStore implements Store {
  readonly #root: string;
  /** By prefix: what was last listed there. */
  readonly #listed = new Map<string, FileCache<Stored<unknown>>>();
  /** By key: writes that failed, until one succeeds. That the old file can be read is no cure. */
  readonly #unwritten = new Map<string, string>();

  constructor(root: string) {
    this.#root = root;
    mkdirSync(root, { recursive: true, mode: 0o755 });
  }

  /** Takes away what a process that was killed in the middle of a write has left. */
  sweep(): void {
    for (const name of readdirSync(this.#root, { recursive: true, encoding: 'utf8' })) {
      const [, pid] = /\.json\.(\d+)$/.exec(name) ?? [];
      const path = `${this.#root}/${name}`;
      if (pid !== undefined && isLeft(path, Number(pid))) rmSync(path, { force: true });
    }
  }

  async read<T>(key: string): Promise<Stored<T> | undefined> {
    return this.#read<T>(key);
  }

  #read<T>(key: string): Stored<T> | undefined {
    const path = this.#pathOf(key);
    let text: string;
    try {
      text = readFileSync(path, 'utf8');
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
      throw storeError('read', path, error);
    }
    const file = parse<T>(text);
    if (!file) return setAside(path);
    return { key, value: file.value, version: versionOf(text) };
  }

  async compareAndSet<T>(key: string, value: T | undefined, version: string | undefined): Promise<boolean> {
    const path = this.#pathOf(key);
    // Commands write beside the agent. Under the lock nothing is awaited: read and write are one step.
    using _lock = await this.#lock(path);
    if (this.#read(key)?.version !== version) return false;
    try {
      if (value === undefined) rmSync(path, { force: true });
      else {
        mkdirSync(path.slice(0, path.lastIndexOf('/')), { recursive: true, mode: 0o755 });
        writeAtomically(path, { format, value } satisfies File<T>);
      }
    } catch (error) {
      const failure = storeError('write', path, error);
      this.#unwritten.set(key, failure.message);
      throw failure;
    }
    this.#unwritten.delete(key);
    return true;
  }

  async #lock(path: string): Promise<Lock> {
    try {
      // Somebody may have taken the directory away meanwhile: it is a directory that is locked, and not a file that is made there.
      mkdirSync(this.#root, { recursive: true, mode: 0o755 });
      return await acquireLock(this.#root);
    } catch (error) {
      throw error instanceof PipewrightError ? error : storeError('write', path, error);
    }
  }

  async list<T>(prefix: string): Promise<readonly Stored<T>[]> {
    let names: string[];
    try {
      names = readdirSync(this.#pathOf(prefix).replace(/\.json$/, ''));
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return [];
      throw storeError('list', prefix, error);
    }
    const keys = new Map(
      names
        .filter((name) => name.endsWith('.json'))
        .sort()
        .map((name) => `${prefix}/${decodeURIComponent(name.slice(0, -'.json'.length))}`)
        .map((key) => [this.#pathOf(key), key]),
    );
    const cache = this.#listed.get(prefix) ?? new FileCache();
    this.#listed.set(prefix, cache);
    const found = cache.all([...keys.keys()], (path) => this.#read(keys.get(path) ?? ''));
    return found.map(({ value }) => value as Stored<T>);
  }

  watch(prefix: string, onWake: () => void): Disposable {
    const folder = this.#pathOf(prefix).replace(/\.json$/, '');
    mkdirSync(folder, { recursive: true, mode: 0o755 });
    const watcher: FSWatcher = watch(folder, { persistent: false }, onWake);
    return { [Symbol.dispose]: () => watcher.close() };
  }

  isDamaged(key: string): boolean {
    return existsSync(`${this.#pathOf(key)}${setAsideAs}`);
  }

  problems(): readonly string[] {
    const damaged = readdirSync(this.#root, { recursive: true, encoding: 'utf8' })
      .filter((name) => name.endsWith(setAsideAs))
      .sort()
      .map((name) => `${this.#root}/${name}`)
      .map((path) => `${path.slice(0, -setAsideAs.length)} was not readable: look at ${path}, and delete it`);
    return [...damaged, ...this.#unwritten.values()];
  }

  #pathOf(key: string): string {
    return `${this.#root}/${key.split('/').map(fileNameOf).join('/')}.json`;
  }
}

/** A write takes a moment: what is older is left over, although another process has that pid by now. */
const longestWriteMs = 60_000;

function isLeft(path: string, pid: number): boolean {
  const { mtimeMs } = statSync(path, { throwIfNoEntry: false }) ?? {};
  return startTimeOf(pid) === undefined || (mtimeMs ?? 0) < Date.now() - longestWriteMs;
}

/** A file that was cut off must not stop everything else; it is kept until somebody has looked at it. */
function setAside(path: string): undefined {
  try {
    renameSync(path, `${path}${setAsideAs}`);
  } catch (error) {
    throw storeError('read', path, error);
  }
}

/** Any text as the name of a file; `..` is not to lead anywhere. */
function fileNameOf(text: string): string {
  return encodeURIComponent(text).replace(/^\.+$/, (dots) => '%2E'.repeat(dots.length));
}

function parse<T>(text: string): File<T> | undefined {
  try {
    const file = JSON.parse(text) as Partial<File<T>> | null;
    return file?.format === format && file.value !== undefined ? (file as File<T>) : undefined;
  } catch {
    return undefined;
  }
}

function versionOf(text: string): string {
  return createHash('sha256').update(text).digest('hex').slice(0, 16);
}

function storeError(op: string, path: string, cause: unknown): PipewrightError {
  const { code, message } = cause as NodeJS.ErrnoException;
  const hint = code === 'ENOSPC' ? 'the disk is full; what was there before is unchanged' : undefined;
  return new PipewrightError('STATE_UNREADABLE', {
    op: `state.${op}`,
    subject: path,
    errno: code,
    detail: message,
    hint,
    cause,
  });
}
