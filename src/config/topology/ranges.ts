/** Ranges and subnets as sets of addresses. */
import { broadcastOf, bytesToIp, type Cidr, contains, ipToBytes, networkOf } from '../../model/address.ts';
import type { AddressRange } from '../../model/topology.ts';

/** Whether two subnets have an address in common. */
export function overlap(a: Cidr, b: Cidr): boolean {
  return a.prefixLen < b.prefixLen ? contains(a, b.ip) : contains(b, a.ip);
}

/**
 * Without the subnet's first address (IPv4: the network itself; IPv6: its routers, RFC 4291 section 2.6.1) and without
 * the IPv4 broadcast address; undefined when nothing is left. Subnets of one or two addresses have none (RFC 3021, 6164).
 */
export function shrink(range: AddressRange, subnet: Cidr): AddressRange | undefined {
  const { family } = range;
  if (subnet.prefixLen >= (family === 4 ? 31 : 127)) return range;
  const first = range.first === networkOf(subnet) ? neighbour(range.first, 1) : range.first;
  const isLast = family === 4 && range.last === broadcastOf(subnet);
  const last = isLast ? neighbour(range.last, -1) : range.last;
  return Buffer.compare(ipToBytes(first), ipToBytes(last)) > 0 ? undefined : { family, first, last };
}

/** Whether the range has an address besides `used`. */
export function holds({ first, last }: AddressRange, used: readonly string[]): boolean {
  let ip = first;
  while (ip !== last && used.includes(ip)) ip = neighbour(ip, 1);
  return !used.includes(ip);
}

/** The next address, or the one before. Not for the ends of the address space. */
function neighbour(ip: string, step: 1 | -1): string {
  const bytes = ipToBytes(ip);
  for (let at = bytes.length - 1; at >= 0; at--) {
    const sum = (bytes[at] ?? 0) + step;
    bytes[at] = sum & 255;
    if (sum >= 0 && sum <= 255) break;
  }
  return bytesToIp(bytes);
}
