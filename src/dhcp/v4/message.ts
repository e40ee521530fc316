/** DHCPv4 messages as bytes and as values: RFC 2131 section 2, RFC 2132, long options by RFC 3396. Pure. */
import { bytesToIp, ipToBytes } from '../../model/address.ts';
import { type DhcpOptions, optionName, optionTable } from './options.ts';

/** Option 53. */
export const messageTypes = {
  discover: 1,
  offer: 2,
  request: 3,
  decline: 4,
  ack: 5,
  nak: 6,
  release: 7,
  inform: 8,
} as const;

/** A message. Addresses that are not given are 0.0.0.0. */
export interface DhcpMessage {
  /** 1 from a client, 2 from a server. */
  readonly op: 1 | 2;
  readonly htype: number;
  readonly hops: number;
  readonly xid: number;
  /** Seconds since the client began. */
  readonly secs: number;
  /** The server is to answer by broadcast. */
  readonly broadcast: boolean;
  readonly ciaddr: string;
  readonly yiaddr: string;
  readonly siaddr: string;
  readonly giaddr: string;
  /** As many bytes as the hardware has, at most 16. */
  readonly chaddr: Uint8Array;
  readonly options: DhcpOptions;
  /** Options that the table does not have, or whose content is wrong, by their number. They go before the table's. */
  readonly raw: Readonly<Record<number, Uint8Array>>;
}

/** Bytes that are no DHCP message. The decoder throws nothing else. */
export class DhcpDecodeError extends Error {
  override readonly name = 'DhcpDecodeError';
}

const headerSize = 236;
const magic = 0x63825363;
/** The areas that option 52 gives to options: `sname` and `file`. */
const sname = { from: 44, to: 108 };
const file = { from: 108, to: 236 };
/** Of RFC 951: relays and servers drop what is shorter. */
const leastSize = 300;
/** More than a client here asks for (option 57): nobody's message. What a message can have made is bounded by this. */
const mostSize = 1500;
/** Kinds of options; servers' answers have some twenty. */
const mostKinds = 40;

const pad = 0;
const overload = 52;
const end = 255;
/** The longest piece of an option; what is longer is continued in another option of the same number. */
const pieceMax = 255;

/** Reads a message from the payload of a UDP packet. @throws DhcpDecodeError */
export function decodeMessage(bytes: Uint8Array): DhcpMessage {
  const data = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (data.length < headerSize + 4) throw new DhcpDecodeError(`${data.length} bytes are too few`);
  if (data.length > mostSize) throw new DhcpDecodeError(`${data.length} bytes are too many`);
  if (data.readUInt32BE(headerSize) !== magic) throw new DhcpDecodeError('this is BOOTP without options');
  const [op = 0, htype = 0, hlen = 0, hops = 0] = data;
  if (op !== 1 && op !== 2) throw new DhcpDecodeError(`op is ${op}`);
  if (hlen > 16) throw new DhcpDecodeError(`a hardware address has at most 16 bytes, not ${hlen}`);
  const address = (at: number): string => bytesToIp(data.subarray(at, at + 4));
  return {
    op,
    htype,
    hops,
    xid: data.readUInt32BE(4),
    secs: data.readUInt16BE(8),
    broadcast: (data.readUInt16BE(10) & 0x8000) !== 0,
    ciaddr: address(12),
    yiaddr: address(16),
    siaddr: address(20),
    giaddr: address(24),
    chaddr: Uint8Array.from(data.subarray(28, 28 + hlen)),
    ...interpret(collect(data)),
  };
}

/** A part of a message that holds options. */
interface Area {
  readonly from: number;
  readonly to: number;
}

/** Calls back for each option of an area with where its content is. Makes nothing: a packet can have hundreds. */
function walk(data: Buffer, area: Area, each: (code: number, from: number, to: number) => void): void {
  for (let at = area.from; at < area.to; ) {
    const code = data[at] ?? end;
    if (code === end) return;
    if (code === pad) {
      at += 1;
      continue;
    }
    const from = at + 2;
    const to = from + (data[at + 1] ?? 0);
    if (from > area.to || to > area.to)
      throw new DhcpDecodeError(`option ${code} is longer than the message`);
    each(code, from, to);
    at = to;
  }
}

/** The options by number, pieces put together (RFC 3396). */
function collect(data: Buffer): Map<number, Buffer> {
  const areas: Area[] = [{ from: headerSize + 4, to: data.length }];
  const sizes = new Uint16Array(256);
  const kinds: number[] = [];
  let overloaded = 0;
  const measure = (code: number, from: number, to: number): void => {
    if (!kinds.includes(code) && kinds.push(code) > mostKinds)
      throw new DhcpDecodeError(`there are more than ${mostKinds} kinds of options`);
    sizes[code] = (sizes[code] ?? 0) + to - from;
    if (code === overload && areas.length === 1) overloaded = data[from] ?? 0;
  };
  for (const area of areas) walk(data, area, measure);
  // In this order they are one (RFC 3396, section 5).
  if (overloaded === 1 || overloaded === 3) areas.push(file);
  if (overloaded === 2 || overloaded === 3) areas.push(sname);
  for (const area of areas.slice(1)) walk(data, area, measure);
  // One behind the other; `ends` grow as they are filled.
  const whole = Buffer.alloc(data.length);
  const found = new Map<number, Buffer>();
  const ends = new Uint16Array(256);
  let next = 0;
  for (const code of kinds) {
    const begin = next;
    ends[code] = begin;
    next += sizes[code] ?? 0;
    if (code !== overload) found.set(code, whole.subarray(begin, next));
  }
  const copy = (code: number, from: number, to: number): void => {
    data.copy(whole, ends[code], from, to);
    ends[code] = (ends[code] ?? 0) + to - from;
  };
  for (const area of areas) walk(data, area, copy);
  return found;
}

function interpret(found: ReadonlyMap<number, Buffer>): Pick<DhcpMessage, 'options' | 'raw'> {
  const options: Record<string, unknown> = {};
  const raw: Record<number, Uint8Array> = {};
  for (const [code, content] of found) {
    const name = optionName(code);
    const value = name && optionTable[name].read(content);
    if (name === undefined || value === undefined) raw[code] = new Uint8Array(content);
    else options[name] = value;
  }
  return { options: options as DhcpOptions, raw };
}

/** Writes a message as the payload of a UDP packet. */
export function encodeMessage(message: DhcpMessage): Buffer {
  const { op, htype, hops, xid, secs, broadcast, ciaddr, yiaddr, siaddr, giaddr, chaddr } = message;
  const header = Buffer.alloc(headerSize + 4);
  header.set([op, htype, chaddr.length, hops], 0);
  header.writeUInt32BE(xid, 4);
  header.writeUInt16BE(secs, 8);
  header.writeUInt16BE(broadcast ? 0x8000 : 0, 10);
  for (const [at, ip] of [ciaddr, yiaddr, siaddr, giaddr].entries()) header.set(ipToBytes(ip), 12 + 4 * at);
  header.set(chaddr, 28);
  header.writeUInt32BE(magic, headerSize);
  const bytes = Buffer.concat([header, ...optionPieces(message), Buffer.from([end])]);
  return bytes.length < leastSize ? Buffer.concat([bytes, Buffer.alloc(leastSize - bytes.length)]) : bytes;
}

/** The message type first, as some servers look for it there, then by number. */
function optionPieces({ options, raw }: Pick<DhcpMessage, 'options' | 'raw'>): Buffer[] {
  const contents = new Map<number, Uint8Array>();
  for (const [name, value] of Object.entries(options)) {
    const { code, write } = optionTable[name as keyof DhcpOptions];
    if (value !== undefined) contents.set(code, (write as (value: unknown) => Uint8Array)(value));
  }
  for (const [code, content] of Object.entries(raw)) contents.set(Number(code), content);
  const first = (code: number): number => (code === optionTable.messageType.code ? 0 : code);
  return [...contents]
    .sort(([a], [b]) => first(a) - first(b))
    .flatMap(([code, content]) => {
      const pieces: Buffer[] = [];
      for (let at = 0; at === 0 || at < content.length; at += pieceMax) {
        const piece = content.subarray(at, at + pieceMax);
        pieces.push(Buffer.concat([Buffer.from([code, piece.length]), piece]));
      }
      return pieces;
    });
}
