/** Turns operations into requests of the kernel, of Open vSwitch and of the firewall, and runs them in order. */
import { randomBytes } from 'node:crypto';
import { hasErrno, PipewrightError } from '../errors.ts';
import { addAddr, delAddr, replaceAddr } from '../kernel/netlink/addr.ts';
import { addLink, delLink, delLinkGroup, getLink, setLink } from '../kernel/netlink/link.ts';
import { delRoute, replaceRoute } from '../kernel/netlink/route.ts';
import type { NetlinkSocket, Request } from '../kernel/netlink/socket.ts';
import { readSysctl, writeSysctl } from '../kernel/sysctl.ts';
import type { Link, NewLink } from '../model/link.ts';
import { routeProtocol } from '../model/naming.ts';
import type {
  LinkChange,
  Operation,
  PlannedLink,
  PlannedRoute,
  SavedLink,
  Side,
} from '../model/operation.ts';

/** What is needed for operations that are not the kernel's; each is loaded by whoever needs it first. */
export interface Backends {
  ovs(op: Extract<Operation, { do: `ovs.${string}` }>): Promise<void>;
  firewall(op: Extract<Operation, { do: `firewall.${string}` }>): Promise<void>;
}

/** The two namespaces that a transaction works in. */
export interface Sides {
  readonly host: NetlinkSocket;
  /** Absent: the container is gone, and what was in it with it. */
  readonly guest: NetlinkSocket | undefined;
}

type KernelOperation = Exclude<Operation, { do: `ovs.${string}` } | { do: `firewall.${string}` }>;

/** Runs operations; several that go to one namespace leave in one send(). */
export class Executor {
  readonly #sides: Sides;
  readonly #backends: Backends;
  readonly #ifindexes = new Map<string, number>();

  constructor(sides: Sides, backends: Backends) {
    this.#sides = sides;
    this.#backends = backends;
  }

  /**
   * Runs all of `ops` in order and stops at the first that fails.
   * @param before called with the index of each operation before it is run; then no two share a send()
   * @returns the index of the operation that failed and why, or undefined
   */
  async run(
    ops: readonly Operation[],
    before?: (index: number) => void,
  ): Promise<{ readonly at: number; readonly error: unknown } | undefined> {
    let at = 0;
    try {
      while (at < ops.length) {
        before?.(at);
        const op = ops[at];
        if (op === undefined) break;
        if (isOvs(op)) await this.#backends.ovs(op);
        else if (isFirewall(op)) await this.#backends.firewall(op);
        else if (op.do === 'link.del') await this.#delLink(op);
        else if (op.do === 'ipv6.enable') this.#enableIpv6(op.link, op.enable);
        else {
          const taken = this.#runTogether(ops, at, before ? 1 : ops.length);
          if (taken.error) return { at: taken.next - 1, error: taken.error };
          at = taken.next;
          continue;
        }
        at += 1;
      }
      return undefined;
    } catch (error) {
      return { at, error };
    }
  }

  /** Runs each of `ops`, whatever happened to the one before; what is gone already is no failure. */
  async runAll(ops: readonly Operation[]): Promise<unknown[]> {
    const failures: unknown[] = [];
    for (const op of ops) {
      const failed = await this.run([op]);
      if (failed && !isDone(failed.error)) failures.push(failed.error);
    }
    return failures;
  }

  /**
   * Deletes links of the host together: one link takes the kernel 20 ms, and a group of them hardly more.
   * @param group a group that no other link has, see model/naming.ts
   */
  async delHostLinks(names: readonly string[], group: number): Promise<void> {
    const socket = this.#side('host');
    const links = names.flatMap((name) => getLink(socket, name) ?? []);
    for (const { name } of links) this.#forget('host', name);
    const [only] = links;
    if (links.length === 1 && only) return socket.requestInBackground(delLink(only.ifindex));
    if (links.length === 0) return;
    const outcomes = socket.batch(links.map(({ ifindex }) => setLink({ ifindex }, { group })));
    const refusal = outcomes.find((outcome) => outcome && !isDone(outcome));
    if (refusal) throw refusal;
    await socket.requestInBackground(delLinkGroup(group));
  }

  /** Sends as many operations from `at` on as go to one namespace and name only links that are known. */
  #runTogether(ops: readonly Operation[], at: number, most: number): { next: number; error?: unknown } {
    const requests: Request[] = [];
    const owner: number[] = [];
    let side: Side | undefined;
    let next = at;
    while (next < ops.length && next - at < most) {
      const op = ops[next];
      if (!op || isOvs(op) || isFirewall(op) || op.do === 'link.del' || op.do === 'ipv6.enable') break;
      const opSide = sideOf(op);
      if (side !== undefined && opSide !== side) break;
      side = opSide;
      // A link made by a request that is not sent yet has no ifindex that could be named.
      if (requests.length > 0 && !this.#isKnown(op)) break;
      for (const request of this.#requests(op)) {
        requests.push(request);
        owner.push(next);
      }
      next += 1;
      if (changesNames(op)) break;
    }
    if (requests.length === 0 || side === undefined) return { next };
    const outcomes = this.#side(side).batch(requests);
    const failed = outcomes.findIndex((outcome) => outcome !== undefined);
    if (failed < 0) return { next };
    // The kernel goes on after a refusal: what came after it in the same send may have been done, so all count as begun.
    return { next, error: outcomes[failed] };
  }

  #side(side: Side): NetlinkSocket {
    const socket = this.#sides[side];
    if (socket) return socket;
    throw new PipewrightError('CONTAINER_GONE', { op: 'netlink', subject: 'the container', errno: 'ENODEV' });
  }

  #isKnown(op: KernelOperation): boolean {
    return linksOf(op).every(([side, name]) => this.#ifindexes.has(`${side} ${name}`));
  }

  #link(side: Side, name: string): Link {
    const link = getLink(this.#side(side), name);
    if (link) {
      this.#ifindexes.set(`${side} ${name}`, link.ifindex);
      return link;
    }
    throw new PipewrightError('KERNEL_REFUSED', {
      op: 'link.get',
      subject: name,
      errno: 'ENODEV',
      detail: `there is no link of this name ${side === 'guest' ? 'in the container' : 'on the host'}`,
    });
  }

  #ifindex(side: Side, name: string): number {
    return this.#ifindexes.get(`${side} ${name}`) ?? this.#link(side, name).ifindex;
  }

  #forget(side: Side, name: string): void {
    this.#ifindexes.delete(`${side} ${name}`);
  }

  async #delLink(op: Extract<Operation, { do: 'link.del' }>): Promise<void> {
    const socket = this.#side(op.side);
    const link = getLink(socket, op.name);
    this.#forget(op.side, op.name);
    if (!link || (op.onlyGroup !== undefined && link.group !== op.onlyGroup)) return;
    await socket.requestInBackground(delLink(link.ifindex));
  }

  /** Of this link alone; of one that is gone there is nothing to switch. */
  #enableIpv6(link: string, enable: boolean): void {
    const { netns } = this.#side('guest');
    const key = `net/ipv6/conf/${link}/disable_ipv6`;
    if (readSysctl(netns, key) !== undefined) writeSysctl(netns, key, enable ? '0' : '1');
  }

  #requests(op: KernelOperation): Request[] {
    switch (op.do) {
      case 'link.add':
        return [addLink(this.#newLink(op.name, op.link, op.group))];
      case 'link.set':
        return [setLink({ ifindex: this.#ifindex(op.side, op.name) }, this.#change(op.set))];
      case 'link.give':
        return this.#give(op.name, op.ifname, op.group);
      case 'link.take':
        return this.#take(op.ifname, op.group, op.saved);
      case 'link.stash': {
        const ifindex = this.#ifindex('guest', op.name);
        this.#forget('guest', op.name);
        return [setLink({ ifindex }, { up: false }), setLink({ ifindex }, { name: op.as })];
      }
      case 'link.unstash':
        return this.#restore('guest', op.as, op.saved);
      case 'addr.add': {
        const { cidr, broadcast } = op;
        return [addAddr(this.#ifindex(op.side, op.link), { cidr, ...(broadcast ? { broadcast } : {}) })];
      }
      case 'addr.del':
        return [delAddr(this.#ifindex(op.side, op.link), op.cidr)];
      case 'route.replace':
        return [replaceRoute(this.#route(op.side, op.route))];
      case 'route.del':
        return [delRoute(this.#route(op.side, op.route))];
      case 'route.restore':
        return [replaceRoute(op.route)];
      case 'link.del':
      case 'ipv6.enable':
        throw new Error(`${op.do} is not sent together with others`);
    }
  }

  #route(side: Side, { link, ...route }: PlannedRoute) {
    const dev = this.#ifindex(side, link);
    return {
      ...route,
      dev,
      protocol: routeProtocol,
      ...(route.gateway ? {} : { scope: route.family === 4 ? 253 : 0 }),
    };
  }

  #change({ master, ...set }: LinkChange) {
    if (master === undefined) return set;
    return { ...set, master: master === '' ? 0 : this.#ifindex('host', master) };
  }

  #newLink(name: string, link: PlannedLink, group: number): NewLink {
    const guestFd = (): number => this.#side('guest').netns.fd;
    const mac = 'mac' in link && link.mac !== undefined ? { mac: link.mac } : {};
    const mtu = link.mtu === undefined ? {} : { mtu: link.mtu };
    switch (link.kind) {
      case 'bridge':
        // A bridge takes the lowest MAC among its ports, so it would change as ports come and go while neighbours keep
        // the old one. A MAC that was set stays.
        return { name, group, up: true, ...mtu, kind: 'bridge', mac: randomMac() };
      case 'vlan':
        return {
          name,
          group,
          ...mtu,
          kind: 'vlan',
          uplink: this.#ifindex('host', link.uplink),
          vid: link.vid,
        };
      case 'veth': {
        const master = link.master === undefined ? {} : { master: this.#ifindex('host', link.master) };
        const peer = { name: link.peer, netnsFd: guestFd(), group, ...mtu, ...mac };
        return { name, group, up: true, ...mtu, ...master, kind: 'veth', peer };
      }
      case 'macvlan': {
        const uplink = this.#ifindex('host', link.uplink);
        return { name, group, netnsFd: guestFd(), ...mtu, ...mac, kind: 'macvlan', uplink, mode: link.mode };
      }
      case 'ipvlan': {
        const uplink = this.#ifindex('host', link.uplink);
        return { name, group, netnsFd: guestFd(), ...mtu, kind: 'ipvlan', uplink, mode: link.mode };
      }
      case 'ipoib': {
        const uplink = this.#ifindex('host', link.uplink);
        const pkey = link.pkey === undefined ? {} : { pkey: link.pkey };
        return { name, group, netnsFd: guestFd(), ...mtu, kind: 'ipoib', uplink, ...pkey };
      }
      case 'dummy':
        return { name, group, netnsFd: guestFd(), ...mtu, ...mac, kind: 'dummy' };
    }
  }

  /** The mark first, so that a NIC in the container is known for ours from its first moment there. */
  #give(name: string, ifname: string, group: number): Request[] {
    const ifindex = this.#ifindex('host', name);
    this.#forget('host', name);
    return [
      setLink({ ifindex }, { group }),
      setLink({ ifindex }, { name: ifname, netnsFd: this.#side('guest').netns.fd }),
    ];
  }

  #take(ifname: string, group: number, saved: SavedLink): Request[] {
    const there = this.#sides.guest && getLink(this.#sides.guest, ifname);
    if (this.#sides.guest && there?.group === group) {
      const netnsFd = this.#sides.host.netns.fd;
      this.#sides.guest.request(setLink({ ifindex: there.ifindex }, { up: false }));
      this.#sides.guest.request(setLink({ ifindex: there.ifindex }, { name: saved.name, netnsFd }));
      this.#forget('guest', ifname);
    }
    // A NIC whose container ended came home by itself, under the name that it had there.
    const home = getLink(this.#sides.host, saved.name)?.name === saved.name ? saved.name : ifname;
    return this.#restore('host', home, saved);
  }

  /** Name, MAC, MTU, group, state, addresses and routes of a link as they were noted. */
  #restore(side: Side, name: string, saved: SavedLink): Request[] {
    const { ifindex } = this.#link(side, name);
    this.#forget(side, name);
    const { mac, mtu, group } = saved;
    const rename = name === saved.name ? [] : [setLink({ ifindex }, { name: saved.name })];
    return [
      ...rename,
      setLink({ ifindex }, { mac, mtu, group }),
      ...(saved.up ? [setLink({ ifindex }, { up: true })] : []),
      ...saved.addrs.map(({ ifindex: _, ...addr }) => replaceAddr(ifindex, addr)),
      // The kernel makes its own routes from the addresses; those that were added by hand are put back.
      ...saved.routes
        .filter(({ protocol }) => protocol !== 2)
        .map((route) => replaceRoute({ ...route, dev: ifindex })),
    ];
  }
}

function randomMac(): string {
  const bytes = randomBytes(6);
  bytes[0] = ((bytes[0] ?? 0) & 0xfc) | 0x02;
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join(':');
}

function isOvs(op: Operation): op is Extract<Operation, { do: `ovs.${string}` }> {
  return op.do.startsWith('ovs.');
}

function isFirewall(op: Operation): op is Extract<Operation, { do: `firewall.${string}` }> {
  return op.do.startsWith('firewall.');
}

/** Whether a refusal says that it is so already: not there (any more), or there already. */
function isDone(error: unknown): boolean {
  return hasErrno(error, 'ENODEV', 'ENOENT', 'ESRCH', 'EADDRNOTAVAIL', 'EEXIST');
}

/** The socket that an operation's requests go through. A link of the container is born by a request of the host. */
function sideOf(op: KernelOperation): Side {
  switch (op.do) {
    case 'link.add':
    case 'link.give':
    case 'link.take':
      return 'host';
    case 'link.stash':
    case 'link.unstash':
    case 'ipv6.enable':
      return 'guest';
    default:
      return op.side;
  }
}

/** The links whose ifindex an operation needs. */
function linksOf(op: KernelOperation): [Side, string][] {
  switch (op.do) {
    case 'link.add': {
      const { link } = op;
      if ('uplink' in link) return [['host', link.uplink]];
      return link.kind === 'veth' && link.master !== undefined ? [['host', link.master]] : [];
    }
    case 'link.set':
      return [[op.side, op.name], ...(op.set.master ? [['host', op.set.master] as [Side, string]] : [])];
    case 'addr.add':
    case 'addr.del':
      return [[op.side, op.link]];
    case 'route.replace':
    case 'route.del':
      return [[op.side, op.route.link]];
    case 'route.restore':
      return [];
    default:
      return [['host', '']];
  }
}

/** After these, names mean other links than before. */
function changesNames(op: KernelOperation): boolean {
  return ['link.give', 'link.take', 'link.stash', 'link.unstash'].includes(op.do);
}
