/** What the kernel holds in one network namespace, as plain data: links, addresses, routes, rules, neighbours. */
import type { Cidr, Family } from './address.ts';
import type { ChildMode, IpvlanFlag, IpvlanMode, MacvlanMode } from './attachment.ts';

/** The part of a link that depends on its kind, `ip -d link`. An ifindex is of the same namespace. */
export type LinkKind =
  | { readonly kind: 'bridge'; readonly vlanFiltering?: boolean }
  | (ChildMode & { readonly uplink: number })
  | { readonly kind: 'vlan'; readonly uplink: number; readonly vid: number }
  | { readonly kind: 'dummy' }
  | { readonly kind: 'ifb' }
  | {
      readonly kind: 'vxlan';
      readonly vni: number;
      /** UDP port of the peers, host order; the kernel's own default is 8472, IANA's is 4789. */
      readonly port?: number;
      readonly local?: string;
      /** Unicast peer or multicast group. */
      readonly remote?: string;
      readonly uplink?: number;
      readonly learning?: boolean;
    }
  | { readonly kind: 'ipoib'; readonly uplink: number; readonly pkey?: number }
  | { readonly kind: 'veth'; readonly peer: VethPeer };

/** The other end of a veth pair, born in a namespace of its own. */
export interface VethPeer extends LinkSettings {
  readonly name: string;
  /** An open file descriptor of the namespace that the peer is born in; absent: the same as the first end. */
  readonly netnsFd?: number;
}

/** What any link can be given at its birth or later. Absent: left alone. */
export interface LinkSettings {
  readonly mac?: string;
  /** Bytes. */
  readonly mtu?: number;
  /** IFLA_GROUP, `ip link ... group N`. */
  readonly group?: number;
  /** ifindex of the bridge that this link is a port of; 0 takes it off. */
  readonly master?: number;
  readonly up?: boolean;
}

/** `ip link add`. */
export type NewLink = LinkSettings & {
  readonly name: string;
  /** Namespace that the link is born in, by open file descriptor; absent: the one of the socket. */
  readonly netnsFd?: number;
} & LinkKind;

/** A link as the kernel describes it. */
export interface Link {
  readonly ifindex: number;
  readonly name: string;
  readonly altnames: readonly string[];
  /** IFLA_INFO_KIND (`bridge`, `veth`, `tun`, ...); absent for a physical NIC. */
  readonly kind: string | undefined;
  /** ARPHRD_*: 1 Ethernet, 32 InfiniBand, 772 loopback. */
  readonly arphrd: number;
  readonly mac: string;
  readonly mtu: number;
  readonly group: number;
  /** IFF_UP. */
  readonly up: boolean;
  /** IFF_LOWER_UP: the link has carrier. */
  readonly carrier: boolean;
  /** `up`, `down`, `unknown`, `lowerlayerdown`, ... as `ip -j link` prints it, in lower case. */
  readonly operstate: string;
  /** ifindex of the bridge (or bond) it is a port of. */
  readonly master: number | undefined;
  /** IFLA_LINK: the uplink of a macvlan, ipvlan or vlan, the peer of a veth; in `linkNetnsid` when that is set. */
  readonly lower: number | undefined;
  readonly linkNetnsid: number | undefined;
  /** `net.ipv4.conf.LINK.rp_filter` and `.arp_ignore`; absent where the link has no IPv4. */
  readonly rpFilter?: number | undefined;
  readonly arpIgnore?: number | undefined;
  /** `net.ipv4.conf.LINK.promote_secondaries`; absent where the link has no IPv4. */
  readonly promotesSecondaries?: boolean | undefined;
  /** `net.ipv6.conf.LINK.disable_ipv6`; absent where the link has no IPv6. */
  readonly ipv6Disabled?: boolean | undefined;
  /** By kind: `mode` of macvlan and ipvlan, `sourceMacs` of macvlan, `flag` of ipvlan, `vid` of vlan, `vni` of vxlan, `pkey` of ipoib, `vlanFiltering`, `defaultPvid` and `stp` of bridge. */
  readonly data: {
    readonly mode?: MacvlanMode | IpvlanMode;
    readonly flag?: IpvlanFlag;
    readonly sourceMacs?: readonly string[];
    readonly vid?: number;
    readonly vlanProtocol?: '802.1Q' | '802.1ad';
    readonly vni?: number;
    readonly pkey?: number;
    readonly vlanFiltering?: boolean;
    /** The VLAN that a bridge gives a new port, without a tag; 0: none. */
    readonly defaultPvid?: number;
    readonly stp?: boolean;
  };
}

/** A netlink attribute as it is on the wire, without its header. */
export interface RawAttr {
  readonly type: number;
  readonly data: Uint8Array;
}

/** An address on a link, `ip addr`. */
export interface Addr {
  readonly ifindex: number;
  readonly cidr: Cidr;
  /** The other end of a point-to-point link; then the prefix length is that of the peer. */
  readonly peer?: string;
  /** IPv4 only. */
  readonly broadcast?: string;
  /** RT_SCOPE_*: 0 global, 253 link, 254 host. */
  readonly scope: number;
  /** IFA_F_*: 0x80 permanent, 0x40 tentative, 0x08 dadfailed, 0x02 nodad. */
  readonly flags: number;
  /** Seconds; absent: for ever. */
  readonly validLifetime?: number;
  /** Seconds; absent: for ever. */
  readonly preferredLifetime?: number;
  /** Attributes this program does not know (label, metric, ...), as they came, to be written back unchanged. */
  readonly unknown?: readonly RawAttr[];
}

/** A route, `ip route`. */
export interface Route {
  readonly family: Family;
  /** Prefix; absent: the default route. */
  readonly dst?: Cidr;
  /** `ip -6 route add ... from PREFIX`: for packets from there alone. */
  readonly src?: Cidr;
  readonly gateway?: string;
  /** ifindex of the outgoing link. */
  readonly dev?: number;
  /** RT_SCOPE_*: 0 global, 253 link. */
  readonly scope: number;
  /** RTA_PRIORITY. */
  readonly metric?: number;
  /** rtm_tos; absent: 0. */
  readonly tos?: number;
  /** RT_TABLE_*: 254 main, 255 local. */
  readonly table: number;
  /** RTPROT_*: 2 kernel, 3 boot, 4 static. */
  readonly protocol: number;
  /** RTN_*: 1 unicast, 2 local, 3 broadcast, 5 multicast. */
  readonly type: number;
  readonly prefsrc?: string;
  /** RTNH_F_ONLINK: the gateway needs no route of its own. */
  readonly onlink?: boolean;
  /** Attributes this program does not know (metrics, multipath, ...), as they came, to be written back unchanged. */
  readonly unknown: readonly RawAttr[];
}

/** A policy rule, `ip rule`. */
export interface Rule {
  readonly family: Family;
  readonly priority: number;
  readonly src?: Cidr;
  readonly dst?: Cidr;
  readonly iif?: string;
  readonly oif?: string;
  readonly fwmark?: number;
  /** FR_ACT_*; absent: the table is looked up. */
  readonly action?: number;
  readonly tos?: number;
  /** `ip rule add not ...`: for packets that the rest does not fit. */
  readonly inverted?: true;
  readonly table: number;
  readonly unknown: readonly RawAttr[];
}

/** A nexthop object by a link, `ip nexthop`: a next hop that routes name by its number. */
export interface Nexthop {
  readonly id: number;
  readonly family: Family;
  /** ifindex. */
  readonly dev: number;
  readonly gateway?: string;
  /** RTPROT_*. */
  readonly protocol: number;
  readonly onlink?: true;
  readonly unknown: readonly RawAttr[];
}

/** State of a neighbour: made by hand and kept until it is deleted; what `ip neigh add` makes unless told otherwise. */
export const NUD_PERMANENT = 0x80;
/** Flag of a neighbour: we answer for the address, which is somewhere else, `ip neigh add proxy`. */
export const NTF_PROXY = 0x08;

/** A neighbour, `ip neigh`; or a forwarding entry of a bridge, `bridge fdb`, which has no `ip`. */
export interface Neigh {
  readonly ifindex: number;
  readonly ip?: string;
  readonly mac?: string;
  /** NUD_*: 0x02 reachable, 0x80 permanent. */
  readonly state: number;
  /** NTF_*: 0x02 self, 0x04 master, 0x08 proxy. */
  readonly flags: number;
  readonly vid?: number;
}
