/** Addresses of links, `ip addr`. From <linux/if_addr.h>, v6.12. */
import { type Cidr, formatCidr } from '../../model/address.ts';
import type { Addr } from '../../model/link.ts';
import { type Attrs, attr, type Codec, decodeAttrs, encodeAttrs, ip, u32 } from './codec.ts';
import { afOf, familyOfAf, message } from './header.ts';
import { type NetlinkSocket, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE, type Request } from './socket.ts';

const RTM_NEWADDR = 20;
const RTM_DELADDR = 21;
const RTM_GETADDR = 22;

/** INFINITY_LIFE_TIME. */
const forEver = 0xffffffff;

/**
 * IFA_F_* that can be asked for: NODAD, OPTIMISTIC, HOMEADDRESS, MANAGETEMPADDR, NOPREFIXROUTE, MCAUTOJOIN.
 * The others are states, which the kernel sets itself.
 */
const wantable = 0x02 | 0x04 | 0x10 | 0x100 | 0x200 | 0x400;

interface Lifetimes {
  readonly preferred: number;
  readonly valid: number;
}

/** struct ifa_cacheinfo: two lifetimes in seconds, and two times that only the kernel writes. */
const cacheinfo: Codec<Lifetimes> = {
  size: 16,
  read: (bytes) => ({ preferred: bytes.readUInt32LE(0), valid: bytes.readUInt32LE(4) }),
  write: ({ preferred, valid }) => {
    const bytes = Buffer.alloc(16);
    bytes.writeUInt32LE(preferred, 0);
    bytes.writeUInt32LE(valid, 4);
    return bytes;
  },
};

/** IFA_*. */
const addrAttrs = {
  address: attr(1, ip), // IFA_ADDRESS: the peer's, on a point-to-point link
  local: attr(2, ip), // IFA_LOCAL
  broadcast: attr(4, ip), // IFA_BROADCAST
  cacheinfo: attr(6, cacheinfo), // IFA_CACHEINFO
  flags: attr(8, u32), // IFA_FLAGS
} as const;

/** What addAddr is given; an Addr as it was read will do. */
export type NewAddr = { readonly cidr: Cidr } & Partial<Omit<Addr, 'ifindex' | 'cidr'>>;

/** struct ifaddrmsg. */
function ifaddrmsg(ifindex: number, cidr?: Cidr, scope = 0): Buffer {
  const header = Buffer.alloc(8);
  header.writeUInt8(cidr ? afOf[cidr.family] : 0, 0);
  header.writeUInt8(cidr?.prefixLen ?? 0, 1);
  header.writeUInt8(scope, 3);
  header.writeUInt32LE(ifindex, 4);
  return header;
}

function subjectOf(ifindex: number, cidr: Cidr): string {
  return `${formatCidr(cidr)} on link ${ifindex}`;
}

function newAddr(ifindex: number, addr: NewAddr): Omit<Request, 'op' | 'flags'> {
  const { cidr, peer, broadcast, scope, validLifetime: valid, preferredLifetime: preferred, unknown } = addr;
  const flags = (addr.flags ?? 0) & wantable;
  const limited = valid !== undefined || preferred !== undefined;
  const attributes = encodeAttrs(addrAttrs, {
    address: peer ?? cidr.ip,
    local: cidr.ip,
    broadcast,
    flags: flags === 0 ? undefined : flags,
    cacheinfo: limited ? { valid: valid ?? forEver, preferred: preferred ?? valid ?? forEver } : undefined,
    ...(unknown ? { unknown } : {}),
  });
  return {
    subject: subjectOf(ifindex, cidr),
    type: RTM_NEWADDR,
    body: message(ifaddrmsg(ifindex, cidr, scope), attributes),
  };
}

/** `ip addr add`; EEXIST when it is there. Flags that are states of an address (permanent, tentative) are left out. */
export function addAddr(ifindex: number, addr: NewAddr): Request {
  return { op: 'addr.add', flags: NLM_F_CREATE | NLM_F_EXCL, ...newAddr(ifindex, addr) };
}

/** `ip addr replace`: adds it, or changes flags and lifetimes of the one that is there. */
export function replaceAddr(ifindex: number, addr: NewAddr): Request {
  return { op: 'addr.replace', flags: NLM_F_CREATE | NLM_F_REPLACE, ...newAddr(ifindex, addr) };
}

/** `ip addr del`; EADDRNOTAVAIL when it is not there. */
export function delAddr(ifindex: number, cidr: Cidr, peer?: string): Request {
  const attributes = encodeAttrs(addrAttrs, { address: peer ?? cidr.ip, local: cidr.ip });
  return {
    op: 'addr.del',
    subject: subjectOf(ifindex, cidr),
    type: RTM_DELADDR,
    flags: 0,
    body: message(ifaddrmsg(ifindex, cidr), attributes),
  };
}

function decodeAddr(body: Buffer): Addr | undefined {
  const family = familyOfAf(body.readUInt8(0));
  const attributes: Attrs<typeof addrAttrs> = decodeAttrs(addrAttrs, body.subarray(8));
  const { address, local, broadcast, cacheinfo: lifetimes, flags, unknown = [] } = attributes;
  const own = local ?? address;
  if (family === undefined || own === undefined) return undefined;
  const { valid = forEver, preferred = forEver } = lifetimes ?? {};
  return {
    ifindex: body.readUInt32LE(4),
    cidr: { family, ip: own, prefixLen: body.readUInt8(1) },
    ...(address === undefined || address === own ? {} : { peer: address }),
    ...(broadcast === undefined ? {} : { broadcast }),
    scope: body.readUInt8(3),
    flags: flags ?? body.readUInt8(2),
    ...(valid === forEver ? {} : { validLifetime: valid }),
    ...(preferred === forEver ? {} : { preferredLifetime: preferred }),
    ...(unknown.length === 0 ? {} : { unknown }),
  };
}

/** `ip addr`, `ip addr show dev LINK`: both families, of one link or of all. */
export function listAddrs(rtnl: NetlinkSocket, ifindex?: number): Addr[] {
  const subject = ifindex === undefined ? 'addresses' : `addresses of link ${ifindex}`;
  const request = { op: 'addr.list', subject, type: RTM_GETADDR, flags: 0, body: ifaddrmsg(ifindex ?? 0) };
  return rtnl
    .dump(request)
    .map(decodeAddr)
    .filter((addr) => addr !== undefined)
    .filter((addr) => ifindex === undefined || addr.ifindex === ifindex);
}
