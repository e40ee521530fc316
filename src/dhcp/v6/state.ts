/** States of a DHCPv6 client, what happens to it, and what it wants done: plain data. */
import type { Lease } from '../../model/lease.ts';
import type { Message } from './message.ts';
import type { Offer } from './requests.ts';
import type { Exchange } from './retransmit.ts';

/** What a server has told of itself: section 21.24 and 21.25, milliseconds. */
export interface Limits {
  readonly solMaxMs: number;
  readonly infMaxMs: number;
}

/** What a state has in which an answer is waited for. */
export interface Asking {
  readonly exchange: Exchange;
  readonly xid: number;
}

/** Where the client is. */
type Phase =
  | { readonly at: 'stopped' }
  /** For a link-local address that can be used; `lease` is one of earlier that is in use already. */
  | { readonly at: 'waiting'; readonly lease: Lease | undefined }
  /** A while of nothing, before it begins anew: what went wrong would go wrong again. */
  | { readonly at: 'pausing'; readonly until: number }
  | ({ readonly at: 'soliciting'; readonly offers: readonly Offer[] } & Asking)
  /** `held`: a lease that the server knows nothing of any more, used until its end meanwhile. */
  | ({
      readonly at: 'requesting';
      readonly offer: Offer;
      readonly others: readonly Offer[];
      readonly held: Lease | undefined;
    } & Asking)
  | ({ readonly at: 'confirming' | 'renewing' | 'rebinding' | 'releasing'; readonly lease: Lease } & Asking)
  | { readonly at: 'bound'; readonly lease: Lease }
  /** `ips` are given back, `lease` is what else there is. */
  | ({
      readonly at: 'declining';
      readonly ips: readonly string[];
      readonly serverId: string;
      readonly lease: Lease | undefined;
    } & Asking)
  /** The lease of a stateless client has no addresses, and is asked for anew at its `renewAt`. */
  | ({ readonly at: 'informing'; readonly lease: Lease | undefined } & Asking)
  | { readonly at: 'informed'; readonly lease: Lease };

/** A client's state; plain data. */
export type State = Phase & { readonly limits: Limits };

/** What happens to a client. */
export type Event =
  /** An earlier lease that may still be good is used at once. */
  | { readonly on: 'start'; readonly remembered?: Lease | undefined }
  /** The lease has been in use all the time: the agent was away, not the container. */
  | { readonly on: 'resume'; readonly lease: Lease }
  /** The link-local address can be used. */
  | { readonly on: 'ready' }
  | { readonly on: 'packet'; readonly message: Message; readonly from: string }
  | { readonly on: 'timer' }
  /** The link has carrier again: it may be another network now. */
  | { readonly on: 'linkup' }
  /** Duplicate address detection found that others have these addresses. */
  | { readonly on: 'duplicate'; readonly ips: readonly string[] }
  /** The addresses are given back. */
  | { readonly on: 'release' };

/** What is to be done. */
export type Effect =
  | { readonly do: 'send'; readonly message: Message }
  /** The interface is to have these addresses, and no others that a lease gave; the network is as this says. */
  | { readonly do: 'bind'; readonly lease: Lease }
  /** All of a lease goes. */
  | { readonly do: 'unbind'; readonly lease: Lease; readonly reason: string }
  /** Something that a person would want to know. */
  | { readonly do: 'tell'; readonly text: string };

/** When a step happens, and what it has of chance. */
export interface Moment {
  /** Milliseconds since 1970. */
  readonly now: number;
  /** 0 <= random < 1 */
  readonly random: number;
  /** 24 bits, for the exchange that a step may begin. */
  readonly xid: number;
}

/** What a step comes to. */
export interface Outcome {
  readonly state: State;
  readonly effects: readonly Effect[];
}
