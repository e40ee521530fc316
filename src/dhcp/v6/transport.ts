/**
 * The sockets of a DHCPv6 client: UDP port 546 of one link, in the namespace that the link is in. RFC 8415 section 7.
 * Node's dgram takes a socket that exists already, and knows nothing of namespaces: only its opening is ours.
 *
 * Messages leave by a raw socket, for which the kernel reckons the checksum. That of UDP it leaves to the device, a veth
 * leaves it undone, and behind the userspace datapath of Open vSwitch servers would drop all of them as damaged.
 */
import { createSocket, type Socket } from 'node:dgram';
import { closeSync, writeSync } from 'node:fs';
import { inNetns, type Netns } from '../../kernel/netns.ts';
import { syscalls } from '../../kernel/syscalls.ts';
import { ipToBytes } from '../../model/address.ts';

const AF_INET6 = 10;
const SOCK_DGRAM_NONBLOCK_CLOEXEC = 2 | 0o4000 | 0o2000000;
const SOL_SOCKET = 1;
const SO_BINDTODEVICE = 25;
const IPPROTO_IPV6 = 41;
const IPV6_MULTICAST_IF = 17;
const IPV6_MULTICAST_HOPS = 18;
const IPV6_V6ONLY = 26;
const SOCK_RAW_NONBLOCK_CLOEXEC = 3 | 0o4000 | 0o2000000;
const IPPROTO_UDP = 17;
const SOL_RAW = 255;
const IPV6_CHECKSUM = 7;
/** Where it lies in a UDP header, whose length is 8. */
const checksumAt = 6;
const clientPort = 546;
const serverPort = 547;
/** All_DHCP_Relay_Agents_and_Servers. */
const servers = 'ff02::1:2';

/** The link of a client. */
export interface Dhcp6Link {
  readonly netns: Netns;
  readonly ifname: string;
  readonly ifindex: number;
  /** Its link-local address, past duplicate address detection. */
  readonly linkLocal: string;
}

/** What is told of what comes in; neither may throw. */
interface Listener {
  /** A datagram; `from` is the sender's address without its zone. */
  received(bytes: Buffer, from: string): void;
  /** Nothing is received any more: the link is gone. */
  down(): void;
}

/** An open socket; it keeps the process running. */
export class Dhcp6Socket implements Disposable {
  readonly #socket: Socket;
  readonly #out: number;
  #closed = false;

  /**
   * @throws PipewrightError EADDRNOTAVAIL: the link-local address is not there or still tentative; EADDRINUSE: the
   * container runs a DHCPv6 client of its own
   */
  constructor(link: Dhcp6Link, on: Listener) {
    const fd = openUdp(link);
    try {
      this.#out = openRaw(link);
    } catch (error) {
      closeSync(fd);
      throw error;
    }
    // Its own lookup would ask the pool of threads.
    this.#socket = createSocket({ type: 'udp6', lookup: (host, _options, done) => done(null, host, 6) });
    this.#socket.on('message', (bytes, { address }) => {
      if (!this.#closed) on.received(bytes, address.replace(/%.*$/, ''));
    });
    this.#socket.on('error', () => {
      if (!this.#closed) on.down();
    });
    this.#socket.bind({ fd });
  }

  /** To all servers and relays of the link. What cannot be sent is lost, as it may be on the wire. */
  send(bytes: Uint8Array): void {
    try {
      writeSync(this.#out, datagram(bytes));
    } catch {
      // The link went down, or its queue is full.
    }
  }

  [Symbol.dispose](): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#socket.close();
    closeSync(this.#out);
  }
}

/**
 * Sends one message and listens for no answer.
 * @throws PipewrightError as {@link Dhcp6Socket}
 */
export function sendDhcp6(link: Dhcp6Link, bytes: Uint8Array): void {
  const fd = openRaw(link);
  try {
    writeSync(fd, datagram(bytes));
  } finally {
    closeSync(fd);
  }
}

/** With its UDP header, the checksum being left to the kernel. */
function datagram(bytes: Uint8Array): Uint8Array {
  const header = Buffer.alloc(8);
  header.writeUInt16BE(clientPort, 0);
  header.writeUInt16BE(serverPort, 2);
  header.writeUInt16BE(header.length + bytes.length, 4);
  return Buffer.concat([header, bytes]);
}

function openUdp(link: Dhcp6Link): number {
  const subject = `UDP port ${clientPort} on ${link.ifname} in ${link.netns.label}`;
  return opened(link, SOCK_DGRAM_NONBLOCK_CLOEXEC, 0, subject, (fd) => {
    syscalls().setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, int(1), subject);
    syscalls().bind(fd, sockaddrIn6(link.linkLocal, clientPort, link.ifindex), subject);
  });
}

/** Connected to the servers' group, so that nothing is received: no packet comes from there. */
function openRaw(link: Dhcp6Link): number {
  const subject = `${link.ifname} in ${link.netns.label}`;
  const sys = syscalls();
  return opened(link, SOCK_RAW_NONBLOCK_CLOEXEC, IPPROTO_UDP, subject, (fd) => {
    sys.setsockopt(fd, SOL_RAW, IPV6_CHECKSUM, int(checksumAt), subject);
    sys.setsockopt(fd, IPPROTO_IPV6, IPV6_MULTICAST_IF, int(link.ifindex), subject);
    sys.setsockopt(fd, IPPROTO_IPV6, IPV6_MULTICAST_HOPS, int(1), subject);
    sys.bind(fd, sockaddrIn6(link.linkLocal, 0, link.ifindex), subject);
    sys.connect(fd, sockaddrIn6(servers, 0, link.ifindex), subject);
  });
}

function opened(
  { netns, ifname }: Dhcp6Link,
  type: number,
  protocol: number,
  subject: string,
  prepare: (fd: number) => void,
): number {
  const sys = syscalls();
  const fd = inNetns(netns, () => sys.socket(AF_INET6, type, protocol, subject));
  try {
    // Several links of a container have a client each; a name is looked up in the socket's own namespace.
    sys.setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, Buffer.from(`${ifname}\0`), subject);
    prepare(fd);
    return fd;
  } catch (error) {
    closeSync(fd);
    throw error;
  }
}

function int(value: number): Uint8Array {
  const bytes = Buffer.alloc(4);
  bytes.writeInt32LE(value);
  return bytes;
}

/** struct sockaddr_in6. */
function sockaddrIn6(ip: string, port: number, scope: number): Uint8Array {
  const bytes = Buffer.alloc(28);
  bytes.writeUInt16LE(AF_INET6, 0);
  bytes.writeUInt16BE(port, 2);
  bytes.set(ipToBytes(ip), 8);
  bytes.writeUInt32LE(scope, 24);
  return bytes;
}
