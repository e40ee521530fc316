/** The only file that prints. Written straight to the descriptors: process.stdout takes 3 ms to open. */
import { writeSync } from 'node:fs';
import { PipewrightError } from '../errors.ts';

/** Writes text as it is to the standard output (1) or error (2). */
export function writeText(fd: 1 | 2, text: string): void {
  const bytes = Buffer.from(text);
  for (let at = 0; at < bytes.length; ) {
    try {
      at += writeSync(fd, bytes, at);
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      // The reader of a pipe went away: nobody is left to be told.
      if (code === 'EPIPE') return;
      if (code !== 'EAGAIN') throw error;
    }
  }
}

/** A line (or several) to the standard output. */
export function print(text: string): void {
  writeText(1, `${text}\n`);
}

/** A line (or several) to the standard error. */
export function printError(text: string): void {
  writeText(2, `${text}\n`);
}

/** One line: what was being done, to what, why not, and what to do next. */
export function errorLine(error: PipewrightError): string {
  const text = error.hint === undefined ? error.message : `${error.message}; ${error.hint}`;
  return text.replace(/\s*\n\s*/g, ' ');
}

/** What a failure is told as: a line for what a user can mend, a stack for a mistake of ours. */
export function failureText(program: string, error: unknown): string {
  // Every problem of a file has a line, and its place, to be found by an editor.
  if (error instanceof PipewrightError && error.code === 'BAD_TOPOLOGY') return error.message;
  if (error instanceof PipewrightError) return `${program}: ${errorLine(error)}`;
  return `${program}: internal error: ${error instanceof Error ? error.stack : String(error)}`;
}

/** The steps of a plan, a line each with its reason. */
export function stepLines(steps: readonly { readonly command: string; readonly because: string }[]): string {
  return steps.map(({ command, because }) => `+ ${command}   # ${because}`).join('\n');
}

/** Columns, each as wide as its widest cell. */
export function table(rows: readonly (readonly string[])[]): string {
  const widths = rows.reduce<number[]>(
    (most, row) => row.map((cell, i) => Math.max(cell.length, most[i] ?? 0)),
    [],
  );
  return rows
    .map((row) =>
      row
        .map((cell, i) => cell.padEnd(widths[i] ?? 0))
        .join('  ')
        .trimEnd(),
    )
    .join('\n');
}
