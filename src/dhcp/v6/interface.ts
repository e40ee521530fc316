/** An interface as a DHCPv6 client has to know it. */
import { listAddrs } from '../../kernel/netlink/addr.ts';
import { getRouterFlags, type RouterFlags } from '../../kernel/netlink/ipv6.ts';
import { getLink } from '../../kernel/netlink/link.ts';
import type { NetlinkSocket } from '../../kernel/netlink/socket.ts';

/** IFA_F_*: duplicate address detection has found another host, or is under way; optimistic ones can be used. */
const dadFailed = 0x08;
const isTentative = 0x40;
const isOptimistic = 0x04;

/** What the kernel says of it now. */
export interface Interface {
  readonly ifindex: number;
  readonly mac: string;
  /** The link-local address, once it can be used. */
  readonly linkLocal: string | undefined;
  /** A link that goes down loses its addresses. */
  readonly up: boolean;
  /** Addresses that it has, without those that another host was found to have. */
  readonly addresses: ReadonlySet<string>;
  /** Those of them that are being probed. */
  readonly tentative: ReadonlySet<string>;
  readonly router: RouterFlags;
}

/** @throws Error in words for the status, when there is no such link or IPv6 is off on it */
export function interfaceIn(guest: NetlinkSocket, ifname: string): Interface {
  const link = getLink(guest, ifname);
  if (!link) throw new Error(`there is no ${ifname}`);
  const router = getRouterFlags(guest, link.ifindex);
  if (!router) throw new Error(`IPv6 is off on ${ifname}`);
  const addrs = listAddrs(guest, link.ifindex).filter(({ cidr }) => cidr.family === 6);
  const isFlagged = (flags: number, flag: number): boolean => (flags & flag) !== 0;
  const failed = addrs.filter(({ flags }) => isFlagged(flags, dadFailed));
  const tentative = addrs.filter(
    ({ flags }) => isFlagged(flags, isTentative) && !isFlagged(flags, isOptimistic | dadFailed),
  );
  const unusable = [...failed, ...tentative];
  const linkLocal = addrs.find((addr) => /^fe[89ab]/.test(addr.cidr.ip) && !unusable.includes(addr));
  const ips = (list: typeof addrs): Set<string> => new Set(list.map(({ cidr }) => cidr.ip));
  return {
    ifindex: link.ifindex,
    mac: link.mac,
    linkLocal: linkLocal?.cidr.ip,
    up: link.up,
    addresses: ips(addrs.filter((addr) => !failed.includes(addr))),
    tentative: ips(tentative),
    router,
  };
}
