/** The messages that a client sends: RFC 2131, table 5. Pure. */
import { type DhcpMessage, messageTypes } from './message.ts';
import { type DhcpOptions, optionTable } from './options.ts';

/** What a client says of itself in every message. */
export interface ClientIdentity {
  /** ARPHRD_*: 1 for Ethernet. */
  readonly htype: number;
  readonly chaddr: Uint8Array;
  readonly clientId: Uint8Array;
  /** Options 12 and 81; absent: none. */
  readonly hostName?: string;
  readonly vendorClass?: string;
  readonly userClasses?: readonly string[];
  /** Asked for when none is remembered. */
  readonly requestAddress?: string;
  /** Options by number, before all others. */
  readonly raw: Readonly<Record<number, Uint8Array>>;
  /** Answers to the client's own MAC address would go to another interface, so they are to be broadcast. */
  readonly broadcast: boolean;
  /** Bytes that an answer may have, IP header included: option 57. */
  readonly maxMessageSize: number;
  readonly noGateway?: boolean;
}

/** What is the same in all messages of an exchange. */
export interface ExchangeHeader {
  readonly identity: ClientIdentity;
  readonly xid: number;
  readonly secs: number;
}

/** RFC 4702: the server is to update the name service (S), and the name is in the form of RFC 1035 (E). */
const fqdnFlags = 0x01 | 0x04;

const { subnetMask, classlessRoutes, routers, dns, hostName, domainName, mtu, broadcast, ntp } = optionTable;
const { leaseTime, serverId, renewalTime, rebindingTime, fqdn, searchDomains, vendorSpecific } = optionTable;

/** Option 55. Classless routes come before routers, as RFC 3442 asks. */
const parameterList = Uint8Array.from(
  [
    ...[subnetMask, classlessRoutes, routers, dns, hostName, domainName, mtu, broadcast, ntp],
    ...[vendorSpecific, leaseTime, serverId, renewalTime, rebindingTime, fqdn, searchDomains],
  ].map(({ code }) => code),
);

/** Any message; of the identity only what all of them carry. */
export function messageOf(
  { identity, xid, secs }: ExchangeHeader,
  options: DhcpOptions,
  { ciaddr = '0.0.0.0' } = {},
): DhcpMessage {
  const clientId = identity.raw[optionTable.clientId.code] ?? identity.clientId;
  return {
    op: 1,
    htype: identity.htype,
    hops: 0,
    xid,
    secs,
    // With an address an answer finds its way.
    broadcast: identity.broadcast && ciaddr === '0.0.0.0',
    ciaddr,
    yiaddr: '0.0.0.0',
    siaddr: '0.0.0.0',
    giaddr: '0.0.0.0',
    chaddr: identity.chaddr,
    options: { clientId, ...options },
    raw: {},
  };
}

/** With all that the client has to say, and what it wants to hear. */
function asking(header: ExchangeHeader, options: DhcpOptions, ciaddr?: string): DhcpMessage {
  const { identity } = header;
  const { hostName: name, vendorClass, userClasses, maxMessageSize } = identity;
  const said: DhcpOptions = {
    ...options,
    ...(name && { hostName: name, fqdn: { flags: fqdnFlags, name } }),
    ...(vendorClass !== undefined && { vendorClass }),
    ...(userClasses?.length && { userClasses }),
    parameterList,
    maxMessageSize,
  };
  const message = messageOf(header, said, ciaddr === undefined ? {} : { ciaddr });
  return { ...message, raw: identity.raw };
}

/** DHCPDISCOVER, with the address that would be liked. */
export function discover(header: ExchangeHeader, requestedAddress: string | undefined): DhcpMessage {
  const wanted = requestedAddress === undefined ? {} : { requestedAddress };
  return asking(header, { messageType: messageTypes.discover, ...wanted });
}

/** DHCPREQUEST: with a server after its offer, with an address alone in INIT-REBOOT, with `ciaddr` to renew. */
export function request(
  header: ExchangeHeader,
  { ciaddr, ...asked }: { requestedAddress?: string; serverId?: string; ciaddr?: string },
): DhcpMessage {
  return asking(header, { messageType: messageTypes.request, ...asked }, ciaddr);
}
