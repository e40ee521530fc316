/** A network of a topology -> what the host needs for it before any container is there. Pure. */
import { PipewrightError } from '../errors.ts';
import { broadcastOf, type Cidr, formatCidr } from '../model/address.ts';
import { type ChildMode, childModeOf } from '../model/attachment.ts';
import type { Addr, Link, Route } from '../model/link.ts';
import { hostIfnameFor, hostMark, isOurGroup, vlanIfnameFor } from '../model/naming.ts';
import { type NetworkType, promotion, type UplinkPort } from '../model/observed.ts';
import type { Change, Operation, PlannedLink, Side, Step } from '../model/operation.ts';
import { carries, needsFiltering, type PortVlan } from '../model/port-vlan.ts';
import type { NetworkSpec } from '../model/topology.ts';
import { planFiltering, planOnUplink } from './bridge.ts';
import { childSeen, childText } from './change.ts';
import { saved } from './kept.ts';

/** Bytes; of a link that is given none. */
const defaultMtu = 1500;

/** What is there of a network. */
export interface ObservedNetwork {
  /** The bridge or NIC that it is named after. */
  readonly link: Link | undefined;
  readonly type: NetworkType | undefined;
  /** The 802.1Q sub-interface, where the network is a VLAN of a NIC. */
  readonly vlanLink: Link | undefined;
  /** The link that has, or will have, the host's own addresses, and those. */
  readonly hostLink: Link | undefined;
  /** What that one is on, where it is a child of a NIC. */
  readonly hostUplink?: string | undefined;
  readonly hostAddrs: readonly Addr[];
  /** Its routes; only where an address of it may have to go. */
  readonly hostRoutes?: readonly Route[] | undefined;
  /** The port of Open vSwitch that is the host's interface in a VLAN, whoever made it. */
  readonly hostPort?:
    | { readonly bridge: string; readonly vid: number | undefined; readonly isOurs: boolean }
    | undefined;
  /** The VLANs that the bridge itself carries, where the host has addresses in one of them. */
  readonly selfVlans: readonly PortVlan[];
  /** See ObservedHost. */
  readonly uplink?: UplinkPort | undefined;
  readonly group: number;
  /** Addresses that an earlier version of the file asked for. */
  readonly formerAddrs: readonly Cidr[];
  /** The MTU that a bridge of somebody else had before it was given another one. */
  readonly formerMtu?: number | undefined;
  /** Whether the next address of a subnet takes the place of the first when that is deleted. */
  readonly promotes: boolean;
}

/** The link of the host that carries its own addresses on the network; undefined where there is none. */
export function hostLinkOf(network: NetworkSpec): string | undefined {
  if (network.hostAddresses.length === 0) return undefined;
  switch (network.kind) {
    case 'bridge':
      // What the bridge's own interface sends is in no VLAN but its PVID, which is one for all networks of the bridge.
      return network.vid === undefined ? network.bridge : vlanIfnameFor(network.bridge, network.vid);
    case 'ovs':
      // Likewise: its own port has one tag, or none, for all networks of the bridge.
      return network.vid === undefined ? network.bridge : vlanIfnameFor(network.bridge, network.vid);
    case 'macvlan':
    case 'ipvlan': {
      // A NIC does not talk to its own children; another child does.
      const plain = `pwh-${network.name}`;
      return plain.length <= 15 ? plain : hostIfnameFor(network.name, { inode: 0 });
    }
    case 'phys':
    case 'sriov':
    case 'dummy':
      return undefined;
  }
}

/** The steps that make the network ready on the host; none when it is. */
export function planHostNetwork(network: NetworkSpec, seen: ObservedNetwork): Step[] {
  const away = dropOtherChild(network, seen);
  const rest: ObservedNetwork = away.length === 0 ? seen : { ...seen, hostLink: undefined, hostAddrs: [] };
  return [
    ...planBase(network, seen),
    ...away,
    ...planHostLink(network, rest),
    ...planHostAddrs(network, rest),
  ];
}

/** What such steps make of it. */
export function changeOfNetwork(steps: readonly Step[]): Change {
  const has = (...names: readonly Operation['do'][]): boolean =>
    steps.some(({ op }) => names.includes(op.do));
  return has('link.add', 'ovs.bridge.add') && !has('link.del') ? 'create' : 'update';
}

/** The host's own child of a NIC is made anew where it is on another NIC or VLAN, or in another mode, than the network. */
function dropOtherChild(network: NetworkSpec, seen: ObservedNetwork): Step[] {
  const { hostLink: link, hostUplink, hostAddrs: addrs, hostRoutes: routes = [], group } = seen;
  if ((network.kind !== 'macvlan' && network.kind !== 'ipvlan') || !link || !isOurGroup(link.group))
    return [];
  const uplink = network.vid === undefined ? network.uplink : vlanIfnameFor(network.uplink, network.vid);
  const child = isChildKind(link.kind) ? childSeen(link.kind, link.data) : undefined;
  const isSame = child && JSON.stringify(childModeOf({ ...child, ...childModeOf(network) } as ChildMode));
  const hasMode = child?.kind === network.kind && isSame === JSON.stringify(childModeOf(child));
  const parent = network.vid === undefined ? seen.link : seen.vlanLink;
  if (hasMode && parent !== undefined && link.lower === parent.ifindex) return [];
  const because = hasMode
    ? `uplink: ${hostUplink ?? 'another one'} -> ${uplink}`
    : `mode: ${child ? childText(child) : link.kind} -> ${childText(network)}`;
  const { name, mtu, mac } = link;
  const own = child?.kind === 'macvlan' && mac !== undefined ? { mac } : {};
  const again: Operation[] =
    child && hostUplink !== undefined
      ? [
          {
            do: 'link.add',
            side: 'guest',
            name,
            link: { ...childModeOf(child), uplink: hostUplink, mtu, ...own },
            group,
          },
          { do: 'link.restore', name, saved: saved({ link, addrs, routes }) },
        ]
      : [];
  return [
    step({ do: 'link.del', side: 'guest', name, onlyGroup: link.group }, `made anew, ${because}`, again),
  ];
}

const isChildKind = (kind: string | undefined): kind is ChildMode['kind'] =>
  kind === 'macvlan' || kind === 'ipvlan';

function step(op: Operation, because: string, undo: readonly Operation[]): Step {
  return { op, because, undo };
}

function linkAdd(side: Side, name: string, link: PlannedLink, seen: ObservedNetwork, because: string): Step {
  const { group } = seen;
  const undo: Operation = { do: 'link.del', side, name, onlyGroup: group };
  return step({ do: 'link.add', side, name, link, group }, because, [undo]);
}

function linkUp(name: string, because: string): Step {
  const set = (up: boolean): Operation => ({ do: 'link.set', side: 'host', name, set: { up } });
  return step(set(true), because, [set(false)]);
}

function planBase(network: NetworkSpec, seen: ObservedNetwork): Step[] {
  switch (network.kind) {
    case 'bridge':
      return planBridge(network, network.mtu ?? seen.formerMtu, seen);
    case 'ovs': {
      const { bridge } = network;
      if (seen.type === 'ovs') return [];
      const undo: Operation = { do: 'ovs.bridge.del', name: bridge, onlyGroup: seen.group };
      return [
        step(
          { do: 'ovs.bridge.add', name: bridge, group: seen.group },
          'there is no such Open vSwitch bridge',
          [undo],
        ),
      ];
    }
    case 'macvlan':
    case 'ipvlan':
    case 'phys':
    case 'sriov':
      return planUplink(network, seen);
    case 'dummy':
      return [];
  }
}

function planBridge(
  network: Extract<NetworkSpec, { kind: 'bridge' }>,
  mtu: number | undefined,
  seen: ObservedNetwork,
): Step[] {
  const { bridge: name } = network;
  const { link, type } = seen;
  if (link && type !== 'bridge') {
    throw new PipewrightError('NETWORK_UNKNOWN', {
      op: 'network',
      subject: name,
      detail: `it is of type ${type}, and the topology asks for a bridge`,
    });
  }
  // A bridge has the least MTU of its ports until it is given another one; what it is born with does not count.
  const born = mtu === defaultMtu ? defaultMtu - 1 : defaultMtu;
  const filters = needsFiltering(network) ? { vlanFiltering: true as const } : {};
  const isNew = { kind: 'bridge', ...(mtu === undefined ? {} : { mtu: born }), ...filters } as const;
  const make = link ? [] : [linkAdd('host', name, isNew, seen, 'there is no such bridge')];
  const raise = [
    ...(!link || link.up ? [] : [linkUp(name, 'the bridge is down')]),
    ...planFiltering({ ...network, name }, link),
  ];
  const present = link?.mtu ?? born;
  if (mtu === undefined || mtu === present) return [...make, ...raise];
  const set = (value: number): Operation => ({ do: 'link.set', side: 'host', name, set: { mtu: value } });
  return [...make, ...raise, step(set(mtu), `mtu: ${present} -> ${mtu}`, [set(present)])];
}

function planUplink(network: Extract<NetworkSpec, { uplink: string }>, seen: ObservedNetwork): Step[] {
  const { uplink, kind } = network;
  const vid = 'vid' in network ? network.vid : undefined;
  const { link } = seen;
  // A NIC that is in a container is not here, and that is as it should be.
  if (!link && kind === 'phys') return [];
  if (!link) {
    throw new PipewrightError('NETWORK_UNKNOWN', {
      op: 'network',
      subject: uplink,
      detail: `there is no such NIC on this host, and network ${network.name} needs it`,
      hint: 'see: ip link',
    });
  }
  if (kind === 'phys') return [];
  const raise = link.up ? [] : [linkUp(uplink, 'it is down')];
  if (vid === undefined || seen.vlanLink) return raise;
  const name = vlanIfnameFor(uplink, vid);
  const vlan: PlannedLink = { kind: 'vlan', uplink, vid, mtu: link.mtu };
  return [
    ...raise,
    linkAdd('host', name, vlan, seen, `there is no sub-interface for VLAN ${vid}`),
    linkUp(name, 'it is new'),
  ];
}

/** A child of the NIC for the host itself; the side is called guest because that is where a child is born. */
function planHostLink(network: NetworkSpec, seen: ObservedNetwork): Step[] {
  const name = hostLinkOf(network);
  if (name === undefined) return [];
  if (network.kind === 'ovs' && network.vid !== undefined)
    return planHostPort(network.bridge, network.vid, name, seen);
  if (seen.hostLink) {
    return [
      ...(network.kind === 'bridge' ? planSelf(network, seen) : []),
      ...(seen.hostLink.up ? [] : [linkUp(name, 'it is down')]),
    ];
  }
  if (network.kind === 'bridge' && network.vid !== undefined)
    return planSelfVlan(network.bridge, network.vid, name, seen);
  if (network.kind !== 'macvlan' && network.kind !== 'ipvlan') return [linkUp(name, 'it is new')];
  const { uplink: nic, vid } = network;
  const uplink = vid === undefined ? nic : vlanIfnameFor(nic, vid);
  const mtu = network.mtu ?? seen.link?.mtu ?? 1500;
  const link: PlannedLink = { ...childModeOf(network), uplink, mtu };
  return [
    linkAdd('guest', name, link, seen, 'the host has no interface on this network'),
    linkUp(name, 'it is new'),
  ];
}

/** The host's interface in a VLAN of an Open vSwitch bridge: an internal port with that tag. */
function planHostPort(bridge: string, vid: number, name: string, seen: ObservedNetwork): Step[] {
  const { hostPort: port, hostLink: link, group } = seen;
  if (port ? port.bridge !== bridge || !port.isOurs : link) {
    throw new PipewrightError('NAME_TAKEN', {
      op: 'network',
      subject: name,
      detail: `a ${port ? `port of ${port.bridge}` : 'link'} of this name exists, and pipewright did not make it`,
      hint: `it is to be the host's interface in VLAN ${vid} of ${bridge}: rename or delete that one`,
    });
  }
  const del = (onlyGroup?: number): Operation => ({
    do: 'ovs.port.del',
    port: name,
    ...(onlyGroup !== undefined && { onlyGroup }),
  });
  const add: Operation = {
    do: 'ovs.port.add',
    bridge,
    port: name,
    internal: true,
    vlans: { vid },
    group,
    externalIds: { [hostMark]: name },
  };
  const because = `the host has no interface in VLAN ${vid} of ${bridge}`;
  if (!port || !link)
    return [
      ...(port ? [step(del(), 'its link is gone', [])] : []),
      step(add, because, [del(group)]),
      linkUp(name, 'it is new'),
    ];
  const tag = (of: number | null): Operation => ({ do: 'ovs.port.set', port: name, set: { vid: of } });
  return [
    ...(port.vid === vid
      ? []
      : [step(tag(vid), `tag: ${port.vid ?? 'none'} -> ${vid}`, [tag(port.vid ?? null)])]),
    ...(link.up ? [] : [linkUp(name, 'it is down')]),
  ];
}

/** The host's interface in a VLAN of a bridge: a sub-interface of the bridge, which has to carry that VLAN itself. */
function planSelfVlan(bridge: string, vid: number, name: string, seen: ObservedNetwork): Step[] {
  const link: PlannedLink = { kind: 'vlan', uplink: bridge, vid, mtu: seen.link?.mtu ?? defaultMtu };
  return [
    ...planSelf({ bridge, vid }, seen),
    linkAdd('host', name, link, seen, `the host has no interface in VLAN ${vid} of ${bridge}`),
    linkUp(name, 'it is new'),
  ];
}

function planSelf(
  { bridge, vid }: { readonly bridge: string; readonly vid?: number },
  { selfVlans, uplink }: ObservedNetwork,
): Step[] {
  if (vid === undefined) return [];
  const vlan: PortVlan = { vid, pvid: false, untagged: false };
  const onUplink = planOnUplink(uplink, [vlan]);
  if (carries(selfVlans, vid)) return onUplink;
  const op = (verb: 'vlan.add' | 'vlan.del'): Operation => ({ do: verb, link: bridge, self: true, vlan });
  const because = `the bridge itself does not carry VLAN ${vid}`;
  return [step(op('vlan.add'), because, [op('vlan.del')]), ...onUplink];
}

function planHostAddrs(network: NetworkSpec, seen: ObservedNetwork): Step[] {
  const link = hostLinkOf(network);
  if (link === undefined) return [];
  const isSame = (a: Cidr, b: Cidr): boolean => formatCidr(a) === formatCidr(b);
  const add = (cidr: Cidr): Operation => ({
    do: 'addr.add',
    side: 'host',
    link,
    cidr,
    ...(cidr.family === 4 ? { broadcast: broadcastOf(cidr) } : {}),
  });
  const del = (cidr: Cidr): Operation => ({ do: 'addr.del', side: 'host', link, cidr });
  const missing = network.hostAddresses.filter(
    (cidr) => !seen.hostAddrs.some((addr) => isSame(addr.cidr, cidr)),
  );
  // Only what we put there: the bridge can have addresses that somebody else gave it.
  const surplus = seen.formerAddrs.filter(
    (cidr) =>
      !network.hostAddresses.some((wanted) => isSame(wanted, cidr)) &&
      seen.hostAddrs.some((addr) => isSame(addr.cidr, cidr)),
  );
  return restorable(seen, surplus.length > 0, [
    ...missing.map((cidr) => step(add(cidr), `${link} does not have ${formatCidr(cidr)}`, [del(cidr)])),
    ...promoting(
      link,
      seen,
      surplus.map((cidr) => step(del(cidr), `${formatCidr(cidr)} is asked for no more`, [add(cidr)])),
    ),
  ]);
}

/** Addresses that come back are in another order, and a source address is the first of its subnet: see plan/change.ts. */
function restorable(
  { hostLink: link, hostAddrs: addrs, hostRoutes: routes = [] }: ObservedNetwork,
  isNeeded: boolean,
  steps: readonly Step[],
): Step[] {
  const [first, ...others] = steps;
  if (!first || !link || !isNeeded) return [...steps];
  const restore: Operation = { do: 'link.restore', name: link.name, saved: saved({ link, addrs, routes }) };
  return [{ ...first, undo: [...first.undo, restore] }, ...others];
}

/** Without that, the first IPv4 address of a subnet would take the others with it. */
function promoting(link: string, { promotes }: ObservedNetwork, steps: readonly Step[]): Step[] {
  if (promotes || steps.length === 0) return [...steps];
  const set = (value: string): Operation => ({ do: 'sysctl.set', link, key: promotion, value });
  return [
    step(set('1'), 'the other addresses of the subnet are to stay', [set('0')]),
    ...steps,
    step(set('0'), 'as it was', [set('1')]),
  ];
}
