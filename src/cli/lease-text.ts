/** A lease in words: `10.0.0.9/24 from 10.0.0.1, 43 min left, T1 in 13 min, T2 in 36 min`. */
import { formatCidr } from '../model/address.ts';
import type { Lease, LeaseStatus } from '../model/lease.ts';

/** @param now milliseconds since 1970 */
export function leaseText({ state, lease, reason }: LeaseStatus, now: number): string {
  if (!lease) return [`DHCP ${state}`, reason].filter(Boolean).join(': ');
  const { addresses, server, renewAt, rebindAt, expiresAt } = lease;
  const what = `${addresses.map(({ cidr }) => formatCidr(cidr)).join(', ') || 'name servers'} from ${server}`;
  const times = [
    expiresAt === undefined ? 'for ever' : `${duration(expiresAt - now)} left`,
    ...(renewAt === undefined ? [] : [due('T1', renewAt - now)]),
    ...(rebindAt === undefined ? [] : [due('T2', rebindAt - now)]),
  ];
  const offers = Object.entries({
    'name servers': lease.dns,
    search: lease.search,
    'time servers': lease.ntp,
    'vendor options': vendorOptions(lease),
  })
    .filter(([, given]) => given.length > 0)
    .map(([name, given]) => `${name} ${given.join(' ')}`);
  const phase = state === 'BOUND' ? [] : [state];
  return [what, ...times, ...phase, ...(reason === undefined ? [] : [reason]), ...offers].join(', ');
}

const due = (what: string, ms: number): string => (ms < 0 ? `${what} is over` : `${what} in ${duration(ms)}`);

/** Hexadecimal digits of option 43 that a line has room for; `status --json` has all. */
const mostDigits = 64;

function vendorOptions({ vendorSpecific: hex }: Lease): string[] {
  if (hex === undefined) return [];
  const shown = hex.slice(0, mostDigits).replace(/..(?!$)/g, '$&:');
  return [hex.length > mostDigits ? `${shown}...` : shown];
}

function duration(ms: number): string {
  const seconds = Math.max(0, Math.round(ms / 1000));
  if (seconds < 120) return `${seconds} s`;
  if (seconds < 7200) return `${Math.round(seconds / 60)} min`;
  return seconds < 172_800 ? `${Math.round(seconds / 3600)} h` : `${Math.round(seconds / 86_400)} d`;
}
