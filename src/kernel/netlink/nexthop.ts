/** Nexthop objects, `ip nexthop`: next hops with a number, which routes name. From <linux/nexthop.h>, v6.12. */
import { hasErrno } from '../../errors.ts';
import type { Nexthop } from '../../model/link.ts';
import { attr, attrNumber, decodeAttrs, encodeAttrs, ip, u32 } from './codec.ts';
import { afOf, familyOfAf, message } from './header.ts';
import { type NetlinkSocket, NLM_F_CREATE, NLM_F_REPLACE, type Request } from './socket.ts';

const RTM_NEWNEXTHOP = 104;
const RTM_GETNEXTHOP = 106;
/** Of nh_flags what can be asked for; the others are states. */
const RTNH_F_ONLINK = 4;
/** NHA_ENCAP_TYPE, NHA_ENCAP: what else belongs to a next hop by a link. */
const kept = new Set([7, 8]);

/** NHA_*. */
const nexthopAttrs = {
  id: attr(1, u32), // NHA_ID
  dev: attr(5, u32), // NHA_OIF
  gateway: attr(6, ip), // NHA_GATEWAY
} as const;

/** struct nhmsg: family, scope, protocol, reserved, flags. */
function nhmsg(family: number, protocol: number, flags: number): Buffer {
  const header = Buffer.from([family, 0, protocol, 0, 0, 0, 0, 0]);
  header.writeUInt32LE(flags, 4);
  return header;
}

/** `ip nexthop replace id ID via GATEWAY dev DEV`: the routes and groups that name it follow in the same moment. */
export function replaceNexthop({ id, family, gateway, dev, protocol, onlink, unknown }: Nexthop): Request {
  return {
    op: 'nexthop.replace',
    subject: `nexthop ${id} on link ${dev}`,
    type: RTM_NEWNEXTHOP,
    flags: NLM_F_CREATE | NLM_F_REPLACE,
    body: message(
      nhmsg(afOf[family], protocol, onlink ? RTNH_F_ONLINK : 0),
      encodeAttrs(nexthopAttrs, { id, dev, gateway, unknown }),
    ),
  };
}

/** `ip nexthop show`: those by a link, not groups of them. None on a kernel that has no nexthop objects (before 5.3). */
export function listNexthops(rtnl: NetlinkSocket): Nexthop[] {
  const body = nhmsg(0, 0, 0);
  try {
    return rtnl
      .dump({ op: 'nexthop.list', subject: 'nexthops', type: RTM_GETNEXTHOP, flags: 0, body })
      .map(decode)
      .filter((nexthop) => nexthop !== undefined);
  } catch (error) {
    if (hasErrno(error, 'EOPNOTSUPP')) return [];
    throw error;
  }
}

function decode(body: Buffer): Nexthop | undefined {
  const family = familyOfAf(body.readUInt8(0));
  const { id, dev, gateway, unknown = [] } = decodeAttrs(nexthopAttrs, body.subarray(8));
  if (family === undefined || id === undefined || dev === undefined) return undefined;
  return {
    id,
    family,
    dev,
    ...(gateway === undefined ? {} : { gateway }),
    protocol: body.readUInt8(2),
    ...((body.readUInt32LE(4) & RTNH_F_ONLINK) === 0 ? {} : { onlink: true }),
    unknown: unknown.filter((one) => kept.has(attrNumber(one))),
  };
}
