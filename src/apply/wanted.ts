/** A topology with the containers that run now: what is wanted of each, with addresses that are written down first. */
import type { Container } from '../containers/container.ts';
import { PipewrightError } from '../errors.ts';
import type { Topology } from '../model/topology.ts';
import { withLabels } from '../plan/labels.ts';
import { type KnownContainer, type Resolution, resolveTopology, type Wanted } from '../plan/topology.ts';
import type { Store } from '../store/store.ts';

/** A container as its engine lists it, and where its namespace is. */
export interface RunningContainer {
  readonly listed: KnownContainer;
  readonly container: Container;
}

/** One wanted attachment and the container that it is of. */
export interface WantedHere {
  readonly wanted: Wanted;
  readonly container: Container;
}

const addressesKey = 'addresses';

/** How a topology is resolved. */
export interface ResolveWantedOptions {
  readonly dryRun?: boolean;
  /** All containers that are known, when their labels are entries too; without them labels say nothing. */
  readonly labelled?: readonly RunningContainer[] | undefined;
}

/**
 * What the topology wants of these containers. An address is given out for good: it is in the store before it is used;
 * where it cannot be stored, its attachment is not to be had, and the others are.
 */
export async function resolveWanted(
  topology: Topology,
  running: readonly RunningContainer[],
  store: Store,
  options: ResolveWantedOptions = {},
): Promise<{ wanted: WantedHere[]; unwantable: Resolution['unwantable'] }> {
  const stored = await store.read<Record<string, string>>(addressesKey);
  const remembered = new Map(Object.entries(stored?.value ?? {}));
  const listed = running.map((container) => container.listed);
  const labelled = options.labelled?.map((container) => container.listed);
  const added = labelled ? withLabels(topology, labelled, remembered) : { topology, refused: [] };
  const resolution = resolveTopology(added.topology, listed, remembered);
  const ids = new Set(listed.map(({ id }) => id));
  const refused = added.refused.filter(({ container }) => ids.has(container));
  const unwantable = [...refused, ...resolution.unwantable];
  const lost = new Set<string>();
  if (!options.dryRun && resolution.addresses.size > remembered.size) {
    const addresses = Object.fromEntries(resolution.addresses);
    try {
      await store.compareAndSet(addressesKey, addresses, stored?.version);
    } catch (error) {
      if (!(error instanceof PipewrightError)) throw error;
      const isNew = ({ key }: Wanted): boolean =>
        Object.keys(addresses).some((slot) => slot.startsWith(`${key} `) && !remembered.has(slot));
      const idOf = new Map(listed.map(({ name, id }) => [name, id]));
      for (const { key, place, attachment } of resolution.wanted.filter(isNew)) {
        lost.add(key);
        const container = idOf.get(attachment.container.name) ?? '';
        const why = `its address cannot be kept: ${error.message}`;
        if (place) unwantable.push({ key, why, container, place });
      }
    }
  }
  const byName = new Map(running.map((one) => [one.listed.name, one.container]));
  const wanted = resolution.wanted.flatMap((one) => {
    const container = byName.get(one.attachment.container.name);
    return container && !lost.has(one.key) ? [{ wanted: one, container }] : [];
  });
  return { wanted, unwantable };
}
