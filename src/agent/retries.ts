/** Rounds that are due later on: what failed is tried again. */

/** One timer for each thing; the last word about it counts. They do not keep the process running. */
export class Retries {
  readonly #timers = new Map<string, NodeJS.Timeout>();

  /** Does it in so many milliseconds, in place of what was to be done about this thing. */
  after(key: string, ms: number, act: () => void): void {
    clearTimeout(this.#timers.get(key));
    const timer = setTimeout(() => {
      this.#timers.delete(key);
      act();
    }, ms);
    timer.unref();
    this.#timers.set(key, timer);
  }

  close(): void {
    for (const timer of this.#timers.values()) clearTimeout(timer);
    this.#timers.clear();
  }
}
