/** A DHCPv6 server that answers what and when a test says. */
import { writeSync } from 'node:fs';
import type { TestContext } from 'node:test';
import {
  decodeMessage,
  encodeMessage,
  type IaAddr,
  type Message,
  type MessageOptions,
  type MessageType,
} from '../../../src/dhcp/v6/message.ts';
import { Netns } from '../../../src/kernel/netns.ts';
import { closeInBackground, joinMulticast, openPacketSocket } from '../../../src/kernel/packet-socket.ts';
import { readInLoop } from '../../../src/kernel/readable.ts';
import { ipToBytes } from '../../../src/model/address.ts';
import { ipLink } from '../../lab.ts';

const etherTypeIpv6 = 0x86dd;
const ethernetSize = 14;
const ipSize = 40;
const udp = 17;
const [clientPort, serverPort] = [546, 547];
/** Of All_DHCP_Relay_Agents_and_Servers. */
const groupMac = Buffer.from('333300010002', 'hex');
const ownMac = Buffer.from('020000000006', 'hex');
const ownIp = 'fe80::6';
const duid = Buffer.from('00030001020000000006', 'hex');

export interface FakeServer6 {
  /** What it answers from now on; undefined: nothing. By default nothing. */
  behave(answer: (question: Message) => Message | undefined): void;
  /** The kinds of questions that have come, in order. */
  readonly asked: readonly MessageType[];
}

/** On `eth1` of a namespace. */
export function fakeServer6(t: TestContext, where: string): FakeServer6 {
  using netns = Netns.open(`/run/netns/${where}`, where);
  const ifindex = ipLink(where, 'eth1')?.ifindex ?? 0;
  const fd = openPacketSocket(netns, ifindex, etherTypeIpv6);
  joinMulticast(fd, ifindex, groupMac);
  let answer: (question: Message) => Message | undefined = () => undefined;
  const asked: MessageType[] = [];
  const onFrame = (frame: Buffer): void => {
    const head = frame.subarray(ethernetSize + ipSize);
    const isQuestion =
      frame[ethernetSize + 6] === udp && head.length > 8 && head.readUInt16BE(2) === serverPort;
    if (!isQuestion) return;
    const question = decodeMessage(head.subarray(8));
    asked.push(question.type);
    const said = answer(question);
    if (said) writeSync(fd, frameTo(frame, encodeMessage(said)));
  };
  const reading = readInLoop(fd, onFrame, { subject: where }).on('error', () => {});
  t.after(() => {
    reading.destroy();
    closeInBackground(fd);
  });
  return {
    asked,
    behave: (how) => {
      answer = how;
    },
  };
}

/** An answer as a server should give it. */
export function answer6(
  { xid, clientId }: Message,
  type: 'advertise' | 'reply',
  options: MessageOptions,
): Message {
  return { type, xid, clientId, serverId: duid, ...options };
}

/** The IA of a question with one address in it. Times in seconds. */
export function iaFor(
  { iaNas = [] }: Message,
  addr: IaAddr,
  times: { readonly t1: number; readonly t2: number },
): MessageOptions {
  const [asked] = iaNas;
  return { iaNas: [{ iaid: asked?.iaid ?? 0, ...times, addrs: [addr] }] };
}

/** A datagram to whoever sent a frame. */
function frameTo(question: Buffer, payload: Buffer): Buffer {
  const [src, dst] = [Buffer.from(ipToBytes(ownIp)), question.subarray(ethernetSize + 8, ethernetSize + 24)];
  const datagram = Buffer.concat([Buffer.alloc(8), payload]);
  datagram.writeUInt16BE(serverPort, 0);
  datagram.writeUInt16BE(clientPort, 2);
  datagram.writeUInt16BE(datagram.length, 4);
  const pseudo = Buffer.concat([
    src,
    dst,
    Buffer.from([0, 0, datagram.length >> 8, datagram.length & 255, 0, 0, 0, udp]),
  ]);
  datagram.writeUInt16BE(~sum(Buffer.concat([pseudo, datagram])) & 0xffff || 0xffff, 6);
  const head = Buffer.alloc(ethernetSize + 8);
  head.set(question.subarray(6, 12), 0);
  head.set(ownMac, 6);
  head.writeUInt16BE(etherTypeIpv6, 12);
  head.set([0x60], ethernetSize);
  head.writeUInt16BE(datagram.length, ethernetSize + 4);
  head.set([udp, 64], ethernetSize + 6);
  return Buffer.concat([head, src, dst, datagram]);
}

function sum(bytes: Buffer): number {
  let total = 0;
  for (let at = 0; at < bytes.length; at += 2) total += ((bytes[at] ?? 0) << 8) | (bytes[at + 1] ?? 0);
  while (total > 0xffff) total = (total & 0xffff) + (total >>> 16);
  return total;
}
