/** What a plan consists of: operations as plain data, each with its reason and with what takes it back. */
import type { Cidr } from './address.ts';
import type { ChildMode, OvsVlanMode, OvsVlans, PolicingSpec, QinqEthtype, RuleSpec } from './attachment.ts';
import type { Addr, Route } from './link.ts';
import type { PortVlan } from './port-vlan.ts';
import type { VfSettings } from './sriov.ts';

/** Which of the two namespaces: the one the program runs for, or the container's. */
export type Side = 'host' | 'guest';

/** The link that `link.add` makes. Links are named; the executor finds their ifindex. */
export type PlannedLink =
  /** Born on the host, with its MAC address pinned. */
  | { readonly kind: 'bridge'; readonly mtu?: number; readonly vlanFiltering?: true }
  /** 802.1Q sub-interface of a link of the side that it is born on. */
  | { readonly kind: 'vlan'; readonly uplink: string; readonly vid: number; readonly mtu?: number }
  /** A pair: `name` on the host, up and on `master`, `peer` in the container. */
  | {
      readonly kind: 'veth';
      readonly peer: string;
      readonly master?: string;
      readonly mtu: number;
      readonly mac?: string;
    }
  | (ChildMode & { readonly uplink: string; readonly mtu: number; readonly mac?: string })
  | { readonly kind: 'ipoib'; readonly uplink: string; readonly pkey?: number; readonly mtu: number }
  | { readonly kind: 'dummy'; readonly mtu?: number; readonly mac?: string }
  /** Up, and in the container. */
  | { readonly kind: 'ifb'; readonly mtu?: number };

/** Settings of a link that can be changed while it exists; a master is named, '' for none. */
export interface LinkChange {
  readonly up?: boolean;
  readonly mac?: string;
  readonly mtu?: number;
  readonly master?: string;
  readonly group?: number;
}

/** VLANs of a port of Open vSwitch: what is absent stays; null and an empty list take the setting away. */
export interface PortVlans {
  readonly vid?: number | null;
  readonly trunks?: readonly number[];
  readonly vlanMode?: OvsVlanMode | null;
  readonly cvlans?: readonly number[];
  readonly qinqEthtype?: QinqEthtype | null;
}

/** What is copied to a port of Open vSwitch, ports by their names, sorted; with `all` what any port sends or receives. */
export interface PortMirror {
  readonly all: boolean;
  readonly src: readonly string[];
  readonly dst: readonly string[];
  /** Empty: of every VLAN. */
  readonly vlans: readonly number[];
}

/** What depends on the kind of a link and can be changed while it exists. */
export type KindChange = { readonly kind: 'bridge'; readonly vlanFiltering: boolean } | ChildMode;

/** What a NIC loses when it leaves the host, to be given back with it. */
export interface SavedLink {
  readonly name: string;
  readonly up: boolean;
  readonly mac: string;
  readonly mtu: number;
  readonly group: number;
  readonly addrs: readonly Addr[];
  readonly routes: readonly Route[];
  /** Of a Wi-Fi interface: the phy that moves with it. */
  readonly phy?: string;
}

/** A route whose outgoing link is named, since it may not exist yet when the plan is made. */
export interface PlannedRoute {
  readonly family: 4 | 6;
  /** Absent: the default route. */
  readonly dst?: Cidr;
  readonly gateway?: string;
  /** RT_SCOPE_LINK when there is no gateway. */
  readonly link: string;
  /** Absent: main. */
  readonly table?: number;
  readonly metric?: number;
  /** RTPROT_*; absent: ours. */
  readonly protocol?: number;
}

/** One change of the kernel, of Open vSwitch or of the firewall. */
export type Operation =
  /** `side` is where the link is born; a bridge and the first end of a veth are always the host's. */
  | {
      readonly do: 'link.add';
      readonly side: Side;
      readonly name: string;
      readonly link: PlannedLink;
      readonly group: number;
    }
  | { readonly do: 'link.set'; readonly side: Side; readonly name: string; readonly set: LinkChange }
  | {
      readonly do: 'link.change';
      readonly side: Side;
      readonly name: string;
      readonly change: KindChange;
    }
  /** What a NIC makes of one of its virtual functions. */
  | { readonly do: 'vf.set'; readonly uplink: string; readonly vf: number; readonly set: VfSettings }
  /** Another name of a link of the host, by which it is marked. */
  | { readonly do: 'altname.add' | 'altname.del'; readonly name: string; readonly altname: string }
  /** A VLAN of a port of a Linux bridge, or with `self` of the bridge itself. */
  | {
      readonly do: 'vlan.add' | 'vlan.del';
      readonly link: string;
      readonly self?: true;
      readonly vlan: PortVlan;
    }
  /** Only a link of this group is deleted, when one is given: what somebody else made meanwhile stays. */
  | { readonly do: 'link.del'; readonly side: Side; readonly name: string; readonly onlyGroup?: number }
  /**
   * A host NIC goes to the container under a new name, carrying the group as its mark. A Wi-Fi interface goes with its
   * phy, to the namespace of the process `pid`.
   */
  | {
      readonly do: 'link.give';
      readonly name: string;
      readonly ifname: string;
      readonly group: number;
      readonly wireless?: { readonly phy: string; readonly pid: number };
    }
  /** And comes home as it was. */
  | { readonly do: 'link.take'; readonly ifname: string; readonly group: number; readonly saved: SavedLink }
  /** A link of the container makes room: set down and renamed, so that its successor can have its name. */
  | { readonly do: 'link.stash'; readonly name: string; readonly as: string }
  /** A link of the container is as it was noted again, whether it has the name `name` now or its own. */
  | { readonly do: 'link.restore'; readonly name: string; readonly saved: SavedLink }
  | {
      readonly do: 'addr.add';
      readonly side: Side;
      readonly link: string;
      readonly cidr: Cidr;
      readonly broadcast?: string;
      /** Usable at once: it was asked for already. IPv6 only. */
      readonly nodad?: true;
    }
  /** Docker switches IPv6 off in containers that it gave no IPv6 address. */
  | { readonly do: 'ipv6.enable'; readonly link: string; readonly enable: boolean }
  /** `ipv4/forwarding` of the link stands for net/ipv4/conf/LINK/forwarding. */
  | {
      readonly do: 'sysctl.set';
      /** Absent: guest. */
      readonly side?: Side;
      readonly link: string;
      readonly key: string;
      readonly value: string;
    }
  | { readonly do: 'rule.add'; readonly rule: RuleSpec }
  | { readonly do: 'rule.del'; readonly rule: RuleSpec }
  /** Limits what leaves by the link to `rate` bits per second; undefined: no limit. */
  | {
      readonly do: 'qdisc.set';
      readonly side: Side;
      readonly link: string;
      readonly rate: number | undefined;
    }
  /** Refused when somebody on the link has one of these addresses. It takes a while, and changes nothing. */
  | { readonly do: 'addr.probe'; readonly side: Side; readonly link: string; readonly ips: readonly string[] }
  /** What a link of the container receives goes out by another one first; undefined: it does not. */
  | { readonly do: 'ingress.redirect'; readonly link: string; readonly to: string | undefined }
  | { readonly do: 'addr.del'; readonly side: Side; readonly link: string; readonly cidr: Cidr }
  | { readonly do: 'route.replace'; readonly side: Side; readonly route: PlannedRoute }
  | { readonly do: 'route.del'; readonly side: Side; readonly route: PlannedRoute }
  /** Puts back a route that was there before, exactly as it was read. */
  | { readonly do: 'route.restore'; readonly side: Side; readonly route: Route }
  | { readonly do: 'ovs.bridge.add'; readonly name: string; readonly group: number }
  | { readonly do: 'ovs.bridge.del'; readonly name: string; readonly onlyGroup?: number }
  | {
      readonly do: 'ovs.port.add';
      readonly bridge: string;
      readonly port: string;
      readonly vlans: OvsVlans;
      /** Open vSwitch makes the link as well, on the host. */
      readonly internal?: true;
      readonly group: number;
      readonly externalIds: Readonly<Record<string, string>>;
    }
  | { readonly do: 'ovs.port.set'; readonly port: string; readonly set: PortVlans }
  /** Its mirror goes with it. */
  | { readonly do: 'ovs.port.del'; readonly port: string; readonly onlyGroup?: number }
  /** The mirror of ours that leads to this port, made or changed. */
  | {
      readonly do: 'ovs.mirror.set';
      readonly bridge: string;
      readonly port: string;
      readonly mirror: PortMirror;
      readonly group: number;
    }
  | { readonly do: 'ovs.mirror.del'; readonly port: string }
  /** 0 and 0: no limit. */
  | { readonly do: 'ovs.policing.set'; readonly port: string; readonly policing: PolicingSpec }
  | { readonly do: 'firewall.allow'; readonly bridge: string }
  | { readonly do: 'firewall.revoke'; readonly bridge: string };

/** One operation of a plan. */
export interface Step {
  readonly op: Operation;
  /** Why it is needed, for `--dry-run` and the log. */
  readonly because: string;
  /** What takes it back, in this order; safe to run when the operation never happened. */
  readonly undo: readonly Operation[];
  /** Cannot be taken back, so it is run when all others are done and final. Such steps are the last of a plan. */
  readonly final?: true;
}

/** What a plan makes of a thing: it is new, changed in place, or another one is made in its place. */
export type Change = 'create' | 'update' | 'replace';

/** The VLANs of a bridge's port. */
export type PortVlanOp = Extract<Operation, { do: 'vlan.add' | 'vlan.del' }>;
