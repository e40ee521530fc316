/** What files hold, read again only when they are others: at each look all are asked for, and few have changed. */
import { type Stats, statSync } from 'node:fs';

interface Known<T> {
  readonly stats: Stats;
  readonly value: T;
}

/**
 * Of one folder. A file counts as the same one by inode, size and times: files that are put in the place of the former
 * ones differ in all of these. What is given out is shared: not to be changed.
 */
export class FileCache<T> {
  #known = new Map<string, Known<T>>();

  /**
   * What these files hold, those that are there; all others are forgotten.
   * @param read gives undefined when there is no such file
   */
  all(
    paths: readonly string[],
    read: (path: string) => T | undefined,
  ): { readonly path: string; readonly value: T }[] {
    const next = new Map<string, Known<T>>();
    for (const path of paths) {
      const found = this.#look(path, read);
      if (found) next.set(path, found);
    }
    this.#known = next;
    return [...next].map(([path, { value }]) => ({ path, value }));
  }

  #look(path: string, read: (path: string) => T | undefined): Known<T> | undefined {
    // Before it is read: what is put in its place in between is seen the next time.
    const stats = statSync(path, { throwIfNoEntry: false });
    if (!stats) return undefined;
    const known = this.#known.get(path);
    if (known && isSame(known.stats, stats)) return known;
    const value = read(path);
    return value === undefined ? undefined : { stats, value };
  }
}

function isSame(a: Stats, b: Stats): boolean {
  return a.ino === b.ino && a.size === b.size && a.mtimeMs === b.mtimeMs && a.ctimeMs === b.ctimeMs;
}
