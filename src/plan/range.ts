/** Addresses out of a network's ranges: the same key gets the same address for as long as it can. Pure. */
import { createHash } from 'node:crypto';
import { bytesToIp, ipToBytes } from '../model/address.ts';
import type { AddressRange } from '../model/topology.ts';

/**
 * The address for `key`: the one it had, when that is still free and in a range; otherwise the first free one from a
 * place that is made from the key, so that most keys get their address back even when nothing is remembered.
 * Undefined when no address is left. The time it takes grows with the addresses taken, not with the range: an IPv6
 * range holds up to 2^128.
 * @param ranges of one family
 * @param taken addresses, in canonical text, that nobody may get: gateways, the host's own, those of the files
 * @param remembered what was given out, by key; the addresses of other keys are not given out again
 * @param reclaimable keys of those that are not used any more, the one that has not been for longest first: when nothing
 * else is left, theirs are given out anew
 */
export function assign(
  ranges: readonly AddressRange[],
  taken: ReadonlySet<string>,
  remembered: ReadonlyMap<string, string>,
  key: string,
  reclaimable: readonly string[] = [],
): string | undefined {
  const spans = ranges.map(spanOf);
  const own = remembered.get(key);
  const others = new Set<string>();
  for (const [other, ip] of remembered) if (other !== key) others.add(ip);
  const isFree = (ip: string): boolean => !taken.has(ip) && !others.has(ip);
  if (own !== undefined && isFree(own) && spans.some((span) => isIn(span, own))) return own;

  const size = spans.reduce((sum, span) => sum + span.size, 0n);
  if (size === 0n) return undefined;
  const start = hashOf(key) % size;
  // Each address that is not free is one of those sets, so that the walk ends before it has seen more than they hold.
  // Ranges that overlap offer an address twice.
  const steps = BigInt(taken.size + others.size) * BigInt(spans.length) + 1n;
  for (let step = 0n; step < steps && step < size; step++) {
    const ip = addressAt(spans, (start + step) % size);
    if (isFree(ip)) return ip;
  }
  return reclaimable
    .flatMap((other) => (other === key ? [] : (remembered.get(other) ?? [])))
    .find((ip) => !taken.has(ip) && spans.some((span) => isIn(span, ip)));
}

interface Span {
  /** Bytes of an address. */
  readonly width: 4 | 16;
  readonly first: bigint;
  /** How many addresses. */
  readonly size: bigint;
}

function spanOf({ family, first, last }: AddressRange): Span {
  const [from, to] = [toNumber(first), toNumber(last)];
  return { width: family === 4 ? 4 : 16, first: from, size: to < from ? 0n : to - from + 1n };
}

function isIn({ width, first, size }: Span, ip: string): boolean {
  const bytes = ipToBytes(ip);
  const offset = toNumber(ip) - first;
  return bytes.length === width && offset >= 0n && offset < size;
}

function addressAt(spans: readonly Span[], index: bigint): string {
  let rest = index;
  for (const { width, first, size } of spans) {
    if (rest < size) return toIp(first + rest, width);
    rest -= size;
  }
  throw new Error(`no address ${index} in these ranges`);
}

function toNumber(ip: string): bigint {
  return BigInt(`0x${Buffer.from(ipToBytes(ip)).toString('hex')}`);
}

function toIp(number: bigint, width: 4 | 16): string {
  return bytesToIp(Buffer.from(number.toString(16).padStart(2 * width, '0'), 'hex'));
}

function hashOf(key: string): bigint {
  return BigInt(`0x${createHash('sha256').update(key).digest('hex')}`);
}
