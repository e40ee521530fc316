/** Which engines the agent misses: told once in the log, and in the status for as long as it lasts. */
import type { EngineName } from '../containers/docker.ts';
import type { Away } from '../containers/engines.ts';
import type { AttachmentRecord } from '../model/observed.ts';
import type { Topology } from '../model/topology.ts';
import type { Resolved } from './look.ts';
import type { AgentLog } from './parts.ts';

/** Engines that do not answer. */
export type AwayEngines = ReadonlyMap<EngineName, Away>;

/** The engines that are away, as far as anybody misses them. */
export class AwayBook {
  /** As they were last found, those that nobody misses among them. */
  #found: AwayEngines = new Map();
  #away: AwayEngines = new Map();
  #told: AwayEngines = new Map();

  /** Whether a look has found other engines away than the one before: by itself a start says nothing new of them. */
  isNews({ away }: Pick<Resolved, 'away'>): boolean {
    const isKnown = ([runtime, { isAbsent }]: [EngineName, Away]): boolean =>
      this.#found.get(runtime)?.isAbsent === isAbsent;
    return away.size !== this.#found.size || ![...away].every(isKnown);
  }

  /** What a look has come to. One that was never seen here is missed only where something names it. */
  note(
    { away, kept, isAnyThere }: Resolved,
    { attachments }: Topology,
    records: () => readonly AttachmentRecord[],
  ): void {
    this.#found = away;
    const isNamed = (runtime: EngineName): boolean =>
      kept.some((container) => container.runtime === runtime) ||
      attachments.some(({ selector }) => 'runtime' in selector && selector.runtime === runtime) ||
      records().some(({ container }) => container.runtime === runtime);
    // Where there is none at all, Docker is the one to be told of.
    const isAlone = !isAnyThere && attachments.length > 0;
    this.#away = new Map(
      [...away].filter(
        ([runtime, { isAbsent }]) => !isAbsent || (isAlone && runtime === 'docker') || isNamed(runtime),
      ),
    );
  }

  /** For the status. */
  texts(): string[] {
    return [...this.#away.values()].map(({ error }) => error.message);
  }

  /** Why an attachment waits, when its engine is away. @param key `web/eth1`, `podman:web/eth1` */
  waitsFor(key: string): string | undefined {
    const engine = this.#away.get(key.startsWith('podman:') ? 'podman' : 'docker');
    return engine && `${engine.title} does not answer`;
  }

  /** Says what has changed since it was last called. */
  tell(log: AgentLog): void {
    for (const [runtime, { error }] of this.#away) if (!this.#told.has(runtime)) log.warn({}, error.message);
    for (const [runtime, { title }] of this.#told)
      if (!this.#away.has(runtime)) log.info({}, `${title} is back`);
    this.#told = this.#away;
  }
}
