/** The loop that keeps a host as its topology wants it: wake, look, put right, tell. */
import { converge, inSight, type Outcome, unwantedRecords, uplinkKey } from '../apply/converge.ts';
import { recover } from '../apply/transaction.ts';
import { withNic } from '../apply/uplink-network.ts';
import { keysToStay } from '../apply/wanted.ts';
import type { Container } from '../containers/container.ts';
import type { ContainerEvent, EngineName } from '../containers/docker.ts';
import { type Away, idAmongAll } from '../containers/engines.ts';
import { LeaseKeeper } from '../dhcp/keeper.ts';
import { hasErrno } from '../errors.ts';
import { acquireLock } from '../kernel/lock.ts';
import { type ContainerRef, qualifiedName } from '../model/attachment.ts';
import type { Place, Topology } from '../model/topology.ts';
import { HostView } from '../observe/view.ts';
import { labelsOf } from '../plan/labels.ts';
import { type KnownContainer, selects } from '../plan/topology.ts';
import { AddressBook } from './addresses.ts';
import { AwayBook } from './away.ts';
import { isConcerned, isToldWhole } from './concern.ts';
import { Connections } from './connections.ts';
import { removeUnwanted } from './departures.ts';
import { adopt, type KeptCommand, keptKey } from './kept.ts';
import { Ledgers } from './ledgers.ts';
import { lookAround, type Resolved } from './look.ts';
import { type AgentParts, summary, textOf } from './parts.ts';
import { Refusals } from './refusals.ts';
import { Retries } from './retries.ts';
import { Rest } from './settle.ts';
import type { AttachmentStatus } from './status.ts';
import { type AgentEvent, Teller } from './teller.ts';
import { type Scope, type TakeUrgent, Wakeable } from './wakeable.ts';

/** Keeps a host as its topology and its kept commands want it. */
export class Agent {
  readonly #parts: AgentParts;
  readonly #ledgers = new Ledgers();
  readonly #addresses = new AddressBook();
  readonly #away = new AwayBook();
  readonly #retries = new Retries();
  readonly #teller: Teller;
  readonly #refusals: Refusals;
  readonly #leases: LeaseKeeper;
  readonly #connections: Connections;
  readonly #rounds = new Wakeable((scope, urgent) => this.#timedRound(scope, urgent));
  /** How much of the time rounds about everything take. */
  readonly rest = new Rest();
  #topology: Topology = { networks: [], attachments: [], expects: [] };
  #topologyProblem: string | undefined;
  /** Without a file nobody says what is wanted no more. */
  #hasFiles = false;
  /** The containers of kept commands, as they were last looked at. */
  #kept: readonly ContainerRef[] = [];
  /** Why the last round was broken off: said once. */
  #brokenBy: string | undefined;

  constructor(parts: AgentParts) {
    this.#parts = parts;
    const { containers, firewall, host, log, store } = parts;
    this.#teller = new Teller(log, this.#ledgers);
    this.#refusals = new Refusals(this.#ledgers, this.#teller);
    const onChange = (key: string, news: string | undefined): void =>
      this.#connections.leaseChanged(key, news);
    this.#leases = new LeaseKeeper({ host, store, onChange });
    this.#connections = new Connections({
      host,
      firewall,
      ledgers: this.#ledgers,
      teller: this.#teller,
      retries: this.#retries,
      addresses: this.#addresses,
      leases: this.#leases,
      wake: (container) => this.wake(container),
    });
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
    while (await this.#connections.asked()) await this.#rounds.idle();
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
      if (why !== this.#topologyProblem) this.#teller.tell('files', 'topology', why);
      this.#topologyProblem = why;
    }
    this.#ledgers.retryNow(true);
    this.wake();
  }

  /** What failed is tried again at once: something changed that may help. */
  retryNow(): void {
    this.#ledgers.retryNow(false);
    this.wake();
  }

  /** Stops looking; the network stays as it is. */
  async close(): Promise<void> {
    this.#retries.close();
    await this.#rounds.close();
    this.#leases.close();
    await this.#connections.asked();
  }

  onEvent(listener: (event: AgentEvent) => void): Disposable {
    return this.#teller.onEvent(listener);
  }

  status(): { readonly attachments: readonly AttachmentStatus[]; readonly problems: readonly string[] } {
    const attachments = this.#ledgers.all().map((ledger) => {
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
    this.#ledgers.drop(`${container}/${ifname}`);
    return true;
  }

  async #timedRound(scope: Scope, urgent: TakeUrgent): Promise<void> {
    if (scope !== 'all') return this.#round(scope, urgent);
    this.rest.begin();
    await this.#round(scope, urgent);
    this.rest.end();
  }

  async #round(scope: Scope, urgent: TakeUrgent): Promise<void> {
    const view = new HostView(this.#parts.host, 'once');
    this.#leases.prune();
    try {
      if (scope === 'all') await this.#ensureNetworks();
      const resolved = await this.#look(scope);
      this.#kept = resolved.kept;
      this.#noteAway(scope, resolved, view);
      await this.#act(scope, resolved, view, urgent);
      this.#brokenBy = undefined;
    } catch (error) {
      // The state directory is away, or Open vSwitch: looked at again after a while.
      const why = textOf(error);
      if (why !== this.#brokenBy) this.#parts.log.warn({ error: why }, 'a round was broken off');
      this.#brokenBy = why;
      this.#retryAll('round', 2000);
    }
    this.#parts.onRound?.();
  }

  /** Before anything is done: who sees that a container is connected again has been told that its engine is back. */
  #noteAway(scope: Scope, resolved: Resolved, view: HostView): void {
    // One that is not there, or hangs, is heard of when it answers; any other failure may be over by now.
    const isOddly = ({ error }: Away): boolean => !hasErrno(error, 'ENOENT', 'ECONNREFUSED', 'ETIME');
    if ([...resolved.away.values()].some(isOddly)) this.#retryAll('engines', 2000);
    if (scope !== 'all' && !this.#away.isNews(resolved)) return;
    this.#away.note(resolved, this.#topology, () => view.records());
    this.#away.tell(this.#parts.log);
  }

  async #act(scope: Scope, resolved: Resolved, view: HostView, urgent: TakeUrgent): Promise<void> {
    const { host, store } = this.#parts;
    const { wanted, unwantable } = resolved;
    const parts = {
      host,
      store,
      ledgers: this.#ledgers,
      teller: this.#teller,
      addresses: this.#addresses,
      leases: this.#leases,
    };
    // What cannot be taken away is no reason not to connect the others.
    const failure = await removeUnwanted(parts, view, scope, resolved, this.#hasFiles).then(
      () => undefined,
      (error: unknown) => ({ error }),
    );
    this.#refusals.note(scope, unwantable);
    this.#connections.want(wanted, scope === 'all');
    // A disk that was full has room again without telling anybody.
    const waits = unwantable.map(({ key }) => this.#ledgers.waitMs(key));
    if (waits.length > 0) this.#retryAll('unwantable', Math.min(...waits) + 1);
    if (scope === 'all') await this.#attendAll(resolved, view, urgent);
    else await this.#connections.attendSome(wanted);
    if (failure) throw failure.error;
  }

  async #attendAll({ wanted, away }: Resolved, view: HostView, urgent: TakeUrgent): Promise<void> {
    await this.#connections.attendAll(view, wanted, async () => {
      const starts = urgent();
      if (starts) await this.#round(starts, urgent);
    });
    const present = new Set([...wanted.map((entry) => entry.wanted.key), ...this.#refusals.keys()]);
    this.#ledgers.markWaiting(present, this.#topology, {
      isPodmanAway: away.has('podman'),
      waitsFor: (key) => this.#away.waitsFor(key),
    });
    this.#teller.problems(this.#parts.store.problems());
  }

  async #ensureNetworks(): Promise<void> {
    const { host, firewall, log } = this.#parts;
    const goal = { networks: this.#topology.networks, wanted: [], unwanted: [] };
    // Moves of NICs that commands began, and that nobody watches over any more.
    if (host.state.uplinks().some(({ phase }) => phase !== 'settled')) {
      using _lock = await acquireLock(host.state.lockPath);
      for (const warning of await recover(host)) log.warn({}, warning);
    }
    // A NIC that had to be put back is not moved again at once.
    const postponed = new Set(
      withNic(this.#topology.networks)
        .map(({ name, nic }) => uplinkKey(name, nic))
        .filter((key) => this.#ledgers.waitMs(key) > 0),
    );
    const outcomes = await converge(host, goal, { dryRun: false, firewall, postponed });
    const failed = outcomes.filter(({ error }) => error !== undefined).map(({ key }) => key);
    this.#ledgers.networksRight(new Set([...failed, ...postponed]));
    for (const outcome of outcomes) {
      if (outcome.error !== undefined) this.#teller.fail(outcome.key, textOf(outcome.error));
      else this.#teller.tell(outcome.key, 'made', summary(outcome.steps));
    }
  }

  /** What files and kept commands want of the containers in scope. */
  #look(scope: Scope, dryRun = false): Promise<Resolved> {
    return lookAround(this.#parts, this.#topology, scope, { dryRun, foreign: this.#addresses.foreign() });
  }

  /** A round about everything later on. @param about what it is for: the last word about it counts */
  #retryAll(about: string, afterMs: number): void {
    this.#retries.after(about, afterMs, () => this.wake());
  }
}
