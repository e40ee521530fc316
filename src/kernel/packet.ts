/**
 * Gratuitous announcements: tells the neighbours at once which MAC address has an IP address, where they would keep a
 * stale entry for minutes. From <linux/if_packet.h>, <linux/if_ether.h> and <linux/io_uring.h>.
 */
import { close, closeSync, writeSync } from 'node:fs';
import { type Cidr, ipToBytes } from '../model/address.ts';
import { refusedByFs } from './errno.ts';
import { inNetns, type Netns } from './netns.ts';
import { syscalls } from './syscalls.ts';

const AF_PACKET = 17;
const SOCK_RAW_CLOEXEC = 3 | 0o2000000;
const ETH_P_IP = 0x0800;
const ETH_P_ARP = 0x0806;
const ETH_P_IPV6 = 0x86dd;
const IPPROTO_ICMPV6 = 58;
const IORING_REGISTER_FILES = 2;
const IO_URING_PARAMS_SIZE = 120;

function macToBytes(mac: string): Buffer {
  return Buffer.from(mac.replaceAll(':', ''), 'hex');
}

function be16(...values: readonly number[]): Buffer {
  return Buffer.from(values.flatMap((value) => [value >> 8, value & 255]));
}

/** The frame that iputils' `arping -A` sends: an ARP reply (RFC 826) to everybody, about and to oneself. */
export function gratuitousArp(mac: string, ip: string): Buffer {
  const from = macToBytes(mac);
  const address = ipToBytes(ip);
  return Buffer.concat([
    Buffer.alloc(6, 0xff),
    from,
    be16(ETH_P_ARP),
    // Ethernet, IPv4, address lengths 6 and 4, reply
    be16(1, ETH_P_IP, 0x0604, 2),
    from,
    address,
    from,
    address,
  ]);
}

/** The Internet checksum, RFC 1071, of an even number of bytes. */
function checksum(bytes: Buffer): number {
  let sum = 0;
  for (let at = 0; at < bytes.length; at += 2) sum += bytes.readUInt16BE(at);
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >> 16);
  return ~sum & 0xffff;
}

/** An unsolicited neighbour advertisement, RFC 4861 section 7.2.6: to all nodes of the link, overriding what they know. */
export function unsolicitedAdvertisement(mac: string, ip: string): Buffer {
  const from = macToBytes(mac);
  const source = ipToBytes(ip);
  const allNodes = ipToBytes('ff02::1');
  const flagsOverride = 0x20;
  const icmp = Buffer.concat([
    // type 136, code 0, checksum, flags and reserved
    Buffer.from([136, 0, 0, 0, flagsOverride, 0, 0, 0]),
    source,
    // option: target link-layer address, 1 x 8 bytes
    Buffer.from([2, 1]),
    from,
  ]);
  const pseudoHeader = Buffer.concat([source, allNodes, be16(0, icmp.length, 0, IPPROTO_ICMPV6)]);
  icmp.writeUInt16BE(checksum(Buffer.concat([pseudoHeader, icmp])), 2);
  return Buffer.concat([
    Buffer.from([0x33, 0x33, 0, 0, 0, 1]),
    from,
    be16(ETH_P_IPV6),
    // version 6; payload length, next header, hop limit 255, without which it would not be believed
    be16(0x6000, 0, icmp.length),
    Buffer.from([IPPROTO_ICMPV6, 255]),
    source,
    allNodes,
    icmp,
  ]);
}

/** struct sockaddr_ll. With protocol 0 the socket receives nothing. */
function sockaddrLl(ifindex: number): Uint8Array {
  const address = Buffer.alloc(20);
  address.writeUInt16LE(AF_PACKET, 0);
  address.writeInt32LE(ifindex, 4);
  return address;
}

/**
 * `arping -c 1 -A -I LINK IP` for each IPv4 address, and its IPv6 counterpart; without waiting for anything.
 * The link has to be Ethernet, with this MAC address, and up (else ENETDOWN). Not for the inside of inNetns().
 */
export function announce(netns: Netns, ifindex: number, mac: string, cidrs: readonly Cidr[]): void {
  if (cidrs.length === 0) return;
  const sys = syscalls();
  const subject = `link ${ifindex} in ${netns.label}`;
  const fd = inNetns(netns, () => sys.socket(AF_PACKET, SOCK_RAW_CLOEXEC, 0, subject));
  try {
    sys.bind(fd, sockaddrLl(ifindex), subject);
    for (const { family, ip } of cidrs) {
      writeSync(fd, family === 4 ? gratuitousArp(mac, ip) : unsolicitedAdvertisement(mac, ip));
    }
  } catch (error) {
    throw refusedByFs(error, { op: 'announce', subject });
  } finally {
    closeInBackground(fd);
  }
}

/**
 * Closing a packet socket waits until all CPUs have let go of it, about 10 ms, and so does the end of a process that
 * has one open or about to be closed. What an io_uring holds is closed by a thread of the kernel, after the ring is.
 */
function closeInBackground(fd: number): void {
  const sys = syscalls();
  try {
    const ring = sys.ioUringSetup(1, Buffer.alloc(IO_URING_PARAMS_SIZE), 'a packet socket');
    try {
      const fds = Buffer.alloc(4);
      fds.writeInt32LE(fd);
      sys.ioUringRegister(ring, IORING_REGISTER_FILES, fds, 1, 'a packet socket');
      closeSync(fd);
    } finally {
      closeSync(ring);
    }
  } catch {
    // Before Linux 5.1, or forbidden (kernel.io_uring_disabled, seccomp): a thread of the pool waits.
    close(fd);
  }
}
