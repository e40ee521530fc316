/** The words of moving a NIC onto a bridge: what is noted of it, what is done, and how both are written down. */
import { type Cidr, formatCidr } from './address.ts';
import { describe } from './describe.ts';
import { type Addr, type Link, type Neigh, type Nexthop, NTF_PROXY, type Route, type Rule } from './link.ts';
import type { Operation, PortVlanOp } from './operation.ts';
import type { PortVlan } from './port-vlan.ts';

/** The bridge that a NIC becomes the uplink of. */
export interface UplinkBridge {
  readonly kind: 'bridge' | 'ovs';
  readonly name: string;
}

/** What is asked for. */
export interface UplinkWant {
  readonly nic: string;
  readonly bridge: UplinkBridge;
  /** The bridge keeps a MAC address of its own instead of taking the NIC's. */
  readonly keepMac: boolean;
  /** VLANs that the port carries with their tags; empty: all, of a bridge that filters VLANs all that are used there. */
  readonly trunks: readonly number[];
  /** A bridge that somebody else made may be switched to VLAN filtering. */
  readonly vlanFiltering?: true | undefined;
}

/** All that a link has of its own and would lose. Routes and addresses as they were read, with the link's own ifindex. */
export interface LinkState {
  readonly name: string;
  readonly ifindex: number;
  readonly addrs: readonly Addr[];
  /** Those that the kernel does not make by itself. */
  readonly routes: readonly Route[];
  /** Those to its subnets that it does; one that a router advertised does not go with the address. */
  readonly made: readonly Route[];
  /** Nexthop objects by the link; the routes that name them are not among `routes`: they follow. */
  readonly nexthops: readonly Nexthop[];
  /** Rules that name the link. */
  readonly rules: readonly Rule[];
  readonly neighs: readonly Neigh[];
}

/** Settings below net/ipv4/conf/LINK and net/ipv6/conf/LINK by `ipv4/rp_filter`. */
export type Conf = Readonly<Record<string, string>>;

/** What is there before a move. */
export interface ObservedUplink {
  /** The NIC; undefined: there is none of this name here. */
  readonly nic: Link | undefined;
  /** Names and kinds of what keeps the NIC from becoming a port. */
  readonly master: Link | undefined;
  readonly wireless: boolean;
  /** macvlan, macvtap, ipvlan and ipvtap links on the NIC. */
  readonly riders: readonly string[];
  /** 802.1Q sub-interfaces of the NIC. */
  readonly vlanLinks: readonly Link[];
  /** The container that the NIC was moved into. */
  readonly takenBy: string | undefined;
  /** The NIC that has the name as an alternative one. */
  readonly alias: string | undefined;
  /** The bridge that we made the NIC the uplink of. */
  readonly uplinkOf: string | undefined;
  /** The Open vSwitch bridge that the NIC is a port of. */
  readonly ovsBridgeOfNic: string | undefined;
  /** The NIC is the uplink of this bridge already, and by us. */
  readonly isOurs: boolean;
  readonly state: LinkState;
  readonly nicConf: Conf;
  /** All routes of the namespace: where in the order of those of one destination the NIC's stand. */
  readonly routes: readonly Route[];
  /** What has the bridge's name. */
  readonly bridge: Link | undefined;
  readonly bridgeKind: 'bridge' | 'ovs' | 'other' | undefined;
  /** Its ports that could be uplinks already. */
  readonly otherUplinks: readonly string[];
  readonly bridgeState: LinkState;
  /** VLANs of the NIC where it is a port already, of the Linux bridge itself, and of all that is on it but the NIC. */
  readonly nicVlans: readonly PortVlan[];
  readonly bridgeVlans: readonly PortVlan[];
  readonly otherVlans: readonly PortVlan[];
  /** The trunks of the NIC where it is a port of Open vSwitch already. */
  readonly ovsTrunks: readonly number[];
  /** Of the bridge; where there is none yet, of new links. */
  readonly bridgeConf: Conf;
  /** `other_config:hwaddr` of the Open vSwitch bridge. */
  readonly ovsMac: string | undefined;
  /** Frames of an Open vSwitch port reach the kernel's own stack as well. */
  readonly userspaceDatapath: boolean;
  /** net/ipv4/conf/all/rp_filter. */
  readonly rpFilterAll: number;
  /** Mark of what this transaction makes. */
  readonly group: number;
}

/** What is kept of a NIC that is an uplink, so that it can be taken back. */
export interface UplinkRecord {
  readonly want: UplinkWant;
  /** The move made the bridge, with this mark. */
  readonly madeGroup: number | undefined;
  /** What the bridge had of its own. */
  readonly bridgeBefore: LinkState;
  readonly bridgeMacBefore: string | undefined;
  /** False of a bridge that was there and down. */
  readonly bridgeWasUp: boolean;
  readonly bridgeConfBefore: Conf;
  /** The move makes a bridge that filters VLANs; or what has one that is there do so. */
  readonly filters: boolean;
  readonly switched: readonly UplinkVlanOp[];
  /** The NIC's settings, and those of them that the bridge was given. */
  readonly nicConf: Conf;
  readonly copied: Conf;
  readonly nicMtu: number;
  /** What came from the NIC. */
  readonly nicAddrs: readonly Addr[];
  readonly nicWasUp: boolean;
  /** What the bridge is given, so that it does not change with its ports: the NIC's, or one of its own. */
  readonly mac: string;
  /** Whether frames reach the kernel twice, see ObservedUplink. */
  readonly userspaceDatapath: boolean;
}

/** How a route comes to be: in place of the first of its kind, or behind or before the others. */
export type RoutePlace = 'replace' | 'append' | 'prepend';

/** What is done about VLANs, in the words of other plans. */
export type UplinkVlanOp =
  | PortVlanOp
  | Extract<Operation, { do: 'altname.add' | 'altname.del' | 'link.change' }>;

/** One change. Links are named: the bridge may not exist yet when the plan is made. */
export type UplinkOp =
  | UplinkVlanOp
  /** Of a bridge that was switched, unless something of ours has plugged into it meanwhile. */
  | { readonly do: 'bridge.unfilter'; readonly bridge: UplinkBridge }
  /** Of a port of Open vSwitch. */
  | { readonly do: 'port.trunks'; readonly nic: string; readonly trunks: readonly number[] }
  | {
      readonly do: 'bridge.add';
      readonly bridge: UplinkBridge;
      readonly mac: string;
      readonly mtu: number;
      readonly group: number;
      readonly filters: boolean;
    }
  /** Only when the transaction made it, and nothing else has plugged into it. */
  | { readonly do: 'bridge.del'; readonly bridge: UplinkBridge; readonly group: number }
  | { readonly do: 'link.up'; readonly link: string }
  | { readonly do: 'link.down'; readonly link: string }
  /** Unless something of ours has plugged into it meanwhile. */
  | { readonly do: 'bridge.down'; readonly bridge: UplinkBridge }
  /** Of an Open vSwitch bridge `other_config:hwaddr`; undefined takes that away. */
  | { readonly do: 'mac.set'; readonly bridge: UplinkBridge; readonly mac: string | undefined }
  /** Waits until the link can send: the kernel activates a bridge a moment after its first port. */
  | { readonly do: 'link.ready'; readonly link: string }
  | {
      readonly do: 'port.add';
      readonly bridge: UplinkBridge;
      readonly nic: string;
      readonly trunks: readonly number[];
      readonly group: number;
    }
  | { readonly do: 'port.del'; readonly bridge: UplinkBridge; readonly nic: string }
  /** Without duplicate detection: nobody else has an address that is in use a moment before. */
  | { readonly do: 'addr.add'; readonly link: string; readonly addr: Addr }
  | { readonly do: 'addr.del'; readonly link: string; readonly addr: Addr }
  /** `from`: the ifindex that the route was read with. */
  | {
      readonly do: 'route.add';
      readonly link: string;
      readonly route: Route;
      readonly from: number;
      readonly place: RoutePlace;
    }
  | { readonly do: 'route.del'; readonly link: string; readonly route: Route; readonly from: number }
  /** Moves it to the link, and with it the routes that name it. */
  | { readonly do: 'nexthop.set'; readonly link: string; readonly nexthop: Nexthop }
  | { readonly do: 'rule.add'; readonly rule: Rule }
  | { readonly do: 'rule.del'; readonly rule: Rule }
  | { readonly do: 'neigh.add'; readonly link: string; readonly neigh: Neigh }
  | { readonly do: 'neigh.del'; readonly link: string; readonly neigh: Neigh }
  /** `ipv4/rp_filter` of the link; what the kernel does not let be written is left. */
  | { readonly do: 'sysctl.set'; readonly link: string; readonly key: string; readonly value: string }
  /** Gratuitous ARP and unsolicited neighbour advertisements for all addresses of the link. */
  | { readonly do: 'announce'; readonly link: string }
  /** Asks routers to announce themselves, RFC 4861 section 6.3.7. */
  | { readonly do: 'solicit'; readonly link: string };

/** One operation of a move, and why. */
export interface UplinkStep {
  readonly op: UplinkOp;
  readonly because: string;
}

/** A move as data: its steps in order, and what puts everything back from wherever it got to. */
export interface UplinkPlan {
  readonly steps: readonly UplinkStep[];
  /** Each is safe to run whether its step happened or not, and twice. */
  readonly undo: readonly UplinkOp[];
  /** Routes that only the kernel can make; see {@link StandIn}. */
  readonly standIns: readonly StandIn[];
  /** The NIC is the uplink, and only carries other VLANs. */
  readonly inPlace?: true;
}

/**
 * A route that the kernel learned from a router's advertisement. It cannot be made again by anybody else, so another
 * one of a higher metric does its work until the kernel has relearned it on the other link.
 */
export interface StandIn {
  readonly link: string;
  /** The ifindex that both were read with. */
  readonly from: number;
  readonly learned: Route;
  readonly standIn: Route;
}

/** The name of a rule's text form: `from 10.0.0.0/8 iif eth0 lookup 100`. */
function ruleText({ priority, src, dst, iif, oif, table, inverted }: Rule): string {
  const words = [`priority ${priority}${inverted ? ' not' : ''} from ${src ? formatCidr(src) : 'all'}`];
  if (dst) words.push(`to ${formatCidr(dst)}`);
  if (iif !== undefined) words.push(`iif ${iif}`);
  if (oif !== undefined) words.push(`oif ${oif}`);
  return `${words.join(' ')} lookup ${table}`;
}

function routeText({ family, dst, src, gateway, metric, table }: Route, link: string): string {
  const to = `${dst ? formatCidr(dst) : 'default'}${src ? ` from ${formatCidr(src)}` : ''}`;
  const via = gateway === undefined ? '' : ` via ${gateway}`;
  const of = metric === undefined ? '' : ` metric ${metric}`;
  const where = table === 254 ? '' : ` table ${table}`;
  return `${family === 6 ? '-6 ' : ''}route %s ${to}${via} dev ${link}${of}${where}`;
}

function addrText({ cidr, peer, broadcast }: Addr): string {
  const to: Cidr = cidr;
  if (peer !== undefined) return `${to.ip} peer ${peer}/${to.prefixLen}`;
  return `${formatCidr(to)}${broadcast === undefined ? '' : ` brd ${broadcast}`}`;
}

/** The command a person would have typed. */
export function describeUplinkOp(op: UplinkOp): string {
  switch (op.do) {
    case 'bridge.add': {
      const { bridge, mac } = op;
      if (bridge.kind === 'bridge')
        return `ip link add ${bridge.name} address ${mac} mtu ${op.mtu} type bridge${op.filters ? ' vlan_filtering 1' : ''}`;
      return `ovs-vsctl add-br ${bridge.name} -- set bridge ${bridge.name} other-config:hwaddr=${mac}`;
    }
    case 'bridge.del':
      return op.bridge.kind === 'bridge'
        ? `ip link del ${op.bridge.name}`
        : `ovs-vsctl --if-exists del-br ${op.bridge.name}`;
    case 'link.up':
    case 'link.down':
      return `ip link set ${op.link} ${op.do === 'link.up' ? 'up' : 'down'}`;
    case 'bridge.unfilter':
      return `ip link set ${op.bridge.name} type bridge vlan_filtering 0`;
    case 'port.trunks':
      return op.trunks.length > 0
        ? `ovs-vsctl set port ${op.nic} trunks=${op.trunks.join(',')}`
        : `ovs-vsctl clear port ${op.nic} trunks`;
    case 'bridge.down':
      return `ip link set ${op.bridge.name} down`;
    case 'mac.set':
      if (op.bridge.kind === 'bridge') return `ip link set ${op.bridge.name} address ${op.mac}`;
      return op.mac === undefined
        ? `ovs-vsctl remove bridge ${op.bridge.name} other-config hwaddr`
        : `ovs-vsctl set bridge ${op.bridge.name} other-config:hwaddr=${op.mac}`;
    case 'link.ready':
      return `ip link show ${op.link} up`;
    case 'port.add':
      if (op.bridge.kind === 'bridge') return `ip link set ${op.nic} master ${op.bridge.name}`;
      return `ovs-vsctl add-port ${op.bridge.name} ${op.nic}${op.trunks.length > 0 ? ` trunks=${op.trunks.join(',')}` : ''}`;
    case 'port.del':
      return op.bridge.kind === 'bridge'
        ? `ip link set ${op.nic} nomaster`
        : `ovs-vsctl --if-exists del-port ${op.nic}`;
    case 'addr.add':
      return `ip addr add ${addrText(op.addr)} dev ${op.link}${op.addr.cidr.family === 6 ? ' nodad' : ''}`;
    case 'addr.del':
      return `ip addr del ${formatCidr(op.addr.cidr)} dev ${op.link}`;
    case 'route.add':
      return `ip ${routeText(op.route, op.link).replace('%s', op.place)}`;
    case 'route.del':
      return `ip ${routeText(op.route, op.link).replace('%s', 'del')}`;
    case 'nexthop.set': {
      const { id, gateway } = op.nexthop;
      return `ip nexthop replace id ${id}${gateway === undefined ? '' : ` via ${gateway}`} dev ${op.link}`;
    }
    case 'rule.add':
    case 'rule.del':
      return `ip ${op.rule.family === 6 ? '-6 ' : ''}rule ${op.do === 'rule.add' ? 'add' : 'del'} ${ruleText(op.rule)}`;
    case 'neigh.add':
    case 'neigh.del': {
      const { ip, mac, flags } = op.neigh;
      const verb = op.do === 'neigh.add' ? 'replace' : 'del';
      if ((flags & NTF_PROXY) !== 0) return `ip neigh ${verb} proxy ${ip} dev ${op.link}`;
      return `ip neigh ${verb} ${ip} lladdr ${mac} dev ${op.link}`;
    }
    case 'sysctl.set':
      return `sysctl net/${op.key.replace('/', `/conf/${op.link}/`)}=${op.value}`;
    case 'announce':
      return `arping -A -c 1 -I ${op.link} ADDRESS`;
    case 'solicit':
      return `rdisc6 -1 ${op.link}`;
    default:
      return describe(op);
  }
}

/** Where a move is: at work; done and waiting to be confirmed; decided. */
export type UplinkPhase = 'moving' | 'moved' | 'settled';

/**
 * What is on disk of a NIC before anything of it is touched, for whoever puts it back. While it is an uplink, with phase
 * `settled`, it is what `uplink remove` works from. Times are milliseconds of the kernel's monotonic clock.
 */
export interface UplinkJournal {
  readonly version: 1;
  /** /proc/sys/kernel/random/boot_id: after a reboot nothing of it is true. */
  readonly bootId: string;
  readonly nic: string;
  readonly action: 'add' | 'remove';
  readonly phase: UplinkPhase;
  /** The process that moves. */
  readonly pid: number;
  readonly startTime: string;
  /** When lifetimes were read. */
  readonly notedAt: number;
  /** When everything goes back unless it was confirmed. */
  readonly deadline: number;
  readonly undo: readonly UplinkOp[];
  /** Those that replace what the kernel learned, on the link that has them now, and after an undo. */
  readonly standIns: readonly StandIn[];
  readonly undoStandIns: readonly StandIn[];
  readonly record: UplinkRecord;
  /** Of a NIC that was an uplink already, and that somebody took off its bridge. */
  readonly former: UplinkRecord | undefined;
  /** The network of a topology that wants it; undefined: a command did. */
  readonly network: string | undefined;
}
