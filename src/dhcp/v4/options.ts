/** The options of DHCPv4 that this program understands, as one table: number, name, and how their content reads. */
import { isAscii, isUtf8 } from 'node:buffer';
import { type Cidr, ipToBytes } from '../../model/address.ts';
import { readDomains, writeDomain, writeDomains } from './domains.ts';

/** How the content of an option becomes a value and back. `read` gives undefined for content that is not as it should be. */
interface OptionCodec<T> {
  read(data: Buffer): T | undefined;
  write(value: T): Uint8Array;
}

/** An entry of option 121. */
export interface ClasslessRoute {
  readonly dst: Cidr;
  /** `0.0.0.0`: the destination is on the link (RFC 3442). */
  readonly gateway: string;
}

/** Option 81, RFC 4702. */
export interface ClientFqdn {
  /** S 0x01: the server is to update A records; O 0x02; E 0x04: the name is in the form of RFC 1035; N 0x08: no updates. */
  readonly flags: number;
  readonly name: string;
}

/** More than any client can use; a packet is not to make this program hold thousands. */
const mostRoutes = 64;
const mostInList = 16;

const questionMark = 0x3f;
/** C0, DEL and C1, and the soft hyphen: `\p{C}` of Latin-1. */
const isControl = (byte: number): boolean => byte < 0x20 || (byte > 0x7e && byte < 0xa0) || byte === 0xad;

/** Whether a content of fixed size is there. Of an option that is there twice, which RFC 3396 joins, the first counts. */
const hasWhole = (data: Buffer, size: number): boolean => data.length > 0 && data.length % size === 0;

/** A byte and a dot, so that the text of an address takes three steps and not seven. */
const dotted = Array.from({ length: 256 }, (_, byte) => `${byte}.`);

/** The text of the address at this place, of which the first `bits` count. */
function ipAt(data: Uint8Array, at: number, bits = 32): string {
  const text = `${dotted[maskedByte(data, at, bits)]}${dotted[maskedByte(data, at + 1, bits - 8)]}`;
  return `${text}${dotted[maskedByte(data, at + 2, bits - 16)]}${maskedByte(data, at + 3, bits - 24)}`;
}

const maskedByte = (data: Uint8Array, at: number, bits: number): number =>
  bits <= 0 ? 0 : (data[at] ?? 0) & (0xff00 >> Math.min(8, bits)) & 0xff;

function whole(size: 1 | 2 | 4): OptionCodec<number> {
  return {
    read: (data) => (hasWhole(data, size) ? data.readUIntBE(0, size) : undefined),
    write: (value) => {
      const bytes = Buffer.alloc(size);
      bytes.writeUIntBE(value, 0, size);
      return bytes;
    },
  };
}

const bytes: OptionCodec<Uint8Array> = { read: (data) => new Uint8Array(data), write: (value) => value };

/**
 * UTF-8, or else Latin-1, without the NULs that some servers end it with; what controls a terminal becomes `?`. A text
 * that is all controls is not to cost many times its size, so plain ones are changed as bytes.
 */
const text: OptionCodec<string> = {
  read: (data) => {
    const end = data.indexOf(0);
    const said = Buffer.from(end < 0 ? data : data.subarray(0, end));
    if (isUtf8(said) && !isAscii(said)) return said.toString().split(/\p{C}/u).join('?');
    for (let at = 0; at < said.length; at++) if (isControl(said[at] ?? 0)) said[at] = questionMark;
    return said.toString('latin1');
  },
  write: (value) => Buffer.from(value),
};

const ip: OptionCodec<string> = {
  read: (data) => (hasWhole(data, 4) ? ipAt(data, 0) : undefined),
  write: ipToBytes,
};

const ips: OptionCodec<readonly string[]> = {
  read: (data) => {
    if (!hasWhole(data, 4)) return undefined;
    const count = Math.min(mostInList, data.length / 4);
    return Array.from({ length: count }, (_, at) => ipAt(data, 4 * at));
  },
  write: (value) => Buffer.concat(value.map(ipToBytes)),
};

/** RFC 3004: each with its length before it. */
const userClasses: OptionCodec<readonly string[]> = {
  read: (data) => {
    const found: string[] = [];
    for (let at = 0; at < data.length; ) {
      const length = data.readUInt8(at);
      if (length === 0 || at + 1 + length > data.length || found.length === mostInList) return undefined;
      found.push(text.read(data.subarray(at + 1, at + 1 + length)) ?? '');
      at += 1 + length;
    }
    return found;
  },
  write: (value) =>
    Buffer.concat(value.flatMap((one) => [Buffer.from([Buffer.byteLength(one)]), Buffer.from(one)])),
};

const fqdn: OptionCodec<ClientFqdn> = {
  read: (data) => {
    if (data.length < 3) return undefined;
    const flags = data.readUInt8(0);
    const rest = data.subarray(3);
    if ((flags & 4) === 0) return { flags, name: text.read(rest) ?? '' };
    // A name that is not ended is one that the server is to complete.
    const name = readDomains(Buffer.concat([rest, Buffer.from([0])]), 1)?.[0];
    return name === undefined ? undefined : { flags, name };
  },
  write: ({ flags, name }) => {
    const head = Buffer.from([flags, 0, 0]);
    if ((flags & 4) === 0) return Buffer.concat([head, Buffer.from(name)]);
    const wire = writeDomain(name);
    return Buffer.concat([head, name.includes('.') ? wire : wire.subarray(0, -1)]);
  },
};

const domains: OptionCodec<readonly string[]> = {
  read: (data) => readDomains(data, mostInList),
  write: writeDomains,
};

/** RFC 3442: prefix length, the bytes of the prefix that count, the router. */
const classlessRoutes: OptionCodec<readonly ClasslessRoute[]> = {
  read: (data) => {
    const routes: ClasslessRoute[] = [];
    for (let at = 0; at < data.length && routes.length < mostRoutes; ) {
      const prefixLen = data.readUInt8(at);
      const counted = Math.ceil(prefixLen / 8);
      const end = at + 1 + counted + 4;
      if (prefixLen > 32 || end > data.length) return undefined;
      routes.push({
        // Bits behind the prefix are to be taken for zeros.
        dst: { family: 4, ip: ipAt(data, at + 1, prefixLen), prefixLen },
        gateway: ipAt(data, end - 4),
      });
      at = end;
    }
    return routes.length === 0 ? undefined : routes;
  },
  write: (value) =>
    Buffer.concat(
      value.flatMap(({ dst, gateway }) => [
        Buffer.from([dst.prefixLen]),
        ipToBytes(dst.ip).subarray(0, Math.ceil(dst.prefixLen / 8)),
        ipToBytes(gateway),
      ]),
    ),
};

const option = <T>(code: number, codec: OptionCodec<T>) => ({ code, ...codec });

/** By name. Option 52 is the codec's own business; 82, a relay's, goes through unread. */
export const optionTable = {
  subnetMask: option(1, ip),
  routers: option(3, ips),
  dns: option(6, ips),
  hostName: option(12, text),
  domainName: option(15, text),
  mtu: option(26, whole(2)),
  broadcast: option(28, ip),
  ntp: option(42, ips),
  vendorSpecific: option(43, bytes),
  requestedAddress: option(50, ip),
  /** Seconds; 0xffffffff: for ever. */
  leaseTime: option(51, whole(4)),
  messageType: option(53, whole(1)),
  serverId: option(54, ip),
  parameterList: option(55, bytes),
  message: option(56, text),
  maxMessageSize: option(57, whole(2)),
  /** T1, seconds. */
  renewalTime: option(58, whole(4)),
  /** T2, seconds. */
  rebindingTime: option(59, whole(4)),
  vendorClass: option(60, text),
  clientId: option(61, bytes),
  userClasses: option(77, userClasses),
  fqdn: option(81, fqdn),
  searchDomains: option(119, domains),
  classlessRoutes: option(121, classlessRoutes),
} as const;

type Table = typeof optionTable;

/** The options of a message, read; those that are not there are absent. */
export type DhcpOptions = {
  -readonly [N in keyof Table]?: Table[N] extends { read(data: Buffer): infer T | undefined } ? T : never;
};

const byCode = new Map(Object.entries(optionTable).map(([name, { code }]) => [code, name as keyof Table]));

/** The name of an option in the table. */
export function optionName(code: number): keyof DhcpOptions | undefined {
  return byCode.get(code);
}
