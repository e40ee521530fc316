/** `pipework route`, `rule` and `tc` lines -> the attachment that they are about. */
import { contains, formatCidr, parseCidr, parseIp } from '../model/address.ts';
import type { PipeworkPassthrough } from './pipework.ts';
import { parseMetric, parseTable } from './route-words.ts';
import { prefix, rate } from './topology/values.ts';
import type { WrittenAttachment } from './topology/write.ts';

/** The container as a file names it: a plain name is Docker's where that has one. */
export function containerOf(guest: string): string {
  return guest.replace(/^docker:/, '');
}

/** Adds it to one of `attachments`; otherwise says why not. */
export function addPassthrough(
  { program, args, guest }: PipeworkPassthrough,
  attachments: readonly WrittenAttachment[],
): string | undefined {
  const name = containerOf(guest);
  const own = attachments.filter(({ container }) => container === name);
  if (own.length === 0) return `nothing connects ${name} before`;
  if (program === 'tc') return addRate(args, own);
  const [object, verb, ...rest] = args;
  if (verb === undefined || !['add', 'replace', 'append', 'change'].includes(verb)) {
    return `a file does not say ${object} ${verb ?? ''}`.trim();
  }
  return object === 'route' ? addRoute(rest, own) : addRule(rest, own);
}

/** `name value` pairs, as `ip` takes them; undefined when a name is not one of `known`. */
function pairs(words: readonly string[], known: readonly string[]): Map<string, string> | undefined {
  const found = new Map<string, string>();
  for (let at = 0; at < words.length; at += 2) {
    const [name = '', value] = words.slice(at, at + 2);
    if (!known.includes(name) || value === undefined || found.has(name)) return undefined;
    found.set(name, value);
  }
  return found;
}

/** `default via GATEWAY`, `10.5.0.0/16 via GATEWAY dev eth1`. */
function addRoute(words: readonly string[], own: readonly WrittenAttachment[]): string | undefined {
  const [to = '', ...rest] = words[0] === 'to' ? words.slice(1) : words;
  const options = pairs(rest, ['via', 'dev', 'table', 'metric']);
  const via = options?.get('via');
  const dev = options?.get('dev');
  const isDefault = ['default', '0.0.0.0/0', '::/0'].includes(to);
  if (options === undefined || (via !== undefined && parseIp(via) === undefined)) {
    return 'of a route, a file says only where to, via, by which interface, the table and the metric';
  }
  const numbers = [parseTable(options.get('table') ?? 'main'), parseMetric(options.get('metric') ?? '1')];
  if (numbers.some((read) => typeof read === 'string')) {
    return 'of a route, a file takes a numbered table, or main, and a metric from 1 on';
  }
  const attachment = own.find((candidate) =>
    dev === undefined ? own.length === 1 || reaches(candidate, via) : (candidate.ifname ?? 'eth1') === dev,
  );
  if (attachment === undefined) return 'it cannot be told which interface this is about';
  if (!isDefault || options.has('table') || options.has('metric')) {
    const read = prefix.safeParse(to);
    if (!isDefault && !read.success) return `"${to}" is not a subnet`;
    const words = ['via', 'table', 'metric'].flatMap((name) => {
      const value = options.get(name);
      return value === undefined ? [] : [`${name} ${value}`];
    });
    const route = [read.success ? formatCidr(read.data) : to, ...words].join(' ');
    attachment.routes = [...(attachment.routes ?? []), route];
    return undefined;
  }
  if (via === undefined) return 'a default route needs a gateway';
  if (attachment.addresses === 'dhcp') return 'with DHCP the server says the gateway';
  const present = [attachment.gateway ?? []].flat();
  if (present.some((ip) => parseIp(ip)?.family === parseIp(via)?.family)) {
    return `${attachment.ifname ?? 'eth1'} has the gateway ${present.join(', ')} already`;
  }
  attachment.gateway = present.length === 0 ? via : [...present, via];
  return undefined;
}

function reaches({ addresses }: WrittenAttachment, via: string | undefined): boolean {
  return [addresses ?? []].flat().some((text) => {
    const cidr = parseCidr(text);
    return via !== undefined && cidr !== undefined && contains(cidr, via);
  });
}

const tables: Readonly<Record<string, number>> = { local: 255, main: 254, default: 253 };

/** `from 172.19.0.2/32 table 1 priority 5`. A rule is the container's, not an interface's: the first has it. */
function addRule(words: readonly string[], own: readonly WrittenAttachment[]): string | undefined {
  const known = ['from', 'to', 'table', 'lookup', 'priority', 'prio', 'pref', 'preference', 'order'];
  const options = pairs(words, known);
  const get = (...names: string[]): string | undefined =>
    names.map((name) => options?.get(name)).find((value) => value !== undefined);
  const table = get('table', 'lookup') ?? '';
  const number = tables[table] ?? Number(table);
  const [from, to] = [get('from'), get('to')].map((text) => (text === 'all' ? undefined : text));
  const priority = get('priority', 'prio', 'pref', 'preference', 'order');
  const isRight =
    options !== undefined &&
    Number.isInteger(number) &&
    number > 0 &&
    (from ?? to) !== undefined &&
    (priority === undefined || /^[1-9]\d*$/.test(priority)) &&
    [from, to].every((text) => text === undefined || prefix.safeParse(text).success);
  const [attachment] = own;
  if (!isRight || attachment === undefined) {
    return 'of a rule, a file says only from, to, a numbered table and the priority';
  }
  const rule = {
    ...(from !== undefined && { from }),
    ...(to !== undefined && { to }),
    table: number,
    ...(priority !== undefined && { priority: Number(priority) }),
  };
  attachment.rules = [...(attachment.rules ?? []), rule];
  return undefined;
}

/** `qdisc add dev eth1 root tbf rate 1mbit burst 10kb latency 50ms`. */
function addRate(args: readonly string[], own: readonly WrittenAttachment[]): string | undefined {
  const [object, verb, ...rest] = args;
  const tbf = rest.indexOf('tbf');
  const head = rest.slice(0, tbf).filter((word) => word !== 'root');
  const where = pairs(head, ['dev', 'handle']);
  const how = pairs(rest.slice(tbf + 1), [
    'rate',
    'burst',
    'buffer',
    'maxburst',
    'latency',
    'limit',
    'mtu',
    'minburst',
  ]);
  const value = how?.get('rate');
  const isTbf =
    object === 'qdisc' && ['add', 'replace'].includes(verb ?? '') && tbf > 0 && rest.includes('root');
  if (!isTbf || where === undefined || value === undefined || !rate.safeParse(value).success) {
    return 'of tc, a file says only the rate of what an interface sends (qdisc add dev ... root tbf rate ...)';
  }
  const attachment = own.find(({ ifname = 'eth1' }) => ifname === where.get('dev'));
  if (attachment === undefined) return `nothing connects ${where.get('dev')} before`;
  attachment.rate = { ...attachment.rate, out: value };
  return undefined;
}
