/** When a burst of events is worth a look at everything: soon, but never so often that looking is all that is done. */

/** Milliseconds that events are collected before a round looks at everything; a human's change is put right well below 1 s. */
const settleMs = 100;
/** How much longer than the last round took the agent rests after it, and the longest rest in milliseconds. */
const restRatio = 4;
const longestRestMs = 2000;

/** How long the last round about everything took, and when it ended. */
export class Rest {
  readonly #now: () => number;
  #began: number | undefined;
  #until = 0;

  /** @param now milliseconds of a clock that never goes back */
  constructor(now: () => number = () => performance.now()) {
    this.#now = now;
  }

  /** A round begins. */
  begin(): void {
    this.#began = this.#now();
  }

  /** It is over. */
  end(): void {
    const now = this.#now();
    const tookMs = now - (this.#began ?? now);
    this.#began = undefined;
    this.#until = now + Math.min(longestRestMs, restRatio * tookMs);
  }

  /** Milliseconds until it is time for the next one, as far as is known. */
  leftMs(): number {
    return this.#began === undefined ? Math.max(0, this.#until - this.#now()) : settleMs;
  }
}

/**
 * One call for a burst of events, on a quiet host {@link settleMs} after its first one. Where links come and go all the
 * time, rounds about everything take a fifth of the time, and only those of more than half a second more.
 */
export function settle(wake: () => void, rest: Rest, signal: AbortSignal): () => void {
  let timer: NodeJS.Timeout | undefined;
  const after = (ms: number): void => {
    timer = setTimeout(() => {
      timer = undefined;
      if (signal.aborted) return;
      const leftMs = Math.ceil(rest.leftMs());
      if (leftMs > 0) after(leftMs);
      else wake();
    }, ms);
  };
  return () => {
    if (!timer && !signal.aborted) after(settleMs);
  };
}
