/** The unit of configuration: one wanted interface of one container on one network. */
import type { Cidr, Family } from './address.ts';
import type { Dhcp6Spec, DhcpSpec } from './lease.ts';
import type { VfSettings } from './sriov.ts';

/** Who owns the network namespace that an interface goes to. */
export interface ContainerRef {
  /** `any` asks the runtimes in turn: docker, podman, lxc. */
  readonly runtime: 'any' | 'docker' | 'podman' | 'lxc' | 'pid' | 'netns';
  /** A name, id or unique id prefix; a pid; a name below /run/netns or a path. */
  readonly name: string;
}

/** `ip link add ... type macvlan mode MODE`. */
export const macvlanModes = ['bridge', 'private', 'vepa', 'passthru', 'source'] as const;
export type MacvlanMode = (typeof macvlanModes)[number];
/** `ip link add ... type ipvlan mode MODE`. */
export const ipvlanModes = ['l2', 'l3', 'l3s'] as const;
export type IpvlanMode = (typeof ipvlanModes)[number];
/** `ip link add ... type ipvlan mode MODE FLAG`: which of the children of a NIC reach each other. */
export const ipvlanFlags = ['bridge', 'private', 'vepa'] as const;
export type IpvlanFlag = (typeof ipvlanFlags)[number];

/** What a child of a NIC is. Mode and flag of an ipvlan are those of all ipvlan children of the NIC. */
export type ChildMode =
  | {
      readonly kind: 'macvlan';
      readonly mode: MacvlanMode;
      /** In mode `source`: it only takes what comes from these MAC addresses; sorted. */
      readonly sourceMacs?: readonly string[];
    }
  | { readonly kind: 'ipvlan'; readonly mode: IpvlanMode; readonly flag?: IpvlanFlag };

/** Only what says which child it is. */
export function childModeOf(of: ChildMode): ChildMode {
  if (of.kind === 'ipvlan') return { kind: of.kind, mode: of.mode, ...(of.flag && { flag: of.flag }) };
  const { kind, mode, sourceMacs } = of;
  return { kind, mode, ...(sourceMacs && { sourceMacs }) };
}

/** A Linux bridge, and the VLANs of the port: with neither `vid` nor `trunks` those that the bridge gives a new port. */
export interface BridgeNetwork {
  readonly kind: 'bridge';
  readonly name: string;
  /** What the port carries without a tag, `bridge vlan add vid VID pvid untagged`. */
  readonly vid?: number;
  /** What it carries with tags, ascending. */
  readonly trunks?: readonly number[];
  /** A bridge that pipewright did not make may be switched to VLAN filtering, and is. */
  readonly vlanFiltering?: true;
}

/** What a port of Open vSwitch with a tag and trunks, or a tunnel of VLANs, does; see ovs-vswitchd.conf.db(5). */
export const ovsVlanModes = ['native-tagged', 'native-untagged', 'dot1q-tunnel'] as const;
export type OvsVlanMode = (typeof ovsVlanModes)[number];
/** Of the outer tag of a tunnel. */
export const qinqEthtypes = ['802.1ad', '802.1q'] as const;
export type QinqEthtype = (typeof qinqEthtypes)[number];

/** The VLANs of a port of Open vSwitch: with neither `vid` nor `trunks` it carries every VLAN. */
export interface OvsVlans {
  /** Its tag; with trunks its native VLAN, of a tunnel the outer one. */
  readonly vid?: number;
  /** VLANs that pass with their tags, sorted; 0 for frames without one. */
  readonly trunks?: readonly number[];
  /** Absent: an access port with a `vid`, else a trunk. */
  readonly vlanMode?: OvsVlanMode;
  /** The inner VLANs that a tunnel takes, sorted; absent: all. */
  readonly cvlans?: readonly number[];
  /** Absent: 802.1ad. */
  readonly qinqEthtype?: QinqEthtype;
}

/** Only the VLANs, as the port has them: with a tag and trunks it is native-untagged unless something else is said. */
export function ovsVlansOf({ vid, trunks, vlanMode, cvlans, qinqEthtype }: OvsVlans): OvsVlans {
  const mode = vid === undefined ? undefined : (vlanMode ?? (trunks && 'native-untagged'));
  const tunnel = mode === 'dot1q-tunnel' && {
    ...(cvlans && { cvlans }),
    ...(qinqEthtype && { qinqEthtype }),
  };
  return {
    ...(vid !== undefined && { vid }),
    ...(trunks && { trunks }),
    ...(mode && { vlanMode: mode }),
    ...tunnel,
  };
}

/** An Open vSwitch bridge. With `internal` the container has the port itself, and not one end of a pair. */
export type OvsNetwork = OvsVlans & {
  readonly kind: 'ovs';
  readonly name: string;
  readonly internal?: true;
};

/** Which frames a mirror is about: what a port sends (`src`), what it receives (`dst`), or both. */
export const mirrorDirections = ['both', 'src', 'dst'] as const;
export type MirrorDirection = (typeof mirrorDirections)[number];

/** What of the bridge's traffic a port gets a copy of, and nothing else then; a Mirror of ovs-vswitchd.conf.db(5). */
export interface MirrorSpec {
  /** `web`, `web/eth1`, or a port of the bridge as `port:eth0`; those that are there. Absent: all ports. */
  readonly of?: readonly string[];
  /** Only with `of`; absent: both. */
  readonly direction?: MirrorDirection;
  /** Only what is in one of these, ascending; absent: all. */
  readonly vlans?: readonly number[];
}

/** What the port drops of what the container sends: `ingress_policing_rate` and `_burst`, in kbit/s and kbit. */
export interface PolicingSpec {
  readonly rate: number;
  /** 0: as much as Open vSwitch thinks right, 8000 kbit. */
  readonly burst: number;
}

/** A virtual function of a NIC, whichever is free, moved into the container. */
export interface SriovNetwork {
  readonly kind: 'sriov';
  readonly uplink: string;
  /** What the NIC's switch makes of it. */
  readonly vf: Omit<VfSettings, 'mac'>;
}

/** A host-side place to plug into. */
export type Network =
  /** A Linux bridge; created when it does not exist. */
  | BridgeNetwork
  /** An Open vSwitch bridge; created when it does not exist. */
  | OvsNetwork
  /** A macvlan or ipvlan child of a NIC, or of its 802.1Q sub-interface when `vid` is given. */
  | (ChildMode & { readonly uplink: string; readonly vid?: number })
  /** The NIC itself (or its 802.1Q sub-interface), moved into the container. */
  | { readonly kind: 'phys'; readonly uplink: string; readonly vid?: number }
  | SriovNetwork
  /** An IPoIB child; `pkey` is the partition key. */
  | { readonly kind: 'ipoib'; readonly uplink: string; readonly pkey?: number }
  /** An interface that leads nowhere. */
  | { readonly kind: 'dummy' };

/** The VLAN of what a network's interfaces send without a tag, wherever it is said. */
export function vidOf(network: object): number | undefined {
  const of = 'vf' in network ? (network.vf as VfSettings) : network;
  return 'vid' in of ? (of.vid as number | undefined) : undefined;
}

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

/** An 802.1Q sub-interface in the container, `ip link add link eth1 name eth1.100 type vlan id 100`, with its addresses. */
export interface GuestVlan {
  readonly vid: number;
  readonly ifname: string;
  readonly cidrs: readonly Cidr[];
}

/** How the interface comes by IPv6 addresses that nobody wrote down. */
export const ipv6Modes = ['slaac', 'dhcp', 'auto'] as const;
/** How the kernel makes the host's part of them. */
export const interfaceIds = ['stable-privacy', 'eui64'] as const;

/** IPv6 by router advertisements (`slaac`), from a DHCPv6 server (`dhcp`), or by whatever routers say (`auto`). */
export interface Ipv6Spec {
  readonly mode: (typeof ipv6Modes)[number];
  readonly interfaceId: (typeof interfaceIds)[number];
  /** What is said to DHCPv6 servers. */
  readonly dhcp?: Dhcp6Spec;
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
  readonly ipv6?: Ipv6Spec;
  /** Name servers of leases go into the container's own /etc/resolv.conf. */
  readonly dns?: 'container';
  readonly routes: readonly RouteSpec[];
  readonly rules?: readonly RuleSpec[];
  /** Of the interface: `ipv4/forwarding` stands for net/ipv4/conf/IFNAME/forwarding. */
  readonly sysctls?: Readonly<Record<string, string>>;
  readonly rate?: RateSpec;
  /** Of a port of Open vSwitch that is for capture. */
  readonly mirror?: MirrorSpec;
  /** Of a port of Open vSwitch with a pair. */
  readonly policing?: PolicingSpec;
  /** Sub-interfaces for VLANs that come with tags. Absent: those that are there stay. */
  readonly vlans?: readonly GuestVlan[];
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

/** Whether the interface is an end of a pair, whose other end is on the host. */
export function isPair(network: Network): boolean {
  return network.kind === 'bridge' || (network.kind === 'ovs' && !isInternal(network));
}

/** Whether the interface is a port of Open vSwitch itself. */
export function isInternal(network: Network): network is OvsNetwork & { readonly internal: true } {
  return network.kind === 'ovs' && network.internal === true;
}

/** The families of which servers are asked for a lease. */
export function leasedFamilies({ dhcp, ipv6 }: Pick<Attachment, 'dhcp' | 'ipv6'>): Family[] {
  return [...(dhcp ? [4 as const] : []), ...(ipv6 && ipv6.mode !== 'slaac' ? [6 as const] : [])];
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
