/** Connects a container: lock, recover, observe, plan, run, note. */

import type { Container } from '../containers/container.ts';
import { openContainerNetns } from '../containers/resolve.ts';
import { hasErrno, PipewrightError } from '../errors.ts';
import { acquireLock, type Lock } from '../kernel/lock.ts';
import { listAddrs } from '../kernel/netlink/addr.ts';
import { addNetnsId, getLink } from '../kernel/netlink/link.ts';
import { NetlinkSocket } from '../kernel/netlink/socket.ts';
import { announce } from '../kernel/packet.ts';
import { type Attachment, isInternal, isPair, type Network } from '../model/attachment.ts';
import { describe } from '../model/describe.ts';
import type { Route } from '../model/link.ts';
import { vlanIfnameFor } from '../model/naming.ts';
import type { AttachmentRecord, Observed } from '../model/observed.ts';
import type { Change, Operation, Step } from '../model/operation.ts';
import { type ObserveOptions, observeAttachment } from '../observe/attachment.ts';
import { lives } from '../observe/lives.ts';
import { HostView, NetnsView } from '../observe/view.ts';
import { formerSysctls } from '../plan/extras.ts';
import { saved } from '../plan/kept.ts';
import { changeOf, type IfPresent, planAttach } from '../plan/plan.ts';
import type { Host } from './host.ts';
import { containerKey } from './state.ts';
import { type BeforeStep, begin, type Guest, type Held, type Pending, recover } from './transaction.ts';
import { askLink, type IsLeaving, refuseKnown } from './verify.ts';

/** How an attachment is made. */
export interface AttachOptions {
  readonly ifPresent: IfPresent;
  /** Whether a bridge gets its rule in Docker's firewall. */
  readonly firewall: boolean;
  /** Plan only. */
  readonly dryRun?: boolean;
  /**
   * Runs when the interface is up and before it is final, outside the lock: a DHCP client, which may wait for ever. Its
   * failure takes the interface away again.
   */
  readonly beforeCommit?: (guest: NetlinkSocket) => Promise<void>;
  /** The container's name as that DHCP client knows it, by which it is found again. */
  readonly dhcpGuest?: string;
  /**
   * For a process that goes on: the neighbours are told in a moment, and nobody waits for that; notes of what is gone are
   * its own to sweep.
   */
  readonly isResident?: boolean;
  /** See AttachmentRecord; by default `command`. */
  readonly origin?: AttachmentRecord['origin'];
  readonly byLabel?: boolean;
  /** Is given the transaction instead of its being made final: whoever takes it commits it, or takes it back. */
  readonly hold?: ((pending: Held) => void) | undefined;
  /** Addresses that need not be asked for on the link, although the attachment says so; see Observed. */
  readonly verified?: ReadonlySet<string> | undefined;
  readonly isLeaving?: IsLeaving | undefined;
  /** Called when the lock is free again although the attachment is not made yet. */
  readonly onWait?: (() => void) | undefined;
  /** For tests. */
  readonly beforeStep?: BeforeStep;
}

/** What was done, or would be. */
export interface AttachResult {
  /** Of no meaning without steps. */
  readonly change: Change;
  readonly steps: readonly { readonly command: string; readonly because: string }[];
  /** What earlier commands have left and could still not be taken back. */
  readonly warnings: readonly string[];
  /** The host's end of the pair, where there is one. */
  readonly hostIfname: string | undefined;
}

/** Makes the interface that `want` describes in the container. @throws PipewrightError; nothing is changed then */
export async function attach(
  host: Host,
  container: Container,
  want: Attachment,
  options: AttachOptions,
): Promise<AttachResult> {
  using netns = openContainerNetns(container);
  using rtnl = NetlinkSocket.open(netns);
  const guest: Guest = { rtnl, netnsPath: container.netnsPath, label: container.name };
  // So that the agent hears when somebody changes something in there. It may have its number.
  if (options.origin === 'kept') host.rtnl.batch([addNetnsId(netns.fd)]);
  const { result, pending, asked } = await prepare(host, container, guest, want, options);
  if (!pending) return result;
  if (asked) {
    options.onWait?.();
    const { isLeaving } = options;
    await outsideLock(host, pending, () => askLink({ host, guest: rtnl, want, isLeaving }, asked.probe));
    await withLock(host, pending, () =>
      complete(host, container, guest, want, { options, pending, ...asked }),
    );
  }
  const { beforeCommit } = options;
  if (beforeCommit) await outsideLock(host, pending, () => beforeCommit(rtnl));
  const warnings = options.hold ? [] : await pending.commit();
  options.hold?.(pending);
  if (options.isResident) setImmediate(() => announceLater(container, want));
  else announceAll(guest, want, beforeCommit !== undefined);
  return { ...result, warnings: [...result.warnings, ...warnings] };
}

/** What may take its time; its failure takes back what was done so far. */
async function outsideLock(host: Host, pending: Pending, work: () => Promise<void>): Promise<void> {
  try {
    await work();
  } catch (error) {
    await withLock(host, pending, () => pending.rollBack(error));
  }
}

async function withLock<T>(host: Host, pending: Pending, work: () => Promise<T>): Promise<T> {
  let lock: Lock;
  try {
    lock = await acquireLock(host.state.lockPath);
  } catch (error) {
    pending.abandon();
    throw error;
  }
  using _lock = lock;
  // Awaited here: the lock is needed until it is done.
  return await work();
}

/** Nobody is told of a container that has ended by then. */
function announceLater(container: Container, want: Attachment): void {
  try {
    using netns = openContainerNetns(container);
    using rtnl = NetlinkSocket.open(netns);
    announceAll({ rtnl, netnsPath: container.netnsPath, label: container.name }, want, false);
  } catch (error) {
    if (!(error instanceof PipewrightError)) throw error;
  }
}

/** Tells the neighbours, of what a lease has brought as well. That nobody hears it is no failure. */
function announceAll({ rtnl }: Guest, { ifname, addrs }: Attachment, leased: boolean): void {
  const link = getLink(rtnl, ifname);
  if (!link || link.mac.length !== macLength) return;
  const cidrs = leased
    ? listAddrs(rtnl, link.ifindex).flatMap(({ scope, cidr }) => (scope === 0 ? [cidr] : []))
    : addrs.flatMap(({ cidr }) => cidr ?? []);
  try {
    announce(rtnl.netns, link.ifindex, link.mac, cidrs);
  } catch (error) {
    if (!hasErrno(error, 'ENETDOWN', 'ENXIO', 'ENODEV', 'EPERM')) throw error;
  }
}

/** Characters of an Ethernet address; an IPoIB one is longer. */
const macLength = 17;

/** What is there now, each thing asked for anew. */
function observe(host: Host, container: Container, guest: Guest, want: Attachment, options: ObserveOptions) {
  return observeAttachment(new HostView(host), container, new NetnsView(guest.rtnl), want, options);
}

/** The part that is done under the lock. */
async function prepare(
  host: Host,
  container: Container,
  guest: Guest,
  want: Attachment,
  options: AttachOptions,
) {
  using _lock = await acquireLock(host.state.lockPath);
  const warnings = options.dryRun ? [] : await recover(host);
  const { verified, isLeaving, ifPresent } = options;
  const seen = { ...(await observe(host, container, guest, want, options)), verified };
  const planned = planAttach(want, seen, ifPresent);
  // The original lets two containers have one address.
  if (ifPresent === 'converge') refuseKnown({ host, guest: guest.rtnl, want, isLeaving }, planned);
  const steps = [...planned, ...(planned.length > 0 ? await leave(host, container, want, seen) : [])];
  const result: AttachResult = {
    change: steps.length === 0 ? 'update' : changeOf(want, seen),
    steps: steps.map(({ op, because }) => ({ command: describe(op), because })),
    warnings,
    hostIfname: hostIfnameIn(steps) ?? seen.host.hostEnd?.name ?? seen.host.ovsPort?.name,
  };
  if (steps.length === 0 && !options.dryRun) noteAsked(host, seen.record, want, options);
  if (options.dryRun || steps.length === 0) return { result, pending: undefined, asked: undefined };
  if (!options.isResident || want.network.kind === 'phys') forgetSome(host, want.network);
  const probeAt = steps.findIndex(({ op }) => op.do === 'addr.probe');
  const probe = opsOf(steps).find((op) => op.do === 'addr.probe');
  // What comes after the question is planned anew when it is answered: others may have been at work meanwhile.
  const now = steps.filter((step, at) => probeAt < 0 || at < probeAt || step.final);
  const note = {
    containerKey: containerKey(container),
    ifname: want.ifname,
    was: seen.record,
    is: {
      ...noteOf(container, guest, want, seen, now),
      dhcpGuest: options.dhcpGuest ?? seen.record?.dhcpGuest,
      ...asker(options),
    },
  };
  const known = seen.host.network ? [seen.host.network] : [];
  const pending = await begin(
    host,
    guest,
    { group: seen.group, steps: now, known, note },
    options.beforeStep,
  );
  const asked = probe && { probe, former: seen.record };
  return { result, pending, asked };
}

/** The part after the question whether somebody has the addresses; under the lock as well. */
async function complete(
  host: Host,
  container: Container,
  guest: Guest,
  want: Attachment,
  { options, pending, probe, former }: Completion,
): Promise<void> {
  let seen: Observed;
  let steps: readonly Step[];
  try {
    const verified = new Set([...(options.verified ?? []), ...probe.ips]);
    const { firewall } = options;
    seen = { ...(await observe(host, container, guest, want, { firewall, former })), verified };
    // The note is that of what is wanted already; what was asked for before is in the former one.
    steps = planAttach(want, { ...seen, record: former ?? seen.record }, 'converge');
    // Two commands at once may both have heard nothing.
    refuseKnown({ host, guest: guest.rtnl, want, isLeaving: options.isLeaving }, steps);
  } catch (error) {
    return pending.rollBack(error);
  }
  const note = noteOf(container, guest, want, seen, steps);
  const { dhcpGuest } = seen.record ?? {};
  await pending.extend(steps, { ...note, dhcpGuest, ...asker(options) });
}

/** Who asked for it, as it is noted. */
function asker({ origin = 'command', byLabel }: AttachOptions): Pick<AttachmentRecord, 'origin' | 'byLabel'> {
  return { origin, byLabel: byLabel ? true : undefined };
}

/**
 * Nothing is to be done, but something is to be noted: an entry of a file may have become a label that says the same, or
 * the other way round; and whoever renews leases goes by what the note says of them.
 */
function noteAsked(
  host: Host,
  record: AttachmentRecord | undefined,
  { dhcp, ipv6, dns }: Attachment,
  options: AttachOptions,
): void {
  if (!record) return;
  const byLabel = options.origin === 'kept' ? asker(options).byLabel : record.byLabel;
  const { dhcp: formerDhcp, ipv6: formerIpv6, dns: formerDns, ...rest } = record.want ?? {};
  const isSame = JSON.stringify([dhcp, ipv6, dns]) === JSON.stringify([formerDhcp, formerIpv6, formerDns]);
  if (record.byLabel === byLabel && (isSame || !record.want)) return;
  const leased = { ...(dhcp && { dhcp }), ...(ipv6 && { ipv6 }), ...(dns && { dns }) };
  const want = record.want && { ...(rest as Attachment), ...leased };
  host.state.writeRecord(containerKey(record.container), { ...record, want, byLabel });
}

interface Completion {
  readonly options: AttachOptions;
  readonly pending: Pending;
  readonly probe: Extract<Operation, { do: 'addr.probe' }>;
  /** The note as it was before all this. */
  readonly former: AttachmentRecord | undefined;
}

/** The interface may be on another network so far, which goes when nothing uses it any more. */
async function leave(
  host: Host,
  container: Container,
  { network }: Attachment,
  { record }: Observed,
): Promise<Step[]> {
  const place = (of: Network): string => {
    if ('uplink' in of) return `${of.uplink}@${('vid' in of && of.vid) || ''}`;
    return 'name' in of ? of.name : '';
  };
  if (!record || place(record.network) === place(network)) return [];
  const { planLeave } = await import('./detach.ts');
  return planLeave(host, container, record);
}

/**
 * Notes of containers that are gone say nothing any more, but for a NIC that may have come home from there: until it is
 * given to another one. Two of them for each attachment, on average, keep those that are gone fewer than those that live.
 */
function forgetSome(host: Host, network: Network): void {
  const isSameNic = ({ network: other }: AttachmentRecord): boolean =>
    network.kind === 'phys' &&
    other.kind === 'phys' &&
    other.uplink === network.uplink &&
    other.vid === network.vid;
  if (network.kind !== 'phys' && Math.random() > 0.25) return;
  for (const record of network.kind === 'phys' ? host.state.records() : host.state.someRecords(8)) {
    const { container, ifname, taken } = record;
    if ((!taken || isSameNic(record)) && !lives(container))
      host.state.removeRecord(containerKey(container), ifname);
  }
}

const opsOf = (steps: readonly Step[]): Operation[] => steps.map(({ op }) => op);

function hostIfnameIn(steps: readonly Step[]): string | undefined {
  for (const op of opsOf(steps)) {
    if (op.do === 'link.add' && op.link.kind === 'veth') return op.name;
    if (op.do === 'ovs.port.add' && op.internal) return op.port;
  }
  return undefined;
}

/** What cannot be read back from the kernel later. */
function noteOf(
  container: Container,
  guest: Guest,
  want: Attachment,
  seen: Observed,
  steps: readonly Step[],
): AttachmentRecord {
  const { runtime, id, name, pid, startTime, netnsPath } = container;
  const { network } = want;
  const vid = 'uplink' in network && 'vid' in network ? network.vid : undefined;
  const { moving } = seen.host;
  const kept = isInternal(network) ? seen.host.ovsPort?.name : seen.host.hostEnd?.name;
  return {
    version: 1,
    container: { runtime, id, name, pid, startTime, netnsPath, netnsInode: guest.rtnl.netns.inode },
    ifname: want.ifname,
    want,
    network,
    hostIfname: hostIfnameIn(steps) ?? (isPair(network) || isInternal(network) ? kept : undefined),
    vlanIfname: vid === undefined || !('uplink' in network) ? undefined : vlanIfnameFor(network.uplink, vid),
    group: madeAnew(steps) ? seen.group : (seen.record?.group ?? seen.guest.link?.link.group ?? seen.group),
    replaced: [...(seen.record?.replaced ?? []), ...replacedBy(steps, seen)],
    rules: want.rules ?? seen.record?.rules,
    formerSysctls: formerSysctls(want, seen, steps),
    taken: moving && opsOf(steps).some((op) => op.do === 'link.give') ? saved(moving) : seen.record?.taken,
    vf:
      network.kind === 'sriov' && moving && seen.host.vf
        ? { uplink: network.uplink, index: seen.host.vf.index, was: seen.host.vf.is }
        : seen.record?.vf,
    since: Date.now(),
  };
}

function madeAnew(steps: readonly Step[]): boolean {
  return opsOf(steps).some(
    (op) =>
      op.do === 'link.give' || (op.do === 'link.add' && op.link.kind !== 'bridge' && op.link.kind !== 'vlan'),
  );
}

/** The default routes that give way, but for those of the interface itself. */
function replacedBy(steps: readonly Step[], seen: Observed): Route[] {
  const own = seen.guest.link?.link.ifindex;
  return steps
    .flatMap(({ undo }) => undo)
    .flatMap((op) => (op.do === 'route.restore' && op.route.dev !== own ? [op.route] : []));
}
