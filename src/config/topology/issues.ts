/** What the schema found wrong with a value -> problems with their places. */
import type * as z from 'zod';
import { printable } from '../names.ts';
import { keyPlaceOf, partOf, placeOf, type Said } from './document.ts';
import { didYouMean } from './hints.ts';
import type { Complaints } from './problem.ts';

type Issue = z.core.$ZodIssue;
/** What is wrong, and what to write instead. */
export type Words = readonly [message: string, hint?: string | undefined];

/** Sorts of values as users know them. */
const sorts: Readonly<Record<string, string>> = {
  string: 'text',
  number: 'a number',
  int: 'a whole number',
  boolean: 'true or false',
  array: 'a list',
  object: 'a map of keys',
  record: 'a map of keys',
};

/**
 * Adds a problem for each issue with `said`.
 * @param elsewhere why a key that is not known here would be known elsewhere
 */
export function complainOf(
  issues: readonly Issue[],
  said: Said,
  complaints: Complaints,
  elsewhere: (key: string) => Words | undefined = () => undefined,
): void {
  for (const issue of issues.flatMap((found) => plainIssues(found, []))) {
    if (said.unread || issue.path.some((_, at) => partOf(said, issue.path.slice(0, at + 1))?.unread))
      continue;
    if (issue.code === 'unrecognized_keys') {
      for (const key of issue.keys) {
        // The schema's objects list their keys in the message.
        const known = [`unknown key "${printable(key)}"`, didYouMean(key, issue.message.split(' '))] as const;
        const [message, hint] = (issue.path.length === 0 ? elsewhere(key) : undefined) ?? known;
        complaints.add(keyPlaceOf(said, ...issue.path, key), message, hint);
      }
      continue;
    }
    // What is no safe integer is beyond the limits as well.
    if (issue.code === 'too_big' && issue.origin === 'int') continue;
    const [message, hint] = messageOf(issue, said);
    complaints.add(placeOf(said, ...issue.path), `${labelOf(issue.path)}${message}`, hint);
  }
}

/** `addresses[1]: `; nothing for the value itself. */
function labelOf(path: readonly PropertyKey[]): string {
  const text = path.map((step) => (typeof step === 'number' ? `[${step}]` : `.${printable(String(step))}`));
  return text.length === 0 ? '' : `${text.join('').replace(/^\./, '')}: `;
}

/** In place of "none of these alternatives": what is wrong with the one that is meant, by the sort of its value. */
function plainIssues(issue: Issue, above: readonly PropertyKey[]): Issue[] {
  const path = [...above, ...issue.path];
  if (issue.code !== 'invalid_union' || issue.errors.length === 0) return [{ ...issue, path }];
  const meant = issue.errors.find((errors) => !errors.some(isOtherSort));
  if (meant !== undefined) return meant.flatMap((inner) => plainIssues(inner, path));
  const flat = issue.errors
    .flat()
    .flatMap((inner) => (inner.path.length === 0 ? plainIssues(inner, []) : []));
  const choices = [...new Set(flat.flatMap(choicesOf))];
  return [{ code: 'custom', path, message: `must be ${listOf(choices)}`, params: { choices } }];
}

function choicesOf(issue: Issue): string[] {
  if (issue.code === 'invalid_value') return issue.values.map(String);
  if (issue.code === 'invalid_type') return [sortOf(issue.expected)];
  return issue.code === 'custom' ? ((issue.params?.choices as string[] | undefined) ?? []) : [];
}

/** Whether the alternative is for another sort of value altogether. */
function isOtherSort(issue: Issue): boolean {
  if (issue.path.length > 0) return false;
  if (issue.code === 'invalid_union') {
    return issue.errors.length > 0 && issue.errors.every((errors) => errors.some(isOtherSort));
  }
  return issue.code === 'invalid_type' || issue.code === 'invalid_value';
}

function sortOf(expected: string): string {
  return sorts[expected] ?? expected;
}

function messageOf(issue: Issue, entry: Said): Words {
  const said = partOf(entry, issue.path);
  if (said === undefined) return missing(issue, partOf(entry, issue.path.slice(0, -1)));
  const written = typeof said.value === 'string' ? `"${printable(said.value)}"` : said.source;
  switch (issue.code) {
    case 'invalid_type':
      if (said.value === null && !said.source) return ['nothing is written here'];
      return [`must be ${sortOf(issue.expected)}`, quotesHint(said, [sortOf(issue.expected)])];
    case 'invalid_value':
      return choose(issue.values.map(String), said);
    case 'invalid_union':
      return choose(optionsOf(issue), said);
    case 'custom': {
      const choices = issue.params?.choices as string[] | undefined;
      const hint = choices === undefined ? issue.params?.hint : quotesHint(said, choices);
      if (choices !== undefined && said.value === null && !said.source) return ['nothing is written here'];
      return [issue.message, hint as string | undefined];
    }
    case 'too_small':
      if (issue.origin === 'array') return ['the list is empty', 'leave it out'];
      return [written === undefined ? issue.message : `${issue.message}, not ${written}`];
    default:
      return [written === undefined ? issue.message : `${issue.message}, not ${written}`];
  }
}

/** What quotes would change. */
function quotesHint({ value, source }: Said, sortsWanted: readonly string[]): string | undefined {
  if (sortsWanted.includes('text') && source !== undefined && source !== '') {
    return `in quotes it is text: "${printable(source)}"`;
  }
  const isNumber = typeof value === 'string' && /^\d+$/.test(value);
  return isNumber && sortsWanted.some((sort) => sort.endsWith('number')) ? 'leave out the quotes' : undefined;
}

function choose(choices: readonly string[], { value, source }: Said): Words {
  const text = typeof value === 'string' ? value : undefined;
  const said = text === undefined ? source || 'this' : `"${printable(text)}"`;
  const list = choices.length === 1 ? choices[0] : `one of ${choices.join(', ')}`;
  const hint = choices.includes(text ?? '') ? 'leave out the quotes' : didYouMean(text ?? '', choices);
  return [`${said} is not ${list}`, hint];
}

function optionsOf(issue: Issue): string[] {
  const { options, values } = issue as { options?: readonly unknown[]; values?: readonly unknown[] };
  return (options ?? values ?? []).map(String);
}

/** @param from what it is missing from: its key may be there by another name */
function missing(issue: Issue, from: Said | undefined): Words {
  const options = optionsOf(issue);
  if (options.length === 0) return ['is missing'];
  const name = String(issue.path.at(-1));
  const other = [...(from?.parts.keys() ?? [])].find((key) => didYouMean(key, [name]) !== undefined);
  const hint = other === undefined ? undefined : `is "${printable(other)}" meant to be it?`;
  return [`is missing: one of ${options.join(', ')}`, hint];
}

/** `a, b or c`. */
function listOf(words: readonly string[]): string {
  return words.length < 2 ? words.join() : `${words.slice(0, -1).join(', ')} or ${words.at(-1)}`;
}
