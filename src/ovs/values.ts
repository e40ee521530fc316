/** OVSDB's own notation of values, RFC 7047 section 5.1: `["map", ...]`, `["set", ...]`, `["uuid", ...]`. */

/** A value of a column as it stands in JSON. */
export type Value =
  | string
  | number
  | boolean
  | readonly ['uuid' | 'named-uuid', string]
  | readonly ['set', readonly Value[]]
  | readonly ['map', readonly (readonly [Value, Value])[]];

/** A row, or the columns of it that were asked for. */
export type Row = Readonly<Record<string, Value>>;

/** `{ a: 'b' }` as a map of strings. */
export function mapOf(entries: Readonly<Record<string, string>>): Value {
  return ['map', Object.entries(entries)];
}

/** A set of any number of elements; the empty one clears an optional column. */
export function setOf(elements: readonly Value[]): Value {
  return ['set', elements];
}

/** A reference to a row that exists. */
export function uuidOf(uuid: string): Value {
  return ['uuid', uuid];
}

/** A reference to a row that the same transaction inserts with this `uuid-name`. */
export function namedUuid(name: string): Value {
  return ['named-uuid', name];
}

/** The elements of a set column. The wire sends a set of one element bare. */
export function readSet(value: Value | undefined): readonly Value[] {
  if (value === undefined) return [];
  if (Array.isArray(value) && value[0] === 'set') return value[1] as readonly Value[];
  return [value];
}

/** The uuids in a column of references. */
export function readUuids(value: Value | undefined): string[] {
  return readSet(value).flatMap((one) => (Array.isArray(one) && one[0] === 'uuid' ? [String(one[1])] : []));
}

/** A map column of strings. */
export function readMap(value: Value | undefined): Record<string, string> {
  if (!Array.isArray(value) || value[0] !== 'map') return {};
  const entries = value[1] as readonly (readonly [Value, Value])[];
  return Object.fromEntries(entries.map(([key, held]) => [String(key), String(held)]));
}

/** A column of at most one integer, such as `tag` and `ofport`. */
export function readInteger(value: Value | undefined): number | undefined {
  const [first] = readSet(value);
  return typeof first === 'number' ? first : undefined;
}

/** The integers of a set column, such as `trunks`. */
export function readIntegers(value: Value | undefined): number[] {
  return readSet(value).filter((one) => typeof one === 'number');
}

/** A column of at most one string; an absent and an empty one are both undefined. */
export function readString(value: Value | undefined): string | undefined {
  const [first] = readSet(value);
  return typeof first === 'string' && first !== '' ? first : undefined;
}
