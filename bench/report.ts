/** What was measured, for people. */
import type { Timing } from './rounds.ts';

/** A number that was wanted. */
export interface Target {
  readonly what: string;
  readonly value: number;
  readonly target: number;
  /** Whether more is better. */
  readonly atLeast?: boolean;
  readonly unit: '' | ' ms' | ' MB' | ' %';
}

export function isMet({ value, target, atLeast = false }: Target): boolean {
  return atLeast ? value >= target : value <= target;
}

/** One table for each group of variants: median, fastest and slowest in milliseconds. */
export function timingLines(title: string, timings: readonly Timing[]): string[] {
  const widest = Math.max(...timings.map(({ name }) => name.length));
  const row = (name: string, ...cells: readonly string[]): string =>
    `  ${name.padEnd(widest)}${cells.map((cell) => cell.padStart(10)).join('')}`;
  return [
    title,
    row('', 'median', 'min', 'max'),
    ...timings.map(({ name, median, min, max }) => row(name, ...[median, min, max].map(digits))),
    '',
  ];
}

export function targetLines(targets: readonly Target[]): string[] {
  const widest = Math.max(...targets.map(({ what }) => what.length));
  return targets.map((each) => {
    const { what, value, target, atLeast, unit } = each;
    const seen = `${digits(value)}${unit}`.padStart(10);
    const wanted = `${atLeast ? '>=' : '<='} ${target}${unit}`.padEnd(10);
    return `  ${what.padEnd(widest)}${seen}   ${wanted} ${isMet(each) ? 'met' : `MISSED, ${off(each)}`}`;
  });
}

function off({ value, target }: Target): string {
  return `by ${Math.abs((value / target - 1) * 100).toFixed(0)} %`;
}

function digits(value: number): string {
  return value >= 100 ? value.toFixed(0) : value >= 10 ? value.toFixed(1) : value.toFixed(2);
}
