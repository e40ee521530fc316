/** When a client sends, sends again, and gives up: milliseconds. Pure. */

/** Uniform, 0 <= n < 1. */
export type Random = () => number;

export const second = 1000;
/** RFC 2131, 4.1. */
const firstBackoff = 4 * second;
const longestBackoff = 64 * second;
const jitter = second;
/** REQUESTs for an offer before another DISCOVER; the RFC's example of 5 would take a minute. */
export const requestTries = 3;
/** REQUESTs for a remembered address before it is used unconfirmed, or given up. */
export const rebootTries = 2;
/** RFC 2131, 3.1, step 5. */
export const declineWait = 10 * second;
/** For the probe to be over; it takes a fraction of that. */
export const probePatience = 10 * second;
/** RFC 2131, 4.4.5: between REQUESTs in RENEWING and REBINDING, where the lease is long enough. */
const renewLeast = 60 * second;

/** How long to wait after transmission number `sent`: 4, 8, 16, 32, 64 s, each give or take one. */
export function backoff(sent: number, random: Random): number {
  const base = Math.min(longestBackoff, firstBackoff * 2 ** (sent - 1));
  return base + (2 * random() - 1) * jitter;
}

/** Half of what is left, and at least a minute; of a lease of less than ten minutes at least as long as any message. */
export function pause(left: number, whole: number): number {
  return Math.max(left / 2, whole < 10 * renewLeast ? firstBackoff : renewLeast);
}

/**
 * After a second refusal in a row and those that follow: a second or so, and then longer each time. Where many ask at
 * once, some servers offer one address to several.
 */
export function refusalPause(refusals: number, random: Random): number {
  return Math.min(longestBackoff, (second / 2) * 2 ** (refusals - 1)) * (0.5 + random());
}
