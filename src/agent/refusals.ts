/** What cannot be had: told for as long as its container runs and nothing has changed about it. */
import { splitId } from '../containers/engines.ts';
import type { Resolution } from '../plan/topology.ts';
import type { Ledgers } from './ledgers.ts';
import type { Teller } from './teller.ts';
import type { Scope } from './wakeable.ts';

/** Entries of files, and labels, that are refused. */
export class Refusals {
  readonly #ledgers: Ledgers;
  readonly #teller: Teller;
  /** By key: the id of the container. */
  readonly #refused = new Map<string, string>();

  constructor(ledgers: Ledgers, teller: Teller) {
    this.#ledgers = ledgers;
    this.#teller = teller;
  }

  keys(): Iterable<string> {
    return this.#refused.keys();
  }

  /** What a look at the containers in scope has come to. */
  note(scope: Scope, unwantable: Resolution['unwantable']): void {
    const keys = new Set(unwantable.map(({ key }) => key));
    for (const [key, container] of this.#refused) {
      if (keys.has(key) || (scope !== 'all' && !isAbout(scope, container))) continue;
      this.#refused.delete(key);
      this.#ledgers.drop(key);
    }
    for (const { key, why, container } of unwantable) {
      this.#refused.set(key, container);
      this.#teller.fail(key, why);
    }
  }
}

function isAbout(scope: ReadonlySet<string>, id: string): boolean {
  return [...scope].some((one) => splitId(one).id === id);
}
