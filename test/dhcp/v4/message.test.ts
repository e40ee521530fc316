import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import {
  DhcpDecodeError,
  type DhcpMessage,
  decodeMessage,
  encodeMessage,
} from '../../../src/dhcp/v4/message.ts';
import type { DhcpOptions } from '../../../src/dhcp/v4/options.ts';

const ip = fc.tuple(fc.nat(255), fc.nat(255), fc.nat(255), fc.nat(255)).map((bytes) => bytes.join('.'));
const ips = fc.array(ip, { minLength: 1, maxLength: 64 });
const u32 = fc.nat(0xffffffff);
const bytes = fc.uint8Array({ maxLength: 700 });
const text = fc.string({ unit: fc.constantFrom(...'abcXYZ019-_. äß€'), minLength: 1, maxLength: 300 });
const label = fc.string({ unit: fc.constantFrom(...'abcxyz019-_'), minLength: 1, maxLength: 20 });
const domain = fc.array(label, { minLength: 1, maxLength: 5 }).map((labels) => labels.join('.'));
const route = fc.tuple(fc.nat(32), fc.nat(0xffffffff), ip).map(([prefixLen, address, gateway]) => {
  const kept = prefixLen === 0 ? 0 : (address & (0xffffffff << (32 - prefixLen))) >>> 0;
  const [a, b, c, d] = [kept >>> 24, (kept >>> 16) & 255, (kept >>> 8) & 255, kept & 255];
  return { dst: { family: 4 as const, ip: `${a}.${b}.${c}.${d}`, prefixLen }, gateway };
});

const options: fc.Arbitrary<DhcpOptions> = fc.record(
  {
    subnetMask: ip,
    routers: ips,
    dns: ips,
    hostName: text,
    domainName: text,
    mtu: fc.nat(0xffff),
    broadcast: ip,
    ntp: ips,
    vendorSpecific: bytes,
    requestedAddress: ip,
    leaseTime: u32,
    messageType: fc.nat(255),
    serverId: ip,
    parameterList: fc.array(fc.nat(255), { maxLength: 300 }),
    message: text,
    maxMessageSize: fc.nat(0xffff),
    renewalTime: u32,
    rebindingTime: u32,
    vendorClass: text,
    clientId: bytes,
    userClasses: fc.array(
      text.filter((one) => Buffer.byteLength(one) < 256),
      { minLength: 1, maxLength: 5 },
    ),
    fqdn: domain.map((name) => ({ flags: 5, name })),
    searchDomains: fc.array(domain, { minLength: 1, maxLength: 20 }),
    classlessRoutes: fc.array(route, { minLength: 1, maxLength: 64 }),
  },
  { requiredKeys: [] },
);

const message: fc.Arbitrary<DhcpMessage> = fc.record({
  op: fc.constantFrom(1 as const, 2 as const),
  htype: fc.nat(255),
  hops: fc.nat(255),
  xid: u32,
  secs: fc.nat(0xffff),
  broadcast: fc.boolean(),
  ciaddr: ip,
  yiaddr: ip,
  siaddr: ip,
  giaddr: ip,
  chaddr: fc.uint8Array({ maxLength: 16 }),
  options,
  raw: fc.dictionary(fc.constantFrom('82', '125', '150', '252'), bytes, { maxKeys: 3 }),
});

test('every message comes back as it was', () => {
  fc.assert(
    fc.property(message, (one) => {
      const read = decodeMessage(encodeMessage(one));
      assert.deepEqual(
        { ...read, raw: { ...read.raw } },
        { ...one, options: { ...one.options }, raw: { ...one.raw } },
      );
    }),
    { numRuns: 300 },
  );
});

/** A header, its areas `sname` and `file`, and options as they are on the wire. */
function wire(
  optionBytes: readonly number[],
  file: readonly number[] = [],
  sname: readonly number[] = [],
): Buffer {
  const head = Buffer.alloc(236);
  head.set([2, 1, 6, 0]);
  head.set(sname, 44);
  head.set(file, 108);
  return Buffer.concat([head, Buffer.from([0x63, 0x82, 0x53, 0x63, ...optionBytes])]);
}

test('an option in pieces is one, through file and then sname where option 52 says so', () => {
  const pieces = wire([12, 2, 97, 98, 52, 1, 3, 12, 1, 99, 255], [12, 1, 100, 255], [12, 1, 101, 255]);
  assert.equal(decodeMessage(pieces).options.hostName, 'abcde');
  const onlyFile = wire([52, 1, 1, 255], [12, 1, 100, 255], [12, 1, 101, 255]);
  assert.equal(decodeMessage(onlyFile).options.hostName, 'd');
  const untold = wire([12, 1, 97, 255], [12, 1, 100, 255]);
  assert.equal(decodeMessage(untold).options.hostName, 'a');
});

test('the examples of RFC 3397 and RFC 3442', () => {
  const data = [3, ...Buffer.from('eng'), 5, ...Buffer.from('apple'), 3, ...Buffer.from('com'), 0];
  const more = [9, ...Buffer.from('marketing'), 0xc0, 4];
  const joined = [119, data.length, ...data, 119, more.length, ...more, 255];
  assert.deepEqual(decodeMessage(wire(joined)).options.searchDomains, [
    'eng.apple.com',
    'marketing.apple.com',
  ]);
  const routes = [121, 13, 0, 10, 0, 0, 1, 24, 10, 229, 0, 10, 229, 0, 128, 255];
  assert.deepEqual(
    decodeMessage(wire(routes)).options.classlessRoutes?.map(
      ({ dst, gateway }) => `${dst.ip}/${dst.prefixLen} ${gateway}`,
    ),
    ['0.0.0.0/0 10.0.0.1', '10.229.0.0/24 10.229.0.128'],
  );
});

test('content that is not as it should be is kept aside, and says nothing', () => {
  const read = decodeMessage(wire([1, 3, 255, 255, 255, 121, 2, 33, 0, 119, 2, 0xc0, 0, 26, 1, 5, 255]));
  assert.deepEqual(read.options, {});
  assert.deepEqual(Object.keys(read.raw), ['1', '26', '119', '121']);
});

test('a name that points to itself, or forward, is refused', () => {
  for (const data of [
    [0xc0, 0],
    [1, 97, 0xc0, 2],
    [0xc0, 2, 0xc0, 0],
    [1, 97, 0xc0, 5, 0],
  ])
    assert.equal(decodeMessage(wire([119, data.length, ...data, 255])).options.searchDomains, undefined);
});

test("what a relay added is neither read nor lost, and a server's text cannot control a terminal", () => {
  const relay = [82, 4, 1, 2, 0xde, 0xad];
  const read = decodeMessage(wire([...relay, 56, 6, 0x1b, 91, 51, 49, 109, 0, 255]));
  assert.deepEqual(read.raw[82], Uint8Array.from([1, 2, 0xde, 0xad]));
  assert.equal(read.options.message, '?[31m');
});

test('100,000 random and mutated packets: only its own error, in bounded time and memory', () => {
  const samples = fc
    .sample(message, { numRuns: 400, seed: 1 })
    .map(encodeMessage)
    .filter(({ length }) => length < 1000);
  let seed = 1;
  const random = (below: number): number => {
    seed = (Math.imul(seed, 1103515245) + 12345) >>> 0;
    return (seed >>> 8) % below;
  };
  const counts = { read: 0, refused: 0 };
  let largest = 0;
  for (let at = 0; at < 100_000; at++) {
    const packet =
      at % 4 === 0
        ? Buffer.concat([
            samples[0]!.subarray(0, 240),
            Buffer.from(Array.from({ length: random(400) }, () => random(256))),
          ])
        : Buffer.from(samples[at % samples.length]!);
    for (let changes = random(12); changes > 0; changes--) packet[random(packet.length)] = random(256);
    const cut = random(3) === 0 ? packet.subarray(0, random(packet.length + 1)) : packet;
    try {
      const read = decodeMessage(cut);
      counts.read += 1;
      if (at % 100 === 0) largest = Math.max(largest, JSON.stringify(read).length);
    } catch (error) {
      if (!(error instanceof DhcpDecodeError)) throw error;
      counts.refused += 1;
    }
  }
  assert.ok(counts.read > 10_000 && counts.refused > 10_000, JSON.stringify(counts));
  assert.ok(largest < 65_536, `${largest}`);
});

test('the worst that a packet can have made stays below 64 KiB', () => {
  // Names by pointers, each of 250 bytes, and addresses, as many as fit.
  const label62 = [62, ...Array<number>(62).fill(97)];
  const name = [
    ...label62,
    ...label62,
    ...label62,
    ...label62.slice(0, 1).map(() => 50),
    ...Array<number>(50).fill(98),
    0,
  ];
  const pieces: number[] = [];
  const put = (code: number, data: readonly number[]): void => {
    for (let from = 0; from < data.length; from += 255) {
      const piece = data.slice(from, from + 255);
      pieces.push(code, piece.length, ...piece);
    }
  };
  put(119, [...name, ...Array.from({ length: 800 }, () => [0xc0, 0]).flat()]);
  for (const code of [3, 6, 42]) put(code, Array<number>(1600).fill(200));
  put(121, Array<number>(1000).fill(0));
  const read = decodeMessage(wire(pieces));
  assert.ok(JSON.stringify(read.options).length < 65_536);
  assert.equal(read.options.dns?.length, 64);
  assert.throws(() => decodeMessage(Buffer.alloc(9217)), DhcpDecodeError);
});
