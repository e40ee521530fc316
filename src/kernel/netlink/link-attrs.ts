/**
 * The header and attributes of a link message, and what of them can be set.
 * From <linux/if_link.h>, <linux/rtnetlink.h> and <net/if.h>, v6.12.
 */
import type { Link, LinkSettings } from '../../model/link.ts';
import { type Attrs, attr, attrs, mac, nested, raw, s32, text, u8, u32 } from './codec.ts';

export const IFF_UP = 0x1;
export const IFF_LOWER_UP = 0x10000;

/** IFLA_LINKINFO. What is in `data` depends on the kind: link-kind.ts. */
const linkInfoAttrs = {
  kind: attr(1, text), // IFLA_INFO_KIND
  data: attr(2, raw), // IFLA_INFO_DATA
} as const;

/** IFLA_PROP_LIST. */
const propAttrs = {
  altnames: attrs(53, text), // IFLA_ALT_IFNAME
} as const;

/** By address family (AF_INET, AF_INET6): the values of its per-link sysctls, 32 bits each. */
const afSpecAttrs = {
  inet: attr(2, nested({ conf: attr(1, raw) })), // IFLA_INET_CONF
  inet6: attr(10, nested({ conf: attr(2, raw) })), // IFLA_INET6_CONF
} as const;

/** IPV4_DEVCONF_RP_FILTER, _ARP_IGNORE and _PROMOTE_SECONDARIES, whose numbers begin with 1, and DEVCONF_DISABLE_IPV6. */
const rpFilter = 7;
const arpIgnore = 18;
const promoteSecondaries = 19;
const disableIpv6 = 26;

/** The sysctls that are asked for at every look: here they need no file to be opened. */
export function confOf({
  afSpec,
}: Attrs<typeof linkAttrs>): Pick<Link, 'rpFilter' | 'arpIgnore' | 'promotesSecondaries' | 'ipv6Disabled'> {
  // None of them is more than a byte.
  const value = (conf: Uint8Array | undefined, index: number): number | undefined =>
    conf === undefined ? undefined : (conf[index * 4] ?? 0);
  const flag = (conf: Uint8Array | undefined, index: number): boolean | undefined =>
    conf === undefined ? undefined : value(conf, index) !== 0;
  return {
    rpFilter: value(afSpec?.inet?.conf, rpFilter),
    arpIgnore: value(afSpec?.inet?.conf, arpIgnore),
    promotesSecondaries: flag(afSpec?.inet?.conf, promoteSecondaries),
    ipv6Disabled: flag(afSpec?.inet6?.conf, disableIpv6),
  };
}

/** IFLA_*. */
export const linkAttrs = {
  mac: attr(1, mac), // IFLA_ADDRESS
  ifname: attr(3, text), // IFLA_IFNAME
  mtu: attr(4, u32), // IFLA_MTU
  lower: attr(5, u32), // IFLA_LINK
  master: attr(10, u32), // IFLA_MASTER
  operstate: attr(16, u8), // IFLA_OPERSTATE
  linkInfo: attr(18, nested(linkInfoAttrs)), // IFLA_LINKINFO
  afSpec: attr(26, nested(afSpecAttrs)), // IFLA_AF_SPEC
  group: attr(27, u32), // IFLA_GROUP
  netnsFd: attr(28, u32), // IFLA_NET_NS_FD
  extMask: attr(29, u32), // IFLA_EXT_MASK
  linkNetnsid: attr(37, s32), // IFLA_LINK_NETNSID
  props: { ...attr(52, nested(propAttrs)), nestedFlag: true }, // IFLA_PROP_LIST
  altname: attr(53, text), // IFLA_ALT_IFNAME
} as const;

/** struct ifinfomsg. */
export function ifinfomsg({ ifindex = 0, flags = 0, change = 0 }): Buffer {
  const header = Buffer.alloc(16);
  header.writeInt32LE(ifindex, 4);
  header.writeUInt32LE(flags, 8);
  header.writeUInt32LE(change, 12);
  return header;
}

/** The flags that `up` stands for, with the mask that leaves all others alone. */
export function upFlags({ up }: LinkSettings): { flags: number; change: number } {
  return up === undefined ? { flags: 0, change: 0 } : { flags: up ? IFF_UP : 0, change: IFF_UP };
}

/** The settings that are attributes: all but `up`. */
export function settingAttrs({ mac, mtu, group, master }: LinkSettings): Attrs<typeof linkAttrs> {
  return { mac, mtu, group, master };
}
