/** A file made by the program is one that the program takes: what contradicts itself is taken out. */
import { parseTopology } from './load.ts';
import { TopologyError } from './problem.ts';
import type { WrittenEntry, WrittenTopology } from './write.ts';

/** A file that is being made. */
export interface Settling {
  write(): WrittenTopology;
  readonly entries: readonly WrittenEntry[];
  /** Takes the value of an entry out. */
  leaveOut(at: number, why: string): void;
}

/** The text, when entries that cannot be have been left out, until nothing contradicts anything. */
export function settle(draft: Settling): string {
  for (;;) {
    const { text, networkAt, entryAt } = draft.write();
    const problem = firstProblem(text);
    if (problem === undefined) return text;
    const network = networkAt.get(problem.line);
    const at = draft.entries.findIndex(
      ({ value }, index) =>
        value &&
        (index === entryAt.get(problem.line) || (network !== undefined && value.network === network)),
    );
    if (at < 0) throw new Error(`import wrote a wrong file: ${problem.message}`);
    draft.leaveOut(at, problem.message);
  }
}

function firstProblem(text: string): { readonly line: number; readonly message: string } | undefined {
  try {
    parseTopology([{ file: 'imported', text }]);
  } catch (error) {
    if (!(error instanceof TopologyError)) throw error;
    const [problem] = error.problems;
    return problem && { line: problem.place.line, message: problem.message };
  }
  return undefined;
}
