/** A look at the containers: what files, labels and kept commands want of each that runs. */
import { keptPrefix, resolveWanted, type WantedHere } from '../apply/wanted.ts';
import { isWholeHost } from '../containers/engines.ts';
import { type ContainerRef, qualifiedName } from '../model/attachment.ts';
import type { Topology } from '../model/topology.ts';
import type { Resolution } from '../plan/topology.ts';
import type { AwayEngines } from './away.ts';
import type { KeptCommand } from './kept.ts';
import type { AgentParts } from './parts.ts';
import type { Scope } from './wakeable.ts';

/** What a look has come to. */
export interface Resolved {
  readonly wanted: readonly WantedHere[];
  readonly unwantable: Resolution['unwantable'];
  /** Engines whose containers were not seen. */
  readonly away: AwayEngines;
  /** Whether any engine answers. */
  readonly isAnyThere: boolean;
  /** The containers of kept commands. */
  readonly kept: readonly ContainerRef[];
}

/** How it is looked. */
interface LookOptions {
  /** Nothing is given out. */
  readonly dryRun: boolean;
  /** `NETWORK ADDRESS` that somebody on the link answers for. */
  readonly foreign: ReadonlySet<string>;
}

/** @throws PipewrightError when the state directory cannot be read */
export async function lookAround(
  { containers, store, trustLabels }: Pick<AgentParts, 'containers' | 'store' | 'trustLabels'>,
  topology: Topology,
  scope: Scope,
  { dryRun, foreign }: LookOptions,
): Promise<Resolved> {
  const { running, away } = scope === 'all' ? await containers.all() : await containers.some(scope);
  const parts = { store, existing: () => containers.existing(), foreign };
  const labelled = trustLabels ? containers.known() : undefined;
  const isComplete = scope === 'all' && isWholeHost(away);
  const options = { dryRun, labelled, isComplete };
  const { unwantable, ...asked } = await resolveWanted(topology, running, parts, options);
  const wanted = [...asked.wanted];
  const byName = new Map(running.map(({ listed, container }) => [qualifiedName(listed), container]));
  const keys = new Set(wanted.map((entry) => entry.wanted.key));
  const kept: ContainerRef[] = [];
  for (const { value } of await store.list<KeptCommand>(keptPrefix)) {
    const name = qualifiedName(value.want.container);
    const container = byName.get(name);
    const key = `${name}/${value.want.ifname}`;
    kept.push(value.want.container);
    // The file goes before a command that said something else of the same interface.
    if (!container || keys.has(key)) continue;
    wanted.push({ wanted: { key, attachment: value.want }, container });
  }
  return { wanted, unwantable, away, isAnyThere: away.size < containers.list.length, kept };
}
