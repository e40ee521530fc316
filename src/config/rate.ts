/** Rates as `tc` takes them. */

const units: Readonly<Record<string, number>> = {
  ...{ '': 1, bit: 1, kbit: 1e3, mbit: 1e6, gbit: 1e9, tbit: 1e12 },
  ...{ kibit: 2 ** 10, mibit: 2 ** 20, gibit: 2 ** 30, tibit: 2 ** 40 },
  ...{ bps: 8, kbps: 8e3, mbps: 8e6, gbps: 8e9, tbps: 8e12 },
  ...{ kibps: 8 * 2 ** 10, mibps: 8 * 2 ** 20, gibps: 8 * 2 ** 30, tibps: 8 * 2 ** 40 },
};
const limits = { least: 1000, most: 1e13 };

/** `10mbit`, `1.5gbit`, `500kbps` (bytes) as bits per second; a bare number is bits. Text: why it is none. */
export function parseRate(text: string): number | string {
  const [, digits, unit = ''] = /^(\d{1,15}(?:\.\d{1,9})?)\s*([a-z]*)$/i.exec(text.trim()) ?? [];
  const factor = units[unit.toLowerCase()];
  if (digits === undefined || factor === undefined)
    return 'is not a rate, as in 10mbit; units are those of tc: bit, kbit, mbit, gbit, and bps for bytes';
  const bits = Math.round(Number(digits) * factor);
  if (bits < limits.least) return 'is too slow: the least is 1kbit';
  return bits > limits.most ? 'is faster than any link' : bits;
}
