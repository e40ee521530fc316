/** Makes the networks of a topology ready on the host, and takes away what was made for those that are no more. */

import { listAddrs } from '../kernel/netlink/addr.ts';
import { getLink, listLinks } from '../kernel/netlink/link.ts';
import { randomBytes } from '../kernel/random.ts';
import type { Cidr } from '../model/address.ts';
import type { Link } from '../model/link.ts';
import { groupOf, isOurGroup, vlanIfnameFor } from '../model/naming.ts';
import { describe, type Operation } from '../model/operation.ts';
import type { NetworkSpec } from '../model/topology.ts';
import { observeNetwork } from '../observe/network.ts';
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
  const link = hostLinkOf(network);
  const next: NetworkRecord = {
    version: 1,
    network: network.name,
    kind: network.kind,
    link: 'bridge' in network ? network.bridge : undefined,
    hostLink: link,
    addrs: network.hostAddresses,
  };
  if (steps.length > 0) {
    const guest = { rtnl: host.rtnl, netnsPath: '/proc/thread-self/ns/net', label: 'host' };
    const pending = await begin(host, guest, { group: seen.group, steps });
    if (options.hold) options.hold(pending);
    else await pending.commit();
  }
  if (JSON.stringify(record) !== JSON.stringify(next)) host.state.writeNetworkRecord(next);
  return result;
}

async function observe(
  host: Host,
  network: NetworkSpec,
  record: NetworkRecord | undefined,
): Promise<ObservedNetwork> {
  const name = 'bridge' in network ? network.bridge : 'uplink' in network ? network.uplink : undefined;
  const { link, type } =
    name === undefined ? { link: undefined, type: undefined } : await observeNetwork(host, name);
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
  };
}

function exact(host: Host, name: string): Link | undefined {
  const link = getLink(host.rtnl, name);
  return link?.name === name ? link : undefined;
}

/** Takes away what was made for networks that are no more: the host's addresses, its children of NICs, empty bridges. */
export async function dropNetworks(
  host: Host,
  gone: readonly NetworkRecord[],
  options: { readonly dryRun?: boolean } = {},
): Promise<NetworkResult[]> {
  using _lock = await acquireLock(host.state.lockPath);
  const executor = new Executor({ host: host.rtnl, guest: host.rtnl }, backendsOf(host));
  const results: NetworkResult[] = [];
  for (const record of gone) {
    const ops = await planDrop(host, record);
    results.push({
      network: record.network,
      steps: ops.map((op) => ({ command: describe(op), because: `network ${record.network} is no more` })),
    });
    if (options.dryRun) continue;
    const [failure] = await executor.runAll(ops);
    if (failure) throw failure;
    host.state.removeNetworkRecord(record.network);
  }
  return results;
}

async function planDrop(
  host: Host,
  { kind, link: bridge, hostLink, addrs }: NetworkRecord,
): Promise<Operation[]> {
  const ops: Operation[] = [];
  const own = hostLink === undefined ? undefined : exact(host, hostLink);
  if (own && (kind === 'macvlan' || kind === 'ipvlan')) {
    if (isOurGroup(own.group)) ops.push({ do: 'link.del', side: 'host', name: own.name });
  } else if (own)
    ops.push(
      ...addrs.map((cidr: Cidr): Operation => ({ do: 'addr.del', side: 'host', link: own.name, cidr })),
    );
  if (bridge === undefined) return ops;
  if (kind === 'ovs') {
    if (await isOurEmptyOvsBridge(host, bridge)) ops.push({ do: 'ovs.bridge.del', name: bridge });
    return ops;
  }
  const link = exact(host, bridge);
  if (!link || !isOurGroup(link.group)) return ops;
  const kept = listAddrs(host.rtnl, link.ifindex).filter(
    ({ scope, cidr }) => scope === 0 && !addrs.some(({ ip }) => ip === cidr.ip),
  );
  const ports = listLinks(host.rtnl).filter(({ master }) => master === link.ifindex);
  if (kept.length === 0 && ports.length === 0) {
    ops.push({ do: 'firewall.revoke', bridge }, { do: 'link.del', side: 'host', name: bridge });
  }
  return ops;
}

async function isOurEmptyOvsBridge(host: Host, name: string): Promise<boolean> {
  const { getBridge } = await import('../ovs/bridge.ts');
  const bridge = await getBridge(await host.ovs(), name);
  return bridge !== undefined && ovsMark in bridge.externalIds && bridge.ports.length === 0;
}
