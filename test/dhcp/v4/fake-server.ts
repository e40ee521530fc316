/** A server that does what no server should: it answers what, when and how a test says, damaged frames included. */
import { writeSync } from 'node:fs';
import type { TestContext } from 'node:test';
import {
  type DhcpMessage,
  decodeMessage,
  encodeMessage,
  messageTypes,
} from '../../../src/dhcp/v4/message.ts';
import type { DhcpOptions } from '../../../src/dhcp/v4/options.ts';
import { Netns } from '../../../src/kernel/netns.ts';
import { closeInBackground, openPacketSocket } from '../../../src/kernel/packet-socket.ts';
import { readInLoop } from '../../../src/kernel/readable.ts';
import { ipToBytes } from '../../../src/model/address.ts';
import { ipLink } from '../../lab.ts';

const etherTypeIp = 0x0800;
/** Bytes before the payload: Ethernet, IP without options, UDP. */
const headers = 14 + 20 + 8;

export interface FakeServer {
  /** What it answers from now on, as frames; by default nothing. */
  behave(answers: (question: DhcpMessage) => readonly Buffer[]): void;
  send(frame: Buffer): void;
}

/** On `eth1` of a namespace, which has its address already. */
export function fakeServer(t: TestContext, where: string): FakeServer {
  using netns = Netns.open(`/run/netns/${where}`, where);
  const fd = openPacketSocket(netns, ipLink(where, 'eth1')?.ifindex ?? 0, etherTypeIp);
  let answers: (question: DhcpMessage) => readonly Buffer[] = () => [];
  const send = (frame: Buffer): void => void writeSync(fd, frame);
  const onFrame = (frame: Buffer): void => {
    const isQuestion = frame.length > headers && frame.readUInt8(23) === 17 && frame.readUInt16BE(36) === 67;
    if (isQuestion) for (const answer of answers(decodeMessage(frame.subarray(headers)))) send(answer);
  };
  const reading = readInLoop(fd, onFrame, { subject: where }).on('error', () => {});
  t.after(() => {
    reading.destroy();
    closeInBackground(fd);
  });
  return {
    send,
    behave: (how) => {
      answers = how;
    },
  };
}

/** An answer as a server should give it, but for what is given. */
export function answerTo(
  { xid, chaddr, htype }: Pick<DhcpMessage, 'xid' | 'chaddr' | 'htype'>,
  type: 'offer' | 'ack' | 'nak',
  options: DhcpOptions,
  given: Partial<DhcpMessage> = {},
): DhcpMessage {
  const nowhere = '0.0.0.0';
  return {
    ...{ op: 2, htype, hops: 0, xid, secs: 0, broadcast: true, chaddr, raw: {} },
    ...{ ciaddr: nowhere, yiaddr: '10.77.0.66', siaddr: nowhere, giaddr: nowhere },
    ...given,
    options: {
      messageType: messageTypes[type],
      ...(type === 'nak' ? {} : { leaseTime: 600, subnetMask: '255.255.255.0' }),
      ...options,
    },
  };
}

/** A frame to everybody with such a message, or with any bytes. `damage` is done to it last. */
export function serverFrame(
  message: DhcpMessage | Buffer,
  from: string,
  damage: (frame: Buffer) => void = () => {},
): Buffer {
  const payload = Buffer.isBuffer(message) ? message : encodeMessage(message);
  const ip = Buffer.alloc(20);
  ip.set([0x45]);
  ip.writeUInt16BE(28 + payload.length, 2);
  ip.set([64, 17], 8);
  ip.set(ipToBytes(from), 12);
  ip.fill(255, 16);
  const udp = Buffer.from([0, 67, 0, 68, 0, 0, 0, 0]);
  udp.writeUInt16BE(8 + payload.length, 4);
  const ethernet = Buffer.from(`ffffffffffff0200000000060800`, 'hex');
  const frame = Buffer.concat([ethernet, ip, udp, payload]);
  sign(frame);
  damage(frame);
  return frame;
}

/** Both checksums as they should be. */
export function sign(frame: Buffer): void {
  const ip = frame.subarray(14, 34);
  const udp = frame.subarray(34);
  ip.writeUInt16BE(0, 10);
  ip.writeUInt16BE(~sum(ip) & 0xffff, 10);
  udp.writeUInt16BE(0, 6);
  const pseudo = Buffer.concat([ip.subarray(12, 20), Buffer.from([0, 17]), udp.subarray(4, 6)]);
  udp.writeUInt16BE(~sum(Buffer.concat([pseudo, udp])) & 0xffff || 0xffff, 6);
}

function sum(bytes: Buffer): number {
  let total = 0;
  for (let at = 0; at < bytes.length; at += 2) total += ((bytes[at] ?? 0) << 8) | (bytes[at + 1] ?? 0);
  while (total > 0xffff) total = (total & 0xffff) + (total >>> 16);
  return total;
}
