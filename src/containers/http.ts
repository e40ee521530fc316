/**
 * GET over a unix socket, as much of HTTP/1.1 as a container engine needs: several requests on a connection that is
 * kept, and answers that never end. On node:net, which is loaded at its first use.
 */
import type { Socket } from 'node:net';
import { getOnce } from './http-once.ts';
import { type HttpResponse, ResponseParser, requestFor, WireError } from './http-parser.ts';

/** The server answered a request for a stream with a refusal. */
export class StatusError extends Error {
  override readonly name = 'StatusError';
  readonly response: HttpResponse;

  constructor(response: HttpResponse) {
    super(`status ${response.status}`);
    this.response = response;
  }
}

/** Milliseconds for which a process that keeps no connections may stand still for an answer. */
const blockingMs = 500;

export interface UnixHttpOptions {
  /** Keep connections for the next request (for a daemon; saves 0.3 ms a request). They never hold the process. */
  readonly keepAlive?: boolean;
  /** Milliseconds until a whole answer must be there; 30 000 when not given. */
  readonly timeoutMs?: number;
}

/** A client of one unix socket. Errors: WireError, or the system's own with its `code` (ENOENT, ECONNREFUSED, EACCES). */
export class UnixHttp {
  readonly socketPath: string;
  readonly #timeoutMs: number;
  readonly #keepAlive: boolean;
  readonly #idle = new Set<Connection>();

  constructor(socketPath: string, options: UnixHttpOptions = {}) {
    this.socketPath = socketPath;
    this.#timeoutMs = options.timeoutMs ?? 30_000;
    this.#keepAlive = options.keepAlive ?? false;
  }

  /** GET `path`, with the whole answer whatever its status. */
  async get(path: string): Promise<HttpResponse> {
    if (!this.#keepAlive) {
      // What takes longer than that is asked again in the way that lets signals and timers through.
      const response = getOnce(this.socketPath, path, Math.min(blockingMs, this.#timeoutMs));
      if (response) return response;
    }
    for (const kept of this.#idle) {
      this.#idle.delete(kept);
      if (!kept.open) continue;
      try {
        return await this.#exchange(kept, path);
      } catch (error) {
        // The server may close an idle connection at any time; then nobody has seen the request.
        if (kept.answered || !kept.closed) throw error;
      }
    }
    const net = await import('node:net');
    return this.#exchange(new Connection(net.connect(this.socketPath)), path);
  }

  /** GET `path` as the bytes of its body while they come, without a time limit. Ends when `signal` is aborted. */
  async *stream(path: string, signal?: AbortSignal): AsyncGenerator<Buffer, void, undefined> {
    const net = await import('node:net');
    if (signal?.aborted) return;
    const socket = net.connect(this.socketPath);
    const stop = () => socket.destroy();
    signal?.addEventListener('abort', stop, { once: true });
    const parser = new ResponseParser();
    const refusal: Buffer[] = [];
    try {
      socket.write(requestFor(path, false));
      for await (const data of socket) {
        const body = parser.push(data);
        if (parser.status < 400) yield* body;
        else refusal.push(...body);
        if (parser.done) break;
      }
      if (!signal?.aborted) parser.close();
    } catch (error) {
      if (!signal?.aborted) throw error;
    } finally {
      signal?.removeEventListener('abort', stop);
      socket.destroy();
    }
    if (parser.status >= 400) {
      throw new StatusError({ status: parser.status, body: Buffer.concat(refusal).toString() });
    }
  }

  /** Closes the connections that are kept. */
  close(): void {
    for (const connection of this.#idle) connection.destroy();
    this.#idle.clear();
  }

  async #exchange(connection: Connection, path: string): Promise<HttpResponse> {
    const response = await connection.get(path, this.#keepAlive, this.#timeoutMs);
    if (connection.open) this.#idle.add(connection);
    return response;
  }
}

/** One request that waits for its answer. */
interface Exchange {
  readonly parser: ResponseParser;
  readonly body: Buffer[];
  readonly resolve: (response: HttpResponse) => void;
  readonly reject: (error: unknown) => void;
  readonly timer: NodeJS.Timeout;
}

/** One connection, which carries one request at a time and holds the process only while it does. */
class Connection {
  readonly #socket: Socket;
  #exchange: Exchange | undefined;
  /** Whether a byte of the answer to the last request came. */
  answered = false;
  /** Whether the other side closed it, or it failed. */
  closed = false;

  constructor(socket: Socket) {
    this.#socket = socket;
    this.#socket.on('data', (data: Buffer) => this.#read((parser) => parser.push(data)));
    this.#socket.on('error', (error) => this.#fail(error));
    this.#socket.on('close', () => {
      this.closed = true;
      this.#read((parser) => {
        parser.close();
        return [];
      });
    });
  }

  /** Whether another request can be sent. */
  get open(): boolean {
    return !this.#socket.destroyed && this.#socket.writable && this.#exchange === undefined;
  }

  get(path: string, keepAlive: boolean, timeoutMs: number): Promise<HttpResponse> {
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => {
        this.#fail(new WireError('ETIMEDOUT', `no answer within ${timeoutMs / 1000} s`));
      }, timeoutMs);
      this.answered = false;
      this.#exchange = { parser: new ResponseParser(), body: [], resolve, reject, timer };
      this.#socket.ref();
      this.#socket.write(requestFor(path, keepAlive));
    });
  }

  destroy(): void {
    this.#socket.destroy();
  }

  #read(feed: (parser: ResponseParser) => Buffer[]): void {
    const exchange = this.#exchange;
    // What comes unasked cannot be told from the next answer.
    if (!exchange) {
      this.destroy();
      return;
    }
    this.answered ||= !this.closed;
    try {
      exchange.body.push(...feed(exchange.parser));
    } catch (error) {
      this.#fail(error);
      return;
    }
    if (!exchange.parser.done) return;
    this.#release();
    if (exchange.parser.reusable) this.#socket.unref();
    else this.destroy();
    exchange.resolve({ status: exchange.parser.status, body: Buffer.concat(exchange.body).toString() });
  }

  #fail(error: unknown): void {
    const exchange = this.#exchange;
    this.#release();
    this.closed ||= !(error instanceof WireError && error.code === 'ETIMEDOUT');
    this.destroy();
    exchange?.reject(error);
  }

  #release(): void {
    clearTimeout(this.#exchange?.timer);
    this.#exchange = undefined;
  }
}
