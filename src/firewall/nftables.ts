/** Reads chains of nf_tables, which iptables writes to on today's systems, over netlink. */
import { hasErrno } from '../errors.ts';
import { NetlinkSocket } from '../kernel/netlink/socket.ts';
import type { Netns } from '../kernel/netns.ts';

/** From <linux/netfilter/nfnetlink.h> and <linux/netfilter/nf_tables.h>. */
const NETLINK_NETFILTER = 12;
const NFT_MSG_GETCHAIN = (10 << 8) | 4;
const NFT_MSG_GETRULE = (10 << 8) | 7;
const NLM_F_REQUEST = 1;

/** The rules of a chain as the kernel keeps them. */
export interface ChainRules {
  readonly raw: readonly Buffer[];
}

/** `nft list chain FAMILY TABLE CHAIN`, undecoded; undefined when there is no such chain (or no nf_tables). */
export function readChain(
  netns: Netns,
  nfproto: number,
  table: string,
  chain: string,
): ChainRules | undefined {
  using socket = NetlinkSocket.open(netns, NETLINK_NETFILTER);
  const request = (type: number, body: Buffer) => ({
    op: 'nft.get',
    subject: chain,
    type,
    flags: NLM_F_REQUEST,
    body,
  });
  const header = Buffer.from([nfproto, 0, 0, 0]);
  try {
    // NFTA_CHAIN_TABLE 1, NFTA_CHAIN_NAME 3; NFTA_RULE_TABLE 1, NFTA_RULE_CHAIN 2.
    const found = socket.get(
      request(NFT_MSG_GETCHAIN, Buffer.concat([header, text(1, table), text(3, chain)])),
    );
    if (!found) return undefined;
    return {
      raw: socket.dump(request(NFT_MSG_GETRULE, Buffer.concat([header, text(1, table), text(2, chain)]))),
    };
  } catch (error) {
    if (hasErrno(error, 'ENOENT', 'EOPNOTSUPP', 'EINVAL', 'EPROTONOSUPPORT')) return undefined;
    throw error;
  }
}

function text(type: number, value: string): Buffer {
  const length = 4 + Buffer.byteLength(value) + 1;
  const attr = Buffer.alloc((length + 3) & ~3);
  attr.writeUInt16LE(length, 0);
  attr.writeUInt16LE(type, 2);
  attr.write(value, 4);
  return attr;
}
