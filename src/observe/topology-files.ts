/** Reads topology files from disk, as text. */
import { closeSync, lstatSync, openSync, readdirSync, readSync, statSync } from 'node:fs';
import path from 'node:path';
import type { TopologyFile } from '../config/topology/load.ts';
import { TopologyError } from '../config/topology/problem.ts';
import { PipewrightError } from '../errors.ts';
import type { Place } from '../model/topology.ts';

/** Bytes. */
const largest = 1 << 20;

/**
 * The files, and of each folder its `*.yaml` and `*.yml` files in the order of their names, but none in folders below and
 * none whose name begins with a dot. A file named twice is read once.
 * @throws PipewrightError BAD_TOPOLOGY when one cannot be read, is larger than 1 MiB or is not UTF-8
 */
export function readTopologyFiles(paths: readonly string[]): TopologyFile[] {
  const files = new Map<string, string>();
  for (const file of paths.flatMap(filesOf)) {
    const full = path.resolve(file);
    if (!files.has(full)) files.set(full, file);
  }
  return [...files.values()].map((file) => ({ file, text: textOf(file, readBytes(file)) }));
}

function filesOf(place: string): string[] {
  try {
    if (!statSync(place).isDirectory()) return [place];
    return readdirSync(place)
      .filter((name) => /\.ya?ml$/.test(name) && !name.startsWith('.'))
      .sort()
      .map((name) => path.join(place, name))
      .filter(isFile);
  } catch (error) {
    throw error instanceof PipewrightError ? error : unreadable(place, error);
  }
}

function isFile(file: string): boolean {
  try {
    return statSync(file).isFile();
  } catch (error) {
    throw unreadable(file, error);
  }
}

/** No more than can be used, of whatever it is: a pipe (`/dev/stdin`) has no size to ask for. */
function readBytes(file: string): Buffer {
  const buffer = Buffer.alloc(largest + 1);
  let length = 0;
  try {
    const fd = openSync(file, 'r');
    try {
      for (let read = 1; read > 0 && length < buffer.length; length += read) {
        read = readSync(fd, buffer, length, buffer.length - length, null);
      }
    } finally {
      closeSync(fd);
    }
  } catch (error) {
    throw unreadable(file, error);
  }
  if (length > largest) {
    throw new TopologyError([
      {
        place: { file, line: 1, column: 1 },
        message: 'the file is larger than 1 MiB, which no topology needs',
      },
    ]);
  }
  return buffer.subarray(0, length);
}

function textOf(file: string, bytes: Buffer): string {
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch {
    throw new TopologyError([{ place: firstBad(file, bytes), message: 'this is not UTF-8' }]);
  }
}

/** Where the first byte is that is part of no character. */
function firstBad(file: string, bytes: Buffer): Place {
  const newline = 0x0a;
  let [line, start] = [1, 0];
  for (;;) {
    const next = bytes.indexOf(newline, start);
    const end = next < 0 ? bytes.length : next + 1;
    const column = badColumn(bytes.subarray(start, end));
    if (column !== undefined || next < 0) return { file, line, column: column ?? 1 };
    [line, start] = [line + 1, end];
  }
}

function badColumn(bytes: Buffer): number | undefined {
  const decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });
  let column = 1;
  try {
    for (const byte of bytes) column += decoder.decode(Uint8Array.of(byte), { stream: true }).length;
    decoder.decode();
  } catch {
    return column;
  }
  return undefined;
}

function unreadable(file: string, error: unknown): PipewrightError {
  const errno = error instanceof Error && 'code' in error ? String(error.code) : undefined;
  const isLink = lstatSync(file, { throwIfNoEntry: false })?.isSymbolicLink();
  const gone = isLink ? 'it is a link to a file that is not there' : 'there is no such file';
  const detail = errno === 'ENOENT' ? gone : 'it cannot be read';
  return new PipewrightError('BAD_TOPOLOGY', { op: 'topology', subject: file, errno, detail, cause: error });
}
