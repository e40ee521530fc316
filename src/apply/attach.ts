/** Connects a container: lock, recover, observe, plan, run, note. */

import type { Container } from '../containers/container.ts';
import { openContainerNetns } from '../containers/resolve.ts';
import { hasErrno } from '../errors.ts';
import { listAddrs } from '../kernel/netlink/addr.ts';
import { addNetnsId, getLink } from '../kernel/netlink/link.ts';
import { NetlinkSocket } from '../kernel/netlink/socket.ts';
import { announce } from '../kernel/packet.ts';
import type { Attachment, Network } from '../model/attachment.ts';
import type { Route } from '../model/link.ts';
import { vlanIfnameFor } from '../model/naming.ts';
import type { AttachmentRecord, Observed } from '../model/observed.ts';
import { describe, type Operation, type Step } from '../model/operation.ts';
import { observeAttachment } from '../observe/attachment.ts';
import { lives } from '../observe/lives.ts';
import { HostView, NetnsView } from '../observe/view.ts';
import { saved } from '../plan/attach.ts';
import { type IfPresent, planAttach } from '../plan/plan.ts';
import type { Host } from './host.ts';
import { acquireLock } from './lock.ts';
import { containerKey } from './state.ts';
import { type BeforeStep, begin, type Guest, type Pending, recover } from './transaction.ts';

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
  /** See AttachmentRecord; by default `command`. */
  readonly origin?: AttachmentRecord['origin'];
  /** Is given the transaction instead of its being made final: whoever takes it commits it, or takes it back. */
  readonly hold?: ((pending: Pending) => void) | undefined;
  /** For tests. */
  readonly beforeStep?: BeforeStep;
}

/** What was done, or would be. */
export interface AttachResult {
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
  const { result, pending } = await prepare(host, container, guest, want, options);
  if (!pending) return result;
  if (options.beforeCommit) {
    try {
      await options.beforeCommit(rtnl);
    } catch (error) {
      using _lock = await acquireLock(host.state.lockPath);
      // Awaited here: the lock and the container's socket are needed until it is done.
      return await pending.rollBack(error);
    }
  }
  const warnings = options.hold ? [] : await pending.commit();
  options.hold?.(pending);
  announceAll(guest, want, options.beforeCommit !== undefined);
  return { ...result, warnings: [...result.warnings, ...warnings] };
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
  const seen = await observeAttachment(
    new HostView(host),
    container,
    new NetnsView(guest.rtnl),
    want,
    options,
  );
  const planned = planAttach(want, seen, options.ifPresent);
  const steps = [...planned, ...(planned.length > 0 ? await leave(host, container, want, seen) : [])];
  const result: AttachResult = {
    steps: steps.map(({ op, because }) => ({ command: describe(op), because })),
    warnings,
    hostIfname: hostIfnameIn(steps) ?? seen.host.hostEnd?.name,
  };
  if (options.dryRun || steps.length === 0) return { result, pending: undefined };
  forgetSome(host);
  const note = {
    containerKey: containerKey(container),
    ifname: want.ifname,
    was: seen.record,
    is: {
      ...noteOf(container, guest, want, seen, steps),
      dhcpGuest: options.dhcpGuest ?? seen.record?.dhcpGuest,
      origin: options.origin ?? 'command',
    },
  };
  const known = seen.host.network ? [seen.host.network] : [];
  const pending = await begin(host, guest, { group: seen.group, steps, known, note }, options.beforeStep);
  return { result, pending };
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
 * Notes of containers that are gone say nothing any more, but for a NIC that may have come home from there. Two of them
 * for each attachment, on average, keep those that are gone fewer than those that live.
 */
function forgetSome(host: Host): void {
  if (Math.random() > 0.25) return;
  for (const { container, ifname, taken } of host.state.someRecords(8)) {
    if (!taken && !lives(container)) host.state.removeRecord(containerKey(container), ifname);
  }
}

const opsOf = (steps: readonly Step[]): Operation[] => steps.map(({ op }) => op);

function hostIfnameIn(steps: readonly Step[]): string | undefined {
  const made = opsOf(steps).find((op) => op.do === 'link.add' && op.link.kind === 'veth');
  return made?.do === 'link.add' ? made.name : undefined;
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
  const isPair = network.kind === 'bridge' || network.kind === 'ovs';
  return {
    version: 1,
    container: { runtime, id, name, pid, startTime, netnsPath, netnsInode: guest.rtnl.netns.inode },
    ifname: want.ifname,
    want,
    network,
    hostIfname: hostIfnameIn(steps) ?? (isPair ? seen.host.hostEnd?.name : undefined),
    vlanIfname: vid === undefined || !('uplink' in network) ? undefined : vlanIfnameFor(network.uplink, vid),
    group: madeAnew(steps) ? seen.group : (seen.record?.group ?? seen.guest.link?.link.group ?? seen.group),
    replaced: [...(seen.record?.replaced ?? []), ...replacedBy(steps, seen)],
    rules: want.rules ?? seen.record?.rules,
    taken: moving && opsOf(steps).some((op) => op.do === 'link.give') ? saved(moving) : seen.record?.taken,
    since: Date.now(),
  };
}

function madeAnew(steps: readonly Step[]): boolean {
  return opsOf(steps).some(
    (op) => op.do === 'link.give' || (op.do === 'link.add' && op.link.kind !== 'bridge'),
  );
}

/** The default routes that give way, but for those of the interface itself. */
function replacedBy(steps: readonly Step[], seen: Observed): Route[] {
  const own = seen.guest.link?.link.ifindex;
  return steps
    .flatMap(({ undo }) => undo)
    .flatMap((op) => (op.do === 'route.restore' && op.route.dev !== own ? [op.route] : []));
}
