/** A topology with the containers that run now: what is wanted of each, with addresses that are written down first. */
import type { Container } from '../containers/container.ts';
import { stableSecretOf } from '../dhcp/identity.ts';
import { machineId } from '../dhcp/machine-id.ts';
import { PipewrightError } from '../errors.ts';
import { qualifiedName } from '../model/attachment.ts';
import type { Topology } from '../model/topology.ts';
import { withStableSecret } from '../plan/ipv6.ts';
import { withLabels } from '../plan/labels.ts';
import {
  isSameMemory,
  type Memory,
  memoryOf,
  reclaimableOf,
  remember,
  type StoredMemory,
} from '../plan/remembered.ts';
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

/** What addresses are given out from. */
export interface AddressParts {
  readonly store: Store;
  /** Names of all containers that exist, stopped ones too; asked when a range is full. */
  readonly existing: () => Promise<Pick<ReadonlySet<string>, 'has'>>;
  /** `NETWORK ADDRESS` that somebody on the link answers for. */
  readonly foreign: ReadonlySet<string>;
}

/** How a topology is resolved. */
export interface ResolveWantedOptions {
  /** Nothing is given out. */
  readonly dryRun?: boolean;
  /** These are all containers that run, so that what the others had is in use no more. */
  readonly isComplete?: boolean;
  /** All containers that are known, when their labels are entries too; without them labels say nothing. */
  readonly labelled?: readonly RunningContainer[] | undefined;
}

const addressesKey = 'addresses';

/** Where the agent keeps commands, one below this for each. */
export const keptPrefix = 'attachments';
/** Of the last lease of each attachment. */
export const leasesPrefix = 'leases';

/** Held by the agent that works with this state directory: there is only one. */
export function agentLockPath(stateDir: string): string {
  return `${stateDir}/agent.lock`;
}

/** What a topology comes to here. */
interface WantedOfTopology {
  readonly wanted: readonly WantedHere[];
  readonly unwantable: Resolution['unwantable'];
}

/**
 * What the topology wants of these containers. An address is given out for good: it is in the store before it is used;
 * where it cannot be stored, its attachment is not to be had, and the others are.
 */
export async function resolveWanted(
  topology: Topology,
  running: readonly RunningContainer[],
  parts: AddressParts,
  options: ResolveWantedOptions = {},
): Promise<WantedOfTopology> {
  const { store } = parts;
  for (;;) {
    const stored = await store.read<StoredMemory>(addressesKey);
    const memory = memoryOf(stored?.value);
    const resolution = await resolveFrom(topology, running, memory, parts, options.labelled);
    const { addresses, used } = resolution;
    const isComplete = options.isComplete ?? false;
    const next = remember(memory, addresses, used, { isComplete, now: Date.now() });
    if (options.dryRun || isSameMemory(memory, next)) return here(resolution, running);
    try {
      // Somebody else may have given some out in between.
      if (await store.compareAndSet(addressesKey, next, stored?.version)) return here(resolution, running);
    } catch (error) {
      if (!(error instanceof PipewrightError)) throw error;
      return withoutNew(
        here(resolution, running),
        memory,
        next,
        `its address cannot be kept: ${error.message}`,
      );
    }
  }
}

/** What cannot be had is wanted all the same: what there is of it stays, unless it is another container's. */
export function keysToStay({ wanted, unwantable }: WantedOfTopology): Set<string> {
  const ours = unwantable.filter(({ isOthers }) => isOthers !== true);
  return new Set([...wanted.map((entry) => entry.wanted.key), ...ours.map(({ key }) => key)]);
}

async function resolveFrom(
  topology: Topology,
  running: readonly RunningContainer[],
  memory: Memory,
  { existing, foreign }: AddressParts,
  labelled: readonly RunningContainer[] | undefined,
): Promise<Resolution> {
  const containers = running.map(({ listed }) => listed);
  const addresses = new Map(Object.entries(memory).map(([slot, { ip }]) => [slot, ip]));
  const known = labelled?.map(({ listed }) => listed);
  const added = known ? withLabels(topology, known, addresses) : { topology, refused: [] };
  const resolve = (reclaimable?: readonly string[]): Resolution =>
    resolveTopology(added.topology, containers, { addresses, foreign, reclaimable });
  const first = resolve();
  const isFull = first.unwantable.some(({ isExhausted }) => isExhausted);
  const resolution = isFull ? resolve(reclaimableOf(memory, await existing())) : first;
  const ids = new Set(containers.map(({ id }) => id));
  const refused = added.refused.filter(({ container }) => ids.has(container));
  return { ...resolution, unwantable: [...refused, ...resolution.unwantable] };
}

function here({ wanted, unwantable }: Resolution, running: readonly RunningContainer[]): WantedOfTopology {
  const byName = new Map(running.map(({ listed, container }) => [qualifiedName(listed), container]));
  const found = wanted.flatMap((one) => {
    const container = byName.get(qualifiedName(one.attachment.container));
    return container ? [{ wanted: withSecret(one), container }] : [];
  });
  return { wanted: found, unwantable };
}

/** Without those whose addresses were given out just now, in vain. */
function withoutNew(
  { wanted, unwantable }: WantedOfTopology,
  memory: Memory,
  next: Memory,
  why: string,
): WantedOfTopology {
  const added = Object.keys(next).filter((slot) => memory[slot]?.ip !== next[slot]?.ip);
  const isNew = ({ wanted: { key } }: WantedHere): boolean =>
    added.some((slot) => slot.startsWith(`${key} `));
  const lost = wanted.filter(isNew).flatMap(({ wanted: { key, place }, container }) => {
    return place ? [{ key, why, container: container.id, place }] : [];
  });
  return { wanted: wanted.filter((one) => !isNew(one)), unwantable: [...unwantable, ...lost] };
}

/** The address of a range, as `NETWORK ADDRESS`, that could not be had because somebody has it: another one will do. */
export function foreignIn({ auto }: Wanted, error: unknown): string | undefined {
  const isUsed = error instanceof PipewrightError && error.code === 'ADDRESS_IN_USE';
  return isUsed && auto?.ips.includes(error.subject) ? `${auto.network} ${error.subject}` : undefined;
}

/** What outlives a reboot: kept commands as `CONTAINER/IFNAME`, and how many addresses were given out. */
export async function kept(
  store: Store,
): Promise<{ readonly commands: readonly string[]; readonly addresses: number }> {
  const commands = await store.list(keptPrefix);
  const addresses = await store.read<StoredMemory>(addressesKey);
  return {
    commands: commands.map(({ key }) => key.slice(keptPrefix.length + 1).replace(' ', '/')),
    addresses: Object.keys(addresses?.value ?? {}).length,
  };
}

/** Forgets all that. */
export async function forgetAll(store: Store): Promise<void> {
  const addresses = await store.read(addressesKey);
  const lists = [await store.list(keptPrefix), await store.list(leasesPrefix), addresses ? [addresses] : []];
  for (const { key, version } of lists.flat()) {
    await store.compareAndSet(key, undefined, version);
  }
}

/** The kernel makes stable addresses from a secret, which is this host's. */
function withSecret(wanted: Wanted): Wanted {
  const { ipv6, sysctls = {}, container, ifname } = wanted.attachment;
  if (!ipv6) return wanted;
  const secret = stableSecretOf(machineId(), container.name, ifname);
  return {
    ...wanted,
    attachment: { ...wanted.attachment, sysctls: withStableSecret(sysctls, ipv6, secret) },
  };
}
