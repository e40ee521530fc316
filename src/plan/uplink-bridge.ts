/** The bridge of an uplink: as it is to be before it has its port, and its MAC address with what goes with that. Pure. */
import { type Neigh, NTF_PROXY, NUD_PERMANENT } from '../model/link.ts';
import type { LinkState, UplinkBridge, UplinkOp, UplinkRecord, UplinkStep } from '../model/uplink.ts';
import { inOrder } from './uplink-routes.ts';

/** A step with its reason. */
export function step(op: UplinkOp, because: string): UplinkStep {
  return { op, because };
}

/** `sysctl net.FAMILY.conf.LINK.KEY=VALUE` */
export function sysctl(link: string, key: string, value: string): UplinkOp {
  return { do: 'sysctl.set', link, key, value };
}

/** IN6_ADDR_GEN_MODE_NONE: the link-local address is brought along, and needs no detection of doubles. */
export const noAutoconf = '1';

/** The bridge as it has to be before it has a port: made, or with the NIC's MAC address and settings. */
export function planBridge(record: UplinkRecord): UplinkStep[] {
  const { mac } = record;
  const { bridge, keepMac } = record.want;
  const filter = record.switched.map((op) => step(op, 'the bridge is to filter VLANs'));
  const { name } = bridge;
  const conf = Object.entries(record.copied).map(([key, value]) =>
    step(sysctl(name, key, value), `as on ${record.want.nic}`),
  );
  if (record.madeGroup !== undefined) {
    const add: UplinkOp = {
      do: 'bridge.add',
      bridge,
      mac,
      mtu: record.nicMtu,
      group: record.madeGroup,
      filters: record.filters,
    };
    return [
      step(add, 'there is no such bridge'),
      step(sysctl(name, 'ipv6/addr_gen_mode', noAutoconf), 'its link-local address comes with the rest'),
      ...conf,
    ];
  }
  // A Linux bridge does not tell whether it would take another one with its next port.
  if (bridge.kind === 'ovs' && record.bridgeMacBefore === mac) return [...filter, ...conf];
  const why = keepMac ? 'else it changes with its ports' : 'leases and neighbours know this MAC address';
  return [
    ...filter,
    step({ do: 'mac.set', bridge, mac }, why),
    ...[...ownAgain(record), ...ownNeighs(record)].map((op) =>
      step(op, 'the kernel forgets it with the MAC address'),
    ),
    ...conf,
  ];
}

/** A neighbour that the kernel neither learns nor forgets. */
export function isByHand({ state, flags }: Neigh): boolean {
  return (state & NUD_PERMANENT) !== 0 || (flags & NTF_PROXY) !== 0;
}

/** The bridge's own neighbours that were made by hand: with another MAC address the kernel forgets all that it knows. */
function ownNeighs({ bridgeBefore, want }: UplinkRecord): UplinkOp[] {
  const link = want.bridge.name;
  return bridgeBefore.neighs.filter(isByHand).map((neigh) => ({ do: 'neigh.add', link, neigh }));
}

/**
 * What is lost with the MAC address where the bridge is a tap device, which Open vSwitch takes down to change it: IPv6 addresses
 * and routes.
 */
function ownAgain({ bridgeBefore, bridgeWasUp, userspaceDatapath, want }: UplinkRecord): UplinkOp[] {
  if (want.bridge.kind !== 'ovs' || !userspaceDatapath || !bridgeWasUp) return [];
  const { ifindex: from, addrs, routes } = bridgeBefore;
  const link = want.bridge.name;
  return [
    { do: 'link.up', link },
    ...addrs
      .filter(({ cidr }) => cidr.family === 6)
      .reverse()
      .map((addr): UplinkOp => ({ do: 'addr.add', link, addr })),
    ...inOrder(routes).map(
      (route): UplinkOp => ({
        do: 'route.add',
        link,
        route,
        from,
        place: route.family === 6 ? 'append' : 'replace',
      }),
    ),
  ];
}

/** The bridge of an uplink gets another MAC address: what does it, and tells the LAN. */
export function macOps(bridge: UplinkBridge, mac: string, { neighs }: Pick<LinkState, 'neighs'>): UplinkOp[] {
  const link = bridge.name;
  return [
    { do: 'mac.set', bridge, mac },
    // The kernel forgets them with the MAC address.
    ...neighs.filter(isByHand).map((neigh): UplinkOp => ({ do: 'neigh.add', link, neigh })),
    { do: 'announce', link },
  ];
}

/** The MAC address that the bridge had, with what the kernel forgets. */
export function restoredMac(record: UplinkRecord): UplinkOp[] {
  const { want, bridgeMacBefore, madeGroup, mac } = record;
  const { bridge } = want;
  if (madeGroup !== undefined || bridgeMacBefore === mac) return [];
  if (bridge.kind === 'bridge' && bridgeMacBefore === undefined) return [];
  return [{ do: 'mac.set', bridge, mac: bridgeMacBefore }, ...ownAgain(record), ...ownNeighs(record)];
}
