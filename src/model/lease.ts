/** What a DHCP server (of either family) has given an interface, and what is asked of it: plain data, as JSON. */
import type { Cidr, Family } from './address.ts';
import type { RouteSpec } from './attachment.ts';

/** What a user can say to the DHCP servers of an interface. What is absent is made from the container's name. */
export interface DhcpSpec {
  /** Option 12, and with 81 for the name service; by default the container's name. Empty: none is sent. */
  readonly hostName?: string;
  /** Option 61 as bytes in hexadecimal, its type first; by default one that is stable for container and interface. */
  readonly clientId?: string;
  /** Option 60. */
  readonly vendorClass?: string;
  /** Option 77, each of at most 255 bytes (RFC 3004). */
  readonly userClasses?: readonly string[];
  /** The address to ask for when none is remembered, option 50. */
  readonly requestAddress?: string;
  /** Options by their number, as bytes in hexadecimal: they go before what is sent otherwise. */
  readonly options?: Readonly<Record<string, string>>;
  /** No default route by this interface, whatever the server says. */
  readonly noGateway?: boolean;
}

/** The same for DHCPv6 servers. */
export interface Dhcp6Spec {
  /** Option 39; by default the container's name. Empty: none is sent. */
  readonly hostName?: string;
  /** Option 1 as bytes in hexadecimal; by default one that is stable for the container. */
  readonly duid?: string;
  /** Option 16, and the number of the enterprise whose words these are; by default 0, nobody's. */
  readonly vendorClass?: string;
  readonly enterprise?: number;
  /** Option 15. */
  readonly userClasses?: readonly string[];
  /** The address to ask for when none is remembered. */
  readonly requestAddress?: string;
  /** Options by their number, as bytes in hexadecimal: they go before what is sent otherwise. */
  readonly options?: Readonly<Record<string, string>>;
}

/** An address of a lease. Times are milliseconds since 1970; absent: for ever. */
export interface LeasedAddress {
  readonly cidr: Cidr;
  readonly validUntil?: number;
  readonly preferredUntil?: number;
}

/** What a server has given. Times are milliseconds since 1970; absent: never. */
export interface Lease {
  readonly family: Family;
  readonly addresses: readonly LeasedAddress[];
  /** IPv4: the server identifier, its address. IPv6: its DUID in hexadecimal. */
  readonly server: string;
  /** IPv4 only. */
  readonly broadcast?: string;
  /** `0.0.0.0/0` and `::/0` are default routes. A route without a gateway is directly connected. */
  readonly routes: readonly RouteSpec[];
  /** Bytes. */
  readonly mtu?: number;
  readonly dns: readonly string[];
  /** Domains to search, the first being the interface's own. */
  readonly search: readonly string[];
  readonly ntp: readonly string[];
  /** IPv4 only: option 43, whose meaning is the vendor's, as bytes in hexadecimal. */
  readonly vendorSpecific?: string;
  /** When it was granted or last renewed. */
  readonly since: number;
  /** T1 and T2: when it is renewed with its server, and with any. */
  readonly renewAt?: number;
  readonly rebindAt?: number;
  readonly expiresAt?: number;
}

/** How the lease of one family is doing, for `status`. */
export interface LeaseStatus {
  readonly family: Family;
  /** In the words of RFC 2131: INIT, SELECTING, REQUESTING, REBOOTING, BOUND, RENEWING, REBINDING. */
  readonly state: string;
  readonly lease?: Lease;
  /** Why there is none, or why the last one went. */
  readonly reason?: string;
}
