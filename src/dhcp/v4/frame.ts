/** Ethernet frames with UDP in IPv4 (RFC 791, RFC 768), for interfaces that have no address yet. Pure. */
import { bytesToIp, ipToBytes } from '../../model/address.ts';

/** The ports of DHCP. */
const serverPort = 67;
export const clientPort = 68;

const ethernetSize = 14;
const ipSize = 20;
const udpSize = 8;
const ETHERTYPE_IP = 0x0800;
const IPPROTO_UDP = 17;
/** Of low delay, as other clients send it. */
const tos = 0x10;
const ttl = 64;

/** Who a frame goes to, and from whom it says it comes. */
export interface FrameEnds {
  readonly srcMac: Uint8Array;
  /** By default everybody. */
  readonly dstMac?: Uint8Array;
  readonly srcIp: string;
  readonly dstIp: string;
}

/** The sum of 16-bit words of RFC 1071, folded, not complemented. An odd last byte is the upper half of a word. */
function sumOf(...parts: readonly Uint8Array[]): number {
  let sum = 0;
  for (const bytes of parts) {
    for (let at = 0; at < bytes.length; at += 2) sum += ((bytes[at] ?? 0) << 8) | (bytes[at + 1] ?? 0);
  }
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  return sum;
}

function pseudoHeader(srcIp: Uint8Array, dstIp: Uint8Array, length: number): Buffer {
  return Buffer.concat([srcIp, dstIp, Buffer.from([0, IPPROTO_UDP, length >> 8, length & 255])]);
}

/** A UDP datagram from a client's port to the servers', with its checksum. */
export function clientDatagram(srcIp: string, dstIp: string, payload: Uint8Array): Buffer {
  const udp = Buffer.alloc(udpSize + payload.length);
  udp.writeUInt16BE(clientPort, 0);
  udp.writeUInt16BE(serverPort, 2);
  udp.writeUInt16BE(udp.length, 4);
  udp.set(payload, udpSize);
  const sum = ~sumOf(pseudoHeader(ipToBytes(srcIp), ipToBytes(dstIp), udp.length), udp) & 0xffff;
  // Zero would say that there is no checksum.
  udp.writeUInt16BE(sum === 0 ? 0xffff : sum, 6);
  return udp;
}

/** A frame with such a datagram. */
export function clientFrame({ srcMac, dstMac, srcIp, dstIp }: FrameEnds, payload: Uint8Array): Buffer {
  const udp = clientDatagram(srcIp, dstIp, payload);
  const head = Buffer.alloc(ethernetSize + ipSize);
  head.set(dstMac ?? Buffer.alloc(6, 0xff), 0);
  head.set(srcMac, 6);
  head.writeUInt16BE(ETHERTYPE_IP, 12);
  const ip = head.subarray(ethernetSize);
  ip.set([0x45, tos], 0);
  ip.writeUInt16BE(ipSize + udp.length, 2);
  ip.set([ttl, IPPROTO_UDP], 8);
  ip.set(ipToBytes(srcIp), 12);
  ip.set(ipToBytes(dstIp), 16);
  ip.writeUInt16BE(~sumOf(ip) & 0xffff, 10);
  return Buffer.concat([head, udp]);
}

/** What is in a frame for a DHCP client. */
export interface ReceivedFrame {
  /** Of the server, or of the relay that stands for it on this link. */
  readonly srcMac: string;
  readonly srcIp: string;
  readonly dstIp: string;
  readonly payload: Buffer;
}

/** The payload of a frame to a DHCP client; undefined for all other frames, fragments, and those that are damaged. */
export function receivedFrame(frame: Buffer): ReceivedFrame | undefined {
  if (frame.length < ethernetSize + ipSize + udpSize || frame.readUInt16BE(12) !== ETHERTYPE_IP)
    return undefined;
  const packet = frame.subarray(ethernetSize);
  const headerLength = (packet.readUInt8(0) & 15) * 4;
  const total = packet.readUInt16BE(2);
  if (packet.readUInt8(0) >> 4 !== 4 || headerLength < ipSize) return undefined;
  // A short frame is filled up behind the packet.
  if (total < headerLength + udpSize || total > packet.length) return undefined;
  // More fragments, or not the first.
  if (packet.readUInt8(9) !== IPPROTO_UDP || (packet.readUInt16BE(6) & 0x3fff) !== 0) return undefined;
  if (sumOf(packet.subarray(0, headerLength)) !== 0xffff) return undefined;
  const udp = packet.subarray(headerLength, total);
  const length = udp.readUInt16BE(4);
  if (udp.readUInt16BE(2) !== clientPort || length < udpSize || length > udp.length) return undefined;
  const [src, dst] = [packet.subarray(12, 16), packet.subarray(16, 20)];
  if (!isWhole(udp.subarray(0, length), pseudoHeader(src, dst, length))) return undefined;
  const srcMac = frame.toString('hex', 6, 12).replace(/..(?=.)/g, '$&:');
  return { srcMac, srcIp: bytesToIp(src), dstIp: bytesToIp(dst), payload: udp.subarray(udpSize, length) };
}

/**
 * A checksum can be absent. And a packet that never left this machine has, where hardware was to complete it, the sum of
 * the pseudo header alone (CHECKSUM_PARTIAL).
 */
function isWhole(udp: Buffer, pseudo: Buffer): boolean {
  const said = udp.readUInt16BE(6);
  return said === 0 || sumOf(pseudo, udp) === 0xffff || said === sumOf(pseudo);
}
