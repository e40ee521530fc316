/**
 * The steps that carry what a link has to the other one, there and back. Pure.
 *
 * The order keeps the host reachable at every moment (see docs/design/008-uplink.md): the bridge is up and has the
 * addresses before the NIC is its port; until the routes have moved, packets leave by the NIC itself, which a port still
 * can; only then does the NIC lose its addresses. The way back is the same in reverse.
 */
import { networkOf } from '../model/address.ts';
import { type Addr, type Neigh, NTF_PROXY, type Route, type Rule } from '../model/link.ts';
import type { PortVlan } from '../model/port-vlan.ts';
import type {
  Conf,
  LinkState,
  UplinkBridge,
  UplinkOp,
  UplinkRecord,
  UplinkStep,
  UplinkWant,
} from '../model/uplink.ts';
import { portVlanOps } from './bridge.ts';
import { isByHand, noAutoconf, restoredMac, step, sysctl } from './uplink-bridge.ts';
import {
  hasSubnetRoute,
  inOrder,
  isLearned,
  madeByKernel,
  placeOf,
  standInFor,
  subnetRoute,
} from './uplink-routes.ts';
import { ovsTrunks } from './uplink-vlans.ts';

/** The two links of a move. */
export interface Move {
  readonly nic: string;
  readonly bridge: UplinkBridge;
  /** What moves, as it was read from one of the two. */
  readonly state: LinkState;
  /** Its routes that stand behind others, and so cannot take their place. */
  readonly routes: readonly Route[];
  readonly nicConf: Conf;
  readonly userspaceDatapath: boolean;
  /** The VLANs that the NIC carries as a port of a Linux bridge; undefined: it does not filter. */
  readonly vlans: readonly PortVlan[] | undefined;
  /** What it carries before it is told: what a bridge gives a new port. */
  readonly portVlans: readonly PortVlan[];
  /** Addresses that the bridge has of its own. */
  readonly kept: readonly Addr[];
}

/** A route without what changes by itself. */
export function routeKey({ family, table, dst, src, gateway, metric, tos, type }: Route): string {
  return JSON.stringify([family, table, dst, src, gateway, metric, tos, type]);
}

export function pick(conf: Conf, keys: readonly string[]): Conf {
  return Object.fromEntries(keys.flatMap((key) => (conf[key] === undefined ? [] : [[key, conf[key]]])));
}

export function isLinkLocal({ cidr }: Addr): boolean {
  return cidr.family === 6 && /^fe[89ab]/.test(cidr.ip);
}

/** IFA_F_MANAGETEMPADDR: the kernel makes temporary addresses (RFC 8981) to go with it. */
function hasTemporary({ flags }: Addr): boolean {
  return (flags & 0x100) !== 0;
}

/** A rule that names the other link. */
export function renamed(rule: Rule, from: string, to: string): Rule {
  return {
    ...rule,
    ...(rule.iif === from ? { iif: to } : {}),
    ...(rule.oif === from ? { oif: to } : {}),
  };
}

/** A neighbour without what changes by itself. */
export function neighKey({ ip, mac, flags }: Neigh): string {
  return JSON.stringify([ip, mac, flags & NTF_PROXY]);
}

/** Routes that the kernel learned from a router on the link. */
export function learnedOf({ state, nicConf }: Move): Route[] {
  const learned = state.routes.filter((route) => isLearned(route, nicConf));
  const standIns = learned.map((route) => routeKey(standInFor(route, '', 0).standIn));
  return learned.filter((route) => !standIns.includes(routeKey(route)));
}

/** What each link is given: with the state's own link or with the other. */
function contentOf(move: Move, link: string) {
  const { state } = move;
  const learned = learnedOf(move);
  const routes = inOrder(state.routes.filter((route) => !learned.includes(route)));
  // The kernel lists IPv6 addresses with the newest first.
  const addrs = [
    ...state.addrs.filter(({ cidr }) => cidr.family === 4),
    ...state.addrs.filter(({ cidr }) => cidr.family === 6).reverse(),
  ];
  const addrAdd = (addr: Addr): UplinkOp => ({ do: 'addr.add', link, addr });
  return {
    addrs: addrs.filter((addr) => !isLinkLocal(addr) && !hasTemporary(addr)).map(addrAdd),
    temporary: addrs.filter(hasTemporary).map(addrAdd),
    linkLocal: addrs.filter(isLinkLocal).map(addrAdd),
    nexthops: state.nexthops.map((nexthop): UplinkOp => ({ do: 'nexthop.set', link, nexthop })),
    neighs: state.neighs.map((neigh): UplinkOp => ({ do: 'neigh.add', link, neigh })),
    routes: [
      ...routes.map(
        (route): UplinkOp => ({
          do: 'route.add',
          link,
          route,
          from: state.ifindex,
          place: placeOf(route, move.routes),
        }),
      ),
      ...learned.map(
        (route): UplinkOp => ({
          do: 'route.add',
          link,
          route: standInFor(route, link, state.ifindex).standIn,
          from: state.ifindex,
          place: 'append',
        }),
      ),
    ],
  };
}

/** What a link loses, all that it could have of what moves: its routes, its addresses, the first last, and their routes. */
function lossOf(move: Move, link: string): UplinkOp[] {
  const { state } = move;
  const standIns = learnedOf(move).map((route) => standInFor(route, link, state.ifindex).standIn);
  const routeDel = (route: Route): UplinkOp => ({ do: 'route.del', link, route, from: state.ifindex });
  return [
    ...state.neighs.filter(isByHand).map((neigh): UplinkOp => ({ do: 'neigh.del', link, neigh })),
    ...[...state.routes, ...standIns].map(routeDel),
    ...[...state.addrs].reverse().map((addr): UplinkOp => ({ do: 'addr.del', link, addr })),
    ...state.made.map(routeDel),
  ];
}

/** Rules: each by its new name before the old one goes. */
function ruleOps({ state, nic, bridge }: Move, to: 'bridge' | 'nic'): UplinkOp[] {
  const both = state.rules.map((rule) => ({
    nic: rule,
    bridge: renamed(rule, nic, bridge.name),
  }));
  return [
    ...both.map((rule): UplinkOp => ({ do: 'rule.add', rule: rule[to] })),
    ...both.map((rule): UplinkOp => ({ do: 'rule.del', rule: rule[to === 'nic' ? 'bridge' : 'nic'] })),
  ];
}

/** A port of the userspace datapath still hands its frames to the kernel, which would answer everything twice. */
const silent: Conf = { 'ipv4/arp_ignore': '8', 'ipv4/rp_filter': '1', 'ipv6/disable_ipv6': '1' };

export function toBridge(move: Move, record: UplinkRecord, strict: boolean): UplinkStep[] {
  const { nic, bridge, nicConf } = move;
  const { want } = record;
  const link = bridge.name;
  const has = contentOf(move, link);
  const group = record.madeGroup ?? 0;
  const rpFilter = nicConf['ipv4/rp_filter'] ?? '0';
  const ops: UplinkOp[] = [
    // Between the port and the routes, packets come in by the bridge whose answers would leave by the NIC.
    ...(strict ? [sysctl(link, 'ipv4/rp_filter', '2')] : []),
    { do: 'link.up', link },
    ...has.addrs,
    ...has.neighs,
    { do: 'port.add', bridge, nic, trunks: bridge.kind === 'ovs' ? ovsTrunks(want.trunks) : [], group },
    ...(move.vlans ? portVlanOps(nic, move.vlans, move.portVlans) : []),
    { do: 'link.ready', link },
    // Now, so that the kernel's question to routers leaves the host, and temporary addresses are not given up at once.
    ...has.temporary,
    ...has.linkLocal,
    ...(record.madeGroup === undefined
      ? []
      : [sysctl(link, 'ipv6/addr_gen_mode', nicConf['ipv6/addr_gen_mode'] ?? '0')]),
    ...has.routes,
    ...has.nexthops,
    ...ruleOps(move, 'bridge'),
    ...lossOf(move, nic),
    sysctl(link, 'ipv4/rp_filter', rpFilter),
    ...(move.userspaceDatapath ? Object.entries(silent).map(([key, value]) => sysctl(nic, key, value)) : []),
    { do: 'announce', link },
    { do: 'solicit', link },
  ];
  return ops.map((op) => step(op, reasonOf(op, want)));
}

export function toNic(move: Move, record: UplinkRecord, strict: boolean): UplinkOp[] {
  const { nic, bridge, nicConf } = move;
  const link = bridge.name;
  const has = contentOf(move, nic);
  const mode = nicConf['ipv6/addr_gen_mode'] ?? '0';
  const loud = move.userspaceDatapath ? pick(nicConf, Object.keys(silent)) : {};
  return [
    ...(strict ? [sysctl(link, 'ipv4/rp_filter', '2')] : []),
    ...(move.userspaceDatapath ? [sysctl(nic, 'ipv6/addr_gen_mode', noAutoconf)] : []),
    ...Object.entries(loud).map(([key, value]) => sysctl(nic, key, value)),
    ...has.addrs,
    ...has.temporary,
    ...has.neighs,
    ...has.routes,
    ...has.nexthops,
    ...ruleOps(move, 'nic'),
    // The bridge's route to the subnet is the first of two, and leads nowhere once it has no port.
    ...lossOf({ ...move, state: withoutKept(move, record) }, link),
    ...first(move),
    { do: 'port.del', bridge, nic },
    ...has.linkLocal,
    ...(move.userspaceDatapath ? [sysctl(nic, 'ipv6/addr_gen_mode', mode)] : []),
    ...Object.entries(record.bridgeConfBefore).map(([key, value]) => sysctl(link, key, value)),
    ...restoredMac(record),
    ...(record.switched.length > 0 ? [{ do: 'bridge.unfilter', bridge } satisfies UplinkOp] : []),
    ...(record.madeGroup === undefined
      ? []
      : [{ do: 'bridge.del', bridge, group: record.madeGroup } satisfies UplinkOp]),
    ...downAgain(record),
    ...(record.nicWasUp ? [] : [{ do: 'link.down', link: nic } satisfies UplinkOp]),
    { do: 'announce', link: nic },
    { do: 'solicit', link: nic },
  ];
}

/**
 * Where the bridge keeps an address of the same subnet, its route is the first of two, and leads nowhere once it has no
 * port: the NIC's goes before it. (IPv6 has no such order to be asked for.)
 */
function first({ nic, state, kept }: Move): UplinkOp[] {
  const subnetOf = ({ cidr }: Addr): string => `${networkOf(cidr)}/${cidr.prefixLen}`;
  const ofBridge = new Set(kept.map(subnetOf));
  const firsts = new Map(
    state.addrs
      .filter((addr) => addr.cidr.family === 4 && hasSubnetRoute(addr) && ofBridge.has(subnetOf(addr)))
      .reverse()
      .map((addr) => [subnetOf(addr), addr]),
  );
  return [...firsts.values()].map(({ cidr }) => ({
    do: 'route.add',
    link: nic,
    route: subnetRoute(cidr, state.ifindex),
    from: state.ifindex,
    place: 'prepend',
  }));
}

/** What the bridge has as well stays with it. */
function withoutKept({ state, kept }: Move, { bridgeBefore }: UplinkRecord): LinkState {
  const former = new Set(bridgeBefore.neighs.map(neighKey));
  return {
    ...state,
    neighs: state.neighs.filter((neigh) => !former.has(neighKey(neigh))),
    addrs: state.addrs.filter(({ cidr }) => !kept.some((own) => own.cidr.ip === cidr.ip)),
    made: state.made.filter((route) => !madeByKernel(route, kept)),
  };
}

/** With its IPv6 addresses, which the kernel takes from a link that goes down. */
function downAgain({ want, bridgeBefore, bridgeWasUp }: UplinkRecord): UplinkOp[] {
  if (bridgeWasUp) return [];
  const { bridge } = want;
  return [
    { do: 'bridge.down', bridge },
    ...bridgeBefore.addrs
      .filter(({ cidr }) => cidr.family === 6)
      .reverse()
      .map((addr): UplinkOp => ({ do: 'addr.add', link: bridge.name, addr })),
  ];
}

export function reasonOf(op: UplinkOp, { nic, bridge }: UplinkWant): string {
  switch (op.do) {
    case 'port.add':
      return `${nic} is to be the uplink of ${bridge.name}`;
    case 'port.del':
      return `${nic} is to be the uplink no more`;
    case 'addr.add':
    case 'route.add':
    case 'neigh.add':
    case 'nexthop.set':
    case 'rule.add':
      return `comes from ${'link' in op && op.link === nic ? bridge.name : nic}`;
    case 'addr.del':
    case 'neigh.del':
    case 'route.del':
    case 'rule.del':
      return 'has moved';
    case 'link.ready':
      return 'the kernel activates it';
    case 'announce':
      return 'neighbours are to know at once';
    case 'solicit':
      return 'so that the kernel learns the routers again';
    case 'sysctl.set':
      return op.link === nic ? 'Open vSwitch has its frames' : `as on ${nic}`;
    case 'bridge.del':
      return 'made for this';
    case 'bridge.down':
    case 'bridge.unfilter':
      return 'as it was';
    case 'vlan.add':
    case 'vlan.del':
      return `what has no tag is the host's, and VLANs are carried with their tags`;
    default:
      return 'for the move';
  }
}
