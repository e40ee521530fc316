/** Topology x running containers -> the attachments that are wanted, each of one container. Pure. */
import { type Family, macFromText } from '../model/address.ts';
import type { AddrSpec, Attachment, Network } from '../model/attachment.ts';
import type { AttachmentSpec, NetworkSpec, Place, Selector, Topology } from '../model/topology.ts';
import { assign } from './range.ts';

/** A container as its runtime lists it. */
export interface KnownContainer {
  readonly runtime: 'docker' | 'podman' | 'lxc';
  readonly id: string;
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
}

/** One wanted attachment of one container. */
export interface Wanted {
  /** `web/eth1`: stable for as long as the container keeps its name. */
  readonly key: string;
  readonly attachment: Attachment;
  /** Addresses come from a DHCP server. */
  readonly dhcp: boolean;
  /** Where the file says so; absent: a one-line command did. */
  readonly place?: Place;
}

/** Why an entry of the file cannot be had for a container. */
export interface Unwantable {
  readonly key: string;
  readonly why: string;
  readonly place: Place;
}

/** What the topology comes to with these containers. */
export interface Resolution {
  readonly wanted: readonly Wanted[];
  readonly unwantable: readonly Unwantable[];
  /** Addresses given out, by `KEY NETWORK FAMILY`: those remembered and the new ones. */
  readonly addresses: ReadonlyMap<string, string>;
}

/** Whether an entry is about this container. */
export function selects(selector: Selector, { name, labels }: KnownContainer): boolean {
  switch (selector.by) {
    case 'name':
      return name === selector.name;
    case 'pattern':
      return patternOf(selector.pattern).test(name);
    case 'label':
      return selector.value === undefined ? selector.key in labels : labels[selector.key] === selector.value;
    case 'compose':
      return (
        labels['com.docker.compose.project'] === selector.project &&
        labels['com.docker.compose.service'] === selector.service
      );
  }
}

function patternOf(pattern: string): RegExp {
  const escaped = pattern
    .replace(/[.+^${}()|[\]\\]/g, '\\$&')
    .replaceAll('*', '.*')
    .replaceAll('?', '.');
  return new RegExp(`^${escaped}$`);
}

/**
 * Every entry for every container that it selects. The same containers in any order come to the same attachments.
 * @param remembered addresses given out before, by `KEY NETWORK FAMILY`
 */
export function resolveTopology(
  topology: Topology,
  containers: readonly KnownContainer[],
  remembered: ReadonlyMap<string, string>,
): Resolution {
  const networks = new Map(topology.networks.map((network) => [network.name, network]));
  const addresses = new Map(remembered);
  const fixed = fixedAddresses(topology);
  const byName = [...containers].sort((a, b) => (a.name < b.name ? -1 : 1));
  const wanted = new Map<string, Wanted>();
  const unwantable: Unwantable[] = [];
  /** Which interface has the default route, by container and family. */
  const gatewayOf = new Map<string, string>();
  for (const spec of topology.attachments) {
    const network = networks.get(spec.network);
    if (!network) continue;
    for (const container of byName.filter((candidate) => selects(spec.selector, candidate))) {
      const key = `${container.name}/${spec.ifname}`;
      const fail = (why: string): void => void unwantable.push({ key, why, place: spec.place });
      if (wanted.has(key)) {
        fail(`another entry gives ${container.name} an ${spec.ifname} already`);
        continue;
      }
      const given = addrsOf(spec, network, key, { addresses, fixed });
      if (given === undefined) {
        fail(`the range of ${network.name} has no address left`);
        continue;
      }
      const addrs = given.filter(({ gateway }) => {
        const slot = `${container.name} ${gateway?.family}`;
        if (gateway === undefined) return true;
        // Of the gateways that come with networks the first is the default route; they would fight over it for ever.
        if (gatewayOf.has(slot)) return false;
        gatewayOf.set(slot, key);
        return true;
      });
      const refused = given.find((addr) => spec.gateways.length > 0 && !addrs.includes(addr));
      if (refused)
        fail(
          `the default route of ${container.name} goes by ${gatewayOf.get(`${container.name} ${refused.gateway?.family}`)} already`,
        );
      else wanted.set(key, wantedOf(spec, network, container, addrs));
    }
  }
  return { wanted: [...wanted.values()], unwantable, addresses };
}

/** Addresses of the file itself, which no range may give out. */
function fixedAddresses({ networks, attachments }: Topology): Set<string> {
  const fixed = new Set<string>();
  for (const { gateways, hostAddresses } of networks) {
    for (const { ip } of [...gateways, ...hostAddresses]) fixed.add(ip);
  }
  for (const { addresses, gateways } of attachments) {
    for (const { ip } of gateways) fixed.add(ip);
    if (typeof addresses !== 'string') for (const { ip } of addresses) fixed.add(ip);
  }
  return fixed;
}

/** The addresses of one interface; undefined when the range is exhausted. */
function addrsOf(
  spec: AttachmentSpec,
  network: NetworkSpec,
  key: string,
  { addresses, fixed }: { readonly addresses: Map<string, string>; readonly fixed: ReadonlySet<string> },
): AddrSpec[] | undefined {
  if (spec.addresses === 'dhcp') return [];
  const gateways = spec.gateways.length > 0 ? spec.gateways : network.gateways;
  const cidrs = [];
  if (spec.addresses === 'auto') {
    for (const family of [4, 6] as const) {
      const ranges = network.ranges.filter((range) => range.family === family);
      if (ranges.length === 0) continue;
      const slot = `${key} ${network.name} ${family}`;
      const taken = new Set([
        ...fixed,
        ...[...addresses].filter(([other]) => other !== slot).map(([, ip]) => ip),
      ]);
      const ip = assign(ranges, taken, addresses, slot);
      if (ip === undefined) return undefined;
      addresses.set(slot, ip);
      cidrs.push({ family, ip, prefixLen: prefixLenOf(network, family) });
    }
  } else cidrs.push(...spec.addresses);
  const families = new Set(cidrs.map(({ family }) => family));
  // A gateway of the network for a family that this interface has no address of would lead nowhere.
  const used = gateways.filter(({ family }) => families.has(family) || spec.gateways.length > 0);
  return [...cidrs.map((cidr) => ({ cidr })), ...used.map((gateway) => ({ gateway }))];
}

function prefixLenOf({ subnets }: NetworkSpec, family: Family): number {
  return subnets.find((subnet) => subnet.family === family)?.prefixLen ?? (family === 4 ? 32 : 128);
}

function wantedOf(
  spec: AttachmentSpec,
  network: NetworkSpec,
  container: KnownContainer,
  addrs: AddrSpec[],
): Wanted {
  const { name, runtime } = container;
  const { ifname, routes, rules, sysctls, rate, place } = spec;
  const unique = spec.selector.by === 'name' ? spec.unique : `${spec.unique} ${name}`;
  const mac = spec.mac ?? (spec.unique === undefined ? undefined : macFromText(unique ?? ''));
  const mtu = spec.mtu ?? network.mtu;
  const attachment: Attachment = {
    container: { runtime, name },
    network: plugOf(network, spec.vid),
    ifname,
    addrs,
    routes,
    rules,
    sysctls,
    ...(rate === undefined ? {} : { rate }),
    ...(mac === undefined ? {} : { mac }),
    ...(mtu === undefined ? {} : { mtu }),
  };
  return { key: `${name}/${ifname}`, attachment, dhcp: spec.addresses === 'dhcp', place };
}

/** The network as an interface plugs into it; the attachment's own VLAN goes before the network's. */
export function plugOf(network: NetworkSpec, vid?: number): Network {
  const tag = vid ?? ('vid' in network ? network.vid : undefined);
  const tagged = tag === undefined ? {} : { vid: tag };
  switch (network.kind) {
    case 'bridge':
      return { kind: 'bridge', name: network.bridge };
    case 'ovs':
      return { kind: 'ovs', name: network.bridge, ...tagged };
    case 'macvlan':
      return { kind: 'macvlan', uplink: network.uplink, mode: network.mode, ...tagged };
    case 'ipvlan':
      return { kind: 'ipvlan', uplink: network.uplink, mode: network.mode, ...tagged };
    case 'phys':
      return { kind: 'phys', uplink: network.uplink, ...tagged };
    case 'dummy':
      return { kind: 'dummy' };
  }
}
