/** Reads chains of nf_tables, which iptables writes to on today's systems, over netlink. */
import { hasErrno } from '../errors.ts';
import { NetlinkSocket } from '../kernel/netlink/socket.ts';
import { hostNetns, type Netns } from '../kernel/netns.ts';

/** From <linux/netfilter/nfnetlink.h> and <linux/netfilter/nf_tables.h>. */
const NETLINK_NETFILTER = 12;
const NFT_MSG_GETCHAIN = (10 << 8) | 4;
const NFT_MSG_GETRULE = (10 << 8) | 7;
const NLM_F_REQUEST = 1;

/** The rules of a chain as the kernel keeps them. */
export interface ChainRules {
  readonly raw: readonly Buffer[];
}

/** The host's is asked by every attachment, and stays open. */
let ofHost: NetlinkSocket | undefined;

function withSocket<T>(netns: Netns, body: (socket: NetlinkSocket) => T): T {
  if (netns === hostNetns()) {
    ofHost ??= NetlinkSocket.open(netns, NETLINK_NETFILTER);
    return body(ofHost);
  }
  using socket = NetlinkSocket.open(netns, NETLINK_NETFILTER);
  return body(socket);
}

/** `nft list chain FAMILY TABLE CHAIN`, undecoded; undefined when there is no such chain (or no nf_tables). */
export function readChain(
  netns: Netns,
  nfproto: number,
  table: string,
  chain: string,
): ChainRules | undefined {
  const request = (type: number, ...attrs: readonly Buffer[]) => {
    const body = Buffer.concat([Buffer.from([nfproto, 0, 0, 0]), text(1, table), ...attrs]);
    return { op: 'nft.get', subject: chain, type, flags: NLM_F_REQUEST, body };
  };
  try {
    return withSocket(netns, (socket) => {
      // NFTA_RULE_TABLE 1, NFTA_RULE_CHAIN 2. A chain that does not exist has no rules either.
      const raw = socket.dump(request(NFT_MSG_GETRULE, text(2, chain)));
      if (raw.length > 0) return { raw };
      // NFTA_CHAIN_TABLE 1, NFTA_CHAIN_NAME 3.
      return socket.get(request(NFT_MSG_GETCHAIN, text(3, chain))) ? { raw } : undefined;
    });
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
