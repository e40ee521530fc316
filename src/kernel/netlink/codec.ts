/**
 * Netlink attributes as data: a table gives each attribute its number, its codec and the kernel's constant.
 * What a table does not know is kept as it came and written back unchanged.
 * From <linux/netlink.h>, v6.12; the format is described in Documentation/userspace-api/netlink/intro.rst.
 */
import { endianness } from 'node:os';
import { bytesToIp, ipToBytes } from '../../model/address.ts';
import type { RawAttr } from '../../model/link.ts';

// Netlink numbers are in the byte order of the machine. Every machine that Node is built for today, s390x and AIX
// excepted, is little-endian; a program that silently wrote swapped numbers would be worse than one that says so.
if (endianness() !== 'LE') throw new Error('pipewright runs on little-endian machines only');

const NLA_HDRLEN = 4;
/** NLA_TYPE_MASK: the number without NLA_F_NESTED (0x8000) and NLA_F_NET_BYTEORDER (0x4000). */
const NLA_TYPE_MASK = 0x3fff;
const NLA_F_NESTED = 0x8000;

/** How a value lies in an attribute. */
export interface Codec<T> {
  /** Bytes of a value, where they are always the same number; an attribute of another length is not understood. */
  readonly size?: number;
  read(bytes: Buffer): T;
  /** The same in the midst of a message, for what is read by the thousand: a Buffer of four bytes costs more than they do. */
  readAt?(bytes: Buffer, from: number): T;
  write(value: T): Uint8Array;
}

function fixed<T>(
  size: number,
  readAt: (bytes: Buffer, from: number) => T,
  put: (into: Buffer, value: T) => void,
): Codec<T> {
  return {
    size,
    read: (bytes) => readAt(bytes, 0),
    readAt,
    write: (value) => {
      const bytes = Buffer.alloc(size);
      put(bytes, value);
      return bytes;
    },
  };
}

// In the byte order of the host.
export const u8 = fixed<number>(
  1,
  (b, from) => b.readUInt8(from),
  (b, v) => void b.writeUInt8(v),
);
export const u16 = fixed<number>(
  2,
  (b, from) => b.readUInt16LE(from),
  (b, v) => void b.writeUInt16LE(v),
);
export const u32 = fixed<number>(
  4,
  (b, from) => b.readUInt32LE(from),
  (b, v) => void b.writeUInt32LE(v),
);
export const s32 = fixed<number>(
  4,
  (b, from) => b.readInt32LE(from),
  (b, v) => void b.writeInt32LE(v),
);
// In the byte order of the network.
export const be16 = fixed<number>(
  2,
  (b, from) => b.readUInt16BE(from),
  (b, v) => void b.writeUInt16BE(v),
);

/** NUL-terminated text. */
export const text: Codec<string> = {
  read: (bytes) => {
    const end = bytes.indexOf(0);
    return bytes.toString('utf8', 0, end < 0 ? bytes.length : end);
  },
  write: (value) => Buffer.from(`${value}\0`),
};

/** `aa:bb:cc:dd:ee:ff`; a link-layer address can also have 4 bytes (tunnels), 16, 20 (InfiniBand) or none. */
export const mac: Codec<string> = {
  read: (bytes) => bytes.toString('hex').replace(/..(?=.)/g, '$&:'),
  write: (value) =>
    Uint8Array.from(value === '' ? [] : value.split(':'), (byte) => Number.parseInt(byte, 16)),
};

/** An IPv4 or IPv6 address in text form. */
export const ip: Codec<string> = { read: (bytes) => bytesToIp(bytes), write: ipToBytes };

/** Bytes that are not looked into. */
export const raw: Codec<Uint8Array> = { read: (bytes) => bytes, write: (value) => value };

/** One row of a table. */
export interface AttrRow<T> {
  readonly nr: number;
  readonly codec: Codec<T>;
  /** The attribute comes once for each element. */
  readonly many?: boolean;
  /** NLA_F_NESTED has to be set: what the kernel asks for in its newer attributes. */
  readonly nestedFlag?: boolean;
}

// biome-ignore lint/suspicious/noExplicitAny: rows of different types stand in one table
export type AttrTable = Readonly<Record<string, AttrRow<any>>>;

type Value<R> = R extends { readonly many: true; readonly codec: Codec<infer T> }
  ? readonly T[]
  : R extends AttrRow<infer T>
    ? T
    : never;

/** The values of a table's attributes, absent ones absent, and what the table does not know. */
export type Attrs<Table extends AttrTable> = { readonly [K in keyof Table]?: Value<Table[K]> | undefined } & {
  readonly unknown?: readonly RawAttr[];
};

/** A row: `attr(3, text) // IFLA_IFNAME`. */
export function attr<T>(nr: number, codec: Codec<T>): AttrRow<T> {
  return { nr, codec };
}

/** A row whose attribute may come any number of times. */
export function attrs<T>(nr: number, codec: Codec<T>): AttrRow<T> & { readonly many: true } {
  return { nr, codec, many: true };
}

/** Attributes inside of an attribute. */
export function nested<Table extends AttrTable>(table: Table): Codec<Attrs<Table>> {
  return { read: (bytes) => decodeAttrs(table, bytes), write: (value) => encodeAttrs(table, value) };
}

/** Rows by number, made once for each table. */
const indexes = new WeakMap<AttrTable, Map<number, readonly [string, AttrRow<unknown>]>>();

function indexOf(table: AttrTable): Map<number, readonly [string, AttrRow<unknown>]> {
  let index = indexes.get(table);
  if (index === undefined) {
    index = new Map(Object.entries(table).map(([name, row]) => [row.nr, [name, row]]));
    indexes.set(table, index);
  }
  return index;
}

/** Every attribute in `bytes`, the type with its flags. What follows a length that cannot be is left out. */
export function rawAttrs(bytes: Buffer): RawAttr[] {
  const found: RawAttr[] = [];
  eachAttr(bytes, (type, from, to) => found.push({ type, data: bytes.subarray(from, to) }));
  return found;
}

/** The number of an attribute, without flags. */
export function attrNumber({ type }: RawAttr): number {
  return type & NLA_TYPE_MASK;
}

/** Tells type and place of every attribute. */
function eachAttr(bytes: Buffer, found: (type: number, from: number, to: number) => void): void {
  // Plain indexing: most of this runs once or twice in a process, where each call of a Buffer method shows.
  const u16At = (at: number): number => (bytes[at] ?? 0) | ((bytes[at + 1] ?? 0) << 8);
  for (let at = 0; at + NLA_HDRLEN <= bytes.length; ) {
    const length = u16At(at);
    if (length < NLA_HDRLEN || at + length > bytes.length) return;
    found(u16At(at + 2), at + NLA_HDRLEN, at + length);
    at += (length + 3) & ~3;
  }
}

/** Reads attributes. One that the table does not know, or of another length than it says, goes to `unknown`. */
export function decodeAttrs<Table extends AttrTable>(table: Table, bytes: Buffer): Attrs<Table> {
  const unknown: RawAttr[] = [];
  const onUnknown = (type: number, from: number, to: number): void =>
    void unknown.push({ type, data: bytes.subarray(from, to) });
  return Object.assign(decodeKnown(table, bytes, onUnknown), { unknown }) as Attrs<Table>;
}

/** Like {@link decodeAttrs}, without what is not understood: most of a link's attributes are none of ours. */
export function decodeKnown<Table extends AttrTable>(
  table: Table,
  bytes: Buffer,
  onUnknown?: (type: number, from: number, to: number) => void,
): Omit<Attrs<Table>, 'unknown'> {
  const index = indexOf(table);
  const values: Record<string, unknown> = {};
  eachAttr(bytes, (type, from, to) => {
    const known = index.get(type & NLA_TYPE_MASK);
    if (known === undefined || (known[1].codec.size ?? to - from) !== to - from) {
      onUnknown?.(type, from, to);
      return;
    }
    const [name, { codec, many }] = known;
    const value = codec.readAt ? codec.readAt(bytes, from) : codec.read(bytes.subarray(from, to));
    values[name] = many ? [...((values[name] as unknown[] | undefined) ?? []), value] : value;
  });
  return values as Attrs<Table>;
}

/** One attribute with its header, padded to four bytes. */
function encodeAttr(type: number, data: Uint8Array): Buffer {
  const length = NLA_HDRLEN + data.length;
  const bytes = Buffer.alloc((length + 3) & ~3);
  bytes.writeUInt16LE(length, 0);
  bytes.writeUInt16LE(type, 2);
  bytes.set(data, NLA_HDRLEN);
  return bytes;
}

/** Writes attributes in the order of the table, then the unknown ones. */
export function encodeAttrs<Table extends AttrTable>(table: Table, values: Attrs<Table>): Buffer {
  const parts: Buffer[] = [];
  for (const [name, row] of Object.entries(table)) {
    const value = values[name];
    if (value === undefined) continue;
    const type = row.nestedFlag ? row.nr | NLA_F_NESTED : row.nr;
    for (const one of row.many ? (value as readonly unknown[]) : [value]) {
      parts.push(encodeAttr(type, row.codec.write(one)));
    }
  }
  for (const { type, data } of values.unknown ?? []) parts.push(encodeAttr(type, data));
  return Buffer.concat(parts);
}
