/** IP addresses, prefixes and MAC addresses as canonical text: parsed once at the edge, right ever after. */
import { createHash } from 'node:crypto';

/** IP version. */
export type Family = 4 | 6;

/** An address with its prefix length, `10.0.0.2/24`. `ip` is canonical (RFC 5952 for IPv6). */
export interface Cidr {
  readonly family: Family;
  readonly ip: string;
  /** 0..32 for IPv4, 0..128 for IPv6. */
  readonly prefixLen: number;
}

/** Bits in an address of the family. */
export const addressBits = { 4: 32, 6: 128 } as const;

const ipv4Form = /^(?:(?:25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)(?:\.(?!$)|$)){4}$/;

/**
 * The family of an address in text form, or undefined when it is none. Zone ids (`%eth0`) are refused.
 * node:net's isIP() says the same; loading it takes 5 ms of every command.
 */
export function familyOf(ip: string): Family | undefined {
  if (ipv4Form.test(ip)) return 4;
  return isIpv6(ip) ? 6 : undefined;
}

/** RFC 4291 section 2.2. */
function isIpv6(ip: string): boolean {
  const [head = '', tail, more] = ip.split('::');
  if (more !== undefined) return false;
  const words = [head, tail ?? ''].flatMap((side) => (side === '' ? [] : side.split(':')));
  // The last two words may be written as an IPv4 address.
  const last = words.at(-1) ?? '';
  const hasIpv4 = ipv4Form.test(last) && ip.endsWith(last);
  const plain = hasIpv4 ? words.slice(0, -1) : words;
  const count = plain.length + (hasIpv4 ? 2 : 0);
  if (!plain.every((word) => /^[0-9a-f]{1,4}$/i.test(word))) return false;
  return tail === undefined ? count === 8 : count <= 7;
}

/** The address as 4 or 16 bytes in network order. `ip` must be valid (see {@link familyOf}). */
export function ipToBytes(ip: string): Uint8Array {
  if (!ip.includes(':')) return Uint8Array.from(ip.split('.'), Number);
  const v4 = /^(.*:)(\d+)\.(\d+)\.(\d+)\.(\d+)$/.exec(ip);
  const text = v4
    ? `${v4[1]}${((Number(v4[2]) << 8) | Number(v4[3])).toString(16)}:${((Number(v4[4]) << 8) | Number(v4[5])).toString(16)}`
    : ip;
  const [head = '', tail] = text.split('::');
  const left = head === '' ? [] : head.split(':');
  const right = tail === undefined || tail === '' ? [] : tail.split(':');
  const gap = tail === undefined ? 0 : 8 - left.length - right.length;
  const words = [...left, ...Array<string>(gap).fill('0'), ...right];
  return Uint8Array.from(
    words.flatMap((word) => [Number.parseInt(word, 16) >> 8, Number.parseInt(word, 16) & 255]),
  );
}

/**
 * Canonical text of 4 or 16 bytes (RFC 5952: lower case, the longest run of zero words shortened). Without lists in
 * between: packets are full of addresses, and a decoder may ask for so much memory and no more.
 */
export function bytesToIp(bytes: Uint8Array): string {
  if (bytes.length === 4) return bytes.join('.');
  const zeros = longestZeros(bytes);
  let text = '';
  let separator = '';
  for (let at = 0; at < 8; at++) {
    if (at === zeros.at) {
      text += '::';
      separator = '';
      at += zeros.length - 1;
    } else {
      text += separator + wordAt(bytes, at).toString(16);
      separator = ':';
    }
  }
  return text;
}

const wordAt = (bytes: Uint8Array, at: number): number =>
  ((bytes[2 * at] ?? 0) << 8) | (bytes[2 * at + 1] ?? 0);

/** The first of the longest runs of two or more words that are zero; none is at -1. */
function longestZeros(bytes: Uint8Array): { at: number; length: number } {
  const best = { at: -1, length: 1 };
  for (let at = 0; at < 8; at++) {
    let length = 0;
    while (at + length < 8 && wordAt(bytes, at + length) === 0) length++;
    if (length > best.length) {
      best.at = at;
      best.length = length;
    }
  }
  return best;
}

/** Canonical text of an address, or undefined when it is none. */
export function parseIp(text: string): { family: Family; ip: string } | undefined {
  const family = familyOf(text);
  return family === undefined ? undefined : { family, ip: bytesToIp(ipToBytes(text)) };
}

/** `10.0.0.2/24` or `fd00::2/64`; undefined when it is neither. */
export function parseCidr(text: string): Cidr | undefined {
  const [, address = '', length = ''] = /^([^/]+)\/(\d{1,3})$/.exec(text) ?? [];
  const parsed = parseIp(address);
  if (parsed === undefined || Number(length) > addressBits[parsed.family]) return undefined;
  return { ...parsed, prefixLen: Number(length) };
}

/** `10.0.0.2/24`. */
export function formatCidr(cidr: Cidr): string {
  return `${cidr.ip}/${cidr.prefixLen}`;
}

/** The prefix of length 0, which all addresses of the family are in. */
export function everything(family: Family): Cidr {
  return { family, ip: family === 4 ? '0.0.0.0' : '::', prefixLen: 0 };
}

function masked(cidr: Cidr, hostBit: 0 | 1): string {
  const bytes = ipToBytes(cidr.ip).map((byte, i) => {
    const kept = Math.min(8, Math.max(0, cidr.prefixLen - 8 * i));
    const hostMask = 0xff >> kept;
    return hostBit === 1 ? byte | hostMask : byte & ~hostMask;
  });
  return bytesToIp(bytes);
}

/** The first address of the subnet: `10.0.0.0` of `10.0.0.2/24`. */
export function networkOf(cidr: Cidr): string {
  return masked(cidr, 0);
}

/** The last address of the subnet: the IPv4 broadcast address, `10.0.0.255` of `10.0.0.2/24`. */
export function broadcastOf(cidr: Cidr): string {
  return masked(cidr, 1);
}

/** Whether `ip` lies in the subnet of `cidr`. */
export function contains(cidr: Cidr, ip: string): boolean {
  return familyOf(ip) === cidr.family && networkOf({ ...cidr, ip }) === networkOf(cidr);
}

/** Lower-case `aa:bb:cc:dd:ee:ff`, or undefined when the text is no MAC address of 6 bytes. */
export function parseMac(text: string): string | undefined {
  return /^[0-9a-f]{2}(:[0-9a-f]{2}){5}$/i.test(text) ? text.toLowerCase() : undefined;
}

/** Why no host can have this address, as the end of a sentence; undefined when one can. */
export function whyNoHost({
  family,
  ip,
}: {
  readonly family: Family;
  readonly ip: string;
}): string | undefined {
  const [first = 0] = ipToBytes(ip);
  if (ip === '0.0.0.0' || ip === '::') return 'it is the unspecified address';
  if (ip === '255.255.255.255') return 'it is the broadcast address';
  if (ip === '::1') return 'it is the loopback address';
  return (family === 4 ? first >> 4 === 14 : first === 0xff) ? 'it is a multicast address' : undefined;
}

/** Whether a link may carry this MAC: not multicast, not all zero. */
export function isUnicastMac(mac: string): boolean {
  return (Number.parseInt(mac.slice(0, 2), 16) & 1) === 0 && mac !== '00:00:00:00:00:00';
}

/**
 * The stable MAC that the original derives from a text (`U:TEXT`): 02: and the first five bytes of the md5 of
 * the text and a newline, with runs of white space taken as one blank.
 */
export function macFromText(text: string): string {
  const line = text.split(/\s+/).filter(Boolean).join(' ');
  const digest = createHash('md5').update(`${line}\n`).digest();
  return ['02', ...Array.from(digest.subarray(0, 5), (byte) => byte.toString(16).padStart(2, '0'))].join(':');
}
