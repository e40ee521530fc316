/** Names in the form of RFC 1035, section 3.1, with the compression of 4.1.4: options 81 and 119 (RFC 3397). */

/** Bytes of a name on the wire, and of one label. */
const nameMax = 255;
const labelMax = 63;

/** All names in `data`; undefined when they are not as they should be. At most `most` are read. */
export function readDomains(data: Buffer, most: number): string[] | undefined {
  const names: string[] = [];
  for (let at = 0; at < data.length && names.length < most; ) {
    const found = readName(data, at);
    if (found === undefined) return undefined;
    if (found.name !== '') names.push(found.name);
    at = found.end;
  }
  return names;
}

/** The name that is being read. One for all: reading is over before the next begins. */
const scratch = Buffer.alloc(nameMax);

function readName(data: Buffer, start: number): { name: string; end: number } | undefined {
  let end: number | undefined;
  let size = 0;
  let filled = 0;
  for (let at = start; ; ) {
    const length = data[at];
    if (length === undefined) return undefined;
    // Each label was followed by a dot.
    if (length === 0)
      return { name: scratch.toString('latin1', 0, Math.max(0, filled - 1)), end: end ?? at + 1 };
    if (length >= 0xc0) {
      const target = ((length & 0x3f) << 8) | (data[at + 1] ?? 0xffff);
      end ??= at + 2;
      // Only ever backwards, so that there is no going round in circles.
      if (at + 1 >= data.length || target >= at) return undefined;
      at = target;
      // The labels in between could still lead here again: the size ends that.
      size += 1;
    } else {
      if (length > labelMax || at + 1 + length > data.length) return undefined;
      size += 1 + length;
      if (size >= nameMax) return undefined;
      for (let nr = 1; nr <= length; nr++) scratch[filled++] = plain(data[at + nr] ?? 0);
      scratch[filled++] = dot;
      at += 1 + length;
    }
    if (size >= nameMax) return undefined;
  }
}

const codeOf = (char: string): number => char.charCodeAt(0);
const dot = codeOf('.');
const inNames = new Set([...'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-'].map(codeOf));

/** A name goes into files that other programs read: what is no letter, digit, hyphen or underscore becomes `?`. */
const plain = (byte: number): number => (inNames.has(byte) ? byte : codeOf('?'));

/** One name, uncompressed, ended by the root's empty label. Labels that are too long are cut. */
export function writeDomain(name: string): Buffer {
  const labels = name.split('.').filter(Boolean);
  return Buffer.concat([
    ...labels.flatMap((label) => {
      const bytes = Buffer.from(label, 'latin1').subarray(0, labelMax);
      return [Buffer.from([bytes.length]), bytes];
    }),
    Buffer.from([0]),
  ]);
}

/** Several names, a suffix that was there before by a pointer to it. */
export function writeDomains(names: readonly string[]): Buffer {
  const places = new Map<string, number>();
  const out: Buffer[] = [];
  let size = 0;
  const put = (bytes: Buffer): void => {
    out.push(bytes);
    size += bytes.length;
  };
  for (const name of names) {
    const labels = name.split('.').filter(Boolean);
    let at = 0;
    for (; at < labels.length; at++) {
      const suffix = labels.slice(at).join('.');
      const place = places.get(suffix);
      if (place !== undefined) {
        put(Buffer.from([0xc0 | (place >> 8), place & 0xff]));
        break;
      }
      // A pointer has 14 bits.
      if (size < 0x4000) places.set(suffix, size);
      const bytes = Buffer.from(labels[at] ?? '', 'latin1').subarray(0, labelMax);
      put(Buffer.concat([Buffer.from([bytes.length]), bytes]));
    }
    if (at === labels.length) put(Buffer.from([0]));
  }
  return Buffer.concat(out);
}
