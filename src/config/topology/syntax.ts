/** What is wrong with a text as YAML, in words for those who write it. */
import { type Document, type ErrorCode, visit, type YAMLError } from 'yaml';
import { printable } from '../names.ts';

interface SyntaxProblem {
  /** Offset in the text. */
  readonly at: number;
  readonly message: string;
  readonly hint?: string;
}

/** For the codes whose own message is not plain. */
const words: { readonly [code in ErrorCode]?: readonly [message: string, hint?: string | undefined] } = {
  TAB_AS_INDENT: ['a tab cannot indent in YAML', 'indent with spaces'],
  MULTIPLE_DOCS: ['a second document begins here', 'a file holds one; put the other into a file of its own'],
  RESOURCE_EXHAUSTION: ['this is nested too deeply'],
  NON_STRING_KEY: ['a key must be text'],
  TAG_RESOLVE_FAILED: ['this tag means nothing here'],
  UNEXPECTED_TOKEN: ['this does not belong here', 'mind the indentation and the quotes'],
  BLOCK_AS_IMPLICIT_KEY: ['a second key and value in one line', 'quote the text, or begin a new line'],
  MULTILINE_IMPLICIT_KEY: [
    'a colon after a text of several lines',
    'quote the text, or mind the indentation',
  ],
};

/** In the order of the text. Warnings count as errors. */
export function syntaxProblems(document: Document): SyntaxProblem[] {
  const { errors, warnings, directives } = document;
  const first = errors.find(({ code }) => code === 'RESOURCE_EXHAUSTION');
  if (first !== undefined) return [problemOf(first, document)];
  const found = [...errors, ...warnings].map((error) => problemOf(error, document));
  if (directives?.yaml.version !== '1.2') {
    found.push({
      at: 0,
      message: `the file is YAML 1.2, not ${directives?.yaml.version}`,
      hint: 'leave out the %YAML line',
    });
  }
  return found.sort((a, b) => a.at - b.at);
}

function problemOf({ code, message, pos }: YAMLError, document: Document): SyntaxProblem {
  if (code === 'MISSING_CHAR' && message.startsWith('Missing closing')) {
    return { at: quoteBefore(document, pos[0]), message: 'this quote is not closed' };
  }
  if (code === 'BAD_INDENT' && message.startsWith('Flow')) {
    const message = 'the bracket or brace before this is not closed';
    return { at: pos[0], message, hint: 'or what is in it needs more indentation' };
  }
  const [plain = lowerFirst(message), hint] = words[code] ?? [];
  return { at: pos[0], message: plain, ...(hint !== undefined && { hint }) };
}

/** Where the text begins that ends at `end`, with the file, perhaps: the parser tells only that. */
function quoteBefore(document: Document, end: number): number {
  let start = end;
  visit(document, {
    Scalar: (_, { range, type }) => {
      if (range?.[1] === end && type?.startsWith('QUOTE')) start = range[0];
    },
  });
  return start;
}

function lowerFirst(message: string): string {
  const line = printable(message.split('\n')[0] ?? '');
  return `${line.charAt(0).toLowerCase()}${line.slice(1).replace(/\.$/, '')}`;
}
