/** The agent's log: one line an event on the standard error, for people or for programs. */
import { writeSync } from 'node:fs';
import { type DestinationStream, pino, stdTimeFunctions } from 'pino';
import type { AgentLog } from './parts.ts';

/** From most to least said. */
export const logLevels = ['debug', 'info', 'warn', 'error'] as const;
export type LogLevel = (typeof logLevels)[number];

/** How much is written, and in which form. */
export interface LogOptions {
  /** `text`: `TIME LEVEL message key=value`; `json`: an object a line. */
  readonly format: 'text' | 'json';
  /** The least that is written. */
  readonly level: LogLevel;
  /** Where a whole line goes; by default file descriptor 2. */
  readonly write?: (line: string) => void;
}

/** A log with all levels; each call is one line, written when it returns. */
export interface Log extends AgentLog {
  debug(fields: object, message: string): void;
  error(fields: object, message: string): void;
}

export function createLog(options: LogOptions): Log {
  return options.format === 'json' ? jsonLog(options) : textLog(options);
}

function jsonLog({ level, write = writeLine }: LogOptions): Log {
  const destination: DestinationStream = { write };
  return pino(
    {
      level,
      base: null,
      timestamp: stdTimeFunctions.isoTime,
      formatters: { level: (label) => ({ level: label }) },
      serializers: { error: (error: unknown) => (error instanceof Error ? error.message : error) },
    },
    destination,
  );
}

function textLog({ level, write = writeLine }: LogOptions): Log {
  const least = logLevels.indexOf(level);
  const at =
    (label: LogLevel) =>
    (fields: object, message: string): void => {
      if (logLevels.indexOf(label) < least) return;
      const pairs = Object.entries(fields)
        .filter(([, value]) => value !== undefined)
        .map(([key, value]) => ` ${key}=${valueText(value)}`);
      const line = `${new Date().toISOString()} ${label.toUpperCase().padEnd(5)} ${plain(message)}${pairs.join('')}`;
      write(`${line}\n`);
    };
  return { debug: at('debug'), info: at('info'), warn: at('warn'), error: at('error') };
}

/** Bare where it can be read back without doubt, else as JSON. */
function valueText(value: unknown): string {
  if (value instanceof Error) return valueText(value.message);
  const text = typeof value === 'string' ? value : (JSON.stringify(value) ?? String(value));
  return typeof value === 'string' && !/^[\w./:@%+,-]+$/.test(text)
    ? plain(JSON.stringify(text))
    : plain(text);
}

/** Nothing in a log line ends it or acts on a terminal: names and messages come from others. */
function plain(text: string): string {
  return text.replace(/\p{C}/gu, (c) => `\\u${(c.codePointAt(0) ?? 0).toString(16).padStart(4, '0')}`);
}

/**
 * All of it, at once: what was logged before a crash is there. Where nobody reads any more, or a pipe stays full, the
 * line is lost and the agent goes on.
 */
function writeLine(line: string): void {
  const bytes = Buffer.from(line);
  const deadline = Date.now() + 20;
  for (let at = 0; at < bytes.length; ) {
    try {
      at += writeSync(2, bytes, at);
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      if (code !== 'EAGAIN' || Date.now() > deadline) return;
    }
  }
}
