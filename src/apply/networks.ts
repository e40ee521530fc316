/** Makes the networks of a topology ready on the host, and takes away what was made for those that are no more. */

import { acquireLock } from '../kernel/lock.ts';
import { listAddrs } from '../kernel/netlink/addr.ts';
import { getLink } from '../kernel/netlink/link.ts';
import { listRoutes } from '../kernel/netlink/route.ts';
import { randomBytes } from '../kernel/random.ts';
import { readSysctl, sysctlPath } from '../kernel/sysctl.ts';
import type { Cidr } from '../model/address.ts';
import { describe } from '../model/describe.ts';
import type { Addr, Link, Route } from '../model/link.ts';
import { groupOf, isOurGroup, vlanIfnameFor } from '../model/naming.ts';
import { promotion } from '../model/observed.ts';
import type { Change } from '../model/operation.ts';
import { carries } from '../model/port-vlan.ts';
import type { NetworkSpec, NotedNetwork } from '../model/topology.ts';
import { observeNetwork } from '../observe/network.ts';
import { portVlansOf } from '../observe/port-vlans.ts';
import { HostView } from '../observe/view.ts';
import type { NetworkRecord } from '../plan/drop-network.ts';
import { changeOfNetwork, hostLinkOf, type ObservedNetwork, planHostNetwork } from '../plan/network.ts';
import { ovsMark } from './backends.ts';
import type { Host } from './host.ts';
import { type BeforeStep, begin, type Held, type Pending, recover } from './transaction.ts';

/** What was done for a network, or would be. */
export interface NetworkResult {
  readonly network: string;
  readonly steps: readonly { readonly command: string; readonly because: string }[];
}

/** How a network is made ready. */
export interface EnsureNetworkOptions {
  /** Plan only. */
  readonly dryRun?: boolean;
  /** See AttachOptions. */
  readonly hold?: ((pending: Held) => void) | undefined;
  /** For tests. */
  readonly beforeStep?: BeforeStep | undefined;
}

/** Makes one network ready. @throws PipewrightError; nothing is changed then */
export async function ensureNetwork(
  host: Host,
  network: NetworkSpec,
  options: EnsureNetworkOptions = {},
): Promise<NetworkResult & { readonly change: Change }> {
  using _lock = await acquireLock(host.state.lockPath);
  if (!options.dryRun) await recover(host);
  const record = host.state.networkRecord(network.name);
  const seen = await observe(host, network, record);
  const steps = planHostNetwork(network, seen);
  const result = {
    network: network.name,
    change: changeOfNetwork(steps),
    steps: steps.map(({ op, because }) => ({ command: describe(op), because })),
  };
  if (options.dryRun) return result;
  const next = recordOf(network, record, seen);
  if (steps.length === 0 && JSON.stringify(record) === JSON.stringify(next)) return result;
  // Written first: of what is made, and of what was made before, nothing is forgotten when we are killed.
  const restore = note(host, record, next);
  const guest = { rtnl: host.rtnl, netnsPath: '/proc/thread-self/ns/net', label: 'host' };
  let pending: Pending;
  try {
    pending = await begin(host, guest, { group: seen.group, steps }, options.beforeStep);
  } catch (error) {
    restore();
    throw error;
  }
  const commit = (): Promise<string[]> => {
    host.state.writeNetworkRecord(next);
    return pending.commit();
  };
  if (!options.hold) await commit();
  options.hold?.({
    commit,
    abandon: () => pending.abandon(),
    rollBack: (reason) => {
      restore();
      return pending.rollBack(reason);
    },
  });
  return result;
}

/** What is to be taken away some day: of the host's addresses only those that were not there already. */
function recordOf(
  network: NetworkSpec,
  record: NetworkRecord | undefined,
  seen: ObservedNetwork,
): NetworkRecord {
  const hostLink = hostLinkOf(network);
  const former = record?.hostLink === hostLink ? record?.addrs : undefined;
  const isOurs = (cidr: Cidr): boolean =>
    hasCidr(former ?? [], cidr) ||
    !hasCidr(
      seen.hostAddrs.map((addr) => addr.cidr),
      cidr,
    );
  return {
    version: 1,
    network: network.name,
    kind: network.kind,
    link: 'bridge' in network ? network.bridge : undefined,
    hostLink,
    ...selfVidOf(network, record, seen),
    addrs: network.hostAddresses.filter(isOurs),
    vlanIfname: vlanOf(network),
    mtu: network.kind === 'bridge' ? mtuOf(network, record, seen) : undefined,
    spec: withoutPlace(network),
  };
}

function withoutPlace({ place: _, ...spec }: NetworkSpec): NotedNetwork {
  return spec;
}

/** The sub-interface that it makes; that of a phys network is made for an attachment. */
function vlanOf(network: NetworkSpec): string | undefined {
  if ((network.kind !== 'macvlan' && network.kind !== 'ipvlan') || network.vid === undefined)
    return undefined;
  return vlanIfnameFor(network.uplink, network.vid);
}

/** That of a bridge which is not ours, and is to have another one. */
function mtuOf(
  { bridge, mtu }: Extract<NetworkSpec, { kind: 'bridge' }>,
  record: NetworkRecord | undefined,
  { link }: ObservedNetwork,
): NetworkRecord['mtu'] {
  if (mtu === undefined || !link || isOurGroup(link.group)) return undefined;
  const was = (record?.link === bridge ? record.mtu?.was : undefined) ?? link.mtu;
  return was === mtu ? undefined : { set: mtu, was };
}

/** The VLAN that the bridge itself carries for the host's own addresses, unless it did so before. */
function selfVidOf(
  network: NetworkSpec,
  record: NetworkRecord | undefined,
  { selfVlans }: ObservedNetwork,
): Pick<NetworkRecord, 'selfVid'> {
  const hostLink = hostLinkOf(network);
  if (network.kind !== 'bridge' || network.vid === undefined || hostLink === undefined) return {};
  const { vid } = network;
  const wasOurs = record?.hostLink === hostLink && record.selfVid === vid;
  return wasOurs || !carries(selfVlans, vid) ? { selfVid: vid } : {};
}

const hasCidr = (all: readonly Cidr[], { ip, prefixLen }: Cidr): boolean =>
  all.some((cidr) => cidr.ip === ip && cidr.prefixLen === prefixLen);

/**
 * Notes a network. What it was made of before and is no more gets a note of its own, of a name that no network has, so
 * that it is taken away like a network that is no more. @returns takes the notes back
 */
function note(host: Host, record: NetworkRecord | undefined, next: NetworkRecord): () => void {
  const { state } = host;
  const isMoved =
    record &&
    (record.link !== next.link || record.hostLink !== next.hostLink || record.vlanIfname !== next.vlanIfname);
  const place = record && (record.link ?? record.vlanIfname ?? record.hostLink);
  const former = isMoved ? { ...record, network: `${record.network} on ${place}` } : undefined;
  if (former) state.writeNetworkRecord(former);
  const before = isMoved ? undefined : record;
  const addrs = [...next.addrs, ...(before?.addrs ?? []).filter((cidr) => !hasCidr(next.addrs, cidr))];
  state.writeNetworkRecord({ ...next, addrs, mtu: next.mtu ?? before?.mtu });
  return () => {
    if (former) state.removeNetworkRecord(former.network);
    if (record) state.writeNetworkRecord(record);
    else state.removeNetworkRecord(next.network);
  };
}

async function observe(
  host: Host,
  network: NetworkSpec,
  record: NetworkRecord | undefined,
): Promise<ObservedNetwork> {
  const name = 'bridge' in network ? network.bridge : 'uplink' in network ? network.uplink : undefined;
  const view = new HostView(host);
  const { link, type } =
    name === undefined ? { link: undefined, type: undefined } : await observeNetwork(view, name);
  const vid = 'uplink' in network && 'vid' in network ? network.vid : undefined;
  const hostName = hostLinkOf(network);
  const hostLink = hostName === undefined ? undefined : exact(host, hostName);
  return {
    link,
    type,
    vlanLink: vid === undefined || name === undefined ? undefined : exact(host, vlanIfnameFor(name, vid)),
    hostLink,
    hostUplink: hostLink?.lower === undefined ? undefined : getLink(host.rtnl, hostLink.lower)?.name,
    ...(await hostPortOf(host, network)),
    hostAddrs: [...(hostLink ? listAddrs(host.rtnl, hostLink.ifindex) : []), ...comingFrom(host, network)],
    hostRoutes: hostLink && mayLose(network, record) ? routesOf(host, hostLink) : undefined,
    selfVlans:
      link?.kind === 'bridge' && hostName !== undefined && hostName !== link.name
        ? portVlansOf(host.rtnl, link.ifindex)
        : [],
    uplink:
      network.kind === 'bridge' && network.vid !== undefined ? view.uplinkOn(network.bridge) : undefined,
    group: groupOf(randomBytes(4).readUInt32LE()),
    formerAddrs: record?.addrs ?? [],
    formerMtu: record?.link === name && record?.mtu?.set === link?.mtu ? record?.mtu?.was : undefined,
    promotes: hostLink ? promotes(host, hostLink.name) : true,
  };
}

/** See ObservedNetwork. */
async function hostPortOf(host: Host, network: NetworkSpec): Promise<Pick<ObservedNetwork, 'hostPort'>> {
  const name = hostLinkOf(network);
  if (network.kind !== 'ovs' || name === undefined || name === network.bridge) return {};
  const [db, { getPort }] = await Promise.all([host.ovs(), import('../ovs/port.ts')]);
  const port = await getPort(db, name);
  if (!port) return {};
  const { bridge, tag: vid, externalIds } = port;
  return { hostPort: { bridge, vid, isOurs: ovsMark in externalIds } };
}

function mayLose({ hostAddresses }: NetworkSpec, record: NetworkRecord | undefined): boolean {
  return (record?.addrs ?? []).some((cidr) => !hasCidr(hostAddresses, cidr));
}

/** Those that go with its addresses; the kernel keeps the table `local` itself. */
function routesOf(host: Host, { ifindex }: Link): Route[] {
  return listRoutes(host.rtnl).filter(({ dev, table }) => dev === ifindex && table !== localTable);
}

/** RT_TABLE_LOCAL. */
const localTable = 255;

/** Addresses that the bridge gets from its uplink. Given to it before, they would be on two links. */
function comingFrom(host: Host, network: NetworkSpec): Addr[] {
  const nic = 'nic' in network && network.nic !== undefined ? exact(host, network.nic) : undefined;
  return nic ? listAddrs(host.rtnl, nic.ifindex) : [];
}

function exact(host: Host, name: string): Link | undefined {
  const link = getLink(host.rtnl, name);
  return link?.name === name ? link : undefined;
}

/** Whether the next IPv4 address of a subnet takes the place of the first when that is deleted. */
export function promotes(host: Host, name: string): boolean {
  return readSysctl(host.netns, sysctlPath(name, promotion)) !== '0';
}
