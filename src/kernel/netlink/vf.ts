/**
 * Virtual functions of a NIC, `ip link set PF vf N ...`: what its switch makes of each.
 * From <linux/if_link.h> and <linux/rtnetlink.h>, v6.12.
 */
import type { VfSettings } from '../../model/sriov.ts';
import { attr, attrs, type Codec, decodeAttrs, encodeAttrs, mac, nested, u32 } from './codec.ts';
import { message } from './header.ts';
import { ifinfomsg } from './link-attrs.ts';
import type { NetlinkSocket, Request } from './socket.ts';

const RTM_GETLINK = 18;
const RTM_SETLINK = 19;
/** RTEXT_FILTER_VF and RTEXT_FILTER_SKIP_STATS. */
const withVfs = 1 | 8;

/** struct ifla_vf_mac: the number, and room for 32 bytes. */
const vfMac: Codec<{ readonly vf: number; readonly mac: string }> = {
  size: 36,
  read: (bytes) => ({ vf: bytes.readUInt32LE(0), mac: mac.read(bytes.subarray(4, 10)) }),
  write: (value) => {
    const bytes = Buffer.alloc(36);
    bytes.writeUInt32LE(value.vf, 0);
    bytes.set(mac.write(value.mac), 4);
    return bytes;
  },
};

/** Numbers in a row: struct ifla_vf_vlan { vf, vlan, qos }, struct ifla_vf_spoofchk { vf, setting }. */
function numbers(count: number): Codec<readonly number[]> {
  return {
    size: 4 * count,
    read: (bytes) => Array.from({ length: count }, (_, at) => bytes.readUInt32LE(4 * at)),
    write: (values) => Buffer.concat(values.map((value) => u32.write(value))),
  };
}

/** IFLA_VF_*. */
const vfAttrs = {
  mac: attr(1, vfMac), // IFLA_VF_MAC
  vlan: attr(2, numbers(3)), // IFLA_VF_VLAN
  spoofCheck: attr(4, numbers(2)), // IFLA_VF_SPOOFCHK
} as const;

/** IFLA_VFINFO_LIST { IFLA_VF_INFO }. */
const linkAttrs = {
  vfs: attr(22, nested({ infos: attrs(1, nested(vfAttrs)) })), // IFLA_VFINFO_LIST
  extMask: attr(29, u32), // IFLA_EXT_MASK
} as const;

/**
 * `ip link set PF vf VF mac MAC vlan VID spoofchk on`: what is absent stays; VLAN 0 is none. EOPNOTSUPP when the NIC has no
 * virtual functions, EINVAL when not this one.
 */
export function setVf(pf: number, vf: number, { mac: address, vid, spoofCheck }: VfSettings): Request {
  const info = {
    mac: address === undefined ? undefined : { vf, mac: address },
    vlan: vid === undefined ? undefined : [vf, vid, 0],
    spoofCheck: spoofCheck === undefined ? undefined : [vf, Number(spoofCheck)],
  };
  return {
    op: 'vf.set',
    subject: `vf ${vf} of link ${pf}`,
    type: RTM_SETLINK,
    flags: 0,
    body: message(ifinfomsg({ ifindex: pf }), encodeAttrs(linkAttrs, { vfs: { infos: [info] } })),
  };
}

/** `ip link show PF`: the settings of its virtual functions, by number. */
export function listVfSettings(rtnl: NetlinkSocket, pf: number): Map<number, VfSettings> {
  const body = message(ifinfomsg({ ifindex: pf }), encodeAttrs(linkAttrs, { extMask: withVfs }));
  const answer = rtnl.get({ op: 'vf.get', subject: `link ${pf}`, type: RTM_GETLINK, flags: 0, body });
  return answer ? decodeVfs(answer) : new Map();
}

/** The virtual functions in the body of an RTM_NEWLINK. */
export function decodeVfs(body: Buffer): Map<number, VfSettings> {
  const { infos = [] } = decodeAttrs(linkAttrs, body.subarray(16)).vfs ?? {};
  return new Map(
    infos.flatMap(({ mac: address, vlan, spoofCheck }): [number, VfSettings][] => {
      const vf = address?.vf ?? vlan?.[0] ?? spoofCheck?.[0];
      if (vf === undefined) return [];
      const settings: VfSettings = {
        ...(address && { mac: address.mac }),
        ...(vlan && { vid: vlan[1] ?? 0 }),
        // A driver that cannot check says -1.
        ...((spoofCheck?.[1] ?? 2) < 2 && { spoofCheck: spoofCheck?.[1] === 1 }),
      };
      return [[vf, settings]];
    }),
  );
}
