/**
 * VLANs of a Linux bridge's ports, `bridge vlan`.
 * From <linux/if_bridge.h>, <linux/if_link.h> and <linux/rtnetlink.h>, v6.12.
 */
import { inRows, type PortVlan } from '../../model/port-vlan.ts';
import { attr, attrs, type Codec, decodeAttrs, encodeAttrs, nested, u16 } from './codec.ts';
import { AF_BRIDGE, message } from './header.ts';
import type { NetlinkSocket, Request } from './socket.ts';

const RTM_DELLINK = 17;
const RTM_SETLINK = 19;
const RTM_GETVLAN = 114;
const IFLA_AF_SPEC = 26;
const BRIDGE_FLAGS_SELF = 2;

/** BRIDGE_VLAN_INFO_*. */
const PVID = 0x2;
const UNTAGGED = 0x4;
const RANGE_BEGIN = 0x8;
const RANGE_END = 0x10;

interface VlanInfo {
  readonly flags: number;
  readonly vid: number;
}

/** struct bridge_vlan_info. */
const vlanInfo: Codec<VlanInfo> = {
  size: 4,
  read: (bytes) => ({ flags: bytes.readUInt16LE(0), vid: bytes.readUInt16LE(2) }),
  write: ({ flags, vid }) => {
    const bytes = Buffer.alloc(4);
    bytes.writeUInt16LE(flags, 0);
    bytes.writeUInt16LE(vid, 2);
    return bytes;
  },
};

/** What is in IFLA_AF_SPEC of a bridge's port. */
const specAttrs = {
  flags: attr(0, u16), // IFLA_BRIDGE_FLAGS
  vlans: attrs(2, vlanInfo), // IFLA_BRIDGE_VLAN_INFO
} as const;

const requestAttrs = { spec: attr(IFLA_AF_SPEC, nested(specAttrs)) } as const;

function request(
  op: 'vlan.add' | 'vlan.del',
  { ifindex, self }: { readonly ifindex: number; readonly self?: boolean | undefined },
  { vid, last = vid, pvid, untagged }: PortVlan,
): Request {
  const type = op === 'vlan.add' ? RTM_SETLINK : RTM_DELLINK;
  const flags = type === RTM_DELLINK ? 0 : (pvid ? PVID : 0) | (untagged ? UNTAGGED : 0);
  const vlans =
    last === vid
      ? [{ flags, vid }]
      : [
          { flags: flags | RANGE_BEGIN, vid },
          { flags: flags | RANGE_END, vid: last },
        ];
  // struct ifinfomsg of the family of bridges.
  const header = Buffer.alloc(16);
  header.writeUInt8(AF_BRIDGE, 0);
  header.writeInt32LE(ifindex, 4);
  const spec = { flags: self ? BRIDGE_FLAGS_SELF : undefined, vlans };
  return {
    op,
    subject: `link ${ifindex}`,
    type,
    flags: 0,
    body: message(header, encodeAttrs(requestAttrs, { spec })),
  };
}

/**
 * `bridge vlan add dev PORT vid VID [pvid] [untagged]`, with `self` of the bridge itself. What is there already is changed.
 * EOPNOTSUPP where the kernel's bridges have no VLAN filtering.
 */
export function addPortVlan(
  port: { readonly ifindex: number; readonly self?: boolean | undefined },
  vlan: PortVlan,
): Request {
  return request('vlan.add', port, vlan);
}

/** `bridge vlan del dev PORT vid VID`. The kernel does not say when the port does not carry it. */
export function delPortVlan(
  port: { readonly ifindex: number; readonly self?: boolean | undefined },
  vlan: PortVlan,
): Request {
  return request('vlan.del', port, vlan);
}

/** BRIDGE_VLANDB_ENTRY. */
const entryAttrs = {
  info: attr(1, vlanInfo), // BRIDGE_VLANDB_ENTRY_INFO
  last: attr(2, u16), // BRIDGE_VLANDB_ENTRY_RANGE
} as const;

/** BRIDGE_VLANDB_*. */
const vlanDbAttrs = { entries: attrs(1, nested(entryAttrs)) } as const;

/**
 * `bridge vlan show dev PORT`, of a port or of a bridge itself, those in a row as one: of that one alone, which the dump
 * of AF_BRIDGE cannot do. RTM_GETVLAN is there since Linux 5.6. KERNEL_REFUSED (EOPNOTSUPP) where the kernel's bridges
 * have no VLAN filtering.
 */
export function listPortVlans(rtnl: NetlinkSocket, ifindex: number): PortVlan[] {
  return inRows(dump(rtnl, ifindex).flatMap(decodePortVlans));
}

/** `bridge vlan show`: of all ports and bridges, by ifindex. */
export function listVlans(rtnl: NetlinkSocket): Map<number, PortVlan[]> {
  const found = new Map<number, PortVlan[]>();
  for (const body of dump(rtnl, 0)) {
    const ifindex = body.readUInt32LE(4);
    found.set(ifindex, [...(found.get(ifindex) ?? []), ...decodePortVlans(body)]);
  }
  return new Map([...found].map(([ifindex, vlans]) => [ifindex, inRows(vlans)]));
}

/** @param ifindex 0: of all */
function dump(rtnl: NetlinkSocket, ifindex: number): Buffer[] {
  // struct br_vlan_msg.
  const body = Buffer.alloc(8);
  body.writeUInt8(AF_BRIDGE, 0);
  body.writeUInt32LE(ifindex, 4);
  return rtnl.dump({ op: 'vlan.get', subject: `link ${ifindex}`, type: RTM_GETVLAN, flags: 0, body });
}

/** The VLANs in the body of an RTM_NEWVLAN. */
function decodePortVlans(body: Buffer): PortVlan[] {
  const { entries = [] } = decodeAttrs(vlanDbAttrs, body.subarray(8));
  return entries.flatMap(({ info, last }): PortVlan[] => {
    if (info === undefined) return [];
    const { vid, flags } = info;
    const row = { vid, pvid: (flags & PVID) !== 0, untagged: (flags & UNTAGGED) !== 0 };
    return [last === undefined || last === vid ? row : { ...row, last }];
  });
}
