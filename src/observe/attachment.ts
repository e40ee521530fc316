/** Reads what is there now, as far as one attachment is concerned. Reads only. */

import type { Container } from '../containers/container.ts';
import { randomBytes } from '../kernel/random.ts';
import { phyOf } from '../kernel/wireless.ts';
import { type Attachment, isInternal, isPair } from '../model/attachment.ts';
import type { Link } from '../model/link.ts';
import { groupOf, hostIfnameFor, isOurGroup, vlanIfnameFor } from '../model/naming.ts';
import type { AttachmentRecord, Observed, ObservedHost } from '../model/observed.ts';
import { type PortVlan, saysVlans } from '../model/port-vlan.ts';
import { observeGuest, withAddrs } from './guest.ts';
import { lives } from './lives.ts';
import { observeNetwork } from './network.ts';
import { datapathOf, observeOvs } from './ovs.ts';
import { observeVf } from './sriov.ts';
import type { HostView, NetnsView } from './view.ts';

/** How it is looked at. */
export interface ObserveOptions {
  readonly firewall: boolean;
  /** What was asked for before, where the note says something newer already. */
  readonly former?: AttachmentRecord | undefined;
}

/** The facts that a plan for this attachment is made from. */
export async function observeAttachment(
  view: HostView,
  container: Container,
  guest: NetnsView,
  want: Attachment,
  options: ObserveOptions,
): Promise<Observed> {
  const record = recordOf(view, container, guest, want.ifname);
  const { want: had } = options.former ?? record ?? {};
  const seen = await observeHost(view, container, guest, want, record, options.firewall);
  return {
    host: seen,
    guest: observeGuest(guest, want, {
      pid: container.pid,
      host: view.netns.rtnl,
      hostEnd: seen.hostEnd,
      hadRate: had?.rate !== undefined,
      formerVlans: (had?.vlans ?? []).map(({ ifname }) => ifname),
      formerSysctls: Object.keys((options.former ?? record)?.formerSysctls ?? {}),
    }),
    group: groupOf(randomBytes(4).readUInt32LE()),
    externalIds: externalIdsOf(container),
    record,
  };
}

/** The note of this attachment, unless it is of an earlier life of the container. */
function recordOf(
  view: HostView,
  container: Container,
  guest: NetnsView,
  ifname: string,
): AttachmentRecord | undefined {
  const record = view.record(container, ifname);
  const { netnsInode, startTime } = record?.container ?? {};
  // The number of a namespace can be used again, as a pid can: only both together are the same.
  return netnsInode === guest.rtnl.netns.inode && startTime === container.startTime ? record : undefined;
}

/** Namespaces are taken apart at leisure, on a busy host for many seconds: meanwhile what was in there answers. */
function formerEndOf(view: HostView, container: Container, ifname: string): Link | undefined {
  const former = view.record(container, ifname);
  if (former?.hostIfname === undefined || lives(former.container)) return undefined;
  const link = exactLink(view.netns, former.hostIfname);
  return link?.kind === 'veth' && isOurGroup(link.group) ? link : undefined;
}

/** What the original writes to the external_ids of its ports. LXC containers have no id there. */
function externalIdsOf({ runtime, id, name, pid }: Container): Record<string, string> {
  const named = runtime === 'docker' || runtime === 'podman';
  return {
    ...(named ? { 'pipework.containerid': id, 'pipework.containername': `/${name}` } : {}),
    ...(pid === undefined ? {} : { 'pipework.nspid': String(pid) }),
  };
}

function wirelessOf(name: string): { phy?: string } {
  const phy = phyOf(name);
  return phy === undefined ? {} : { phy };
}

async function observeHost(
  view: HostView,
  container: Container,
  guest: NetnsView,
  want: Attachment,
  record: AttachmentRecord | undefined,
  firewall: boolean,
): Promise<ObservedHost> {
  const { netns } = view;
  const { network } = want;
  const name = 'uplink' in network ? network.uplink : 'name' in network ? network.name : undefined;
  const { link, type } =
    name === undefined ? { link: undefined, type: undefined } : await observeNetwork(view, name);
  const vlanName =
    'uplink' in network && 'vid' in network && network.vid !== undefined
      ? vlanIfnameFor(network.uplink, network.vid)
      : undefined;
  const vlanLink = vlanName === undefined ? undefined : exactLink(netns, vlanName);
  const virtual = network.kind === 'sriov' && link ? observeVf(view, network, link, record) : undefined;
  const nic = network.kind === 'phys' ? (vlanName === undefined ? link : vlanLink) : undefined;
  const moving = nic ?? virtual?.link;
  const datapath = network.kind === 'ovs' ? await datapathOf(view, link) : undefined;
  // An internal port has the name of its interface where that cannot be changed, see plan/attach.ts.
  const fixed = isInternal(network) && datapath === 'system' ? want.ifname : undefined;
  const hasEnd = isPair(network) || isInternal(network) || record?.hostIfname !== undefined;
  const end = hasEnd ? observeHostEnd(netns, container, guest, want, record, fixed) : undefined;
  const masterIndex = end?.hostEnd?.master;
  const master = masterIndex === undefined ? undefined : netns.link(masterIndex);
  return {
    network: link,
    networkType: type,
    vlanLink,
    vf: virtual?.vf,
    vfs: virtual?.vfs,
    hostIfname: end?.hostIfname ?? '',
    hostEnd: end?.hostEnd,
    formerEnd: record ? undefined : formerEndOf(view, container, want.ifname),
    hostEndMaster: master?.name,
    hostEndPvid: master?.data.defaultPvid,
    portVlans: vlansOf(netns, want, end?.hostEnd, master),
    ...(network.kind === 'bridge' && saysVlans(network) ? { uplink: view.uplinkOn(network.name) } : {}),
    moving: moving && { ...withAddrs(netns, moving), ...wirelessOf(moving.name) },
    datapath,
    ...(await observeOvs(view, want, record, { name: end?.hostIfname, hostEnd: end?.hostEnd, master })),
    firewallMissing: firewall && network.kind === 'bridge' && !(await view.isAllowed(network.name)),
  };
}

/** Of the host's end, where they matter: its bridge filters them, or is to. */
function vlansOf(
  netns: NetnsView,
  { network }: Attachment,
  hostEnd: Link | undefined,
  master: Link | undefined,
): readonly PortVlan[] {
  const asks = network.kind === 'bridge' && saysVlans(network);
  if (!hostEnd || master?.kind !== 'bridge' || !(master.data.vlanFiltering || asks)) return [];
  return netns.portVlans(hostEnd.ifindex);
}

function exactLink(netns: NetnsView, name: string): Link | undefined {
  const link = netns.link(name);
  return link?.name === name ? link : undefined;
}

/** The host's end: as noted, as asked for, or as the original names it; a short name that another has is passed by. */
function observeHostEnd(
  host: NetnsView,
  container: Container,
  guest: NetnsView,
  want: Attachment,
  record: AttachmentRecord | undefined,
  fixed: string | undefined,
): { hostIfname: string; hostEnd: Link | undefined } {
  const netns = {
    inode: guest.rtnl.netns.inode,
    ...(container.pid === undefined ? {} : { pid: container.pid }),
  };
  const former = record && isInternal(record.network) ? record.hostIfname : undefined;
  const given = former ?? want.hostIfname ?? record?.hostIfname ?? fixed;
  if (given !== undefined) return { hostIfname: given, hostEnd: exactLink(host, given) };
  for (let salt = 0; ; salt++) {
    const hostIfname = hostIfnameFor(want.ifname, netns, salt);
    const hostEnd = exactLink(host, hostIfname);
    if (!hostEnd || !hostIfname.startsWith('pw') || isPeer(guest, want.ifname, hostEnd))
      return { hostIfname, hostEnd };
  }
}

function isPeer(guest: NetnsView, ifname: string, hostEnd: Link): boolean {
  const link = guest.link(ifname);
  return link?.lower === hostEnd.ifindex && hostEnd.lower === link.ifindex;
}
