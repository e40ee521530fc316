/** `pipewright import` */
import { readFileSync } from 'node:fs';
import { importPipework } from '../config/import.ts';
import { PipewrightError } from '../errors.ts';
import { print, printError } from './output.ts';

/** Options of `pipewright import`. */
export interface ImportFlags {
  readonly json: boolean;
}

/** Turns `pipework` command lines into a topology file. @returns 0: all of them; 1: some could not be said */
export async function importCommands({ json }: ImportFlags, paths: readonly string[]): Promise<number> {
  const texts = paths.length > 0 ? paths.map(read) : [read('/dev/stdin')];
  const { yaml, notes } = importPipework(texts.join('\n'));
  if (json) print(JSON.stringify({ yaml, notes }));
  else {
    print(yaml.trimEnd());
    for (const note of notes) printError(`note: ${note}`);
  }
  return notes.length > 0 ? 1 : 0;
}

function read(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    throw new PipewrightError('BAD_ARGUMENT', {
      op: 'import',
      subject: path,
      errno: code,
      detail: message,
      cause: error,
    });
  }
}
