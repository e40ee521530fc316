/** Topology x running containers -> the attachments that are wanted, each of one container. Pure. */
import { matchesPattern } from '../config/topology/pattern.ts';
import { addressBits, type Cidr, contains, type Family, macFromText } from '../model/address.ts';
import {
  type AddrSpec,
  type Attachment,
  childModeOf,
  type Network,
  type OvsVlans,
  ovsVlansOf,
  qualifiedName,
  type SriovNetwork,
} from '../model/attachment.ts';
import type { AttachmentSpec, NetworkSpec, Place, Selector, Topology } from '../model/topology.ts';
import { ipv6Sysctls } from './ipv6.ts';
import { assign } from './range.ts';

/** A container as its runtime lists it. */
export interface KnownContainer {
  readonly runtime: 'docker' | 'podman' | 'lxc';
  readonly id: string;
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
  /** The engine that goes before this one and has a container of the same name. */
  readonly namesake?: string;
}

/** One wanted attachment of one container. */
export interface Wanted {
  /** `web/eth1`, `podman:web/eth1`: stable for as long as the container keeps its name. */
  readonly key: string;
  readonly attachment: Attachment;
  /** Name of the network; absent: a one-line command asked for it. */
  readonly network?: string;
  /** Addresses that are from the range of this network, for want of any that is asked for by itself. */
  readonly auto?: { readonly network: string; readonly ips: readonly string[] } | undefined;
  /** Where the file says so; absent: a one-line command did. */
  readonly place?: Place;
}

/** Why an entry of the file, or a label, cannot be had for a container. */
export interface Unwantable {
  readonly key: string;
  readonly why: string;
  readonly place: Place;
  /** Its id. */
  readonly container: string;
  /** The range is full. */
  readonly isExhausted?: boolean;
  /** It is another container's, so that what there is of it here goes. */
  readonly isOthers?: true;
}

/** What the topology comes to with these containers. */
export interface Resolution {
  readonly wanted: readonly Wanted[];
  readonly unwantable: readonly Unwantable[];
  /** Addresses given out, by `KEY NETWORK FAMILY`: those remembered and the new ones. */
  readonly addresses: ReadonlyMap<string, string>;
  /** Of these, the ones that are in use: keys of `addresses`. */
  readonly used: ReadonlySet<string>;
}

/** What is known of addresses before any is given out. */
export interface Given {
  /** Addresses given out before, by `KEY NETWORK FAMILY`. */
  readonly addresses: ReadonlyMap<string, string>;
  /** `NETWORK ADDRESS` that somebody answers for who is none of ours. */
  readonly foreign?: ReadonlySet<string> | undefined;
  /** Keys of addresses that may be given to others when a range is full, in this order. */
  readonly reclaimable?: readonly string[] | undefined;
}

/** Whether an entry is about this container. */
export function selects(selector: Selector, { runtime, name, labels }: KnownContainer): boolean {
  switch (selector.by) {
    case 'name':
      return name === selector.name && (selector.runtime ?? runtime) === runtime;
    case 'pattern':
      return matchesPattern(selector.pattern, name) && (selector.runtime ?? runtime) === runtime;
    case 'label':
      return selector.value === undefined ? selector.key in labels : labels[selector.key] === selector.value;
    case 'compose':
      return (
        labels['com.docker.compose.project'] === selector.project &&
        labels['com.docker.compose.service'] === selector.service
      );
  }
}

/** Every entry for every container that it selects. The same containers in any order come to the same attachments. */
export function resolveTopology(
  topology: Topology,
  containers: readonly KnownContainer[],
  given: Given,
): Resolution {
  const networks = new Map(topology.networks.map((network) => [network.name, network]));
  const pool: Pool = {
    ...given,
    addresses: new Map(given.addresses),
    used: new Set(),
    fixed: fixedAddresses(topology),
  };
  const byName = [...containers].sort((a, b) => (qualifiedName(a) < qualifiedName(b) ? -1 : 1));
  const entries = new Map<string, Entry>();
  const unwantable: Unwantable[] = [];
  for (const spec of topology.attachments) {
    const network = networks.get(spec.network);
    if (!network) continue;
    for (const container of byName.filter((candidate) => selects(spec.selector, candidate))) {
      const key = `${qualifiedName(container)}/${spec.ifname}`;
      const about = { key, place: spec.place, container: container.id };
      const fail = (why: string, isExhausted = false): void =>
        void unwantable.push({ ...about, why, isExhausted });
      if (isNamesakes(spec.selector, container)) {
        const { name, namesake, runtime } = container;
        const why = `${namesake} has a container ${name} too, which goes first: say ${runtime}:${name} for this one`;
        unwantable.push({ ...about, why, isOthers: true });
        continue;
      }
      const cidrs = entries.has(key) ? undefined : cidrsOf(spec, network, key, pool);
      if (cidrs) entries.set(key, { key, spec, network, container, cidrs });
      else if (entries.has(key)) fail(`another entry gives ${container.name} an ${spec.ifname} already`);
      else fail(`the range of ${network.name} has no address left`, true);
    }
  }
  const gateways = gatewaysOf([...entries.values()]);
  const wanted = [...entries.values()].map((entry) =>
    wantedOf(entry, [
      ...entry.cidrs.map((cidr) => ({ cidr })),
      ...(gateways.get(entry.key) ?? []).map((gateway) => ({ gateway })),
    ]),
  );
  return { wanted, unwantable, addresses: pool.addresses, used: pool.used };
}

/** Whether a plain name means the container of the same name that goes first. */
function isNamesakes(selector: Selector, { namesake }: KnownContainer): boolean {
  return selector.by === 'name' && selector.runtime === undefined && namesake !== undefined;
}

/** One interface of one container, before its gateways are decided. */
interface Entry {
  readonly key: string;
  readonly spec: AttachmentSpec;
  readonly network: NetworkSpec;
  readonly container: KnownContainer;
  readonly cidrs: readonly Cidr[];
}

type Gateway = NetworkSpec['gateways'][number];

/**
 * Which interface of a container has its default route: one that says so itself, else the first whose network has a
 * gateway. Two would fight over it for ever.
 */
function gatewaysOf(entries: readonly Entry[]): Map<string, Gateway[]> {
  const found = new Map<string, Gateway[]>();
  const decided = new Set<string>();
  const take = ({ key, container }: Entry, gateway: Gateway): void => {
    const slot = `${qualifiedName(container)} ${gateway.family}`;
    if (decided.has(slot)) return;
    decided.add(slot);
    found.set(key, [...(found.get(key) ?? []), gateway]);
  };
  for (const entry of entries) for (const gateway of entry.spec.gateways) take(entry, gateway);
  for (const entry of entries) {
    const { spec, network, cidrs } = entry;
    if (spec.gateways.length > 0 || spec.noGateway) continue;
    for (const gateway of network.gateways) {
      // Of a family that it has no address of it would lead nowhere; and the gateway itself needs none.
      const isOwn = cidrs.some(({ ip }) => ip === gateway.ip);
      if (!isOwn && cidrs.some(({ family }) => family === gateway.family)) take(entry, gateway);
    }
  }
  return found;
}

/** Addresses of the file itself, which no range may give out. */
function fixedAddresses({ networks, attachments }: Topology): Set<string> {
  const fixed = new Set<string>();
  for (const { gateways, hostAddresses } of networks) {
    for (const { ip } of [...gateways, ...hostAddresses]) fixed.add(ip);
  }
  for (const { addresses, gateways, vlans = [] } of attachments) {
    for (const { ip } of [...gateways, ...vlans.flatMap(({ cidrs }) => cidrs)]) fixed.add(ip);
    if (typeof addresses !== 'string') for (const { ip } of addresses) fixed.add(ip);
  }
  return fixed;
}

/** Addresses as they are being given out. */
interface Pool extends Given {
  readonly addresses: Map<string, string>;
  readonly used: Set<string>;
  readonly fixed: ReadonlySet<string>;
}

/** The addresses of one interface; undefined when the range is exhausted. */
function cidrsOf(
  spec: AttachmentSpec,
  network: NetworkSpec,
  key: string,
  pool: Pool,
): readonly Cidr[] | undefined {
  if (spec.addresses === 'dhcp') return [];
  if (spec.addresses !== 'auto') return spec.addresses;
  const { addresses, used, fixed, foreign = new Set(), reclaimable = [] } = pool;
  const prefix = `${network.name} `;
  const claimed = [...foreign].flatMap((entry) =>
    entry.startsWith(prefix) ? [entry.slice(prefix.length)] : [],
  );
  const taken = new Set([...fixed, ...claimed]);
  const cidrs: Cidr[] = [];
  for (const family of [4, 6] as const) {
    const ranges = network.ranges.filter((range) => range.family === family);
    if (ranges.length === 0) continue;
    const slot = `${key} ${network.name} ${family}`;
    const unused = reclaimable.filter((other) => !used.has(other));
    const ip = assign(ranges, taken, addresses, slot, unused);
    if (ip === undefined) return undefined;
    for (const other of unused) if (other !== slot && addresses.get(other) === ip) addresses.delete(other);
    addresses.set(slot, ip);
    used.add(slot);
    cidrs.push({ family, ip, prefixLen: prefixLenOf(network, family, ip) });
  }
  return cidrs;
}

function prefixLenOf({ subnets }: NetworkSpec, family: Family, ip: string): number {
  return subnets.find((subnet) => contains(subnet, ip))?.prefixLen ?? addressBits[family];
}

function wantedOf({ spec, network, container, cidrs }: Entry, addrs: AddrSpec[]): Wanted {
  const { name, runtime } = container;
  const {
    ifname,
    addresses,
    dhcp,
    ipv6,
    dns,
    noGateway,
    routes,
    rules,
    sysctls,
    rate,
    mirror,
    policing,
    vlans = [],
    place,
  } = spec;
  const dad = spec.dad ?? (addresses === 'auto' ? true : undefined);
  const unique = spec.selector.by === 'name' ? spec.unique : `${spec.unique} ${qualifiedName(container)}`;
  const mac = spec.mac ?? (spec.unique === undefined ? undefined : macFromText(unique ?? ''));
  const mtu = spec.mtu ?? network.mtu;
  const attachment: Attachment = {
    container: { runtime, name },
    network: plugOf(network, spec),
    ifname,
    addrs,
    routes,
    rules,
    sysctls: { ...(ipv6 && ipv6Sysctls(ipv6, noGateway)), ...sysctls },
    ...(ipv6 && { ipv6 }),
    ...(dns && { dns }),
    ...(addresses === 'dhcp' ? { dhcp: { ...dhcp, ...(noGateway && { noGateway }) } } : {}),
    vlans,
    ...(rate === undefined ? {} : { rate }),
    ...(mirror && { mirror }),
    ...(policing && { policing }),
    ...(mac === undefined ? {} : { mac }),
    ...(mtu === undefined ? {} : { mtu }),
    ...(dad === undefined ? {} : { dad }),
  };
  const auto =
    spec.addresses === 'auto' ? { auto: { network: network.name, ips: cidrs.map(({ ip }) => ip) } } : {};
  return {
    key: `${qualifiedName(container)}/${ifname}`,
    attachment,
    network: network.name,
    place,
    ...auto,
  };
}

/** The network as an interface plugs into it; the attachment's own VLAN, or VLANs, go before the network's. */
export function plugOf(
  network: NetworkSpec,
  own: Pick<AttachmentSpec, 'vid' | 'trunks' | 'internal'> = {},
): Network {
  const tag = own.vid ?? ('vid' in network ? network.vid : undefined);
  const tagged = tag === undefined ? {} : { vid: tag };
  switch (network.kind) {
    case 'bridge':
      return {
        kind: 'bridge',
        name: network.bridge,
        ...portVlansOf(network, own),
        ...(network.vlanFiltering && { vlanFiltering: true }),
      };
    case 'ovs':
      return {
        kind: 'ovs',
        name: network.bridge,
        ...((own.internal ?? network.internal) && { internal: true as const }),
        ...ovsVlansOf({ ...ovsModeOf(network), ...portVlansOf(network, own) }),
      };
    case 'macvlan':
    case 'ipvlan':
      return { ...childModeOf(network), uplink: network.uplink, ...tagged };
    case 'phys':
      return { kind: 'phys', uplink: network.uplink, ...tagged };
    case 'sriov':
      return sriov(network, own.vid);
    case 'dummy':
      return { kind: 'dummy' };
  }
}

function sriov({ kind, uplink, vf }: SriovNetwork, vid: number | undefined): SriovNetwork {
  return { kind, uplink, vf: { ...vf, ...(vid !== undefined && { vid }) } };
}

const ovsModeOf = ({ vlanMode, cvlans, qinqEthtype }: OvsVlans): OvsVlans => ({
  ...(vlanMode && { vlanMode }),
  ...(cvlans && { cvlans }),
  ...(qinqEthtype && { qinqEthtype }),
});

/** What the attachment says of VLANs goes before all that the network does. */
function portVlansOf(
  network: { readonly vid?: number; readonly trunks?: readonly number[] },
  own: Pick<AttachmentSpec, 'vid' | 'trunks'>,
): { vid?: number; trunks?: readonly number[] } {
  const { vid, trunks } = own.vid === undefined && own.trunks === undefined ? network : own;
  return { ...(vid !== undefined && { vid }), ...(trunks !== undefined && { trunks }) };
}
