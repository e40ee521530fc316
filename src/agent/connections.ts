/** Makes attachments, looks whether they are right, and puts right what is not; each by itself. */
import { needingWork } from '../apply/check.ts';
import { attachWanted, leavingIn } from '../apply/converge.ts';
import { foreignIn, type WantedHere } from '../apply/wanted.ts';
import type { Container } from '../containers/container.ts';
import type { LeaseKeeper } from '../dhcp/keeper.ts';
import type { Attachment } from '../model/attachment.ts';
import type { HostView } from '../observe/view.ts';
import type { Wanted } from '../plan/topology.ts';
import type { AddressBook } from './addresses.ts';
import type { Ledgers } from './ledgers.ts';
import { type AgentParts, summary, textOf } from './parts.ts';
import type { Retries } from './retries.ts';
import { makesTheSame, withoutQuestions } from './returning.ts';
import type { Ledger } from './status.ts';
import type { Teller } from './teller.ts';

/** Milliseconds of a round about everything after which events are let in. */
const breathMs = 3;

/** What they are worked on with. */
export interface ConnectionParts extends Pick<AgentParts, 'host' | 'firewall'> {
  readonly ledgers: Ledgers;
  readonly teller: Teller;
  readonly retries: Retries;
  readonly addresses: AddressBook;
  readonly leases: LeaseKeeper;
  /** Asks for a round about a container. */
  wake(container: Container): void;
}

/** The attachments of a host. */
export class Connections {
  readonly #parts: ConnectionParts;
  /** The container's life in which an attachment was last seen right: `PID:STARTTIME`. */
  readonly #lives = new Map<string, string>();
  readonly #underWay = new Set<string>();
  /** Attachments that wait for an answer from their link. */
  readonly #asking = new Set<Promise<void>>();
  /** What was wanted of each when it was last looked at. */
  readonly #wanted = new Map<string, Attachment>();

  constructor(parts: ConnectionParts) {
    this.#parts = parts;
  }

  /** What is wanted from now on: of all, or of some containers besides what is known of the others. */
  want(wanted: readonly WantedHere[], isAll: boolean): void {
    if (isAll) this.#wanted.clear();
    for (const entry of wanted) this.#wanted.set(entry.wanted.key, entry.wanted.attachment);
  }

  /** Resolves when none of those that are waited for now waits any more. @returns whether any did */
  async asked(): Promise<boolean> {
    if (this.#asking.size === 0) return false;
    await Promise.allSettled(this.#asking);
    return true;
  }

  /** Works on them one by one. */
  async attendSome(wanted: readonly WantedHere[]): Promise<void> {
    for (const one of wanted) await this.#attend(one.wanted, one.container);
  }

  /**
   * Container by container: what was right in this life of it is only looked at.
   * @param breathe called now and then: a container that starts is served in between
   */
  async attendAll(
    view: HostView,
    wanted: readonly WantedHere[],
    breathe: () => Promise<void>,
  ): Promise<void> {
    const { firewall } = this.#parts;
    let breath = performance.now();
    for (const { container, all } of byContainer(wanted)) {
      const life = lifeOf(container);
      const known = all.filter(({ key }) => this.#lives.get(key) === life);
      const wrong = new Set(known.length > 0 ? await needingWork(view, container, known, { firewall }) : []);
      for (const one of all) {
        if (this.#lives.get(one.key) !== life || wrong.has(one)) await this.#attend(one, container);
        else if (one.attachment.dhcp || this.#parts.ledgers.waitMs(one.key) === 0)
          await this.#settle(one, container);
      }
      if (performance.now() - breath < breathMs) continue;
      await new Promise((resolve) => setImmediate(resolve));
      await breathe();
      breath = performance.now();
    }
  }

  /** The lease of an attachment is another one, or in another state. @param news for people */
  leaseChanged(key: string, news: string | undefined): void {
    const { leases, ledgers, teller } = this.#parts;
    if (leases.status(key)) {
      const why = leases.lacks(key);
      if (why === undefined) ledgers.of(key).leased();
      else ledgers.of(key).leaseless(why);
    }
    if (news !== undefined) teller.tell(key, 'lease', news);
  }

  async #attend(wanted: Wanted, container: Container): Promise<void> {
    const { key } = wanted;
    const ledger = this.#parts.ledgers.of(key);
    const life = lifeOf(container);
    if (this.#lives.get(key) !== life) ledger.retryNow();
    if (ledger.waitMs() > 0 || this.#underWay.has(key)) return;
    this.#underWay.add(key);
    // Neighbours have to be listened to: nobody waits for that.
    await new Promise<void>((resolve) => {
      const onWait = (): void => {
        this.#asking.add(work);
        resolve();
      };
      const work = this.#attach(ledger, wanted, container, { life, onWait }).finally(() => {
        this.#underWay.delete(key);
        this.#asking.delete(work);
        resolve();
      });
    });
  }

  /** The interface is as it is wanted. What comes by DHCP is seen to; nobody waits for a server. */
  async #settle({ key, attachment }: Wanted, container: Container): Promise<void> {
    const { leases, ledgers, teller } = this.#parts;
    const ledger = ledgers.of(key);
    if (!leases.isConcerned(key, attachment, container)) return ledger.right();
    try {
      await leases.attend(key, attachment, container);
      this.leaseChanged(key, undefined);
    } catch (error) {
      teller.fail(key, textOf(error));
    }
  }

  async #attach(
    ledger: Ledger,
    wanted: Wanted,
    container: Container,
    { life, onWait }: { readonly life: string; readonly onWait: () => void },
  ): Promise<void> {
    const { host, firewall, addresses, leases, teller, retries } = this.#parts;
    const { key, attachment } = wanted;
    try {
      const verified = addresses.heldBy(key, attachment);
      const isLeaving = leavingIn((other) => this.#wanted.get(other));
      const options = { dryRun: false, firewall, verified, isLeaving, onWait, keepsLeases: true };
      const isBack = verified !== undefined && (this.#lives.get(key) ?? life) !== life;
      const make = () => attachWanted(host, wanted, container, options);
      const { steps } =
        isBack && makesTheSame(attachment)
          ? await withoutQuestions(container, attachment, make)
          : await make();
      addresses.hold(key, attachment);
      const isNew = this.#lives.get(key) !== life;
      this.#lives.set(key, life);
      if (steps.length > 0) this.#tellMade(ledger, summary(steps), isNew);
      const hasToDo = leases.isConcerned(key, attachment, container);
      if (steps.length === 0 || hasToDo) await this.#settle(wanted, container);
    } catch (error) {
      teller.fail(key, textOf(error));
      const claimed = foreignIn(wanted, error);
      if (claimed === undefined)
        return retries.after(key, ledger.waitMs() + 1, () => this.#parts.wake(container));
      // There are others in the range.
      addresses.claim(claimed);
      ledger.retryNow();
      this.#parts.wake(container);
    }
  }

  #tellMade(ledger: Ledger, steps: string, isNew: boolean): void {
    const { teller } = this.#parts;
    if (isNew) {
      ledger.made();
      teller.tell(ledger.key, 'made', steps);
    } else {
      const contested = ledger.repaired(steps);
      teller.tell(ledger.key, contested ? 'contested' : 'repaired', steps);
    }
  }
}

function lifeOf({ pid, startTime }: Container): string {
  return `${pid}:${startTime}`;
}

function byContainer(wanted: readonly WantedHere[]): { container: Container; all: Wanted[] }[] {
  const groups = new Map<string, { container: Container; all: Wanted[] }>();
  for (const { wanted: one, container } of wanted) {
    const group = groups.get(container.id);
    if (group) group.all.push(one);
    else groups.set(container.id, { container, all: [one] });
  }
  return [...groups.values()];
}
