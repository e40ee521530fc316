/**
 * Whether an address is reached, asked from inside a container's namespace with nothing of the container's: a socket
 * made in there works from anywhere. From <linux/icmp.h>, <linux/icmpv6.h> and <linux/in.h>; RFC 792 and RFC 4443.
 */
import { closeSync, writeSync } from 'node:fs';
import { Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { hasErrno, PipewrightError } from '../errors.ts';
import { listAddrs } from '../kernel/netlink/addr.ts';
import { NetlinkSocket } from '../kernel/netlink/socket.ts';
import { inNetns, type Netns } from '../kernel/netns.ts';
import { syscalls } from '../kernel/syscalls.ts';
import { type Family, familyOf, ipToBytes } from '../model/address.ts';

/** What is to be reached. */
export type ProbeTarget =
  | { readonly ip: string; readonly protocol: 'ping' }
  | { readonly ip: string; readonly protocol: 'tcp'; readonly port: number };

/** What came of it. */
export interface ProbeResult {
  readonly reachable: boolean;
  /** For people: `echo reply`, `no answer in 1000 ms`, `no route to 10.0.0.3 [ENETUNREACH]`. */
  readonly detail: string;
  /** Milliseconds from request to answer. */
  readonly rttMs?: number;
  /** The kernel's name for the failure; absent when nothing was heard. */
  readonly errno?: string;
}

/** One cell of a matrix. */
export interface ProbeJob {
  readonly from: Netns;
  readonly target: ProbeTarget;
}

const AF_UNIX = 1;
const SOCK_STREAM = 1;
const SOCK_RAW = 3;
const NONBLOCK_CLOEXEC = 0o4000 | 0o2000000;
const O_CLOEXEC = 0o2000000;

/** What differs between the IP versions: AF_*, IPPROTO_ICMP*, IP*_RECVERR, and the types of echo messages. */
const versions = {
  4: { af: 2, protocol: 1, level: 0, recverr: 11, request: 8, reply: 0 },
  6: { af: 10, protocol: 58, level: 41, recverr: 25, request: 128, reply: 129 },
} as const;

/** A lost request, or a neighbour that is slow to be found, is not the end. */
const requestsWithinTimeout = 3;
const longestIntervalMs = 1000;
/**
 * A link's new IPv6 address is not used for one to two seconds, until it is sure that nobody else has it. A socket that
 * is made meanwhile gets none, or ::1, and keeps it: so such attempts are short, and the next has a new socket.
 */
const earlyAttemptMs = 500;
const earlyPauseMs = 100;
/** IFA_F_TENTATIVE and IFA_F_DADFAILED. */
const tentative = 0x40;
const doubled = 0x08;
/** Each probe has a socket, of which a process may have 1024 on many hosts. */
const probesAtOnce = 256;

/** What an errno means for the one who asks. */
const meanings: Readonly<Record<string, (ip: string) => string>> = {
  ENETUNREACH: (ip) => `no route to ${ip}`,
  EHOSTUNREACH: (ip) => `nobody answers for ${ip} or its gateway, or a router has no way there`,
  EADDRNOTAVAIL: (ip) => `no address to reach ${ip} from`,
  EINVAL: (ip) => `a blackhole route takes ${ip}, or it is the address of a link`,
  EACCES: (ip) => `a route or a firewall forbids ${ip}`,
  EPERM: (ip) => `a firewall of the sender forbids ${ip}`,
  EAFNOSUPPORT: (ip) => `this kernel has no IPv${familyOf(ip)}`,
};

function failed(ip: string, errno: string, meaning = meanings[errno]?.(ip)): ProbeResult {
  return { reachable: false, detail: `${meaning ?? `${ip} is not reached`} [${errno}]`, errno };
}

/** What an attempt came to; undefined: nothing was heard in its time. */
type Outcome = ProbeResult | undefined;

function answered(detail: string, began: number): ProbeResult {
  return { reachable: true, detail, rttMs: Math.round(1000 * (performance.now() - began)) / 1000 };
}

function versionOf(ip: string): Family {
  const family = familyOf(ip);
  if (family === undefined) throw new Error(`not an IP address: ${ip}`);
  return family;
}

function errnoOf(error: unknown): string | undefined {
  if (error instanceof PipewrightError) return error.errno;
  return error instanceof Error && 'code' in error ? String(error.code) : undefined;
}

/** A socket of the namespace; undefined when the kernel has no such IP version. */
function openSocket(from: Netns, family: Family, type: number, protocol: number): number | undefined {
  const { af } = versions[family];
  try {
    return inNetns(from, () => syscalls().socket(af, type | NONBLOCK_CLOEXEC, protocol, from.label));
  } catch (error) {
    if (hasErrno(error, 'EAFNOSUPPORT')) return undefined;
    throw error;
  }
}

/** struct sockaddr_in, struct sockaddr_in6; port 0. */
function sockaddr(ip: string, family: Family): Uint8Array {
  const address = Buffer.alloc(family === 4 ? 16 : 28);
  address.writeUInt16LE(versions[family].af, 0);
  address.set(ipToBytes(ip), family === 4 ? 4 : 8);
  return address;
}

let lastId = process.pid & 0x7fff;

/**
 * An echo request without data. The checksum needs no carry, as `id` and `seq` are small; that of ICMPv6, which covers
 * the addresses, the kernel fills in.
 */
function echoRequest(family: Family, id: number, seq: number): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeUInt8(versions[family].request, 0);
  bytes.writeUInt16BE(~((versions[family].request << 8) + id + seq) & 0xffff, 2);
  bytes.writeUInt16BE(id, 4);
  bytes.writeUInt16BE(seq, 6);
  return bytes;
}

/** The sequence number of the reply to one of our requests. An IPv4 raw socket shows the IP header as well. */
function replySeq(family: Family, id: number, packet: Buffer): number | undefined {
  const icmp = family === 4 ? packet.subarray(4 * ((packet[0] ?? 0) & 15)) : packet;
  if (icmp.length < 8 || icmp[0] !== versions[family].reply || icmp.readUInt16BE(4) !== id) return undefined;
  return icmp.readUInt16BE(6);
}

/**
 * Puts a raw socket into Node's event loop, as kernel/netlink/monitor.ts does with netlink ones: `net.Socket` looks at
 * what a descriptor is when it is made, so it is given a unix socket, whose descriptor then becomes the raw one. Also
 * tells that descriptor. The socket never sees an end: every packet has a header.
 */
function adopt(
  raw: number,
  onPacket: (packet: Buffer) => void,
  subject: string,
): { socket: Socket; fd: number } {
  const sys = syscalls();
  try {
    const [fd, other] = sys.socketpair(AF_UNIX, SOCK_STREAM | NONBLOCK_CLOEXEC, 0, subject);
    const callback = (length: number, buffer: Uint8Array): boolean => {
      onPacket(Buffer.from(buffer.buffer, buffer.byteOffset, length));
      return true;
    };
    const options = { fd, readable: true, writable: false, onread: { buffer: Buffer.alloc(2048), callback } };
    const socket = new Socket(options);
    sys.dup3(raw, fd, O_CLOEXEC, subject);
    closeSync(other);
    return { socket, fd };
  } finally {
    closeSync(raw);
  }
}

/** Sends echo requests until one is answered, the kernel or a router says that it is in vain, or the time is over. */
function exchange(raw: number, ip: string, timeoutMs: number): Promise<Outcome> {
  const family = versionOf(ip);
  lastId = (lastId + 1) & 0x7fff;
  const id = lastId;
  const sent: number[] = [];
  return new Promise((resolve) => {
    const settle = (result: Outcome): void => {
      clearInterval(again);
      clearTimeout(over);
      socket.destroy();
      resolve(result);
    };
    const onPacket = (packet: Buffer): void => {
      const began = sent[replySeq(family, id, packet) ?? -1];
      if (began !== undefined) settle(answered('echo reply', began));
    };
    const { socket, fd } = adopt(raw, onPacket, ip);
    const refuse = (error: unknown): void => {
      const errno = errnoOf(error) ?? String(error);
      settle(failed(ip, errno, errno === 'ECONNREFUSED' ? `a firewall rejects echo requests` : undefined));
    };
    const send = (): void => {
      sent.push(performance.now());
      try {
        writeSync(fd, echoRequest(family, id, sent.length - 1));
      } catch (error) {
        refuse(error);
      }
    };
    const again = setInterval(send, Math.min(longestIntervalMs, timeoutMs / requestsWithinTimeout));
    const over = setTimeout(() => settle(undefined), timeoutMs);
    socket.on('error', refuse);
    send();
  });
}

async function ping(from: Netns, ip: string, timeoutMs: number): Promise<Outcome> {
  const family = versionOf(ip);
  const { protocol, level, recverr } = versions[family];
  const raw = openSocket(from, family, SOCK_RAW, protocol);
  if (raw === undefined) return failed(ip, 'EAFNOSUPPORT');
  try {
    // Routers' refusals come as errors of the socket.
    syscalls().setsockopt(raw, level, recverr, new Uint8Array([1, 0, 0, 0]), from.label);
    syscalls().connect(raw, sockaddr(ip, family), ip);
  } catch (error) {
    closeSync(raw);
    const errno = errnoOf(error);
    if (errno === undefined) throw error;
    return failed(ip, errno);
  }
  return exchange(raw, ip, timeoutMs);
}

/** Connects and closes again: nothing is sent. */
async function connect(from: Netns, ip: string, port: number, timeoutMs: number): Promise<Outcome> {
  const fd = openSocket(from, versionOf(ip), SOCK_STREAM, 0);
  if (fd === undefined) return failed(ip, 'EAFNOSUPPORT');
  const began = performance.now();
  return new Promise((resolve) => {
    // Node connects a socket that it is given as it would its own.
    const socket = new Socket({ fd, readable: false, writable: true });
    const settle = (result: Outcome): void => {
      clearTimeout(over);
      socket.destroy();
      resolve(result);
    };
    const over = setTimeout(() => settle(undefined), timeoutMs);
    socket.on('connect', () => settle(answered('connected', began)));
    socket.on('error', (error) => {
      const errno = errnoOf(error) ?? String(error);
      const closed = errno === 'ECONNREFUSED' ? `${ip} answers, but port ${port} is closed` : undefined;
      settle(errno === 'ETIMEDOUT' ? undefined : failed(ip, errno, closed));
    });
    socket.connect({ host: ip, port });
  });
}

function attempt(from: Netns, target: ProbeTarget, timeoutMs: number): Promise<Outcome> {
  const { ip } = target;
  return target.protocol === 'tcp' ? connect(from, ip, target.port, timeoutMs) : ping(from, ip, timeoutMs);
}

/** Whether an address of the namespace is still being looked for on the wire, before it may be used (RFC 4862, 5.4). */
function addressComing(from: Netns): boolean {
  using rtnl = NetlinkSocket.open(from);
  return listAddrs(rtnl).some(({ flags }) => (flags & (tentative | doubled)) === tentative);
}

/**
 * `ping -c3 IP` or `nc -z IP PORT` from inside a namespace, which stays open until the answer; nothing blocks meanwhile.
 * A TCP port that is closed is not reachable, though its host is. What cannot be asked at all (no permission to enter
 * the namespace, or to open a raw socket) is thrown; every other failure is an answer, at once where the kernel knows
 * it at once.
 * @throws PipewrightError NOT_PERMITTED, KERNEL_REFUSED
 */
export async function probe(from: Netns, target: ProbeTarget, timeoutMs: number): Promise<ProbeResult> {
  const { ip } = target;
  const end = performance.now() + timeoutMs;
  for (;;) {
    const leftMs = Math.max(1, end - performance.now());
    const early = versionOf(ip) === 6 && leftMs > earlyPauseMs && addressComing(from);
    const outcome = await attempt(from, target, early ? Math.min(leftMs, earlyAttemptMs) : leftMs);
    const result = outcome ?? { reachable: false, detail: `no answer in ${timeoutMs} ms` };
    if (!early || (outcome && outcome.errno !== 'EADDRNOTAVAIL')) return result;
    if (outcome) await sleep(earlyPauseMs);
  }
}

/** All at once (256 at a time), so about as long as the slowest; the answers in the order of the jobs. */
export async function probeMatrix(jobs: readonly ProbeJob[], timeoutMs: number): Promise<ProbeResult[]> {
  const results: ProbeResult[] = [];
  let next = 0;
  const work = async (): Promise<void> => {
    for (let at = next++; at < jobs.length; at = next++) {
      const job = jobs[at];
      if (job) results[at] = await probe(job.from, job.target, timeoutMs);
    }
  };
  await Promise.all(Array.from({ length: Math.min(probesAtOnce, jobs.length) }, work));
  return results;
}
