/** The engines of this host together: what runs in each, and which of them do not answer. */
import { statSync } from 'node:fs';
import type { RunningContainer } from '../apply/wanted.ts';
import { hasErrno, PipewrightError } from '../errors.ts';
import { qualifiedName } from '../model/attachment.ts';
import {
  type ContainerEvent,
  Engine,
  type EngineName,
  type EngineOptions,
  isSocketChosen,
} from './docker.ts';
import { ContainerCache } from './running.ts';

/** Milliseconds; then the others go on without it. */
const usualPatienceMs = 5000;
/** Milliseconds for one that did not answer in time when it was last asked. */
const lastPatienceMs = 100;
/** Milliseconds for one that was never heard of to say that it is there: its socket may be systemd's, who starts it later. */
const firstPatienceMs = 2000;

/** An engine that does not answer. */
export interface Away {
  readonly title: string;
  readonly error: PipewrightError;
  /** Nobody said that it is on this host: it never answered, and has no socket. */
  readonly isAbsent: boolean;
}

/** What is seen to run. */
export interface Sighting {
  readonly running: readonly RunningContainer[];
  /** Engines of whose containers nothing is known now. */
  readonly away: ReadonlyMap<EngineName, Away>;
}

/** One engine, and what is known of it. */
interface Watched {
  readonly engine: Engine;
  readonly cache: ContainerCache;
  /** Why it does not answer, as it was first found. */
  error?: PipewrightError | undefined;
  hasAnswered: boolean;
  /** A question that it has not answered in time. */
  isLate: boolean;
  patienceMs: number;
}

/**
 * Docker and Podman. Podman is left out where CONTAINER_HOST names an engine of another host. Throws RUNTIME_UNAVAILABLE
 * when DOCKER_HOST does.
 */
export function enginesOfHost(options: Pick<EngineOptions, 'keepAlive'> = {}): Engine[] {
  const docker = new Engine(options);
  try {
    return [docker, new Engine({ ...options, runtime: 'podman' })];
  } catch (error) {
    if (!(error instanceof PipewrightError)) throw error;
    return [docker];
  }
}

/** Whether what was seen is all there is: nobody who is away is known to be on this host. */
export function isWholeHost(away: Sighting['away']): boolean {
  return [...away.values()].every(({ isAbsent }) => isAbsent);
}

/** A container among those of all engines, for {@link Engines.some}. */
export function idAmongAll({ runtime, id }: { readonly runtime: string; readonly id: string }): string {
  return `${runtime}:${id}`;
}

/** The opposite of {@link idAmongAll}. */
export function splitId(text: string): { readonly runtime: string; readonly id: string } {
  const at = text.indexOf(':');
  return { runtime: text.slice(0, at), id: text.slice(at + 1) };
}

/** Asks several engines at the same time; one that is away is named, and the others are told of. */
export class Engines {
  /** In the order in which they go before each other, where two have a container of one name. */
  readonly list: readonly Engine[];
  readonly #watched: readonly Watched[];
  readonly #patienceMs: number;
  #onReturn: () => void = () => {};

  /** @param patienceMs milliseconds that the others wait for one that has answered before */
  constructor(list: readonly Engine[], patienceMs = usualPatienceMs) {
    this.list = list;
    this.#patienceMs = patienceMs;
    this.#watched = list.map((engine) => ({
      engine,
      cache: new ContainerCache(engine),
      hasAnswered: false,
      isLate: false,
      patienceMs,
    }));
  }

  /** Called when a question is answered, or given up, that was too late for whoever had asked it. */
  onReturn(listener: () => void): void {
    this.#onReturn = listener;
  }

  /** An event that is about to be looked into, by {@link Engines.some}: what it says need not be asked for. */
  heard(runtime: EngineName, event: ContainerEvent): void {
    for (const { cache, engine } of this.#watched) if (engine.runtime === runtime) cache.heard(event);
  }

  /** All that run. */
  async all(): Promise<Sighting> {
    return this.#see((cache) => cache.all());
  }

  /** Those of these that run, asked anew; see {@link idAmongAll}. */
  async some(ids: ReadonlySet<string>): Promise<Sighting> {
    const split = [...ids].map(splitId);
    return this.#see(async (cache, runtime) => {
      const own = split.flatMap((one) => (one.runtime === runtime ? [one.id] : []));
      return own.length === 0 ? undefined : cache.some(own);
    });
  }

  /** Whether a container exists, stopped ones too, by its qualified name; all that an engine that is away may have do. */
  async existing(): Promise<Pick<ReadonlySet<string>, 'has'>> {
    const names = new Set<string>();
    const unknown = new Set<EngineName>();
    for (const { engine, cache } of this.#present()) {
      const { runtime } = engine;
      try {
        for (const name of await cache.existing()) names.add(qualifiedName({ runtime, name }));
      } catch (error) {
        if (!(error instanceof PipewrightError)) throw error;
        unknown.add(runtime);
      }
    }
    const isUnknown = (name: string): boolean =>
      unknown.has(name.startsWith('podman:') ? 'podman' : 'docker');
    return { has: (name) => names.has(name) || isUnknown(name) };
  }

  /** All that were running when they were last asked for. */
  known(): RunningContainer[] {
    const present = this.#present();
    return present.flatMap(({ cache }, at) => withNamesakes(cache.known(), present.slice(0, at)));
  }

  #present(): Watched[] {
    return this.#watched.filter((one, at) => !this.#isEarlier(one, at));
  }

  async #see(
    question: (cache: ContainerCache, runtime: EngineName) => Promise<RunningContainer[] | undefined>,
  ): Promise<Sighting> {
    const present = this.#present();
    const answers = await Promise.all(
      present.map((one) => this.#ask(one, () => question(one.cache, one.engine.runtime))),
    );
    const running = answers.flatMap((answer, at) => withNamesakes(answer ?? [], present.slice(0, at)));
    const away = present.flatMap(({ engine, error, hasAnswered }) => {
      if (!error) return [];
      const isAbsent = !hasAnswered && hasErrno(error, 'ENOENT') && !isSocketChosen(engine.runtime);
      return [[engine.runtime, { title: engine.title, error, isAbsent }] as const];
    });
    return { running, away: new Map(away) };
  }

  /** Whether an engine before it is the same one: podman-docker makes docker.sock a link to Podman's. */
  #isEarlier({ engine }: Watched, at: number): boolean {
    const own = statSync(engine.socketPath, { throwIfNoEntry: false });
    return this.#watched.slice(0, at).some((earlier) => {
      const other = statSync(earlier.engine.socketPath, { throwIfNoEntry: false });
      return own !== undefined && other?.ino === own.ino && other.dev === own.dev;
    });
  }

  /** Undefined when the engine is away, or was not asked. Throws what is no fault of the engine. */
  async #ask<T>(one: Watched, question: () => Promise<T | undefined>): Promise<T | undefined> {
    if (one.isLate) return undefined;
    const answer = question();
    try {
      const value = await this.#inTime(one, answer);
      if (value === undefined) return undefined;
      one.error = undefined;
      one.hasAnswered = true;
      one.patienceMs = this.#patienceMs;
      return value;
    } catch (error) {
      if (!(error instanceof PipewrightError)) throw error;
      one.error ??= error;
      return undefined;
    }
  }

  /**
   * One that hangs keeps the others waiting once; alone it has as long as it takes. For the first time, too, once it has
   * said that it is there: the agent's readiness waits for its containers, and at boot its own start for that readiness.
   */
  async #inTime<T>(one: Watched, answer: Promise<T>): Promise<T> {
    if (!one.hasAnswered) {
      // What it says to either question does; a failure is the answer's to tell.
      const said = Promise.race([one.engine.ping(), answer]).catch(() => {});
      await this.#orTooLate(one, answer, said, Math.min(firstPatienceMs, one.patienceMs));
      return answer;
    }
    const hasOthers = this.#watched.some((other) => other !== one && other.hasAnswered);
    return hasOthers ? this.#orTooLate(one, answer, answer, one.patienceMs) : answer;
  }

  async #orTooLate<T>(one: Watched, answer: Promise<unknown>, sign: Promise<T>, ms: number): Promise<T> {
    let timer: NodeJS.Timeout | undefined;
    const timeOut = new Promise<never>((_resolve, reject) => {
      timer = setTimeout(() => reject(this.#tooLate(one, answer)), ms);
    });
    try {
      return await Promise.race([sign, timeOut]);
    } finally {
      clearTimeout(timer);
    }
  }

  /** It is not asked again before it has answered; what it says then may be a failure too. */
  #tooLate(one: Watched, answer: Promise<unknown>): PipewrightError {
    const { runtime, socketPath, title } = one.engine;
    one.isLate = true;
    const over = (patienceMs: number): void => {
      one.isLate = false;
      one.patienceMs = patienceMs;
      this.#onReturn();
    };
    answer.then(
      () => over(this.#patienceMs),
      () => over(lastPatienceMs),
    );
    const detail = `${title} does not answer`;
    return new PipewrightError('RUNTIME_UNAVAILABLE', {
      op: `${runtime}.list`,
      subject: socketPath,
      errno: 'ETIME',
      detail,
    });
  }
}

/** Says of each whether an engine that goes before has one of its name. */
function withNamesakes(found: readonly RunningContainer[], earlier: readonly Watched[]): RunningContainer[] {
  const titles = new Map<string, string>();
  for (const { cache, engine } of earlier)
    for (const { listed } of cache.known()) titles.set(listed.name, engine.title);
  return found.map((one) => {
    const namesake = titles.get(one.listed.name);
    return namesake === undefined ? one : { ...one, listed: { ...one.listed, namesake } };
  });
}
