/** Leases for an interface that a command makes, without anybody who renews them. */
import type { Host } from '../apply/host.ts';
import type { Container } from '../containers/container.ts';
import { PipewrightError } from '../errors.ts';
import type { NetlinkSocket } from '../kernel/netlink/socket.ts';
import { type Family, formatCidr } from '../model/address.ts';
import { type Attachment, leasedFamilies } from '../model/attachment.ts';
import type { Lease } from '../model/lease.ts';
import type { Link } from '../model/link.ts';
import { hasLease } from './apply.ts';
import {
  clientFor,
  type LeaseEvents,
  type LeaseTarget,
  leasedLink,
  leaseOnFile,
  releaseHeld,
} from './held.ts';
import { clientFor6, releaseHeld6 } from './held6.ts';
import { leaseClock } from './v4/client.ts';
import { interfaceIn } from './v6/interface.ts';

/** Milliseconds that a command waits: three DISCOVERs (at 0, 4 and 12 s), and the answer to the last. */
const patienceMs = 16_000;
/** Likewise where routers say whether there is something to be had: two of the kernel's solicitations. */
const routerPatienceMs = 8_000;
/** Milliseconds between looks at whether the addresses of a DHCPv6 lease are past duplicate address detection. */
const lookMs = 50;

/**
 * Gets a lease of each family that is asked for and puts it on the interface, which is up. Of IPv6 there is none where
 * routers say so. @throws PipewrightError NO_LEASE; then nothing of them is there
 */
export async function leaseOnce(
  host: Host,
  container: Container,
  attachment: Attachment,
  guest: NetlinkSocket,
): Promise<Lease[]> {
  const target = { host, container, attachment };
  const link = leasedLink(guest, attachment.ifname);
  const families = leasedFamilies(attachment);
  const asked = families.map((family) => (family === 4 ? once4(target, link) : once6(target, link)));
  const outcomes = await Promise.allSettled(asked);
  const failed = outcomes.find((outcome) => outcome.status === 'rejected');
  if (!failed) return outcomes.flatMap((outcome) => ('value' in outcome && outcome.value) || []);
  for (const [at, outcome] of outcomes.entries()) {
    if (outcome.status === 'rejected' || !outcome.value) continue;
    const give = families[at] === 4 ? releaseHeld : releaseHeld6;
    give(host, container, attachment.ifname, guest);
  }
  throw failed.reason;
}

/** A promise, and what ends its waiting. */
interface Waiting<T> {
  readonly promise: Promise<T>;
  readonly resolve: (value: T) => void;
  readonly reject: (why: unknown) => void;
}

function waiting<T>(): Waiting<T> {
  let resolve: Waiting<T>['resolve'] = () => {};
  let reject: Waiting<T>['reject'] = () => {};
  const promise = new Promise<T>((onValue, onFailure) => {
    resolve = onValue;
    reject = onFailure;
  });
  return { promise, resolve, reject };
}

/** Its name servers are where they are to be, or cannot be: the process may end after that. */
function namesOf({ attachment }: LeaseTarget): { readonly done: Promise<unknown>; readonly on: LeaseEvents } {
  const { promise, resolve } = waiting<unknown>();
  if (attachment.dns !== 'container') resolve(undefined);
  return { done: promise, on: { names: resolve, changed: () => {} } };
}

async function once4(target: LeaseTarget, link: Link): Promise<Lease> {
  const { held, remembered = held?.lease } = leaseOnFile(target);
  const names = namesOf(target);
  const { promise, resolve, reject } = waiting<Lease>();
  const client = clientFor(target, link, { ...names.on, bound: resolve });
  const timer = setTimeout(() => reject(noLease(target, 4, client.status().reason)), patienceMs);
  try {
    client.start(remembered);
    const lease = await promise;
    await names.done;
    return lease;
  } finally {
    clearTimeout(timer);
    client.stop();
  }
}

/** Undefined: routers say that there is nothing, or there are none and they are to decide. */
async function once6(target: LeaseTarget, link: Link): Promise<Lease | undefined> {
  const { held, remembered = held?.lease } = leaseOnFile(target, 6);
  const isAsTold = target.attachment.ipv6?.mode === 'auto';
  const names = namesOf(target);
  const { promise, resolve, reject } = waiting<Lease | undefined>();
  const client = clientFor6(target, link.mac, names.on);
  const giveUp = (): void => {
    const { lease, reason } = client.status();
    if (isAsTold && !lease) resolve(undefined);
    else reject(noLease(target, 6, reason));
  };
  const timer = setTimeout(giveUp, isAsTold ? routerPatienceMs : patienceMs);
  const look = setInterval(() => client.isSettled && resolve(client.status().lease), lookMs);
  try {
    client.start(remembered);
    const lease = await promise;
    if (lease) await names.done;
    return lease;
  } finally {
    clearTimeout(timer);
    clearInterval(look);
    client.stop();
  }
}

/** Whether the interface has the leases that are asked for, none of them over. */
export function hasLeasesNow(
  host: Host,
  container: Container,
  attachment: Attachment,
  guest: NetlinkSocket,
): boolean {
  return leasedFamilies(attachment).every((family) => {
    const { held } = leaseOnFile({ host, container, attachment }, family);
    if (held === undefined && family === 6 && attachment.ipv6?.mode === 'auto')
      return !interfaceIn(guest, attachment.ifname).router.managed;
    const { expiresAt = Number.POSITIVE_INFINITY } = held?.lease ?? {};
    return held !== undefined && expiresAt > leaseClock() && hasLease(guest, attachment.ifname, held.lease);
  });
}

function noLease(
  { attachment: { ifname }, container: { name } }: LeaseTarget,
  family: Family,
  reason: string | undefined,
): PipewrightError {
  const [what, ports] = family === 4 ? ['DHCP', 'port 67 or port 68'] : ['DHCPv6', 'port 546 or port 547'];
  return new PipewrightError('NO_LEASE', {
    op: 'dhcp',
    subject: `${ifname} in ${name}`,
    detail: reason ?? `no ${what} server answers`,
    hint: `is there a ${what} server on that network? see what passes: tcpdump -ni BRIDGE_OR_NIC ${ports}`,
  });
}

/**
 * What whoever asked for the leases should know; undefined when nothing has an end.
 * @param how else they can be renewed: `, or --stay`
 */
export function renewalNote(leases: readonly Lease[], ifname: string, how = ''): string | undefined {
  const said = leases.flatMap(({ addresses, expiresAt }) => {
    const until = expiresAt === undefined ? 'for ever' : `until ${new Date(expiresAt).toISOString()}`;
    return addresses.length > 0
      ? [`${addresses.map(({ cidr }) => formatCidr(cidr)).join(', ')} ${until}`]
      : [];
  });
  if (said.length === 0) return undefined;
  return `${ifname} has ${said.join(', ')}; renewal needs the agent (pipewright agent)${how}`;
}
