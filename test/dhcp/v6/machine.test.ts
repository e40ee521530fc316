import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { endOfAddress, ipsOf } from '../../../src/dhcp/v6/lease.ts';
import { leaseOf, wakeAt } from '../../../src/dhcp/v6/machine.ts';
import { encodeMessage, type Message, messageTypes } from '../../../src/dhcp/v6/message.ts';
import type { State } from '../../../src/dhcp/v6/state.ts';
import { duid, ia, Simulation, serverA, serverB } from './simulation.ts';

const iaNas = [ia('fd00::1')];

test('classes and options of the user are in every message that asks for something', () => {
  const sim = new Simulation({
    userClass: ['gold', 'b'],
    vendorClass: { enterprise: 9, data: ['pipewright'] },
    // The Client FQDN is sent otherwise as well.
    raw: { 17: Buffer.from('0000000900010002abcd', 'hex'), 39: Buffer.from('0003776562', 'hex') },
    hostname: 'other',
  });
  sim.start();
  const said = ({ userClass, vendorClass, fqdn }: Message) => ({
    userClass: userClass?.map((data) => Buffer.from(data).toString()),
    vendorClass: vendorClass && [vendorClass.enterprise, Buffer.from(vendorClass.data[0] ?? []).toString()],
    name: fqdn?.name,
  });
  const all = { userClass: ['gold', 'b'], vendorClass: [9, 'pipewright'], name: 'web' };
  assert.deepEqual(said(sim.last), all);
  sim.answer('advertise', { iaNas }).pass(1100).answer('reply', { iaNas });
  sim.pass(21_000);
  assert.equal(sim.last.type, 'renew');
  assert.deepEqual(said(sim.last), all);
  const bytes = encodeMessage({
    type: 'renew',
    xid: 1,
    fqdn: { serverUpdates: true, name: 'x' },
    raw: { 39: duid },
  });
  assert.equal(bytes.toString('hex'), `05000001${'00270012'}${duid.toString('hex')}`);
});

test('Solicit, Advertise, Request, Reply', () => {
  const sim = new Simulation({ hostname: 'web', requestAddress: 'fd00::9' }).start();
  assert.equal(sim.last.type, 'solicit');
  assert.deepEqual(sim.last.clientId, Uint8Array.from(duid));
  assert.equal(sim.last.iaNas?.[0]?.addrs?.[0]?.ip, 'fd00::9');
  assert.deepEqual(sim.last.requested, [23, 24, 31, 56, 82, 39]);
  assert.deepEqual(sim.last.fqdn, { serverUpdates: true, name: 'web' });
  assert.equal(sim.last.elapsed, 0);
  sim.answer('advertise', { iaNas });
  assert.equal(sim.state.at, 'soliciting', 'others may offer something better for a second');
  sim.pass(1100);
  assert.equal(sim.last.type, 'request');
  assert.deepEqual(sim.last.serverId, Uint8Array.from(serverA));
  sim.answer('reply', {
    iaNas,
    dnsServers: ['fd00::53'],
    dnsSearch: ['lan'],
    ntp: { servers: ['fd00::123'] },
  });
  assert.equal(sim.state.at, 'bound');
  const lease = leaseOf(sim.state);
  assert.deepEqual(
    [lease?.dns, lease?.search, lease?.ntp, lease?.server],
    [['fd00::53'], ['lan'], ['fd00::123'], serverA.toString('hex')],
  );
  assert.deepEqual(
    [lease?.renewAt, lease?.rebindAt, lease?.expiresAt].map((time) => (time ?? 0) - sim.now),
    [20_000, 32_000, 60_000],
  );
  assert.deepEqual(sim.done(), ['bind fd00::1']);
});

test('the server with the highest preference is asked, and 255 at once', () => {
  const sim = new Simulation().start();
  sim.answer('advertise', { iaNas }, { serverId: serverA });
  sim.answer('advertise', { iaNas, preference: 10 }, { serverId: serverB });
  sim.pass(1100);
  assert.deepEqual(sim.last.serverId, Uint8Array.from(serverB));
  // It does not answer: after ten Requests it is the other's turn.
  sim.pass(300_000);
  assert.equal(sim.types().filter((type) => type === 'request').length > 10, true);
  assert.deepEqual(sim.sent[11]?.message.serverId, Uint8Array.from(serverA));
  const best = new Simulation().start().answer('advertise', { iaNas, preference: 255 });
  assert.equal(best.last.type, 'request');
});

test('rapid commit is two messages, and only when both want it', () => {
  const sim = new Simulation({ rapidCommit: true }).start();
  assert.equal(sim.last.rapidCommit, true);
  assert.equal(sim.answer('reply', { iaNas }).state.at, 'soliciting');
  assert.equal(sim.answer('reply', { iaNas, rapidCommit: true }).state.at, 'bound');
  const unasked = new Simulation().start().answer('reply', { iaNas, rapidCommit: true });
  assert.equal(unasked.state.at, 'soliciting');
});

test('a Solicit is sent again as RFC 8415 section 15 has it, for ever', () => {
  for (const random of [0, 0.5, 0.999]) {
    const sim = new Simulation({}, () => random).start().pass(40 * 3600_000);
    const times = sim.sent.map(({ at }) => at);
    const gaps = times.slice(1).map((at, i) => at - (times[i] ?? 0));
    assert.ok((gaps[0] ?? 0) > 1000 && (gaps[0] ?? 0) <= 1100, 'the first second is a whole one');
    for (const [i, gap] of gaps.slice(1).entries())
      assert.ok(gap <= 3600_000 * 1.1 && (gap >= (gaps[i] ?? 0) * 1.89 || gap >= 3600_000 * 0.9), `${gap}`);
    assert.ok(sim.sent.length > 40 && sim.sent.length < 70, `${sim.sent.length}`);
    assert.equal(sim.last.elapsed, 0xffff);
  }
});

test('a server can have it ask less often', () => {
  const refusal = { status: { code: 2, message: 'pool is empty' }, solMaxRt: 120 };
  const sim = new Simulation().start().answer('advertise', refusal).pass(3600_000);
  const times = sim.sent.map(({ at }) => at);
  assert.ok((times.at(-1) ?? 0) - (times.at(-2) ?? 0) <= 132_000);
  assert.deepEqual(sim.done(), ['the server fe80::a offers no address: noAddrsAvail: pool is empty']);
  // A time that cannot be is none.
  const odd = new Simulation().start().answer('advertise', { ...refusal, solMaxRt: 5 });
  assert.equal(odd.state.limits.solMaxMs, 3600_000);
});

test('renewed at T1 with its server, rebound at T2 with any, over at its end', () => {
  const sim = new Simulation().bind();
  const from = sim.now;
  sim.pass(20_000);
  assert.equal(sim.last.type, 'renew');
  assert.deepEqual(sim.last.serverId, Uint8Array.from(serverA));
  sim.answer('reply', { iaNas });
  assert.deepEqual([sim.state.at, leaseOf(sim.state)?.renewAt], ['bound', from + 40_000]);
  // The server goes away.
  sim.pass(20_000 + 12_000);
  assert.equal(sim.last.type, 'rebind');
  assert.equal(sim.last.serverId, undefined);
  const before = sim.effects.length;
  sim.pass(27_999);
  assert.equal(leaseOf(sim.state)?.addresses.length, 1, 'held to its end');
  sim.pass(1);
  assert.equal(sim.state.at, 'soliciting');
  assert.match(sim.done()[before] ?? '', /^unbind fd00::1: it was not renewed in time/);
  assert.equal(sim.last.type, 'solicit');
});

test('another server can take a lease over when it is rebound', () => {
  const sim = new Simulation().bind().pass(32_000);
  assert.equal(sim.last.type, 'rebind');
  sim.answer('reply', { iaNas }, { serverId: serverB });
  assert.equal(leaseOf(sim.state)?.server, serverB.toString('hex'));
});

test('answers that are for others, of another exchange, or of the wrong server are passed over', () => {
  const sim = new Simulation().bind().pass(20_000);
  const { state } = sim;
  const wrong: Partial<Message>[] = [
    { xid: 0xabcdef },
    { clientId: serverB },
    { clientId: undefined },
    { serverId: undefined },
    { serverId: serverB },
    { iaNas: [ia('fd00::1', { iaid: 8 })] },
    { iaNas: [ia('fd00::1', { t1: 50, t2: 40 })] },
    { iaNas: [ia('fe80::1')] },
    { iaNas: [ia('fd00::1', { preferred: 61, valid: 60 })] },
    { status: { code: 1, message: 'not now' } },
  ];
  for (const over of wrong) assert.equal(sim.answer('reply', { iaNas }, over).state.at, 'renewing');
  for (const type of Object.keys(messageTypes) as (keyof typeof messageTypes)[])
    if (type !== 'reply') assert.deepEqual(sim.answer(type, { iaNas }).state, state, type);
});

test('a server that changes the address takes the old one back', () => {
  const sim = new Simulation().bind().pass(20_000);
  const addrs = [
    { ip: 'fd00::2', preferred: 40, valid: 60 },
    { ip: 'fd00::1', preferred: 0, valid: 0 },
  ];
  sim.answer('reply', { iaNas: [{ iaid: 7, t1: 20, t2: 32, addrs }] });
  assert.equal(sim.done().at(-1), 'bind fd00::2');
  // Without the old one in the answer it is kept to its end.
  const both = new Simulation()
    .bind()
    .pass(20_000)
    .answer('reply', { iaNas: [ia('fd00::2')] });
  assert.equal(both.done().at(-1), 'bind fd00::2 fd00::1');
  both
    .pass(20_000)
    .answer('reply', { iaNas: [ia('fd00::2')] })
    .pass(20_000);
  assert.equal(both.done().at(-1), 'bind fd00::2');
});

test('all addresses taken back: a new lease is asked for', () => {
  const sim = new Simulation().bind().pass(20_000);
  sim.answer('reply', { iaNas: [ia('fd00::1', { preferred: 0, valid: 0 })] });
  assert.deepEqual([sim.state.at, sim.last.type], ['soliciting', 'solicit']);
});

test('a server that forgot the lease is asked for it again, and it is used meanwhile', () => {
  const sim = new Simulation().bind().pass(20_000);
  sim.answer('reply', { iaNas: [{ iaid: 7, t1: 0, t2: 0, status: { code: 3, message: '' } }] });
  assert.deepEqual([sim.state.at, sim.last.type], ['requesting', 'request']);
  assert.equal(leaseOf(sim.state)?.addresses[0]?.cidr.ip, 'fd00::1');
  assert.equal(sim.last.iaNas?.[0]?.addrs?.[0]?.ip, 'fd00::1');
  assert.equal(sim.answer('reply', { iaNas }).state.at, 'bound');
});

test('a Request that is refused: the next server, then a pause', () => {
  const sim = new Simulation().start();
  sim.answer('advertise', { iaNas, preference: 9 }).answer('advertise', { iaNas }, { serverId: serverB });
  sim
    .pass(1100)
    .answer('reply', { iaNas: [{ iaid: 7, t1: 0, t2: 0, status: { code: 2, message: 'gone' } }] });
  assert.deepEqual(sim.last.serverId, Uint8Array.from(serverB));
  sim.answer('reply', { status: { code: 2, message: 'gone' } }, { serverId: serverB });
  assert.equal(sim.state.at, 'pausing');
  assert.equal(sim.pass(11_000).last.type, 'solicit');
});

test('a remembered lease is used at once and confirmed', () => {
  const lease = leaseOf(new Simulation().bind().state);
  const sim = new Simulation().start(lease);
  assert.deepEqual([sim.last.type, sim.last.serverId, sim.done()], ['confirm', undefined, ['bind fd00::1']]);
  assert.equal(sim.last.iaNas?.[0]?.addrs?.[0]?.ip, 'fd00::1');
  assert.equal(sim.answer('reply', { status: { code: 0, message: '' } }).state.at, 'bound');
  assert.deepEqual(leaseOf(sim.state), lease);
});

test('a remembered lease of another network is given up', () => {
  const lease = leaseOf(new Simulation().bind().state);
  const sim = new Simulation().start(lease);
  sim.answer('reply', { status: { code: 4, message: 'wrong link' } });
  assert.match(sim.done().at(-1) ?? '', /^unbind fd00::1: the server says that it does not belong/);
  assert.equal(sim.last.type, 'solicit');
});

test('nobody confirms: the lease is as good as it was', () => {
  const lease = leaseOf(new Simulation().bind().state);
  const sim = new Simulation().start(lease).pass(10_000);
  assert.deepEqual([sim.state.at, leaseOf(sim.state)], ['bound', lease]);
  assert.ok(sim.types().every((type) => type === 'confirm'));
});

test('a remembered lease that is over is not used', () => {
  const lease = leaseOf(new Simulation().bind().state);
  const sim = new Simulation();
  sim.now += 70_000;
  assert.deepEqual([sim.start(lease).types(), sim.done()], [['solicit'], []]);
});

test('a lease that was in use all the time goes on from where it is', () => {
  const lease = leaseOf(new Simulation().bind().state);
  assert.ok(lease);
  const start = { on: 'resume', lease } as const;
  const early = new Simulation();
  early.now = lease.since;
  assert.deepEqual([early.event(start).state.at, early.types()], ['bound', []]);
  const late = new Simulation();
  late.now = lease.since + 25_000;
  assert.deepEqual([late.event(start).state.at, late.types()], ['renewing', ['renew']]);
  const last = new Simulation();
  last.now = lease.since + 40_000;
  assert.deepEqual([last.event(start).state.at, last.types()], ['rebinding', ['rebind']]);
});

test('the link was away: the lease is confirmed', () => {
  const sim = new Simulation().bind().event({ on: 'linkup' });
  assert.equal(sim.last.type, 'confirm');
  const without = new Simulation().start().event({ on: 'linkup' });
  assert.deepEqual(without.types(), ['solicit']);
});

test('a duplicate is declined, and a while later another address asked for', () => {
  const sim = new Simulation().bind().event({ on: 'duplicate', ips: ['fd00::1'] });
  assert.equal(sim.last.type, 'decline');
  assert.deepEqual(sim.last.serverId, Uint8Array.from(serverA));
  assert.match(sim.done().at(-1) ?? '', /^unbind fd00::1: another host on the network has fd00::1/);
  sim.answer('reply', { status: { code: 0, message: '' } });
  assert.equal(sim.state.at, 'pausing');
  assert.equal(sim.pass(11_000).last.type, 'solicit');
  // Nobody answers: four times, then the same.
  const alone = new Simulation()
    .bind()
    .event({ on: 'duplicate', ips: ['fd00::1'] })
    .pass(16_500);
  assert.equal(alone.types().filter((type) => type === 'decline').length, 4);
  assert.equal(alone.state.at, 'pausing');
  // What others have and we have not is nothing to us.
  assert.equal(new Simulation().bind().event({ on: 'duplicate', ips: ['fd00::77'] }).state.at, 'bound');
});

test('one of two addresses is a duplicate: the other stays', () => {
  const two = [
    { ip: 'fd00::1', preferred: 40, valid: 60 },
    { ip: 'fd00::2', preferred: 40, valid: 60 },
  ];
  const sim = new Simulation().bind({ iaid: 7, t1: 20, t2: 32, addrs: two });
  sim.event({ on: 'duplicate', ips: ['fd00::1'] }).answer('reply');
  assert.deepEqual([sim.state.at, leaseOf(sim.state)?.addresses.length], ['bound', 1]);
});

test('given back when it is detached, at most four times', () => {
  const sim = new Simulation().bind().event({ on: 'release' });
  assert.equal(sim.last.type, 'release');
  assert.equal(sim.done().at(-1), 'unbind fd00::1: it is given back');
  assert.equal(sim.answer('reply').state.at, 'stopped');
  const alone = new Simulation().bind().event({ on: 'release' }).pass(60_000);
  assert.equal(alone.types().filter((type) => type === 'release').length, 4);
  assert.equal(alone.state.at, 'stopped');
});

test('stateless: DNS and the like, asked for anew when they are old', () => {
  const sim = new Simulation({ stateless: true }).start();
  assert.equal(sim.last.type, 'informationRequest');
  assert.deepEqual([sim.last.iaNas, sim.last.requested], [undefined, [23, 24, 31, 56, 32, 83]]);
  // A server need not repeat the client's identifier here.
  sim.answer('reply', { dnsServers: ['fd00::53'], refreshTime: 900 }, { clientId: undefined });
  assert.deepEqual([sim.state.at, sim.done()], ['informed', ['bind']]);
  assert.equal(sim.pass(899_000).sent.length, 1);
  assert.equal(sim.pass(1000).sent.length, 2);
  // Not more often than every ten minutes.
  const eager = new Simulation({ stateless: true }).start().answer('reply', { refreshTime: 1 });
  assert.equal(wakeAt(eager.state) - eager.now, 600_000);
  const daily = new Simulation({ stateless: true }).start().answer('reply');
  assert.equal(wakeAt(daily.state) - daily.now, 86_400_000);
});

test('lifetimes: for ever, without T1 and T2, with a T1 after the end', () => {
  const endless = new Simulation().bind(
    ia('fd00::1', { t1: 0, t2: 0, valid: 0xffffffff, preferred: 0xffffffff }),
  );
  assert.equal(wakeAt(endless.state), Number.POSITIVE_INFINITY);
  assert.equal(leaseOf(endless.state)?.expiresAt, undefined);
  for (const times of [
    { t1: 0, t2: 0 },
    { t1: 100, t2: 200 },
  ]) {
    const sim = new Simulation().bind(ia('fd00::1', times));
    const { renewAt = 0, rebindAt = 0 } = leaseOf(sim.state) ?? {};
    assert.deepEqual([renewAt - sim.now, rebindAt - sim.now], [20_000, 32_000]);
  }
});

const anyIa = fc.record(
  {
    iaid: fc.constantFrom(7, 7, 7, 8),
    t1: fc.constantFrom(0, 1, 20, 50, 0xffffffff),
    t2: fc.constantFrom(0, 1, 32, 50, 0xffffffff),
    addrs: fc.array(
      fc.record(
        {
          ip: fc.constantFrom('fd00::1', 'fd00::2', 'fe80::1', '::'),
          preferred: fc.constantFrom(0, 1, 40, 0xffffffff),
          valid: fc.constantFrom(0, 1, 60, 0xffffffff),
        },
        { noNullPrototype: true },
      ),
      { maxLength: 3 },
    ),
    status: fc.record({ code: fc.nat(6), message: fc.constant('') }, { noNullPrototype: true }),
  },
  { noNullPrototype: true, requiredKeys: ['iaid', 't1', 't2'] },
);

type Act = (sim: Simulation) => unknown;
const act: fc.Arbitrary<Act> = fc.oneof(
  fc.constantFrom(100, 1000, 15_000, 100_000).map(
    (ms): Act =>
      (sim) =>
        sim.pass(ms),
  ),
  fc
    .record({
      type: fc.constantFrom('advertise', 'reply', 'reconfigure'),
      iaNas: fc.array(anyIa, { maxLength: 2 }),
      status: fc.option(fc.nat(6), { nil: undefined }),
      rapid: fc.boolean(),
      server: fc.constantFrom(serverA, serverB),
      preference: fc.constantFrom(undefined, 0, 255),
    })
    .map(
      ({ type, iaNas, status, rapid, server, preference }): Act =>
        (sim) => {
          const options = {
            ...(iaNas.length > 0 && { iaNas }),
            ...(status !== undefined && { status: { code: status, message: '' } }),
            ...(rapid && { rapidCommit: true as const }),
            ...(preference !== undefined && { preference }),
          };
          sim.answer(type, options, { serverId: server });
        },
    ),
  fc.constantFrom<Act>(
    (sim) => sim.event({ on: 'linkup' }),
    (sim) => sim.event({ on: 'duplicate', ips: ['fd00::1'] }),
    (sim) => sim.event({ on: 'timer' }),
    (sim) => sim.event({ on: 'ready' }),
  ),
);

/** What holds in every state. */
function check(state: State, now: number, used: ReadonlySet<string>): void {
  const lease = leaseOf(state);
  if (lease) {
    assert.ok(lease.addresses.length > 0);
    for (const address of lease.addresses)
      assert.ok(endOfAddress(address) > now - 1, 'nothing is used after its end');
    const { renewAt = Number.POSITIVE_INFINITY, rebindAt = Number.POSITIVE_INFINITY } = lease;
    assert.ok(renewAt <= rebindAt && renewAt > lease.since);
  }
  const held = new Set(lease?.addresses.map(({ cidr }) => cidr.ip) ?? []);
  assert.deepEqual(used, held, `what the interface has is what is held, in ${state.at}`);
}

test('whatever servers and time do, what is used is what is held', () => {
  fc.assert(
    fc.property(
      fc.array(act, { maxLength: 40 }),
      fc.boolean(),
      fc.infiniteStream(fc.double({ min: 0, max: 0.999, noNaN: true })),
      (acts, rapidCommit, chance) => {
        const sim = new Simulation({ rapidCommit }, () => chance.next().value ?? 0.5).start();
        let used: ReadonlySet<string> = new Set();
        let seen = 0;
        for (const one of acts) {
          one(sim);
          for (const effect of sim.effects.slice(seen)) {
            if (effect.do === 'bind') used = new Set(ipsOf(effect.lease));
            if (effect.do === 'unbind') used = new Set();
          }
          seen = sim.effects.length;
          check(sim.state, sim.now, used);
        }
      },
    ),
    { numRuns: 500 },
  );
});
