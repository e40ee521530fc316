/** The `pipework` lines of a script or crontab. */
import { printable } from './names.ts';
import { readShell, type ShellItem, type ShellWord } from './shell-words.ts';

/** A command that has to do with pipework, or the comments at the end. */
export interface FoundLine {
  readonly line: number;
  /** The command on one line. */
  readonly text: string;
  /** Comments since the last one. */
  readonly comments: readonly string[];
  /** What pipework was called with. */
  readonly argv?: readonly string[];
  readonly words: readonly string[];
  /** Why it cannot be taken over. */
  readonly why?: string;
}

/** In the order of the text; the last may be of comments only. */
export function findPipework(text: string): FoundLine[] {
  const found: FoundLine[] = [];
  let comments: string[] = [];
  for (const item of readShell(text)) {
    if ('comment' in item) {
      if (item.line > 1 || !item.comment.startsWith('!')) comments.push(item.comment);
      continue;
    }
    const command = commandOf(item);
    if (command === undefined) continue;
    found.push({ ...command, comments });
    comments = [];
  }
  if (comments.length > 0) found.push({ line: 0, text: '', comments, words: [] });
  return found;
}

/** Words before a command that do not change what it does, and the options that they may have. */
const prefixes = new Set([
  'sudo',
  'doas',
  'exec',
  'command',
  'nohup',
  'time',
  'env',
  'then',
  'do',
  'else',
  'if',
  'while',
  'until',
  '!',
  '{',
]);

function commandOf({
  line,
  words,
}: Extract<ShellItem, { words: unknown }>): Omit<FoundLine, 'comments'> | undefined {
  const at = words.findIndex(({ text, isDynamic }) => !isDynamic && /^(.*\/)?pipework$/.test(text));
  const mentioned = words.find(({ text, isDynamic }) => isDynamic && /\bpipework\b/.test(text));
  const text = words.map(quoted).join(' ');
  if (at < 0) {
    return (
      mentioned && {
        line,
        text,
        words: [],
        why: `${printable(mentioned.text)} is known only when the script runs`,
      }
    );
  }
  const argv = words.slice(at + 1).filter(({ text: word }) => word !== '}');
  const result = { line, text, words: argv.map((word) => word.text) };
  if (!isCommand(words.slice(0, at))) {
    // cp, chmod, which, apt-get install: nothing is connected.
    return argv.length < 2 ? undefined : { ...result, why: 'pipework is not run by this itself' };
  }
  const dynamic = argv.find(({ isDynamic }) => isDynamic);
  return dynamic === undefined
    ? { ...result, argv: result.words }
    : { ...result, why: `${printable(dynamic.text)} is known only when the script runs` };
}

/** Whether what comes before leaves it the command: variables, sudo and the like, the fields of a crontab. */
function isCommand(before: readonly ShellWord[]): boolean {
  const words = before.map(({ text }) => text);
  const fields = words[0]?.startsWith('@') ? 1 : 5;
  const isTime = (word: string): boolean => /^(@[a-z]+|[\d*][\d*/,-]*|[a-z]{3}(-[a-z]{3})?)$/i.test(word);
  if (words.length >= fields && words.slice(0, fields).every(isTime)) {
    words.splice(0, fields);
    // The system's crontab names a user.
    if (/^[a-z_][a-z0-9_-]*$/.test(words[0] ?? '') && !prefixes.has(words[0] ?? '')) words.shift();
  }
  const isPrefix = (word: string): boolean =>
    prefixes.has(word.replace(/^.*\//, '')) || /^[A-Za-z_]\w*=/.test(word) || /^-[A-Za-z-]+$/.test(word);
  return words.every(isPrefix);
}

function quoted({ text, isDynamic }: ShellWord): string {
  if (/^[\w@%+=:,./*~{}!-]+$/.test(text)) return text;
  return isDynamic ? `"${text}"` : `'${text.replaceAll("'", "'\\''")}'`;
}
