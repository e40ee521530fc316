/** What happens on a LAN: servers that end, two of them, none, rogues, addresses that somebody has, relays. */
import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { type DhcpMessage, encodeMessage, messageTypes } from '../../../src/dhcp/v4/message.ts';
import { cidrs, ipLink, ipRoutes, run, runIn, skipUnless } from '../../lab.ts';
import { programOf, type ServerProgram, serverPrograms } from '../servers.ts';
import { until } from '../support.ts';
import { answerTo, fakeServer, serverFrame, sign } from './fake-server.ts';
import { type Capture, clientIn, type Lan, lan, spawnIn } from './ground.ts';

/** The same with each of the servers, at the same time. `nr` makes names of it. */
function withEach(
  what: string,
  body: (t: TestContext, program: ServerProgram, suffix: string) => Promise<void>,
): void {
  test(what, { concurrency: serverPrograms.length }, async (t) => {
    const each = serverPrograms.map((program, nr) =>
      t.test(program, async (own) => {
        if (skipUnless(own, 'root', `program:${programOf[program]}`, 'program:tcpdump')) return;
        await body(own, program, `${nr}`);
      }),
    );
    await Promise.all(each);
  });
}

withEach(
  'a server that ends: the lease is held to its end, and is asked for of whoever comes',
  async (t, program, nr) => {
    const net = await lan(t, `end${nr}`);
    const server = await net.server(program);
    // dnsmasq gives no less than two minutes, so there the end is not waited for.
    const isLong = program === 'dnsmasq';
    await server.start({ pool: [50, 59], lease: isLong ? 120 : 16, t1: 3, t2: 7 });
    const guest = await net.guest('c');
    const seen = await net.capture();
    const { client, events, bound } = clientIn(t, guest);
    client.start();
    const address = await bound();
    const ip = address.replace('/24', '');
    await server.stop();
    await until('T2', () => client.status().state === 'REBINDING');
    assert.equal(client.status().reason, 'the server did not answer; every server is asked');
    assert.deepEqual(cidrs(guest, 'eth1'), [address]);
    if (!isLong) {
      await until('its end', () => events.some((event) => event.startsWith('unbind')));
      assert.equal(events.at(-1), `unbind ${ip}: the lease of ${ip} ended, and no server renewed it`);
      assert.deepEqual(cidrs(guest, 'eth1'), []);
      assert.deepEqual(ipRoutes(guest), []);
      assert.match(client.status().reason ?? '', /ended/);
    }
    await server.start({ pool: [50, 59], lease: 120 });
    // Of a lease that has so much left it asks again in a minute, or when its link comes back.
    if (isLong) client.linkup();
    assert.equal(await bound(), address);
    await seen.settled();
    const messages = seen.messages();
    const [renewal, rebinding] = [`Request ${ip}.68 > 10.77.0.1.67`, `Request ${ip}.68 > 255.255.255.255.67`];
    const renewals = messages.filter((message) => message.startsWith(`Request ${ip}`));
    assert.deepEqual([...new Set(renewals)], [renewal, rebinding]);
    // One that was over is asked for anew.
    assert.equal(messages.filter((message) => message.startsWith('Discover')).length > 1, !isLong);
  },
);

test('three servers: the first good offer is taken, with its server named', async (t) => {
  if (skipUnless(t, 'root', 'program:dnsmasq', 'program:kea-dhcp4', 'program:dhcpd', 'program:tcpdump'))
    return;
  const net = await lan(t, 'two');
  for (const [at, program] of serverPrograms.entries()) {
    const server = await net.server(program, at + 1);
    const host = 50 + 10 * at;
    await server.start({ pool: [host, host], lease: 600, authoritative: false });
  }
  const seen = await net.capture();
  const first = await net.guest('a');
  const a = clientIn(t, first);
  a.client.start();
  const got = await a.bound();
  assert.match(got, /^10\.77\.0\.[567]0\/24$/);
  await until('all have offered', () => countOf(seen, 'Offer') === 3);
  await seen.settled();
  const [request = '', ...more] = seen.lines().filter((line) => line.includes('length 1: Request'));
  assert.deepEqual(more, []);
  const { server = '' } = a.client.status().lease ?? {};
  assert.ok(request.includes(`Server-ID (54), length 4: ${server}`), request);
  assert.deepEqual(
    seen.messages().filter((message) => message.startsWith('ACK')),
    [`ACK ${server}.67 > ${got.replace('/24', '')}.68`],
  );
  assert.deepEqual(cidrs(first, 'eth1'), [got]);
});

withEach('a pool that is exhausted, until somebody gives an address back', async (t, program, nr) => {
  const net = await lan(t, `one${nr}`);
  const server = await net.server(program);
  await server.start({ pool: [50, 50], lease: 600 });
  const [first, second] = [await net.guest('a'), await net.guest('b')];
  const a = clientIn(t, first);
  a.client.start();
  assert.equal(await a.bound(), '10.77.0.50/24');
  const seen = await net.capture();
  const b = clientIn(t, second);
  b.client.start();
  await until('it has asked twice', () => b.client.status().reason !== undefined);
  assert.deepEqual(
    [b.client.status().state, b.client.status().reason],
    ['SELECTING', 'no DHCP server answers'],
  );
  await seen.settled();
  assert.ok(countOf(seen, 'Discover') > 1);
  assert.equal(countOf(seen, 'Offer'), 0);
  assert.deepEqual(cidrs(second, 'eth1'), []);
  a.client.release();
  assert.equal(await b.bound(), '10.77.0.50/24');
  await seen.settled();
  assert.equal(
    seen.messages().find((message) => message.startsWith('Release')),
    'Release 10.77.0.50.68 > 10.77.0.1.67',
  );
});

/** Messages of a kind that have passed. */
const countOf = (seen: Capture, kind: string): number =>
  seen.messages().filter((message) => message.startsWith(kind)).length;

test('offers to another question, to another host, and damaged ones are not taken; a good one is', async (t) => {
  if (skipUnless(t, 'root', 'program:tcpdump')) return;
  const net = await lan(t, 'rogue');
  const [guest, rogue] = [await net.guest('c'), await net.guest('r')];
  makeRoom(net, guest, rogue);
  const seen = await net.capture();
  const fake = fakeServer(t, rogue);
  const questions: DhcpMessage[] = [];
  fake.behave((question) => {
    questions.push(question);
    return [];
  });
  const { client, events } = clientIn(t, guest);
  client.start();
  await until('it asks', () => questions.length > 0);
  const [question] = questions;
  assert.ok(question);
  const from = '10.77.0.6';
  for (const answer of badAnswers(question, 'offer', from).flat()) fake.send(answer);
  // What comes after them is read after them.
  const good = answerTo(question, 'offer', { serverId: from }, { yiaddr: '10.77.0.67' });
  fake.send(serverFrame(good, from));
  await until('it is taken', () => countOf(seen, 'Request') > 0);
  await seen.settled();
  assert.ok(countOf(seen, 'Offer') > 5, 'the others have passed');
  const [request = ''] = seen.lines().filter((line) => line.includes('length 1: Request'));
  assert.match(request, /Requested-IP \(50\), length 4: 10\.77\.0\.67/);
  // Nobody answered it.
  assert.deepEqual(events, []);
});

test('after its REQUEST only the chosen server has a say, and only in a whole packet', async (t) => {
  if (skipUnless(t, 'root', 'program:tcpdump')) return;
  const net = await lan(t, 'rogueack');
  const [guest, rogue] = [await net.guest('c'), await net.guest('r')];
  makeRoom(net, guest, rogue);
  const seen = await net.capture();
  const fake = fakeServer(t, rogue);
  const from = '10.77.0.6';
  const good = { serverId: from };
  const asked: DhcpMessage[] = [];
  fake.behave((question) => {
    if (question.options.messageType === messageTypes.discover)
      return [serverFrame(answerTo(question, 'offer', good), from)];
    asked.push(question);
    const other = { serverId: '10.77.0.7' };
    return [
      ...badAnswers(question, 'ack', from).flat(),
      // Another server grants and refuses, the right one calls itself another, and somebody says nothing of it.
      serverFrame(answerTo(question, 'ack', other), '10.77.0.7'),
      serverFrame(answerTo(question, 'nak', other), '10.77.0.7'),
      serverFrame(answerTo(question, 'ack', other), from),
      serverFrame(answerTo(question, 'nak', {}), from),
    ];
  });
  const { client, events } = clientIn(t, guest);
  client.start();
  // Asked a second time, as nothing of what came before was an answer.
  await until('it asks again', () => asked.length > 1);
  assert.equal(client.status().state, 'REQUESTING');
  await seen.settled();
  assert.ok(countOf(seen, 'ACK') > 0 && countOf(seen, 'NACK') > 0, 'they have passed');
  assert.ok(!seen.lines().some((line) => line.includes('who-has 10.77.0.66')), 'it is not looked at');
  assert.deepEqual(events, []);
  fake.behave((question) => [serverFrame(answerTo(question, 'ack', good), from)]);
  await until('the server itself is believed', () => events.length > 0);
  assert.deepEqual(events, ['bind 10.77.0.66']);
});

/** What is no answer to this question, though all but one thing is right with each. */
function badAnswers(question: DhcpMessage, type: 'offer' | 'ack', from: string): Buffer[][] {
  const answer = answerTo(question, type, { serverId: from });
  const bytes = encodeMessage(answer);
  const frame = (damage: (frame: Buffer) => void): Buffer => serverFrame(answer, from, damage);
  const changed = (given: Partial<DhcpMessage>): Buffer => serverFrame({ ...answer, ...given }, from);
  const fragment = (offset: number): Buffer =>
    frame((one) => {
      one.writeUInt16BE(offset, 20);
      sign(one);
    });
  const beyondItsEnd = Buffer.concat([bytes.subarray(0, 240), Buffer.from([53, 9, 2])]);
  return [
    // Of another exchange, to another host, from a client.
    [changed({ xid: (question.xid ^ 1) >>> 0 }), changed({ chaddr: Buffer.from('020000000099', 'hex') })],
    [changed({ op: 1 })],
    // No lease, and the address of nobody.
    [changed({ options: { ...answer.options, leaseTime: 0 } }), changed({ yiaddr: '0.0.0.0' })],
    // Over-long, and no DHCP.
    [serverFrame(Buffer.concat([bytes, Buffer.alloc(1600 - bytes.length)]), from)],
    [serverFrame(Buffer.alloc(300, 0x41), from), serverFrame(bytes.subarray(0, 239), from)],
    [serverFrame(beyondItsEnd, from)],
    // Damaged: its content, its IP header; longer than its packet, cut, and in fragments.
    [frame((one) => one.writeUInt8(one.readUInt8(300) ^ 1, 300))],
    [frame((one) => one.writeUInt8(one.readUInt8(22) ^ 1, 22))],
    [frame((one) => one.writeUInt16BE(one.readUInt16BE(38) + 8, 38)), frame(() => {}).subarray(0, 200)],
    [fragment(0x2000), fragment(0x0008)],
  ];
}

/** So that what is over-long can pass. */
function makeRoom(net: Lan, ...guests: readonly string[]): void {
  run('ip', ['-n', net.name, 'link', 'set', 'w-c', 'mtu', '9000']);
  run('ip', ['-n', net.name, 'link', 'set', 'w-r', 'mtu', '9000']);
  for (const guest of guests) run('ip', ['-n', guest, 'link', 'set', 'eth1', 'mtu', '9000']);
}

withEach('an address that another host has is declined, and its holder keeps it', async (t, program, nr) => {
  const net = await lan(t, `dup${nr}`);
  const server = await net.server(program);
  await server.start({ pool: [50, 51], lease: 600 });
  const holder = await net.guest('h');
  // One of the two is offered first; its holder has it whichever it is.
  const guest = await net.guest('c');
  const seen = await net.capture();
  for (const ip of ['10.77.0.50', '10.77.0.51'])
    run('ip', ['-n', holder, 'addr', 'add', `${ip}/24`, 'dev', 'eth1']);
  const { client, events, bound } = clientIn(t, guest);
  client.start();
  await until('it is declined', () => client.status().state === 'DECLINED');
  const mac = ipLink(holder, 'eth1')?.address;
  const [, ip = ''] = /^(\S+) was refused/.exec(client.status().reason ?? '') ?? [];
  assert.equal(client.status().reason, `${ip} was refused: ${mac} has it`);
  await seen.settled();
  const [line = ''] = seen.lines().filter((text) => text.includes('length 1: Decline'));
  assert.match(line, /0\.0\.0\.0\.68 > 255\.255\.255\.255\.67/);
  assert.ok(line.includes(`Requested-IP (50), length 4: ${ip}`), line);
  assert.match(line, /Server-ID \(54\), length 4: 10\.77\.0\.1/);
  assert.match(line, /Client-ID \(61\)/);
  assert.deepEqual(events, []);
  assert.deepEqual(cidrs(guest, 'eth1'), []);
  await until('the server has put it aside', () => /DHCPDECLINE|DHCP4_DECLINE/.test(server.log()));
  assert.equal(cidrs(holder, 'eth1').length, 2);
  // The other one is free by now.
  const other = ip === '10.77.0.50' ? '10.77.0.51' : '10.77.0.50';
  run('ip', ['-n', holder, 'addr', 'del', `${other}/24`, 'dev', 'eth1']);
  assert.equal(await bound(), `${other}/24`);
});

withEach(
  "through a relay: its option 82 is the server's to see, the client neither sends nor needs it",
  async (t, program, nr) => {
    if (skipUnless(t, 'program:dhcrelay')) return;
    const net = await lan(t, `rel${nr}`);
    const relay = await net.guest('r');
    run('ip', ['-n', relay, 'addr', 'add', '10.77.0.254/24', 'dev', 'eth1']);
    // The server is behind the relay, on a network of its own.
    const far = await lan(t, `far${nr}`);
    const server = await far.server(program);
    run('ip', ['-n', far.name, 'link', 'add', 'wire', 'type', 'veth', 'peer', 'name', 'far', 'netns', relay]);
    run('ip', ['-n', far.name, 'link', 'set', 'wire', 'master', 'br0', 'up']);
    run('ip', ['-n', relay, 'link', 'set', 'far', 'up']);
    run('ip', ['-n', relay, 'addr', 'add', '10.88.0.254/24', 'dev', 'far']);
    runIn(relay, 'sysctl', ['-qw', 'net.ipv4.ip_forward=1']);
    const times = program === 'dnsmasq' ? { lease: 120, t1: 3, t2: 60 } : { lease: 60, t1: 2, t2: 30 };
    await server.start({ pool: [50, 59], ...times, behindRelay: '10.88.0' });
    run('ip', ['-n', server.netns, 'route', 'add', '10.77.0.0/24', 'via', '10.88.0.254']);
    spawnIn(t, relay, 'dhcrelay', ['-4', '-d', '-a', '-iu', 'far', '-id', 'eth1', '10.88.0.1']);
    await until('the relay listens', () => runIn(relay, 'ss', ['-Hlun', 'sport', '=', '67']).stdout !== '');
    const [near, beyond] = [await net.capture(), await far.capture()];
    const guest = await net.guest('c');
    const { client, events, bound } = clientIn(t, guest);
    client.start();
    assert.match(await bound(), /^10\.77\.0\.5\d\/24$/);
    await Promise.all([near.settled(), beyond.settled()]);
    assert.ok(
      beyond.lines().some((line) => line.includes('Agent-Information (82)') && line.includes('Discover')),
    );
    for (const line of near.lines().filter((text) => text.includes('.68 > ')))
      assert.doesNotMatch(line, /Agent-Information/);
    // Renewed with the server itself, which is on another network.
    await until('it is renewed', () => events.length > 1);
    const renewal = /^Request 10\.77\.0\.5\d\.68 > 10\.88\.0\.1\.67$/;
    await beyond.settled();
    assert.ok(beyond.messages().some((message) => renewal.test(message)));
  },
);
