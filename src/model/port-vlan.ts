/** The VLANs of a port of a Linux bridge, as `bridge vlan` shows them. */
import type { BridgeNetwork } from './attachment.ts';

/** One VLAN that passes a port, or several in a row of which the same is so. */
export interface PortVlan {
  readonly vid: number;
  /** The last one; absent: only `vid`. */
  readonly last?: number;
  /** What comes in without a tag is of this VLAN; a port has one at most. */
  readonly pvid: boolean;
  /** What is of this VLAN leaves without a tag. */
  readonly untagged: boolean;
}

/** What a port carries without a tag. */
const native = (vid: number): PortVlan => ({ vid, pvid: true, untagged: true });

/** Whether the network says which VLANs its ports carry. */
export function saysVlans({ vid, trunks }: Omit<BridgeNetwork, 'kind' | 'name'>): boolean {
  return vid !== undefined || trunks !== undefined;
}

/** Whether the network needs a bridge that filters VLANs. */
export function needsFiltering(network: Omit<BridgeNetwork, 'kind' | 'name'>): boolean {
  return saysVlans(network) || network.vlanFiltering === true;
}

/** The VLANs that the network's ports carry, one by one; undefined when it does not say. */
export function wantedVlans(network: Omit<BridgeNetwork, 'kind' | 'name'>): PortVlan[] | undefined {
  const { vid, trunks = [] } = network;
  if (!saysVlans(network)) return undefined;
  const tagged = trunks.filter((trunk) => trunk !== vid);
  return [
    ...(vid === undefined ? [] : [native(vid)]),
    ...tagged.map((trunk) => ({ vid: trunk, pvid: false, untagged: false })),
  ];
}

/**
 * What a network has to say so that its ports are as this one: nothing where it is as the bridge has made it. Undefined for
 * what cannot be said: a VLAN that leaves without a tag and is not the PVID, or a PVID that leaves with one.
 */
export function saidVlans(
  present: readonly PortVlan[],
  defaultPvid: number | undefined,
): Pick<BridgeNetwork, 'vid' | 'trunks'> | undefined {
  const all = singles(present);
  if (all.some(({ pvid, untagged }) => pvid !== untagged)) return undefined;
  const { add, del } = vlanChanges(all, bornVlans(defaultPvid));
  if (add.length + del.length === 0) return {};
  const vid = all.find(({ pvid }) => pvid)?.vid;
  const trunks = all.filter(({ pvid }) => !pvid).map((vlan) => vlan.vid);
  if (vid === undefined && trunks.length === 0) return undefined;
  return { ...(vid !== undefined && { vid }), ...(trunks.length > 0 && { trunks }) };
}

/** What a bridge gives a new port. @param defaultPvid of the bridge; 0: nothing */
export function bornVlans(defaultPvid: number | undefined): PortVlan[] {
  return defaultPvid ? [native(defaultPvid)] : [];
}

/** `100-103` as four. */
export function singles(vlans: readonly PortVlan[]): PortVlan[] {
  return vlans.flatMap(({ vid, last = vid, pvid, untagged }) =>
    Array.from({ length: last - vid + 1 }, (_, i) => ({ vid: vid + i, pvid, untagged })),
  );
}

/** Whether a port carries a VLAN. */
export function carries(vlans: readonly PortVlan[], vid: number): boolean {
  return vlans.some((row) => row.vid <= vid && vid <= (row.last ?? row.vid));
}

/** The same VLANs, with those in a row as one: what one request of the kernel can say. */
export function inRows(vlans: readonly PortVlan[]): PortVlan[] {
  const rows: PortVlan[] = [];
  for (const vlan of singles(vlans).sort((a, b) => a.vid - b.vid)) {
    const row = rows.at(-1);
    const end = row && (row.last ?? row.vid);
    // A PVID stands alone: the kernel refuses it in a range.
    const fits = row && !row.pvid && !vlan.pvid && row.untagged === vlan.untagged && end === vlan.vid - 1;
    if (fits) rows[rows.length - 1] = { ...row, last: vlan.vid };
    else rows.push(vlan);
  }
  return rows;
}

/** What has to be added to a port, and what taken off, so that it carries `wanted` and nothing else; in rows. */
export function vlanChanges(
  wanted: readonly PortVlan[],
  present: readonly PortVlan[],
): { readonly add: readonly PortVlan[]; readonly del: readonly PortVlan[] } {
  const [want, have] = [singles(wanted), singles(present)];
  const isSame = (a: PortVlan, b: PortVlan): boolean => a.pvid === b.pvid && a.untagged === b.untagged;
  const byVid = new Map(have.map((vlan) => [vlan.vid, vlan]));
  const vids = new Set(want.map(({ vid }) => vid));
  const differs = (vlan: PortVlan): boolean => {
    const there = byVid.get(vlan.vid);
    return there === undefined || !isSame(there, vlan);
  };
  return {
    add: inRows(want.filter(differs)),
    del: inRows(have.filter(({ vid }) => !vids.has(vid))),
  };
}

/** `100`, `200-299`. */
export function formatVids({ vid, last }: PortVlan): string {
  return last === undefined || last === vid ? `${vid}` : `${vid}-${last}`;
}

/** `100 pvid untagged`, `200-299`: as `bridge vlan add vid` takes it. */
export function formatVlan({ pvid, untagged, ...vids }: PortVlan): string {
  return [
    formatVids({ pvid, untagged, ...vids }),
    ...(pvid ? ['pvid'] : []),
    ...(untagged ? ['untagged'] : []),
  ].join(' ');
}

/** `100 pvid untagged, 200-299`; `none`. */
export function formatVlans(vlans: readonly PortVlan[]): string {
  return vlans.length === 0 ? 'none' : inRows(vlans).map(formatVlan).join(', ');
}
