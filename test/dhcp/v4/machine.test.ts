import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { type Effect, type Event, type Machine, newMachine, step } from '../../../src/dhcp/v4/machine.ts';
import { type DhcpMessage, messageTypes } from '../../../src/dhcp/v4/message.ts';
import type { DhcpOptions } from '../../../src/dhcp/v4/options.ts';
import type { ClientIdentity } from '../../../src/dhcp/v4/requests.ts';
import type { Lease } from '../../../src/model/lease.ts';

const chaddr = Uint8Array.from([2, 0, 0, 0, 0, 1]);
const identity: ClientIdentity = {
  htype: 1,
  chaddr,
  clientId: Uint8Array.from([255, 1, 2, 3]),
  hostName: 'web',
  raw: {},
  broadcast: false,
  maxMessageSize: 1500,
};
const server = '10.0.0.1';

/** Seconds since 1970 at which everything begins. */
const epoch = 1_700_000_000;

/** A client in virtual time, with what it did: the message's type, how it was sent, and when. */
class Sim {
  machine: Machine = newMachine(identity);
  now = epoch * 1000;
  readonly log: string[] = [];
  readonly sent: DhcpMessage[] = [];
  random = (): number => 0.5;

  on(event: Event): this {
    const { machine, effects } = step(this.machine, event, this.now, this.random);
    this.machine = machine;
    for (const effect of effects) this.#note(effect);
    return this;
  }

  #note(effect: Effect): void {
    const at = ((this.now - epoch * 1000) / 1000).toFixed(1);
    const names = Object.entries(messageTypes);
    if ('message' in effect) {
      this.sent.push(effect.message);
      const name = names.find(([, type]) => type === effect.message.options.messageType)?.[0];
      this.log.push(`${at} ${effect.do} ${name}`);
    } else if (effect.do === 'probe')
      this.log.push(`${at} probe ${effect.ip}${effect.brief ? ' briefly' : ''}`);
    else this.log.push(`${at} ${effect.do} ${effect.lease.addresses[0]?.cidr.ip}`);
  }

  /** Lets the time pass, with every timer at its time. */
  until(seconds: number): this {
    const end = (epoch + seconds) * 1000;
    for (;;) {
      const { wakeAt } = this.machine;
      if (wakeAt === undefined || wakeAt > end) break;
      this.now = Math.max(this.now, wakeAt);
      this.on({ on: 'timer' });
    }
    this.now = end;
    return this;
  }

  /** An answer to what was sent last. */
  answer(type: keyof typeof messageTypes, options: DhcpOptions = {}, other: Partial<DhcpMessage> = {}): this {
    const message: DhcpMessage = {
      op: 2,
      htype: 1,
      hops: 0,
      xid: this.machine.xid,
      secs: 0,
      broadcast: false,
      ciaddr: '0.0.0.0',
      yiaddr: '10.0.0.9',
      siaddr: '0.0.0.0',
      giaddr: '0.0.0.0',
      chaddr,
      options: {
        messageType: messageTypes[type],
        serverId: server,
        ...(type === 'nak' ? {} : { leaseTime: 1000, subnetMask: '255.255.255.0', routers: ['10.0.0.1'] }),
        ...options,
      },
      raw: {},
      ...other,
    };
    return this.on({ on: 'packet', message });
  }

  free(ip = '10.0.0.9'): this {
    return this.on({ on: 'probed', ip });
  }

  bound(options: DhcpOptions = {}): this {
    return this.on({ on: 'start' }).answer('offer', options).answer('ack', options).free();
  }

  /** What was noted since the last call. */
  take(): string[] {
    return this.log.splice(0);
  }
}

const lease = (expires: number): Lease => ({
  family: 4,
  addresses: [{ cidr: { family: 4, ip: '10.0.0.9', prefixLen: 24 } }],
  server,
  routes: [],
  dns: [],
  search: [],
  ntp: [],
  since: epoch * 1000,
  renewAt: (epoch + expires / 2) * 1000,
  rebindAt: (epoch + expires * 0.875) * 1000,
  expiresAt: (epoch + expires) * 1000,
});

test('from nothing to a lease, with what RFC 2131, table 5, has in each message', () => {
  const sim = new Sim().bound();
  assert.deepEqual(sim.take(), [
    '0.0 broadcast discover',
    '0.0 broadcast request',
    '0.0 probe 10.0.0.9',
    '0.0 bind 10.0.0.9',
  ]);
  assert.equal(sim.machine.phase, 'BOUND');
  const [discover, request] = sim.sent;
  assert.ok(discover && request);
  assert.equal(discover.options.requestedAddress, undefined);
  assert.equal(discover.options.serverId, undefined);
  assert.equal(request.options.requestedAddress, '10.0.0.9');
  assert.equal(request.options.serverId, server);
  for (const message of [discover, request]) {
    assert.equal(message.ciaddr, '0.0.0.0');
    assert.equal(message.xid, sim.machine.xid);
    assert.deepEqual(message.options.clientId, identity.clientId);
    assert.equal(message.options.hostName, 'web');
    assert.equal(message.options.fqdn?.name, 'web');
    assert.equal(message.options.maxMessageSize, 1500);
    for (const code of [1, 3, 6, 12, 15, 26, 28, 42, 43, 51, 54, 58, 59, 81, 119, 121])
      assert.ok(message.options.parameterList?.includes(code), `${code}`);
    const list = [...(message.options.parameterList ?? [])];
    assert.ok(list.indexOf(121) < list.indexOf(3), 'RFC 3442');
  }
});

test('DISCOVERs after 4, 8, 16, 32, 64, 64 s, and their seconds', () => {
  const sim = new Sim().on({ on: 'start' }).until(200);
  assert.deepEqual(
    sim.take().map((line) => line.split(' ')[0]),
    ['0.0', '4.0', '12.0', '28.0', '60.0', '124.0', '188.0'],
  );
  assert.deepEqual(
    sim.sent.map(({ secs }) => secs),
    [0, 4, 12, 28, 60, 124, 188],
  );
  const early = new Sim();
  early.random = () => 0;
  early.on({ on: 'start' });
  assert.equal(early.machine.wakeAt, early.now + 3000);
  early.random = () => 0.999_999;
  assert.ok((early.on({ on: 'start' }).machine.wakeAt ?? 0) - early.now > 4990);
});

test('a REQUEST has the seconds of the DISCOVER that it follows', () => {
  const sim = new Sim().on({ on: 'start' }).until(13).answer('offer').until(18);
  assert.deepEqual(
    sim.sent.map(({ options, secs }) => [options.messageType, secs]),
    [
      [1, 0],
      [1, 4],
      [1, 12],
      [3, 12],
      [3, 12],
    ],
  );
});

test('only the answer to the question counts', () => {
  const sim = new Sim().on({ on: 'start' });
  sim.take();
  sim.answer('offer', {}, { xid: sim.machine.xid + 1 });
  sim.answer('offer', {}, { chaddr: Uint8Array.from([2, 0, 0, 0, 0, 2]) });
  sim.answer('offer', {}, { op: 1 });
  sim.answer('ack');
  sim.answer('nak');
  sim.answer('offer', { leaseTime: 0 });
  sim.answer('offer', {}, { yiaddr: '0.0.0.0' });
  sim.answer('offer', {}, { yiaddr: '224.0.0.1' });
  sim.answer('offer', {}, { yiaddr: '127.0.0.1' });
  assert.deepEqual(sim.take(), []);
  sim.answer('offer');
  // A second server, and the first one once more.
  sim.answer('offer', { serverId: '10.0.0.2' });
  sim.answer('ack', { serverId: '10.0.0.2' });
  sim.answer('nak', { serverId: '10.0.0.2' });
  sim.answer('offer');
  assert.deepEqual(sim.take(), ['0.0 broadcast request']);
  sim.answer('ack');
  assert.deepEqual(sim.take(), ['0.0 probe 10.0.0.9']);
});

test('an offer whose server then falls silent is given up after three REQUESTs', () => {
  const sim = new Sim().on({ on: 'start' }).answer('offer').until(40);
  assert.deepEqual(sim.take().slice(1), [
    ...['0.0', '4.0', '12.0'].map((at) => `${at} broadcast request`),
    '28.0 broadcast discover',
    '32.0 broadcast discover',
    '40.0 broadcast discover',
  ]);
});

test('renewed at T1 with its server, rebound at T2 with any, and gone at its end', () => {
  const sim = new Sim().bound({ renewalTime: 400, rebindingTime: 800 });
  sim.take();
  const { wakeAt = 0 } = sim.machine;
  assert.ok(wakeAt <= (epoch + 400) * 1000 && wakeAt > (epoch + 379) * 1000);
  sim.until(1001);
  const [first, ...others] = sim.take();
  assert.match(first ?? '', /^3[89]\d\.\d unicast request$/);
  // Half of what is left until T2, but for the minute at least.
  assert.deepEqual(
    others.map((line) => line.replace(/^(\d+)\.\d/, '$1')),
    ['595 unicast request', '697 unicast request', '757 unicast request'].concat([
      '800 broadcast request',
      '900 broadcast request',
      '960 broadcast request',
      '1000 unbind 10.0.0.9',
      '1000 broadcast discover',
    ]),
  );
  const renewing = sim.sent.filter(({ ciaddr }) => ciaddr === '10.0.0.9');
  assert.equal(renewing.length, 7);
  for (const { options } of renewing) {
    assert.equal(options.requestedAddress, undefined);
    assert.equal(options.serverId, undefined);
  }
  assert.match(sim.machine.reason ?? '', /lease of 10\.0\.0\.9 ended/);
  // The one it had is what it would like again.
  assert.equal(sim.sent.at(-1)?.options.requestedAddress, '10.0.0.9');
});

test('a renewed lease counts from when it was asked for', () => {
  const sim = new Sim().bound().until(480);
  assert.equal(sim.machine.phase, 'BOUND');
  sim.until(500);
  assert.equal(sim.machine.phase, 'RENEWING');
  const asked = sim.machine.began;
  sim.until(510).take();
  sim.answer('ack', { routers: ['10.0.0.2'] });
  assert.deepEqual(sim.take(), ['510.0 bind 10.0.0.9']);
  assert.equal(sim.machine.phase, 'BOUND');
  assert.equal(sim.machine.lease?.expiresAt, asked + 1_000_000);
  assert.equal(sim.machine.lease?.routes[0]?.gateway, '10.0.0.2');
});

test('times that cannot be are not believed', () => {
  const times = (options: DhcpOptions): (number | undefined)[] => {
    const { renewAt = 0, rebindAt = 0 } = new Sim().bound(options).machine.lease ?? {};
    return [renewAt, rebindAt].map((at) => at / 1000 - epoch);
  };
  assert.deepEqual(times({}), [500, 875]);
  assert.deepEqual(times({ renewalTime: 100, rebindingTime: 200 }), [100, 200]);
  assert.deepEqual(times({ renewalTime: 300, rebindingTime: 200 }), [200, 200]);
  assert.deepEqual(times({ renewalTime: 0, rebindingTime: 2000 }), [500, 875]);
  const forEver = new Sim().bound({ leaseTime: 0xffffffff, renewalTime: 5 }).until(10_000_000);
  assert.equal(forEver.machine.phase, 'BOUND');
  assert.equal(forEver.machine.lease?.expiresAt, undefined);
});

test('a refusal ends the lease at once; the second in a row is not answered at once', () => {
  const sim = new Sim().bound().until(500);
  sim.take();
  sim.answer('nak', { message: 'wrong network' });
  assert.deepEqual(sim.take(), ['500.0 unbind 10.0.0.9', '500.0 broadcast discover']);
  assert.match(sim.machine.reason ?? '', /10\.0\.0\.1 refused 10\.0\.0\.9: wrong network/);
  assert.equal(sim.sent.at(-1)?.options.requestedAddress, undefined);
  sim.answer('offer').answer('nak');
  assert.equal(sim.machine.phase, 'INIT');
  assert.deepEqual(sim.take(), ['500.0 broadcast request']);
  assert.deepEqual(sim.until(503).take(), ['501.0 broadcast discover']);
  sim.answer('offer').answer('ack').free();
  assert.equal(sim.machine.refusals, 0);
  assert.equal(sim.machine.reason, undefined);
});

test('INIT-REBOOT: one REQUEST without a server, and the address is used after a brief look', () => {
  const sim = new Sim().on({ on: 'start', remembered: lease(1000) });
  const [request] = sim.sent;
  assert.equal(request?.options.requestedAddress, '10.0.0.9');
  assert.equal(request?.options.serverId, undefined);
  assert.equal(request?.ciaddr, '0.0.0.0');
  sim.answer('ack').free();
  assert.deepEqual(sim.take(), ['0.0 broadcast request', '0.0 probe 10.0.0.9 briefly', '0.0 bind 10.0.0.9']);
});

test('INIT-REBOOT, refused: another address', () => {
  const sim = new Sim().on({ on: 'start', remembered: lease(1000) }).answer('nak');
  assert.deepEqual(sim.take(), ['0.0 broadcast request', '0.0 broadcast discover']);
  assert.equal(sim.sent[1]?.options.requestedAddress, undefined);
});

test('INIT-REBOOT, nobody answers: the lease is used to its end, and renewed when its time comes', () => {
  const sim = new Sim().on({ on: 'start', remembered: lease(1000) }).until(12);
  assert.deepEqual(sim.take(), [
    '0.0 broadcast request',
    '4.0 broadcast request',
    '12.0 probe 10.0.0.9 briefly',
  ]);
  sim.free();
  assert.deepEqual(sim.take(), ['12.0 bind 10.0.0.9']);
  assert.match(sim.until(1000).take().at(-2) ?? '', /^1000\.0 unbind/);
  // One that has run out is asked for as any other.
  const late = new Sim().on({ on: 'start', remembered: lease(-5) });
  assert.deepEqual(late.take(), ['0.0 broadcast discover']);
  assert.equal(late.sent[0]?.options.requestedAddress, '10.0.0.9');
});

test('resumed: the interface is made right, and the lease goes on where it was', () => {
  const sim = new Sim().until(100).on({ on: 'resume', lease: lease(1000) });
  assert.deepEqual(sim.take(), ['100.0 bind 10.0.0.9']);
  assert.match(sim.until(500).take()[0] ?? '', /^4[789]\d\.\d unicast request$/);
  const late = new Sim().until(1000).on({ on: 'resume', lease: lease(900) });
  assert.deepEqual(late.take(), ['1000.0 unbind 10.0.0.9', '1000.0 broadcast discover']);
  const between = new Sim().until(890).on({ on: 'resume', lease: lease(1000) });
  between.take();
  assert.deepEqual(between.until(890).take(), ['890.0 broadcast request']);
});

test('an address that somebody has is declined, and asked for again after ten seconds', () => {
  const sim = new Sim().on({ on: 'start' }).answer('offer').answer('ack');
  sim.on({ on: 'probed', ip: '10.0.0.8', usedBy: '02:00:00:00:00:07' });
  sim.take();
  sim.on({ on: 'probed', ip: '10.0.0.9', usedBy: '02:00:00:00:00:07' });
  assert.deepEqual(sim.take(), ['0.0 broadcast decline']);
  const { options, ciaddr } = sim.sent.at(-1) ?? {};
  assert.equal(ciaddr, '0.0.0.0');
  assert.deepEqual(Object.keys(options ?? {}).sort(), [
    'clientId',
    'message',
    'messageType',
    'requestedAddress',
    'serverId',
  ]);
  assert.match(sim.machine.reason ?? '', /02:00:00:00:00:07 has it/);
  assert.deepEqual(sim.until(9.9).take(), []);
  assert.deepEqual(sim.until(10).take(), ['10.0 broadcast discover']);
});

test('a probe that never ends does not hold it up for ever', () => {
  const sim = new Sim().on({ on: 'start' }).answer('offer').answer('ack').until(10);
  assert.equal(sim.take().at(-1), '10.0 broadcast discover');
});

test('released: by unicast with the address, and then nothing more', () => {
  const sim = new Sim().bound();
  sim.take();
  sim.on({ on: 'release' });
  assert.deepEqual(sim.take(), ['0.0 unicast release', '0.0 unbind 10.0.0.9']);
  const { options, ciaddr } = sim.sent.at(-1) ?? {};
  assert.equal(ciaddr, '10.0.0.9');
  assert.deepEqual(Object.keys(options ?? {}).sort(), ['clientId', 'messageType', 'serverId']);
  sim.until(5000).on({ on: 'start' }).on({ on: 'linkup' });
  assert.deepEqual(sim.take(), []);
  const none = new Sim().on({ on: 'start' });
  none.take();
  assert.deepEqual(none.on({ on: 'release' }).take(), []);
});

test('when the link comes back the address is kept, and asked about', () => {
  const sim = new Sim().bound().until(100);
  sim.take();
  sim.on({ on: 'linkup' });
  assert.equal(sim.machine.phase, 'REBOOTING');
  sim.answer('ack');
  assert.deepEqual(sim.take(), ['100.0 broadcast request', '100.0 bind 10.0.0.9']);
  sim.on({ on: 'linkup' }).answer('nak');
  assert.deepEqual(sim.take(), [
    '100.0 broadcast request',
    '100.0 unbind 10.0.0.9',
    '100.0 broadcast discover',
  ]);
  const alone = new Sim().bound().until(100).on({ on: 'linkup' });
  alone.take();
  assert.deepEqual(alone.until(112).take(), ['104.0 broadcast request']);
  assert.equal(alone.machine.phase, 'BOUND');
});

test('another address at a renewal: the old one goes, the new one is looked at first', () => {
  const sim = new Sim().bound().until(500);
  sim.take();
  sim.answer('ack', {}, { yiaddr: '10.0.0.20' });
  assert.deepEqual(sim.take(), ['500.0 unbind 10.0.0.9', '500.0 probe 10.0.0.20']);
  sim.free('10.0.0.20');
  assert.deepEqual(sim.take(), ['500.0 bind 10.0.0.20']);
});

test('whatever happens: there is a next time, and never two addresses', () => {
  const act = fc.oneof(
    fc.constantFrom('offer', 'ack', 'nak', 'free', 'used', 'linkup', 'start', 'other', 'short'),
    fc.nat(2000),
  );
  fc.assert(
    fc.property(fc.array(act, { maxLength: 60 }), (acts) => {
      const sim = new Sim().on({ on: 'start' });
      let held: string[] = [];
      for (const one of acts) {
        const { lease: had, phase } = sim.machine;
        const ip = had?.addresses[0]?.cidr.ip ?? '10.0.0.9';
        if (typeof one === 'number') sim.until((sim.now - epoch * 1000 + one * 1000) / 1000);
        else if (one === 'free') sim.free(ip);
        else if (one === 'used') sim.on({ on: 'probed', ip, usedBy: '02:00:00:00:00:07' });
        else if (one === 'linkup') sim.on({ on: 'linkup' });
        else if (one === 'start') phase === 'INIT' || sim.on({ on: 'timer' });
        else if (one === 'other') sim.answer('ack', {}, { yiaddr: '10.0.0.20' });
        else if (one === 'short') sim.answer('ack', { leaseTime: 1 });
        else sim.answer(one as 'offer');
        for (const line of sim.take()) {
          const [, verb = '', what = ''] = line.split(' ');
          if (verb === 'bind') held = [...held.filter((other) => other !== what), what];
          if (verb === 'unbind') held = held.filter((other) => other !== what);
          assert.ok(held.length <= 1, `${held}`);
        }
        const { machine, now } = sim;
        assert.equal(held.length === 1, machine.isBound);
        assert.ok(machine.wakeAt !== undefined, machine.phase);
        if (machine.phase === 'BOUND') assert.deepEqual(held, [machine.lease?.addresses[0]?.cidr.ip]);
        // Never in use for longer than it may be, but for the seconds of a check.
        const end = machine.lease?.expiresAt ?? Number.POSITIVE_INFINITY;
        if (machine.isBound && machine.phase !== 'REBOOTING') assert.ok(end >= now - 1);
      }
    }),
    { numRuns: 500 },
  );
});
