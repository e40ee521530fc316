/** How a client's messages leave and reach it: frames while it has no address, a UDP socket when it has. */
import { closeSync, writeSync } from 'node:fs';
import type { Socket } from 'node:net';
import { hasErrno } from '../../errors.ts';
import { refusedByFs } from '../../kernel/errno.ts';
import { inNetns, type Netns } from '../../kernel/netns.ts';
import { closeInBackground, instruction, openPacketSocket } from '../../kernel/packet-socket.ts';
import { readInLoop } from '../../kernel/readable.ts';
import { syscalls } from '../../kernel/syscalls.ts';
import { ipToBytes } from '../../model/address.ts';
import { clientDatagram, clientFrame, clientPort, type ReceivedFrame, receivedFrame } from './frame.ts';

const ETH_P_IP = 0x0800;
const AF_INET = 2;
const SOCK_DGRAM_NONBLOCK_CLOEXEC = 2 | 0o4000 | 0o2000000;
const SOCK_RAW_NONBLOCK_CLOEXEC = 3 | 0o4000 | 0o2000000;
const IPPROTO_UDP = 17;
const one = Buffer.from([1, 0, 0, 0]);
const SOL_SOCKET = 1;
const SO_REUSEADDR = 2;
const SO_BINDTODEVICE = 25;

/** A link that a client works on: Ethernet, and up. */
export interface ClientLink {
  readonly ifindex: number;
  readonly ifname: string;
  readonly mac: string;
}

/** `tcpdump -dd 'udp dst port 68 and ip'`: unfragmented UDP to a client, so that nothing else wakes this program. */
const clientFilter = Buffer.concat([
  instruction(0x28, 0, 0, 12), // ldh [12]
  instruction(0x15, 0, 8, ETH_P_IP), // jeq
  instruction(0x30, 0, 0, 23), // ldb [23]
  instruction(0x15, 0, 6, 17), // jeq UDP
  instruction(0x28, 0, 0, 20), // ldh [20]
  instruction(0x45, 4, 0, 0x3fff), // jset: a fragment
  instruction(0xb1, 0, 0, 14), // ldxb 4*([14]&0xf)
  instruction(0x48, 0, 0, 16), // ldh [x + 16]
  instruction(0x15, 0, 1, clientPort), // jeq
  instruction(0x06, 0, 0, 0xffff), // ret: all of it
  instruction(0x06, 0, 0, 0), // ret: nothing
]);

/** What is no failure of this program: the packet is lost. */
const lost = [
  ...['ENETUNREACH', 'EHOSTUNREACH', 'EADDRNOTAVAIL', 'EADDRINUSE', 'ECONNREFUSED', 'EPERM'],
  ...['ENETDOWN', 'ENODEV', 'ENXIO', 'ENOBUFS', 'EAGAIN', 'EMSGSIZE'],
];

/** Frames of DHCP on one link, both ways; and messages by UDP. Holds the namespace while it is open. */
export class Transport implements Disposable {
  readonly #netns: Netns;
  readonly #link: ClientLink;
  readonly #fd: number;
  readonly #reading: Socket;
  /** See {@link occupyPort}. */
  #udp: number | undefined;
  #closed = false;

  /**
   * @param on `down`: the link went down or away, and nothing is received any more; neither may throw
   * @throws PipewrightError ENODEV when there is no such link
   */
  constructor(netns: Netns, link: ClientLink, on: { received(frame: ReceivedFrame): void; down(): void }) {
    this.#netns = netns;
    this.#link = link;
    const subject = `${link.ifname} in ${netns.label}`;
    this.#fd = openPacketSocket(netns, link.ifindex, ETH_P_IP);
    try {
      syscalls().attachFilter(this.#fd, clientFilter, subject);
      // What came before the filter was in place is not let through either.
      const onFrame = (frame: Buffer): void => {
        const found = receivedFrame(frame);
        if (found && !this.#closed) on.received(found);
      };
      const down = (): void => {
        if (!this.#closed) on.down();
      };
      this.#reading = readInLoop(this.#fd, onFrame, { subject }).on('error', down).on('end', down);
    } catch (error) {
      closeInBackground(this.#fd);
      throw error;
    }
  }

  /** To everybody on the link. */
  broadcast(srcIp: string, payload: Uint8Array): void {
    const srcMac = Buffer.from(this.#link.mac.replaceAll(':', ''), 'hex');
    try {
      writeSync(this.#fd, clientFrame({ srcMac, srcIp, dstIp: '255.255.255.255' }, payload));
    } catch (error) {
      const refusal = refusedByFs(error, { op: 'dhcp.send', subject: `${this.#link.ifname}` });
      if (!hasErrno(refusal, ...lost)) throw refusal;
    }
  }

  /**
   * To a server by the kernel's IP, which finds the way. The answer comes by the packet socket, as one that refuses is
   * broadcast.
   */
  unicast(srcIp: string, dstIp: string, payload: Uint8Array): void {
    const { ifname } = this.#link;
    this.#closeUdp();
    this.#udp = occupyPort(this.#netns, ifname, srcIp);
    sendUdp(this.#netns, ifname, { srcIp, dstIp }, payload);
  }

  #closeUdp(): void {
    if (this.#udp !== undefined) closeSync(this.#udp);
    this.#udp = undefined;
  }

  [Symbol.dispose](): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#closeUdp();
    this.#reading.destroy();
    closeInBackground(this.#fd);
  }
}

/** struct sockaddr_in. */
function sockaddrIn(ip: string, port: number): Buffer {
  const address = Buffer.alloc(16);
  address.writeUInt16LE(AF_INET, 0);
  address.writeUInt16BE(port, 2);
  address.set(ipToBytes(ip), 4);
  return address;
}

/**
 * Sends one message from the client's port to a server's, from an address that the link has; without effect when the
 * way there is not known. The kernel finds the way, and the checksum is ours: what the kernel leaves to hardware that is
 * not there (veth) arrives damaged behind a switch in user space.
 */
function sendUdp(
  netns: Netns,
  ifname: string,
  { srcIp, dstIp }: { readonly srcIp: string; readonly dstIp: string },
  payload: Uint8Array,
): void {
  const subject = `${ifname} in ${netns.label}`;
  const fd = openIpSocket(netns, ifname, SOCK_RAW_NONBLOCK_CLOEXEC, IPPROTO_UDP);
  try {
    syscalls().bind(fd, sockaddrIn(srcIp, 0), subject);
    syscalls().connect(fd, sockaddrIn(dstIp, 0), subject);
    writeSync(fd, clientDatagram(srcIp, dstIp, payload));
  } catch (error) {
    ignoreLost(error, subject);
  } finally {
    closeSync(fd);
  }
}

/** A UDP socket on the client's port, lest the kernel tell the server that nobody is there. It is not read. */
function occupyPort(netns: Netns, ifname: string, ip: string): number | undefined {
  const subject = `${ifname} in ${netns.label}`;
  const fd = openIpSocket(netns, ifname, SOCK_DGRAM_NONBLOCK_CLOEXEC, 0);
  try {
    syscalls().setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, one, subject);
    syscalls().bind(fd, sockaddrIn(ip, clientPort), subject);
    return fd;
  } catch (error) {
    closeSync(fd);
    ignoreLost(error, subject);
    return undefined;
  }
}

/** Of this link alone, whatever other interface of the container leads to the same network. */
function openIpSocket(netns: Netns, ifname: string, type: number, protocol: number): number {
  const sys = syscalls();
  const fd = inNetns(netns, () => sys.socket(AF_INET, type, protocol, ifname));
  try {
    sys.setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, Buffer.from(`${ifname}\0`), ifname);
    return fd;
  } catch (error) {
    closeSync(fd);
    throw error;
  }
}

function ignoreLost(error: unknown, subject: string): void {
  const refusal = refusedByAny(error, subject);
  if (!hasErrno(refusal, ...lost)) throw refusal;
}

function refusedByAny(error: unknown, subject: string): unknown {
  const isFs = error instanceof Error && 'errno' in error && typeof error.errno === 'number';
  return isFs ? refusedByFs(error, { op: 'dhcp.send', subject }) : error;
}
