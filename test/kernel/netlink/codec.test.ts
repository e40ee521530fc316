import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import {
  type Attrs,
  attr,
  attrNumber,
  attrs,
  be16,
  decodeAttrs,
  encodeAttrs,
  ip,
  mac,
  nested,
  raw,
  rawAttrs,
  s32,
  text,
  u8,
  u16,
  u32,
} from '../../../src/kernel/netlink/codec.ts';
import { bytesToIp } from '../../../src/model/address.ts';

const inner = { names: attrs(53, text), mode: attr(2, u16) } as const;
const table = {
  byte: attr(1, u8),
  short: attr(2, u16),
  word: attr(3, u32),
  signed: attr(4, s32),
  port: attr(5, be16),
  name: attr(6, text),
  mac: attr(7, mac),
  ip: attr(8, ip),
  raw: attr(9, raw),
  inner: attr(10, nested(inner)),
  list: { ...attr(11, nested(inner)), nestedFlag: true },
} as const;

test('numbers lie in the order of the host, ports in that of the network, and all is padded to four bytes', () => {
  const bytes = encodeAttrs(table, { byte: 1, short: 0x0203, word: 0x04050607, port: 0x0809, name: 'eth1' });
  assert.equal(
    bytes.toString('hex'),
    [
      '0500010001000000',
      '0600020003020000',
      '0800030007060504',
      '0600050008090000',
      '09000600657468310000 0000',
    ]
      .join('')
      .replaceAll(' ', ''),
  );
});

test('an attribute inside of another carries NLA_F_NESTED only where the table says so', () => {
  const type = (values: Attrs<typeof table>): number | undefined =>
    rawAttrs(encodeAttrs(table, values))[0]?.type;
  assert.equal(type({ inner: { mode: 1 } }), 10);
  assert.equal(type({ list: { mode: 1 } }), 0x8000 | 11);
});

const innerValues = fc.record(
  { names: fc.array(fc.string({ unit: 'grapheme-ascii' }), { minLength: 1 }), mode: fc.nat(0xffff) },
  { requiredKeys: [] },
);
const bytesOf = (length: number) => fc.uint8Array({ minLength: length, maxLength: length });
const macText = bytesOf(6).map((b) => Array.from(b, (byte) => byte.toString(16).padStart(2, '0')).join(':'));
const values = fc.record(
  {
    byte: fc.nat(0xff),
    short: fc.nat(0xffff),
    word: fc.nat(0xffffffff),
    signed: fc.integer(),
    port: fc.nat(0xffff),
    name: fc.string({ unit: 'grapheme' }).filter((name) => !name.includes('\0')),
    mac: macText,
    ip: fc.oneof(bytesOf(4), bytesOf(16)).map(bytesToIp),
    raw: fc.uint8Array({ maxLength: 300 }).map((bytes) => Buffer.from(bytes)),
    inner: innerValues,
    list: innerValues,
  },
  { requiredKeys: [] },
);
const unknown = fc.array(
  fc.record({
    // A number that the table does not have, with either flag.
    type: fc.tuple(fc.integer({ min: 12, max: 0x3fff }), fc.nat(3)).map(([nr, flags]) => nr | (flags << 14)),
    data: fc.uint8Array({ maxLength: 40 }).map((bytes) => Buffer.from(bytes)),
  }),
);

/** Without what decoding adds: empty lists of unknown attributes. */
function plain(value: unknown): unknown {
  if (Buffer.isBuffer(value)) return value.toString('hex');
  if (Array.isArray(value)) return value.map(plain);
  if (typeof value !== 'object' || value === null) return value;
  const entries = Object.entries(value).filter(
    ([key, one]) => one !== undefined && !(key === 'unknown' && one.length === 0),
  );
  return Object.fromEntries(entries.map(([key, one]) => [key, plain(one)]));
}

test('property: what is written is read again, unknown attributes and their flags included', () => {
  fc.assert(
    fc.property(values, unknown, (known, others) => {
      const bytes = encodeAttrs(table, { ...known, unknown: others } as Attrs<typeof table>);
      const read = decodeAttrs(table, bytes);
      assert.deepEqual(plain(read), plain({ ...known, unknown: others }));
      assert.deepEqual(encodeAttrs(table, read), bytes);
    }),
  );
});

test('property: whatever bytes there are, reading ends, and no attribute is longer than they are', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
      decodeAttrs({ ...table, ip: attr(8, raw) }, Buffer.from(bytes));
      assert.ok(rawAttrs(Buffer.from(bytes)).every(({ data }) => data.length <= bytes.length));
    }),
  );
});

test('an attribute of another length than the table says is kept as unknown', () => {
  const bytes = encodeAttrs({ word: attr(3, u16) }, { word: 7 });
  const { word, unknown: kept = [] } = decodeAttrs(table, bytes);
  assert.equal(word, undefined);
  assert.deepEqual(kept.map(attrNumber), [3]);
});
