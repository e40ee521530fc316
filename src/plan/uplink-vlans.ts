/** The VLANs that a NIC carries as a port of its bridge. Pure. */
import { PipewrightError } from '../errors.ts';
import { inRows, type PortVlan, singles, wantedVlans } from '../model/port-vlan.ts';
import type { ObservedUplink, UplinkOp, UplinkVlanOp, UplinkWant } from '../model/uplink.ts';
import { planFiltering, portVlanOps } from './bridge.ts';

/** The VLAN of what has no tag, where Open vSwitch is told which VLANs a port carries. */
const untagged = 0;
/** What a Linux bridge gives its ports, and itself, when it is made. */
export const usualPvid = 1;

/** The trunks of a port of Open vSwitch that leave the host its own packets, which have no tag. Empty: all. */
export function ovsTrunks(trunks: readonly number[]): readonly number[] {
  return trunks.length === 0 ? [] : [untagged, ...trunks.filter((vid) => vid !== untagged)];
}

/**
 * What has the bridge filter VLANs where trunks are asked for; none of one that does, or is made so.
 * @throws PipewrightError VLAN_FILTERING_OFF when somebody else made it, and the user does not say that it may be switched
 */
export function switchOps(
  { bridge, trunks, vlanFiltering }: UplinkWant,
  seen: ObservedUplink,
): UplinkVlanOp[] {
  if (bridge.kind === 'ovs' || !seen.bridge) return [];
  const network = {
    name: bridge.name,
    ...(trunks.length > 0 ? { trunks } : {}),
    ...(vlanFiltering ? { vlanFiltering } : {}),
  };
  return planFiltering(network, seen.bridge).flatMap(({ op }) =>
    op.do === 'altname.add' || op.do === 'link.change' ? [op] : [],
  );
}

/** Whether the bridge filters VLANs when the NIC is on it. */
export function filters({ bridge, trunks, vlanFiltering }: UplinkWant, seen: ObservedUplink): boolean {
  if (bridge.kind === 'ovs') return false;
  return trunks.length > 0 || vlanFiltering === true || seen.bridge?.data.vlanFiltering === true;
}

/**
 * What the NIC carries as a port of a Linux bridge; undefined where that does not filter. What has no tag is of the VLAN
 * that the bridge itself has without one: the host's own packets. With a tag it carries the trunks, or what all others
 * on the bridge carry.
 * @throws PipewrightError UPLINK_REFUSED when the host could not be reached without a tag
 */
export function uplinkVlans(want: UplinkWant, seen: ObservedUplink): PortVlan[] | undefined {
  if (!filters(want, seen)) return undefined;
  const { bridge, state, bridgeVlans, otherVlans } = seen;
  const { vlanFiltering: isFiltering, defaultPvid = usualPvid } = bridge?.data ?? {};
  // A kernel that filters no VLANs knows none, and says so itself when it is asked to.
  const pvid = bridgeVlans.find((vlan) => vlan.pvid)?.vid ?? (isFiltering ? 0 : defaultPvid);
  const native = pvid === 0 ? undefined : pvid;
  if (native === undefined && state.addrs.some(({ cidr }) => !cidr.ip.startsWith('fe80:'))) {
    const { name } = want.bridge;
    throw new PipewrightError('UPLINK_REFUSED', {
      op: 'uplink.add',
      subject: `${want.nic} on ${name}`,
      detail: `${name} itself carries nothing without a tag, so the addresses of ${want.nic} would not be reached there`,
      hint: `bridge vlan add dev ${name} vid ${usualPvid} pvid untagged self`,
    });
  }
  const tagged = want.trunks.length > 0 ? want.trunks : singles(otherVlans).map(({ vid }) => vid);
  const trunks = [...new Set(tagged)].sort((a, b) => a - b);
  return wantedVlans({ trunks, ...(native === undefined ? {} : { vid: native }) }) ?? [];
}

/** A NIC that is the uplink already carries other VLANs: what is changed, and what changes it back. */
export function planUplinkTrunks(
  want: UplinkWant,
  seen: ObservedUplink,
): { readonly ops: readonly UplinkOp[]; readonly undo: readonly UplinkOp[] } {
  const { nic, bridge, trunks } = want;
  if (bridge.kind === 'ovs') {
    const [to, from] = [ovsTrunks(trunks), seen.ovsTrunks];
    if (to.join() === from.join() || !mayChange(want, seen)) return { ops: [], undo: [] };
    const set = (vids: readonly number[]): UplinkOp => ({ do: 'port.trunks', nic, trunks: vids });
    return { ops: [set(to)], undo: [set(from)] };
  }
  const switched = switchOps(want, seen);
  const present = seen.nicVlans;
  const wanted = uplinkVlans(want, seen);
  if (!wanted) return { ops: [], undo: [] };
  const goal = trunks.length > 0 ? wanted : also(present, wanted);
  const ops = [...switched, ...portVlanOps(nic, goal, present)];
  if (ops.length === 0 || !mayChange(want, seen)) return { ops: [], undo: [] };
  return {
    ops,
    undo: [
      ...portVlanOps(nic, present, goal),
      ...(switched.length > 0 ? [{ do: 'bridge.unfilter', bridge } as const] : []),
    ],
  };
}

/** What a port carries, and what it does not yet of others. */
function also(present: readonly PortVlan[], others: readonly PortVlan[]): PortVlan[] {
  const have = singles(present);
  const missing = singles(others).filter(({ vid }) => !have.some((vlan) => vlan.vid === vid));
  return inRows([...have, ...missing.map(({ vid }) => ({ vid, pvid: false, untagged: false }))]);
}

/** @throws UPLINK_REFUSED when somebody else made it a port, and other VLANs are asked for */
function mayChange({ nic, bridge, trunks }: UplinkWant, { isOurs }: ObservedUplink): boolean {
  if (isOurs || trunks.length === 0) return isOurs;
  throw new PipewrightError('UPLINK_REFUSED', {
    op: 'uplink.add',
    subject: `${nic} on ${bridge.name}`,
    detail: `${nic} is a port of ${bridge.name} already, by somebody else, and carries other VLANs`,
    hint:
      bridge.kind === 'ovs'
        ? `ovs-vsctl set port ${nic} trunks=${ovsTrunks(trunks).join(',')}`
        : `bridge vlan add dev ${nic} vid ${trunks[0]}`,
  });
}
