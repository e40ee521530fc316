/**
 * A netlink socket, and every rule of its protocol: sequence numbers, acknowledgements, dumps in many parts and
 * interrupted ones, extended errors, lost messages. What is above this file builds bodies and reads them.
 *
 * A request is carried out inside of write(): its answer waits in the socket when write() returns. So there is nothing
 * to await, except for what takes long (requestInBackground).
 * From <linux/netlink.h> and <linux/rtnetlink.h>, v6.12; the protocol is RFC 3549 and
 * Documentation/userspace-api/netlink/intro.rst.
 */
import { closeSync, readSync, write, writeSync } from 'node:fs';
import { constants } from 'node:os';
import { PipewrightError } from '../../errors.ts';
import { errnoName, refused, refusedByFs } from '../errno.ts';
import { inNetns, type Netns } from '../netns.ts';
import { syscalls } from '../syscalls.ts';
import { attr, decodeAttrs, text, u32 } from './codec.ts';

/** One message to the kernel. */
export interface Request {
  /** For the error message: `link.add`. */
  readonly op: string;
  /** To what, without the namespace: `eth1`. */
  readonly subject: string;
  /** RTM_*. */
  readonly type: number;
  /** NLM_F_*; REQUEST, ACK and DUMP are added where they belong. */
  readonly flags: number;
  /** The message behind its netlink header. */
  readonly body: Uint8Array;
  /** What to do about a refusal, by the name of its errno. */
  readonly hints?: Readonly<Record<string, string>>;
}

export const NLM_F_REPLACE = 0x100;
export const NLM_F_EXCL = 0x200;
export const NLM_F_CREATE = 0x400;
export const NLM_F_APPEND = 0x800;

const NLM_F_REQUEST = 0x01;
const NLM_F_ACK = 0x04;
const NLM_F_DUMP_INTR = 0x10;
const NLM_F_DUMP = 0x300;
/** In an answer: the request is not repeated behind the error number; attributes follow. */
const NLM_F_CAPPED = 0x100;
const NLM_F_ACK_TLVS = 0x200;

const NLMSG_HDRLEN = 16;
const NLMSG_NOOP = 1;
const NLMSG_ERROR = 2;
const NLMSG_DONE = 3;
const NLMSG_OVERRUN = 4;
const RTM_NEWLINK = 16;

const AF_NETLINK = 16;
const SOCK_RAW_CLOEXEC = 3 | 0o2000000;
const NETLINK_ROUTE = 0;
const SOL_SOCKET = 1;
const SO_RCVTIMEO = 20;
const SOL_NETLINK = 270;
const NETLINK_CAP_ACK = 10;
const NETLINK_EXT_ACK = 11;
const NETLINK_GET_STRICT_CHK = 12;
const one = u32.write(1);

/** Requests in one write(). Each answer takes about 1 KiB of the 208 KiB that a socket can hold back; one too many is lost. */
const batchSize = 100;
/** A write() larger than the socket's send buffer (208 KiB) is refused as a whole. */
const batchBytes = 128 * 1024;
const dumpAttempts = 10;
/** Seconds that an answer may take. It is there already when it is read; the limit only keeps a bug from hanging. */
const answerTimeoutSeconds = 30n;

const { EMSGSIZE, ENOBUFS, ENODEV, ENOENT, ESRCH } = constants.errno;
const absences: readonly number[] = [ENODEV, ENOENT, ESRCH];

/** NLMSGERR_ATTR_*. */
const ackAttrs = {
  message: attr(1, text), // NLMSGERR_ATTR_MSG
  missing: attr(5, u32), // NLMSGERR_ATTR_MISS_TYPE
} as const;

/** A message from the kernel. */
interface Answer {
  readonly type: number;
  readonly flags: number;
  readonly seq: number;
  readonly body: Buffer;
}

/**
 * Takes any answer: the kernel makes parts of a dump of 32 KiB, larger only when one message needs it, and no message
 * that is asked for here comes near this size (an attribute has at most 64 KiB). Memory that is not reached is never
 * touched. All sockets share it, for every read is synchronous.
 */
const received = Buffer.allocUnsafeSlow(256 * 1024);

function sockaddrNl(): Uint8Array {
  // struct sockaddr_nl: family, padding, port 0 (the kernel), no groups
  const address = Buffer.alloc(12);
  address.writeUInt16LE(AF_NETLINK, 0);
  return address;
}

function openSocket(netns: Netns, protocol: number): number {
  const sys = syscalls();
  const fd = inNetns(netns, () => sys.socket(AF_NETLINK, SOCK_RAW_CLOEXEC, protocol, netns.label));
  try {
    // Connected to the kernel: what another process of the namespace sends to this socket is refused by the kernel.
    sys.connect(fd, sockaddrNl(), netns.label);
    for (const option of [NETLINK_EXT_ACK, NETLINK_CAP_ACK, NETLINK_GET_STRICT_CHK]) {
      sys.setsockopt(fd, SOL_NETLINK, option, one, netns.label);
    }
    const timeval = Buffer.alloc(16);
    timeval.writeBigInt64LE(answerTimeoutSeconds, 0);
    sys.setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, timeval, netns.label);
    return fd;
  } catch (error) {
    closeSync(fd);
    throw error;
  }
}

function encodeMessage(request: Request, flags: number, seq: number): Buffer {
  const length = NLMSG_HDRLEN + request.body.length;
  const bytes = Buffer.alloc((length + 3) & ~3);
  bytes.writeUInt32LE(length, 0);
  bytes.writeUInt16LE(request.type, 4);
  bytes.writeUInt16LE(request.flags | flags | NLM_F_REQUEST, 6);
  bytes.writeUInt32LE(seq, 8);
  bytes.set(request.body, NLMSG_HDRLEN);
  return bytes;
}

function* messagesIn(datagram: Buffer): Generator<Answer> {
  for (let at = 0; at + NLMSG_HDRLEN <= datagram.length; ) {
    const length = datagram.readUInt32LE(at);
    if (length < NLMSG_HDRLEN || at + length > datagram.length) return;
    yield {
      type: datagram.readUInt16LE(at + 4),
      flags: datagram.readUInt16LE(at + 6),
      seq: datagram.readUInt32LE(at + 8),
      body: datagram.subarray(at + NLMSG_HDRLEN, at + length),
    };
    at += (length + 3) & ~3;
  }
}

/** The number that an NLMSG_ERROR or NLMSG_DONE carries; 0 for an acknowledgement. */
function errnoIn({ body }: Answer): number {
  return body.length < 4 ? 0 : Math.max(0, -body.readInt32LE(0));
}

/**
 * Whether the kernel says that what is asked about does not exist: no link, no table, no entry. By number: every
 * attachment asks for what is not there yet, and an error with its text and stack takes 0.2 ms to make.
 */
function isAbsence(answer: Answer): boolean {
  return absences.includes(errnoIn(answer));
}

/** Sends requests to the kernel's rtnetlink of one namespace, for as long as it is open, from wherever it is used. */
export class NetlinkSocket implements Disposable {
  readonly netns: Netns;
  /** What went through this socket, for benchmarks. */
  readonly counters = { sends: 0, messages: 0 };
  readonly #fd: number;
  #seq = 0;

  private constructor(netns: Netns, fd: number) {
    this.netns = netns;
    this.#fd = fd;
  }

  /** Opens a socket that belongs to `netns`. The namespace has to stay open for requestInBackground only. */
  static open(netns: Netns, protocol = NETLINK_ROUTE): NetlinkSocket {
    return new NetlinkSocket(netns, openSocket(netns, protocol));
  }

  [Symbol.dispose](): void {
    closeSync(this.#fd);
  }

  /** Has the kernel carry out a request; throws what it is refused with. */
  request(request: Request): void {
    const [refusal] = this.batch([request]);
    if (refusal) throw refusal;
  }

  /**
   * Has the kernel carry out requests in this order, in one send (of 100 at most).
   * The kernel goes on after one that it refuses: the answer is the outcome of each.
   */
  batch(requests: readonly Request[]): (PipewrightError | undefined)[] {
    const outcomes: (PipewrightError | undefined)[] = [];
    let group: Request[] = [];
    let bytes = 0;
    const flush = (): void => {
      if (group.length > 0) outcomes.push(...this.#sendGroup(group));
      group = [];
      bytes = 0;
    };
    for (const request of requests) {
      const size = NLMSG_HDRLEN + request.body.length;
      if (group.length === batchSize || bytes + size > batchBytes) flush();
      group.push(request);
      bytes += size;
    }
    flush();
    return outcomes;
  }

  /** The one message that answers a request (RTM_GETLINK of one link, ...); undefined when there is no such thing. */
  get(request: Request): Buffer | undefined {
    const seq = this.#send([request], 0);
    for (;;) {
      const answer = this.#receive(request).find((candidate) => candidate.seq === seq);
      if (answer === undefined) continue;
      if (answer.type !== NLMSG_ERROR) return answer.body;
      const refusal = isAbsence(answer) ? undefined : this.#refusal(request, answer);
      if (refusal) throw refusal;
      return undefined;
    }
  }

  /**
   * All of a kind (RTM_GETLINK, ...), as one consistent picture: made again while the kernel says that it changed.
   * Nothing, when the link or table that it is limited to does not exist.
   */
  dump(request: Request): Buffer[] {
    for (let attempt = 1; attempt <= dumpAttempts; attempt++) {
      const found = this.#dumpOnce(request);
      if (found !== undefined) return found;
    }
    throw new PipewrightError('KERNEL_REFUSED', {
      ...this.#about(request),
      errno: 'EINTR',
      detail: 'what is being listed changes all the time',
    });
  }

  /**
   * Has the kernel carry out a request that takes long (deleting a link waits about 20 ms for all CPUs), without
   * holding up the event loop: the write happens in a thread of libuv's pool, on a socket of its own.
   */
  async requestInBackground(request: Request): Promise<void> {
    // No `using`: the socket is closed after the await, and must be so also when it is refused.
    const socket = new NetlinkSocket(this.netns, openSocket(this.netns, NETLINK_ROUTE));
    try {
      const seq = ++socket.#seq;
      const message = encodeMessage(request, NLM_F_ACK, seq);
      await new Promise<void>((resolve, reject) => {
        write(socket.#fd, message, (error) => {
          if (error) reject(refusedByFs(error, this.#about(request)));
          else resolve();
        });
      });
      this.#count(1);
      const [refusal] = socket.#outcomes([request], seq);
      if (refusal) throw refusal;
    } finally {
      socket[Symbol.dispose]();
    }
  }

  #count(messages: number): void {
    this.counters.sends++;
    this.counters.messages += messages;
  }

  /** Writes the requests at once; the sequence number of the first. */
  #send(requests: readonly Request[], flags: number): number {
    const first = this.#seq + 1;
    const bytes = Buffer.concat(requests.map((request) => encodeMessage(request, flags, ++this.#seq)));
    this.#count(requests.length);
    try {
      writeSync(this.#fd, bytes);
    } catch (error) {
      throw refusedByFs(
        error,
        requests[0] ? this.#about(requests[0]) : { op: 'netlink', subject: this.netns.label },
      );
    }
    return first;
  }

  #sendGroup(requests: readonly Request[]): (PipewrightError | undefined)[] {
    return this.#outcomes(requests, this.#send(requests, NLM_F_ACK));
  }

  /** Reads the acknowledgement of each request. */
  #outcomes(requests: readonly Request[], first: number): (PipewrightError | undefined)[] {
    const outcomes: (PipewrightError | undefined)[] = [];
    const waiting = new Set(requests.keys());
    while (waiting.size > 0) {
      const [next = 0] = waiting;
      for (const answer of this.#receive(requests[next])) {
        const request = requests[answer.seq - first];
        if (answer.type !== NLMSG_ERROR || request === undefined) continue;
        waiting.delete(answer.seq - first);
        outcomes[answer.seq - first] = this.#refusal(request, answer);
      }
    }
    return outcomes;
  }

  /** Reads the parts of a dump; undefined when the kernel says that they do not fit together. */
  #dumpOnce(request: Request): Buffer[] | undefined {
    const seq = this.#send([request], NLM_F_DUMP);
    const found: Buffer[] = [];
    let interrupted = false;
    for (;;) {
      for (const answer of this.#receive(request)) {
        if (answer.seq !== seq) continue;
        interrupted ||= (answer.flags & NLM_F_DUMP_INTR) !== 0;
        if (answer.type !== NLMSG_ERROR && answer.type !== NLMSG_DONE) {
          found.push(answer.body);
          continue;
        }
        // Either can carry an error number: NLMSG_DONE when the dump failed after its first part.
        const refusal = isAbsence(answer) ? undefined : this.#refusal(request, answer);
        if (refusal) throw refusal;
        return interrupted ? undefined : found;
      }
    }
  }

  /** The messages of the next datagram. */
  #receive(request: Request | undefined): Answer[] {
    let length: number;
    try {
      length = readSync(this.#fd, received);
    } catch (error) {
      throw refusedByFs(error, this.#about(request));
    }
    if (length === received.length) {
      throw refused(EMSGSIZE, { ...this.#about(request), detail: 'an answer of the kernel is too large' });
    }
    // A copy, because the shared buffer is written to again while these messages are still in use.
    const answers = [...messagesIn(Buffer.from(received.subarray(0, length)))];
    if (answers.some(({ type }) => type === NLMSG_OVERRUN)) {
      throw refused(ENOBUFS, { ...this.#about(request), detail: 'the kernel lost answers' });
    }
    return answers.filter(({ type }) => type !== NLMSG_NOOP);
  }

  #about(request: Request | undefined): { op: string; subject: string } {
    const { op = 'netlink', subject } = request ?? {};
    const { label } = this.netns;
    return {
      op,
      subject: subject === undefined ? label : label === 'host' ? subject : `${subject} in ${label}`,
    };
  }

  /** What an NLMSG_ERROR or NLMSG_DONE says; undefined for an acknowledgement. */
  #refusal(request: Request, answer: Answer): PipewrightError | undefined {
    const { type, flags, body } = answer;
    const errno = errnoIn(answer);
    if (errno === 0) return undefined;
    // struct nlmsgerr: the number, then the request: its header, or all of it. NLMSG_DONE has the number only.
    let at = 4;
    if (type === NLMSG_ERROR) {
      at += flags & NLM_F_CAPPED ? NLMSG_HDRLEN : (body.readUInt32LE(4) + 3) & ~3;
    }
    const { message, missing } = flags & NLM_F_ACK_TLVS ? decodeAttrs(ackAttrs, body.subarray(at)) : {};
    const detail = message ?? (missing === undefined ? undefined : `attribute ${missing} is missing`);
    const unknownKind = request.type === RTM_NEWLINK && message === 'Unknown device type';
    return refused(errno, {
      ...this.#about(request),
      detail,
      code: unknownKind ? 'KIND_UNSUPPORTED' : undefined,
      hint: request.hints?.[errnoName(errno)],
    });
  }
}
