/** Keeps the leases of all interfaces of a host: begins, resumes, checks and ends their clients. */
import type { Host } from '../apply/host.ts';
import { surplusLeases } from '../apply/leased.ts';
import { leasesPrefix } from '../apply/wanted.ts';
import type { Container } from '../containers/container.ts';
import { startTimeOf } from '../containers/proc.ts';
import { openContainerNetns } from '../containers/resolve.ts';
import { NetlinkSocket } from '../kernel/netlink/socket.ts';
import { type Family, formatCidr } from '../model/address.ts';
import { type Attachment, leasedFamilies } from '../model/attachment.ts';
import type { Lease, LeaseStatus } from '../model/lease.ts';
import type { Link } from '../model/link.ts';
import { formatNetwork } from '../observe/list.ts';
import type { Store } from '../store/store.ts';
import { hasLease } from './apply.ts';
import { offerDns } from './dns/offers.ts';
import { dropLease } from './drop.ts';
import {
  clientFor,
  formerMacs,
  type LeaseEvents,
  type LeaseTarget,
  leasedLink,
  leaseOnFile,
} from './held.ts';
import { clientFor6 } from './held6.ts';
import { leaseClock } from './v4/client.ts';

/** What is remembered of a lease beyond restarts of the container and of the host. */
interface RememberedLease {
  readonly network: string;
  readonly lease: Lease;
  /** MAC addresses of the interface, the latest first. */
  readonly macs?: readonly string[];
}

/** What a keeper works with. */
export interface KeeperParts {
  readonly host: Host;
  readonly store: Store;
  /** The lease of an attachment is another one, or in another state. `news` is for people: bound, lost. */
  onChange(key: string, news: string | undefined): void;
}

/** Milliseconds after its end that a lease is remembered: a server often still has the address for its former owner. */
const memoryMs = 7 * 24 * 3600 * 1000;

/** A client of either family. */
interface LeaseClient {
  start(remembered?: Lease): void;
  resume(lease: Lease): void;
  linkup(): void;
  rebind(): void;
  /** Takes the lease off the interface, gives it back and ends. */
  release(): void | Promise<void>;
  stop(): void;
  status(): LeaseStatus;
}

/** An attachment whose lease of one family is kept. */
interface Kept {
  readonly key: string;
  readonly target: LeaseTarget;
  /** By which it is told whether the same client can go on. */
  readonly life: string;
  readonly spec: string;
  readonly mac: string;
  readonly client: LeaseClient;
  hasCarrier: boolean;
  /** The address that was last told of. */
  told: string | undefined;
  /** Why the container's resolv.conf does not have the name servers. */
  namesTrouble: string | undefined;
}

/** `web/eth1 4`: the lease of an interface of one family. */
type Slot = `${string} ${Family}`;

const families = [4, 6] as const;
const slotsOf = (key: string): Slot[] => families.map((family): Slot => `${key} ${family}`);

/** The leases of a host. */
export class LeaseKeeper {
  readonly #parts: KeeperParts;
  readonly #kept = new Map<Slot, Kept>();
  /** Those that are about to begin; what stops them in between takes them out. */
  readonly #beginning = new Map<Slot, symbol>();
  /** The last write of what is remembered. */
  readonly #writes = new Map<Slot, Promise<void>>();

  constructor(parts: KeeperParts) {
    this.#parts = parts;
  }

  /**
   * The interface is there and is to have leases: begins to get them, goes on with those that it has, or puts right
   * what somebody changed. @throws PipewrightError NO_LEASE, CONTAINER_GONE
   */
  async attend(key: string, attachment: Attachment, container: Container): Promise<void> {
    using netns = openContainerNetns(container);
    using guest = NetlinkSocket.open(netns);
    const link = leasedLink(guest, attachment.ifname);
    const target = { host: this.#parts.host, container, attachment };
    const wanted = leasedFamilies(attachment);
    for (const family of families) {
      if (wanted.includes(family)) await this.#attendOne(key, family, { target, link, guest });
      else if (this.#kept.has(`${key} ${family}`)) await this.#dropOne(`${key} ${family}`);
      // Asked for no more while no agent ran.
      else if (surplusLeases(this.#parts.host, container, attachment).includes(family)) {
        await this.#remember(`${key} ${family}`, undefined);
        await dropLease(target, family, guest);
      }
    }
  }

  async #attendOne(
    key: string,
    family: Family,
    { target, link, guest }: { target: LeaseTarget; link: Link; guest: NetlinkSocket },
  ): Promise<void> {
    const { attachment, container } = target;
    const kept = this.#kept.get(`${key} ${family}`);
    if (!kept || kept.life !== lifeOf(container)) return this.#begin(key, family, target, link);
    if (kept.mac !== link.mac || kept.spec !== specOf(attachment)) {
      await this.#begin(key, family, target, link, true);
      if (kept.target.attachment.dns && !attachment.dns) {
        // A file that cannot be written has nothing of ours.
        await offerDns(container, `${attachment.ifname}/${family}`, undefined).catch(() => {});
      }
      return;
    }
    const { lease } = kept.client.status();
    const cameUp = link.carrier && !kept.hasCarrier;
    kept.hasCarrier = link.carrier;
    if (cameUp) kept.client.linkup();
    else if (lease && !hasLease(guest, attachment.ifname, lease)) kept.client.rebind();
  }

  /** @param verify who the interface is has changed: the server is to hear of it */
  async #begin(key: string, family: Family, target: LeaseTarget, link: Link, verify = false): Promise<void> {
    const slot: Slot = `${key} ${family}`;
    this.#stop(slot);
    const { container, attachment } = target;
    const onFile = leaseOnFile(target, family);
    const token = Symbol(slot);
    this.#beginning.set(slot, token);
    const recalled = await this.#recall(slot, attachment);
    const remembered = onFile.held?.lease ?? recalled?.lease ?? onFile.remembered;
    const macs = formerMacs(target, family, link.mac, recalled?.macs);
    if (this.#beginning.get(slot) !== token) return;
    this.#beginning.delete(slot);
    const events: LeaseEvents = {
      bound: (lease) => this.#bound(slot, attachment, lease, [link.mac, ...macs]),
      lost: (lease, reason) => this.#lost(slot, lease, reason, [link.mac, ...macs]),
      names: (trouble) => this.#named(slot, trouble),
      changed: () => this.#parts.onChange(key, undefined),
    };
    const client =
      family === 4 ? clientFor(target, link, events, macs) : clientFor6(target, link.mac, events, macs);
    const kept: Kept = {
      key,
      target,
      life: lifeOf(container),
      spec: specOf(attachment),
      mac: link.mac,
      client,
      hasCarrier: link.carrier,
      told: undefined,
      namesTrouble: undefined,
    };
    this.#kept.set(slot, kept);
    if (onFile.held) client.resume(onFile.held.lease);
    else client.start(remembered);
    if (verify) client.linkup();
  }

  async #recall(slot: Slot, { network }: Attachment): Promise<RememberedLease | undefined> {
    const stored = await this.#parts.store.read<RememberedLease>(storeKey(slot));
    return stored?.value.network === formatNetwork(network) ? stored.value : undefined;
  }

  #bound(slot: Slot, { network }: Attachment, lease: Lease, macs: readonly string[]): void {
    void this.#remember(slot, { network: formatNetwork(network), lease, macs });
    const kept = this.#kept.get(slot);
    const text = textOf(lease);
    if (!kept || kept.told === text) return;
    kept.told = text;
    this.#parts.onChange(kept.key, text);
  }

  #lost(slot: Slot, lease: Lease, reason: string, macs: readonly string[]): void {
    const kept = this.#kept.get(slot);
    if (!kept) return;
    kept.told = undefined;
    // What was refused or declined is not to be put on again by whoever comes next, but may be asked for.
    const expiresAt = Math.min(lease.expiresAt ?? Number.POSITIVE_INFINITY, leaseClock());
    const { network } = kept.target.attachment;
    void this.#remember(slot, { network: formatNetwork(network), lease: { ...lease, expiresAt }, macs });
    const what = lease.addresses.map(({ cidr }) => formatCidr(cidr)).join(', ') || 'what DHCPv6 said';
    this.#parts.onChange(kept.key, `${what} is gone: ${reason}`);
  }

  #named(slot: Slot, trouble: string | undefined): void {
    const kept = this.#kept.get(slot);
    if (!kept || kept.namesTrouble === trouble) return;
    kept.namesTrouble = trouble;
    this.#parts.onChange(kept.key, trouble);
  }

  /** Writes one after the other, so that the last one counts. */
  async #remember(slot: Slot, value: RememberedLease | undefined): Promise<void> {
    const before = this.#writes.get(slot);
    const write = (async () => {
      await before;
      await this.#write(slot, value);
    })();
    this.#writes.set(slot, write);
    await write;
    if (this.#writes.get(slot) === write) this.#writes.delete(slot);
  }

  async #write(slot: Slot, value: RememberedLease | undefined): Promise<void> {
    const { store } = this.#parts;
    try {
      const present = await store.read<RememberedLease>(storeKey(slot));
      if (present || value) await store.compareAndSet(storeKey(slot), value, present?.version);
    } catch {
      // The store tells of it in its problems; the lease itself is as good.
    }
  }

  /** How the leases of an attachment are doing; undefined when it has none to keep. */
  status(key: string): readonly LeaseStatus[] | undefined {
    const all = slotsOf(key).flatMap((slot) => {
      const kept = this.#kept.get(slot);
      if (!kept) return [];
      const status = kept.client.status();
      const reason = [status.reason, kept.namesTrouble].filter(Boolean).join('; ');
      return [{ ...status, ...(reason !== '' && { reason }) }];
    });
    return all.length > 0 ? all : undefined;
  }

  /** Why an attachment has not all that it is to have by DHCP; undefined when it has. */
  lacks(key: string): string | undefined {
    for (const slot of slotsOf(key)) {
      const kept = this.#kept.get(slot);
      // Where routers have the say, there may be nothing to be had.
      if (!kept || (slot.endsWith('6') && kept.target.attachment.ipv6?.mode === 'auto')) continue;
      const { lease, reason } = kept.client.status();
      const what = slot.endsWith('6') ? 'DHCPv6' : 'DHCP';
      if (!lease) return reason ?? `it is asking for a ${what} lease`;
    }
    return undefined;
  }

  /** Whether the interface has to do with leases: it is to have one, or has one that it is to have no more. */
  isConcerned(key: string, attachment: Attachment, container: Container): boolean {
    return (
      leasedFamilies(attachment).length > 0 ||
      slotsOf(key).some((slot) => this.#kept.has(slot)) ||
      surplusLeases(this.#parts.host, container, attachment).length > 0
    );
  }

  /** Ends the clients of containers that run no more. Their leases are remembered. */
  prune(): void {
    for (const [slot, { target }] of this.#kept) {
      const { pid, startTime } = target.container;
      if (pid !== undefined && startTimeOf(pid) !== startTime) this.#stop(slot);
    }
  }

  /** The attachment is wanted no more: its client ends, and nothing is remembered. Whoever detaches gives the lease back. */
  async drop(key: string): Promise<void> {
    for (const slot of slotsOf(key)) {
      this.#stop(slot);
      await this.#remember(slot, undefined);
    }
  }

  /** One family of two is wanted no more: the interface stays, so its client takes the lease off it. */
  async #dropOne(slot: Slot): Promise<void> {
    const kept = this.#kept.get(slot);
    this.#kept.delete(slot);
    await this.#remember(slot, undefined);
    // Nobody waits for the server to hear of it.
    void kept?.client.release();
  }

  #stop(slot: Slot): void {
    this.#kept.get(slot)?.client.stop();
    this.#kept.delete(slot);
    this.#beginning.delete(slot);
  }

  /** Forgets leases that ended long ago. */
  async forgetOld(): Promise<void> {
    const { store } = this.#parts;
    for (const { key, value, version } of await store.list<RememberedLease>(leasesPrefix)) {
      const { expiresAt = Number.POSITIVE_INFINITY } = value.lease;
      if (expiresAt + memoryMs < leaseClock()) await store.compareAndSet(key, undefined, version);
    }
  }

  /** Ends all clients; the interfaces stay as they are, and the next keeper goes on with their leases. */
  close(): void {
    for (const slot of this.#kept.keys()) this.#stop(slot);
  }
}

/** `web/eth1` would be a folder. */
const storeKey = (slot: Slot): string => `${leasesPrefix}/${slot.replace('/', ' ')}`;

const lifeOf = ({ pid, startTime }: Container): string => `${pid}:${startTime}`;

const specOf = ({ dhcp, ipv6, dns, network, mtu }: Attachment): string =>
  JSON.stringify([dhcp, ipv6, dns, network, mtu]);

/** For people: `10.0.0.9/24 from 10.0.0.1`. */
export function textOf({ addresses, server }: Lease): string {
  return `${addresses.map(({ cidr }) => formatCidr(cidr)).join(', ')} from ${server}`;
}
