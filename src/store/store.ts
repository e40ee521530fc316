/** What has to outlive a reboot, behind an interface small enough for a distributed store to take its place. */

/** A value and the version that it had when it was read. */
export interface Stored<T> {
  readonly key: string;
  readonly value: T;
  /** Opaque; another one after each change. */
  readonly version: string;
}

/** Keys are paths of plain names, `attachments/web-eth1`; values are JSON. */
export interface Store {
  /** Undefined when there is no such key. */
  read<T>(key: string): Promise<Stored<T> | undefined>;
  /**
   * Writes `value` if the key still has this version (undefined: if there is none); undefined as value removes the key.
   * @returns whether it was written
   */
  compareAndSet<T>(key: string, value: T | undefined, version: string | undefined): Promise<boolean>;
  /** Everything below a prefix, by key. */
  list<T>(prefix: string): Promise<readonly Stored<T>[]>;
  /** Calls `onWake` when something below the prefix may have changed. It says no more than that: read again. */
  watch(prefix: string, onWake: () => void): Disposable;
  /** Whether there was a value of this key that could not be read, and nobody has looked after it yet. */
  isDamaged(key: string): boolean;
  /** What could not be read or written, for `status`; empty when all is well. */
  problems(): readonly string[];
}
