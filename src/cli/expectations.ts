/** What `apply` and `check` print of expectations. */
import type { Expectation } from '../observe/expect.ts';
import { table } from './output.ts';

/** A row for each, marked where it is not as expected. */
export function expectationTable(expectations: readonly Expectation[]): string {
  return table([['FROM', 'TO', 'PROBE', 'EXPECTED', 'SEEN', ''], ...expectations.map(expectationRow)]);
}

function expectationRow({ from, to, probe, expected, seen, detail }: Expectation): string[] {
  const word = (reachable: boolean): string => (reachable ? 'reachable' : 'not reachable');
  return [from, to, probe, word(expected), `${word(seen)}${expected === seen ? '' : ' !'}`, detail];
}
