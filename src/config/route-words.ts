/** A route as text, in the words of `ip route`: for command lines, files and labels. */
import type { RouteSpec } from '../model/attachment.ts';
import { defaultMetric, mainTable } from '../model/route.ts';

/** As written; what is absent was not. */
export interface RouteWords {
  /** A prefix, an address or `default`. */
  readonly to: string;
  readonly via?: string;
  /** `main` or a number. */
  readonly table?: string;
  readonly metric?: string;
}

const names = ['via', 'table', 'metric'] as const;

/**
 * `10.5.0.0/16 via 10.0.0.1 table 100 metric 50`, in any order after the first word; `10.5.0.0/16@10.0.0.1` is short for
 * via. Undefined for other words, and for the same one twice.
 */
export function splitRoute(text: string): RouteWords | undefined {
  const [first = '', ...rest] = text.trim().split(/\s+/);
  const [to = '', at, ...more] = first.split('@');
  if (to === '' || more.length > 0 || rest.length % 2 > 0) return undefined;
  const found: { -readonly [K in keyof RouteWords]: RouteWords[K] } = { to };
  if (at !== undefined) found.via = at;
  for (let i = 0; i < rest.length; i += 2) {
    const name = names.find((known) => known === rest[i]);
    const value = rest[i + 1];
    if (name === undefined || value === undefined || found[name] !== undefined) return undefined;
    found[name] = value;
  }
  return found;
}

/** A rule as written: `from 10.0.0.2 to 10.0.0.0/8 table 100 priority 5`; undefined for other words, and without a table. */
export function splitRule(text: string): Readonly<Record<string, string>> | undefined {
  const parts = text.trim().split(/\s+/);
  const found = new Map<string, string>();
  for (let i = 0; i < parts.length; i += 2) {
    const name = parts[i] === 'lookup' ? 'table' : (parts[i] ?? '');
    const value = parts[i + 1];
    const isKnown = ['from', 'to', 'table', 'priority'].includes(name) && !found.has(name);
    if (!isKnown || value === undefined) return undefined;
    found.set(name, value);
  }
  return found.has('table') ? Object.fromEntries(found) : undefined;
}

/** RT_TABLE_LOCAL. */
export const localTable = 255;

/**
 * The number of a routing table, `main` or a number; the rest of a sentence about why it cannot be one. The table `local`
 * is the kernel's own.
 */
export function parseTable(text: string): number | string {
  if (text === 'main') return mainTable;
  const number = /^[1-9]\d{0,9}$/.test(text) ? Number(text) : 0;
  if (number === localTable) return 'is the table local, which the kernel fills';
  return number > 0 && number <= 0xffff_ffff ? number : 'is not a routing table: a number, or main';
}

/** A metric, likewise. */
export function parseMetric(text: string): number | string {
  const number = /^[1-9]\d{0,9}$/.test(text) ? Number(text) : 0;
  return number > 0 && number <= 0xffff_ffff ? number : 'is not a metric: a number from 1 on';
}

/** Why the way to everything cannot be said as a route, as the rest of a sentence; undefined when it can. */
export function whyNoDefault({ dst, table, metric }: RouteSpec): string | undefined {
  const usual = defaultMetric[dst.family];
  const isPlain = (table ?? mainTable) === mainTable && (metric ?? usual) === usual;
  return dst.prefixLen === 0 && isPlain ? 'is the default route' : undefined;
}
