/** Every attachment of this host: what was noted when it was made, and what is there of it now. */
import type { Host } from '../apply/host.ts';
import { listAddrs } from '../kernel/netlink/addr.ts';
import { getLink } from '../kernel/netlink/link.ts';
import { NetlinkSocket } from '../kernel/netlink/socket.ts';
import { Netns } from '../kernel/netns.ts';
import { formatCidr } from '../model/address.ts';
import { type Network, vidOf } from '../model/attachment.ts';
import { isOurGroup } from '../model/naming.ts';
import type { AttachmentRecord } from '../model/observed.ts';
import { lives } from './lives.ts';

/** A line of `pipewright list`. */
export interface ListedAttachment {
  readonly container: string;
  readonly runtime: string;
  readonly ifname: string;
  /** `bridge:br1`, `ovs:ovs0@100`. */
  readonly network: string;
  readonly hostIfname: string | null;
  readonly addrs: readonly string[];
  readonly mac: string | null;
  readonly mtu: number | null;
  /** `up`; `no carrier` or `down`; `missing` when the container is there without it; `gone` with the container. */
  readonly state: 'up' | 'no carrier' | 'down' | 'missing' | 'gone';
  /** When it was made, RFC 3339. */
  readonly since: string;
}

/** All attachments, by container and interface. */
export function listAttachments(host: Host): ListedAttachment[] {
  return host.state
    .records()
    .map(observe)
    .sort((a, b) => (`${a.container} ${a.ifname}` < `${b.container} ${b.ifname}` ? -1 : 1));
}

function observe(record: AttachmentRecord): ListedAttachment {
  const { container, ifname, network } = record;
  return {
    container: container.name,
    runtime: container.runtime,
    ifname,
    network: formatNetwork(network),
    hostIfname: record.hostIfname ?? null,
    ...now(record),
    since: new Date(record.since).toISOString(),
  };
}

function now({
  container,
  ifname,
}: AttachmentRecord): Pick<ListedAttachment, 'addrs' | 'mac' | 'mtu' | 'state'> {
  const absent = { addrs: [], mac: null, mtu: null };
  if (!lives(container)) return { ...absent, state: 'gone' };
  using netns = Netns.open(container.netnsPath, container.name);
  using rtnl = NetlinkSocket.open(netns);
  const link = getLink(rtnl, ifname);
  if (!link || !isOurGroup(link.group)) return { ...absent, state: 'missing' };
  return {
    addrs: listAddrs(rtnl, link.ifindex)
      .filter(({ scope }) => scope === 0)
      .map(({ cidr }) => formatCidr(cidr)),
    mac: link.mac,
    mtu: link.mtu,
    state: !link.up ? 'down' : link.carrier ? 'up' : 'no carrier',
  };
}

/** `KIND:NAME`, with `@VID` where there is one, or `@trunks=VID,VID`. */
export function formatNetwork(network: Network): string {
  const name = 'uplink' in network ? network.uplink : 'name' in network ? network.name : undefined;
  const vlan = vidOf(network);
  const vid = vlan === undefined ? '' : `@${vlan}`;
  if (network.kind === 'ovs' && network.trunks) return `ovs:${name}@trunks=${network.trunks.join(',')}`;
  return name === undefined ? network.kind : `${network.kind}:${name}${vid}`;
}
