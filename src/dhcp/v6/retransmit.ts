/** When a message is sent again, RFC 8415 sections 7.6 and 15. Pure; times in milliseconds. */

/** Of one kind of exchange. */
export interface Backoff {
  /** IRT: the first timeout. */
  readonly initialMs: number;
  /** MRT: the longest; 0: no limit. */
  readonly maxMs: number;
  /** MRC: how often the message is sent at most; 0: no limit. */
  readonly maxCount: number;
  /** MRD: how long it is tried at most; 0: no limit. */
  readonly maxDurationMs: number;
}

const second = 1000;

/** Section 7.6; where the end depends on a lease (T2, the last lifetime) the caller sets `maxDurationMs`. */
export const backoffs = {
  solicit: { initialMs: second, maxMs: 3600 * second, maxCount: 0, maxDurationMs: 0 },
  request: { initialMs: second, maxMs: 30 * second, maxCount: 10, maxDurationMs: 0 },
  confirm: { initialMs: second, maxMs: 4 * second, maxCount: 0, maxDurationMs: 10 * second },
  renew: { initialMs: 10 * second, maxMs: 600 * second, maxCount: 0, maxDurationMs: 0 },
  rebind: { initialMs: 10 * second, maxMs: 600 * second, maxCount: 0, maxDurationMs: 0 },
  release: { initialMs: second, maxMs: 0, maxCount: 4, maxDurationMs: 0 },
  decline: { initialMs: second, maxMs: 0, maxCount: 4, maxDurationMs: 0 },
  informationRequest: { initialMs: second, maxMs: 3600 * second, maxCount: 0, maxDurationMs: 0 },
} as const satisfies Readonly<Record<string, Backoff>>;

/** One exchange: what was sent and when it is to be sent again. */
export interface Exchange {
  readonly backoff: Backoff;
  readonly startedAt: number;
  readonly count: number;
  /** RT. */
  readonly timeoutMs: number;
  /** When it is sent again, or given up. */
  readonly dueAt: number;
}

/** The first transmission. @param random 0 <= random < 1 */
export function firstSend(backoff: Backoff, now: number, random: number, isSolicit = false): Exchange {
  // A first Solicit waits for longer than IRT, strictly, so that every server has its second (section 18.2.1).
  const rand = isSolicit ? 0.001 + random * 0.099 : spread(random);
  const timeoutMs = backoff.initialMs * (1 + rand);
  return { backoff, startedAt: now, count: 1, timeoutMs, dueAt: dueAt(backoff, now, now, timeoutMs) };
}

/** The next transmission; undefined when the exchange has failed. @param random 0 <= random < 1 */
export function nextSend(exchange: Exchange, now: number, random: number): Exchange | undefined {
  const { backoff, startedAt, count } = exchange;
  if (backoff.maxCount !== 0 && count >= backoff.maxCount) return undefined;
  if (backoff.maxDurationMs !== 0 && now - startedAt >= backoff.maxDurationMs) return undefined;
  const rand = spread(random);
  let timeoutMs = exchange.timeoutMs * (2 + rand);
  if (backoff.maxMs !== 0 && timeoutMs > backoff.maxMs) timeoutMs = backoff.maxMs * (1 + rand);
  return { ...exchange, count: count + 1, timeoutMs, dueAt: dueAt(backoff, startedAt, now, timeoutMs) };
}

/** RAND: between -0.1 and 0.1. */
function spread(random: number): number {
  return (random - 0.5) / 5;
}

function dueAt({ maxDurationMs }: Backoff, startedAt: number, now: number, timeoutMs: number): number {
  const due = now + timeoutMs;
  return maxDurationMs === 0 ? due : Math.min(due, startedAt + maxDurationMs);
}

/** Elapsed time of an exchange for its option: 1/100 s since its first message, at most 0xffff. */
export function elapsed({ startedAt, count }: Exchange, now: number): number {
  return count === 1 ? 0 : Math.min(0xffff, Math.floor((now - startedAt) / 10));
}
