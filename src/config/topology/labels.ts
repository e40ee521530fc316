/**
 * Labels of containers that say what an entry of a file would: `pipewright.NETWORK=address=10.0.0.2/24,ifname=eth1`, or
 * `pipewright.NETWORK.IFNAME=...` for several interfaces on one network. Checked as such an entry is.
 */
import type { Place } from '../../model/topology.ts';
import { printable } from '../names.ts';
import { splitRule } from '../route-words.ts';
import { type KnownNetworks, readAttachment, type SaidAttachment } from './attachment.ts';
import type { Said } from './document.ts';
import { didYouMean } from './hints.ts';
import { Complaints } from './problem.ts';
import { not, Refused } from './values.ts';

/** What labels of this program begin with. */
export const labelPrefix = 'pipewright.';

/** Characters. */
const longest = 4096;

/** Where something is said that no file says: it has no lines. */
export function labelPlace(container: string, label: string): Place {
  return { file: `label ${label} of ${container}`, line: 0, column: 0 };
}

/** Whether it is a label that says it. */
export const isLabelPlace = ({ line }: Place): boolean => line === 0;

/** What one label says, or why it cannot be had: a sentence. */
export function readAttachmentLabel(
  container: string,
  label: { readonly name: string; readonly value: string },
  networks: KnownNetworks,
): SaidAttachment | Refused {
  const target = targetOf(label.name.slice(labelPrefix.length), networks.names);
  if (target instanceof Refused) return target;
  const fields = fieldsOf(label.value);
  if (fields instanceof Refused) return fields;
  if (target.ifname !== undefined && (fields.ifname ?? target.ifname) !== target.ifname) {
    return not(`ifname: the label's name says ${printable(target.ifname)}`, 'leave out one');
  }
  const complaints = new Complaints();
  const said = saidOf({ container, ...fields, ...target }, labelPlace(container, label.name));
  const read = readAttachment(said, networks, complaints);
  const [problem] = complaints.problems;
  if (problem) return not(problem.message.replace(/^(address|route|rule)e?s\b/, '$1'), problem.hint);
  return read ?? not('cannot be understood');
}

/** `lan` is a network; `lan.eth2` an interface on it. The longest name of a network goes before. */
function targetOf(
  text: string,
  names: ReadonlySet<string>,
): { readonly network: string; readonly ifname?: string } | Refused {
  if (names.has(text)) return { network: text };
  for (let dot = text.lastIndexOf('.'); dot > 0; dot = text.lastIndexOf('.', dot - 1)) {
    const network = text.slice(0, dot);
    if (names.has(network)) return { network, ifname: text.slice(dot + 1) };
  }
  const hint = didYouMean(text, names) ?? didYouMean(text.split('.')[0] ?? '', names);
  return not(`there is no network "${printable(text)}" in the topology`, hint);
}

/** How the words of a label are called in a file, and what their values become. */
const words: Readonly<
  Record<string, { readonly key: string; readonly sort: 'one' | 'many' | 'number' | 'numbers' }>
> = {
  address: { key: 'addresses', sort: 'many' },
  gateway: { key: 'gateway', sort: 'many' },
  ifname: { key: 'ifname', sort: 'one' },
  mac: { key: 'mac', sort: 'one' },
  unique: { key: 'unique', sort: 'one' },
  vlan: { key: 'vlan', sort: 'number' },
  trunks: { key: 'trunks', sort: 'numbers' },
  mtu: { key: 'mtu', sort: 'number' },
  mode: { key: 'mode', sort: 'one' },
  mirror: { key: 'mirror', sort: 'many' },
  policing: { key: 'policing', sort: 'one' },
  route: { key: 'routes', sort: 'many' },
};

/** These stand by themselves. */
const alone = new Set(['auto', 'dhcp', 'none', 'all']);
const wordHint = 'a label is as in address=10.0.0.2/24,ifname=eth1';

/** `address=10.0.0.2/24,ifname=eth1` as the fields of an entry. */
function fieldsOf(value: string): Record<string, unknown> | Refused {
  if (value.length > longest) return not(`it is longer than ${longest} characters`);
  const lists = new Map<string, string[]>();
  for (const part of value.trim() === '' ? [] : value.split(',')) {
    const [, word = '', text = ''] = /^\s*([^=\s]+)\s*=\s*(.*?)\s*$/s.exec(part) ?? [];
    if (word === '') return not(`"${printable(part.trim())}" is not WORD=VALUE`, wordHint);
    lists.set(word, [...(lists.get(word) ?? []), text]);
  }
  const fields: Record<string, unknown> = {};
  for (const [word, texts] of lists) {
    const why = addField(fields, word, texts);
    if (why !== undefined) return why;
  }
  return fields;
}

function addField(
  fields: Record<string, unknown>,
  word: string,
  texts: readonly string[],
): Refused | undefined {
  const [first = ''] = texts;
  const known = Object.hasOwn(words, word) ? words[word] : undefined;
  const isList = known?.sort === 'many' || known?.sort === 'numbers' || word === 'rule';
  if (!isList && texts.length > 1) return not(`${printable(word)} is there twice`);
  if (known !== undefined) {
    const values = known.sort.startsWith('number') ? texts.map(numberOr) : texts;
    fields[known.key] = isList && !(texts.length === 1 && alone.has(first)) ? values : values[0];
    return undefined;
  }
  if (word === 'rule') return addRules(fields, texts);
  if (word === 'rate-in' || word === 'rate-out') {
    fields.rate = { ...(fields.rate as object | undefined), [word.slice('rate-'.length)]: first };
    return undefined;
  }
  const [, sysctl] = /^sysctl\.((?:ipv4|ipv6|net)\.[a-z0-9_./-]+)$/.exec(word) ?? [];
  if (sysctl !== undefined) {
    fields.sysctls = { ...(fields.sysctls as object | undefined), [sysctl]: first };
    return undefined;
  }
  const all = [...Object.keys(words), 'rule', 'rate-in', 'rate-out'];
  return not(
    `unknown word "${printable(word)}"`,
    didYouMean(word, all) ?? `known are ${all.join(', ')}, sysctl.NAME`,
  );
}

function addRules(fields: Record<string, unknown>, texts: readonly string[]): Refused | undefined {
  const rules = texts.map(splitRule);
  const bad = rules.indexOf(undefined);
  if (bad >= 0) {
    const hint = 'write it as in from 10.0.0.2 table 100 priority 1000';
    return not(`rule: "${printable(texts[bad] ?? '')}" is not a rule`, hint);
  }
  fields.rules = rules.map((rule) =>
    Object.fromEntries(
      Object.entries(rule ?? {}).map(([name, text]) => [
        name,
        name === 'table' || name === 'priority' ? numberOr(text) : text,
      ]),
    ),
  );
  return undefined;
}

const numberOr = (text: string): number | string => (/^\d{1,12}$/.test(text) ? Number(text) : text);

/** A value as if a file had it. */
function saidOf(value: unknown, place: Place): Said {
  const isParent = typeof value === 'object' && value !== null;
  const parts = Object.entries(isParent ? value : {}).map(
    ([name, part]) => [name, { ...saidOf(part, place), keyPlace: place }] as const,
  );
  return { value, place, parts: new Map(parts) };
}
