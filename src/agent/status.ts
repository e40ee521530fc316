/** What the agent knows of each attachment, and when it is to try again. */
import type { LeaseStatus } from '../model/lease.ts';

/** How an attachment is doing. */
export interface AttachmentStatus {
  /** `web/eth1` */
  readonly key: string;
  /** `waiting`: no such container runs, as far as is known. `contested`: something undoes every repair, see {@link contestedAfter}. */
  readonly state: 'healthy' | 'failing' | 'contested' | 'waiting';
  /** Milliseconds since 1970 that it has been in this state. */
  readonly since: number;
  /** How often it was found changed and put right. */
  readonly repairs: number;
  /** Why it fails or waits, or what was repaired last. */
  readonly detail: string | undefined;
  /** Of an attachment that has its addresses by DHCP. */
  readonly leases?: readonly LeaseStatus[];
}

/** How often the same repair may come within {@link contestedWindowMs}; once more, and the attachment is contested. */
export const contestedAfter = 10;
export const contestedWindowMs = 10 * 60_000;

const firstBackoffMs = 1000;
const longestBackoffMs = 60_000;

/** The book of one attachment. */
export class Ledger {
  readonly key: string;
  #state: AttachmentStatus['state'] = 'waiting';
  #since = Date.now();
  #repairs = 0;
  #detail: string | undefined;
  /** Why it waits, when not for its container alone. */
  #waitsFor: string | undefined;
  #failures = 0;
  #notBefore = 0;
  #recent: readonly { readonly at: number; readonly what: string }[] = [];

  constructor(key: string) {
    this.key = key;
  }

  status(): AttachmentStatus {
    const { key } = this;
    const detail = (this.#state === 'waiting' ? this.#waitsFor : undefined) ?? this.#detail;
    return { key, state: this.#state, since: this.#since, repairs: this.#repairs, detail };
  }

  /** Milliseconds until it may be tried again; 0: now. */
  waitMs(now = Date.now()): number {
    return Math.max(0, this.#notBefore - now);
  }

  get isContested(): boolean {
    return this.#state === 'contested';
  }

  /** Nothing had to be done. */
  right(): void {
    this.#failures = 0;
    this.#enter('healthy');
  }

  /** It was made, because its container is new. */
  made(): void {
    this.#failures = 0;
    this.#recent = [];
    this.#detail = undefined;
    this.#enter('healthy');
  }

  /** It was found changed and was put right. @returns whether it became contested by that */
  repaired(what: string, now = Date.now()): boolean {
    this.#failures = 0;
    this.#repairs += 1;
    this.#detail = what;
    this.#recent = [...this.#recent.filter(({ at }) => at >= now - contestedWindowMs), { at: now, what }];
    if (this.#recent.filter((repair) => repair.what === what).length <= contestedAfter) {
      this.#enter('healthy');
      return false;
    }
    const wasContested = this.#state === 'contested';
    this.#enter('contested');
    this.#notBefore = now + contestedWindowMs;
    return !wasContested;
  }

  /** It could not be made; tried again later and later, at times that differ from those of others. */
  failed(why: string, now = Date.now(), random = Math.random()): void {
    const backoffMs = Math.min(longestBackoffMs, firstBackoffMs * 2 ** this.#failures);
    this.#failures += 1;
    this.#notBefore = now + backoffMs * (0.5 + random / 2);
    this.#detail = why;
    this.#enter('failing');
  }

  /** The interface has its lease. */
  leased(): void {
    if (this.#state === 'failing') this.#detail = undefined;
    this.right();
  }

  /** The interface is there and has no address: its DHCP client tries by itself. */
  leaseless(why: string): void {
    this.#failures = 0;
    this.#detail = why;
    this.#enter('failing');
  }

  /** Its container does not run, or its engine does not say. */
  waiting(waitsFor?: string): void {
    this.#waitsFor = waitsFor;
    this.retryNow();
    this.#enter('waiting');
  }

  /** Something changed that may help: a container started, a file was edited. */
  retryNow(): void {
    this.#failures = 0;
    this.#notBefore = 0;
  }

  #enter(state: AttachmentStatus['state']): void {
    if (this.#state === state) return;
    this.#state = state;
    this.#since = Date.now();
  }
}
