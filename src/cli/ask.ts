/** Questions to whoever sits at the terminal. */
import { readSync } from 'node:fs';
import { isatty } from 'node:tty';
import { print, writeText } from './output.ts';

/** Whether there is somebody to ask. */
export function hasTerminal(): boolean {
  return isatty(0) && isatty(1);
}

/** Shows what would be done and asks; anything but `y` or `yes` is a no. */
export function agrees(plan: string, question: string): boolean {
  print(plan);
  writeText(1, `${question} [y/N] `);
  const answer = Buffer.alloc(16);
  return /^y(es)?\s*$/i.test(answer.toString('utf8', 0, readSync(0, answer)));
}
