/**
 * Ethernet frames by which hosts of one link tell and ask who has an IP address: ARP (RFC 826) and IPv6 neighbour
 * discovery (RFC 4861). Pure. MAC addresses are lower-case text, as everywhere.
 */
import { bytesToIp, ipToBytes } from '../model/address.ts';

/** EtherTypes, <linux/if_ether.h>. */
const ETH_P_IP = 0x0800;
export const ETH_P_ARP = 0x0806;
export const ETH_P_IPV6 = 0x86dd;

const IPPROTO_ICMPV6 = 58;
const routerQuestion = 133;
const neighbourSolicitation = 135;
const neighbourAdvertisement = 136;
const arpRequest = 1;
const arpReply = 2;
const etherHeader = 14;
const ipv6Header = 40;
const unspecified = { 4: '0.0.0.0', 6: '::' } as const;

function macToBytes(mac: string): Buffer {
  return Buffer.from(mac.replaceAll(':', ''), 'hex');
}

function bytesToMac(bytes: Buffer): string {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join(':');
}

function be16(...values: readonly number[]): Buffer {
  return Buffer.from(values.flatMap((value) => [value >> 8, value & 255]));
}

interface Arp {
  readonly operation: number;
  readonly senderMac: Uint8Array;
  readonly senderIp: Uint8Array;
  readonly targetMac: Uint8Array;
  readonly targetIp: Uint8Array;
}

/** An ARP packet to everybody. */
function arp({ operation, senderMac, senderIp, targetMac, targetIp }: Arp): Buffer {
  return Buffer.concat([
    Buffer.alloc(6, 0xff),
    senderMac,
    be16(ETH_P_ARP),
    // Ethernet, IPv4, address lengths 6 and 4
    be16(1, ETH_P_IP, 0x0604, operation),
    senderMac,
    senderIp,
    targetMac,
    targetIp,
  ]);
}

/** The frame that iputils' `arping -A` sends: an ARP reply (RFC 826) to everybody, about and to oneself. */
export function gratuitousArp(mac: string, ip: string): Buffer {
  const [own, address] = [macToBytes(mac), ipToBytes(ip)];
  return arp({ operation: arpReply, senderMac: own, senderIp: address, targetMac: own, targetIp: address });
}

/**
 * Who has it? What `arping` sends; from nobody yet, as `arping -D` does it, it is the ARP probe of RFC 5227 section 2.1.1.
 */
export function arpQuestion(mac: string, ip: string, from: string = unspecified[4]): Buffer {
  return arp({
    operation: arpRequest,
    senderMac: macToBytes(mac),
    senderIp: ipToBytes(from),
    targetMac: Buffer.alloc(6),
    targetIp: ipToBytes(ip),
  });
}

/** The Internet checksum, RFC 1071, of an even number of bytes. */
function checksum(bytes: Buffer): number {
  let sum = 0;
  for (let at = 0; at < bytes.length; at += 2) sum += bytes.readUInt16BE(at);
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >> 16);
  return ~sum & 0xffff;
}

/** An ICMPv6 message to a multicast group, its checksum filled in. */
function icmpv6(mac: string, source: Uint8Array, group: Uint8Array, icmp: Buffer): Buffer {
  const pseudoHeader = Buffer.concat([source, group, be16(0, icmp.length, 0, IPPROTO_ICMPV6)]);
  icmp.writeUInt16BE(checksum(Buffer.concat([pseudoHeader, icmp])), 2);
  return Buffer.concat([
    multicastMac(group),
    macToBytes(mac),
    be16(ETH_P_IPV6),
    // version 6; payload length, next header, hop limit 255, without which it would not be believed
    be16(0x6000, 0, icmp.length),
    Buffer.from([IPPROTO_ICMPV6, 255]),
    source,
    group,
    icmp,
  ]);
}

/** An unsolicited neighbour advertisement, RFC 4861 section 7.2.6: to all nodes of the link, overriding what they know. */
export function unsolicitedAdvertisement(mac: string, ip: string): Buffer {
  const source = ipToBytes(ip);
  const flagsOverride = 0x20;
  const icmp = Buffer.concat([
    // type, code 0, checksum, flags and reserved
    Buffer.from([neighbourAdvertisement, 0, 0, 0, flagsOverride, 0, 0, 0]),
    source,
    // option: target link-layer address, 1 x 8 bytes
    Buffer.from([2, 1]),
    macToBytes(mac),
  ]);
  return icmpv6(mac, source, allNodes, icmp);
}

/**
 * A neighbour solicitation, RFC 4861 section 4.3: who has it? From nobody yet it is that of duplicate address detection,
 * RFC 4862 section 5.4.2.
 */
export function solicitation(mac: string, ip: string, from: string = unspecified[6]): Buffer {
  const icmp = Buffer.concat([
    Buffer.from([neighbourSolicitation, 0, 0, 0, 0, 0, 0, 0]),
    ipToBytes(ip),
    // option: source link-layer address, 1 x 8 bytes
    ...(from === unspecified[6] ? [] : [Buffer.from([1, 1]), macToBytes(mac)]),
  ]);
  return icmpv6(mac, ipToBytes(from), solicitedNode(ip), icmp);
}

/** A router solicitation, RFC 4861 section 4.1, from a link-local address. */
export function routerSolicitation(mac: string, ip: string): Buffer {
  const icmp = Buffer.concat([
    // type, code 0, checksum, reserved; option: source link-layer address, 1 x 8 bytes
    Buffer.from([routerQuestion, 0, 0, 0, 0, 0, 0, 0, 1, 1]),
    macToBytes(mac),
  ]);
  return icmpv6(mac, ipToBytes(ip), allRouters, icmp);
}

/** ff02::1, all nodes of the link; ff02::2, all routers. */
const allNodes = ipToBytes('ff02::1');
const allRouters = ipToBytes('ff02::2');

/** The group that whoever has an IPv6 address listens to, RFC 4291 section 2.7.1. */
function solicitedNode(ip: string): Uint8Array {
  return Buffer.concat([ipToBytes('ff02::1:ff00:0').subarray(0, 13), ipToBytes(ip).subarray(13)]);
}

/** RFC 2464 section 7. */
function multicastMac(group: Uint8Array): Buffer {
  return Buffer.concat([Buffer.from([0x33, 0x33]), group.subarray(12)]);
}

/** MAC addresses that answers to a {@link solicitation} from nobody, and the same question by others, are sent to. */
export function duplicateGroups(ip: string): readonly Buffer[] {
  return [multicastMac(allNodes), multicastMac(solicitedNode(ip))];
}

/**
 * Whose a frame says that `ip` is, while nobody is to have it: its holder's, or that of another one who is asking for it
 * for itself at this moment (RFC 5227 section 2.1.1, RFC 4862 sections 5.4.3 and 5.4.4). Undefined when it says nothing.
 */
export function claimant(frame: Buffer, ip: string): string | undefined {
  if (frame.length < etherHeader) return undefined;
  return ip.includes(':') ? claimantByNd(frame, ip) : claimantByArp(frame, ip);
}

function claimantByArp(frame: Buffer, ip: string): string | undefined {
  const packet = frame.subarray(etherHeader);
  if (packet.length < 28 || frame.readUInt16BE(12) !== ETH_P_ARP) return undefined;
  if (packet.readUInt16BE(0) !== 1 || packet.readUInt16BE(2) !== ETH_P_IP) return undefined;
  if (packet.readUInt16BE(4) !== 0x0604) return undefined;
  const senderIp = bytesToIp(packet.subarray(14, 18));
  const isProbe = packet.readUInt16BE(6) === arpRequest && senderIp === unspecified[4];
  const about = isProbe ? bytesToIp(packet.subarray(24, 28)) : senderIp;
  return about === ip ? bytesToMac(packet.subarray(8, 14)) : undefined;
}

function claimantByNd(frame: Buffer, ip: string): string | undefined {
  const packet = frame.subarray(etherHeader);
  const icmp = packet.subarray(ipv6Header);
  if (icmp.length < 24 || frame.readUInt16BE(12) !== ETH_P_IPV6) return undefined;
  const hopLimit = packet[7];
  if (packet[6] !== IPPROTO_ICMPV6 || hopLimit !== 255) return undefined;
  if (bytesToIp(icmp.subarray(8, 24)) !== ip) return undefined;
  const isProbe = icmp[0] === neighbourSolicitation && bytesToIp(packet.subarray(8, 24)) === unspecified[6];
  return isProbe || icmp[0] === neighbourAdvertisement ? bytesToMac(frame.subarray(6, 12)) : undefined;
}
