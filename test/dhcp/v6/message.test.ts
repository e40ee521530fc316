import assert from 'node:assert/strict';
import { randomFillSync } from 'node:crypto';
import { test } from 'node:test';
import fc from 'fast-check';
import { MalformedDhcp6 } from '../../../src/dhcp/v6/codec.ts';
import { decodeMessage, encodeMessage, type Message, messageTypes } from '../../../src/dhcp/v6/message.ts';
import { bytesToIp } from '../../../src/model/address.ts';
import { allocatedBy } from '../allocation.ts';

const u32 = fc.nat(0xffffffff);
const ip = fc.uint8Array({ minLength: 16, maxLength: 16 }).map((bytes) => bytesToIp(bytes));
const label = fc.stringMatching(/^[A-Za-z0-9_-]{1,20}$/);
const name = fc.array(label, { minLength: 1, maxLength: 5 }).map((labels) => labels.join('.'));
/** Plain objects, as the decoder makes them. */
const plain = { noNullPrototype: true };
const status = fc.record({ code: fc.nat(0xffff), message: fc.stringMatching(/^[ -~]{0,50}$/) }, plain);
const list = <T>(one: fc.Arbitrary<T>): fc.Arbitrary<T[]> => fc.array(one, { minLength: 1, maxLength: 4 });
const data = list(fc.uint8Array({ maxLength: 40 }));
const iaAddr = fc.record(
  { ip, preferred: u32, valid: u32, status },
  { ...plain, requiredKeys: ['ip', 'preferred', 'valid'] },
);
const iaNa = fc.record(
  { iaid: u32, t1: u32, t2: u32, addrs: list(iaAddr), status },
  { ...plain, requiredKeys: ['iaid', 't1', 't2'] },
);
const duid = fc.uint8Array({ minLength: 3, maxLength: 130 });
const message: fc.Arbitrary<Message> = fc.record(
  {
    type: fc.constantFrom(...(Object.keys(messageTypes) as Message['type'][])),
    xid: fc.nat(0xffffff),
    clientId: duid,
    serverId: duid,
    iaNas: fc.array(iaNa, { minLength: 1, maxLength: 2 }),
    requested: list(fc.nat(0xffff)),
    preference: fc.nat(255),
    elapsed: fc.nat(0xffff),
    status,
    rapidCommit: fc.constant(true as const),
    userClass: data,
    vendorClass: fc.record({ enterprise: u32, data }, plain),
    dnsServers: list(ip),
    dnsSearch: list(name),
    sntpServers: list(ip),
    refreshTime: u32,
    fqdn: fc.record({ serverUpdates: fc.boolean(), name }, plain),
    ntp: fc.record({ servers: list(ip), names: list(name) }, plain),
    solMaxRt: u32,
    infMaxRt: u32,
  },
  { ...plain, requiredKeys: ['type', 'xid'] },
);

/** A Reply that dnsmasq 2.90 sent. */
const recorded = Buffer.from('', 'hex');

test('what is written is read back', () => {
  fc.assert(
    fc.property(message, (sent) => {
      assert.deepEqual(decodeMessage(encodeMessage(sent)), sent);
    }),
  );
});

test('lengths that cannot be are errors of the decoder', () => {
  const malformed: Record<string, string> = {
    'no message': '0700',
    'an unknown type': '63000001',
    'an option without a length': '070000010001',
    'an option that is longer than the message': '0700000100010020aabb',
    'a DUID that is too short': '07000001000200010a',
    'an IA that is too short': '070000010003000400000001',
    'an address that is cut short': `0700000100030014${'00'.repeat(12)}00050004${'00'.repeat(4)}`,
    'half a list of addresses': `07000001001700080000000000000000`,
    'a rapid commit with a value': '07000001000e000100',
    'a label that is longer than its option': '0700000100180002 0561'.replace(' ', ''),
    'a compressed name': '0700000100180002c000',
    'class data that is cut short': '07000001000f00030009aa',
    'too many IAs': `07000001${`0003000c${'00'.repeat(12)}`.repeat(3)}`,
    'too many options': `07000001${'00630000'.repeat(65)}`,
    'a message that is too long': `07000001${'00'.repeat(9000)}`,
  };
  for (const [what, hex] of Object.entries(malformed))
    assert.throws(() => decodeMessage(Buffer.from(hex, 'hex')), MalformedDhcp6, what);
});

test('long lists are cut, and names that are no host names left out', () => {
  const long = `07000001 0017${(16 * 40).toString(16).padStart(4, '0')}${'20'.repeat(16 * 40)}`.replace(
    ' ',
    '',
  );
  assert.equal(decodeMessage(Buffer.from(long, 'hex')).dnsServers?.length, 8);
  const sent = encodeMessage({
    type: 'reply',
    xid: 1,
    dnsSearch: ['a b\nnameserver 6.6.6.6', 'lan.example'],
  });
  assert.deepEqual(decodeMessage(sent).dnsSearch, ['lan.example']);
});

/** Random bytes, or a real message with some of its bits, bytes or its length changed. */
function* packets(count: number, seeds: readonly Buffer[]): Generator<Buffer> {
  const pool = Buffer.alloc(64 * 1024);
  randomFillSync(pool);
  let at = 0;
  const random = (below: number): number => {
    if (at + 4 > pool.length) {
      randomFillSync(pool);
      at = 0;
    }
    at += 4;
    return pool.readUInt32LE(at - 4) % below;
  };
  for (let i = 0; i < count; i++) {
    if (i % 4 === 0) {
      const length = random(1500);
      const from = random(pool.length - length);
      const bytes = Buffer.from(pool.subarray(from, from + length));
      // Half of them get beyond the type.
      if (length > 0 && i % 8 === 0) bytes[0] = 1 + random(11);
      yield bytes;
      continue;
    }
    const bytes = Buffer.from(seeds[random(seeds.length)] ?? '');
    for (let n = 1 + random(8); n > 0; n--) bytes[random(bytes.length)] = random(256);
    yield i % 3 === 0 ? bytes.subarray(0, random(bytes.length)) : bytes;
  }
}

/** As much as can be in a message, and each part of it such that much is made of it. */
function heaviestPacket(): Buffer {
  const tag = (code: number, body: Buffer): Buffer => {
    const header = Buffer.alloc(4);
    header.writeUInt16BE(code, 0);
    header.writeUInt16BE(body.length, 2);
    return Buffer.concat([header, body]);
  };
  const many = (count: number, one: Buffer): Buffer =>
    Buffer.concat(Array.from({ length: count }, () => one));
  const address = randomFillSync(Buffer.alloc(16));
  const domain = Buffer.concat([
    many(4, Buffer.concat([Buffer.from([60]), Buffer.alloc(60, 'a')])),
    Buffer.alloc(1),
  ]);
  const leased = tag(5, Buffer.concat([address, Buffer.alloc(8), tag(13, Buffer.alloc(36, 'no'))]));
  const heaviest = [
    many(2, tag(3, Buffer.concat([Buffer.alloc(12), many(8, leased)]))),
    tag(23, many(8, address)),
    tag(24, many(2, domain)),
    tag(31, many(8, address)),
    tag(56, Buffer.concat([many(8, tag(1, address)), many(1, tag(3, domain))])),
  ];
  const packet = Buffer.concat([Buffer.from('07000001', 'hex'), ...heaviest]);
  assert.ok(packet.length <= 2304 && packet.length > 2200, `${packet.length} bytes`);
  return packet;
}

/** What a packet may have made, garbage and all. */
const mostBytes = 65_536;

test("100,000 random and mutated packets: no error but the decoder's own, and never more than 64 KiB", (t) => {
  const seeds = [recorded, heaviestPacket(), ...fc.sample(message, 200).map(encodeMessage)];
  let read = 0;
  let largest = 0;
  const measure = (packet: Buffer): void => {
    let isRead = false;
    const bytes = allocatedBy(() => {
      try {
        decodeMessage(packet);
        isRead = true;
      } catch (error) {
        if (!(error instanceof MalformedDhcp6))
          throw new Error(`of ${packet.toString('hex')}`, { cause: error });
      }
    }, mostBytes);
    if (bytes > mostBytes) assert.fail(`${bytes} bytes for ${packet.toString('hex')}`);
    largest = Math.max(largest, bytes);
    if (isRead) read += 1;
  };
  for (const packet of packets(100_000, seeds)) measure(packet);
  for (let i = 0; i < 10; i++) measure(heaviestPacket());
  t.diagnostic(`${read} of 100,000 were messages; at most ${largest} bytes for one`);
  // Else the test would only have seen what is refused at the door.
  assert.ok(read > 10_000, `${read} of 100,000 were messages`);
});
