/** Keeps the leases of all interfaces of a host: begins, resumes, checks and ends their clients. */
import type { Host } from '../apply/host.ts';
import type { Container } from '../containers/container.ts';
import { startTimeOf } from '../containers/proc.ts';
import { openContainerNetns } from '../containers/resolve.ts';
import { NetlinkSocket } from '../kernel/netlink/socket.ts';
import { formatCidr } from '../model/address.ts';
import type { Attachment } from '../model/attachment.ts';
import type { Lease, LeaseStatus } from '../model/lease.ts';
import type { Link } from '../model/link.ts';
import { formatNetwork } from '../observe/list.ts';
import type { Store } from '../store/store.ts';
import { hasLease } from './apply.ts';
import { clientFor, type LeaseTarget, leasedLink, leaseOnFile } from './held.ts';
import { type Dhcp4Client, leaseClock } from './v4/client.ts';

/** What is remembered of a lease beyond restarts of the container and of the host. */
interface RememberedLease {
  readonly network: string;
  readonly lease: Lease;
}

/** What a keeper works with. */
export interface KeeperParts {
  readonly host: Host;
  readonly store: Store;
  /** The lease of an attachment is another one, or in another state. `news` is for people: bound, lost. */
  onChange(key: string, news: string | undefined): void;
}

const rememberedPrefix = 'leases';
/** Milliseconds after its end that a lease is remembered: a server often still has the address for its former owner. */
const memoryMs = 7 * 24 * 3600 * 1000;

/** An attachment whose lease is kept. */
interface Kept {
  readonly target: LeaseTarget;
  /** By which it is told whether the same client can go on. */
  readonly life: string;
  readonly spec: string;
  readonly mac: string;
  readonly client: Dhcp4Client;
  hasCarrier: boolean;
  /** The address that was last told of. */
  told: string | undefined;
}

/** The leases of a host, by `web/eth1`. */
export class LeaseKeeper {
  readonly #parts: KeeperParts;
  readonly #kept = new Map<string, Kept>();
  /** Those that are about to begin; what stops them in between takes them out. */
  readonly #beginning = new Map<string, symbol>();

  constructor(parts: KeeperParts) {
    this.#parts = parts;
  }

  /**
   * The interface is there and is to have a lease: begins to get one, goes on with the one that it has, or puts right
   * what somebody changed. @throws PipewrightError NO_LEASE, CONTAINER_GONE
   */
  async attend(key: string, attachment: Attachment, container: Container): Promise<void> {
    using netns = openContainerNetns(container);
    using guest = NetlinkSocket.open(netns);
    const link = leasedLink(guest, attachment.ifname);
    const target = { host: this.#parts.host, container, attachment };
    const kept = this.#kept.get(key);
    if (!kept || kept.life !== lifeOf(container)) return this.#begin(key, target, link);
    if (kept.mac !== link.mac || kept.spec !== specOf(attachment))
      return this.#begin(key, target, link, true);
    const { lease } = kept.client.status();
    const cameUp = link.carrier && !kept.hasCarrier;
    kept.hasCarrier = link.carrier;
    if (cameUp) kept.client.linkup();
    else if (lease && !hasLease(guest, attachment.ifname, lease)) kept.client.rebind();
  }

  /** @param verify who the interface is has changed: the server is to hear of it */
  async #begin(key: string, target: LeaseTarget, link: Link, verify = false): Promise<void> {
    this.#stop(key);
    const { container, attachment } = target;
    const onFile = leaseOnFile(target);
    const token = Symbol(key);
    this.#beginning.set(key, token);
    const remembered = onFile.held?.lease ?? (await this.#recall(key, attachment)) ?? onFile.remembered;
    if (this.#beginning.get(key) !== token) return;
    this.#beginning.delete(key);
    const client = clientFor(target, link, {
      bound: (lease) => this.#bound(key, attachment, lease),
      lost: (lease, reason) => this.#lost(key, lease, reason),
      changed: () => this.#parts.onChange(key, undefined),
    });
    const kept: Kept = {
      target,
      life: lifeOf(container),
      spec: specOf(attachment),
      mac: link.mac,
      client,
      hasCarrier: link.carrier,
      told: undefined,
    };
    this.#kept.set(key, kept);
    if (onFile.held) client.resume(onFile.held.lease);
    else client.start(remembered);
    if (verify) client.linkup();
  }

  async #recall(key: string, { network }: Attachment): Promise<Lease | undefined> {
    const stored = await this.#parts.store.read<RememberedLease>(storeKey(key));
    return stored?.value.network === formatNetwork(network) ? stored.value.lease : undefined;
  }

  #bound(key: string, { network }: Attachment, lease: Lease): void {
    void this.#remember(key, { network: formatNetwork(network), lease });
    const kept = this.#kept.get(key);
    const text = textOf(lease);
    if (!kept || kept.told === text) return;
    kept.told = text;
    this.#parts.onChange(key, text);
  }

  #lost(key: string, lease: Lease, reason: string): void {
    const kept = this.#kept.get(key);
    if (kept) kept.told = undefined;
    this.#parts.onChange(
      key,
      `${lease.addresses.map(({ cidr }) => formatCidr(cidr)).join(', ')} is gone: ${reason}`,
    );
  }

  async #remember(key: string, value: RememberedLease | undefined): Promise<void> {
    const { store } = this.#parts;
    try {
      const present = await store.read<RememberedLease>(storeKey(key));
      if (present || value) await store.compareAndSet(storeKey(key), value, present?.version);
    } catch {
      // The store tells of it in its problems; the lease itself is as good.
    }
  }

  /** How the leases of an attachment are doing; undefined when it has none to keep. */
  status(key: string): readonly LeaseStatus[] | undefined {
    const kept = this.#kept.get(key);
    return kept && [kept.client.status()];
  }

  /** Ends the clients of containers that run no more. Their leases are remembered. */
  prune(): void {
    for (const [key, { target }] of this.#kept) {
      const { pid, startTime } = target.container;
      if (pid !== undefined && startTimeOf(pid) !== startTime) this.#stop(key);
    }
  }

  /** The attachment is wanted no more: its client ends, and nothing is remembered. Whoever detaches gives the lease back. */
  async drop(key: string): Promise<void> {
    this.#stop(key);
    await this.#remember(key, undefined);
  }

  #stop(key: string): void {
    this.#kept.get(key)?.client.stop();
    this.#kept.delete(key);
    this.#beginning.delete(key);
  }

  /** Forgets leases that ended long ago. */
  async forgetOld(): Promise<void> {
    const { store } = this.#parts;
    for (const { key, value, version } of await store.list<RememberedLease>(rememberedPrefix)) {
      const { expiresAt = Number.POSITIVE_INFINITY } = value.lease;
      if (expiresAt + memoryMs < leaseClock()) await store.compareAndSet(key, undefined, version);
    }
  }

  /** Ends all clients; the interfaces stay as they are, and the next keeper goes on with their leases. */
  close(): void {
    for (const key of this.#kept.keys()) this.#stop(key);
  }
}

/** `web/eth1` would be a folder. */
const storeKey = (key: string): string => `${rememberedPrefix}/${key.replace('/', ' ')}`;

const lifeOf = ({ pid, startTime }: Container): string => `${pid}:${startTime}`;

const specOf = ({ dhcp, network, mtu }: Attachment): string => JSON.stringify([dhcp, network, mtu]);

/** For people: `10.0.0.9/24 from 10.0.0.1`. */
export function textOf({ addresses, server }: Lease): string {
  return `${addresses.map(({ cidr }) => formatCidr(cidr)).join(', ')} from ${server}`;
}
