/** Keeps the agent small: it runs for months beside what matters more, and is busy for moments. */
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';

/** Bytes of garbage that are worth a collection. */
const worthwhile = 4 * 2 ** 20;
/** Milliseconds without a round until the agent counts as being at rest. */
const restMs = 1000;

/**
 * V8 lets garbage grow to a multiple of what is alive, as a program that is always busy would have it. Here the young
 * generation stays at 1 MB and the old one grows by a fifth; what a burst of work has left goes when it is over.
 */
export class SmallHeap {
  readonly #collect: () => void;
  #timer: NodeJS.Timeout | undefined;
  #afterLast = 0;

  constructor() {
    for (const flag of ['--semi-space-growth-factor=1', '--heap-growing-percent=20', '--expose-gc'])
      setFlagsFromString(flag);
    this.#collect = runInNewContext('gc') as () => void;
  }

  /** To be called after each piece of work. */
  worked(): void {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#rest(), restMs);
    this.#timer.unref();
  }

  #rest(): void {
    if (process.memoryUsage().heapUsed - this.#afterLast < worthwhile) return;
    this.#collect();
    this.#afterLast = process.memoryUsage().heapUsed;
  }
}
