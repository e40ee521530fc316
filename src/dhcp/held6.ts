/** The DHCPv6 lease of one interface: who the interface is to the server, its client, and how it is given back. */
import type { Host } from '../apply/host.ts';
import { containerKey } from '../apply/state.ts';
import type { Container } from '../containers/container.ts';
import { openContainerNetns } from '../containers/resolve.ts';
import type { NetlinkSocket } from '../kernel/netlink/socket.ts';
import { randomBytes } from '../kernel/random.ts';
import { applyLease, removeLease } from './apply.ts';
import { hostNameOf } from './command.ts';
import { formerMacs, heldLease, type LeaseEvents, type LeaseTarget, offerNames, unbind } from './held.ts';
import { duidOf, iaidOf } from './identity.ts';
import { machineId } from './machine-id.ts';
import { Dhcp6Client, leaseClock } from './v6/client.ts';
import type { RawOptions } from './v6/codec.ts';
import { interfaceIn } from './v6/interface.ts';
import { ipsOf } from './v6/lease.ts';
import { encodeMessage } from './v6/message.ts';
import type { Client } from './v6/requests.ts';
import { sendDhcp6 } from './v6/transport.ts';

/** Who an interface is to DHCPv6 servers. */
function identityOf({ container, attachment }: LeaseTarget): Omit<Client, 'stateless'> {
  const { ifname, ipv6 } = attachment;
  const { hostName = hostNameOf(container.name), ...said } = ipv6?.dhcp ?? {};
  const { duid, vendorClass, enterprise = 0, userClasses, requestAddress, options } = said;
  return {
    duid: duid === undefined ? duidOf(machineId(), container.name) : Buffer.from(duid, 'hex'),
    iaid: iaidNumberOf(ifname),
    // Servers that cannot, or are not told to, answer as if it had not been asked for.
    rapidCommit: true,
    ...(hostName !== '' && { hostname: hostName }),
    ...(requestAddress !== undefined && { requestAddress }),
    ...(userClasses !== undefined && { userClass: userClasses }),
    ...(vendorClass !== undefined && { vendorClass: { enterprise, data: [vendorClass] } }),
    ...(options !== undefined && { raw: rawOf(options) }),
  };
}

function rawOf(options: Readonly<Record<string, string>>): RawOptions {
  return Object.fromEntries(Object.entries(options).map(([code, hex]) => [code, Buffer.from(hex, 'hex')]));
}

const iaidNumberOf = (ifname: string): number => Buffer.from(iaidOf(ifname)).readUInt32BE();

/** The client of an interface that is there, as clientFor() has it. */
export function clientFor6(
  target: LeaseTarget,
  mac: string,
  events: LeaseEvents,
  macs: readonly string[] = formerMacs(target, 6, mac),
): Dhcp6Client {
  const { host, container, attachment } = target;
  const { ifname, ipv6 } = attachment;
  const key = containerKey(container);
  const identity = identityOf(target);
  return new Dhcp6Client({
    ifname,
    identity,
    when: ipv6?.mode === 'dhcp' ? 'always' : 'asTold',
    formerMacs: new Set(macs),
    openNetns: () => openContainerNetns(container),
    bind: (guest, lease, verified) => {
      const was = host.state.lease(key, ifname, 6)?.lease;
      // First, so that an address which the interface has is always on file: this process can end at any moment.
      host.state.writeLease(
        key,
        heldLease(target, guest, lease, { mac, clientId: identity.duid, formerMacs: macs }),
      );
      applyLease(guest, ifname, lease, { now: leaseClock(), was, keepMtu: true, verified });
      offerNames(target, lease, events);
      events.bound?.(lease);
    },
    unbind: (guest, lease, reason) => unbind(target, guest, lease, reason, events),
    onChange: events.changed,
  });
}

/** Gives back the lease that an interface has, as it is about to go: one packet, whether or not the server hears it. */
export function releaseHeld6(
  host: Host,
  container: Container,
  ifname: string,
  guest: NetlinkSocket | undefined,
): void {
  const key = containerKey(container);
  const held = host.state.lease(key, ifname, 6);
  if (!held) return;
  host.state.removeLease(key, ifname, 6);
  const { lease, clientId } = held;
  const isOver = lease.expiresAt !== undefined && lease.expiresAt <= leaseClock();
  if (!guest || isOver || lease.addresses.length === 0) return;
  if (held.container.startTime !== container.startTime) return;
  try {
    const { ifindex, linkLocal } = interfaceIn(guest, ifname);
    if (linkLocal === undefined) return;
    const addrs = ipsOf(lease).map((ip) => ({ ip, preferred: 0, valid: 0 }));
    const message = encodeMessage({
      type: 'release',
      xid: randomBytes(3).readUIntBE(0, 3),
      clientId: Buffer.from(clientId, 'hex'),
      serverId: Buffer.from(lease.server, 'hex'),
      elapsed: 0,
      iaNas: [{ iaid: iaidNumberOf(ifname), t1: 0, t2: 0, addrs }],
    });
    // Section 18.2.7: not used any more when the server hears of it.
    removeLease(guest, ifname, lease);
    sendDhcp6({ netns: guest.netns, ifname, ifindex, linkLocal }, message);
  } catch {
    // The interface is down or gone; the server takes the addresses back when the lease is over.
  }
}
