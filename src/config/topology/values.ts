/** The values of a topology file: for each the text that a user writes, what it becomes, and why it is refused. */
import * as z from 'zod';
import {
  addressBits,
  broadcastOf,
  type Cidr,
  contains,
  type Family,
  formatCidr,
  ipToBytes,
  isUnicastMac,
  networkOf,
  parseCidr,
  parseIp,
  parseMac,
} from '../../model/address.ts';
import { mainTable } from '../../model/route.ts';
import type { AddressRange } from '../../model/topology.ts';
import { checkIfname, parseVids, printable } from '../names.ts';
import { checkMirrored } from '../ovs-options.ts';
import { parseRate } from '../rate.ts';
import { didYouMean } from './hints.ts';

/** A value that is refused: why, as the rest of a sentence after it, and what to write instead. */
export class Refused {
  readonly why: string;
  readonly hint: string | undefined;

  constructor(why: string, hint?: string) {
    this.why = why;
    this.hint = hint;
  }
}

export const not = (why: string, hint?: string): Refused => new Refused(why, hint);

/**
 * Text that `read` makes a value of. The issue's message is `"TEXT" WHY`, its params have the hint.
 * @param words that could stand in its place, and have been mistyped
 */
export function textAs<T>(
  read: (text: string) => T | Refused,
  words: readonly string[] = [],
): z.ZodType<T, string> {
  return z.string().transform((text, context) => settle(read(text), text, context, words));
}

export function settle<T>(
  read: T | Refused,
  text: string,
  context: z.RefinementCtx,
  words: readonly string[] = [],
): T {
  if (!(read instanceof Refused)) return read;
  context.addIssue({
    code: 'custom',
    message: `"${printable(text)}" ${words.includes(text) ? 'stands by itself, not in a list' : read.why}`,
    params: { hint: words.includes(text) ? undefined : (didYouMean(text, words) ?? read.hint) },
  });
  return z.NEVER;
}

/** One, or a list of them; always a list when read. */
export function oneOrMore<T, I>(one: z.ZodType<T, I>): z.ZodType<T[], I | I[]> {
  return z.union([one, z.array(one)]).transform((value) => (Array.isArray(value) ? value : [value]) as T[]);
}

/** `hostname`. */
export const hostName = textAs((text) =>
  /^[a-zA-Z0-9][a-zA-Z0-9.-]{0,252}$/.test(text) ? text : not('is not the name of a host'),
);

/** A whole number with its limits, both included. */
export function whole(least: number, most: number, unit = '') {
  const message = `must be from ${least} to ${most}${unit === '' ? '' : ` ${unit}`}`;
  return z.int().min(least, message).max(most, message);
}

/** VLAN ids: one, or `200-299`, both included. */
export const vids: z.ZodType<number[], number | string> = z
  .union([whole(0, 4094), z.string()])
  .transform((said, context) => {
    const read = parseVids(String(said), 0) ?? not('is not a VLAN id, or several as in 200-299');
    return settle(read, String(said), context);
  });

const canonical = (text: string): Cidr | undefined =>
  // 024 is 20 to some programs and 24 to others.
  /\/0\d/.test(text) ? undefined : parseCidr(text);

/** A subnet: the bits after the prefix are zero. */
function prefixOf(text: string): Cidr | Refused {
  const cidr = canonical(text);
  if (cidr === undefined) return not('is not a subnet, as in 10.0.0.0/24 or fd00::/64');
  const network = formatCidr({ ...cidr, ip: networkOf(cidr) });
  if (formatCidr(cidr) === network) return cidr;
  return not(`is an address in a subnet, not the subnet itself`, `did you mean "${network}"?`);
}

/** RFC 4291, section 2.5.5.2: on no wire. */
const mapped: Cidr = { family: 6, ip: '::ffff:0:0', prefixLen: 96 };

/** A subnet of a network. */
export const subnet = textAs((text) => {
  const read = prefixOf(text);
  if (read instanceof Refused) return read;
  if (read.family === 6 && read.prefixLen >= mapped.prefixLen && contains(mapped, read.ip))
    return not('is of IPv4, written as of IPv6');
  return read.prefixLen === 0 ? not('is every address there is') : read;
});

/** What a route or rule is about: a subnet, or one address. */
export const prefix = textAs((text) => {
  const one = parseIp(text);
  return one === undefined ? prefixOf(text) : { ...one, prefixLen: addressBits[one.family] };
});

/** Where a route leads; what `default` stands for depends on the family of its gateway. */
export const destination = textAs<Cidr | 'default'>((text) => {
  if (text === 'default') return 'default';
  const one = parseIp(text);
  return one === undefined ? prefixOf(text) : { ...one, prefixLen: addressBits[one.family] };
});

/** A routing table. */
export const table = z.union([z.literal('main').transform(() => mainTable), whole(1, 4_294_967_295)]);

/** Why an address cannot be that of an interface. The rest is left to the kernel. */
function whyNoHost({ family, ip }: { readonly family: Family; readonly ip: string }): string | undefined {
  const [first = 0] = ipToBytes(ip);
  if (ip === '0.0.0.0' || ip === '::') return 'is the unspecified address';
  if (ip === '255.255.255.255') return 'is the broadcast address';
  if (ip === '::1' || (family === 4 && first === 127)) return 'is a loopback address';
  if (family === 6 && contains(mapped, ip)) return 'is an IPv4 address written as one of IPv6';
  return (family === 4 ? first >> 4 === 14 : first === 0xff) ? 'is a multicast address' : undefined;
}

/** An address of an interface. */
function addressOf(text: string): Cidr | Refused {
  const cidr = canonical(text);
  if (cidr === undefined) {
    return parseIp(text) === undefined
      ? not('is not an address with its prefix length, as in 10.0.0.2/24')
      : not('has no prefix length', `write it as in 10.0.0.2/24`);
  }
  const why = whyNoHost(cidr);
  if (why !== undefined) return not(why);
  if (cidr.family === 6 || cidr.prefixLen > 30) return cidr;
  if (cidr.ip === networkOf(cidr)) return not('is the subnet itself, not an address in it');
  return cidr.ip === broadcastOf(cidr) ? not("is its subnet's broadcast address") : cidr;
}

/** An address of an interface with its prefix length. */
export const address = textAs(addressOf, ['auto', 'dhcp']);

/** An address of the host. */
export const hostAddress = textAs(addressOf);

function gatewayOf(text: string): { readonly family: Family; readonly ip: string } | Refused {
  const ip = parseIp(text);
  if (ip === undefined) {
    const cidr = parseCidr(text);
    return cidr === undefined
      ? not('is not an IP address, as in 10.0.0.1')
      : not('has a prefix length', `did you mean "${cidr.ip}"?`);
  }
  const why = whyNoHost(ip);
  return why === undefined ? ip : not(why);
}

/** An address without a prefix length. */
export const ip = textAs(gatewayOf);

/** An address of one family that a host can have. */
export const ipOfFamily = (family: Family): z.ZodType<string, string> =>
  textAs((text) => {
    const read = parseIp(text);
    if (read?.family !== family)
      return not(`is not an IPv${family} address, as in ${family === 4 ? '10.0.0.9' : 'fd00::9'}`);
    const why = whyNoHost(read);
    return why === undefined ? read.ip : not(why);
  });

/** The same of a gateway. */
export const gateway = textAs(gatewayOf, ['none']);

/** `FIRST-LAST`, or a prefix, which stands for its first to its last address. */
export const range = textAs<AddressRange>((text) => {
  const cidr = canonical(text);
  if (cidr !== undefined) {
    return { family: cidr.family, first: networkOf(cidr), last: broadcastOf(cidr) };
  }
  const [, first, last] = /^([^\s-]+)\s*-\s*([^\s-]+)$/.exec(text) ?? [];
  const [from, to] = [parseIp(first ?? ''), parseIp(last ?? '')];
  if (from === undefined || to === undefined || from.family !== to.family) {
    return not('is not a range of addresses, as in 10.0.0.100-10.0.0.199 or 10.0.0.128/26');
  }
  if (Buffer.compare(ipToBytes(from.ip), ipToBytes(to.ip)) > 0) {
    return not('ends before it begins', `did you mean "${to.ip}-${from.ip}"?`);
  }
  return { family: from.family, first: from.ip, last: to.ip };
});

/** Name of a link. */
export const ifname = textAs((text) => {
  const why = checkIfname(text);
  if (why !== undefined) return not(`cannot be an interface's name: it ${why}`);
  const [other] = /[^ -~]/u.exec(text) ?? [];
  if (other !== undefined) {
    const code = (other.codePointAt(0) ?? 0).toString(16).toUpperCase().padStart(4, '0');
    return not(`cannot be an interface's name in a file: its "${other}" is U+${code}, not ASCII`);
  }
  return text === 'lo' ? not('is the loopback interface') : text;
});

/** MAC address that a link may have. */
export const mac = textAs((text) => {
  const read = parseMac(text);
  if (read === undefined) return not('is not a MAC address, as in 02:00:00:00:00:01');
  return isUnicastMac(read) ? read : not("cannot be an interface's MAC address: it is multicast or zero");
});

/** Text that a MAC address is made from. */
export const unique = textAs((text) => {
  if (text.trim() === '') return not('is empty');
  return /[\p{C}]/u.test(text) || text.length > 255
    ? not('is not printable text of at most 255 letters')
    : text;
});

/** Bits per second, written as `tc` takes it: 10mbit, 1.5gbit, 500kbps (bytes). A bare number is bits. */
export const rate = z.union([z.string(), z.number()]).transform((said, context) => {
  const read = parseRate(String(said));
  return settle(typeof read === 'string' ? not(read) : read, String(said), context);
});

/** What a mirror is about: `web`, `web/eth1`, `port:eth0`. */
export const mirrored = textAs(
  (text) => {
    const why = checkMirrored(text);
    return why === undefined ? text : not(why);
  },
  ['all'],
);

/** `ipv4.forwarding` -> `ipv4/forwarding`: the interface's name goes between them. */
export function sysctlKey(
  text: string,
): { readonly key: string } | { readonly why: string; readonly hint?: string } {
  const [, family, name] = /^(ipv4|ipv6)\.([a-z0-9_]+)$/.exec(text) ?? [];
  if (family !== undefined && name !== undefined) return { key: `${family}/${name}` };
  const [, inner, last] = /^net[./](ipv4|ipv6)[./]conf[./].+[./]([a-z0-9_]+)$/.exec(text) ?? [];
  return {
    why: `"${printable(text)}" is not a sysctl of an interface, as in ipv4.forwarding or ipv6.accept_ra`,
    ...(inner !== undefined && { hint: `did you mean "${inner}.${last}"?` }),
  };
}
