/** `pipewright import` */
import { readFileSync } from 'node:fs';
import { Host } from '../apply/host.ts';
import { type Imported, importPipework } from '../config/import.ts';
import { importHost } from '../config/import-host.ts';
import { Engines, enginesOfHost } from '../containers/engines.ts';
import { PipewrightError } from '../errors.ts';
import { observeHostInterfaces } from '../observe/host-interfaces.ts';
import { print, printError } from './output.ts';
import { requirePrivileges } from './privileges.ts';

/** Options of `pipewright import`. */
export interface ImportFlags {
  readonly fromHost: boolean;
  readonly json: boolean;
}

/**
 * Turns `pipework` command lines, or what is on the host now, into a topology file.
 * @returns 0: all of it; 1: some could not be said
 */
export async function importTopology(
  { fromHost, json }: ImportFlags,
  paths: readonly string[],
): Promise<number> {
  const { yaml, notes } = fromHost ? await importFromHost(paths) : importScripts(paths);
  if (json) print(JSON.stringify({ yaml, notes }));
  else {
    print(yaml.trimEnd());
    for (const note of notes) printError(`note: ${note}`);
  }
  return notes.length > 0 ? 1 : 0;
}

function importScripts(paths: readonly string[]): Imported {
  const texts = paths.length > 0 ? paths.map(read) : [read('/dev/stdin')];
  return importPipework(texts.join('\n'));
}

async function importFromHost([path]: readonly string[]): Promise<Imported> {
  if (path !== undefined) {
    const detail = 'with --from-host no file is read';
    throw new PipewrightError('BAD_ARGUMENT', { op: 'import', subject: path, detail });
  }
  requirePrivileges();
  await using host = new Host();
  return importHost(await observeHostInterfaces(host, new Engines(enginesOfHost())));
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
