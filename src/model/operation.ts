/** What a plan consists of: operations as plain data, each with its reason and with what takes it back. */
import { type Cidr, formatCidr } from './address.ts';
import type { ChildMode, OvsVlanMode, OvsVlans, PolicingSpec, QinqEthtype, RuleSpec } from './attachment.ts';
import type { Addr, Route } from './link.ts';
import { formatVids, formatVlan, type PortVlan } from './port-vlan.ts';
import { mainTable } from './route.ts';
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

function route(route: PlannedRoute): string {
  const dst = route.dst ? formatCidr(route.dst) : 'default';
  const via = route.gateway ? ` via ${route.gateway}` : '';
  const table = route.table === undefined ? '' : ` table ${route.table}`;
  const metric = route.metric === undefined ? '' : ` metric ${route.metric}`;
  return `${dst}${via} dev ${route.link}${table}${metric}`;
}

function formerRoute({ dst, gateway, table }: Route): string {
  const where = table === mainTable ? '' : ` table ${table}`;
  return `${dst ? formatCidr(dst) : 'default'}${gateway ? ` via ${gateway}` : ''}${where}`;
}

function newLink(name: string, link: PlannedLink): string {
  const mtu = link.mtu === undefined ? '' : ` mtu ${link.mtu}`;
  const mac = 'mac' in link && link.mac ? ` address ${link.mac}` : '';
  switch (link.kind) {
    case 'bridge':
      return `link add ${name}${mtu} type bridge${link.vlanFiltering ? ' vlan_filtering 1' : ''}`;
    case 'dummy':
      return `link add ${name}${mtu}${mac} type dummy`;
    case 'ifb':
      return `link add ${name} up netns GUEST type ifb`;
    case 'vlan':
      return `link add link ${link.uplink} name ${name}${mtu} type vlan id ${link.vid}`;
    case 'veth':
      return `link add ${name} up${mtu}${link.master ? ` master ${link.master}` : ''} type veth peer name ${link.peer}${mtu}${mac} netns GUEST`;
    case 'macvlan':
    case 'ipvlan':
      return `link add link ${link.uplink} name ${name}${mtu}${mac} netns GUEST type ${childMode(link)}`;
    case 'ipoib':
      return `link add link ${link.uplink} name ${name}${mtu} netns GUEST type ipoib${link.pkey === undefined ? '' : ` pkey 0x${link.pkey.toString(16)}`}`;
  }
}

function change(set: LinkChange): string {
  const words: string[] = [];
  if (set.mac !== undefined) words.push(`address ${set.mac}`);
  if (set.mtu !== undefined) words.push(`mtu ${set.mtu}`);
  if (set.master !== undefined) words.push(set.master === '' ? 'nomaster' : `master ${set.master}`);
  if (set.group !== undefined) words.push(`group ${set.group}`);
  if (set.up !== undefined) words.push(set.up ? 'up' : 'down');
  return words.join(' ');
}

function vfSettings({ mac, vid, spoofCheck }: VfSettings): string {
  const words = [
    ...(mac === undefined ? [] : ['mac', mac]),
    ...(vid === undefined ? [] : ['vlan', vid]),
    ...(spoofCheck === undefined ? [] : ['spoofchk', spoofCheck ? 'on' : 'off']),
  ];
  return words.map((word) => ` ${word}`).join('');
}

function kindChange(change: KindChange): string {
  return change.kind === 'bridge'
    ? `type bridge vlan_filtering ${Number(change.vlanFiltering)}`
    : `type ${childMode(change)}`;
}

function childMode(of: ChildMode): string {
  if (of.kind === 'ipvlan') return `ipvlan mode ${of.mode}${of.flag ? ` ${of.flag}` : ''}`;
  const sources = of.sourceMacs && ` macaddr set ${of.sourceMacs.join(' ')}`;
  return `macvlan mode ${of.mode}${sources ?? ''}`;
}

function rule({ from, to, table, priority }: RuleSpec): string {
  const words = [from && `from ${formatCidr(from)}`, to && `to ${formatCidr(to)}`, `lookup ${table}`];
  if (priority !== undefined) words.push(`priority ${priority}`);
  return words.filter((word) => word !== undefined).join(' ');
}

/** Columns of the table Port as ovs-vsctl takes them; `[]` is none. */
function portVlans({ vid, trunks, vlanMode, cvlans, qinqEthtype }: PortVlans): string {
  const list = (vids: readonly number[] | undefined): string | undefined =>
    vids && (vids.length === 0 ? '[]' : vids.join(','));
  const one = <T>(value: T | null | undefined): T | '[]' | undefined => (value === null ? '[]' : value);
  const columns = {
    tag: one(vid),
    trunks: list(trunks),
    vlan_mode: one(vlanMode),
    cvlans: list(cvlans),
    // Absent is the default.
    'other_config:qinq-ethtype': qinqEthtype === null ? '802.1ad' : qinqEthtype,
  };
  return Object.entries(columns)
    .filter(([, value]) => value !== undefined)
    .map(([column, value]) => ` ${column}=${value}`)
    .join('');
}

/** The VLANs of a bridge's port. */
export type PortVlanOp = Extract<Operation, { do: 'vlan.add' | 'vlan.del' }>;

function mirror(bridge: string, port: string, { all, src, dst, vlans }: PortMirror): string {
  const gets = [...new Set([...src, ...dst])].map((name) => ` -- --id=@${name} get port ${name}`);
  const refs = (names: readonly string[]): string => names.map((name) => `@${name}`).join(',');
  const words = [
    ...(all ? ['select-all=true'] : []),
    ...(src.length > 0 ? [`select-src-port=${refs(src)}`] : []),
    ...(dst.length > 0 ? [`select-dst-port=${refs(dst)}`] : []),
    ...(vlans.length > 0 ? [`select-vlan=${vlans.join(',')}`] : []),
    `output-port=@p`,
  ];
  const create = `--id=@m create mirror name=${port} ${words.join(' ')}`;
  return `ovs-vsctl -- --id=@p get port ${port}${gets.join('')} -- ${create} -- add bridge ${bridge} mirrors @m`;
}

/** The command a person would have typed for this operation. GUEST stands for the container's namespace. */
export function describe(op: Operation): string {
  const ip = 'side' in op && op.side === 'guest' ? 'ip -n GUEST' : 'ip';
  switch (op.do) {
    case 'link.add':
      // A child of a NIC is made by the host, for the container.
      return `${op.link.kind === 'vlan' ? ip : 'ip'} ${newLink(op.name, op.link)}`;
    case 'link.set':
      return `${ip} link set ${op.name} ${change(op.set)}`;
    case 'link.change':
      return `${ip} link set ${op.name} ${kindChange(op.change)}`;
    case 'vf.set':
      return `ip link set ${op.uplink} vf ${op.vf}${vfSettings(op.set)}`;
    case 'altname.add':
      return `ip link property add dev ${op.name} altname ${op.altname}`;
    case 'altname.del':
      return `ip link property del dev ${op.name} altname ${op.altname}`;
    case 'vlan.add':
      return `bridge vlan add dev ${op.link} vid ${formatVlan(op.vlan)}${op.self ? ' self' : ''}`;
    case 'vlan.del':
      return `bridge vlan del dev ${op.link} vid ${formatVids(op.vlan)}${op.self ? ' self' : ''}`;
    case 'link.del':
      return `${ip} link del ${op.name}`;
    case 'link.give':
      return op.wireless
        ? `iw phy ${op.wireless.phy} set netns ${op.wireless.pid}`
        : `ip link set ${op.name} netns GUEST name ${op.ifname}`;
    case 'link.take':
      return `ip -n GUEST link set ${op.ifname} netns HOST name ${op.saved.name}`;
    case 'link.stash':
      return `ip -n GUEST link set ${op.name} down name ${op.as}`;
    case 'link.restore':
      return `ip -n GUEST link set ${op.name} name ${op.saved.name} (and all else as before)`;
    case 'addr.add':
      return `${ip} addr add ${formatCidr(op.cidr)}${op.broadcast ? ` brd ${op.broadcast}` : ''} dev ${op.link}${op.nodad ? ' nodad' : ''}`;
    case 'addr.probe': {
      const arping = op.side === 'guest' ? 'ip netns exec GUEST arping' : 'arping';
      return `${arping} -D -c 3 -I ${op.link} ${op.ips.join(' ')}`;
    }
    case 'ipv6.enable':
      return `ip netns exec GUEST sysctl net.ipv6.conf.${op.link}.disable_ipv6=${op.enable ? 0 : 1}`;
    case 'sysctl.set':
      if (op.side === 'host') return `sysctl net/${op.key.replace('/', `/conf/${op.link}/`)}=${op.value}`;
      return `ip netns exec GUEST sysctl net/${op.key.replace('/', `/conf/${op.link}/`)}=${op.value}`;
    case 'rule.add':
      return `ip -n GUEST rule add ${rule(op.rule)}`;
    case 'rule.del':
      return `ip -n GUEST rule del ${rule(op.rule)}`;
    case 'qdisc.set': {
      const tc = op.side === 'guest' ? 'tc -n GUEST' : 'tc';
      if (op.rate === undefined) return `${tc} qdisc del dev ${op.link} root`;
      return `${tc} qdisc replace dev ${op.link} root tbf rate ${op.rate}bit`;
    }
    case 'ingress.redirect':
      if (op.to === undefined) return `tc -n GUEST qdisc del dev ${op.link} ingress`;
      return `tc -n GUEST filter add dev ${op.link} ingress matchall action mirred egress redirect dev ${op.to}`;
    case 'addr.del':
      return `${ip} addr del ${formatCidr(op.cidr)} dev ${op.link}`;
    case 'route.replace':
      return `${ip} route replace ${route(op.route)}`;
    case 'route.del':
      return `${ip} route del ${route(op.route)}`;
    case 'route.restore':
      return `${ip} route replace ${formerRoute(op.route)} (as before)`;
    case 'ovs.bridge.add':
      return `ovs-vsctl add-br ${op.name}`;
    case 'ovs.bridge.del':
      return `ovs-vsctl --if-exists del-br ${op.name}`;
    case 'ovs.port.add':
      return `ovs-vsctl add-port ${op.bridge} ${op.port}${portVlans(op.vlans)}${op.internal ? ` -- set interface ${op.port} type=internal` : ''}`;
    case 'ovs.port.set':
      return `ovs-vsctl set port ${op.port}${portVlans(op.set)}`;
    case 'ovs.port.del':
      return `ovs-vsctl --if-exists del-port ${op.port}`;
    case 'ovs.mirror.set':
      return mirror(op.bridge, op.port, op.mirror);
    case 'ovs.mirror.del':
      return `ovs-vsctl destroy mirror ${op.port}`;
    case 'ovs.policing.set': {
      const { rate, burst } = op.policing;
      return `ovs-vsctl set interface ${op.port} ingress_policing_rate=${rate} ingress_policing_burst=${burst}`;
    }
    case 'firewall.allow':
      return `iptables -I DOCKER-USER -i ${op.bridge} -o ${op.bridge} -j ACCEPT`;
    case 'firewall.revoke':
      return `iptables -D DOCKER-USER -i ${op.bridge} -o ${op.bridge} -j ACCEPT`;
  }
}
