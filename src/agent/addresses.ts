/** What the agent knows of addresses: who had which a moment ago, and which are somebody else's. In memory only. */
import { type Attachment, segmentOf } from '../model/attachment.ts';

/** How long an address that somebody on the link answered for is not given out. */
const foreignMs = 60 * 60_000;
/**
 * How long after its container's end an address is used again without asking the link: a restart is not to pay a quarter
 * of a second for an address that was its own, and whose neighbours have not even forgotten it. Later, somebody may have
 * taken it.
 */
const heldMs = 5 * 60_000;

interface Held {
  /** Where, see segmentOf(). */
  readonly segment: string | undefined;
  readonly ips: ReadonlySet<string>;
  /** Milliseconds since 1970; absent: it is there. */
  readonly goneAt?: number;
}

/** Addresses by attachment, and those of strangers. */
export class AddressBook {
  readonly #held = new Map<string, Held>();
  readonly #foreign = new Map<string, number>();

  /** An attachment is there, with its addresses. */
  hold(key: string, { network, addrs }: Attachment): void {
    const ips = new Set(addrs.flatMap(({ cidr }) => cidr?.ip ?? []));
    this.#held.set(key, { segment: segmentOf(network), ips });
  }

  /** Its container is gone. */
  gone(key: string, now = Date.now()): void {
    const held = this.#held.get(key);
    if (held) this.#held.set(key, { ...held, goneAt: now });
  }

  /** Addresses that an attachment had on this network until a moment ago. */
  heldBy(key: string, { network }: Attachment, now = Date.now()): ReadonlySet<string> | undefined {
    const held = this.#held.get(key);
    if (held?.segment !== segmentOf(network)) return undefined;
    return now - (held?.goneAt ?? now) < heldMs ? held?.ips : undefined;
  }

  /** Somebody on the link answers for `NETWORK ADDRESS`. */
  claim(entry: string, now = Date.now()): void {
    this.#foreign.set(entry, now + foreignMs);
  }

  /** What was {@link claim}ed lately. */
  foreign(now = Date.now()): ReadonlySet<string> {
    for (const [entry, until] of this.#foreign) if (until < now) this.#foreign.delete(entry);
    return new Set(this.#foreign.keys());
  }
}
