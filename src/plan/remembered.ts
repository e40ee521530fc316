/** What is kept of addresses that were given out, and which of them may be given to somebody else. Pure. */

/** An address of a range, as the state directory has it, by `CONTAINER/IFNAME NETWORK FAMILY`. */
export interface Remembered {
  readonly ip: string;
  /** Milliseconds since 1970; absent: it is in use, or nobody has looked since. */
  readonly unusedSince?: number;
}

/** All of them. */
export type Memory = Readonly<Record<string, Remembered>>;

/** As it is stored; earlier versions stored the address alone. */
export type StoredMemory = Readonly<Record<string, Remembered | string>>;

export function memoryOf(stored: StoredMemory = {}): Memory {
  return Object.fromEntries(
    Object.entries(stored).map(([slot, entry]) => [slot, typeof entry === 'string' ? { ip: entry } : entry]),
  );
}

const containerOf = (slot: string): string => slot.slice(0, slot.indexOf('/'));

/**
 * The addresses of containers that do not exist, not even stopped; the one that was not used for longest first. Those of
 * containers that exist are theirs, running or not.
 */
export function reclaimableOf(memory: Memory, existing: Pick<ReadonlySet<string>, 'has'>): string[] {
  const age = (slot: string): number => memory[slot]?.unusedSince ?? Number.POSITIVE_INFINITY;
  return Object.keys(memory)
    .filter((slot) => !existing.has(containerOf(slot)))
    .sort((a, b) => (age(a) === age(b) ? compare(a, b) : compare(age(a), age(b))));
}

const compare = <T>(a: T, b: T): number => (a < b ? -1 : a > b ? 1 : 0);

/**
 * The memory after addresses were given out.
 * @param used what is in use by a container that runs; undefined: this was about some containers only
 */
export function remember(
  memory: Memory,
  addresses: ReadonlyMap<string, string>,
  used: ReadonlySet<string>,
  { isComplete, now }: { readonly isComplete: boolean; readonly now: number },
): Memory {
  return Object.fromEntries(
    [...addresses].map(([slot, ip]) => {
      const before = memory[slot];
      if (used.has(slot)) return [slot, { ip }];
      const unusedSince = before?.unusedSince ?? (isComplete ? now : undefined);
      return [slot, unusedSince === undefined ? { ip } : { ip, unusedSince }];
    }),
  );
}

/** Whether there is anything to be written. */
export function isSameMemory(a: Memory, b: Memory): boolean {
  const slots = Object.keys(a);
  return (
    slots.length === Object.keys(b).length &&
    slots.every((slot) => a[slot]?.ip === b[slot]?.ip && a[slot]?.unusedSince === b[slot]?.unusedSince)
  );
}
