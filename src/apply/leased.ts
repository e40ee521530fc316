/** Connects a container whose addresses come by DHCP, where nobody keeps leases yet: each is got once. */
import type { Container } from '../containers/container.ts';
import { openContainerNetns } from '../containers/resolve.ts';
import { NetlinkSocket } from '../kernel/netlink/socket.ts';
import { type Attachment, leasedFamilies } from '../model/attachment.ts';
import type { Lease } from '../model/lease.ts';
import { type AttachOptions, type AttachResult, attach } from './attach.ts';
import type { Host } from './host.ts';

/**
 * When leases are got: `never`, for an interface that is made or changed (`made`), or whenever one is missing or over
 * (`missing`).
 */
export type GetLeases = 'never' | 'made' | 'missing';

/** What was done, and the leases that were got on the way. */
export interface LeasedResult extends AttachResult {
  readonly leases: readonly Lease[];
}

/** As {@link attach}, and the interface has its leases then. @throws PipewrightError NO_LEASE as well */
export async function attachLeased(
  host: Host,
  container: Container,
  want: Attachment,
  { get, ...options }: AttachOptions & { readonly get: GetLeases },
): Promise<LeasedResult> {
  if (get === 'never' || options.dryRun || leasedFamilies(want).length === 0)
    return { ...(await attach(host, container, want, options)), leases: [] };
  const { hasLeasesNow, leaseOnce } = await import('../dhcp/once.ts');
  const leases: Lease[] = [];
  const beforeCommit = async (guest: NetlinkSocket): Promise<void> => {
    if (hasLeasesNow(host, container, want, guest)) return;
    options.onWait?.();
    leases.push(...(await leaseOnce(host, container, want, guest)));
  };
  const result = await attach(host, container, want, { ...options, beforeCommit });
  if (result.steps.length > 0) return { ...result, leases };
  using netns = openContainerNetns(container);
  using guest = NetlinkSocket.open(netns);
  if (hasLeasesNow(host, container, want, guest)) return { ...result, leases };
  if (get === 'missing') await beforeCommit(guest);
  return { ...result, steps: [{ command: `DHCP on ${want.ifname}`, because: 'it has no lease' }], leases };
}
