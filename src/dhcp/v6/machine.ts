/**
 * A DHCPv6 client as a pure function: state and event to state and effects, RFC 8415 section 18.2.
 *
 * Left out: prefix delegation (IA_PD), temporary addresses (IA_TA), Reconfigure and authentication.
 * Section 18.2.1 has a first Solicit wait for up to a second, so that many hosts do not ask at once; here the kernel's
 * duplicate address detection of the link-local address, which has to be over first, has waited as long already.
 */
import type { Lease } from '../../model/lease.ts';
import { answered } from './answers.ts';
import { endOfAddress, ipsOf, timesOf } from './lease.ts';
import { type Client, compose } from './requests.ts';
import { type Backoff, backoffs, type Exchange, firstSend, nextSend } from './retransmit.ts';
import type { Asking, Effect, Event, Moment, Outcome, State } from './state.ts';

/** Before anything has happened. */
export const begun: State = {
  at: 'waiting',
  lease: undefined,
  limits: { solMaxMs: backoffs.solicit.maxMs, infMaxMs: backoffs.informationRequest.maxMs },
};

/** Milliseconds of a pause, see Phase in state.ts. */
export const pauseMs = 10_000;

/** One step. */
export function step(client: Client, state: State, event: Event, moment: Moment): Outcome {
  switch (event.on) {
    case 'start':
      return start(client, state, event.remembered, moment);
    case 'resume': {
      const { lease } = event;
      const at = lease.addresses.length === 0 ? 'informed' : 'bound';
      return onTimer(client, { at, lease, limits: state.limits }, moment);
    }
    case 'ready':
      return state.at === 'waiting' ? ready(client, state, moment) : { state, effects: [] };
    case 'packet':
      return answered(client, state, event, moment);
    case 'timer':
      return onTimer(client, state, moment);
    case 'linkup': {
      const lease = leaseOf(state);
      if (lease === undefined || lease.addresses.length === 0 || state.at === 'waiting')
        return { state, effects: [] };
      return begin(client, { at: 'confirming', lease, limits: state.limits, ...blank }, moment);
    }
    case 'duplicate':
      return decline(client, state, event.ips, moment);
    case 'release':
      return release(client, state, moment);
  }
}

/** When the state wants a `timer` event; Infinity: never. */
export function wakeAt(state: State): number {
  const held = heldUntil(state);
  switch (state.at) {
    case 'stopped':
      return Number.POSITIVE_INFINITY;
    case 'waiting':
      return held;
    case 'pausing':
      return state.until;
    case 'bound':
      return Math.min(timesOf(state.lease).renewAt, held);
    case 'informed':
      return timesOf(state.lease).renewAt;
    case 'renewing':
      return Math.min(state.exchange.dueAt, timesOf(state.lease).rebindAt, held);
    default:
      return Math.min(state.exchange.dueAt, held);
  }
}

/** The lease in use. */
export function leaseOf(state: State): Lease | undefined {
  switch (state.at) {
    case 'requesting':
      return state.held;
    case 'stopped':
    case 'pausing':
    case 'soliciting':
    case 'releasing':
      return undefined;
    default:
      return state.lease;
  }
}

/** When the first address of the lease in use ends. */
function heldUntil(state: State): number {
  return Math.min(Number.POSITIVE_INFINITY, ...(leaseOf(state)?.addresses ?? []).map(endOfAddress));
}

const nothing: Exchange = { backoff: backoffs.request, startedAt: 0, count: 0, timeoutMs: 0, dueAt: 0 };
/** For a state whose exchange {@link begin} makes. */
export const blank: Asking = { exchange: nothing, xid: 0 };

/** The backoff of a state's messages. */
function backoffOf(state: State & Asking): Backoff {
  const { solMaxMs, infMaxMs } = state.limits;
  switch (state.at) {
    case 'soliciting':
      return { ...backoffs.solicit, maxMs: solMaxMs };
    case 'informing':
      return { ...backoffs.informationRequest, maxMs: infMaxMs };
    case 'requesting':
      return backoffs.request;
    case 'confirming':
      return backoffs.confirm;
    case 'renewing':
      return backoffs.renew;
    case 'rebinding':
      return backoffs.rebind;
    case 'declining':
      return backoffs.decline;
    default:
      return backoffs.release;
  }
}

type AskingState = Extract<State, Asking>;

/** Enters a state and sends its first message. */
export function begin(client: Client, state: AskingState, { now, random, xid }: Moment): Outcome {
  const exchange = firstSend(backoffOf(state), now, random, state.at === 'soliciting');
  const next = { ...state, exchange, xid };
  return { state: next, effects: [{ do: 'send', message: compose(client, next, now) }] };
}

/** Asks for a lease from the beginning, or for what else there is to know where no addresses are wanted. */
export function beginAnew(client: Client, { limits }: State, moment: Moment): Outcome {
  return client.stateless
    ? begin(client, { at: 'informing', lease: undefined, limits, ...blank }, moment)
    : begin(client, { at: 'soliciting', offers: [], limits, ...blank }, moment);
}

/** Begins anew after a pause. */
export function pause({ limits }: State, { now, random }: Moment): Outcome {
  return { state: { at: 'pausing', until: now + pauseMs * (0.9 + random / 5), limits }, effects: [] };
}

/** `effects` come before those of `outcome`. */
export function after(effects: readonly Effect[], outcome: Outcome): Outcome {
  return { ...outcome, effects: [...effects, ...outcome.effects] };
}

function start(client: Client, { limits }: State, remembered: Lease | undefined, { now }: Moment): Outcome {
  const isGood =
    remembered !== undefined &&
    !client.stateless &&
    remembered.addresses.length > 0 &&
    timesOf(remembered).expiresAt > now;
  const state = { at: 'waiting', lease: isGood ? remembered : undefined, limits } as const;
  // It is the same network as before and the server's word still holds, so there is nothing to wait for.
  return { state, effects: isGood ? [{ do: 'bind', lease: remembered }] : [] };
}

function ready(client: Client, state: Extract<State, { at: 'waiting' }>, moment: Moment): Outcome {
  const { lease, limits } = state;
  if (lease === undefined) return beginAnew(client, state, moment);
  return begin(client, { at: 'confirming', lease, limits, ...blank }, moment);
}

function onTimer(client: Client, state: State, moment: Moment): Outcome {
  const expired = dropExpired(client, state, moment);
  if (expired) return expired;
  const { now } = moment;
  switch (state.at) {
    case 'stopped':
    case 'waiting':
      return { state, effects: [] };
    case 'pausing':
      return now < state.until ? { state, effects: [] } : beginAnew(client, state, moment);
    case 'informed': {
      const { lease, limits } = state;
      if (now < timesOf(lease).renewAt) return { state, effects: [] };
      return begin(client, { at: 'informing', lease, limits, ...blank }, moment);
    }
    case 'bound':
      return now < timesOf(state.lease).renewAt
        ? { state, effects: [] }
        : renew(client, state, state.lease, moment);
    case 'renewing':
      if (now >= timesOf(state.lease).rebindAt) return renew(client, state, state.lease, moment);
      return again(client, state, moment);
    default:
      return again(client, state, moment);
  }
}

/** Renew, or Rebind once that is due. */
export function renew(client: Client, { limits }: State, lease: Lease, moment: Moment): Outcome {
  const isLate = moment.now >= timesOf(lease).rebindAt;
  const outcome = begin(client, { at: isLate ? 'rebinding' : 'renewing', lease, limits, ...blank }, moment);
  const text = 'the server did not renew the lease; every server is asked';
  return isLate ? after([{ do: 'tell', text }], outcome) : outcome;
}

/** Addresses whose time is over go; with the last of them the lease does. */
function dropExpired(client: Client, state: State, moment: Moment): Outcome | undefined {
  const lease = leaseOf(state);
  const isOver = (one: Lease['addresses'][number]): boolean => endOfAddress(one) <= moment.now;
  if (lease === undefined || !lease.addresses.some(isOver)) return undefined;
  const rest = without(lease, isOver);
  if (rest) return after([{ do: 'bind', lease: rest }], onTimer(client, withLease(state, rest), moment));
  const reason =
    state.at === 'bound' || state.at === 'waiting'
      ? 'its time was over'
      : 'it was not renewed in time: no server answered, or none that would';
  const unbind: Effect = { do: 'unbind', lease, reason };
  if (state.at === 'declining' || state.at === 'requesting' || state.at === 'waiting')
    return after([unbind], onTimer(client, withLease(state, undefined), moment));
  return after([unbind], beginAnew(client, state, moment));
}

/** A lease without some of its addresses; undefined when none is left. */
export function without(
  lease: Lease,
  isGone: (address: Lease['addresses'][number]) => boolean,
): Lease | undefined {
  const addresses = lease.addresses.filter((one) => !isGone(one));
  if (addresses.length === 0) return undefined;
  const { expiresAt: _, ...rest } = lease;
  const expiresAt = Math.max(...addresses.map(endOfAddress));
  return { ...rest, addresses, ...(expiresAt !== Number.POSITIVE_INFINITY && { expiresAt }) };
}

function withLease(state: State, lease: Lease | undefined): State {
  if (state.at === 'requesting') return { ...state, held: lease };
  if (state.at === 'declining' || state.at === 'waiting') return { ...state, lease };
  return lease === undefined ? state : ({ ...state, lease } as State);
}

/** Sends a message again, or gives its exchange up. */
function again(client: Client, state: AskingState, moment: Moment): Outcome {
  const { now, random } = moment;
  if (now < state.exchange.dueAt) return { state, effects: [] };
  if (state.at === 'soliciting' && state.offers.length > 0) return choose(client, state, moment);
  // A server may have changed its limit meanwhile.
  const exchange = nextSend({ ...state.exchange, backoff: backoffOf(state) }, now, random);
  if (exchange === undefined) return givenUp(client, state, moment);
  const next = { ...state, exchange };
  return { state: next, effects: [{ do: 'send', message: compose(client, next, now) }] };
}

/** What follows when nobody answered as often as is asked. */
function givenUp(client: Client, state: AskingState, moment: Moment): Outcome {
  const { limits } = state;
  switch (state.at) {
    case 'confirming':
      // Section 18.2.3: the lease is as good as it was.
      return onTimer(client, { at: 'bound', lease: state.lease, limits }, moment);
    case 'requesting':
      return nextOffer(client, state, 'it did not answer', moment);
    case 'declining':
      return declined(client, state, moment);
    case 'releasing':
      return { state: { at: 'stopped', limits }, effects: [] };
    default:
      return beginAnew(client, state, moment);
  }
}

/** Requests the best of what was offered: by preference, then whoever came first (section 18.2.9). */
export function choose(
  client: Client,
  { offers, limits }: Extract<State, { at: 'soliciting' }>,
  moment: Moment,
): Outcome {
  const [offer, ...others] = offers.toSorted((a, b) => b.preference - a.preference);
  if (offer === undefined) throw new Error('nothing was offered');
  return begin(client, { at: 'requesting', offer, others, held: undefined, limits, ...blank }, moment);
}

/** A server takes back what it had offered: the next one is asked, or all anew. */
export function nextOffer(
  client: Client,
  state: Extract<State, { at: 'requesting' }>,
  why: string,
  moment: Moment,
): Outcome {
  const [offer, ...others] = state.others;
  const { held, limits } = state;
  const told: Effect = { do: 'tell', text: `the server ${state.offer.from} gave no address: ${why}` };
  if (offer)
    return after([told], begin(client, { at: 'requesting', offer, others, held, limits, ...blank }, moment));
  // What is held of earlier is still good: other servers may know of it.
  if (held) return after([told], begin(client, { at: 'rebinding', lease: held, limits, ...blank }, moment));
  return after([told], pause(state, moment));
}

function decline(client: Client, state: State, ips: readonly string[], moment: Moment): Outcome {
  const lease = leaseOf(state);
  const gone = lease ? ipsOf(lease).filter((ip) => ips.includes(ip)) : [];
  if (lease === undefined || gone.length === 0) return { state, effects: [] };
  const rest = without(lease, ({ cidr }) => gone.includes(cidr.ip));
  const { limits } = state;
  const reason = `another host on the network has ${gone.join(', ')}: the server is told (Decline)`;
  return after(
    rest
      ? [
          { do: 'tell', text: reason },
          { do: 'bind', lease: rest },
        ]
      : [{ do: 'unbind', lease, reason }],
    begin(
      client,
      { at: 'declining', ips: gone, serverId: lease.server, lease: rest, limits, ...blank },
      moment,
    ),
  );
}

/** After a Decline: the rest of the lease goes on, or a new one is asked for. */
export function declined(
  client: Client,
  state: Extract<State, { at: 'declining' }>,
  moment: Moment,
): Outcome {
  if (state.lease === undefined) return pause(state, moment);
  return onTimer(client, { at: 'bound', lease: state.lease, limits: state.limits }, moment);
}

function release(client: Client, state: State, moment: Moment): Outcome {
  const { limits } = state;
  const lease = leaseOf(state);
  if (lease === undefined) return { state: { at: 'stopped', limits }, effects: [] };
  // Section 18.2.7: it is not used any more when the server hears of it.
  const unbind: Effect = { do: 'unbind', lease, reason: 'it is given back' };
  if (lease.addresses.length === 0) return { state: { at: 'stopped', limits }, effects: [unbind] };
  return after([unbind], begin(client, { at: 'releasing', lease, limits, ...blank }, moment));
}
