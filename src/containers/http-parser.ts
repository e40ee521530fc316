/** The answer of an HTTP/1.1 server, read as it arrives: content-length, chunked, or until the connection closes. */

/** A whole answer. */
export interface HttpResponse {
  readonly status: number;
  readonly body: string;
}

/** The connection or what came over it is at fault; `code` is an errno name. */
export class WireError extends Error {
  override readonly name = 'WireError';
  readonly code: string;

  constructor(code: string, message: string) {
    super(message);
    this.code = code;
  }
}

const maxHeadBytes = 65536;
const headEnd = Buffer.from('\r\n\r\n');
const lineEnd = Buffer.from('\r\n');

type ParserState = 'head' | 'length' | 'size' | 'chunk' | 'trailer' | 'until-close' | 'done';

/** Reads one response that arrives in pieces of any size (RFC 9112). */
export class ResponseParser {
  status = 0;
  /** Whether the connection may carry another request once this response is done. */
  reusable = false;
  #state: ParserState = 'head';
  #rest: Buffer = Buffer.alloc(0);
  /** Bytes that the current chunk, or the body with a content-length, still lacks. */
  #missing = 0;

  get headDone(): boolean {
    return this.#state !== 'head';
  }

  get done(): boolean {
    return this.#state === 'done';
  }

  /** Takes what came from the socket, gives the body's bytes in it. Throws WireError EPROTO on what is not HTTP. */
  push(data: Buffer): Buffer[] {
    this.#rest = this.#rest.length === 0 ? data : Buffer.concat([this.#rest, data]);
    const body: Buffer[] = [];
    while (this.#step(body));
    if (this.done && this.#rest.length > 0) this.reusable = false;
    return body;
  }

  /** The server closed the connection. Throws WireError ECONNRESET when the response was not complete. */
  close(): void {
    if (this.#state === 'until-close') this.#state = 'done';
    if (!this.done) throw new WireError('ECONNRESET', 'the connection closed in the middle of the answer');
  }

  #step(body: Buffer[]): boolean {
    switch (this.#state) {
      case 'head':
        return this.#readHead();
      case 'size':
        return this.#readChunkSize();
      case 'trailer':
        return this.#readTrailer();
      case 'length':
      case 'chunk':
        return this.#readCounted(body);
      case 'until-close':
        if (this.#rest.length > 0) body.push(this.#take(this.#rest.length));
        return false;
      case 'done':
        return false;
    }
  }

  #take(bytes: number): Buffer {
    const taken = this.#rest.subarray(0, bytes);
    this.#rest = this.#rest.subarray(bytes);
    return taken;
  }

  /** The text before `end`, which is dropped; undefined when `end` has not come yet. */
  #takeUntil(end: Buffer): string | undefined {
    const at = this.#rest.indexOf(end);
    if (at < 0 && this.#rest.length > maxHeadBytes) throw new WireError('EPROTO', 'the answer is not HTTP');
    if (at < 0) return undefined;
    const text = this.#take(at).toString('latin1');
    this.#take(end.length);
    return text;
  }

  #readHead(): boolean {
    if (!'HTTP/1.'.startsWith(this.#rest.subarray(0, 7).toString('latin1'))) {
      throw new WireError('EPROTO', 'the answer is not HTTP');
    }
    const head = this.#takeUntil(headEnd);
    if (head === undefined) return false;
    const [first = '', ...lines] = head.split('\r\n');
    const match = /^HTTP\/1\.([01]) (\d{3})(?: |$)/.exec(first);
    if (!match) throw new WireError('EPROTO', 'the answer is not HTTP');
    this.status = Number(match[2]);
    if (this.status < 200) return true; // 1xx: an interim answer, the real one follows
    const headers = new Map(
      lines.map((line) => {
        const colon = line.indexOf(':');
        return [line.slice(0, colon).toLowerCase(), line.slice(colon + 1).trim()];
      }),
    );
    this.reusable = match[1] === '1' && headers.get('connection')?.toLowerCase() !== 'close';
    this.#startBody(headers);
    return true;
  }

  #startBody(headers: ReadonlyMap<string, string>): void {
    const length = headers.get('content-length');
    if (this.status === 204 || this.status === 304) {
      this.#state = 'done';
    } else if (headers.get('transfer-encoding')?.toLowerCase() === 'chunked') {
      this.#state = 'size';
    } else if (length === undefined) {
      this.#state = 'until-close';
      this.reusable = false;
    } else {
      if (!/^\d{1,15}$/.test(length)) throw new WireError('EPROTO', `content-length ${length}`);
      this.#missing = Number(length);
      this.#state = this.#missing === 0 ? 'done' : 'length';
    }
  }

  #readChunkSize(): boolean {
    const line = this.#takeUntil(lineEnd);
    if (line === undefined) return false;
    const size = /^([0-9a-f]{1,12})\s*(?:;.*)?$/i.exec(line)?.[1];
    if (size === undefined) throw new WireError('EPROTO', 'bad chunk size in the answer');
    const bytes = Number.parseInt(size, 16);
    // The CRLF after the data is read with it and cut off again.
    this.#missing = bytes === 0 ? 0 : bytes + lineEnd.length;
    this.#state = bytes === 0 ? 'trailer' : 'chunk';
    return true;
  }

  #readTrailer(): boolean {
    const line = this.#takeUntil(lineEnd);
    if (line === '') this.#state = 'done';
    return line !== undefined;
  }

  #readCounted(body: Buffer[]): boolean {
    if (this.#rest.length === 0) return false;
    const tail = this.#state === 'chunk' ? lineEnd.length : 0;
    const data = Math.min(this.#rest.length, this.#missing - tail);
    if (data > 0) {
      body.push(this.#take(data));
      this.#missing -= data;
      if (this.#missing > 0) return true;
    } else {
      if (this.#rest.length < tail) return false;
      if (!this.#take(tail).equals(lineEnd))
        throw new WireError('EPROTO', 'a chunk of the answer has no end');
      this.#missing = 0;
    }
    this.#state = this.#state === 'chunk' ? 'size' : 'done';
    return true;
  }
}

/** The text of a GET. */
export function requestFor(path: string, keepAlive: boolean): string {
  return `GET ${path} HTTP/1.1\r\nHost: localhost\r\nConnection: ${keepAlive ? 'keep-alive' : 'close'}\r\n\r\n`;
}
