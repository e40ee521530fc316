/**
 * DHCPv6 options as data: a table gives each option its code and its codec. RFC 8415 section 21.1.
 *
 * What is read came from the wire: every length is checked before it is used, every list has a bound, and the only
 * error that leaves a decoder is a {@link MalformedDhcp6}.
 */

/** What is on the wire is no DHCPv6 message, or not one that anybody would send. */
export class MalformedDhcp6 extends Error {
  override readonly name = 'MalformedDhcp6';
}

/** Bytes of a message that are looked at; servers' answers have a few hundred. */
export const maxMessageBytes = 2304;
/** Options of one area (the message, or an IA). */
const maxOptions = 64;
/** Elements of a list within an option, and options of one code: so no packet makes a decoder take more than 64 KiB. */
export const maxElements = 8;

/** How a value lies in an option. `read` checks what it is given. */
export interface OptionCodec<T> {
  read(bytes: Buffer): T;
  write(value: T): Uint8Array;
}

/** One row of a table. */
export interface OptionRow<T> {
  readonly code: number;
  readonly codec: OptionCodec<T>;
  /** The option comes once for each element, and as often at most. */
  readonly many?: number;
}

// biome-ignore lint/suspicious/noExplicitAny: rows of different types stand in one table
export type OptionTable = Readonly<Record<string, OptionRow<any>>>;

type Value<R> = R extends { readonly many: number; readonly codec: OptionCodec<infer T> }
  ? readonly T[]
  : R extends OptionRow<infer T>
    ? T
    : never;

/** The values of a table's options; absent ones are absent. */
export type Options<Table extends OptionTable> = {
  readonly [K in keyof Table]?: Value<Table[K]> | undefined;
};

/** A row. */
export function option<T>(code: number, codec: OptionCodec<T>): OptionRow<T> {
  return { code, codec };
}

/** A row whose option may come several times. */
export function options<T>(
  code: number,
  codec: OptionCodec<T>,
  many = maxElements,
): OptionRow<T> & { readonly many: number } {
  return { code, codec, many };
}

/** @throws MalformedDhcp6 unless `bytes` has exactly, or at least, so many */
export function need(bytes: Buffer, count: number, what: string, atLeast = false): void {
  if (atLeast ? bytes.length < count : bytes.length !== count)
    throw new MalformedDhcp6(`${what} has ${bytes.length} bytes`);
}

/** Rows by code, made once for each table. */
const indexes = new WeakMap<OptionTable, Map<number, readonly [string, OptionRow<unknown>]>>();

function indexOf(table: OptionTable): Map<number, readonly [string, OptionRow<unknown>]> {
  let index = indexes.get(table);
  if (index === undefined) {
    index = new Map(Object.entries(table).map(([name, row]) => [row.code, [name, row]]));
    indexes.set(table, index);
  }
  return index;
}

/**
 * Reads the options of an area. What the table does not know is passed over; of an option that may come once the first
 * counts.
 * @throws MalformedDhcp6
 */
export function decodeOptions<Table extends OptionTable>(table: Table, bytes: Buffer): Options<Table> {
  const index = indexOf(table);
  const values: Record<string, unknown> = {};
  let count = 0;
  for (let at = 0; at < bytes.length; ) {
    if (bytes.length - at < 4) throw new MalformedDhcp6('an option is cut short');
    if (++count > maxOptions) throw new MalformedDhcp6(`more than ${maxOptions} options`);
    const from = at + 4;
    const to = from + bytes.readUInt16BE(at + 2);
    if (to > bytes.length) throw new MalformedDhcp6('an option is longer than what it is in');
    const [name, row] = index.get(bytes.readUInt16BE(at)) ?? [];
    if (name !== undefined && row !== undefined) put(values, name, row, bytes.subarray(from, to));
    at = to;
  }
  return values as Options<Table>;
}

function put(values: Record<string, unknown>, name: string, row: OptionRow<unknown>, bytes: Buffer): void {
  if (!row.many) {
    if (!(name in values)) values[name] = row.codec.read(bytes);
    return;
  }
  const list = (values[name] as unknown[] | undefined) ?? [];
  if (list.length >= row.many) throw new MalformedDhcp6(`more than ${row.many} of ${name}`);
  list.push(row.codec.read(bytes));
  values[name] = list;
}

/** Options by their code that a table may know nothing of. */
export type RawOptions = Readonly<Record<number, Uint8Array>>;

/** Writes options in the order of the table, then those of `raw`, which go before others of their code. */
export function encodeOptions<Table extends OptionTable>(
  table: Table,
  values: Options<Table>,
  raw: RawOptions = {},
): Buffer {
  const parts: Uint8Array[] = [];
  for (const [name, row] of Object.entries(table)) {
    const value = values[name];
    if (value === undefined || row.code in raw) continue;
    for (const one of row.many ? (value as readonly unknown[]) : [value])
      parts.push(optionBytes(row.code, row.codec.write(one)));
  }
  for (const [code, bytes] of Object.entries(raw)) parts.push(optionBytes(Number(code), bytes));
  return Buffer.concat(parts);
}

function optionBytes(code: number, bytes: Uint8Array): Buffer {
  const header = Buffer.alloc(4);
  header.writeUInt16BE(code, 0);
  header.writeUInt16BE(bytes.length, 2);
  return Buffer.concat([header, bytes]);
}
