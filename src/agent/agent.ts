/** The loop that keeps a host as its topology wants it: wake, look, put right, tell. */
import { needingWork } from '../apply/check.ts';
import {
  attachWanted,
  containerOf,
  converge,
  inSight,
  keyOf,
  leavingIn,
  type Outcome,
  unwantedRecords,
  uplinkKey,
} from '../apply/converge.ts';
import { detach } from '../apply/detach.ts';
import type { Host } from '../apply/host.ts';
import { acquireLock } from '../apply/lock.ts';
import { containerKey } from '../apply/state.ts';
import { recover } from '../apply/transaction.ts';
import { withNic } from '../apply/uplink-network.ts';
import { foreignIn, keysToStay, type WantedHere } from '../apply/wanted.ts';
import type { Container } from '../containers/container.ts';
import type { ContainerEvent, EngineName } from '../containers/docker.ts';
import { type Away, type Engines, idAmongAll, splitId } from '../containers/engines.ts';
import { LeaseKeeper, wantsLease } from '../dhcp/keeper.ts';
import { hasErrno } from '../errors.ts';
import { type Attachment, type ContainerRef, qualifiedName } from '../model/attachment.ts';
import type { AttachmentRecord } from '../model/observed.ts';
import type { Place, Topology } from '../model/topology.ts';
import { lives } from '../observe/lives.ts';
import { HostView } from '../observe/view.ts';
import { labelsOf } from '../plan/labels.ts';
import { type KnownContainer, type Resolution, selects, type Wanted } from '../plan/topology.ts';
import type { Store } from '../store/store.ts';
import { AddressBook } from './addresses.ts';
import { AwayBook, type AwayEngines } from './away.ts';
import { isConcerned, isToldWhole } from './concern.ts';
import { adopt, type KeptCommand, keptKey } from './kept.ts';
import { lookAround, type Resolved } from './look.ts';
import { Rest } from './settle.ts';
import { type AttachmentStatus, Ledger } from './status.ts';
import { waitingKeys } from './waiting.ts';
import { type Scope, type TakeUrgent, Wakeable } from './wakeable.ts';

/** Where the agent writes what happens; one line each. */
export interface AgentLog {
  info(fields: object, message: string): void;
  warn(fields: object, message: string): void;
}

/** What an agent is made of. */
export interface AgentParts {
  readonly host: Host;
  readonly store: Store;
  readonly containers: Engines;
  readonly log: AgentLog;
  /** Reads the files anew; undefined when there are none. @throws PipewrightError BAD_TOPOLOGY; then the former topology stays in force */
  readonly loadTopology: () => Topology | undefined;
  readonly firewall: boolean;
  /** Called after each round. */
  readonly onRound?: () => void;
  /** Whether labels of containers are entries as well. */
  readonly trustLabels?: boolean;
}

/** Something that happened, for `GET /v1/events`. */
export interface AgentEvent {
  /** Milliseconds since 1970. */
  readonly at: number;
  readonly key: string;
  readonly what: 'made' | 'repaired' | 'failed' | 'contested' | 'removed' | 'topology' | 'lease';
  readonly detail: string;
}

/** Milliseconds of a round about everything after which events are let in. */
const breathMs = 3;

/** Keeps a host as its topology and its kept commands want it. */
export class Agent {
  readonly #parts: AgentParts;
  readonly #ledgers = new Map<string, Ledger>();
  /** The container's life in which an attachment was last seen right: `PID:STARTTIME`. */
  readonly #lives = new Map<string, string>();
  readonly #underWay = new Set<string>();
  readonly #addresses = new AddressBook();
  /** Attachments that wait for an answer from their link. */
  readonly #asking = new Set<Promise<void>>();
  /** What was wanted of each when it was last looked at. */
  readonly #wanted = new Map<string, Attachment>();
  /** What cannot be had, and the id of its container. */
  readonly #unwantable = new Map<string, string>();
  readonly #listeners = new Set<(event: AgentEvent) => void>();
  readonly #timers = new Map<string, NodeJS.Timeout>();
  readonly #leases: LeaseKeeper;
  readonly #rounds = new Wakeable((scope, urgent) => this.#timedRound(scope, urgent));
  #topology: Topology = { networks: [], attachments: [], expects: [] };
  #topologyProblem: string | undefined;
  #told: ReadonlySet<string> = new Set();
  /** The containers of kept commands, as they were last looked at. */
  #kept: readonly ContainerRef[] = [];
  readonly #away = new AwayBook();
  /** Why the last round was broken off: said once. */
  #brokenBy: string | undefined;
  /** How much of the time rounds about everything take. */
  readonly rest = new Rest();
  /** Without a file nobody says what is wanted no more. */
  #hasFiles = false;

  constructor(parts: AgentParts) {
    this.#parts = parts;
    const { containers, host, store } = parts;
    this.#leases = new LeaseKeeper({ host, store, onChange: (key, news) => this.#leaseChanged(key, news) });
    containers.onReturn(() => this.retryNow());
  }

  get topology(): Topology {
    return this.#topology;
  }

  /** Reads the files and makes all that is wanted; resolves when the first round is over. */
  async start(): Promise<void> {
    this.reload();
    await adopt(this.#parts);
    await this.#leases.forgetOld();
    this.wake();
    await this.idle();
  }

  /** Something may have changed; about one container when it is known which. */
  wake(container?: Pick<Container, 'runtime' | 'id'>): void {
    this.#rounds.wake(container && idAmongAll(container));
  }

  /** An engine tells of a container. */
  happened(runtime: EngineName, event: ContainerEvent): void {
    const { trustLabels = false } = this.#parts;
    const wishes = { topology: this.#topology, trustLabels, kept: this.#kept };
    if (!isConcerned(runtime, event, wishes)) return;
    if (isToldWhole(this.#topology)) this.#parts.containers.heard(runtime, event);
    this.wake({ runtime, id: event.id });
  }

  /** Resolves when everything that was asked for so far has been looked at. */
  async idle(): Promise<void> {
    await this.#rounds.idle();
    while (this.#asking.size > 0) {
      await Promise.allSettled(this.#asking);
      await this.#rounds.idle();
    }
  }

  /** Reads the files anew. What cannot be read leaves the former topology in force, and is told in the status. */
  reload(): void {
    try {
      const loaded = this.#parts.loadTopology();
      if (!loaded && this.#hasFiles) throw new Error('the topology files are gone; what they wanted is kept');
      this.#hasFiles = loaded !== undefined;
      if (loaded) this.#topology = loaded;
      this.#topologyProblem = undefined;
    } catch (error) {
      const why = textOf(error);
      if (why !== this.#topologyProblem) this.#tell('files', 'topology', why);
      this.#topologyProblem = why;
    }
    this.retryNow();
  }

  /** What failed is tried again at once: something changed that may help. */
  retryNow(): void {
    for (const ledger of this.#ledgers.values()) ledger.retryNow();
    this.wake();
  }

  /** Stops looking; the network stays as it is. */
  async close(): Promise<void> {
    for (const timer of this.#timers.values()) clearTimeout(timer);
    await this.#rounds.close();
    this.#leases.close();
    await Promise.allSettled(this.#asking);
  }

  onEvent(listener: (event: AgentEvent) => void): Disposable {
    this.#listeners.add(listener);
    return { [Symbol.dispose]: () => this.#listeners.delete(listener) };
  }

  status(): { readonly attachments: readonly AttachmentStatus[]; readonly problems: readonly string[] } {
    const attachments = [...this.#ledgers.values()].map((ledger) => {
      const leases = this.#leases.status(ledger.key);
      return { ...ledger.status(), ...(leases && { leases }) };
    });
    const problems = this.#topologyProblem === undefined ? [] : [this.#topologyProblem];
    return {
      attachments: attachments.sort((a, b) => (a.key < b.key ? -1 : 1)),
      problems: [...problems, ...this.#away.texts(), ...this.#parts.store.problems()],
    };
  }

  /** What a round would do now. */
  async plan(): Promise<Outcome[]> {
    const { host, firewall } = this.#parts;
    const resolved = await this.#look('all', true);
    const { wanted, away } = resolved;
    const keys = keysToStay(resolved);
    const goal = {
      networks: this.#topology.networks,
      wanted,
      unwanted: unwantedRecords(inSight(host.state.records(), away), keys),
    };
    return converge(host, goal, { dryRun: true, firewall });
  }

  /** Where a file, or a label that is trusted, asks for this interface. */
  placeOf(container: KnownContainer, ifname: string): Place | undefined {
    const own = this.#topology.attachments.filter(({ selector }) => selects(selector, container));
    const labels = this.#parts.trustLabels ? labelsOf(this.#topology, container).entries : [];
    return [...own, ...labels.map(({ said }) => said.spec)].find((spec) => spec.ifname === ifname)?.place;
  }

  /** Keeps a command from now on; it was carried out already. */
  async keep(command: KeptCommand): Promise<void> {
    const key = keptKey(qualifiedName(command.want.container), command.want.ifname);
    const present = await this.#parts.store.read(key);
    await this.#parts.store.compareAndSet(key, command, present?.version);
    this.wake();
  }

  /** Forgets a command, and the lease of the interface. @param container its qualified name @returns whether one was kept */
  async forget(container: string, ifname: string): Promise<boolean> {
    const key = keptKey(container, ifname);
    await this.#leases.drop(`${container}/${ifname}`);
    const present = await this.#parts.store.read(key);
    if (!present) return false;
    await this.#parts.store.compareAndSet(key, undefined, present.version);
    this.#ledgers.delete(`${container}/${ifname}`);
    return true;
  }

  async #timedRound(scope: Scope, urgent: TakeUrgent): Promise<void> {
    if (scope !== 'all') return this.#round(scope, urgent);
    this.rest.begin();
    await this.#round(scope, urgent);
    this.rest.end();
  }

  async #round(scope: Scope, urgent: TakeUrgent): Promise<void> {
    const { host, log } = this.#parts;
    const view = new HostView(host, 'once');
    this.#leases.prune();
    try {
      if (scope === 'all') await this.#ensureNetworks();
      const resolved = await this.#look(scope);
      const { wanted, unwantable, away } = resolved;
      this.#kept = resolved.kept;
      // Before anything is done: who sees that a container is connected again has been told that its engine is back.
      if (scope === 'all' || this.#away.isNews(resolved)) {
        this.#away.note(resolved, this.#topology, () => view.records());
        this.#away.tell(log);
      }
      // One that is not there, or hangs, is heard of when it answers; any other failure may be over by now.
      const isOddly = ({ error }: Away): boolean => !hasErrno(error, 'ENOENT', 'ECONNREFUSED', 'ETIME');
      if ([...away.values()].some(isOddly)) this.#retry('engines', undefined, 2000);
      await this.#removeUnwanted(view, scope, resolved);
      this.#refuse(scope, unwantable);
      if (scope === 'all') this.#wanted.clear();
      for (const entry of wanted) this.#wanted.set(entry.wanted.key, entry.wanted.attachment);
      // A disk that was full has room again without telling anybody.
      const waits = unwantable.map(({ key }) => this.#ledger(key).waitMs());
      if (waits.length > 0) this.#retry('unwantable', undefined, Math.min(...waits) + 1);
      const attend = scope === 'all' ? this.#attendAll(view, wanted, urgent) : this.#attendSome(wanted);
      await attend;
      if (scope === 'all') {
        const keys = [...wanted.map((entry) => entry.wanted.key), ...this.#unwantable.keys()];
        this.#markWaiting(new Set(keys), away);
        this.#tellProblems();
      }
      this.#brokenBy = undefined;
    } catch (error) {
      // The state directory is away, or Open vSwitch: looked at again after a while.
      const why = textOf(error);
      if (why !== this.#brokenBy) log.warn({ error: why }, 'a round was broken off');
      this.#brokenBy = why;
      this.#retry('round', undefined, 2000);
    }
    this.#parts.onRound?.();
  }

  /** The log has each once; the status has them for as long as they last. */
  #tellProblems(): void {
    const { log, store } = this.#parts;
    const problems = store.problems();
    for (const problem of problems) if (!this.#told.has(problem)) log.warn({}, problem);
    this.#told = new Set(problems);
  }

  /** What cannot be had is told as long as its container runs and nothing has changed about it. */
  #refuse(scope: Scope, unwantable: Resolution['unwantable']): void {
    const keys = new Set(unwantable.map(({ key }) => key));
    for (const [key, container] of this.#unwantable) {
      if (keys.has(key) || (scope !== 'all' && !isAbout(scope, container))) continue;
      this.#unwantable.delete(key);
      this.#ledgers.delete(key);
    }
    for (const { key, why, container } of unwantable) {
      this.#unwantable.set(key, container);
      this.#fail(key, why);
    }
  }

  async #ensureNetworks(): Promise<void> {
    const { host, firewall } = this.#parts;
    const goal = { networks: this.#topology.networks, wanted: [], unwanted: [] };
    // Moves of NICs that commands began, and that nobody watches over any more.
    if (host.state.uplinks().some(({ phase }) => phase !== 'settled')) {
      using _lock = await acquireLock(host.state.lockPath);
      for (const warning of await recover(host)) this.#parts.log.warn({}, warning);
    }
    // A NIC that had to be put back is not moved again at once.
    const postponed = new Set(
      withNic(this.#topology.networks)
        .map(({ name, nic }) => uplinkKey(name, nic))
        .filter((key) => (this.#ledgers.get(key)?.waitMs() ?? 0) > 0),
    );
    for (const outcome of await converge(host, goal, { dryRun: false, firewall, postponed })) {
      if (outcome.error !== undefined) this.#fail(outcome.key, textOf(outcome.error));
      else this.#tell(outcome.key, 'made', summary(outcome.steps));
    }
  }

  /** What files and kept commands want of the containers in scope. */
  #look(scope: Scope, dryRun = false): Promise<Resolved> {
    return lookAround(this.#parts, this.#topology, scope, { dryRun, foreign: this.#addresses.foreign() });
  }

  async #removeUnwanted(view: HostView, scope: Scope, resolved: Resolved): Promise<void> {
    const { host, store } = this.#parts;
    const wanted = keysToStay(resolved);
    const running = resolved.wanted.map(({ container }) => container);
    const records =
      scope === 'all'
        ? view.records()
        : [...scope].flatMap((id) => host.state.recordsOf(containerKey(splitId(id))));
    // Of what was kept in a file that is damaged nobody said that it is wanted no more.
    const isForgotten = ({ container, ifname }: AttachmentRecord): boolean =>
      this.#hasFiles && !store.isDamaged(keptKey(qualifiedName(container), ifname));
    const unwanted = unwantedRecords(inSight(records, resolved.away), wanted, running).filter(
      (record) => isForgotten(record) || !lives(record.container),
    );
    if (unwanted.length === 0) return;
    for (const record of unwanted) {
      // One that is wanted again when its container is back keeps its address.
      const isOver = !wanted.has(keyOf(record)) && lives(record.container);
      if (isOver) await this.#leases.drop(keyOf(record));
    }
    const targets = unwanted.map((record) => ({ container: containerOf(record), ifname: record.ifname }));
    await detach(host, targets, { keepShared: true });
    for (const record of unwanted) {
      const key = keyOf(record);
      if (!wanted.has(key)) this.#ledgers.delete(key);
      this.#addresses.gone(key);
      this.#tell(key, 'removed', lives(record.container) ? 'it is wanted no more' : 'its container is gone');
    }
  }

  async #attendSome(wanted: readonly WantedHere[]): Promise<void> {
    for (const one of wanted) await this.#attend(one.wanted, one.container);
  }

  /** Container by container: what was right in this life of it is only looked at, and a start is served in between. */
  async #attendAll(view: HostView, wanted: readonly WantedHere[], urgent: TakeUrgent): Promise<void> {
    const { firewall } = this.#parts;
    let breath = performance.now();
    for (const { container, all } of byContainer(wanted)) {
      const isKnown = ({ key }: Wanted): boolean => this.#lives.get(key) === lifeOf(container);
      const known = all.filter(isKnown);
      const wrong = new Set(known.length > 0 ? await needingWork(view, container, known, { firewall }) : []);
      for (const one of all) {
        if (!isKnown(one) || wrong.has(one)) await this.#attend(one, container);
        else if (one.attachment.dhcp || this.#ledger(one.key).waitMs() === 0)
          await this.#settle(one, container);
      }
      if (performance.now() - breath < breathMs) continue;
      await new Promise((resolve) => setImmediate(resolve));
      const starts = urgent();
      if (starts) await this.#round(starts, urgent);
      breath = performance.now();
    }
  }

  async #attend(wanted: Wanted, container: Container): Promise<void> {
    const { key } = wanted;
    const ledger = this.#ledger(key);
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
    const ledger = this.#ledger(key);
    if (!wantsLease(attachment) && !this.#leases.status(key)) return ledger.right();
    try {
      await this.#leases.attend(key, attachment, container);
      this.#leaseChanged(key, undefined);
    } catch (error) {
      this.#fail(key, textOf(error));
    }
  }

  #leaseChanged(key: string, news: string | undefined): void {
    if (this.#leases.status(key)) {
      const why = this.#leases.lacks(key);
      if (why === undefined) this.#ledger(key).leased();
      else this.#ledger(key).leaseless(why);
    }
    if (news !== undefined) this.#tell(key, 'lease', news);
  }

  async #attach(
    ledger: Ledger,
    wanted: Wanted,
    container: Container,
    { life, onWait }: { readonly life: string; readonly onWait: () => void },
  ): Promise<void> {
    const { host, firewall } = this.#parts;
    const { key, attachment } = wanted;
    try {
      const verified = this.#addresses.heldBy(key, attachment);
      const isLeaving = leavingIn((other) => this.#wanted.get(other));
      const options = { dryRun: false, firewall, verified, isLeaving, onWait, keepsLeases: true };
      const { steps } = await attachWanted(host, wanted, container, options);
      this.#addresses.hold(key, attachment);
      const isNew = this.#lives.get(key) !== life;
      this.#lives.set(key, life);
      if (steps.length > 0 && isNew) {
        ledger.made();
        this.#tell(key, 'made', summary(steps));
      } else if (steps.length > 0) {
        const contested = ledger.repaired(summary(steps));
        this.#tell(key, contested ? 'contested' : 'repaired', summary(steps));
      }
      if (steps.length === 0 || wantsLease(wanted.attachment)) await this.#settle(wanted, container);
    } catch (error) {
      this.#fail(key, textOf(error));
      const claimed = foreignIn(wanted, error);
      if (claimed === undefined) return this.#retry(key, container, ledger.waitMs() + 1);
      // There are others in the range.
      this.#addresses.claim(claimed);
      ledger.retryNow();
      this.wake(container);
    }
  }

  #markWaiting(present: ReadonlySet<string>, away: AwayEngines): void {
    const waits = (key: string): void => this.#ledger(key).waiting(this.#away.waitsFor(key));
    const isHere = (key: string): boolean =>
      present.has(key) || (key.startsWith('podman:') && away.has('podman') && this.#ledgers.has(key));
    const { waiting, taken } = waitingKeys(this.#topology, isHere);
    for (const key of waiting) waits(key);
    for (const key of taken) this.#ledgers.delete(key);
    const { networks } = this.#topology;
    const named = new Set([
      ...networks.map(({ name }) => `network ${name}`),
      ...withNic(networks).map(({ name, nic }) => uplinkKey(name, nic)),
    ]);
    for (const [key, ledger] of [...this.#ledgers]) {
      const isNetwork = key.startsWith('network ');
      if (isNetwork ? !named.has(key) || ledger.waitMs() === 0 : false) this.#ledgers.delete(key);
      else if (!isNetwork && !present.has(key)) waits(key);
    }
  }

  #ledger(key: string): Ledger {
    let ledger = this.#ledgers.get(key);
    if (!ledger) {
      ledger = new Ledger(key);
      this.#ledgers.set(key, ledger);
    }
    return ledger;
  }

  #fail(key: string, why: string): void {
    const ledger = this.#ledger(key);
    const said = ledger.status().detail === why && ledger.status().state === 'failing';
    ledger.failed(why);
    // The same failure again is in the status; the log has it once.
    if (!said) this.#tell(key, 'failed', why);
  }

  /** A round later on, about one container or all. */
  #retry(key: string, container: Container | undefined, afterMs: number): void {
    clearTimeout(this.#timers.get(key));
    const timer = setTimeout(() => this.wake(container), afterMs);
    timer.unref();
    this.#timers.set(key, timer);
  }

  #tell(key: string, what: AgentEvent['what'], detail: string): void {
    const { log } = this.#parts;
    const level = what === 'failed' || what === 'contested' || what === 'topology' ? 'warn' : 'info';
    log[level]({ key, what }, detail);
    const event = { at: Date.now(), key, what, detail };
    for (const listener of this.#listeners) listener(event);
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

function summary(steps: readonly { readonly command: string }[]): string {
  return steps.map(({ command }) => command).join('; ');
}

function textOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

function isAbout(scope: ReadonlySet<string>, id: string): boolean {
  return [...scope].some((one) => splitId(one).id === id);
}
