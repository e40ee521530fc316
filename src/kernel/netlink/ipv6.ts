/** What the kernel's IPv6 knows of a link besides its addresses. From <linux/if_link.h> and <net/if_inet6.h>, v6.12. */
import { type Attrs, attr, decodeAttrs, encodeAttrs, nested, u32 } from './codec.ts';
import { message } from './header.ts';
import { ifinfomsg } from './link-attrs.ts';
import type { NetlinkSocket } from './socket.ts';

const RTM_GETLINK = 18;
/** RTEXT_FILTER_SKIP_STATS. */
const skipStats = 8;

/** IF_*, <linux/if_link.h>. */
const flags = { otherConf: 0x80, managed: 0x40, raReceived: 0x20 } as const;

/** AF_INET6 in IFLA_AF_SPEC. */
const inet6Attrs = {
  flags: attr(1, u32), // IFLA_INET6_FLAGS
} as const;

const specAttrs = { inet6: attr(10, nested(inet6Attrs)) } as const;

const ipv6LinkAttrs = {
  afSpec: attr(26, nested(specAttrs)), // IFLA_AF_SPEC
  extMask: attr(29, u32), // IFLA_EXT_MASK
} as const;

/** What routers on the link have said of themselves. */
export interface RouterFlags {
  /** A router was heard. */
  readonly heard: boolean;
  /** M: addresses are to be had by DHCPv6. */
  readonly managed: boolean;
  /** O: other configuration is. */
  readonly otherConf: boolean;
}

/** `ip -d link show`: the flags of the last router advertisement; undefined where IPv6 is off, or the link gone. */
export function getRouterFlags(rtnl: NetlinkSocket, ifindex: number): RouterFlags | undefined {
  const answer = rtnl.get({
    op: 'link.get',
    subject: `link ${ifindex}`,
    type: RTM_GETLINK,
    flags: 0,
    body: message(ifinfomsg({ ifindex }), encodeAttrs(ipv6LinkAttrs, { extMask: skipStats })),
  });
  if (answer === undefined) return undefined;
  const { afSpec }: Attrs<typeof ipv6LinkAttrs> = decodeAttrs(ipv6LinkAttrs, answer.subarray(16));
  const seen = afSpec?.inet6?.flags;
  if (seen === undefined) return undefined;
  const has = (flag: number): boolean => (seen & flag) !== 0;
  return { heard: has(flags.raReceived), managed: has(flags.managed), otherConf: has(flags.otherConf) };
}
