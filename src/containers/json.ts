/** Reading the few fields that are needed out of JSON that somebody else wrote. */

/** A JSON object whose fields are not known to be anything yet. */
export type Fields = Readonly<Record<string, unknown>>;

/** Undefined for what is not JSON. */
export function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

export function fieldsOf(value: unknown): Fields | undefined {
  return typeof value === 'object' && value !== null && !Array.isArray(value) ? (value as Fields) : undefined;
}

export function stringIn(fields: Fields | undefined, name: string): string | undefined {
  const value = fields?.[name];
  return typeof value === 'string' ? value : undefined;
}

/** A whole number from 0. */
export function numberIn(fields: Fields | undefined, name: string): number | undefined {
  const value = fields?.[name];
  return Number.isSafeInteger(value) && (value as number) >= 0 ? (value as number) : undefined;
}

export function stringsIn(fields: Fields | undefined, name: string): string[] {
  const value = fields?.[name];
  return Array.isArray(value) ? value.filter((each) => typeof each === 'string') : [];
}

/** An object of strings, labels for instance; empty when there is none, and without what is no string. */
export function textMapIn(fields: Fields | undefined, name: string): Record<string, string> {
  const entries = Object.entries(fieldsOf(fields?.[name]) ?? {});
  return Object.fromEntries(
    entries.filter((entry): entry is [string, string] => typeof entry[1] === 'string'),
  );
}
