/** An OFFER or ACK -> the lease that it offers or grants. Pure. */
import { bytesToIp, type Cidr, ipToBytes, whyNoHost } from '../../model/address.ts';
import type { RouteSpec } from '../../model/attachment.ts';
import type { Lease } from '../../model/lease.ts';
import type { DhcpMessage } from './message.ts';
import type { DhcpOptions } from './options.ts';

/** Option 51: for ever. */
const forEver = 0xffffffff;
/** Below, IPv4 need not work (RFC 791), and some servers send nonsense. */
const leastMtu = 576;

/**
 * What a server offers or grants; undefined when it is no lease that an interface could have.
 * @param now milliseconds since 1970 at which it was asked for: a lease begins no later
 */
export function leaseOf(
  { yiaddr, options }: Pick<DhcpMessage, 'yiaddr' | 'options'>,
  { noGateway }: { readonly noGateway?: boolean },
  now: number,
): Lease | undefined {
  const { serverId, leaseTime } = options;
  if (serverId === undefined || leaseTime === undefined || leaseTime === 0 || !isHost(yiaddr))
    return undefined;
  const cidr: Cidr = { family: 4, ip: yiaddr, prefixLen: prefixLenOf(options.subnetMask, yiaddr) };
  const times = timesOf(options, leaseTime, now);
  const until =
    times.expiresAt === undefined ? {} : { validUntil: times.expiresAt, preferredUntil: times.expiresAt };
  const { mtu, broadcast, vendorSpecific } = options;
  return {
    family: 4,
    addresses: [{ cidr, ...until }],
    server: serverId,
    ...(broadcast !== undefined && broadcast !== '0.0.0.0' && { broadcast }),
    routes: routesOf(options, yiaddr).filter(({ dst }) => !(noGateway && dst.prefixLen === 0)),
    ...(mtu !== undefined && mtu >= leastMtu && { mtu }),
    dns: (options.dns ?? []).filter(isHost),
    search: options.searchDomains ?? (options.domainName ?? '').split(/\s+/).filter(Boolean),
    ntp: (options.ntp ?? []).filter(isHost),
    ...(vendorSpecific?.length && { vendorSpecific: Buffer.from(vendorSpecific).toString('hex') }),
    since: now,
    ...times,
  };
}

function isHost(ip: string): boolean {
  const [first = 0] = ipToBytes(ip);
  return first !== 0 && first !== 127 && whyNoHost({ family: 4, ip }) === undefined;
}

/** Of a mask with a hole, or none, the length is that of the address' class (RFC 950). */
function prefixLenOf(mask: string | undefined, ip: string): number {
  if (mask !== undefined) {
    const bits = [...ipToBytes(mask)].map((byte) => byte.toString(2).padStart(8, '0')).join('');
    if (/^1+0*$/.test(bits)) return bits.lastIndexOf('1') + 1;
  }
  const [first = 0] = ipToBytes(ip);
  return first < 128 ? 8 : first < 192 ? 16 : 24;
}

/** RFC 3442: where option 121 is there, option 3 says nothing. Of several routers the first is the preferred one. */
function routesOf({ classlessRoutes, routers }: DhcpOptions, own: string): RouteSpec[] {
  const defaultDst: Cidr = { family: 4, ip: bytesToIp(new Uint8Array(4)), prefixLen: 0 };
  const said =
    classlessRoutes ??
    (routers ?? [])
      .filter(isHost)
      .slice(0, 1)
      .map((gateway) => ({ dst: defaultDst, gateway }));
  return said
    .filter(({ gateway }) => gateway !== own)
    .map(({ dst, gateway }) => (gateway === '0.0.0.0' ? { dst } : { dst, gateway }));
}

/** T1 and T2 as the server says them, where they can be; else a half and seven eighths (RFC 2131, 4.4.5). */
function timesOf(
  { renewalTime, rebindingTime }: DhcpOptions,
  leaseTime: number,
  now: number,
): Pick<Lease, 'renewAt' | 'rebindAt' | 'expiresAt'> {
  if (leaseTime === forEver) return {};
  const t2 = rebindingTime !== undefined && rebindingTime > 0 && rebindingTime < leaseTime;
  const rebind = t2 ? rebindingTime : leaseTime * 0.875;
  const t1 = renewalTime !== undefined && renewalTime > 0 && renewalTime < rebind;
  const renew = t1 ? renewalTime : Math.min(leaseTime * 0.5, rebind);
  return {
    renewAt: now + 1000 * renew,
    rebindAt: now + 1000 * rebind,
    expiresAt: now + 1000 * leaseTime,
  };
}
