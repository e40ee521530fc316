/** What observing asks of a host and of a container: each thing anew, or everything once and then from memory. */
import type { Host } from '../apply/host.ts';
import { containerKey } from '../apply/state.ts';
import type { Container } from '../containers/container.ts';
import { isAllowed } from '../firewall/docker-user.ts';
import { listAddrs } from '../kernel/netlink/addr.ts';
import { getLink, listLinks } from '../kernel/netlink/link.ts';
import { listRoutes } from '../kernel/netlink/route.ts';
import type { NetlinkSocket } from '../kernel/netlink/socket.ts';
import { readSysctl } from '../kernel/sysctl.ts';
import type { Addr, Link, Route } from '../model/link.ts';
import type { AttachmentRecord, UplinkPort } from '../model/observed.ts';
import type { PortVlan } from '../model/port-vlan.ts';
import type { UplinkJournal } from '../model/uplink.ts';
import type { OvsMirror } from '../ovs/mirror.ts';
import type { OvsPort } from '../ovs/port.ts';
import { allPortVlans, portVlansOf } from './port-vlans.ts';

/**
 * `fresh` for one question about one attachment, and under the lock. `once` for a look at hundreds of them, which is
 * as old as the first question: what it finds wrong is looked at again before anything is done.
 */
export type Freshness = 'fresh' | 'once';

/** One network namespace. */
export class NetnsView {
  readonly rtnl: NetlinkSocket;
  readonly #once: boolean;
  #links: ReadonlyMap<string | number, Link> | undefined;
  #addrs: readonly Addr[] | undefined;
  #routes: readonly Route[] | undefined;
  #portVlans: ReadonlyMap<number, readonly PortVlan[]> | undefined;
  readonly #sysctls = new Map<string, string | undefined>();

  constructor(rtnl: NetlinkSocket, freshness: Freshness = 'fresh') {
    this.rtnl = rtnl;
    this.#once = freshness === 'once';
  }

  /** By name, altname or ifindex, see getLink. */
  link(which: string | number): Link | undefined {
    if (!this.#once) return getLink(this.rtnl, which);
    this.#links ??= indexed(listLinks(this.rtnl));
    return this.#links.get(which);
  }

  addrs(ifindex: number): readonly Addr[] {
    if (!this.#once) return listAddrs(this.rtnl, ifindex);
    this.#addrs ??= listAddrs(this.rtnl);
    return this.#addrs.filter((addr) => addr.ifindex === ifindex);
  }

  /** Of all tables but `local`, which the kernel keeps itself. */
  routes(): readonly Route[] {
    if (!this.#once) return listRoutes(this.rtnl, { exceptLocal: true });
    this.#routes ??= listRoutes(this.rtnl, { exceptLocal: true });
    return this.#routes;
  }

  /** The VLANs of a bridge's port, or of a bridge. */
  portVlans(ifindex: number): readonly PortVlan[] {
    if (!this.#once) return portVlansOf(this.rtnl, ifindex);
    this.#portVlans ??= allPortVlans(this.rtnl);
    return this.#portVlans.get(ifindex) ?? [];
  }

  /** @param path as readSysctl takes it */
  sysctl(path: string): string | undefined {
    if (!this.#once) return readSysctl(this.rtnl.netns, path);
    if (!this.#sysctls.has(path)) this.#sysctls.set(path, readSysctl(this.rtnl.netns, path));
    return this.#sysctls.get(path);
  }
}

/** Names go before altnames, as a name can be another link's altname only in another namespace. */
function indexed(links: readonly Link[]): Map<string | number, Link> {
  const index = new Map<string | number, Link>();
  for (const link of links) for (const altname of link.altnames) index.set(altname, link);
  for (const link of links) index.set(link.name, link).set(link.ifindex, link);
  return index;
}

/** The host's side: its namespace, Docker's firewall, Open vSwitch, our notes. */
export class HostView {
  readonly host: Host;
  readonly netns: NetnsView;
  readonly #once: boolean;
  readonly #allowed = new Map<string, Promise<boolean>>();
  #ports: Promise<OvsPort[]> | undefined;
  #mirrors: Promise<OvsMirror[]> | undefined;
  readonly #bridgePorts = new Map<string, Promise<readonly string[]>>();
  #all: readonly AttachmentRecord[] | undefined;
  #uplinks: readonly UplinkJournal[] | undefined;
  #records: ReadonlyMap<string, AttachmentRecord> | undefined;

  constructor(host: Host, freshness: Freshness = 'fresh') {
    this.host = host;
    this.netns = new NetnsView(host.rtnl, freshness);
    this.#once = freshness === 'once';
  }

  /** The note of an attachment, see StateDir. */
  record(container: Container, ifname: string): AttachmentRecord | undefined {
    if (!this.#once) return this.host.state.record(containerKey(container), ifname);
    this.#records ??= new Map(
      this.records().map((one) => [`${containerKey(one.container)} ${one.ifname}`, one]),
    );
    return this.#records.get(`${containerKey(container)} ${ifname}`);
  }

  /** Every note. */
  records(): readonly AttachmentRecord[] {
    if (!this.#once) return this.host.state.records();
    this.#all ??= this.host.state.records();
    return this.#all;
  }

  /** The NIC that is the uplink of a Linux bridge and carries all VLANs that are used there, where we made it so. */
  uplinkOn(bridge: string): UplinkPort | undefined {
    const uplinks = (this.#once ? this.#uplinks : undefined) ?? this.host.state.uplinks();
    this.#uplinks = uplinks;
    const found = uplinks.find(
      ({ phase, record: { want } }) =>
        phase !== 'moving' &&
        want.bridge.kind === 'bridge' &&
        want.bridge.name === bridge &&
        want.trunks.length === 0,
    );
    const link = found && this.netns.link(found.nic);
    if (!found || link?.name !== found.nic || link.master === undefined) return undefined;
    if (link.master !== this.netns.link(bridge)?.ifindex) return undefined;
    return { name: found.nic, vlans: this.netns.portVlans(link.ifindex) };
  }

  /** See isAllowed of the firewall. */
  isAllowed(bridge: string): Promise<boolean> {
    const known = this.#once ? this.#allowed.get(bridge) : undefined;
    const asked = known ?? isAllowed(this.host.netns, bridge);
    if (this.#once) this.#allowed.set(bridge, asked);
    return asked;
  }

  /** The ports of Open vSwitch that carry this key among their external_ids. */
  ports(mark: string): Promise<OvsPort[]> {
    if (!this.#once) return this.#listPorts(mark);
    this.#ports ??= this.#listPorts(mark);
    return this.#ports;
  }

  /** The mirrors that carry this key. */
  mirrors(mark: string): Promise<OvsMirror[]> {
    if (!this.#once) return this.#listMirrors(mark);
    this.#mirrors ??= this.#listMirrors(mark);
    return this.#mirrors;
  }

  /** Names of all ports of a bridge, but for its own; none where there is no such bridge. */
  bridgePorts(bridge: string): Promise<readonly string[]> {
    const known = this.#once ? this.#bridgePorts.get(bridge) : undefined;
    const asked = known ?? this.#listBridgePorts(bridge);
    if (this.#once) this.#bridgePorts.set(bridge, asked);
    return asked;
  }

  async #listMirrors(mark: string): Promise<OvsMirror[]> {
    const db = await this.host.ovs();
    const { listMirrorsBy } = await import('../ovs/mirror.ts');
    return listMirrorsBy(db, mark);
  }

  async #listBridgePorts(bridge: string): Promise<readonly string[]> {
    const db = await this.host.ovs();
    const { getBridge } = await import('../ovs/bridge.ts');
    return (await getBridge(db, bridge))?.ports ?? [];
  }

  async #listPorts(mark: string): Promise<OvsPort[]> {
    const db = await this.host.ovs();
    const { listPortsBy } = await import('../ovs/port.ts');
    return listPortsBy(db, mark);
  }
}
