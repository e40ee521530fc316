/** A lease for an interface that a command makes, without anybody who renews it. */
import type { Host } from '../apply/host.ts';
import type { Container } from '../containers/container.ts';
import { PipewrightError } from '../errors.ts';
import type { NetlinkSocket } from '../kernel/netlink/socket.ts';
import { formatCidr } from '../model/address.ts';
import type { Attachment } from '../model/attachment.ts';
import type { Lease } from '../model/lease.ts';
import { hasLease } from './apply.ts';
import { clientFor, leasedLink, leaseOnFile } from './held.ts';
import { type Dhcp4Client, leaseClock } from './v4/client.ts';

/** Milliseconds that a command waits: three DISCOVERs (at 0, 4 and 12 s), and the answer to the last. */
const patienceMs = 16_000;

/**
 * Gets a lease and puts it on the interface, which is up. @throws PipewrightError NO_LEASE; then nothing of it is there
 */
export async function leaseOnce(
  host: Host,
  container: Container,
  attachment: Attachment,
  guest: NetlinkSocket,
): Promise<Lease> {
  const target = { host, container, attachment };
  const link = leasedLink(guest, attachment.ifname);
  const { held, remembered = held?.lease, formerMac } = leaseOnFile(target);
  let timer: NodeJS.Timeout | undefined;
  let client: Dhcp4Client | undefined;
  try {
    return await new Promise<Lease>((resolve, reject) => {
      const begun = clientFor({ ...target, formerMac }, link, { bound: resolve, changed: () => {} });
      client = begun;
      const giveUp = (): void => reject(noLease(attachment.ifname, container, begun.status().reason));
      timer = setTimeout(giveUp, patienceMs);
      begun.start(remembered);
    });
  } finally {
    clearTimeout(timer);
    client?.stop();
  }
}

/** Whether the interface has a lease that is not over. */
export function hasLeaseNow(
  host: Host,
  container: Container,
  attachment: Attachment,
  guest: NetlinkSocket,
): boolean {
  const { held } = leaseOnFile({ host, container, attachment });
  const { expiresAt = Number.POSITIVE_INFINITY } = held?.lease ?? {};
  return held !== undefined && expiresAt > leaseClock() && hasLease(guest, attachment.ifname, held.lease);
}

function noLease(ifname: string, { name }: Container, reason = 'no DHCP server answers'): PipewrightError {
  return new PipewrightError('NO_LEASE', {
    op: 'dhcp',
    subject: `${ifname} in ${name}`,
    detail: reason,
    hint: 'is there a DHCP server on that network? see what passes: tcpdump -ni BRIDGE_OR_NIC port 67 or port 68',
  });
}

/** What whoever asked for the lease should know. */
export function renewalNote({ addresses, expiresAt }: Lease, ifname: string): string {
  const [address] = addresses;
  const until = expiresAt === undefined ? 'for ever' : `until ${new Date(expiresAt).toISOString()}`;
  return `${ifname} has ${address ? formatCidr(address.cidr) : ''} ${until}; renewal needs the agent (pipewright agent), or --stay`;
}
