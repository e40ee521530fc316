/** Which ends of a topology must reach which on their network, and which must not: what `check` tries. Pure. */
import { qualifiedName, vidOf } from '../model/attachment.ts';
import type { AttachmentSpec, NetworkSpec, Place, Topology } from '../model/topology.ts';
import type { Wanted } from './topology.ts';

/** One end: an interface of a container, or a host's own address on a network. */
export interface End {
  /** The container, or the host. */
  readonly name: string;
  /** `web/eth1`; of a host its name. */
  readonly key: string;
  /** The host it is on; absent: this one. */
  readonly host?: string;
  readonly network: string;
  /** What the network hangs on, and its VLAN there: ends of one plug meet when their VLANs are the same. */
  readonly plug: string;
  readonly vid: number | undefined;
  /** The port carries several VLANs, so nothing is sure. */
  readonly isTrunk: boolean;
  readonly ips: readonly string[];
}

/** Two ends, the first on this host, and whether they must reach each other. */
export interface Pair {
  readonly from: End;
  readonly to: End;
  readonly expected: boolean;
}

/** The ends of this host: what its containers have, those that do not run as the files say, and its own addresses. */
export function ownEnds(topology: Topology, wanted: readonly Wanted[]): End[] {
  const networks = new Map(topology.networks.map((network) => [network.name, network]));
  const guests = wanted.flatMap(({ key, attachment, network: name }): End[] => {
    const network = name === undefined ? undefined : networks.get(name);
    if (!network) return [];
    const { name: container } = attachment.container;
    const own = attachment.network;
    const vid = vidOf(own);
    const isTrunk = vid === undefined && 'trunks' in own && own.trunks !== undefined;
    const ips = attachment.addrs.flatMap(({ cidr }) => (cidr ? [cidr.ip] : []));
    return [{ name: container, key, network: network.name, plug: plugOf(network), vid, isTrunk, ips }];
  });
  const running = new Set(guests.map(({ key }) => key));
  // What is not said to be on this host in particular need not run here.
  const anywhere = new Set(
    (topology.elsewhere ?? []).flatMap(({ attachments }) => attachments.map(({ place }) => formatAt(place))),
  );
  const stopped = topology.attachments
    .filter(({ place }) => !anywhere.has(formatAt(place)))
    .flatMap((spec) => guestEnd(spec, networks.get(spec.network)))
    .filter(({ key }) => !running.has(key));
  return [...guests, ...stopped, ...hostEnds(topology)];
}

const formatAt = ({ file, line, column }: Place): string => `${file}:${line}:${column}`;

/** The ends of the other hosts, as far as the files say where they are. */
export function otherEnds({ elsewhere = [], networks }: Topology): End[] {
  // Plugs are named as they are here; a network that this host has not is met nowhere.
  const here = new Map(networks.map((network) => [network.name, network]));
  return elsewhere.flatMap((topology) => {
    const there = new Map(topology.networks.map((network) => [network.name, network]));
    const guests = topology.attachments.flatMap((spec) => guestEnd(spec, there.get(spec.network)));
    return [...guests, ...hostEnds(topology)].flatMap((end): End[] => {
      const network = here.get(end.network);
      return network ? [{ ...end, plug: plugOf(network), host: topology.host ?? '' }] : [];
    });
  });
}

function guestEnd(spec: AttachmentSpec, network: NetworkSpec | undefined): End[] {
  const { selector, addresses, ifname } = spec;
  if (!network || selector.by !== 'name' || typeof addresses === 'string') return [];
  const vid = spec.vid ?? (spec.trunks === undefined ? vidOf(network) : undefined);
  const isTrunk =
    vid === undefined && (spec.trunks ?? ('trunks' in network ? network.trunks : undefined)) !== undefined;
  const { name, runtime = '' } = selector;
  const ips = addresses.map(({ ip }) => ip);
  const key = `${qualifiedName({ runtime, name })}/${ifname}`;
  return [{ name, key, network: network.name, plug: plugOf(network), vid, isTrunk, ips }];
}

function hostEnds({ host = 'host', networks }: Topology): End[] {
  return networks
    .filter(({ hostAddresses }) => hostAddresses.length > 0)
    .map((network) => ({
      name: host,
      key: host,
      network: network.name,
      plug: plugOf(network),
      // On Open vSwitch the addresses are on the bridge's own interface, which carries no tag.
      vid: network.kind === 'ovs' ? undefined : vidOf(network),
      isTrunk: false,
      ips: network.hostAddresses.map(({ ip }) => ip),
    }));
}

function plugOf(network: NetworkSpec): string {
  if ('bridge' in network) return `bridge ${network.bridge}`;
  return 'uplink' in network ? `uplink ${network.uplink}` : `${network.kind} ${network.name}`;
}

/**
 * Every pair of which something can be said: on one network both must reach each other; on one bridge or uplink in
 * different VLANs they must not. Where the files themselves say the opposite of two containers, that is tried instead.
 * @param peers only pairs with one of these; a host stands for all that is on it
 */
export function pairsOf(
  own: readonly End[],
  others: readonly End[],
  { expects, host }: Topology,
  peers: readonly string[] = [],
): Pair[] {
  const said = new Map(expects.map(({ from, to, reachable }) => [`${from} ${to}`, reachable]));
  return own.flatMap((from) =>
    [...own, ...others].flatMap((to): Pair[] => {
      if (from.name === to.name && from.host === to.host) return [];
      if (peers.length > 0 && !peers.includes(to.name) && !peers.includes(to.host ?? host ?? '')) return [];
      const expected = meets(from, to);
      if (to.ips.length === 0 || expected === undefined) return [];
      return (said.get(`${from.name} ${to.name}`) ?? expected) === expected ? [{ from, to, expected }] : [];
    }),
  );
}

/** The part of a topology that is about pairs with one of these; see {@link pairsOf}. */
export function aboutPeers(topology: Topology, peers: readonly string[] = []): Topology {
  if (peers.length === 0) return topology;
  const on = new Map<string, string>();
  for (const { host, attachments } of [topology, ...(topology.elsewhere ?? [])])
    for (const { selector } of attachments)
      if (selector.by === 'name' && host !== undefined) on.set(selector.name, host);
  const isOne = (name: string): boolean => peers.includes(name) || peers.includes(on.get(name) ?? '');
  return { ...topology, expects: topology.expects.filter(({ from, to }) => isOne(from) || isOne(to)) };
}

/** The names that pairs can be asked for by: containers, hosts, and what the files expect to be reached. */
export function peerNames(topology: Topology, ends: readonly End[]): string[] {
  const parts = [topology, ...(topology.elsewhere ?? [])];
  const hosts = parts.flatMap(({ host }) => host ?? []);
  // Also of those that do not run.
  const named = parts.flatMap(({ attachments }) =>
    attachments.flatMap(({ selector }) => (selector.by === 'name' ? [selector.name] : [])),
  );
  const said = topology.expects.flatMap(({ from, to }) => [from, to]);
  return [...new Set([...hosts, ...ends.map(({ name }) => name), ...named, ...said])].sort();
}

/** Undefined: nothing can be said. */
function meets(a: End, b: End): boolean | undefined {
  if (a.plug !== b.plug || a.isTrunk || b.isTrunk) return undefined;
  if (/^(dummy|uplink) /.test(a.plug) && a.network !== b.network && a.vid === b.vid) return undefined;
  if (a.vid === b.vid) return a.network === b.network ? !a.plug.startsWith('dummy ') : undefined;
  return false;
}
