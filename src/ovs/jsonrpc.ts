/** JSON-RPC 1.0 over a unix socket, as ovsdb-server (RFC 7047 section 4) and ovs-vswitchd's control socket speak it. */
import { connect, type Socket } from 'node:net';
import { PipewrightError } from '../errors.ts';
import { JsonSplitter } from './splitter.ts';

/** What to do when Open vSwitch does not answer. */
export const startHint =
  'start Open vSwitch with `/etc/init.d/openvswitch-switch start` or `systemctl start openvswitch-switch`';

/** Gets the method and parameters of a message that asks for no answer. */
export type NotifyHandler = (method: string, params: readonly unknown[]) => void;

interface Pending {
  readonly resolve: (result: unknown) => void;
  readonly reject: (error: PipewrightError) => void;
  readonly timer: NodeJS.Timeout;
}

/** One connection. After a failure it stays closed; make a new one. */
export class JsonRpc {
  /** Path of the socket. */
  readonly path: string;
  /** Resolves with the reason once the connection is gone. */
  readonly closed: Promise<PipewrightError>;
  /** Called for each notification of the server. */
  onNotify: NotifyHandler = () => {};
  private readonly socket: Socket;
  private readonly timeoutMs: number;
  private readonly pending = new Map<number, Pending>();
  private readonly settleClosed: (reason: PipewrightError) => void;
  private lastId = 0;
  private over: PipewrightError | undefined;

  private constructor(path: string, socket: Socket, timeoutMs: number) {
    this.path = path;
    this.socket = socket;
    this.timeoutMs = timeoutMs;
    let settle: (reason: PipewrightError) => void = () => {};
    this.closed = new Promise((resolve) => {
      settle = resolve;
    });
    this.settleClosed = settle;
    const splitter = new JsonSplitter();
    socket.on('data', (chunk) => {
      let messages: unknown[] = [];
      try {
        messages = splitter.push(chunk);
      } catch (error) {
        this.fail(unavailable(path, 'its answer is not JSON-RPC', error));
      }
      for (const message of messages) this.take(message);
    });
    socket.on('error', (error) => this.fail(refusal(path, error)));
    socket.on('close', () => this.fail(unavailable(path, 'the connection was closed')));
  }

  /**
   * Connects. `timeoutMs` limits the connecting and the wait for each answer. Throws OVS_UNAVAILABLE when
   * nobody listens, NOT_PERMITTED when the socket may not be opened.
   */
  static async open(path: string, timeoutMs: number): Promise<JsonRpc> {
    const deadline = Date.now() + timeoutMs;
    for (;;) {
      try {
        return new JsonRpc(path, await connected(path, deadline - Date.now()), timeoutMs);
      } catch (error) {
        const { code } = error as NodeJS.ErrnoException;
        // EAGAIN: the server has not yet accepted the connections of others, its queue is full.
        if (code !== 'ETIMEDOUT' && code !== 'EAGAIN') throw refusal(path, error as Error);
        if (Date.now() >= deadline) throw unavailable(path, `no connection within ${timeoutMs} ms`, error);
        await new Promise((resolve) => setTimeout(resolve, 10));
      }
    }
  }

  /**
   * Sends a request at once; answers come back in order of the server's choosing. Throws OVS_UNAVAILABLE when
   * the connection ends or no answer comes in time, OVS_REFUSED when the server answers with an error.
   * After a missing answer the connection is given up: whether the request was carried out is not known.
   */
  request(method: string, params: readonly unknown[]): Promise<unknown> {
    return new Promise((resolve, reject) => {
      if (this.over !== undefined) {
        reject(this.over);
        return;
      }
      const id = ++this.lastId;
      const timer = setTimeout(
        () => this.fail(unavailable(this.path, `no answer to ${method} within ${this.timeoutMs} ms`)),
        this.timeoutMs,
      );
      this.pending.set(id, { resolve, reject, timer });
      this.socket.write(JSON.stringify({ id, method, params }));
    });
  }

  /** Ends the connection; requests under way are rejected. */
  close(): void {
    this.fail(unavailable(this.path, 'the connection was closed on this side'));
  }

  private fail(reason: PipewrightError): void {
    if (this.over !== undefined) return;
    this.over = reason;
    this.socket.destroy();
    for (const { reject, timer } of this.pending.values()) {
      clearTimeout(timer);
      reject(reason);
    }
    this.pending.clear();
    this.settleClosed(reason);
  }

  private take(message: unknown): void {
    // A message that was in the same chunk as the one that made us close.
    if (this.over !== undefined) return;
    const { id, method, params, result, error } = message as Record<string, unknown>;
    if (typeof method === 'string') {
      const list = Array.isArray(params) ? params : [];
      // The server drops a client that leaves its echo unanswered (RFC 7047 section 4.1.11).
      if (method === 'echo') this.socket.write(JSON.stringify({ id, result: list, error: null }));
      else this.onNotify(method, list);
      return;
    }
    const waiting = typeof id === 'number' ? this.pending.get(id) : undefined;
    if (waiting === undefined || typeof id !== 'number') return;
    this.pending.delete(id);
    clearTimeout(waiting.timer);
    if (error === null || error === undefined) waiting.resolve(result);
    else waiting.reject(answeredError(this.path, error));
  }
}

function connected(path: string, timeoutMs: number): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const socket = connect({ path });
    const timer = setTimeout(
      () => socket.destroy(Object.assign(new Error('timed out'), { code: 'ETIMEDOUT' })),
      Math.max(timeoutMs, 1),
    );
    const onError = (error: Error): void => {
      clearTimeout(timer);
      reject(error);
    };
    socket.once('error', onError);
    socket.once('connect', () => {
      clearTimeout(timer);
      socket.off('error', onError);
      resolve(socket);
    });
  });
}

function unavailable(path: string, detail: string, cause?: unknown): PipewrightError {
  return new PipewrightError('OVS_UNAVAILABLE', {
    op: 'ovsdb',
    subject: path,
    detail,
    hint: startHint,
    cause,
  });
}

function refusal(path: string, error: NodeJS.ErrnoException): PipewrightError {
  const about = { op: 'ovsdb.connect', subject: path, errno: error.code, cause: error };
  switch (error.code) {
    case 'EACCES':
    case 'EPERM':
      return new PipewrightError('NOT_PERMITTED', { ...about, hint: 'run it as root' });
    case 'ENOENT':
      return new PipewrightError('OVS_UNAVAILABLE', { ...about, detail: 'no such socket', hint: startHint });
    case 'ECONNREFUSED':
      return new PipewrightError('OVS_UNAVAILABLE', { ...about, detail: 'nobody listens', hint: startHint });
    default:
      return new PipewrightError('OVS_UNAVAILABLE', { ...about, detail: error.message, hint: startHint });
  }
}

function answeredError(path: string, error: unknown): PipewrightError {
  const { error: name, details } = (typeof error === 'object' ? error : {}) as Record<string, unknown>;
  const detail = typeof error === 'string' ? error.trim() : [name, details].filter(Boolean).join(': ');
  return new PipewrightError('OVS_REFUSED', {
    op: 'ovsdb',
    subject: path,
    detail: detail || JSON.stringify(error),
  });
}
