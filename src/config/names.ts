/** Rules for names and numbers that a user writes: each check gives the reason for a refusal, or undefined. */
import { ifnameMax } from '../model/naming.ts';

/** Folders of /proc/sys/net/ipv4/conf that are not a link's: the kernel registers no link with these names. */
const sysctlNames = ['all', 'default'];

/**
 * Why a link cannot have this name, as the end of a sentence ("contains a slash"); undefined when it can.
 * The kernel's dev_valid_name() and what it would otherwise take as a pattern (`%d`), besides control characters and
 * bytes that are no UTF-8, which the kernel accepts and no screen shows.
 */
export function checkIfname(text: string): string | undefined {
  const bytes = new TextEncoder().encode(text);
  if (bytes.length === 0) return 'is empty';
  if (bytes.length > ifnameMax) return `is longer than ${ifnameMax} bytes`;
  if (text === '.' || text === '..' || sysctlNames.includes(text)) return 'is reserved by the kernel';
  if (text.includes('/')) return 'contains a slash';
  if (text.includes(':')) return 'contains a colon';
  if (text.includes('%')) return 'contains a percent sign';
  // As most names are. What follows makes Unicode's tables into regular expressions, which takes 2 ms.
  if (/^[!-~]+$/.test(text)) return undefined;
  if (/[\p{Cs}\ufffd]/u.test(text)) return 'is not valid UTF-8';
  if (/[\p{Cc}\p{Cf}]/u.test(text.replace(/\s/g, ''))) return 'contains a control character';
  // The kernel's isspace() works on single bytes and counts 0xa0, which is a part of many characters, such as U+00E0.
  if (/\s/.test(text) || bytes.includes(0xa0)) return 'contains what the kernel takes for white space';
  return undefined;
}

/** Why this text is no VLAN id, as the end of a sentence; undefined when it is 1 to 4094 in decimal. */
export function checkVid(text: string): string | undefined {
  return /^[1-9]\d{0,3}$/.test(text) && Number(text) <= 4094 ? undefined : 'is not a VLAN id from 1 to 4094';
}

/** `100`, or `200-299` with both included; undefined when it is neither. 0 stands for frames without a tag. */
export function parseVids(text: string, least: 0 | 1 = 1): number[] | undefined {
  const [, from, to = from] = /^(\d{1,4})(?:\s*-\s*(\d{1,4}))?$/.exec(text.trim()) ?? [];
  const [first, last] = [Number(from), Number(to)];
  if (!(first >= least && last <= 4094 && first <= last)) return undefined;
  return Array.from({ length: last - first + 1 }, (_, i) => first + i);
}

/**
 * Why this text is no InfiniBand partition key, as the end of a sentence; undefined when it is hexadecimal, with or
 * without `0x`, and of the values that ipoib accepts (the top bit is the kernel's: membership).
 */
export function checkPkey(text: string): string | undefined {
  const key = /^(0x)?[0-9a-f]{1,4}$/i.test(text) ? Number.parseInt(text, 16) : 0;
  return (key & 0x7fff) !== 0 ? undefined : 'is not a partition key from 1 to ffff, not 8000, in hexadecimal';
}

/** Text from outside as one line of a message: what would break or hide the line is escaped, and it is cut when long. */
export function printable(text: string, most = 120): string {
  const short = text.length > most ? `${text.slice(0, most)}...` : text;
  return short.replace(
    /(?! )[\p{Cc}\p{Cf}\p{Cs}\p{Co}\p{Z}]/gu,
    (char) => `\\u{${(char.codePointAt(0) ?? 0).toString(16)}}`,
  );
}
