/** Takes away what was made for networks that are no more: addresses, children of NICs, sub-interfaces, empty bridges. */
import { acquireLock } from '../kernel/lock.ts';
import { listAddrs } from '../kernel/netlink/addr.ts';
import { listLinks } from '../kernel/netlink/link.ts';
import { describe } from '../model/describe.ts';
import type { Link } from '../model/link.ts';
import type { AttachmentRecord } from '../model/observed.ts';
import type { Operation } from '../model/operation.ts';
import { lives } from '../observe/lives.ts';
import { type DropFacts, type NetworkRecord, planDropNetwork } from '../plan/drop-network.ts';
import { backendsOf, ovsMark } from './backends.ts';
import { Executor } from './execute.ts';
import type { Host } from './host.ts';
import { type NetworkResult, promotes } from './networks.ts';
import { containerKey } from './state.ts';
import { type BeforeStep, recover } from './transaction.ts';

/** How networks are taken away. */
export interface DropOptions {
  /** Plan only. */
  readonly dryRun?: boolean;
  /** Attachments that a plan takes to be gone already. */
  readonly leaving?: readonly AttachmentRecord[];
  readonly beforeStep?: BeforeStep | undefined;
}

/**
 * Takes them away. What something else uses stays, and the network's note with it, for the next time.
 * @throws PipewrightError of what could not be taken away; repeated, it goes on from there
 */
export async function dropNetworks(
  host: Host,
  gone: readonly NetworkRecord[],
  options: DropOptions = {},
): Promise<NetworkResult[]> {
  using _lock = await acquireLock(host.state.lockPath);
  if (!options.dryRun) await recover(host);
  const executor = new Executor({ host: host.rtnl, guest: host.rtnl }, backendsOf(host));
  const names = new Set(gone.map(({ network }) => network));
  const staying = host.state.networkRecords().filter(({ network }) => !names.has(network));
  const results: NetworkResult[] = [];
  for (const record of gone) {
    const { ops, inUse } = planDropNetwork(await observeDrop(host, record, staying, options.leaving));
    const because = `network ${record.network} is no more`;
    results.push({
      network: record.network,
      steps: ops.map((op) => ({ command: describe(op), because })),
    });
    if (options.dryRun) continue;
    const { beforeStep } = options;
    const before = beforeStep && ((op: Operation, at: number) => beforeStep({ op, because, undo: [] }, at));
    const [failure] = await executor.runAll(ops, before);
    if (failure) throw failure;
    if (inUse) continue;
    handOnMtu(host, record, staying);
    host.state.removeNetworkRecord(record.network);
  }
  return results;
}

/** Of several networks on one bridge, the last that goes gives it the MTU back that it had before the first. */
function handOnMtu(host: Host, { link, mtu }: NetworkRecord, staying: readonly NetworkRecord[]): void {
  const heir = staying.find((other) => link !== undefined && other.link === link);
  if (heir && mtu && !heir.mtu) host.state.writeNetworkRecord({ ...heir, mtu });
}

async function observeDrop(
  host: Host,
  record: NetworkRecord,
  staying: readonly NetworkRecord[],
  leaving: readonly AttachmentRecord[] = [],
): Promise<DropFacts> {
  const gone = new Set(leaving.map(({ container, ifname }) => `${containerKey(container)} ${ifname}`));
  const records = host.state
    .records()
    .filter(({ container, ifname }) => !gone.has(`${containerKey(container)} ${ifname}`));
  const ends = new Set(leaving.map(({ hostIfname }) => hostIfname));
  const links = listLinks(host.rtnl).filter(({ name }) => !ends.has(name));
  const withAddrs = (name: string | undefined) => {
    const link = links.find((candidate) => candidate.name === name);
    return link && { link, addrs: listAddrs(host.rtnl, link.ifindex) };
  };
  const bridge = record.kind === 'ovs' ? undefined : withAddrs(record.link);
  const vlan = withAddrs(record.vlanIfname);
  const hostLink = withAddrs(record.hostLink);
  return {
    record,
    staying,
    bridge: bridge && {
      ...bridge,
      ports: links.filter(({ master }) => master === bridge.link.ifindex).length,
      isUsed:
        host.state.filtersForUplink(bridge.link.name) ||
        records.some(({ network }) => network.kind === 'bridge' && network.name === record.link),
    },
    ...(record.kind === 'ovs' ? await observeOvsBridge(host, record, ends) : { ovsBridge: undefined }),
    hostLink: hostLink && { ...hostLink, promotes: promotes(host, hostLink.link.name) },
    vlan: vlan && { ...vlan, isRidden: isRidden(records, vlan.link, record, links) },
  };
}

async function observeOvsBridge(
  host: Host,
  { link, hostLink }: NetworkRecord,
  leaving: ReadonlySet<string | undefined>,
): Promise<Pick<DropFacts, 'ovsBridge' | 'hasHostPort'>> {
  if (link === undefined) return { ovsBridge: undefined };
  const [db, { getBridge }, { getPort }] = await Promise.all([
    host.ovs(),
    import('../ovs/bridge.ts'),
    import('../ovs/port.ts'),
  ]);
  const bridge = await getBridge(db, link);
  const own = hostLink === undefined || hostLink === link ? undefined : await getPort(db, hostLink);
  const hasHostPort = own !== undefined && ovsMark in own.externalIds;
  const isGoing = (port: string): boolean => leaving.has(port) || (hasHostPort && port === hostLink);
  const others = bridge?.ports.filter((port) => !isGoing(port)) ?? [];
  return {
    ovsBridge: bridge && { ours: ovsMark in bridge.externalIds, ports: others.length },
    hasHostPort,
  };
}

/** Children in containers are in other namespaces, and known by their notes. */
function isRidden(
  records: readonly AttachmentRecord[],
  vlan: Link,
  { hostLink }: NetworkRecord,
  links: readonly Link[],
): boolean {
  const isChild = ({ lower, linkNetnsid, name }: Link): boolean =>
    lower === vlan.ifindex && linkNetnsid === undefined && name !== hostLink;
  return (
    links.some(isChild) ||
    records.some(({ vlanIfname, container }) => vlanIfname === vlan.name && lives(container))
  );
}
