/** A client's machine in virtual time, with a server that the test plays. */
import assert from 'node:assert/strict';
import { ipsOf } from '../../../src/dhcp/v6/lease.ts';
import { begun, step, wakeAt } from '../../../src/dhcp/v6/machine.ts';
import {
  decodeMessage,
  encodeMessage,
  type IaNa,
  type Message,
  type MessageOptions,
  type MessageType,
} from '../../../src/dhcp/v6/message.ts';
import type { Client } from '../../../src/dhcp/v6/requests.ts';
import type { Effect, Event, State } from '../../../src/dhcp/v6/state.ts';
import type { Lease } from '../../../src/model/lease.ts';

export const duid = Buffer.from('0004aabbccddeeff00112233445566778899', 'hex');
export const client: Client = { duid, iaid: 7, stateless: false, rapidCommit: false };
export const serverA = Buffer.from('000100010000000a', 'hex');
export const serverB = Buffer.from('000100010000000b', 'hex');

/** An IA with one address; seconds. */
export function ia(ip: string, over: Partial<IaNa> & { valid?: number; preferred?: number } = {}): IaNa {
  const { valid = 60, preferred = 40, ...rest } = over;
  return { iaid: 7, t1: 20, t2: 32, addrs: [{ ip, valid, preferred }], ...rest };
}

/** What a client did, and when. */
export interface Sent {
  readonly at: number;
  readonly message: Message;
}

export class Simulation {
  readonly client: Client;
  state: State = begun;
  now = 1_000_000;
  readonly sent: Sent[] = [];
  readonly effects: Effect[] = [];
  #random: () => number;
  #xid = 0x100;

  constructor(over: Partial<Client> = {}, random: () => number = () => 0.5) {
    this.client = { ...client, ...over };
    this.#random = random;
  }

  event(event: Event): this {
    this.#xid += 1;
    const { state, effects } = step(this.client, this.state, event, {
      now: this.now,
      random: this.#random(),
      xid: this.#xid,
    });
    this.state = state;
    for (const effect of effects) {
      // By the wire: what cannot be written or read shows here.
      if (effect.do === 'send')
        this.sent.push({ at: this.now, message: decodeMessage(encodeMessage(effect.message)) });
      else this.effects.push(effect);
    }
    return this;
  }

  /** Time passes; timers fire when they are due. */
  pass(ms: number): this {
    const end = this.now + ms;
    for (let fired = 0; ; fired++) {
      assert.ok(fired < 10_000, `the machine does not come to rest: ${JSON.stringify(this.state)}`);
      const due = wakeAt(this.state);
      if (due > end) break;
      this.now = Math.max(this.now, due);
      this.event({ on: 'timer' });
    }
    this.now = end;
    return this;
  }

  get last(): Message {
    const { message } = this.sent.at(-1) ?? assert.fail('nothing was sent');
    return message;
  }

  /** A server answers what was sent last. */
  answer(type: MessageType, options: MessageOptions = {}, over: Partial<Message> = {}): this {
    const { xid } = this.last;
    const message: Message = { type, xid, clientId: duid, serverId: serverA, ...options, ...over };
    return this.event({ on: 'packet', message: decodeMessage(encodeMessage(message)), from: 'fe80::a' });
  }

  /** The link-local address is there. */
  start(remembered?: Lease): this {
    return this.event({ on: 'start', remembered }).event({ on: 'ready' });
  }

  /** From nothing to a lease of fd00::1 by four messages. */
  bind(iaNa: IaNa = ia('fd00::1')): this {
    this.start().answer('advertise', { iaNas: [iaNa] });
    this.pass(1100).answer('reply', { iaNas: [iaNa] });
    assert.equal(this.state.at, 'bound');
    return this;
  }

  types(): string[] {
    return this.sent.map(({ message }) => message.type);
  }

  /** The effects, as short text. */
  done(): string[] {
    return this.effects.map((effect) => {
      if (effect.do === 'bind') return ['bind', ...ipsOf(effect.lease)].join(' ');
      if (effect.do === 'unbind') return `unbind ${ipsOf(effect.lease).join(' ')}: ${effect.reason}`;
      return effect.do === 'tell' ? effect.text : effect.do;
    });
  }
}
