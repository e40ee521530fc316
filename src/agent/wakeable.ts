/** Events only wake: one round at a time, and any number of wake-ups during it become one more. */

/** What a round is about: everything, or some containers by id. */
export type Scope = 'all' | ReadonlySet<string>;

/** Containers that were asked about since, to be served in the midst of a round about everything. */
export type TakeUrgent = () => ReadonlySet<string> | undefined;

/** Collects wake-ups into rounds. */
export class Wakeable {
  readonly #round: (scope: Scope, urgent: TakeUrgent) => Promise<void>;
  #all = false;
  #some = new Set<string>();
  #running: Promise<void> | undefined;
  #closed = false;

  /** @param round reports its own failures: what it throws ends the process */
  constructor(round: (scope: Scope, urgent: TakeUrgent) => Promise<void>) {
    this.#round = round;
  }

  /** Asks for a round about everything, or about one container. */
  wake(container?: string): void {
    if (container === undefined) this.#all = true;
    else this.#some.add(container);
    if (!this.#closed) this.#running ??= this.#run();
  }

  /** Resolves when no round is under way and none is asked for. */
  async idle(): Promise<void> {
    await this.#running;
  }

  /** No further rounds; resolves when the one under way is over. */
  async close(): Promise<void> {
    this.#closed = true;
    await this.#running;
  }

  #takeSome(): ReadonlySet<string> | undefined {
    if (this.#some.size === 0) return undefined;
    const some = this.#some;
    this.#some = new Set();
    return some;
  }

  async #run(): Promise<void> {
    try {
      while (!this.#closed && (this.#all || this.#some.size > 0)) {
        // A container that starts is served before everything else is looked at.
        const some = this.#takeSome();
        if (!some) this.#all = false;
        await this.#round(some ?? 'all', () => this.#takeSome());
      }
    } finally {
      this.#running = undefined;
    }
  }
}
