/** How values lie in DHCPv6 options: numbers, addresses, domain names, lists of opaque data. */
import { bytesToIp, ipToBytes } from '../../model/address.ts';
import { MalformedDhcp6, maxElements, need, type OptionCodec } from './codec.ts';

function unsigned(size: 1 | 2 | 4, what: string): OptionCodec<number> {
  return {
    read: (bytes) => {
      need(bytes, size, what);
      return bytes.readUIntBE(0, size);
    },
    write: (value) => {
      const bytes = Buffer.alloc(size);
      bytes.writeUIntBE(value, 0, size);
      return bytes;
    },
  };
}

export const u8 = unsigned(1, 'a number of one byte');
export const u16 = unsigned(2, 'a number of two bytes');
export const u32 = unsigned(4, 'a number of four bytes');

/** An option that is there or not, and says no more. */
export const flag: OptionCodec<true> = {
  read: (bytes) => {
    need(bytes, 0, 'a flag');
    return true;
  },
  write: () => Buffer.alloc(0),
};

/** Bytes that are not looked into, copied so that the packet can go. Between `min` and `max`. */
export function opaque(min: number, max: number, what: string): OptionCodec<Uint8Array> {
  return {
    read: (bytes) => {
      if (bytes.length < min || bytes.length > max)
        throw new MalformedDhcp6(`${what} has ${bytes.length} bytes`);
      return Uint8Array.from(bytes);
    },
    write: (value) => value,
  };
}

/** Option codes, or other numbers of two bytes. */
export const u16List: OptionCodec<readonly number[]> = {
  read: (bytes) => {
    if (bytes.length % 2 !== 0) throw new MalformedDhcp6(`a list of codes has ${bytes.length} bytes`);
    if (bytes.length > 256) throw new MalformedDhcp6('a list of codes is too long');
    return Array.from({ length: bytes.length / 2 }, (_, at) => bytes.readUInt16BE(2 * at));
  },
  write: (values) => {
    const bytes = Buffer.alloc(2 * values.length);
    for (const [at, value] of values.entries()) bytes.writeUInt16BE(value, 2 * at);
    return bytes;
  },
};

export const ip: OptionCodec<string> = {
  read: (bytes) => {
    need(bytes, 16, 'an address');
    return bytesToIp(bytes);
  },
  write: ipToBytes,
};

/** Addresses, 16 bytes each; of a long list the first {@link maxElements} count. */
export const ipList: OptionCodec<readonly string[]> = {
  read: (bytes) => {
    if (bytes.length % 16 !== 0) throw new MalformedDhcp6(`a list of addresses has ${bytes.length} bytes`);
    const count = Math.min(bytes.length / 16, maxElements);
    return Array.from({ length: count }, (_, at) => bytesToIp(bytes.subarray(16 * at, 16 * at + 16)));
  },
  write: (ips) => Buffer.concat(ips.map(ipToBytes)),
};

/** Opaque data, each with a length of two bytes before it: user class and vendor class. */
export const dataList: OptionCodec<readonly Uint8Array[]> = {
  read: (bytes) => {
    const list: Uint8Array[] = [];
    for (let at = 0; at < bytes.length; ) {
      if (bytes.length - at < 2) throw new MalformedDhcp6('class data is cut short');
      const from = at + 2;
      const to = from + bytes.readUInt16BE(at);
      if (to > bytes.length || list.length >= maxElements)
        throw new MalformedDhcp6('class data is longer than what it is in');
      list.push(Uint8Array.from(bytes.subarray(from, to)));
      at = to;
    }
    return list;
  },
  write: (list) =>
    Buffer.concat(
      list.flatMap((data) => {
        const length = Buffer.alloc(2);
        length.writeUInt16BE(data.length);
        return [length, data];
      }),
    ),
};

const maxNameBytes = 255;
const maxLabelBytes = 63;

/** A name of RFC 1035 section 3.1, uncompressed (RFC 8415 section 10): its text, '' for none, and where it ends. */
function readName(bytes: Buffer, from: number): { readonly name: string; readonly end: number } {
  const labels: string[] = [];
  for (let at = from; ; ) {
    const length = bytes[at];
    // A client's own name may be partial: without the last, empty label.
    if (length === undefined || length === 0) {
      // It may end up in a resolv.conf: what is no host name is as good as none, and no reason to lose a lease.
      const isHostName = labels.every((one) => /^[A-Za-z0-9_-]+$/.test(one));
      return { name: isHostName ? labels.join('.') : '', end: Math.min(at + 1, bytes.length) };
    }
    const to = at + 1 + length;
    if (length > maxLabelBytes || to > bytes.length || to - from > maxNameBytes)
      throw new MalformedDhcp6('a domain name is malformed');
    const label = bytes.toString('latin1', at + 1, to);
    labels.push(label);
    at = to;
  }
}

/** A name as labels; `partial` ones have no empty label at their end. */
export function nameToBytes(name: string, partial = false): Buffer {
  const labels = name
    .split('.')
    .filter(Boolean)
    .map((label) => Buffer.from(label, 'latin1'));
  const parts = labels.flatMap((label) => [Buffer.from([label.length]), label]);
  return Buffer.concat(partial ? parts : [...parts, Buffer.from([0])]);
}

/** One domain name. */
export const name: OptionCodec<string> = {
  read: (bytes) => readName(bytes, 0).name,
  write: (value) => nameToBytes(value),
};

/** Domain names; of a long list the first {@link maxElements} count. */
export const nameList: OptionCodec<readonly string[]> = {
  read: (bytes) => {
    const names: string[] = [];
    for (let at = 0; at < bytes.length && names.length < maxElements; ) {
      const { name, end } = readName(bytes, at);
      if (name !== '') names.push(name);
      at = end;
    }
    return names;
  },
  write: (names) => Buffer.concat(names.map((name) => nameToBytes(name))),
};

/** RFC 4704: who updates the DNS, and a name, which may be partial. */
export interface ClientFqdn {
  /** S: the server is asked to keep the AAAA record. */
  readonly serverUpdates: boolean;
  readonly name: string;
}

export const clientFqdn: OptionCodec<ClientFqdn> = {
  read: (bytes) => {
    need(bytes, 1, 'a client FQDN', true);
    return { serverUpdates: ((bytes[0] ?? 0) & 1) === 1, name: readName(bytes, 1).name };
  },
  write: ({ serverUpdates, name }) =>
    Buffer.concat([Buffer.from([serverUpdates ? 1 : 0]), nameToBytes(name, !name.includes('.'))]),
};
