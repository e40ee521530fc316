/** The unit of configuration: one wanted interface of one container on one network. */
import type { Cidr, Family } from './address.ts';
import type { DhcpSpec } from './lease.ts';

/** Who owns the network namespace that an interface goes to. */
export interface ContainerRef {
  /** `any` asks the runtimes in turn: docker, podman, lxc. */
  readonly runtime: 'any' | 'docker' | 'podman' | 'lxc' | 'pid' | 'netns';
  /** A name, id or unique id prefix; a pid; a name below /run/netns or a path. */
  readonly name: string;
}

/** `ip link add ... type macvlan mode MODE`. */
export const macvlanModes = ['bridge', 'private', 'vepa', 'passthru'] as const;
export type MacvlanMode = (typeof macvlanModes)[number];
/** `ip link add ... type ipvlan mode MODE`. */
export const ipvlanModes = ['l2', 'l3', 'l3s'] as const;
export type IpvlanMode = (typeof ipvlanModes)[number];

/** A host-side place to plug into. */
export type Network =
  /** A Linux bridge; created when it does not exist. */
  | { readonly kind: 'bridge'; readonly name: string }
  /**
   * An Open vSwitch bridge; created when it does not exist. `vid` is the port's tag; `trunks` are the VLANs that pass with
   * their tags, sorted, 0 for frames without one. Without either the port carries every VLAN.
   */
  | {
      readonly kind: 'ovs';
      readonly name: string;
      readonly vid?: number;
      readonly trunks?: readonly number[];
    }
  /** A macvlan child of a NIC, or of its 802.1Q sub-interface when `vid` is given. */
  | { readonly kind: 'macvlan'; readonly uplink: string; readonly mode: MacvlanMode; readonly vid?: number }
  /** An ipvlan child, likewise. */
  | { readonly kind: 'ipvlan'; readonly uplink: string; readonly mode: IpvlanMode; readonly vid?: number }
  /** The NIC itself (or its 802.1Q sub-interface), moved into the container. */
  | { readonly kind: 'phys'; readonly uplink: string; readonly vid?: number }
  /** An IPoIB child; `pkey` is the partition key. */
  | { readonly kind: 'ipoib'; readonly uplink: string; readonly pkey?: number }
  /** An interface that leads nowhere. */
  | { readonly kind: 'dummy' };

/** One address of an interface, and the default gateway that is reached through it. */
export interface AddrSpec {
  /** Absent: no address (`0/0`), only the gateway. */
  readonly cidr?: Cidr;
  /** Next hop of the default route of its family, on or off the subnet. */
  readonly gateway?: { readonly family: Family; readonly ip: string };
}

/** A route of the container, `ip route add DST via GATEWAY table TABLE metric METRIC`. */
export interface RouteSpec {
  /** Of length 0: the default route, of another table or metric than a gateway's. */
  readonly dst: Cidr;
  /** Absent: directly connected (`scope link`). */
  readonly gateway?: string;
  /** RT_TABLE_*; absent: 254, main. */
  readonly table?: number;
  /** Absent: the kernel's own, 0 for IPv4 and 1024 for IPv6. */
  readonly metric?: number;
}

/** A policy rule in the container, `ip rule add from FROM to TO lookup TABLE priority PRIORITY`. */
export interface RuleSpec {
  readonly family: Family;
  readonly from?: Cidr;
  readonly to?: Cidr;
  readonly table: number;
  readonly priority?: number;
}

/** Rate limits in bits per second: `in` is what the container receives, `out` what it sends. */
export interface RateSpec {
  readonly in?: number;
  readonly out?: number;
}

/** One wanted interface of one container on one network. What is absent is left as it is. */
export interface Attachment {
  readonly container: ContainerRef;
  readonly network: Network;
  /** Name in the container, at most 15 bytes. */
  readonly ifname: string;
  /** Name of the host's end of a veth pair; by default made from `ifname` and the pid. */
  readonly hostIfname?: string;
  readonly addrs: readonly AddrSpec[];
  /** Addresses, routes and MTU come from a DHCPv4 server, and `addrs` is empty. */
  readonly dhcp?: DhcpSpec;
  readonly routes: readonly RouteSpec[];
  readonly rules?: readonly RuleSpec[];
  /** Of the interface: `ipv4/forwarding` stands for net/ipv4/conf/IFNAME/forwarding. */
  readonly sysctls?: Readonly<Record<string, string>>;
  readonly rate?: RateSpec;
  /** Lower-case MAC address of the interface in the container. */
  readonly mac?: string;
  /** Bytes; by default that of the network's link. */
  readonly mtu?: number;
  /**
   * True: the link is asked whether somebody has an address, before it is used. False: not even an address that a
   * container of ours is known to have is refused.
   */
  readonly dad?: boolean;
}

/**
 * Where packets of a network meet, as far as its name tells: what is equal is one layer 2. Undefined for a kind that leads
 * nowhere.
 */
export function segmentOf(network: Network): string | undefined {
  const { kind } = network;
  if (kind === 'dummy') return undefined;
  const vlan = ('vid' in network ? network.vid : undefined) ?? ('pkey' in network ? network.pkey : undefined);
  const name = 'uplink' in network ? network.uplink : network.name;
  return vlan === undefined ? name : `${name} ${vlan}`;
}

/** `docker:web`, `pid:123`, or just `web`. */
export function formatContainer(ref: ContainerRef): string {
  return ref.runtime === 'any' ? ref.name : `${ref.runtime}:${ref.name}`;
}

/**
 * A container's name that is nobody else's on this host, whatever engines there are: `web`, of Podman `podman:web`, for
 * Docker may have one of the same name.
 */
export function qualifiedName({
  runtime,
  name,
}: {
  readonly runtime: string;
  readonly name: string;
}): string {
  return runtime === 'podman' ? `podman:${name}` : name;
}
