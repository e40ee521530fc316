/** What a client sends, RFC 8415 section 18.2. Pure. */
import type { RawOptions } from './codec.ts';
import { ipsOf } from './lease.ts';
import type { IaAddr, Message, MessageOptions, MessageType } from './message.ts';
import { elapsed } from './retransmit.ts';
import type { State } from './state.ts';

/** Who asks, and for what; the same for the whole life of an attachment. */
export interface Client {
  readonly duid: Uint8Array;
  readonly iaid: number;
  /** Only DNS and the like are asked for, by Information-Request. */
  readonly stateless: boolean;
  /** Two messages instead of four, where the server can. */
  readonly rapidCommit: boolean;
  /** For the server's DNS; unqualified or in full. */
  readonly hostname?: string | undefined;
  /** An address that would be welcome. */
  readonly requestAddress?: string | undefined;
  readonly userClass?: readonly string[] | undefined;
  readonly vendorClass?: { readonly enterprise: number; readonly data: readonly string[] } | undefined;
  /** Of the user; they go before what is sent otherwise. */
  readonly raw?: RawOptions | undefined;
}

/** What a server's Advertise offers. */
export interface Offer {
  /** DUID in hexadecimal. */
  readonly serverId: string;
  readonly from: string;
  readonly preference: number;
  readonly ips: readonly string[];
}

/** DNS servers and search list, SNTP and NTP servers, SOL_MAX_RT (which has to be asked for) */
const requested = [23, 24, 31, 56, 82] as const;
/** Information refresh time and INF_MAX_RT. */
const requestedStateless = [23, 24, 31, 56, 32, 83] as const;

type AskingState = Extract<State, { readonly xid: number }>;

const typeByPhase: Readonly<Record<AskingState['at'], MessageType>> = {
  soliciting: 'solicit',
  requesting: 'request',
  confirming: 'confirm',
  renewing: 'renew',
  rebinding: 'rebind',
  releasing: 'release',
  declining: 'decline',
  informing: 'informationRequest',
};

/** The message of a state, now. */
export function compose(client: Client, state: AskingState, now: number): Message {
  return {
    type: typeByPhase[state.at],
    xid: state.xid,
    clientId: client.duid,
    elapsed: elapsed(state.exchange, now),
    ...about(client, state),
  };
}

/** What a message has of its own. */
function about(client: Client, state: AskingState): MessageOptions {
  switch (state.at) {
    case 'soliciting': {
      const { requestAddress, rapidCommit } = client;
      const ips = requestAddress === undefined ? [] : [requestAddress];
      return { ...iaWith(client, ips), ...wishes(client), ...(rapidCommit && { rapidCommit }) };
    }
    case 'requesting':
      return { serverId: hex(state.offer.serverId), ...iaWith(client, state.offer.ips), ...wishes(client) };
    case 'confirming':
      return iaWith(client, ipsOf(state.lease));
    case 'renewing':
      return { serverId: hex(state.lease.server), ...iaWith(client, ipsOf(state.lease)), ...wishes(client) };
    case 'rebinding':
      return { ...iaWith(client, ipsOf(state.lease)), ...wishes(client) };
    case 'releasing':
      return { serverId: hex(state.lease.server), ...iaWith(client, ipsOf(state.lease)) };
    case 'declining':
      return { serverId: hex(state.serverId), ...iaWith(client, state.ips) };
    case 'informing':
      return { requested: requestedStateless, ...classes(client) };
  }
}

/** Lifetimes, T1 and T2 are 0: the server's choice. */
function iaWith({ iaid }: Client, ips: readonly string[]): MessageOptions {
  const addrs = ips.map((ip): IaAddr => ({ ip, preferred: 0, valid: 0 }));
  return { iaNas: [{ iaid, t1: 0, t2: 0, ...(addrs.length > 0 && { addrs }) }] };
}

function wishes(client: Client): MessageOptions {
  const { hostname } = client;
  const codes = hostname === undefined ? requested : [...requested, 39];
  return {
    requested: codes,
    ...(hostname !== undefined && { fqdn: { serverUpdates: true, name: hostname } }),
    ...classes(client),
  };
}

function classes({ userClass, vendorClass, raw }: Client): MessageOptions {
  const bytes = (texts: readonly string[]): Uint8Array[] => texts.map((text) => Buffer.from(text));
  return {
    ...(userClass !== undefined && { userClass: bytes(userClass) }),
    ...(vendorClass !== undefined && {
      vendorClass: { enterprise: vendorClass.enterprise, data: bytes(vendorClass.data) },
    }),
    ...(raw !== undefined && { raw }),
  };
}

function hex(text: string): Uint8Array {
  return Buffer.from(text, 'hex');
}
