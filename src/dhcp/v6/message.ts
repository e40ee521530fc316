/** DHCPv6 messages between client and server, RFC 8415 sections 8 and 21. */
import { bytesToIp, ipToBytes } from '../../model/address.ts';
import {
  decodeOptions,
  encodeOptions,
  MalformedDhcp6,
  maxMessageBytes,
  need,
  type OptionCodec,
  type Options,
  option,
  options,
  type RawOptions,
} from './codec.ts';
import {
  clientFqdn,
  dataList,
  flag,
  ip,
  ipList,
  name,
  nameList,
  opaque,
  u8,
  u16,
  u16List,
  u32,
} from './values.ts';

/** Section 7.3. Relayed messages are not for clients. */
export const messageTypes = {
  solicit: 1,
  advertise: 2,
  request: 3,
  confirm: 4,
  renew: 5,
  rebind: 6,
  reply: 7,
  release: 8,
  decline: 9,
  reconfigure: 10,
  informationRequest: 11,
} as const;

export type MessageType = keyof typeof messageTypes;

const typeOf: ReadonlyMap<number, MessageType> = new Map(
  Object.entries(messageTypes).map(([title, type]) => [type, title as MessageType]),
);

/** Section 21.13, status codes that a client acts on. */
export const statusCodes = {
  success: 0,
  unspecFail: 1,
  noAddrsAvail: 2,
  noBinding: 3,
  notOnLink: 4,
  useMulticast: 5,
} as const;

/** Why a server cannot give what it was asked for. */
export interface Status {
  readonly code: number;
  /** The server's words, printable ASCII, cut to 200 characters. */
  readonly message: string;
}

const status: OptionCodec<Status> = {
  read: (bytes) => {
    need(bytes, 2, 'a status code', true);
    const message = bytes.toString('latin1', 2, 202).replace(/[^ -~]/g, '?');
    return { code: bytes.readUInt16BE(), message };
  },
  write: ({ code, message }) => Buffer.concat([u16.write(code), Buffer.from(message, 'latin1')]),
};

const iaAddrOptions = { status: option(13, status) } as const;

/** An address of an IA with its lifetimes in seconds; 0xffffffff: for ever. */
export interface IaAddr extends Options<typeof iaAddrOptions> {
  readonly ip: string;
  readonly preferred: number;
  readonly valid: number;
}

const iaAddr: OptionCodec<IaAddr> = {
  read: (bytes) => {
    need(bytes, 24, 'an IA address', true);
    return {
      ip: bytesToIp(bytes.subarray(0, 16)),
      preferred: bytes.readUInt32BE(16),
      valid: bytes.readUInt32BE(20),
      ...decodeOptions(iaAddrOptions, bytes.subarray(24)),
    };
  },
  write: ({ ip, preferred, valid, ...rest }) =>
    Buffer.concat([
      ipToBytes(ip),
      u32.write(preferred),
      u32.write(valid),
      encodeOptions(iaAddrOptions, rest),
    ]),
};

const iaNaOptions = { addrs: options(5, iaAddr), status: option(13, status) } as const;

/** An identity association for non-temporary addresses; times in seconds, 0: the client's choice. */
export interface IaNa extends Options<typeof iaNaOptions> {
  readonly iaid: number;
  readonly t1: number;
  readonly t2: number;
}

const iaNa: OptionCodec<IaNa> = {
  read: (bytes) => {
    need(bytes, 12, 'an IA', true);
    return {
      iaid: bytes.readUInt32BE(0),
      t1: bytes.readUInt32BE(4),
      t2: bytes.readUInt32BE(8),
      ...decodeOptions(iaNaOptions, bytes.subarray(12)),
    };
  },
  write: ({ iaid, t1, t2, ...rest }) =>
    Buffer.concat([u32.write(iaid), u32.write(t1), u32.write(t2), encodeOptions(iaNaOptions, rest)]),
};

/** RFC 5908: servers by address and by name. */
const ntpOptions = { servers: options(1, ip), names: options(3, name) } as const;

const ntp: OptionCodec<Options<typeof ntpOptions>> = {
  read: (bytes) => decodeOptions(ntpOptions, bytes),
  write: (value) => encodeOptions(ntpOptions, value),
};

/** Section 21.16. */
interface VendorClass {
  /** IANA's number of the enterprise whose words the data are. */
  readonly enterprise: number;
  readonly data: readonly Uint8Array[];
}

const vendorClass: OptionCodec<VendorClass> = {
  read: (bytes) => {
    need(bytes, 4, 'a vendor class', true);
    return { enterprise: bytes.readUInt32BE(), data: dataList.read(bytes.subarray(4)) };
  },
  write: ({ enterprise, data }) => Buffer.concat([u32.write(enterprise), dataList.write(data)]),
};

/** A DUID has up to 128 bytes after its type. */
const duid = opaque(3, 130, 'a DUID');

/** Options of a message. */
export const messageOptions = {
  clientId: option(1, duid), // OPTION_CLIENTID
  serverId: option(2, duid), // OPTION_SERVERID
  iaNas: options(3, iaNa, 2), // OPTION_IA_NA: a client here has one
  requested: option(6, u16List), // OPTION_ORO
  preference: option(7, u8), // OPTION_PREFERENCE
  elapsed: option(8, u16), // OPTION_ELAPSED_TIME, 1/100 s
  status: option(13, status), // OPTION_STATUS_CODE
  rapidCommit: option(14, flag), // OPTION_RAPID_COMMIT
  userClass: option(15, dataList), // OPTION_USER_CLASS
  vendorClass: option(16, vendorClass), // OPTION_VENDOR_CLASS
  dnsServers: option(23, ipList), // OPTION_DNS_SERVERS, RFC 3646
  dnsSearch: option(24, nameList), // OPTION_DOMAIN_LIST, RFC 3646
  sntpServers: option(31, ipList), // OPTION_SNTP_SERVERS, RFC 4075
  refreshTime: option(32, u32), // OPTION_INFORMATION_REFRESH_TIME, seconds
  fqdn: option(39, clientFqdn), // OPTION_CLIENT_FQDN, RFC 4704
  ntp: option(56, ntp), // OPTION_NTP_SERVER, RFC 5908
  solMaxRt: option(82, u32), // OPTION_SOL_MAX_RT, seconds
  infMaxRt: option(83, u32), // OPTION_INF_MAX_RT, seconds
} as const;

/** What a message says besides its type and its transaction. */
export type MessageOptions = Options<typeof messageOptions> & {
  /** What a user wants sent besides; never of what is read. */
  readonly raw?: RawOptions | undefined;
};

/** A message of a client or a server. */
export type Message = MessageOptions & {
  readonly type: MessageType;
  /** 24 bits. */
  readonly xid: number;
};

/** The payload of a UDP datagram. */
export function encodeMessage({ type, xid, raw, ...rest }: Message): Buffer {
  const header = Buffer.alloc(4);
  header.writeUInt32BE(messageTypes[type] * 0x1000000 + xid);
  return Buffer.concat([header, encodeOptions(messageOptions, rest, raw)]);
}

/** @throws MalformedDhcp6 */
export function decodeMessage(bytes: Buffer): Message {
  if (bytes.length > maxMessageBytes) throw new MalformedDhcp6(`a message of ${bytes.length} bytes`);
  need(bytes, 4, 'a message', true);
  const type = typeOf.get(bytes.readUInt8());
  if (type === undefined) throw new MalformedDhcp6(`a message of type ${bytes.readUInt8()}`);
  return { type, xid: bytes.readUIntBE(1, 3), ...decodeOptions(messageOptions, bytes.subarray(4)) };
}
