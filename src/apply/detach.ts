/** Disconnects containers: what is wanted away is looked up, planned, and taken away in as few messages as it takes. */

import { existsSync } from 'node:fs';
import type { Container } from '../containers/container.ts';
import { PipewrightError } from '../errors.ts';
import { acquireLock } from '../kernel/lock.ts';
import { listAddrs } from '../kernel/netlink/addr.ts';
import { getLink, listLinks } from '../kernel/netlink/link.ts';
import { listRoutes } from '../kernel/netlink/route.ts';
import { NetlinkSocket } from '../kernel/netlink/socket.ts';
import { Netns } from '../kernel/netns.ts';
import { randomBytes } from '../kernel/random.ts';
import type { Family } from '../model/address.ts';
import type { Attachment } from '../model/attachment.ts';
import { describe } from '../model/describe.ts';
import type { Link, Route } from '../model/link.ts';
import { groupOf, ifbNameFor, isOurGroup } from '../model/naming.ts';
import type { AttachmentRecord } from '../model/observed.ts';
import type { Operation, Step } from '../model/operation.ts';
import { type DetachFacts, type DetachPlan, planDetach } from '../plan/detach.ts';
import { backendsOf, ovsMark } from './backends.ts';
import { Executor } from './execute.ts';
import type { Host } from './host.ts';
import { containerKey } from './state.ts';
import { recover } from './transaction.ts';

/** An interface of a container that is to go. The container is known by its note when it runs no more. */
export interface Target {
  readonly container: Container;
  readonly ifname: string;
}

/** How interfaces are taken away. */
export interface DetachOptions {
  /** Plan only. */
  readonly dryRun?: boolean;
  /** Bridges and sub-interfaces stay although nothing uses them: the container, or another one, will be back. */
  readonly keepShared?: boolean;
}

/** What was taken away. */
export interface DetachResult {
  readonly steps: readonly { readonly command: string; readonly because: string }[];
  readonly warnings: readonly string[];
}

/**
 * Takes interfaces away, and what was made for them and is used no more. Goes on after a failure.
 * @throws PipewrightError of the first failure, when all has been tried; NETWORK_UNKNOWN when nothing of ours is there
 */
export async function detach(
  host: Host,
  targets: readonly Target[],
  options: DetachOptions = {},
): Promise<DetachResult> {
  using _lock = await acquireLock(host.state.lockPath);
  const warnings = options.dryRun ? [] : await recover(host);
  const before = look(host, targets);
  const departures: Departure[] = [];
  try {
    for (const target of targets) departures.push(await observeDeparture(host, target, before, options));
    if (!options.dryRun) await run(host, departures, before.staying);
  } finally {
    for (const { guest } of departures) guest?.[Symbol.dispose]();
  }
  const steps = stepsOf(departures).map(({ op, because }) => ({ command: describe(op), because }));
  return { steps, warnings };
}

/** The host as it was before anything went. */
interface Before {
  readonly links: readonly Link[];
  /** The notes of the attachments that stay, and the host's ends and the groups of those that go. */
  readonly staying: readonly AttachmentRecord[];
  readonly leavingEnds: ReadonlySet<string | undefined>;
  readonly leavingGroups: ReadonlySet<number>;
}

function look(host: Host, targets: readonly Target[]): Before {
  const leaving = new Set(targets.map(({ container, ifname }) => `${containerKey(container)} ${ifname}`));
  const isLeaving = ({ container, ifname }: AttachmentRecord): boolean =>
    leaving.has(`${containerKey(container)} ${ifname}`);
  const records = host.state.records();
  return {
    links: listLinks(host.rtnl),
    staying: records.filter((record) => !isLeaving(record)),
    leavingEnds: new Set(records.filter(isLeaving).map(({ hostIfname }) => hostIfname)),
    leavingGroups: new Set(records.filter(isLeaving).map(({ group }) => group)),
  };
}

/**
 * What was made for the network that an attachment leaves for another one, and nothing else uses: the last steps of such
 * a change. What a topology keeps stays.
 */
export async function planLeave(host: Host, container: Container, record: AttachmentRecord): Promise<Step[]> {
  const { network, ifname } = record;
  const name = 'name' in network ? network.name : undefined;
  if (host.state.networkRecords().some(({ link }) => link !== undefined && link === name)) return [];
  const before = look(host, [{ container, ifname }]);
  // By then the host's end is a port of the other network, or gone.
  const left = { ...record, hostIfname: undefined };
  const facts = await observeFacts(host, ifname, left, undefined, undefined, before);
  return planDetach(facts).shared.map((step) => ({ ...step, final: true }));
}

/** One interface that goes. */
interface Departure {
  readonly target: Target;
  readonly guest: GuestSocket | undefined;
  readonly facts: DetachFacts;
  readonly plan: DetachPlan;
}

type GuestSocket = Disposable & { readonly rtnl: NetlinkSocket };

/** Opens the container's namespace when it is still the one that the note speaks of. */
function openGuest({ container }: Target, record: AttachmentRecord | undefined): GuestSocket | undefined {
  let netns: Netns;
  try {
    netns = Netns.open(container.netnsPath, container.name);
  } catch {
    return undefined;
  }
  if (record && record.container.netnsInode !== netns.inode) {
    netns[Symbol.dispose]();
    return undefined;
  }
  const rtnl = NetlinkSocket.open(netns);
  return {
    rtnl,
    [Symbol.dispose]: () => {
      rtnl[Symbol.dispose]();
      netns[Symbol.dispose]();
    },
  };
}

async function observeDeparture(
  host: Host,
  target: Target,
  before: Before,
  { keepShared }: DetachOptions,
): Promise<Departure> {
  const { container, ifname } = target;
  const record = host.state.record(containerKey(container), ifname);
  const guest = openGuest(target, record);
  const found = guest && getLink(guest.rtnl, ifname);
  const guestLink = found?.name === ifname && isOurGroup(found.group) ? found : undefined;
  if (!record && !guestLink) {
    guest?.[Symbol.dispose]();
    throw new PipewrightError('NETWORK_UNKNOWN', {
      op: 'detach',
      subject: `${ifname} in ${container.name}`,
      detail: found ? 'pipewright did not make this interface, so it stays' : 'there is no such interface',
      hint: 'see: pipewright list',
    });
  }
  refuseTakenName(record, before.links);
  const facts = await observeFacts(host, ifname, record, guest, guestLink, before);
  const plan = planDetach(facts);
  return { target, guest, facts, plan: keepShared ? { ...plan, shared: [] } : plan };
}

/** A NIC can only come home when nothing else has its name there. */
function refuseTakenName(record: AttachmentRecord | undefined, links: readonly Link[]): void {
  const name = record?.taken?.name;
  if (name === undefined || !links.some((link) => link.name === name && link.group !== record?.group)) return;
  throw new PipewrightError('NAME_TAKEN', {
    op: 'detach',
    subject: `${record?.ifname} in ${record?.container.name}`,
    detail: `it is the NIC ${name} of the host, where another link has this name now`,
    hint: `rename or delete that one first: ip link show ${name}`,
  });
}

async function observeFacts(
  host: Host,
  ifname: string,
  record: AttachmentRecord | undefined,
  guest: GuestSocket | undefined,
  guestLink: Link | undefined,
  { links, staying, leavingEnds, leavingGroups }: Before,
): Promise<DetachFacts> {
  const hostEnd = links.find(
    ({ name, kind, group }) =>
      isOurGroup(group) &&
      // Both ends of a pair of ours are born with one group; an ifindex says nothing in another namespace.
      (record?.hostIfname ? name === record.hostIfname : kind === 'veth' && group === guestLink?.group),
  );
  const guestLinks = guest ? listLinks(guest.rtnl) : [];
  const network = record?.network;
  const vlanLink = links.find(({ name }) => name === record?.vlanIfname);
  const bridge = links.find(
    ({ ifindex, name, kind }) =>
      kind === 'bridge' &&
      (hostEnd?.master === undefined
        ? network?.kind === 'bridge' && name === network.name
        : ifindex === hostEnd.master),
  );
  return {
    ifname,
    record,
    guestLink,
    ifb: guestLinks.find(({ name, group }) => name === ifbNameFor(ifname) && isOurGroup(group)),
    cameHome: !guestLink && record?.taken !== undefined && links.some(({ group }) => group === record.group),
    routes: guest ? listRoutes(guest.rtnl, { table: 254 }) : [],
    guestIfindexes: guestLinks
      .filter(({ group, ifindex }) => ifindex !== guestLink?.ifindex && !leavingGroups.has(group))
      .map(({ ifindex }) => ifindex),
    hostEnd,
    vlanLink,
    vlanShared:
      staying.some(({ vlanIfname }) => vlanIfname !== undefined && vlanIfname === record?.vlanIfname) ||
      links.some(
        ({ lower, linkNetnsid }) => vlanLink && linkNetnsid === undefined && lower === vlanLink.ifindex,
      ),
    bridge: bridge && {
      link: bridge,
      otherPorts: links.filter(
        ({ master, name }) => master === bridge.ifindex && name !== hostEnd?.name && !leavingEnds.has(name),
      ).length,
      // A VLAN of the bridge may have the host's addresses.
      hasAddrs:
        listAddrs(host.rtnl, bridge.ifindex).some(({ scope }) => scope === 0) ||
        links.some(({ lower, linkNetnsid }) => linkNetnsid === undefined && lower === bridge.ifindex),
    },
    firewallRule: bridge !== undefined && (await hasFirewallRule(host, bridge.name)),
    filtersForUplink: bridge !== undefined && host.state.filtersForUplink(bridge.name),
    bridgeShared: staying.some(({ network }) => network.kind === 'bridge' && network.name === bridge?.name),
    ...(await observeOvs(host, record, hostEnd, leavingEnds)),
  };
}

async function hasFirewallRule(host: Host, bridge: string): Promise<boolean> {
  const { hasRule } = await import('../firewall/docker-user.ts');
  return hasRule(host.netns, bridge);
}

async function observeOvs(
  host: Host,
  record: AttachmentRecord | undefined,
  hostEnd: Link | undefined,
  leavingEnds: ReadonlySet<string | undefined>,
): Promise<Pick<DetachFacts, 'ovsPort' | 'ovsBridge'>> {
  const name = hostEnd?.name ?? record?.hostIfname;
  if (record?.network.kind !== 'ovs' || !existsSync(host.ovsdbSocket)) {
    return { ovsPort: undefined, ovsBridge: undefined };
  }
  const db = await host.ovs();
  const [{ getPort }, { getBridge }] = await Promise.all([
    import('../ovs/port.ts'),
    import('../ovs/bridge.ts'),
  ]);
  const port = name === undefined ? undefined : await getPort(db, name);
  const bridge = await getBridge(db, port?.bridge ?? record.network.name);
  // Of a port that somebody deleted, the mirror that led to it is still there.
  const mirrored =
    name !== undefined && record.want?.mirror ? { name, bridge: record.network.name } : undefined;
  return {
    ovsPort: port ? { name: port.name, bridge: port.bridge } : mirrored,
    ovsBridge: bridge && {
      name: bridge.name,
      ours: ovsMark in bridge.externalIds,
      otherPorts: bridge.ports.filter((other) => other !== name && !leavingEnds.has(other)).length,
    },
  };
}

/** Shared steps once, however many attachments they are shared by. */
function stepsOf(departures: readonly Departure[]): Step[] {
  const shared = new Map(
    departures.flatMap(({ plan }) => plan.shared).map((step) => [describe(step.op), step]),
  );
  return [...departures.flatMap(({ plan }) => [...plan.interface, ...plan.defaults]), ...shared.values()];
}

async function run(
  host: Host,
  departures: readonly Departure[],
  staying: readonly AttachmentRecord[],
): Promise<void> {
  const failures: unknown[] = [];
  const backends = backendsOf(host);
  for (const { target, facts, guest } of departures) {
    await stopClient(host, target, facts).catch((error) => failures.push(error));
    if (facts.record?.want) await release(host, target, facts.record.want, guest);
  }
  const onHost = new Executor({ host: host.rtnl, guest: undefined }, backends);
  const ends: string[] = [];
  // At the same time: ovs-vswitchd acts on all ports that wait for it in one go, and takes 12 ms for one.
  await Promise.all(
    departures.map(async ({ guest, plan }) => {
      const executor = new Executor({ host: host.rtnl, guest: guest?.rtnl }, backends);
      const ops = plan.interface.map(({ op }) => op);
      const isEnd = (op: Operation): boolean => op.do === 'link.del' && op.side === 'host';
      failures.push(...(await executor.runAll(ops.filter((op) => !isEnd(op)))));
      ends.push(...ops.flatMap((op) => (op.do === 'link.del' && op.side === 'host' ? [op.name] : [])));
    }),
  );
  await onHost
    .delHostLinks(ends, groupOf(randomBytes(4).readUInt32LE()))
    .catch((error: unknown) => failures.push(error));
  for (const { guest, plan } of departures) {
    const executor = new Executor({ host: host.rtnl, guest: guest?.rtnl }, backends);
    failures.push(...(await executor.runAll(plan.defaults.map(({ op }) => op))));
  }
  const shared = new Map(departures.flatMap(({ plan }) => plan.shared).map(({ op }) => [describe(op), op]));
  failures.push(...(await onHost.runAll([...shared.values()])));
  if (failures.length > 0) throw failures[0];
  handOn(host, departures, staying);
  // The note goes last: until then the command can be repeated.
  for (const { target } of departures) host.state.removeRecord(containerKey(target.container), target.ifname);
}

/** Leases of our own clients go back to their servers while there is a way to them, and with them their name servers. */
async function release(
  host: Host,
  { container, ifname }: Target,
  { dns }: Attachment,
  guest: GuestSocket | undefined,
): Promise<void> {
  const has = (family: Family): boolean => host.state.hasLease(containerKey(container), ifname, family);
  if (has(4)) {
    const { releaseHeld } = await import('../dhcp/held.ts');
    releaseHeld(host, container, ifname, guest?.rtnl);
  }
  if (has(6)) {
    const { releaseHeld6 } = await import('../dhcp/held6.ts');
    releaseHeld6(host, container, ifname, guest?.rtnl);
  }
  if (!dns || container.pid === undefined) return;
  const { offerDns } = await import('../dhcp/dns/offers.ts');
  for (const family of [4, 6] as const) {
    // Where the container is gone, or its file could not be written to, there is nothing of ours.
    await offerDns(container, `${ifname}/${family}`, undefined).catch(() => {});
  }
}

async function stopClient(host: Host, { ifname }: Target, { record }: DetachFacts): Promise<void> {
  if (record?.dhcpGuest === undefined) return;
  const { stopDhcpClient } = await import('../dhcp/clients.ts');
  await stopDhcpClient({ guest: record.dhcpGuest, ifname, stateDir: host.state.path });
}

/** A route that one which goes had replaced, and that another one replaced after it, is given back by the latter. */
function handOn(host: Host, departures: readonly Departure[], staying: readonly AttachmentRecord[]): void {
  const going = departures.flatMap(({ facts: { record } }) => record ?? []);
  const replaced = new Map([...staying, ...going].map((record) => [record, record.replaced]));
  for (const { facts } of departures) {
    const { record, guestLink } = facts;
    if (!record || !guestLink) continue;
    const isThere = ({ dev }: Route): boolean => dev === guestLink.ifindex;
    for (const [other, routes] of replaced) {
      if (containerKey(other.container) !== containerKey(record.container) || !routes.some(isThere)) continue;
      replaced.set(other, [...routes.filter((route) => !isThere(route)), ...(replaced.get(record) ?? [])]);
    }
  }
  for (const other of staying) {
    const routes = replaced.get(other) ?? [];
    if (routes !== other.replaced)
      host.state.writeRecord(containerKey(other.container), { ...other, replaced: routes });
  }
}
