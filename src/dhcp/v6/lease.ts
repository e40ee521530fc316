/** How a server's Reply becomes a lease, RFC 8415 section 18.2.10. Pure; times in milliseconds since 1970. */
import type { Lease, LeasedAddress } from '../../model/lease.ts';
import { type IaAddr, type IaNa, type Message, statusCodes } from './message.ts';

/** 0xffffffff seconds: no end. */
const forEver = 0xffffffff;

/** What a server says of the network besides addresses. */
type Dhcp6Config = Pick<Lease, 'dns' | 'search' | 'ntp'>;

/** DNS and NTP of an answer; the older SNTP option counts where the other is missing. */
export function configOf({ dnsServers = [], dnsSearch = [], ntp, sntpServers = [] }: Message): Dhcp6Config {
  const named = [...(ntp?.servers ?? []), ...(ntp?.names ?? []).filter(Boolean)];
  return { dns: dnsServers, search: dnsSearch, ntp: named.length > 0 ? named : sntpServers };
}

/** The IA of a message that is ours and makes sense: 0 <= T1 <= T2 (section 21.4). */
export function iaOf({ iaNas = [] }: Message, iaid: number): IaNa | undefined {
  return iaNas.find((ia) => ia.iaid === iaid && !(ia.t2 !== 0 && ia.t1 > ia.t2));
}

/** Why a server gives no addresses, in its own words; undefined when it does not say that. */
export function refusalOf(
  message: Message,
  ia: IaNa | undefined,
): { code: number; text: string } | undefined {
  for (const status of [message.status, ia?.status]) {
    if (status === undefined || status.code === statusCodes.success) continue;
    const { code } = status;
    const [name = `status ${code}`] = Object.entries(statusCodes).find(([, value]) => value === code) ?? [];
    return { code, text: status.message === '' ? name : `${name}: ${status.message}` };
  }
  return undefined;
}

/** Whether an answer gives addresses that can be used. */
export function hasAddrs(ia: IaNa | undefined): ia is IaNa {
  return namesAddrs(ia) && (ia.addrs ?? []).some((addr) => isUsable(addr) && addr.valid > 0);
}

/** Whether it says anything of addresses, and be it that they are over. */
export function namesAddrs(ia: IaNa | undefined): ia is IaNa {
  return ia?.addrs?.some(isUsable) ?? false;
}

function isUsable({ ip, preferred, valid }: IaAddr): boolean {
  // Nothing that a server could give: multicast, link-local, loopback, the unspecified address.
  return preferred <= valid && !/^(ff|fe[89ab])/.test(ip) && ip !== '::' && ip !== '::1';
}

/** The lease after an answer: what it names anew, the rest of `former` as it was; undefined when nothing is left. */
export function leaseFrom(
  { message, ia }: { readonly message: Message; readonly ia: IaNa },
  former: Lease | undefined,
  now: number,
): Lease | undefined {
  const named = (ia.addrs ?? []).filter(isUsable);
  const fresh = named.filter(({ valid }) => valid > 0).map((addr) => addressFrom(addr, now));
  const kept = (former?.addresses ?? []).filter(
    (one) => endOfAddress(one) > now && !named.some(({ ip }) => ip === one.cidr.ip),
  );
  const addresses = [...fresh, ...kept];
  if (addresses.length === 0 || message.serverId === undefined) return undefined;
  const ends = addresses.map(endOfAddress);
  return {
    family: 6,
    addresses,
    server: Buffer.from(message.serverId).toString('hex'),
    routes: [],
    ...configOf(message),
    since: now,
    ...renewalTimes(ia, addresses, now),
    ...at('expiresAt', Math.max(...ends)),
  };
}

/** A time that is never is left out. */
function at<K extends string>(key: K, time: number): { readonly [k in K]?: number } {
  return (time === Number.POSITIVE_INFINITY ? {} : { [key]: time }) as { readonly [k in K]?: number };
}

/** RFC 8415 says nothing of a prefix: who else is on the link is told by routers, so it is /128 (RFC 5942). */
function addressFrom({ ip, preferred, valid }: IaAddr, now: number): LeasedAddress {
  const until = (seconds: number): number =>
    seconds === forEver ? Number.POSITIVE_INFINITY : now + seconds * 1000;
  return {
    cidr: { family: 6, ip, prefixLen: 128 },
    ...at('validUntil', until(valid)),
    ...at('preferredUntil', until(preferred)),
  };
}

/** T1 and T2; where the server leaves them to us 0.5 and 0.8 of the shortest preferred lifetime (section 21.4). */
function renewalTimes(
  ia: IaNa,
  addresses: readonly LeasedAddress[],
  now: number,
): Pick<Lease, 'renewAt' | 'rebindAt'> {
  const preferred = addresses
    .map(({ preferredUntil = Number.POSITIVE_INFINITY }) => preferredUntil - now)
    .filter((ms) => ms > 0);
  const valid = Math.min(...addresses.map(endOfAddress)) - now;
  const shortest = Math.min(valid, ...preferred);
  const given = (seconds: number): number | undefined => {
    if (seconds === forEver) return Number.POSITIVE_INFINITY;
    // A time that comes when all is over is none.
    return seconds === 0 || seconds * 1000 >= valid ? undefined : seconds * 1000;
  };
  const t1 = given(ia.t1);
  const t2 = given(ia.t2) ?? Math.max(0.8 * shortest, t1 ?? 0);
  const renewIn = t1 ?? Math.max(1000, Math.min(0.5 * shortest, t2));
  return { ...at('renewAt', now + renewIn), ...at('rebindAt', now + Math.max(t2, renewIn)) };
}

/** Infinity: never. */
export function endOfAddress({ validUntil = Number.POSITIVE_INFINITY }: LeasedAddress): number {
  return validUntil;
}

/** The addresses of a lease as text. */
export function ipsOf({ addresses }: Lease): string[] {
  return addresses.map(({ cidr }) => cidr.ip);
}

/** T1, T2 and the end as numbers; Infinity: never. */
export function timesOf({
  renewAt,
  rebindAt,
  expiresAt,
}: Lease): Record<'renewAt' | 'rebindAt' | 'expiresAt', number> {
  const never = Number.POSITIVE_INFINITY;
  return { renewAt: renewAt ?? never, rebindAt: rebindAt ?? never, expiresAt: expiresAt ?? never };
}
