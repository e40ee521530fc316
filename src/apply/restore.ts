/** What brings the addresses and routes of a link back as they were noted. */
import { delAddr, replaceAddr } from '../kernel/netlink/addr.ts';
import type { Request } from '../kernel/netlink/socket.ts';
import { formatCidr, networkOf } from '../model/address.ts';
import type { Addr, Route } from '../model/link.ts';
import type { SavedLink } from '../model/operation.ts';

/**
 * What makes the addresses of a link those that were noted. The order of IPv4 addresses counts, as the first of a subnet
 * is the source address: when it is another one, all are deleted and added again.
 */
export function restoreAddrs(ifindex: number, wanted: readonly Addr[], present: readonly Addr[]): Request[] {
  const ipv4 = (addrs: readonly Addr[]): string[] =>
    addrs.filter(({ cidr }) => cidr.family === 4).map(addrKey);
  const inOrder = ipv4(wanted).join() === ipv4(present).join();
  const notIn = (addrs: readonly Addr[]): ((addr: Addr) => boolean) => {
    const keys = new Set(addrs.map(addrKey));
    return (addr) => (addr.cidr.family === 4 ? !inOrder : !keys.has(addrKey(addr)));
  };
  return [
    ...present
      .filter(notIn(wanted))
      // The link-local address is the kernel's own.
      .filter(({ cidr, scope }) => cidr.family === 4 || scope === 0)
      .map(({ cidr, peer }) => delAddr(ifindex, cidr, peer)),
    ...wanted.filter(notIn(present)).map(({ ifindex: _, ...addr }) => replaceAddr(ifindex, addr)),
  ];
}

/** With the label: when a link is renamed, the kernel makes `eth1:2` of the `eth1` of all addresses but the first. */
function addrKey({ cidr, peer, unknown = [] }: Addr): string {
  const others = unknown.map(({ type, data }) => `${type}=${Buffer.from(data).toString('hex')}`);
  return [formatCidr(cidr), peer, ...others].join(' ');
}

/** RTPROT_KERNEL, and IFA_F_NOPREFIXROUTE. */
const byKernel = 2;
const noPrefixRoute = 0x200;

/**
 * The routes of a link but for those that the kernel makes from its addresses, in an order in which they can be put back:
 * a gateway has to be reachable without one.
 */
export function savedRoutes({ addrs, routes }: SavedLink): Route[] {
  const isMade = ({ protocol, dst }: Route): boolean =>
    protocol === byKernel &&
    addrs.some(
      ({ cidr, flags, peer }) =>
        (flags & noPrefixRoute) === 0 &&
        dst?.prefixLen === cidr.prefixLen &&
        dst.ip === networkOf(peer === undefined ? cidr : { ...cidr, ip: peer }),
    );
  const left = routes.filter((route) => !isMade(route));
  return [...left.filter(({ gateway }) => !gateway), ...left.filter(({ gateway }) => gateway)];
}
