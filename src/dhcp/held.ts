/** The lease of one interface: who the interface is to the server, its client, and what is written down of the lease. */
import { writeSync } from 'node:fs';
import type { Host } from '../apply/host.ts';
import { containerKey, type HeldLease } from '../apply/state.ts';
import type { Container } from '../containers/container.ts';
import { startTimeOf } from '../containers/proc.ts';
import { openContainerNetns } from '../containers/resolve.ts';
import { hasErrno, PipewrightError } from '../errors.ts';
import { getLink } from '../kernel/netlink/link.ts';
import { NetlinkSocket } from '../kernel/netlink/socket.ts';
import type { Netns } from '../kernel/netns.ts';
import { announce } from '../kernel/packet.ts';
import { closeInBackground, openPacketSocket } from '../kernel/packet-socket.ts';
import type { Family } from '../model/address.ts';
import type { Attachment } from '../model/attachment.ts';
import type { Lease } from '../model/lease.ts';
import type { Link } from '../model/link.ts';
import { formatNetwork } from '../observe/list.ts';
import { applyLease, removeLease } from './apply.ts';
import { hostNameOf } from './command.ts';
import { offerDns } from './dns/offers.ts';
import { clientIdOf } from './identity.ts';
import { machineId } from './machine-id.ts';
import { Dhcp4Client, leaseClock } from './v4/client.ts';
import { clientFrame } from './v4/frame.ts';
import { encodeMessage, messageTypes } from './v4/message.ts';
import { type ClientIdentity, messageOf } from './v4/requests.ts';

/** An interface that is to have a lease. */
export interface LeaseTarget {
  readonly host: Host;
  readonly container: Container;
  readonly attachment: Attachment;
}

/** What a client tells about its lease. */
export interface LeaseEvents {
  /** The interface has it now, or has it renewed. */
  bound?(lease: Lease): void;
  /** The interface has it no more. */
  lost?(lease: Lease, reason: string): void;
  /** The container's resolv.conf does not have its name servers, and why; undefined: it has. */
  names?(trouble: string | undefined): void;
  changed(): void;
}

/** The kernel's name for Ethernet, and the limits of option 57: RFC 2131 has 576 at least. */
const ethernet = 1;
const leastMessage = 576;
const mostMessage = 1500;

/** `PID:STARTTIME` of this process. */
export function ownProcess(): string {
  return `${process.pid}:${startTimeOf(process.pid) ?? ''}`;
}

/** Who an interface is to a DHCPv4 server. */
export function identityOf({ container, attachment }: LeaseTarget, link: Link): ClientIdentity {
  const { dhcp = {}, ifname, network } = attachment;
  const { clientId, hostName = hostNameOf(container.name), vendorClass, userClasses, requestAddress } = dhcp;
  const raw = Object.entries(dhcp.options ?? {}).map(
    ([code, hex]) => [code, Buffer.from(hex, 'hex')] as const,
  );
  return {
    htype: ethernet,
    chaddr: macBytes(link.mac),
    clientId:
      clientId === undefined ? clientIdOf(machineId(), container.name, ifname) : Buffer.from(clientId, 'hex'),
    ...(hostName !== '' && { hostName }),
    ...(vendorClass !== undefined && { vendorClass }),
    ...(userClasses !== undefined && { userClasses }),
    ...(requestAddress !== undefined && { requestAddress }),
    raw: Object.fromEntries(raw),
    // All interfaces of an ipvlan have one MAC address, and the NIC tells them apart by addresses that they have.
    broadcast: network.kind === 'ipvlan',
    maxMessageSize: Math.max(leastMessage, Math.min(mostMessage, link.mtu)),
    ...(dhcp.noGateway && { noGateway: true }),
  };
}

/** How many MAC addresses of earlier lives are remembered. */
const mostMacs = 8;

/**
 * MAC addresses that the interface had in earlier lives of its container, the latest first. The kernel takes a namespace
 * apart at its leisure, on a busy host for many seconds: meanwhile the former interface answers for the address that its
 * successor is to have again.
 * @param others that are known from elsewhere
 */
export function formerMacs(
  { host, container, attachment }: LeaseTarget,
  family: Family,
  mac: string,
  others: readonly string[] = [],
): string[] {
  const found = host.state.lease(containerKey(container), attachment.ifname, family);
  const all = [...(found ? [found.mac, ...(found.formerMacs ?? [])] : []), ...others];
  return [...new Set(all)].filter((one) => one !== mac).slice(0, mostMacs);
}

/**
 * The client of an interface that is there and is `link` now. It writes its lease down for whoever comes after it.
 * @param macs see {@link formerMacs}
 */
export function clientFor(
  target: LeaseTarget,
  link: Link,
  events: LeaseEvents,
  macs: readonly string[] = formerMacs(target, 4, link.mac),
): Dhcp4Client {
  const { host, container, attachment } = target;
  const { ifname } = attachment;
  const key = containerKey(container);
  const identity = identityOf(target, link);
  return new Dhcp4Client({
    ifname,
    identity,
    formerMacs: new Set(macs),
    openNetns: () => openContainerNetns(container),
    bind: (guest, lease, serverMac) => {
      const was = host.state.lease(key, ifname, 4);
      const via = serverMac ?? was?.serverMac;
      const held = heldLease(target, guest, lease, { ...identity, mac: link.mac, formerMacs: macs });
      // First, so that an address which the interface has is always on file: this process can end at any moment.
      host.state.writeLease(key, { ...held, ...(via !== undefined && { serverMac: via }) });
      const keepMtu = attachment.mtu !== undefined;
      const fresh = applyLease(guest, ifname, lease, { now: leaseClock(), was: was?.lease, keepMtu });
      tellNeighbours(guest, ifname, fresh);
      offerNames(target, lease, events);
      events.bound?.(lease);
    },
    unbind: (guest, lease, reason) => unbind(target, guest, lease, reason, events),
    onChange: events.changed,
  });
}

/** Takes a lease of either family off its interface, and what is written down of it. @throws PipewrightError */
export function unbind(
  target: LeaseTarget,
  guest: NetlinkSocket,
  lease: Lease,
  reason: string,
  events: LeaseEvents,
): void {
  const { state } = target.host;
  const { ifname } = target.attachment;
  const key = containerKey(target.container);
  const held = state.lease(key, ifname, lease.family);
  // Marked first: killed in between, whoever comes next finishes it.
  if (held) state.writeLease(key, { ...held, isLeaving: true });
  const asked = state.record(key, ifname)?.want?.addrs ?? [];
  removeLease(
    guest,
    ifname,
    lease,
    asked.flatMap(({ cidr }) => cidr ?? []),
  );
  state.removeLease(key, ifname, lease.family);
  offerNames(target, { ...lease, dns: [], search: [] }, events);
  events.lost?.(lease, reason);
}

/**
 * Puts a lease's name servers into the container's own resolv.conf, where that is asked for; without any, takes them out.
 * Nobody waits for it.
 */
export function offerNames({ container, attachment }: LeaseTarget, lease: Lease, events: LeaseEvents): void {
  if (attachment.dns !== 'container') return;
  offerDns(container, `${attachment.ifname}/${lease.family}`, lease).then(
    () => events.names?.(undefined),
    (error: unknown) => events.names?.(error instanceof Error ? error.message : String(error)),
  );
}

/** What is written down of a lease. @param who the interface is to the server */
export function heldLease(
  { container, attachment }: LeaseTarget,
  guest: NetlinkSocket,
  lease: Lease,
  who: { readonly mac: string; readonly clientId: Uint8Array; readonly formerMacs: readonly string[] },
): HeldLease {
  const { runtime, id, name, pid, startTime, netnsPath } = container;
  return {
    version: 1,
    container: { runtime, id, name, pid, startTime, netnsPath, netnsInode: guest.netns.inode },
    ifname: attachment.ifname,
    network: formatNetwork(attachment.network),
    lease,
    mac: who.mac,
    clientId: Buffer.from(who.clientId).toString('hex'),
    ...(who.formerMacs.length > 0 && { formerMacs: who.formerMacs }),
    keeper: ownProcess(),
  };
}

function tellNeighbours(guest: NetlinkSocket, ifname: string, fresh: Parameters<typeof announce>[3]): void {
  const link = getLink(guest, ifname);
  if (!link) return;
  try {
    announce(guest.netns, link.ifindex, link.mac, fresh);
  } catch (error) {
    if (!hasErrno(error, 'ENETDOWN', 'ENXIO', 'ENODEV', 'EPERM')) throw error;
  }
}

/**
 * The lease that the interface has in this life of its container, or the one of an earlier life on the same network. One
 * that was being taken off when its process ended is gone then.
 */
export function leaseOnFile(
  { host, container, attachment }: LeaseTarget,
  family: Family = 4,
): {
  readonly held?: HeldLease;
  readonly remembered?: Lease;
} {
  const found = host.state.lease(containerKey(container), attachment.ifname, family);
  if (!found) return {};
  const isPresent =
    found.container.startTime === container.startTime && found.container.pid === container.pid;
  if (isPresent && found.isLeaving) {
    using netns = openContainerNetns(container);
    using guest = NetlinkSocket.open(netns);
    removeLease(guest, attachment.ifname, found.lease);
    host.state.removeLease(containerKey(container), attachment.ifname, family);
    return {};
  }
  if (isPresent) return { held: found };
  const isSame = found.network === formatNetwork(attachment.network);
  return isSame ? { remembered: found.lease } : {};
}

/** The interface as it is now. @throws PipewrightError, when it cannot have a lease */
export function leasedLink(guest: NetlinkSocket, ifname: string): Link {
  const link = getLink(guest, ifname);
  const subject = `${ifname} in ${guest.netns.label}`;
  if (!link)
    throw new PipewrightError('NO_LEASE', { op: 'dhcp', subject, detail: 'there is no such interface' });
  if (link.arphrd === ethernet) return link;
  const detail = 'DHCP needs an Ethernet interface';
  throw new PipewrightError('NO_LEASE', { op: 'dhcp', subject, detail });
}

/**
 * Gives back the lease that an interface has, as it is about to go: one packet, whether or not the server hears it. The
 * client that renews it, if any, finds the note gone and ends.
 */
export function releaseHeld(
  host: Host,
  container: Container,
  ifname: string,
  guest: NetlinkSocket | undefined,
): void {
  const key = containerKey(container);
  const held = host.state.lease(key, ifname, 4);
  if (!held) return;
  host.state.removeLease(key, ifname, 4);
  const { lease, mac, clientId, serverMac } = held;
  const [address] = lease.addresses;
  const isOver = lease.expiresAt !== undefined && lease.expiresAt <= leaseClock();
  if (!guest || !address || isOver || !serverMac || held.container.startTime !== container.startTime) return;
  const link = getLink(guest, ifname);
  if (!link) return;
  const identity = {
    htype: ethernet,
    chaddr: macBytes(mac),
    clientId: Buffer.from(clientId, 'hex'),
    raw: {},
    broadcast: false,
    maxMessageSize: mostMessage,
  };
  const options = { messageType: messageTypes.release, serverId: lease.server };
  const { ip } = address.cidr;
  const xid = Math.floor(Math.random() * 0x1_0000_0000);
  const message = messageOf({ identity, xid, secs: 0 }, options, { ciaddr: ip });
  const ends = { srcMac: macBytes(mac), dstMac: macBytes(serverMac), srcIp: ip, dstIp: lease.server };
  sendFrame(guest.netns, link.ifindex, clientFrame(ends, encodeMessage(message)));
}

/** Straight to the server: the kernel would first ask for its MAC address, and the interface be gone before the answer. */
function sendFrame(netns: Netns, ifindex: number, frame: Uint8Array): void {
  const fd = openPacketSocket(netns, ifindex);
  try {
    writeSync(fd, frame);
  } catch {
    // The link is down; the server takes the address back when the lease is over.
  } finally {
    closeInBackground(fd);
  }
}

function macBytes(mac: string): Buffer {
  return Buffer.from(mac.replaceAll(':', ''), 'hex');
}
