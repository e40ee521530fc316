/**
 * Neighbours, `ip neigh`, and the forwarding entries of bridges and vxlans, `bridge fdb`: one message for both, the
 * second with the family AF_BRIDGE. From <linux/neighbour.h>, v6.12.
 */
import { familyOf } from '../../model/address.ts';
import { type Neigh, NTF_PROXY, NUD_PERMANENT } from '../../model/link.ts';
import { attr, decodeAttrs, encodeAttrs, ip, mac, u16, u32 } from './codec.ts';
import { AF_BRIDGE, afOf, familyOfAf, message } from './header.ts';
import { type NetlinkSocket, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE, type Request } from './socket.ts';

const RTM_NEWNEIGH = 28;
const RTM_DELNEIGH = 29;
const RTM_GETNEIGH = 30;

/** The entry is in the link's own table: the address is its own, or it is a vxlan. */
export const NTF_SELF = 0x02;
/** The entry is in the table of the bridge that the link is a port of. */
export const NTF_MASTER = 0x04;

/** NDA_*. */
const neighAttrs = {
  ip: attr(1, ip), // NDA_DST
  mac: attr(2, mac), // NDA_LLADDR
  vid: attr(5, u16), // NDA_VLAN
  ifindex: attr(8, u32), // NDA_IFINDEX
  master: attr(9, u32), // NDA_MASTER
} as const;

/** What addNeigh is given: by default permanent. */
export type NewNeigh = Pick<Neigh, 'ifindex'> & Partial<Neigh> & { readonly ip: string };
/** What addFdb is given: by default permanent, and of the bridge (NTF_MASTER). `ip` is for a vxlan. */
export type NewFdb = Pick<Neigh, 'ifindex'> & Partial<Neigh> & { readonly mac: string };

interface Ndmsg {
  readonly family?: number;
  readonly ifindex?: number;
  readonly state?: number;
  readonly flags?: number;
}

/** struct ndmsg. */
function ndmsg({ family = 0, ifindex = 0, state = 0, flags = 0 }: Ndmsg): Buffer {
  const header = Buffer.alloc(12);
  header.writeUInt8(family, 0);
  header.writeInt32LE(ifindex, 4);
  header.writeUInt16LE(state, 8);
  header.writeUInt8(flags, 10);
  return header;
}

function request(op: string, type: number, flags: number, neigh: Ndmsg & Partial<Neigh>): Request {
  const attributes = encodeAttrs(neighAttrs, { ip: neigh.ip, mac: neigh.mac, vid: neigh.vid });
  const subject = `${neigh.ip ?? neigh.mac} on link ${neigh.ifindex}`;
  return { op, subject, type, flags, body: message(ndmsg(neigh), attributes) };
}

function inet(neigh: NewNeigh): Ndmsg & NewNeigh {
  const family = familyOf(neigh.ip);
  if (family === undefined) throw new Error(`not an IP address: ${neigh.ip}`);
  return { state: NUD_PERMANENT, ...neigh, family: afOf[family] };
}

function bridge(entry: NewFdb): Ndmsg & NewFdb {
  return { state: NUD_PERMANENT, flags: NTF_MASTER, ...entry, family: AF_BRIDGE };
}

/** `ip neigh add`; EEXIST when the address has an entry. */
export function addNeigh(neigh: NewNeigh): Request {
  return request('neigh.add', RTM_NEWNEIGH, NLM_F_CREATE | NLM_F_EXCL, inet(neigh));
}

/** `ip neigh replace`. */
export function replaceNeigh(neigh: NewNeigh): Request {
  return request('neigh.replace', RTM_NEWNEIGH, NLM_F_CREATE | NLM_F_REPLACE, inet(neigh));
}

/** `ip neigh del`; ENOENT when there is no entry. */
export function delNeigh(neigh: NewNeigh): Request {
  return request('neigh.del', RTM_DELNEIGH, 0, inet(neigh));
}

/** `bridge fdb add`; EEXIST when there is one, in the VLAN. */
export function addFdb(entry: NewFdb): Request {
  return request('fdb.add', RTM_NEWNEIGH, NLM_F_CREATE | NLM_F_EXCL, bridge(entry));
}

/** `bridge fdb del`; ENOENT when there is none. */
export function delFdb(entry: NewFdb): Request {
  return request('fdb.del', RTM_DELNEIGH, 0, bridge(entry));
}

function decodeNeigh(body: Buffer): Neigh {
  const { ip: address, mac: lladdr, vid } = decodeAttrs(neighAttrs, body.subarray(12));
  return {
    ifindex: body.readInt32LE(4),
    ...(address === undefined ? {} : { ip: address }),
    ...(lladdr === undefined ? {} : { mac: lladdr }),
    state: body.readUInt16LE(8),
    flags: body.readUInt8(10),
    ...(vid === undefined ? {} : { vid }),
  };
}

/** `ip neigh`, `ip neigh show dev LINK`: both families. */
export function listNeighs(rtnl: NetlinkSocket, ifindex?: number): Neigh[] {
  return list(rtnl, message(ndmsg({}), encodeAttrs(neighAttrs, { ifindex })), ifindex);
}

/** `ip neigh show proxy dev LINK`: both families. They have no MAC address, and no state. */
export function listProxies(rtnl: NetlinkSocket, ifindex: number): Neigh[] {
  return list(rtnl, message(ndmsg({ flags: NTF_PROXY }), encodeAttrs(neighAttrs, {})), ifindex);
}

function list(rtnl: NetlinkSocket, body: Buffer, ifindex: number | undefined): Neigh[] {
  return rtnl
    .dump({ op: 'neigh.list', subject: 'neighbours', type: RTM_GETNEIGH, flags: 0, body })
    .filter((answer) => familyOfAf(answer.readUInt8(0)) !== undefined)
    .map(decodeNeigh)
    .filter((neigh) => ifindex === undefined || neigh.ifindex === ifindex);
}

/** `bridge fdb`, `bridge fdb show br BRIDGE`, `bridge fdb show dev PORT`. */
export function listFdb(
  rtnl: NetlinkSocket,
  { bridge: master, ifindex }: { readonly bridge?: number; readonly ifindex?: number } = {},
): Neigh[] {
  const body = message(ndmsg({ family: AF_BRIDGE }), encodeAttrs(neighAttrs, { master, ifindex }));
  return rtnl
    .dump({ op: 'fdb.list', subject: 'forwarding entries', type: RTM_GETNEIGH, flags: 0, body })
    .map(decodeNeigh)
    .filter((entry) => ifindex === undefined || entry.ifindex === ifindex);
}
