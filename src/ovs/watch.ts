/** A monitor of the Open vSwitch database that outlives the server: for a daemon that reacts to changes. */
import { existsSync } from 'node:fs';
import { PipewrightError } from '../errors.ts';
import { touched } from '../kernel/touched.ts';
import { defaultSocket, Ovsdb, type Watched } from './ovsdb.ts';

/** What a watch is given besides the columns. */
export interface WatchOptions {
  /** Socket of ovsdb-server. */
  readonly path?: string;
  /** After a change, and after each (re)connection, since changes may have been missed before it. */
  readonly onWake: () => void;
  /** Once for each loss of the connection, and once when there is none at first. */
  readonly onLost?: (reason: PipewrightError) => void;
  /** Milliseconds for connecting and for each answer. */
  readonly timeoutMs?: number;
  /** Milliseconds between two checks whether the server still answers. */
  readonly probeMs?: number;
}

const firstRetryMs = 50;
const lastRetryMs = 5000;
/** Milliseconds until a socket is looked for that was not told of when it came. */
const absenceMs = 30_000;

/** `ovsdb-client monitor` that connects again when the server was restarted. Dispose it to stop. */
export class OvsdbWatch implements AsyncDisposable {
  private readonly watched: Watched;
  private readonly options: WatchOptions;
  private readonly running: Promise<void>;
  private readonly stop = new AbortController();

  /** Starts at once. Name only columns that matter: Interface.statistics alone changes every five seconds. */
  constructor(watched: Watched, options: WatchOptions) {
    this.watched = watched;
    this.options = options;
    this.running = this.run();
  }

  /** Stops, and resolves when nothing will be called any more. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.stop.abort();
    await this.running;
  }

  private async run(): Promise<void> {
    const { signal } = this.stop;
    let wasUp = true;
    let retryMs = firstRetryMs;
    while (!signal.aborted) {
      const reason = await this.untilLost(() => {
        wasUp = true;
        retryMs = firstRetryMs;
        this.options.onWake();
      });
      if (signal.aborted) return;
      if (wasUp) this.options.onLost?.(reason);
      wasUp = false;
      const { path = defaultSocket } = this.options;
      const wasThere = existsSync(path);
      const isAnother = await touched(path, { wasThere, ms: wasThere ? retryMs : absenceMs, signal });
      retryMs = isAnother ? firstRetryMs : Math.min(2 * retryMs, lastRetryMs);
    }
  }

  /** One connection's life. `onUp` is called when the server watches. */
  private async untilLost(onUp: () => void): Promise<PipewrightError> {
    const { path = defaultSocket, timeoutMs = 5000, probeMs = 10_000, onWake } = this.options;
    let db: Ovsdb | undefined;
    const probes = new AbortController();
    const close = (): void => db?.close();
    try {
      db = await Ovsdb.connect(path, { timeoutMs });
      this.stop.signal.addEventListener('abort', close);
      if (this.stop.signal.aborted) db.close();
      await db.monitor(this.watched, onWake);
      onUp();
      void probe(db, probeMs, probes.signal);
      return await db.closed;
    } catch (error) {
      // Only what Open vSwitch answers; a mistake in this program, or in onWake, is not to be retried in silence.
      if (error instanceof PipewrightError) return error;
      throw error;
    } finally {
      probes.abort();
      this.stop.signal.removeEventListener('abort', close);
      db?.close();
    }
  }
}

/** A stopped server keeps its connections; only a missing answer shows it. The connection ends itself then. */
async function probe(db: Ovsdb, everyMs: number, signal: AbortSignal): Promise<void> {
  try {
    while (!signal.aborted) {
      await pause(everyMs, signal);
      if (!signal.aborted) await db.echo();
    }
  } catch {
    // Whoever awaits db.closed has the reason.
  }
}

function pause(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) return resolve();
    const done = (): void => {
      clearTimeout(timer);
      signal.removeEventListener('abort', done);
      resolve();
    };
    const timer = setTimeout(done, ms);
    signal.addEventListener('abort', done);
  });
}
