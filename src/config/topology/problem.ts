/** What is wrong with topology files: all of it at once, each with its place. */
import { PipewrightError } from '../../errors.ts';
import type { Place } from '../../model/topology.ts';
import { printable } from '../names.ts';

/** One thing that is wrong. */
export interface Problem {
  readonly place: Place;
  /** What is wrong, without a full stop. */
  readonly message: string;
  /** What to write instead, or to do. */
  readonly hint?: string;
}

/** More are not worth a screen: they are counted, not shown. */
const mostShown = 20;

/** `lan.yaml:4:13: unknown key "uplnk"; did you mean "uplink"?` */
export function formatProblem({ place, message, hint }: Problem): string {
  return `${formatPlace(place)}: ${message}${hint === undefined ? '' : `; ${hint}`}`;
}

/** `lan.yaml:4:13`, as compilers write it and editors follow it; what is in no file has no lines. */
export function formatPlace({ file, line, column }: Place): string {
  if (line === 0) return printable(file, 400);
  return `${printable(file)}:${line}:${column}`;
}

/** BAD_TOPOLOGY with its problems; the message has one of them on each line. */
export class TopologyError extends PipewrightError {
  /** In the order of the files and lines, at most 20. */
  readonly problems: readonly Problem[];
  /** How many there are besides. */
  readonly more: number;

  constructor(problems: readonly Problem[]) {
    super('BAD_TOPOLOGY', { op: 'topology', subject: problems[0]?.place.file ?? '' });
    this.problems = problems.slice(0, mostShown);
    this.more = problems.length - this.problems.length;
    const rest = this.more === 0 ? [] : [`and ${this.more} more`];
    this.message = [...this.problems.map(formatProblem), ...rest].join('\n');
  }
}

/** Collects problems, and throws them all together. */
export class Complaints {
  readonly #problems: Problem[] = [];
  readonly #told = new Set<string>();

  /** The same again, as of an entry that is of several hosts, counts once. */
  add(place: Place, message: string, hint?: string): void {
    const told = `${formatPlace(place)} ${message}`;
    if (this.#told.has(told)) return;
    this.#told.add(told);
    this.#problems.push({ place, message, ...(hint !== undefined && { hint }) });
  }

  get problems(): readonly Problem[] {
    return this.#problems;
  }

  /** @param files their order is that of the problems. @throws TopologyError when there is a problem */
  throwIfAny(files: readonly string[]): void {
    if (this.#problems.length === 0) return;
    const order = new Map(files.map((file, at) => [file, at]));
    const rank = ({ file }: Place): number => order.get(file) ?? -1;
    const sorted = [...this.#problems].sort(
      ({ place: a }, { place: b }) => rank(a) - rank(b) || a.line - b.line || a.column - b.column,
    );
    throw new TopologyError(sorted);
  }
}
