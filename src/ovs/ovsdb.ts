/** A client of the Open vSwitch database (RFC 7047): transactions, monitors, and waiting for ovs-vswitchd. */
import { PipewrightError } from '../errors.ts';
import { JsonRpc } from './jsonrpc.ts';
import type { Row, Value } from './values.ts';
import { readInteger } from './values.ts';

/** Where Debian and the OVS defaults put the database socket. */
export const defaultSocket = '/var/run/openvswitch/db.sock';
const database = 'Open_vSwitch';
const defaultTimeoutMs = 5000;

/** `[column, function, value]`, RFC 7047 section 5.1. */
export type Condition = readonly [string, '==' | '!=' | 'includes' | 'excludes', Value];

/** One operation of a transaction, RFC 7047 section 5.2. */
export type Operation =
  | { readonly op: 'insert'; readonly table: string; readonly row: Row; readonly 'uuid-name'?: string }
  | {
      readonly op: 'select';
      readonly table: string;
      readonly where: readonly Condition[];
      readonly columns: readonly string[];
    }
  | {
      readonly op: 'update';
      readonly table: string;
      readonly where: readonly Condition[];
      readonly row: Row;
    }
  | {
      readonly op: 'mutate';
      readonly table: string;
      readonly where: readonly Condition[];
      readonly mutations: readonly (readonly [string, '+=' | 'insert' | 'delete', Value])[];
    }
  | { readonly op: 'delete'; readonly table: string; readonly where: readonly Condition[] }
  | {
      readonly op: 'wait';
      readonly table: string;
      readonly where: readonly Condition[];
      readonly columns: readonly string[];
      readonly until: '==' | '!=';
      readonly rows: readonly Row[];
      /** Milliseconds; 0 makes it a guard that is true or fails the transaction. */
      readonly timeout: 0;
    }
  | { readonly op: 'comment'; readonly comment: string };

/** What an operation gave: `rows` of a select, `count` of a mutate, update or delete, `uuid` of an insert. */
export interface OpResult {
  readonly rows?: readonly Row[];
  readonly count?: number;
  readonly uuid?: readonly ['uuid', string];
}

/** Why a transaction was not committed. */
export interface Failure {
  /** Index of the operation; the number of operations when the commit itself failed. */
  readonly index: number;
  /** OVS's own words. */
  readonly detail: string;
}

/** For the error text: what is done to what. */
export interface About {
  readonly op: string;
  readonly subject: string;
}

/** Tables and those of their columns that are watched. */
export type Watched = Readonly<Record<string, readonly string[]>>;

/** One connection to the database. Dispose it, or it keeps the process running. */
export class Ovsdb implements AsyncDisposable {
  /** Path of the socket. */
  readonly path: string;
  private readonly rpc: JsonRpc;
  private readonly wakes = new Map<string, (updates: unknown) => void>();
  private lastMonitor = 0;
  private curCfg = -1;
  private curCfgMonitor: Promise<unknown> | undefined;
  private readonly cfgWaiters = new Set<() => void>();
  private gone: PipewrightError | undefined;

  private constructor(rpc: JsonRpc) {
    this.path = rpc.path;
    this.rpc = rpc;
    rpc.onNotify = (method, [monitor, updates]) => {
      if (method === 'update') this.wakes.get(String(monitor))?.(updates);
    };
    void rpc.closed.then((reason) => {
      this.gone = reason;
      for (const wake of this.cfgWaiters) wake();
    });
  }

  /**
   * Connects to ovsdb-server. `timeoutMs` (default 5000) limits the connecting and each answer.
   * Throws OVS_UNAVAILABLE, or NOT_PERMITTED when the socket may not be opened.
   */
  static async connect(path = defaultSocket, options: { readonly timeoutMs?: number } = {}): Promise<Ovsdb> {
    return new Ovsdb(await JsonRpc.open(path, options.timeoutMs ?? defaultTimeoutMs));
  }

  /** Resolves with the reason once the connection is gone. */
  get closed(): Promise<PipewrightError> {
    return this.rpc.closed;
  }

  /** Commits all operations or none. Throws OVS_REFUSED with OVS's text when it is none. */
  async transact(operations: readonly Operation[], about: About): Promise<OpResult[]> {
    const outcome = await this.tryTransact(operations, about);
    if (outcome.failure === undefined) return outcome.results;
    throw new PipewrightError('OVS_REFUSED', { ...about, detail: outcome.failure.detail });
  }

  /** As {@link transact}, but a refused transaction is an outcome and not an exception. */
  async tryTransact(
    operations: readonly Operation[],
    about: About,
  ): Promise<{ results: OpResult[]; failure?: Failure }> {
    refuseUnsendable(operations, about);
    const answer = await this.rpc.request('transact', [database, ...operations]);
    const results = Array.isArray(answer) ? (answer as (Record<string, unknown> | null)[]) : [];
    const index = results.findIndex((result) => typeof result?.error === 'string');
    if (index < 0) return { results: results as OpResult[] };
    const { error, details } = results[index] ?? {};
    return { results: [], failure: { index, detail: [error, details].filter(Boolean).join(': ') } };
  }

  /**
   * Calls `onWake` after each committed change of the columns; the rows are not passed on, since whoever wakes
   * reads them anew. Resolves once the server watches. Returns the way to stop. `ovsdb-client monitor`.
   */
  async monitor(watched: Watched, onWake: () => void): Promise<() => Promise<void>> {
    const id = this.nextMonitorId();
    this.wakes.set(id, onWake);
    await this.rpc.request('monitor', [database, id, monitorRequests(watched, false)]);
    return async () => {
      this.wakes.delete(id);
      await this.rpc.request('monitor_cancel', [id]);
    };
  }

  /** Asks for any answer. Throws OVS_UNAVAILABLE when none comes in time. */
  async echo(): Promise<void> {
    await this.rpc.request('echo', []);
  }

  /**
   * Has the server tell us each cur_cfg from now on. Must be called before the transaction that is waited for;
   * it need not be awaited then, because the server works off one connection's requests in order.
   */
  watchCurCfg(): Promise<unknown> {
    if (this.curCfgMonitor === undefined) {
      const id = this.nextMonitorId();
      this.wakes.set(id, (updates) => this.takeCurCfg(updates));
      const watched = { Open_vSwitch: ['cur_cfg'] };
      this.curCfgMonitor = this.rpc
        .request('monitor', [database, id, monitorRequests(watched, true)])
        .then((initial) => {
          // Updates that came in one chunk with this answer were taken before it, and are newer.
          if (this.curCfg < 0) this.takeCurCfg(initial);
        });
      // Whoever waits for it sees the failure; a caller that died before must not make it an unhandled one.
      this.curCfgMonitor.catch(() => {});
    }
    return this.curCfgMonitor;
  }

  /**
   * Waits until ovs-vswitchd has acted on configuration number `cfg`; false when it has not after `waitMs`.
   * Throws OVS_UNAVAILABLE when the connection ends first.
   */
  async reachedCfg(cfg: number, waitMs: number): Promise<boolean> {
    const deadline = Date.now() + waitMs;
    while (this.curCfg < cfg) {
      // Also reports the connection's end.
      await this.watchCurCfg();
      if (this.gone !== undefined) throw this.gone;
      const left = deadline - Date.now();
      if (left <= 0) return false;
      await new Promise<void>((resolve) => {
        const wake = (): void => {
          clearTimeout(timer);
          this.cfgWaiters.delete(wake);
          resolve();
        };
        const timer = setTimeout(wake, left);
        this.cfgWaiters.add(wake);
      });
    }
    return true;
  }

  /** Closes the connection; what is under way is rejected. */
  close(): void {
    this.rpc.close();
  }

  /** As {@link close}. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.close();
  }

  private nextMonitorId(): string {
    return `m${++this.lastMonitor}`;
  }

  private takeCurCfg(updates: unknown): void {
    const rows = Object.values((updates as Record<string, Record<string, { new?: Row }>>).Open_vSwitch ?? {});
    for (const { new: row } of rows) this.curCfg = readInteger(row?.cur_cfg) ?? this.curCfg;
    for (const wake of this.cfgWaiters) wake();
  }
}

function monitorRequests(watched: Watched, initial: boolean): Record<string, unknown> {
  const select = { initial, insert: true, delete: true, modify: true };
  return Object.fromEntries(
    Object.entries(watched).map(([table, columns]) => [table, [{ columns, select }]]),
  );
}

/**
 * OVS's JSON parser takes neither U+0000 nor half a surrogate pair, and drops the connection on either.
 * JSON.stringify writes both, and hardly anything else, as an escape.
 */
function refuseUnsendable(operations: readonly Operation[], about: About): void {
  const text = JSON.stringify(operations);
  if (!text.includes('\\u')) return;
  if (/(?<!\\)(?:\\\\)*\\u(?:0000|d[89a-f])/.test(text)) {
    throw new PipewrightError('BAD_ARGUMENT', {
      ...about,
      detail: 'a text has a NUL or a broken character in it',
    });
  }
}
