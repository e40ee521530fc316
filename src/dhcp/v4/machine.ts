/**
 * The client's state machine of RFC 2131, figure 5, as one function: (machine, event, time, random) -> (machine, effects).
 * Pure: sockets, timers and the interface are the driver's (client.ts).
 *
 * What differs from the letter of the RFC, and why, is in docs/design/007-dhcp.md.
 */
import type { Lease } from '../../model/lease.ts';
import { leaseOf } from './lease.ts';
import { type DhcpMessage, messageTypes } from './message.ts';
import { type ClientIdentity, discover, type ExchangeHeader, messageOf, request } from './requests.ts';
import {
  backoff,
  declineWait,
  pause,
  probePatience,
  type Random,
  rebootTries,
  refusalPause,
  requestTries,
  second,
} from './timing.ts';

/** RFC 2131, figure 5; PROBING and DECLINED are the parts of 4.4.1 that it does not draw. */
export type Phase =
  | 'INIT'
  | 'SELECTING'
  | 'REQUESTING'
  | 'REBOOTING'
  | 'PROBING'
  | 'BOUND'
  | 'RENEWING'
  | 'REBINDING'
  | 'DECLINED'
  | 'STOPPED';

/** Where a client is. Times are milliseconds of one clock that never goes back. */
export interface Machine {
  readonly phase: Phase;
  readonly identity: ClientIdentity;
  /** Of the exchange under way. */
  readonly xid: number;
  /** When the exchange began: with its first REQUEST, once there is one. A lease counts from then (RFC 2131, 4.4.1). */
  readonly began: number;
  /** Of the last DISCOVER: the REQUEST for its offer has the same, so that a relay treats both alike (RFC 2131, 4.4.1). */
  readonly secs: number;
  /** Transmissions of the present message. */
  readonly sent: number;
  /** When the machine wants to be called with `timer`; absent: never. */
  readonly wakeAt?: number;
  /** The lease in use, or the one that is remembered, or (PROBING) the one that is looked at before use. */
  readonly lease?: Lease;
  /** The offer that is taken. */
  readonly offer?: { readonly ip: string; readonly server: string };
  /** Refusals in a row, so that a server which refuses everything is not asked all the time. */
  readonly refusals: number;
  /** Whether the interface has the address of `lease` now. */
  readonly isBound: boolean;
  /** Why there is no lease, or why the last one went. */
  readonly reason?: string;
}

export type Event =
  /** Begins, with what is remembered of an earlier lease. */
  | { readonly on: 'start'; readonly remembered?: Lease }
  /** Goes on with a lease that is in use: the program was started again, the container was not. */
  | { readonly on: 'resume'; readonly lease: Lease }
  | { readonly on: 'packet'; readonly message: DhcpMessage }
  | { readonly on: 'timer' }
  /** The link has carrier again: it may be another network (RFC 2131, 3.7). */
  | { readonly on: 'linkup' }
  /** The ARP probe is over. */
  | { readonly on: 'probed'; readonly ip: string; readonly usedBy?: string }
  /** Gives the lease back and ends. */
  | { readonly on: 'release' };

export type Effect =
  /** To everybody, from 0.0.0.0 or from the address that is in use. */
  | { readonly do: 'broadcast'; readonly message: DhcpMessage }
  /** To the server, from the address that is in use. */
  | { readonly do: 'unicast'; readonly message: DhcpMessage; readonly server: string }
  /** Looks whether another host has the address, and answers with `probed`; one that was ours a while ago, briefly. */
  | { readonly do: 'probe'; readonly ip: string; readonly brief: boolean }
  /** The interface is to be as the lease says: its address and all else; what an earlier lease gave goes. */
  | { readonly do: 'bind'; readonly lease: Lease }
  /** What the lease gave goes. */
  | { readonly do: 'unbind'; readonly lease: Lease; readonly reason: string };

export interface Turn {
  readonly machine: Machine;
  readonly effects: readonly Effect[];
}

/** A client that has done nothing yet. */
export function newMachine(identity: ClientIdentity): Machine {
  return { phase: 'INIT', identity, xid: 0, began: 0, secs: 0, sent: 0, refusals: 0, isBound: false };
}

/** One turn. Events that mean nothing in the present phase change nothing. */
export function step(machine: Machine, event: Event, now: number, random: Random): Turn {
  if (machine.phase === 'STOPPED') return stay(machine);
  switch (event.on) {
    case 'start':
      return start(machine, event.remembered, now, random);
    case 'resume':
      return resume(machine, event.lease, now, random);
    case 'packet':
      return packet(machine, event.message, now, random);
    case 'timer':
      return machine.wakeAt !== undefined && now >= machine.wakeAt
        ? timer(machine, now, random)
        : stay(machine);
    case 'linkup':
      return linkup(machine, now, random);
    case 'probed':
      return probed(machine, event, now, random);
    case 'release':
      return release(machine, now, random);
  }
}

const stay = (machine: Machine): Turn => ({ machine, effects: [] });

/** Puts the effects of one turn before those of the next. */
function then(effects: readonly Effect[], { machine, effects: more }: Turn): Turn {
  return { machine, effects: [...effects, ...more] };
}

const newXid = (random: Random): number => Math.floor(random() * 0x1_0000_0000);

function isValid(lease: Lease | undefined, now: number): lease is Lease {
  return lease !== undefined && (lease.expiresAt === undefined || lease.expiresAt > now);
}

const ipOf = (lease: Lease): string => lease.addresses[0]?.cidr.ip ?? '0.0.0.0';

function start(machine: Machine, remembered: Lease | undefined, now: number, random: Random): Turn {
  const fresh: Machine = { ...newMachine(machine.identity), ...(remembered && { lease: remembered }) };
  // One that has run out is asked for all the same: in a DISCOVER, which any server may answer with it.
  return isValid(remembered, now) ? reboot(fresh, now, random) : select(fresh, now, random);
}

function resume(machine: Machine, lease: Lease, now: number, random: Random): Turn {
  const held: Machine = { ...newMachine(machine.identity), lease, isBound: true };
  if (!isValid(lease, now)) return expire(held, now, random);
  // Once more on the interface: it may have been changed while nobody looked.
  return then([{ do: 'bind', lease }], rest(held, now, random));
}

/** To SELECTING, with a first DISCOVER. */
function select(machine: Machine, now: number, random: Random): Turn {
  const { offer: _, ...rest } = machine;
  return sendDiscover({ ...rest, phase: 'SELECTING', xid: newXid(random), began: now, sent: 0 }, now, random);
}

function sendDiscover(machine: Machine, now: number, random: Random): Turn {
  const sent = machine.sent + 1;
  const wanted = machine.lease ? ipOf(machine.lease) : machine.identity.requestAddress;
  const header = headerOf(machine, now);
  return {
    machine: { ...machine, sent, secs: header.secs, wakeAt: now + backoff(sent, random) },
    effects: [{ do: 'broadcast', message: discover(header, wanted) }],
  };
}

const headerOf = (
  { identity, xid, began }: Pick<Machine, 'identity' | 'xid' | 'began'>,
  now: number,
): ExchangeHeader => ({
  identity,
  xid,
  secs: Math.min(0xffff, Math.max(0, Math.floor((now - began) / second))),
});

/** To REBOOTING: the remembered address, if it is still right here. */
function reboot(machine: Machine, now: number, random: Random): Turn {
  return sendReboot(
    { ...machine, phase: 'REBOOTING', xid: newXid(random), began: now, sent: 0 },
    now,
    random,
  );
}

function sendReboot(machine: Machine, now: number, random: Random): Turn {
  const sent = machine.sent + 1;
  const requestedAddress = machine.lease ? ipOf(machine.lease) : '0.0.0.0';
  return {
    machine: { ...machine, sent, wakeAt: now + backoff(sent, random) },
    effects: [{ do: 'broadcast', message: request(headerOf(machine, now), { requestedAddress }) }],
  };
}

function sendRequest(machine: Machine, now: number, random: Random): Turn {
  const { offer } = machine;
  if (!offer) return select(machine, now, random);
  const sent = machine.sent + 1;
  const { identity, xid, secs } = machine;
  const asked = { requestedAddress: offer.ip, serverId: offer.server };
  return {
    machine: { ...machine, phase: 'REQUESTING', sent, wakeAt: now + backoff(sent, random) },
    effects: [{ do: 'broadcast', message: request({ identity, xid, secs }, asked) }],
  };
}

function packet(machine: Machine, message: DhcpMessage, now: number, random: Random): Turn {
  const { identity, xid, phase } = machine;
  const isOurs =
    message.op === 2 && message.xid === xid && Buffer.compare(message.chaddr, identity.chaddr) === 0;
  if (!isOurs) return stay(machine);
  const { messageType, serverId } = message.options;
  if (phase === 'SELECTING' && messageType === messageTypes.offer) return take(machine, message, now, random);
  const waits = ['REQUESTING', 'REBOOTING', 'RENEWING', 'REBINDING'].includes(phase);
  if (!waits) return stay(machine);
  // Only the server that was chosen has a say.
  if (phase === 'REQUESTING' && serverId !== machine.offer?.server) return stay(machine);
  if (messageType === messageTypes.nak) return refused(machine, message, now, random);
  return messageType === messageTypes.ack ? granted(machine, message, now, random) : stay(machine);
}

/** The first good offer. */
function take(machine: Machine, message: DhcpMessage, now: number, random: Random): Turn {
  const lease = leaseOf(message, machine.identity, now);
  if (!lease) return stay(machine);
  const offer = { ip: message.yiaddr, server: lease.server };
  return sendRequest({ ...machine, offer, sent: 0, began: now }, now, random);
}

function granted(machine: Machine, message: DhcpMessage, now: number, random: Random): Turn {
  const { identity, isBound } = machine;
  const lease = leaseOf(message, identity, machine.began);
  if (!isValid(lease, now)) return stay(machine);
  const inUse = isBound ? machine.lease : undefined;
  if (inUse && ipOf(inUse) === ipOf(lease))
    return then([{ do: 'bind', lease }], rest({ ...machine, lease }, now, random));
  const gone = inUse ? [unbind(inUse, 'the server gave another address')] : [];
  const brief = machine.lease !== undefined && ipOf(machine.lease) === ipOf(lease);
  return then(gone, probe({ ...machine, lease, isBound: false }, brief, now));
}

/** To PROBING: an address that is new here is looked at before use. */
function probe({ offer: _, ...machine }: Machine, brief: boolean, now: number): Turn {
  const ip = machine.lease ? ipOf(machine.lease) : '0.0.0.0';
  return {
    machine: { ...machine, phase: 'PROBING', sent: 0, wakeAt: now + probePatience },
    effects: [{ do: 'probe', ip, brief }],
  };
}

const unbind = (lease: Lease, reason: string): Effect => ({ do: 'unbind', lease, reason });

/** To BOUND, until T1. */
function rest(machine: Machine, now: number, random: Random): Turn {
  const { wakeAt: _, offer: __, reason: ___, ...kept } = machine;
  const { renewAt, since = now } = machine.lease ?? {};
  // Clients that began together are not to renew together (RFC 2131, 4.4.5). Earlier only, by a twentieth.
  const early = renewAt === undefined ? 0 : (renewAt - since) * 0.05 * random();
  const wakeAt = renewAt === undefined ? {} : { wakeAt: Math.max(now, renewAt - early) };
  return stay({ ...kept, phase: 'BOUND', sent: 0, refusals: 0, ...wakeAt });
}

function probed(
  machine: Machine,
  { ip, usedBy }: { readonly ip: string; readonly usedBy?: string },
  now: number,
  random: Random,
): Turn {
  const { lease, phase } = machine;
  if (phase !== 'PROBING' || !lease || ipOf(lease) !== ip) return stay(machine);
  if (usedBy !== undefined) return decline(machine, lease, usedBy, now);
  // It ran out while it was looked for.
  if (!isValid(lease, now)) return select({ ...newMachine(machine.identity), lease }, now, random);
  return then([{ do: 'bind', lease }], rest({ ...machine, isBound: true }, now, random));
}

/** RFC 2131, 4.4.1 and 4.4.4: somebody has the address. */
function decline(machine: Machine, lease: Lease, usedBy: string, now: number): Turn {
  const reason = `${ipOf(lease)} was refused: ${usedBy} has it`;
  const message = messageOf(headerOf(machine, now), {
    messageType: messageTypes.decline,
    requestedAddress: ipOf(lease),
    serverId: lease.server,
    message: `in use by ${usedBy}`,
  });
  return {
    machine: {
      ...newMachine(machine.identity),
      phase: 'DECLINED',
      xid: machine.xid,
      reason,
      wakeAt: now + declineWait,
    },
    effects: [...(machine.isBound ? [unbind(lease, reason)] : []), { do: 'broadcast', message }],
  };
}

function refused(machine: Machine, message: DhcpMessage, now: number, random: Random): Turn {
  const { lease, isBound } = machine;
  const said = message.options.message;
  const what = lease && isBound ? ipOf(lease) : (machine.offer?.ip ?? (lease && ipOf(lease)));
  const reason = `the server ${message.options.serverId ?? ''} refused ${what}${said ? `: ${said}` : ''}`;
  const refusals = machine.refusals + 1;
  const effects = isBound && lease ? [unbind(lease, reason)] : [];
  const fresh = { ...newMachine(machine.identity), refusals, reason };
  // At once the first time, as the RFC says.
  if (refusals === 1) return then(effects, select(fresh, now, random));
  return { machine: { ...fresh, wakeAt: now + refusalPause(refusals, random) }, effects };
}

function timer(machine: Machine, now: number, random: Random): Turn {
  const { lease, phase } = machine;
  switch (phase) {
    case 'SELECTING':
      return sendDiscover(machine, now, random);
    case 'REQUESTING':
      if (machine.sent < requestTries) return sendRequest(machine, now, random);
      return select(
        { ...machine, reason: `${machine.offer?.server} made an offer and then fell silent` },
        now,
        random,
      );
    case 'REBOOTING':
      if (machine.sent < rebootTries) return sendReboot(machine, now, random);
      return unconfirmed(machine, now, random);
    case 'BOUND':
    case 'RENEWING':
    case 'REBINDING':
      return lease ? extend(machine, lease, now, random) : stay(machine);
    case 'INIT':
    case 'DECLINED':
      return select(machine, now, random);
    case 'PROBING':
      return select({ ...machine, reason: 'it could not be seen whether the address is free' }, now, random);
    case 'STOPPED':
      return stay(machine);
  }
}

/** No server answers. RFC 2131, 3.2, step 4: a lease that has time left may be used for the rest of it. */
function unconfirmed(machine: Machine, now: number, random: Random): Turn {
  const { lease } = machine;
  if (!isValid(lease, now)) return select(machine, now, random);
  // Verified while in use, after the link came back: it has been probed before.
  if (machine.isBound) return rest(machine, now, random);
  return probe(machine, true, now);
}

/** Past T1: to the server that gave it; past T2: to any; past the end: it is over. */
function extend(machine: Machine, lease: Lease, now: number, random: Random): Turn {
  const { renewAt, rebindAt, expiresAt } = lease;
  if (renewAt === undefined || rebindAt === undefined || expiresAt === undefined) return stay(machine);
  if (now >= expiresAt) return expire(machine, now, random);
  const phase = now >= rebindAt ? 'REBINDING' : 'RENEWING';
  const begins = machine.phase !== phase;
  const next: Machine = {
    ...machine,
    phase,
    ...(machine.phase === 'BOUND' ? { xid: newXid(random), began: now } : {}),
    sent: begins ? 1 : machine.sent + 1,
  };
  const until = phase === 'RENEWING' ? rebindAt : expiresAt;
  const message = request(headerOf(next, now), { ciaddr: ipOf(lease) });
  return {
    machine: { ...next, wakeAt: Math.min(until, now + pause(until - now, expiresAt - lease.since)) },
    effects: [
      phase === 'RENEWING' ? { do: 'unicast', message, server: lease.server } : { do: 'broadcast', message },
    ],
  };
}

function expire(machine: Machine, now: number, random: Random): Turn {
  const { lease, identity } = machine;
  const reason = `the lease of ${lease ? ipOf(lease) : ''} ended, and no server renewed it`;
  const fresh = { ...newMachine(identity), ...(lease && { lease }), reason };
  return then(lease ? [unbind(lease, reason)] : [], select(fresh, now, random));
}

function linkup(machine: Machine, now: number, random: Random): Turn {
  const { phase, lease } = machine;
  if (phase === 'SELECTING' || phase === 'INIT') return select(machine, now, random);
  const inUse = phase === 'BOUND' || phase === 'RENEWING' || phase === 'REBINDING';
  return inUse && isValid(lease, now) ? reboot(machine, now, random) : stay(machine);
}

function release(machine: Machine, now: number, random: Random): Turn {
  const { lease, isBound, identity } = machine;
  const stopped: Machine = { ...newMachine(identity), phase: 'STOPPED' };
  if (!lease || !isBound || !isValid(lease, now)) return stay(stopped);
  const header = headerOf({ identity, xid: newXid(random), began: now }, now);
  const message = messageOf(
    header,
    { messageType: messageTypes.release, serverId: lease.server },
    { ciaddr: ipOf(lease) },
  );
  return {
    machine: stopped,
    effects: [{ do: 'unicast', message, server: lease.server }, unbind(lease, 'it was given back')],
  };
}
