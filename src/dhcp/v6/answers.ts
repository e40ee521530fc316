/** What a client makes of a server's answer, RFC 8415 sections 16.3, 16.10 and 18.2.9 to 18.2.10. Pure. */
import type { Lease } from '../../model/lease.ts';
import { configOf, hasAddrs, iaOf, ipsOf, leaseFrom, namesAddrs, refusalOf, timesOf } from './lease.ts';
import { after, begin, beginAnew, blank, choose, declined, nextOffer, renew } from './machine.ts';
import { type Message, statusCodes } from './message.ts';
import type { Client, Offer } from './requests.ts';
import type { Effect, Event, Limits, Moment, Outcome, State } from './state.ts';

type Received = Extract<Event, { on: 'packet' }>;

/** A preference that no other can outdo. */
const highestPreference = 255;
/** Section 7.6, milliseconds. */
const refreshDefaultMs = 86_400_000;
const refreshMinimumMs = 600_000;

/** One message came. What is not for this client, or not for this moment, is passed over. */
export function answered(client: Client, state: State, received: Received, moment: Moment): Outcome {
  const { message } = received;
  if (!('xid' in state) || message.xid !== state.xid || !isForUs(client, state, message))
    return { state, effects: [] };
  const known = { ...state, limits: limitsFrom(state.limits, message) };
  if (message.type === 'advertise')
    return known.at === 'soliciting' ? offered(client, known, received, moment) : { state, effects: [] };
  if (message.type !== 'reply') return { state, effects: [] };
  switch (known.at) {
    case 'soliciting':
      // Section 18.2.1: a Reply counts only when both have agreed on it.
      if (!client.rapidCommit || !message.rapidCommit) return { state, effects: [] };
      return given(client, known, undefined, received, moment) ?? { state: known, effects: [] };
    case 'requesting':
      return requested(client, known, received, moment);
    case 'confirming':
      return confirmed(client, known, received, moment);
    case 'renewing':
    case 'rebinding':
      return renewed(client, known, received, moment);
    case 'declining':
      return declined(client, known, moment);
    case 'releasing':
      return { state: { at: 'stopped', limits: known.limits }, effects: [] };
    case 'informing':
      return informed(known, received, moment);
  }
}

/** Sections 16.3 and 16.10: both identifiers, ours being ours; and who was asked answers. */
function isForUs(client: Client, state: State, { clientId, serverId }: Message): boolean {
  if (serverId === undefined) return false;
  // An Information-Request may be answered without it.
  if (clientId === undefined ? state.at !== 'informing' : Buffer.compare(clientId, client.duid) !== 0)
    return false;
  const asked = askedServer(state);
  return asked === undefined || asked === Buffer.from(serverId).toString('hex');
}

function askedServer(state: State): string | undefined {
  switch (state.at) {
    case 'requesting':
      return state.offer.serverId;
    case 'renewing':
    case 'releasing':
      return state.lease.server;
    case 'declining':
      return state.serverId;
    default:
      return undefined;
  }
}

/** Sections 21.24 and 21.25: between a minute and a day. */
function limitsFrom({ solMaxMs, infMaxMs }: Limits, { solMaxRt = 0, infMaxRt = 0 }: Message): Limits {
  const fits = (seconds: number): boolean => seconds >= 60 && seconds <= 86_400;
  return {
    solMaxMs: fits(solMaxRt) ? solMaxRt * 1000 : solMaxMs,
    infMaxMs: fits(infMaxRt) ? infMaxRt * 1000 : infMaxMs,
  };
}

/** An Advertise: noted until the first timeout is over, or taken at once. */
function offered(
  client: Client,
  state: Extract<State, { at: 'soliciting' }>,
  { message, from }: Received,
  moment: Moment,
): Outcome {
  const ia = iaOf(message, client.iaid);
  const refusal = refusalOf(message, ia);
  if (refusal || !hasAddrs(ia)) {
    const text = `the server ${from} offers no address: ${refusal?.text ?? 'none is in its answer'}`;
    // Each time it is asked it will say so; the log has it for the first.
    return { state, effects: state.exchange.count === 1 ? [{ do: 'tell', text }] : [] };
  }
  const serverId = Buffer.from(message.serverId ?? []).toString('hex');
  const preference = message.preference ?? 0;
  const offer: Offer = { serverId, from, preference, ips: (ia.addrs ?? []).map(({ ip }) => ip) };
  const others = state.offers.filter((one) => one.serverId !== serverId).slice(0, 15);
  const next = { ...state, offers: [...others, offer] };
  const isLate = state.exchange.count > 1;
  if (preference === highestPreference || isLate) return choose(client, next, moment);
  return { state: next, effects: [] };
}

/** Addresses came: undefined when none can be used. */
function given(
  client: Client,
  state: State,
  former: Lease | undefined,
  { message }: Received,
  moment: Moment,
): Outcome | undefined {
  const ia = iaOf(message, client.iaid);
  if (refusalOf(message, ia) || !namesAddrs(ia)) return undefined;
  const lease = leaseFrom({ message, ia }, former, moment.now);
  if (lease) return { state: { at: 'bound', lease, limits: state.limits }, effects: [{ do: 'bind', lease }] };
  if (former === undefined) return undefined;
  return after(
    [{ do: 'unbind', lease: former, reason: 'the server took it back' }],
    beginAnew(client, state, moment),
  );
}

function requested(
  client: Client,
  state: Extract<State, { at: 'requesting' }>,
  received: Received,
  moment: Moment,
): Outcome {
  const refusal = refusalOf(received.message, iaOf(received.message, client.iaid));
  // It may be able to a moment later, and is asked again then.
  if (refusal?.code === statusCodes.unspecFail || refusal?.code === statusCodes.useMulticast)
    return { state, effects: [] };
  return (
    given(client, state, state.held, received, moment) ??
    nextOffer(client, state, refusal?.text ?? 'none is in its answer', moment)
  );
}

function confirmed(
  client: Client,
  state: Extract<State, { at: 'confirming' | 'renewing' | 'rebinding' | 'releasing' }>,
  { message }: Received,
  moment: Moment,
): Outcome {
  const { lease, limits } = state;
  const status = message.status?.code ?? statusCodes.success;
  if (status === statusCodes.notOnLink) return notHere(client, state, moment);
  if (status !== statusCodes.success) return { state, effects: [] };
  if (moment.now >= timesOf(lease).renewAt) return renew(client, state, lease, moment);
  return { state: { at: 'bound', lease, limits }, effects: [] };
}

function notHere(client: Client, state: State & { readonly lease: Lease }, moment: Moment): Outcome {
  const reason = 'the server says that it does not belong to this network';
  return after([{ do: 'unbind', lease: state.lease, reason }], beginAnew(client, state, moment));
}

function renewed(
  client: Client,
  state: Extract<State, { at: 'confirming' | 'renewing' | 'rebinding' | 'releasing' }>,
  received: Received,
  moment: Moment,
): Outcome {
  const { message, from } = received;
  const { lease, limits } = state;
  const refusal = refusalOf(message, iaOf(message, client.iaid));
  if (refusal?.code === statusCodes.notOnLink) return notHere(client, state, moment);
  if (refusal?.code === statusCodes.noBinding) {
    // Section 18.2.10.1: it forgot us, and is asked for the same again.
    const serverId = Buffer.from(message.serverId ?? []).toString('hex');
    const offer: Offer = { serverId, from, preference: 0, ips: ipsOf(lease) };
    const told: Effect = {
      do: 'tell',
      text: `the server ${from} does not know of the lease; it is requested again`,
    };
    return after(
      [told],
      begin(client, { at: 'requesting', offer, others: [], held: lease, limits, ...blank }, moment),
    );
  }
  // Whatever else it says, it is asked again until the lease ends.
  return given(client, state, lease, received, moment) ?? { state, effects: [] };
}

function informed(
  { limits }: Extract<State, { at: 'informing' }>,
  { message }: Received,
  { now }: Moment,
): Outcome {
  const seconds = message.refreshTime ?? refreshDefaultMs / 1000;
  const lease: Lease = {
    family: 6,
    addresses: [],
    server: Buffer.from(message.serverId ?? []).toString('hex'),
    routes: [],
    ...configOf(message),
    since: now,
    ...(seconds !== 0xffffffff && { renewAt: now + Math.max(refreshMinimumMs, seconds * 1000) }),
  };
  return { state: { at: 'informed', lease, limits }, effects: [{ do: 'bind', lease }] };
}
