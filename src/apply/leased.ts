/** Connects a container whose addresses come by DHCP, where nobody keeps leases yet: each is got once. */
import type { Container } from '../containers/container.ts';
import { openContainerNetns } from '../containers/resolve.ts';
import { NetlinkSocket } from '../kernel/netlink/socket.ts';
import type { Family } from '../model/address.ts';
import { type Attachment, leasedFamilies } from '../model/attachment.ts';
import type { Lease } from '../model/lease.ts';
import { type AttachOptions, type AttachResult, attach } from './attach.ts';
import type { Host } from './host.ts';
import { containerKey } from './state.ts';

/**
 * When leases are got: `never`, for an interface that is made or changed (`made`), or whenever one is missing or over
 * (`missing`).
 */
export type GetLeases = 'never' | 'made' | 'missing';

/** What was done, and the leases that were got on the way. */
export interface LeasedResult extends AttachResult {
  readonly leases: readonly Lease[];
}

type LeasedOptions = AttachOptions & { readonly get: GetLeases };

/**
 * As {@link attach}, and the interface has its leases then, and the container's resolv.conf their name servers or not, as is
 * wanted. @throws PipewrightError NO_LEASE, DNS_REFUSED as well
 */
export async function attachLeased(
  host: Host,
  container: Container,
  want: Attachment,
  options: LeasedOptions,
): Promise<LeasedResult> {
  // By the note, which says what was wanted so far.
  const served = familiesServedAnew(host, container, want);
  const result = await withLeases(host, container, want, options);
  if (served.length === 0) return result;
  if (!options.dryRun) await serveNames(host, container, want, served);
  const because = want.dns ? 'dns: container is asked for' : 'dns: container is asked for no more';
  const command = `resolv.conf of ${container.name}: name servers of ${want.ifname}`;
  return { ...result, steps: [...result.steps, { command, because }] };
}

/** Families of leases that stay, whose name servers are wanted in the container's file by now, or no more. */
function familiesServedAnew(host: Host, container: Container, want: Attachment): Family[] {
  const { ifname, dns } = want;
  const key = containerKey(container);
  const record = host.state.record(key, ifname);
  if (!record?.want || record.want.dns === dns) return [];
  const { pid, startTime } = record.container;
  if (pid !== container.pid || startTime !== container.startTime) return [];
  return leasedFamilies(want).filter((family) => host.state.lease(key, ifname, family) !== undefined);
}

async function serveNames(
  host: Host,
  container: Container,
  { ifname, dns }: Attachment,
  families: readonly Family[],
): Promise<void> {
  const { offerDns } = await import('../dhcp/dns/offers.ts');
  for (const family of families) {
    const held = host.state.lease(containerKey(container), ifname, family);
    await offerDns(container, `${ifname}/${family}`, dns ? held?.lease : undefined);
  }
}

async function withLeases(
  host: Host,
  container: Container,
  want: Attachment,
  { get, ...options }: LeasedOptions,
): Promise<LeasedResult> {
  if (get === 'never' || options.dryRun || leasedFamilies(want).length === 0) {
    const result = await attach(host, container, want, options);
    if (get === 'never') return { ...result, leases: [] };
    const dropped = await dropLeases(host, container, want, options.dryRun ?? false);
    return { ...result, steps: [...result.steps, ...dropped], leases: [] };
  }
  const { hasLeasesNow, leaseOnce } = await import('../dhcp/once.ts');
  const leases: Lease[] = [];
  const beforeCommit = async (guest: NetlinkSocket): Promise<void> => {
    if (hasLeasesNow(host, container, want, guest)) return;
    options.onWait?.();
    leases.push(...(await leaseOnce(host, container, want, guest)));
  };
  const made = await attach(host, container, want, { ...options, beforeCommit });
  const result = { ...made, steps: [...made.steps, ...(await dropLeases(host, container, want, false))] };
  if (result.steps.length > 0) return { ...result, leases };
  using netns = openContainerNetns(container);
  using guest = NetlinkSocket.open(netns);
  if (hasLeasesNow(host, container, want, guest)) return { ...result, leases };
  if (get === 'missing') await beforeCommit(guest);
  return { ...result, steps: [{ command: `DHCP on ${want.ifname}`, because: 'it has no lease' }], leases };
}

/** The families of which an interface has a lease that is asked for no more. */
export function surplusLeases(host: Host, container: Container, want: Attachment): Family[] {
  const wanted = leasedFamilies(want);
  const key = containerKey(container);
  return ([4, 6] as const).filter(
    (family) => !wanted.includes(family) && host.state.hasLease(key, want.ifname, family),
  );
}

/** What was leased and is asked for no more goes back to its server. */
async function dropLeases(
  host: Host,
  container: Container,
  want: Attachment,
  dryRun: boolean,
): Promise<AttachResult['steps']> {
  const surplus = surplusLeases(host, container, want);
  if (surplus.length > 0 && !dryRun) {
    const { dropLease } = await import('../dhcp/drop.ts');
    using netns = openContainerNetns(container);
    using guest = NetlinkSocket.open(netns);
    for (const family of surplus) await dropLease({ host, container, attachment: want }, family, guest);
  }
  return surplus.map((family) => ({
    command: `${family === 4 ? 'DHCP' : 'DHCPv6'} release on ${want.ifname}`,
    because: 'a lease is asked for no more',
  }));
}
