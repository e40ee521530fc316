/** Topology files made by the program: for `pipewright import`. A file of the user's is never written. */
import { stringify } from 'yaml';
import type * as z from 'zod';
import type { attachmentSchema } from './schema-attachment.ts';
import type { networkSchema } from './schema-network.ts';

/** A network, an attachment as the file has them. */
export type WrittenNetwork = z.input<typeof networkSchema>;
export type WrittenAttachment = z.input<typeof attachmentSchema>;

/** An entry with the comment lines that go above it; without a value only those. */
export interface WrittenEntry {
  readonly comments: readonly string[];
  readonly value?: WrittenAttachment;
}

/** The text, and which entry each of its lines is of, by its place in `entries`; lines from 1. */
export interface WrittenTopology {
  readonly text: string;
  readonly networkAt: ReadonlyMap<number, string>;
  readonly entryAt: ReadonlyMap<number, number>;
}

/** A whole file. */
export function writeTopology(
  networks: ReadonlyMap<string, WrittenNetwork>,
  entries: readonly WrittenEntry[],
): WrittenTopology {
  const lines = ['version: 1', ''];
  const networkAt = new Map<number, string>();
  const entryAt = new Map<number, number>();
  const add = <T>(
    more: readonly string[],
    of?: { readonly map: Map<number, T>; readonly value: T },
  ): void => {
    for (const line of more) {
      lines.push(line);
      of?.map.set(lines.length, of.value);
    }
  };
  if (networks.size > 0) add(['networks:']);
  for (const [name, network] of networks) {
    add(indented({ [name]: network }, '  '), { map: networkAt, value: name });
  }
  if (networks.size > 0) add(['']);
  if (entries.some(({ value }) => value !== undefined)) add(['attachments:']);
  for (const [at, { comments, value }] of entries.entries()) {
    add(comments.map((comment) => `  #${commentText(comment)}`));
    if (value !== undefined) add(indented([value], '  '), { map: entryAt, value: at });
  }
  return { text: `${lines.join('\n').trimEnd()}\n`, networkAt, entryAt };
}

function indented(value: unknown, indent: string): string[] {
  const text = stringify(value, { lineWidth: 0, defaultStringType: 'PLAIN' }).trimEnd();
  return text.split('\n').map((line) => `${indent}${line}`);
}

/** One line, with a blank after the `#`. */
function commentText(comment: string): string {
  const line = comment.replace(/[\p{C}\p{Zl}\p{Zp}]+/gu, ' ').trimEnd();
  return line === '' || line.startsWith(' ') ? line : ` ${line}`;
}
