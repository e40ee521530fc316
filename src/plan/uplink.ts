/** A NIC's move to a bridge, and back, as a plan: what moves, and what is noted. Pure. */
import { PipewrightError } from '../errors.ts';
import type { Addr, Link } from '../model/link.ts';
import { macOfGroup } from '../model/naming.ts';
import { bornVlans } from '../model/port-vlan.ts';
import type {
  Conf,
  LinkState,
  ObservedUplink,
  StandIn,
  UplinkOp,
  UplinkPlan,
  UplinkRecord,
  UplinkWant,
} from '../model/uplink.ts';
import { macOps, planBridge } from './uplink-bridge.ts';
import {
  isLinkLocal,
  learnedOf,
  type Move,
  neighKey,
  pick,
  reasonOf,
  renamed,
  routeKey,
  toBridge,
  toNic,
} from './uplink-move.ts';
import { checkUplink } from './uplink-refusals.ts';
import { isLearned, standInFor } from './uplink-routes.ts';
import { filters, planUplinkTrunks, switchOps, uplinkVlans, usualPvid } from './uplink-vlans.ts';

/**
 * Of a port that has addresses nothing is reached: so it is after a boot, when Open vSwitch has kept the port and the host's
 * configuration does not know of it.
 */
function hasOwn({ addrs }: LinkState): boolean {
  return addrs.some((addr) => !isLinkLocal(addr));
}

/**
 * A NIC becomes the uplink of a bridge; no steps when it is.
 * @param former what was noted when it became so, by us
 * @throws PipewrightError UPLINK_REFUSED
 */
export function planUplinkAdd(
  want: UplinkWant,
  seen: ObservedUplink,
  former?: UplinkRecord,
): UplinkPlan & { record: UplinkRecord } {
  const nic = checkUplink(want, seen);
  const record = recordOf(want, nic, seen);
  const isPort = nic.master !== undefined && nic.master === seen.bridge?.ifindex;
  const isOnBridge = isPort || seen.ovsBridgeOfNic === want.bridge.name;
  if (isOnBridge && !hasOwn(seen.state)) return inPlace(want, seen, record, former);
  const move: Move = {
    nic: want.nic,
    bridge: want.bridge,
    state: seen.state,
    routes: seen.routes,
    nicConf: seen.nicConf,
    userspaceDatapath: want.bridge.kind === 'ovs' && seen.userspaceDatapath,
    vlans: uplinkVlans(want, seen),
    portVlans: isPort ? seen.nicVlans : bornVlans(seen.bridge?.data.defaultPvid ?? usualPvid),
    kept: seen.bridgeState.addrs,
  };
  const strict = isStrict(seen);
  return {
    steps: [
      ...planBridge(record),
      ...(nic.up ? [] : [{ op: { do: 'link.up', link: want.nic } as const, because: 'it is down' }]),
      ...toBridge(move, record, strict),
    ],
    undo: toNic(move, record, strict).filter((op) => !isOnBridge || op.do !== 'port.del'),
    standIns: learnedOf(move).map((route) => standInFor(route, want.bridge.name, seen.state.ifindex)),
    record,
  };
}

/** The NIC is the uplink already; its VLANs may be others, and the MAC address of the bridge another one. */
function inPlace(
  want: UplinkWant,
  seen: ObservedUplink,
  record: UplinkRecord,
  former: UplinkRecord | undefined,
): UplinkPlan & { record: UplinkRecord } {
  const trunks = planUplinkTrunks(want, seen);
  const present = seen.bridge?.mac ?? record.mac;
  const mac = otherMac(want, seen, former) ?? present;
  if (mac !== present && seen.userspaceDatapath) throw cannotChangeMac(want, present, mac);
  const change = (to: string): UplinkOp[] =>
    mac === present ? [] : macOps(want.bridge, to, seen.bridgeState);
  const because = want.keepMac
    ? 'the bridge is to have a MAC address of its own'
    : 'leases and neighbours know this MAC address';
  return {
    steps: [
      ...trunks.ops.map((op) => ({ op, because: 'the uplink is to carry other VLANs' })),
      ...change(mac).map((op) => ({ op, because })),
    ],
    undo: [...change(present), ...trunks.undo],
    standIns: [],
    record: { ...record, mac },
    inPlace: true,
  };
}

/** There a bridge is a tap device, which Open vSwitch takes down for it: routes and IPv6 addresses would be lost. */
function cannotChangeMac(want: UplinkWant, from: string, to: string): PipewrightError {
  const { nic, bridge, keepMac } = want;
  const how = `pipewright uplink add ${nic} --network ovs:${bridge.name}${keepMac ? ' --keep-mac' : ''}`;
  return new PipewrightError('UPLINK_REFUSED', {
    op: 'uplink.add',
    subject: `${nic} on ${bridge.name}`,
    detail: `${bridge.name} has the MAC address ${from} and would get ${to}, and with the userspace datapath of Open vSwitch that cannot be changed while addresses are on it`,
    hint: `pipewright uplink remove ${nic}, then: ${how}`,
  });
}

/** The MAC address of the bridge, where --keep-mac is given other than the last time. */
function otherMac(
  want: UplinkWant,
  seen: ObservedUplink,
  former: UplinkRecord | undefined,
): string | undefined {
  if (!seen.isOurs || !former || former.want.keepMac === want.keepMac) return undefined;
  if (!want.keepMac) return seen.nic?.mac;
  // Of one that we made the mark says it; Open vSwitch need not have been told one.
  return former.bridgeMacBefore ?? macOfGroup(former.madeGroup ?? seen.group);
}

/**
 * The NIC is taken off its bridge, with what the bridge has now and had not before: a lease may have been renewed there.
 * @param keep addresses of the bridge that are its own, though it got them later
 */
export function planUplinkRemove(
  record: UplinkRecord,
  seen: ObservedUplink,
  keep: readonly Addr['cidr'][],
): UplinkPlan {
  const { want, bridgeBefore } = record;
  const isOwn = (addr: Addr): boolean =>
    !record.nicAddrs.some(({ cidr }) => cidr.ip === addr.cidr.ip) &&
    [...bridgeBefore.addrs.map(({ cidr }) => cidr), ...keep].some(
      ({ ip, prefixLen }) => ip === addr.cidr.ip && prefixLen === addr.cidr.prefixLen,
    );
  const former = new Set(bridgeBefore.routes.map(routeKey));
  const formerNexthops = new Set(bridgeBefore.nexthops.map(({ id }) => id));
  const formerRules = new Set(bridgeBefore.rules.map((rule) => JSON.stringify(rule)));
  const formerNeighs = new Set(bridgeBefore.neighs.map(neighKey));
  const { bridgeState } = seen;
  const state: LinkState = {
    ...bridgeState,
    addrs: bridgeState.addrs.filter((addr) => !isOwn(addr)),
    routes: bridgeState.routes.filter((route) => !former.has(routeKey(route))),
    nexthops: bridgeState.nexthops.filter(({ id }) => !formerNexthops.has(id)),
    neighs: bridgeState.neighs.filter((neigh) => !formerNeighs.has(neighKey(neigh))),
    rules: bridgeState.rules
      .filter((rule) => !formerRules.has(JSON.stringify(rule)))
      .map((rule) => renamed(rule, want.bridge.name, want.nic)),
  };
  const move: Move = {
    nic: want.nic,
    bridge: want.bridge,
    state,
    routes: seen.routes,
    nicConf: record.nicConf,
    userspaceDatapath: record.userspaceDatapath,
    // As they are now: somebody may have added some.
    vlans: seen.nicVlans.length > 0 ? seen.nicVlans : undefined,
    portVlans: bornVlans(seen.bridge?.data.defaultPvid ?? usualPvid),
    kept: bridgeState.addrs.filter(isOwn),
  };
  const strict = isStrict(seen);
  return {
    steps: toNic(move, record, strict).map((op) => ({ op, because: reasonOf(op, want) })),
    undo: [...planBridge(record), ...toBridge(move, record, strict)].map(({ op }) => op),
    standIns: learnedOf(move).map((route) => standInFor(route, want.nic, state.ifindex)),
  };
}

/** What the undo of an `add` leaves to be settled on the NIC. */
export function standInsOnNic(record: UplinkRecord, state: LinkState): StandIn[] {
  return state.routes
    .filter((route) => isLearned(route, record.nicConf))
    .map((route) => standInFor(route, record.want.nic, state.ifindex));
}

function recordOf(want: UplinkWant, nic: Link, seen: ObservedUplink): UplinkRecord {
  return {
    want,
    madeGroup: seen.bridge ? undefined : seen.group,
    bridgeBefore: seen.bridgeState,
    bridgeMacBefore: want.bridge.kind === 'ovs' ? seen.ovsMac : seen.bridge?.mac,
    filters: filters(want, seen),
    switched: switchOps(want, seen),
    bridgeWasUp: seen.bridge?.up ?? true,
    bridgeConfBefore: seen.bridge
      ? pick(seen.bridgeConf, [...Object.keys(differing(seen)), 'ipv4/rp_filter'])
      : {},
    nicConf: seen.nicConf,
    copied: differing(seen),
    nicMtu: nic.mtu,
    nicAddrs: seen.state.addrs,
    nicWasUp: nic.up,
    mac: want.keepMac ? (seen.bridge?.mac ?? macOfGroup(seen.group)) : nic.mac,
    userspaceDatapath: want.bridge.kind === 'ovs' && seen.userspaceDatapath,
  };
}

/** Not a setting, or decided by the move itself. */
const notCopied = [
  'ipv4/mc_forwarding',
  'ipv6/mc_forwarding',
  'ipv6/mtu',
  'ipv6/addr_gen_mode',
  'ipv4/rp_filter',
];

/** The NIC's settings that the bridge does not have. The secret of stable addresses is set before the rest. */
function differing({ nicConf, bridgeConf }: ObservedUplink): Conf {
  const keys = Object.keys(nicConf).filter(
    (key) => nicConf[key] !== bridgeConf[key] && !notCopied.includes(key),
  );
  const first = keys.filter((key) => key === 'ipv6/stable_secret');
  return pick(nicConf, [...first, ...keys.filter((key) => key !== 'ipv6/stable_secret')]);
}

/** Whether a packet is dropped when its answer would leave by another link (rp_filter 1, RFC 3704). */
function isStrict({ rpFilterAll, nicConf }: ObservedUplink): boolean {
  return Math.max(rpFilterAll, Number(nicConf['ipv4/rp_filter'] ?? 0)) === 1;
}
