/** Makes the networks of a topology ready on the host, and takes away what was made for those that are no more. */

import { listAddrs } from '../kernel/netlink/addr.ts';
import { getLink, listLinks } from '../kernel/netlink/link.ts';
import { randomBytes } from '../kernel/random.ts';
import { readSysctl, sysctlPath } from '../kernel/sysctl.ts';
import type { Cidr } from '../model/address.ts';
import type { Link } from '../model/link.ts';
import { groupOf, isOurGroup, vlanIfnameFor } from '../model/naming.ts';
import { promotion } from '../model/observed.ts';
import { describe, type Operation } from '../model/operation.ts';
import type { NetworkSpec, NotedNetwork } from '../model/topology.ts';
import { observeNetwork } from '../observe/network.ts';
import { HostView } from '../observe/view.ts';
import { hostLinkOf, type ObservedNetwork, planHostNetwork } from '../plan/network.ts';
import { backendsOf, ovsMark } from './backends.ts';
import { Executor } from './execute.ts';
import type { Host } from './host.ts';
import { acquireLock } from './lock.ts';
import type { NetworkRecord } from './state.ts';
import { begin, type Pending, recover } from './transaction.ts';

/** What was done for a network, or would be. */
export interface NetworkResult {
  readonly network: string;
  readonly steps: readonly { readonly command: string; readonly because: string }[];
}

/** Makes one network ready. @throws PipewrightError; nothing is changed then */
export async function ensureNetwork(
  host: Host,
  network: NetworkSpec,
  options: { readonly dryRun?: boolean; readonly hold?: ((pending: Pending) => void) | undefined } = {},
): Promise<NetworkResult> {
  using _lock = await acquireLock(host.state.lockPath);
  if (!options.dryRun) await recover(host);
  const record = host.state.networkRecord(network.name);
  const seen = await observe(host, network, record);
  const steps = planHostNetwork(network, seen);
  const result = {
    network: network.name,
    steps: steps.map(({ op, because }) => ({ command: describe(op), because })),
  };
  if (options.dryRun) return result;
  const next = recordOf(network, record, seen);
  if (steps.length === 0 && JSON.stringify(record) === JSON.stringify(next)) return result;
  // Written first: of what is made, nothing is forgotten when we are killed.
  const restore = note(host, record, next);
  const guest = { rtnl: host.rtnl, netnsPath: '/proc/thread-self/ns/net', label: 'host' };
  let pending: Pending;
  try {
    pending = await begin(host, guest, { group: seen.group, steps });
  } catch (error) {
    restore();
    throw error;
  }
  if (!options.hold) await pending.commit();
  options.hold?.({
    commit: () => pending.commit(),
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
  { hostAddrs }: ObservedNetwork,
): NetworkRecord {
  const hostLink = hostLinkOf(network);
  const former = record?.hostLink === hostLink ? record?.addrs : undefined;
  const isOurs = (cidr: Cidr): boolean =>
    hasCidr(former ?? [], cidr) ||
    !hasCidr(
      hostAddrs.map((addr) => addr.cidr),
      cidr,
    );
  return {
    version: 1,
    network: network.name,
    kind: network.kind,
    link: 'bridge' in network ? network.bridge : undefined,
    hostLink,
    addrs: network.hostAddresses.filter(isOurs),
    spec: withoutPlace(network),
  };
}

function withoutPlace({ place: _, ...spec }: NetworkSpec): NotedNetwork {
  return spec;
}

const hasCidr = (all: readonly Cidr[], { ip, prefixLen }: Cidr): boolean =>
  all.some((cidr) => cidr.ip === ip && cidr.prefixLen === prefixLen);

/**
 * Notes a network. What it was made of before and is no more gets a note of its own, of a name that no network has, so
 * that it is taken away like a network that is no more. @returns takes the notes back
 */
function note(host: Host, record: NetworkRecord | undefined, next: NetworkRecord): () => void {
  const { state } = host;
  const former =
    record && (record.link !== next.link || record.hostLink !== next.hostLink)
      ? { ...record, network: `${record.network} on ${record.link ?? record.hostLink}` }
      : undefined;
  if (former) state.writeNetworkRecord(former);
  state.writeNetworkRecord(next);
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
  const { link, type } =
    name === undefined
      ? { link: undefined, type: undefined }
      : await observeNetwork(new HostView(host), name);
  const vid = 'uplink' in network ? network.vid : undefined;
  const hostName = hostLinkOf(network);
  const hostLink = hostName === undefined ? undefined : exact(host, hostName);
  return {
    link,
    type,
    vlanLink: vid === undefined || name === undefined ? undefined : exact(host, vlanIfnameFor(name, vid)),
    hostLink,
    hostAddrs: hostLink ? listAddrs(host.rtnl, hostLink.ifindex) : [],
    group: groupOf(randomBytes(4).readUInt32LE()),
    formerAddrs: record?.addrs ?? [],
    promotes: hostLink ? readSysctl(host.netns, sysctlPath(hostLink.name, promotion)) !== '0' : true,
  };
}

function exact(host: Host, name: string): Link | undefined {
  const link = getLink(host.rtnl, name);
  return link?.name === name ? link : undefined;
}

/**
 * Takes away what was made for networks that are no more: the host's addresses, its children of NICs, empty bridges. A
 * bridge that is still in use stays, and its note with it, for the next time.
 */
export async function dropNetworks(
  host: Host,
  gone: readonly NetworkRecord[],
  options: { readonly dryRun?: boolean } = {},
): Promise<NetworkResult[]> {
  using _lock = await acquireLock(host.state.lockPath);
  const executor = new Executor({ host: host.rtnl, guest: host.rtnl }, backendsOf(host));
  const names = new Set(gone.map(({ network }) => network));
  const staying = host.state.networkRecords().filter(({ network }) => !names.has(network));
  const results: NetworkResult[] = [];
  for (const record of gone) {
    const base = await planDropBridge(host, record, staying);
    const ops = [...planDropHostLink(host, record, staying), ...(base === 'in use' ? [] : base)];
    results.push({
      network: record.network,
      steps: ops.map((op) => ({ command: describe(op), because: `network ${record.network} is no more` })),
    });
    if (options.dryRun) continue;
    const [failure] = await executor.runAll(ops);
    if (failure) throw failure;
    if (base !== 'in use') host.state.removeNetworkRecord(record.network);
  }
  return results;
}

function planDropHostLink(
  host: Host,
  { kind, hostLink, addrs }: NetworkRecord,
  staying: readonly NetworkRecord[],
): Operation[] {
  const link = hostLink === undefined ? undefined : exact(host, hostLink);
  if (!link) return [];
  const others = staying.filter((other) => other.hostLink === hostLink);
  if (kind === 'macvlan' || kind === 'ipvlan') {
    return others.length === 0 && isOurGroup(link.group)
      ? [{ do: 'link.del', side: 'host', name: link.name }]
      : [];
  }
  const present = listAddrs(host.rtnl, link.ifindex).map(({ cidr }) => cidr);
  const wanted = others.flatMap((other) => other.addrs);
  return addrs
    .filter((cidr) => hasCidr(present, cidr) && !hasCidr(wanted, cidr))
    .map((cidr): Operation => ({ do: 'addr.del', side: 'host', link: link.name, cidr }));
}

async function planDropBridge(
  host: Host,
  { kind, link: bridge, addrs }: NetworkRecord,
  staying: readonly NetworkRecord[],
): Promise<Operation[] | 'in use'> {
  if (bridge === undefined || staying.some(({ link }) => link === bridge)) return [];
  if (kind === 'ovs') return planDropOvsBridge(host, bridge);
  const link = exact(host, bridge);
  if (!link || !isOurGroup(link.group)) return [];
  const foreign = listAddrs(host.rtnl, link.ifindex).some(
    ({ scope, cidr }) => scope === 0 && !hasCidr(addrs, cidr),
  );
  if (foreign) return [];
  if (listLinks(host.rtnl).some(({ master }) => master === link.ifindex)) return 'in use';
  return [
    { do: 'firewall.revoke', bridge },
    { do: 'link.del', side: 'host', name: bridge },
  ];
}

async function planDropOvsBridge(host: Host, name: string): Promise<Operation[] | 'in use'> {
  const { getBridge } = await import('../ovs/bridge.ts');
  const bridge = await getBridge(await host.ovs(), name);
  if (bridge === undefined || !(ovsMark in bridge.externalIds)) return [];
  return bridge.ports.length > 0 ? 'in use' : [{ do: 'ovs.bridge.del', name }];
}
