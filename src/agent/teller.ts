/** Tells what happens, to the log and to whoever listens; and the same thing once. */
import type { Ledgers } from './ledgers.ts';
import type { AgentLog } from './parts.ts';

/** Something that happened, for `GET /v1/events`. */
export interface AgentEvent {
  /** Milliseconds since 1970. */
  readonly at: number;
  readonly key: string;
  readonly what: 'made' | 'repaired' | 'failed' | 'contested' | 'removed' | 'topology' | 'lease';
  readonly detail: string;
}

const warnings: readonly AgentEvent['what'][] = ['failed', 'contested', 'topology'];

/** One voice for all parts of the agent. */
export class Teller {
  readonly #log: AgentLog;
  readonly #ledgers: Ledgers;
  readonly #listeners = new Set<(event: AgentEvent) => void>();
  #problems: ReadonlySet<string> = new Set();

  constructor(log: AgentLog, ledgers: Ledgers) {
    this.#log = log;
    this.#ledgers = ledgers;
  }

  onEvent(listener: (event: AgentEvent) => void): Disposable {
    this.#listeners.add(listener);
    return { [Symbol.dispose]: () => this.#listeners.delete(listener) };
  }

  tell(key: string, what: AgentEvent['what'], detail: string): void {
    this.#log[warnings.includes(what) ? 'warn' : 'info']({ key, what }, detail);
    const event = { at: Date.now(), key, what, detail };
    for (const listener of this.#listeners) listener(event);
  }

  /** An attachment, or a network, could not be had. The same failure again is in the status; the log has it once. */
  fail(key: string, why: string): void {
    const ledger = this.#ledgers.of(key);
    const { detail, state } = ledger.status();
    const said = detail === why && state === 'failing';
    ledger.failed(why);
    if (!said) this.tell(key, 'failed', why);
  }

  /** The log has each once; the status has them for as long as they last. */
  problems(problems: readonly string[]): void {
    for (const problem of problems) if (!this.#problems.has(problem)) this.#log.warn({}, problem);
    this.#problems = new Set(problems);
  }
}
