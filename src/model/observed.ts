/** What is there now, as far as one attachment is concerned: read by observe/, compared by plan/. */
import type { Attachment, Network, PolicingSpec, RuleSpec } from './attachment.ts';
import type { Addr, Link, Route, Rule } from './link.ts';
import type { PortMirror, SavedLink } from './operation.ts';
import type { PortVlan } from './port-vlan.ts';
import type { TakenVf, VfSettings } from './sriov.ts';

/** What the network's name stands for on the host. */
export type NetworkType = 'bridge' | 'ovs' | 'ipoib' | 'nic';

/** A link with the addresses and routes that are lost when it moves to another namespace. */
export interface LinkWithAddrs {
  readonly link: Link;
  readonly addrs: readonly Addr[];
  readonly routes: readonly Route[];
  /** Of a Wi-Fi interface. */
  readonly phy?: string;
}

/** A port of Open vSwitch. */
export interface ObservedOvsPort {
  readonly name: string;
  /** Its link is one that Open vSwitch made. */
  readonly isInternal: boolean;
  readonly bridge: string;
  readonly vid: number | undefined;
  /** Sorted; empty: every VLAN, unless there is a `vid`. */
  readonly trunks: readonly number[];
  readonly vlanMode?: string | undefined;
  /** Sorted. */
  readonly cvlans?: readonly number[] | undefined;
  readonly qinqEthtype?: string | undefined;
  /** Of its interface; 0 and 0: none. */
  readonly policing?: PolicingSpec | undefined;
}

/** The mirror of a port of Open vSwitch that is for capture. */
export interface ObservedMirror {
  /** What leads to the port now; undefined when nothing of ours does. */
  readonly is: PortMirror | undefined;
  /** Names of the ports that are meant, of those that are there; sorted. */
  readonly of: readonly string[];
}

/** A NIC that we made a port of a Linux bridge. */
export interface UplinkPort {
  readonly name: string;
  readonly vlans: readonly PortVlan[];
}

/** The host's side. */
export interface ObservedHost {
  /** The link that the network is named after: the bridge, the Open vSwitch bridge's local port, the uplink. */
  readonly network: Link | undefined;
  readonly networkType: NetworkType | undefined;
  /** The 802.1Q sub-interface, where the attachment asks for a VLAN of a NIC. */
  readonly vlanLink: Link | undefined;
  /** Name for the host's end of a veth pair, and the link that has this name already. */
  readonly hostIfname: string;
  readonly hostEnd: Link | undefined;
  /** The host's end of the interface in an earlier life of its container, which the kernel has not taken away yet. */
  readonly formerEnd?: Link | undefined;
  /** Name of the bridge that the host's end is a port of. */
  readonly hostEndMaster: string | undefined;
  /** The VLAN that this bridge gives a new port. */
  readonly hostEndPvid?: number | undefined;
  /** The VLANs of the host's end, where it is a port of a bridge that filters them or the attachment says some. */
  readonly portVlans: readonly PortVlan[];
  /**
   * The NIC by which what is on the bridge leaves the host, with the VLANs that it carries: where the attachment says some,
   * and the NIC is to carry all that are used.
   */
  readonly uplink?: UplinkPort | undefined;
  /** The NIC that moves into the container. */
  readonly moving: LinkWithAddrs | undefined;
  /** Of a network of virtual functions: the one that is given, or was, and how many there are and could be. */
  readonly vf?: { readonly index: number; readonly is: VfSettings } | undefined;
  readonly vfs?: { readonly made: number; readonly most: number } | undefined;
  /** The port of the host's end, or the internal one, whatever bridge it is on. */
  readonly ovsPort: ObservedOvsPort | undefined;
  /** Of a network of Open vSwitch: the datapath that the bridge has, or will have. */
  readonly datapath?: 'system' | 'netdev' | undefined;
  /** Looked at where one is asked for, or was. */
  readonly mirror?: ObservedMirror | undefined;
  /** Ports that we made whose link is gone, with the container they were for. */
  readonly deadPorts: readonly string[];
  /** Docker forwards nothing between the ports of this bridge, and no rule of ours lets it. */
  readonly firewallMissing: boolean;
}

/** The sysctl that has the next IPv4 address of a subnet take the place of the first when that is deleted. */
export const promotion = 'ipv4/promote_secondaries';

/** A sub-interface of the container's interface that is asked for, or was. */
export interface ObservedVlan {
  readonly ifname: string;
  /** The link of this name; undefined when there is none. */
  readonly link: LinkWithAddrs | undefined;
  /** IPv6 is switched off on it; where there is none yet, on new ones. */
  readonly ipv6Disabled: boolean;
}

/** The container's side. */
export interface ObservedGuest {
  /** A process of the container, where one is known. */
  readonly pid: number | undefined;
  /** The link that has the wanted name already, with the routes that leave by it. */
  readonly link: LinkWithAddrs | undefined;
  /** Its sub-interfaces. */
  readonly vlans: readonly ObservedVlan[];
  /** IPv6 is switched off on the link; where there is none yet, on new ones. */
  readonly ipv6Disabled: boolean;
  /** Of the link, or where there is none yet, of new ones: the sysctls that are asked for and {@link promotion}, by key. */
  readonly sysctls: Readonly<Record<string, string>>;
  /** Policy rules; empty when none is asked for. */
  readonly rules: readonly Rule[];
  /** Rate limits of the link in bits per second; none when none is asked for. */
  readonly rates: { readonly in?: number | undefined; readonly out?: number | undefined };
  /** The ifb by which what comes in is limited where there is no pair, see ifbNameFor(); looked at as the rates are. */
  readonly detour: {
    readonly isThere: boolean;
    readonly rate?: number | undefined;
    /** The link has an ingress qdisc, and that leads to it. */
    readonly hasIngress: boolean;
    readonly leads: boolean;
  };
  /** IPv6 is switched off on links that are yet to be born. */
  readonly ipv6DisabledOnNew: boolean;
  /** Default routes of the main table, both families. */
  readonly defaults: readonly Route[];
  /** Routes of the main table to one address each, among them those to gateways outside of all subnets. */
  readonly hostRoutes: readonly Route[];
}

/** Everything a plan is made from. */
export interface Observed {
  readonly host: ObservedHost;
  readonly guest: ObservedGuest;
  /** Number of this transaction: the group of each link it makes (see model/naming.ts). */
  readonly group: number;
  /** What the original notes of a container on its Open vSwitch ports: `pipework.containerid`, ... */
  readonly externalIds: Readonly<Record<string, string>>;
  /** What was noted when this attachment was made, when it was. */
  readonly record: AttachmentRecord | undefined;
  /** Addresses that need not be asked for on the link: that was done, or this interface had them a moment ago. */
  readonly verified?: ReadonlySet<string> | undefined;
}

/** What is noted of an attachment: what cannot be read back from the kernel. Written to the state directory. */
export interface AttachmentRecord {
  readonly version: 1;
  readonly container: {
    readonly runtime: string;
    readonly id: string;
    readonly name: string;
    readonly pid: number | undefined;
    readonly startTime: string | undefined;
    readonly netnsPath: string;
    readonly netnsInode: number;
  };
  readonly ifname: string;
  readonly network: Network;
  /** The host's end of the pair, or the port of Open vSwitch. */
  readonly hostIfname: string | undefined;
  /** The 802.1Q sub-interface it rides on. */
  readonly vlanIfname: string | undefined;
  readonly group: number;
  /** Default routes that a gateway of this attachment replaced. */
  readonly replaced: readonly Route[];
  /** Sysctls of the interface as they were before this attachment set them, by key; `ipv6/disable_ipv6` too. */
  readonly formerSysctls?: Readonly<Record<string, string>> | undefined;
  /** The NIC that was moved into the container. */
  readonly taken: SavedLink | undefined;
  /** The virtual function that this NIC is. */
  readonly vf?: TakenVf | undefined;
  /** Who asked for it: a command line of the moment, or what is kept (a file, or a command that the agent keeps). */
  readonly origin?: 'once' | 'command' | 'kept' | undefined;
  /** A label of the container asked for it, which was trusted. */
  readonly byLabel?: true | undefined;
  /** What was asked for, so that it can be asked for again in the container's next life. */
  readonly want?: Attachment | undefined;
  /** Policy rules that were made for it; they do not go with the interface. */
  readonly rules?: readonly RuleSpec[] | undefined;
  /** The container's name as the DHCP client of the interface was told it; absent where there is none. */
  readonly dhcpGuest?: string | undefined;
  /** Milliseconds since 1970. */
  readonly since: number;
}
