/**
 * The text of a container's resolv.conf(5) with the name servers of leases in it. Pure.
 *
 * Everything that is needed to put it back is in the file itself, as comments: what was there before, and what each
 * interface has brought. So nothing has to be kept anywhere else, whoever takes an interface away can do the rest, and
 * a person can see what happened. The container can write anything in there, and is believed only as far as it goes:
 * about its own file.
 */
import { familyOf } from '../../model/address.ts';

/** What a lease says of names and of time. */
export interface DnsOffer {
  readonly dns: readonly string[];
  readonly search: readonly string[];
  readonly ntp: readonly string[];
}

/** Who brought it: `eth1/4`, an interface and a family. */
export type OfferSource = `${string}/${4 | 6}`;

const header = '# Name servers by DHCP, from pipewright, which puts back on detach what was here before.';
const sourceTag = '#pipewright ';
const formerTag = '#before ';
/** MAXNS of glibc and of musl: more are not looked at. */
const mostServers = 3;
/** MAXDNSRCH of older glibc. */
const mostDomains = 6;

/** A file, taken apart. */
interface Parts {
  /** What was there before we were; the whole text where we are not. */
  readonly former: string;
  readonly offers: ReadonlyMap<string, DnsOffer>;
}

/** The text with the offer of one source put in, anew, or (undefined) taken out. */
export function withOffer(text: string, source: OfferSource, offer: DnsOffer | undefined): string {
  const { former, offers } = takeApart(text);
  const next = new Map(offers);
  if (offer && offer.dns.length + offer.search.length > 0) next.set(source, offer);
  else next.delete(source);
  return next.size === 0 ? former : render(former, next);
}

/** Which sources have put something in. */
export function sourcesIn(text: string): string[] {
  return [...takeApart(text).offers.keys()];
}

function takeApart(text: string): Parts {
  const lines = text.split('\n');
  if (lines[0] !== header) return { former: text, offers: new Map() };
  const tagged = (tag: string): string[] =>
    lines.filter((line) => line.startsWith(tag)).map((line) => line.slice(tag.length));
  return { former: tagged(formerTag).join('\n'), offers: new Map(tagged(sourceTag).flatMap(readSource)) };
}

/** `eth1/4 dns=10.0.0.1,10.0.0.2 search=lan ntp=` */
function readSource(text: string): [string, DnsOffer][] {
  const match = /^(\S+\/[46]) dns=(\S*) search=(\S*) ntp=(\S*)$/.exec(text);
  if (!match) return [];
  const [, source = '', dns, search, ntp] = match;
  const list = (words = ''): string[] => words.split(',').filter(Boolean);
  return [[source, clean(source, { dns: list(dns), search: list(search), ntp: list(ntp) })]];
}

/** Only what can stand in the file without meaning anything else. */
function clean(source: string, { dns, search, ntp }: DnsOffer): DnsOffer {
  const ifname = source.replace(/\/[46]$/, '');
  // A link-local server is one of this interface.
  const zoned = (ip: string): string => (/^fe[89ab]/.test(ip) && !ip.includes('%') ? `${ip}%${ifname}` : ip);
  const isIp = (ip: string): boolean => familyOf(ip.replace(/%[^%\s,]+$/, '')) !== undefined;
  const isName = (name: string): boolean => /^[A-Za-z0-9_][A-Za-z0-9_.-]*$/.test(name) && name.length <= 253;
  return {
    dns: dns.filter(isIp).map(zoned),
    search: search.filter(isName),
    ntp: ntp.filter((one) => isIp(one) || isName(one)),
  };
}

function render(former: string, offers: ReadonlyMap<string, DnsOffer>): string {
  const sources = [...offers.entries()]
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([source, offer]) => [source, clean(source, offer)] as const);
  const all = (of: keyof DnsOffer): string[] => [...new Set(sources.flatMap(([, offer]) => offer[of]))];
  const was = former.split('\n');
  const kept = was.filter((line) => /^\s*options\s/.test(line));
  const search = all('search').slice(0, mostDomains);
  const dns = all('dns').slice(0, mostServers);
  // A lease that names no server, or no domain, leaves those that there are.
  const old = (pattern: RegExp): string[] => was.filter((line) => pattern.test(line));
  return [
    header,
    ...(search.length > 0 ? [`search ${search.join(' ')}`] : old(/^\s*(search|domain)\s/)),
    ...(dns.length > 0 ? dns.map((ip) => `nameserver ${ip}`) : old(/^\s*nameserver\s/)),
    ...kept,
    ...all('ntp').map((server) => `# time server: ${server}`),
    ...sources.map(
      ([source, offer]) =>
        `${sourceTag}${source} dns=${offer.dns.join(',')} search=${offer.search.join(',')} ntp=${offer.ntp.join(',')}`,
    ),
    ...was.map((line) => `${formerTag}${line}`),
    '',
  ].join('\n');
}
