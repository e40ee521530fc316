/** Packet sockets, packet(7): whole Ethernet frames of one link. From <linux/if_packet.h> and <linux/io_uring.h>. */
import { close, closeSync } from 'node:fs';
import { inNetns, type Netns } from './netns.ts';
import { syscalls } from './syscalls.ts';

const AF_PACKET = 17;
const SOCK_RAW_NONBLOCK_CLOEXEC = 3 | 0o4000 | 0o2000000;
const SOL_PACKET = 263;
const PACKET_ADD_MEMBERSHIP = 1;
const PACKET_MR_MULTICAST = 0;
const IORING_REGISTER_FILES = 2;
const IO_URING_PARAMS_SIZE = 120;

/** struct sockaddr_ll. With protocol 0 the socket receives nothing. */
function sockaddrLl(ifindex: number, protocol: number): Uint8Array {
  const address = Buffer.alloc(20);
  address.writeUInt16LE(AF_PACKET, 0);
  address.writeUInt16BE(protocol, 2);
  address.writeInt32LE(ifindex, 4);
  return address;
}

/**
 * A descriptor that sends frames from a link and receives those of one EtherType (of none by default), for writeSync()
 * and readInLoop(); non-blocking. Not for the inside of inNetns(). Close it by {@link closeInBackground}.
 * @throws PipewrightError: ENODEV for a link that is not there
 */
export function openPacketSocket(netns: Netns, ifindex: number, protocol = 0): number {
  const sys = syscalls();
  const subject = `link ${ifindex} in ${netns.label}`;
  // Born deaf, so that nothing of other links is ever received.
  const fd = inNetns(netns, () => sys.socket(AF_PACKET, SOCK_RAW_NONBLOCK_CLOEXEC, 0, subject));
  try {
    sys.bind(fd, sockaddrLl(ifindex, protocol), subject);
    return fd;
  } catch (error) {
    closeInBackground(fd);
    throw error;
  }
}

/** One instruction of classic BPF, struct sock_filter. */
export function instruction(code: number, jt: number, jf: number, k: number): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeUInt16LE(code, 0);
  bytes.writeUInt8(jt, 2);
  bytes.writeUInt8(jf, 3);
  bytes.writeUInt32LE(k, 4);
  return bytes;
}

const PACKET_OTHERHOST = 3;
const notForOthers = Buffer.concat([
  instruction(0x30, 0, 0, 0xfffff004), // ldb SKF_AD_OFF + SKF_AD_PKTTYPE
  instruction(0x15, 0, 1, PACKET_OTHERHOST), // jeq
  instruction(0x06, 0, 0, 0), // ret: nothing
  instruction(0x06, 0, 0, 0xffff), // ret: all of it
]);

/**
 * Has a socket of one EtherType receive only what the link itself would. Without it frames of the VLANs that pass (the
 * local port of an Open vSwitch bridge, a trunk) come in too, and as the kernel has taken their tags off by then, they
 * look as if they were of the link; it calls them PACKET_OTHERHOST.
 */
export function ignoreOthers(fd: number, subject: string): void {
  syscalls().attachFilter(fd, notForOthers, subject);
}

/** Has the link pass on what is sent to a multicast MAC address, for as long as the socket is open. */
export function joinMulticast(fd: number, ifindex: number, mac: Uint8Array): void {
  // struct packet_mreq
  const membership = Buffer.alloc(16);
  membership.writeInt32LE(ifindex, 0);
  membership.writeUInt16LE(PACKET_MR_MULTICAST, 4);
  membership.writeUInt16LE(mac.length, 6);
  membership.set(mac, 8);
  syscalls().setsockopt(fd, SOL_PACKET, PACKET_ADD_MEMBERSHIP, membership, `link ${ifindex}`);
}

/**
 * Closing a packet socket waits until all CPUs have let go of it, about 10 ms, and so does the end of a process that
 * has one open or about to be closed. What an io_uring holds is closed by a thread of the kernel, after the ring is.
 */
export function closeInBackground(fd: number): void {
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
