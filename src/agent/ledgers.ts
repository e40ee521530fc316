/** The books of all attachments and networks, and which of them wait for their containers. */
import type { Topology } from '../model/topology.ts';
import { Ledger } from './status.ts';
import { waitingKeys } from './waiting.ts';

/** By key: `web/eth1`, `network lan`. */
export class Ledgers {
  readonly #ledgers = new Map<string, Ledger>();

  /** The book of an attachment, a new one when there is none. */
  of(key: string): Ledger {
    let ledger = this.#ledgers.get(key);
    if (!ledger) {
      ledger = new Ledger(key);
      this.#ledgers.set(key, ledger);
    }
    return ledger;
  }

  has(key: string): boolean {
    return this.#ledgers.has(key);
  }

  all(): Ledger[] {
    return [...this.#ledgers.values()];
  }

  /** Milliseconds until this may be tried again; 0: now. */
  waitMs(key: string): number {
    return this.#ledgers.get(key)?.waitMs() ?? 0;
  }

  /** It is wanted no more. */
  drop(key: string): void {
    this.#ledgers.delete(key);
  }

  /** What failed is tried again at once. What somebody undoes again and again is not, unless it is said anew. */
  retryNow(isSaidAnew: boolean): void {
    for (const ledger of this.#ledgers.values()) if (isSaidAnew || !ledger.isContested) ledger.retryNow();
  }

  /**
   * What a look at everything has not found waits for its container; what nothing names any more goes.
   * @param present keys of what is there
   * @param isPodmanAway whether what Podman's containers had is there although it was not seen
   * @param waitsFor why an attachment waits, when its engine is away
   */
  markWaiting(
    present: ReadonlySet<string>,
    topology: Topology,
    {
      isPodmanAway,
      waitsFor,
    }: { readonly isPodmanAway: boolean; readonly waitsFor: (key: string) => string | undefined },
  ): void {
    const waits = (key: string): void => this.of(key).waiting(waitsFor(key));
    const isHere = (key: string): boolean =>
      present.has(key) || (key.startsWith('podman:') && isPodmanAway && this.has(key));
    const { waiting, taken } = waitingKeys(topology, isHere);
    for (const key of waiting) waits(key);
    for (const key of taken) this.drop(key);
    for (const key of this.#ledgers.keys()) if (!isNetwork(key) && !present.has(key)) waits(key);
  }

  /** A look at all networks is over: what failed before, and is not among those that fail, is as it should be. */
  networksRight(failing: ReadonlySet<string>): void {
    for (const key of this.#ledgers.keys()) if (isNetwork(key) && !failing.has(key)) this.drop(key);
  }
}

/** `network lan`, `network lan uplink eth0` */
function isNetwork(key: string): boolean {
  return key.startsWith('network ');
}
