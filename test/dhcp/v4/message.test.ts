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
import { allocatedBy } from '../allocation.ts';

const ip = fc.tuple(fc.nat(255), fc.nat(255), fc.nat(255), fc.nat(255)).map((bytes) => bytes.join('.'));
const ips = fc.array(ip, { minLength: 1, maxLength: 16 });
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
    parameterList: fc.uint8Array({ maxLength: 300 }),
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
    searchDomains: fc.array(domain, { minLength: 1, maxLength: 16 }),
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

/** What a packet may have made, garbage and all. */
const mostBytes = 65_536;

/** A source of numbers that gives the same ones each time. */
function numbers(): (below: number) => number {
  let seed = 1;
  return (below) => {
    seed = (Math.imul(seed, 1103515245) + 12345) >>> 0;
    return (seed >>> 8) % below;
  };
}

const repeated = (unit: readonly number[], length: number): number[] =>
  Array.from({ length }, (_, at) => unit[at % unit.length] ?? 0);

/** An option in as many pieces as it takes. */
function option(code: number, data: readonly number[]): number[] {
  const pieces: number[] = [];
  for (let from = 0; from < data.length; from += 255) {
    const piece = data.slice(from, from + 255);
    pieces.push(code, piece.length, ...piece);
  }
  return pieces;
}

/** Names that take little on the wire and much in memory: pointers to a long one. */
const pointers = (count: number): number[] => [
  ...repeated([1, 97], 250),
  0,
  ...repeated([0xc0, 0], 2 * count),
];

/** Contents of which a decoder makes many times their size, of about `length` bytes. */
const costly: ((length: number) => number[])[] = [
  (length) => option(119, pointers(Math.max(1, (length - 251) >> 1))),
  (length) => option(121, repeated([25, 101, 101, 101, 101, 200, 200, 200, 200], length - (length % 9))),
  (length) => [3, 6, 42].flatMap((code) => option(code, Array<number>((length >> 4) << 2).fill(200))),
  (length) => [12, 15, 56, 60].flatMap((code) => option(code, repeated([0xe2, 0x82, 0xac, 1], length >> 2))),
  (length) => option(12, repeated([97, 1], length)),
  (length) => option(15, Array<number>(length).fill(0xc3)),
  (length) => option(77, repeated([1, 1], length)),
  (length) => option(81, [4, 0, 0, ...repeated([1, 97], length)]),
  (length) => Array.from({ length: length >> 1 }, (_, at) => (at % 2 === 0 ? 170 + (at >> 1) : 0)),
  (length) => Array.from({ length: 30 }, (_, at) => option(150 + at, Array(length >> 5).fill(1))).flat(),
  (length) => repeated([200, 0], length),
];

/** Random bytes, whole messages, and what is costly, in turns; then changed and cut, or not. */
function packets(count: number, use: (packet: Buffer) => void): void {
  const random = numbers();
  const made = (one: () => Buffer): Buffer[] => Array.from({ length: 400 }, one);
  const mixture = (): Buffer => {
    const parts = 1 + random(4);
    const content = Array.from(
      { length: parts },
      () => costly[random(costly.length)]?.(Math.floor(1240 / parts)) ?? [],
    );
    return wire([...content.flat(), 255]).subarray(0, 1500);
  };
  const kinds = [
    made(() => wire(Array.from({ length: random(400) }, () => random(256)))),
    made(mixture),
    fc
      .sample(message, { numRuns: 400, seed: 1 })
      .map(encodeMessage)
      .filter(({ length }) => length <= 1500),
  ];
  for (let at = 0; at < count; at++) {
    const some = kinds[at % kinds.length] ?? [];
    const packet = Buffer.from(some[random(some.length)] ?? []);
    const isWhole = random(3) === 0;
    for (let changes = isWhole ? 0 : random(12); changes > 0; changes--)
      packet[random(packet.length)] = random(256);
    use(!isWhole && random(3) === 0 ? packet.subarray(0, random(packet.length + 1)) : packet);
  }
}

test('100,000 random and mutated packets: only its own error, and never more than 64 KiB', (t) => {
  const counts = { read: 0, refused: 0 };
  let largest = 0;
  packets(100_000, (packet) => {
    let isRead = false;
    const bytes = allocatedBy(() => {
      try {
        decodeMessage(packet);
        isRead = true;
      } catch (error) {
        if (!(error instanceof DhcpDecodeError)) throw error;
      }
    }, mostBytes);
    if (bytes > mostBytes) assert.fail(`${bytes} bytes for ${packet.toString('hex')}`);
    largest = Math.max(largest, bytes);
    counts[isRead ? 'read' : 'refused'] += 1;
  });
  t.diagnostic(`${JSON.stringify(counts)}, at most ${largest} bytes`);
  assert.ok(counts.read > 10_000 && counts.refused > 10_000, JSON.stringify(counts));
});

test('lists are cut, and what is larger than asked for is refused', () => {
  const names = decodeMessage(wire([...costly[0]!(1000), 255])).options;
  assert.equal(names.searchDomains?.length, 16);
  const addresses = decodeMessage(wire([...option(6, Array<number>(400).fill(9)), 255])).options;
  assert.equal(addresses.dns?.length, 16);
  assert.throws(() => decodeMessage(Buffer.alloc(1501)), DhcpDecodeError);
  const kinds = (count: number): Buffer =>
    wire(Array.from({ length: count }, (_, at) => [150 + at, 1, 7]).flat());
  assert.equal(Object.keys(decodeMessage(kinds(40)).raw).length, 40);
  assert.throws(() => decodeMessage(kinds(41)), DhcpDecodeError);
});
