/** A topology with what the labels of containers add to it. Pure. */
import type { KnownNetworks, SaidAttachment } from '../config/topology/attachment.ts';
import { labelPlace, labelPrefix, readAttachmentLabel } from '../config/topology/labels.ts';
import { Occupied } from '../config/topology/occupied.ts';
import { Refused } from '../config/topology/values.ts';
import { formatCidr } from '../model/address.ts';
import { qualifiedName } from '../model/attachment.ts';
import type { NetworkSpec, Place, Topology } from '../model/topology.ts';
import { type KnownContainer, selects, type Unwantable } from './topology.ts';

/** What labels say of one container. */
interface Labels {
  readonly entries: readonly LabelEntry[];
  readonly refused: readonly Unwantable[];
}

interface LabelEntry {
  readonly said: SaidAttachment;
  readonly container: KnownContainer;
  readonly label: string;
}

/**
 * The topology with an entry for each label of these containers. A file goes before a label that says something of the same
 * interface. What is wrong with a label, or cannot be together with a file or with the label of a container whose name comes
 * before, is refused by itself.
 * @param remembered addresses given out, by `KEY NETWORK FAMILY`
 */
export function withLabels(
  topology: Topology,
  containers: readonly KnownContainer[],
  remembered: ReadonlyMap<string, string>,
): { readonly topology: Topology; readonly refused: readonly Unwantable[] } {
  const byName = [...containers].sort((a, b) => (qualifiedName(a) < qualifiedName(b) ? -1 : 1));
  const all = byName.map((container) => labelsOf(topology, container));
  const free = withoutTaken(
    all.flatMap((one) => one.entries),
    remembered,
  );
  const { entries, refused } = withoutConflicts(topology, free.entries);
  const attachments = [...topology.attachments, ...entries.map(({ said }) => said.spec)];
  return {
    topology: { ...topology, attachments },
    refused: [...all.flatMap((one) => one.refused), ...free.refused, ...refused],
  };
}

/** Read once for each topology and container: rounds are many. */
const memory = new WeakMap<Topology, WeakMap<object, Labels>>();

/** What the labels of one container say of it, without what a file says. */
export function labelsOf(topology: Topology, container: KnownContainer): Labels {
  const known = memory.get(topology) ?? new WeakMap<object, Labels>();
  memory.set(topology, known);
  const before = known.get(container);
  if (before) return before;
  const read = readLabels(topology, container);
  known.set(container, read);
  return read;
}

function readLabels(topology: Topology, container: KnownContainer): Labels {
  const entries: LabelEntry[] = [];
  const refused: Unwantable[] = [];
  const names = Object.keys(container.labels).filter((name) => name.startsWith(labelPrefix));
  if (names.length === 0) return { entries, refused };
  const networks = networksOf(topology);
  const own = topology.attachments.filter(({ selector }) => selects(selector, container));
  for (const label of names.sort()) {
    const value = container.labels[label] ?? '';
    const said = readAttachmentLabel(qualifiedName(container), { name: label, value }, networks);
    if (said instanceof Refused) {
      refused.push(refusal({ container, label }, said.why, said.hint));
      continue;
    }
    if (!own.some((spec) => spec.ifname === said.spec.ifname)) entries.push({ said, container, label });
  }
  return { entries, refused };
}

function networksOf({ networks }: Topology): KnownNetworks {
  const specs = new Map(networks.map((network) => [network.name, network]));
  return { specs, names: new Set(specs.keys()) };
}

function refusal(
  { container, label }: Pick<LabelEntry, 'container' | 'label'>,
  why: string,
  hint: string | undefined,
): Unwantable {
  return {
    key: `${qualifiedName(container)}/${label}`,
    why: hint === undefined ? why : `${why}; ${hint}`,
    place: labelPlace(qualifiedName(container), label),
    container: container.id,
  };
}

/** Addresses that a range gave to another interface of the network stay its own. */
function withoutTaken(
  entries: readonly LabelEntry[],
  remembered: ReadonlyMap<string, string>,
): { readonly entries: LabelEntry[]; readonly refused: Unwantable[] } {
  const owners = new Map<string, string>();
  for (const [slot, ip] of remembered) {
    const [key = '', network = ''] = slot.split(' ');
    owners.set(`${network} ${ip}`, key);
  }
  const refused: Unwantable[] = [];
  const left = entries.filter(({ said: { spec }, container, label }) => {
    const cidrs = typeof spec.addresses === 'string' ? [] : spec.addresses;
    const key = `${qualifiedName(container)}/${spec.ifname}`;
    const other = cidrs.find(({ ip }) => (owners.get(`${spec.network} ${ip}`) ?? key) !== key);
    if (!other) return true;
    const owner = owners.get(`${spec.network} ${other.ip}`);
    const why = `${formatCidr(other)} was given out to ${owner}`;
    refused.push(
      refusal({ container, label }, why, `choose one outside of the range of ${spec.network}, or auto`),
    );
    return false;
  });
  return { entries: left, refused };
}

/** Takes out what contradicts a file or an entry before. What is refused takes nothing from those after it. */
function withoutConflicts(
  topology: Topology,
  entries: readonly LabelEntry[],
): { readonly entries: LabelEntry[]; readonly refused: Unwantable[] } {
  if (entries.length === 0) return { entries: [], refused: [] };
  const { specs } = networksOf(topology);
  const occupied = new Occupied();
  for (const spec of topology.networks) occupied.addNetwork({ spec, said: nothingSaid(spec.place) });
  for (const spec of topology.attachments) {
    occupied.add({ spec, said: nothingSaid(spec.place), network: specs.get(spec.network) });
  }
  const refused: Unwantable[] = [];
  const interfaces = new Map<string, string>();
  const left = entries.filter((entry) => {
    const { ifname } = entry.said.spec;
    const key = `${qualifiedName(entry.container)}/${ifname}`;
    const label = interfaces.get(key);
    const [problem] =
      label === undefined
        ? occupied.conflictsOf(entry.said)
        : [{ message: `${label} gives it an ${ifname} already`, hint: 'say another ifname' }];
    if (problem) refused.push(refusal(entry, problem.message, problem.hint));
    else {
      occupied.add(entry.said);
      interfaces.set(key, entry.label);
    }
    return problem === undefined;
  });
  return { entries: left, refused };
}

/** An entry of a file as it was read: where its parts were is known no more. */
function nothingSaid(place: NetworkSpec['place'] | Place): SaidAttachment['said'] {
  return { value: undefined, place, parts: new Map() };
}
