/** Turns operations on the kernel into requests of rtnetlink, and names into ifindexes on the way. */

import { PipewrightError } from '../errors.ts';
import { delAddr, listAddrs, replaceAddr } from '../kernel/netlink/addr.ts';
import { addPortVlan, delPortVlan } from '../kernel/netlink/bridge-vlan.ts';
import { addAltname, addLink, changeLink, delAltname, getLink, setLink } from '../kernel/netlink/link.ts';
import {
  addIngress,
  delIngress,
  delRootQdisc,
  redirectIngress,
  replaceTbf,
} from '../kernel/netlink/qdisc.ts';
import { delRoute, replaceRoute } from '../kernel/netlink/route.ts';
import { addRule, delRule, type NewRule } from '../kernel/netlink/rule.ts';
import type { NetlinkSocket, Request } from '../kernel/netlink/socket.ts';
import { setVf } from '../kernel/netlink/vf.ts';
import { randomBytes } from '../kernel/random.ts';
import { childModeOf, type RuleSpec } from '../model/attachment.ts';
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
import { restoreAddrs, savedRoutes } from './restore.ts';

/** IFA_F_NODAD. */
const ifaNodad = 0x02;

/** The two namespaces that a transaction works in. */
export interface Sides {
  readonly host: NetlinkSocket;
  /** Absent: the container is gone, and what was in it with it. */
  readonly guest: NetlinkSocket | undefined;
  /** Links of the host that were looked up under the same lock. */
  readonly known?: readonly Link[] | undefined;
}

/** Operations that are requests and nothing else, so that several can leave together. */
export type RequestOperation = Exclude<
  Operation,
  | { do: `ovs.${string}` }
  | { do: `firewall.${string}` }
  | { do: 'link.del' | 'ipv6.enable' | 'sysctl.set' | 'addr.probe' }
>;

/** Builds the requests of operations, in both namespaces. */
export class Requests {
  readonly #sides: Sides;
  readonly #ifindexes = new Map<string, number>();

  constructor(sides: Sides) {
    this.#sides = sides;
    for (const { name, ifindex } of sides.known ?? []) this.#ifindexes.set(`host ${name}`, ifindex);
  }

  /** @throws PipewrightError CONTAINER_GONE */
  side(side: Side): NetlinkSocket {
    const socket = this.#sides[side];
    if (socket) return socket;
    throw new PipewrightError('CONTAINER_GONE', { op: 'netlink', subject: 'the container', errno: 'ENODEV' });
  }

  /** Whether all links that it names were looked up already. */
  knows(op: RequestOperation): boolean {
    return linksOf(op).every(([side, name]) => this.#ifindexes.has(`${side} ${name}`));
  }

  /** `ip link show NAME`. @throws PipewrightError KERNEL_REFUSED with ENODEV */
  link(side: Side, name: string): Link {
    const link = getLink(this.side(side), name);
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

  /** The ifindex of a link, looked up once. */
  ifindex(side: Side, name: string): number {
    return this.#ifindexes.get(`${side} ${name}`) ?? this.link(side, name).ifindex;
  }

  /** The name means another link from now on, or none. */
  forget(side: Side, name: string): void {
    this.#ifindexes.delete(`${side} ${name}`);
  }

  /** What the kernel is asked for; links that do not exist yet cannot be named. */
  of(op: RequestOperation): Request[] {
    switch (op.do) {
      case 'link.add':
        return [this.#addLink(op)];
      case 'link.set':
        return [this.#setLink(op.side, op.name, op.set)];
      case 'link.change': {
        const request = changeLink(this.ifindex(op.side, op.name), op.change);
        return [{ ...named(op.name, request), hints: vlanHints }];
      }
      case 'vf.set':
        return [named(op.uplink, setVf(this.ifindex('host', op.uplink), op.vf, op.set))];
      case 'altname.add':
        return [addAltname(this.ifindex('host', op.name), op.altname)];
      case 'altname.del':
        return [delAltname(this.ifindex('host', op.name), op.altname)];
      case 'vlan.add':
      case 'vlan.del': {
        const port = { ifindex: this.ifindex('host', op.link), self: op.self };
        const change = op.do === 'vlan.add' ? addPortVlan : delPortVlan;
        return [{ ...named(op.link, change(port, op.vlan)), hints: vlanHints }];
      }
      case 'link.give':
        return this.#give(op.name, op.ifname, op.group);
      case 'link.take':
        return this.take(op.ifname, op.group, op.saved);
      case 'link.stash': {
        const ifindex = this.ifindex('guest', op.name);
        this.forget('guest', op.name);
        return [setLink({ ifindex }, { up: false }), setLink({ ifindex }, { name: op.as })];
      }
      case 'link.restore':
        return this.#restoreGuest(op.name, op.saved);
      case 'addr.add': {
        const { cidr, broadcast, nodad } = op;
        const ifindex = this.ifindex(op.side, op.link);
        const flags = nodad ? { flags: ifaNodad } : {};
        return [
          named(op.link, replaceAddr(ifindex, { cidr, ...(broadcast ? { broadcast } : {}), ...flags })),
        ];
      }
      case 'addr.del':
        return [named(op.link, delAddr(this.ifindex(op.side, op.link), op.cidr))];
      case 'route.replace':
        return [named(op.route.link, replaceRoute(this.#route(op.side, op.route)))];
      case 'route.del':
        return [named(op.route.link, delRoute(this.#route(op.side, op.route)))];
      case 'route.restore':
        return [replaceRoute(op.route)];
      case 'ingress.redirect':
        return this.#redirect(op.link, op.to);
      case 'rule.add':
        return [addRule(ruleOf(op.rule))];
      case 'rule.del':
        return [delRule(ruleOf(op.rule))];
      case 'qdisc.set': {
        const ifindex = this.ifindex(op.side, op.link);
        return [op.rate === undefined ? delRootQdisc(ifindex) : replaceTbf(ifindex, { rate: op.rate })];
      }
    }
  }

  #redirect(link: string, to: string | undefined): Request[] {
    const ifindex = this.ifindex('guest', link);
    if (to === undefined) return [named(link, delIngress(ifindex))];
    const ifb = this.ifindex('guest', to);
    return [named(link, addIngress(ifindex)), named(link, redirectIngress(ifindex, ifb))];
  }

  #route(side: Side, { link, ...route }: PlannedRoute) {
    const dev = this.ifindex(side, link);
    return {
      ...route,
      dev,
      protocol: route.protocol ?? routeProtocol,
      ...(route.gateway ? {} : { scope: route.family === 4 ? 253 : 0 }),
    };
  }

  #addLink({ side, name, link, group }: Extract<Operation, { do: 'link.add' }>): Request {
    const request = addLink(this.#newLink(side, name, link, group));
    if (link.kind === 'bridge' && link.vlanFiltering) return { ...request, hints: vlanHints };
    if (side === 'host') return request;
    const subject = `${name} in ${this.side('guest').netns.label}`;
    if (link.kind === 'vlan') return { ...request, subject };
    return { ...request, subject, hints: { ...request.hints, ...childHints } };
  }

  #setLink(side: Side, name: string, { master, ...set }: LinkChange): Request {
    const plugged = master === undefined ? {} : { master: master === '' ? 0 : this.ifindex('host', master) };
    const request = setLink({ ifindex: this.ifindex(side, name) }, { ...set, ...plugged });
    return { ...named(name, request), hints: linkHints };
  }

  #newLink(side: Side, name: string, link: PlannedLink, group: number): NewLink {
    const guestFd = (): number => this.side('guest').netns.fd;
    const mac = 'mac' in link && link.mac !== undefined ? { mac: link.mac } : {};
    const mtu = link.mtu === undefined ? {} : { mtu: link.mtu };
    switch (link.kind) {
      case 'bridge':
        // A bridge takes the lowest MAC among its ports, so it would change as ports come and go while neighbours keep
        // the old one. A MAC that was set stays.
        return {
          name,
          group,
          up: true,
          ...mtu,
          kind: 'bridge',
          mac: randomMac(),
          ...(link.vlanFiltering ? { vlanFiltering: true } : {}),
        };
      case 'vlan':
        return {
          name,
          group,
          ...mtu,
          kind: 'vlan',
          uplink: this.ifindex(side, link.uplink),
          vid: link.vid,
        };
      case 'veth': {
        const master = link.master === undefined ? {} : { master: this.ifindex('host', link.master) };
        const peer = { name: link.peer, netnsFd: guestFd(), group, ...mtu, ...mac };
        return { name, group, up: true, ...mtu, ...master, kind: 'veth', peer };
      }
      case 'macvlan':
      case 'ipvlan': {
        const uplink = this.ifindex('host', link.uplink);
        return { name, group, netnsFd: guestFd(), ...mtu, ...mac, ...childModeOf(link), uplink };
      }
      case 'ipoib': {
        const uplink = this.ifindex('host', link.uplink);
        const pkey = link.pkey === undefined ? {} : { pkey: link.pkey };
        return { name, group, netnsFd: guestFd(), ...mtu, kind: 'ipoib', uplink, ...pkey };
      }
      case 'ifb':
        return { name, group, netnsFd: guestFd(), up: true, kind: 'ifb' };
      case 'dummy':
        return { name, group, netnsFd: guestFd(), ...mtu, ...mac, kind: 'dummy' };
    }
  }

  /** The mark first, so that a NIC in the container is known for ours from its first moment there. */
  #give(name: string, ifname: string, group: number): Request[] {
    const ifindex = this.ifindex('host', name);
    this.forget('host', name);
    return [
      named(name, setLink({ ifindex }, { group })),
      named(name, setLink({ ifindex }, { name: ifname, netnsFd: this.side('guest').netns.fd })),
    ];
  }

  take(ifname: string, group: number, saved: SavedLink): Request[] {
    // Refused its new name there, a link has moved all the same, and kept the old one.
    const there = [ifname, saved.name]
      .map((name) => this.#sides.guest && getLink(this.#sides.guest, name))
      .find((link) => link?.group === group);
    if (this.#sides.guest && there) {
      const netnsFd = this.#sides.host.netns.fd;
      this.#sides.guest.request(setLink({ ifindex: there.ifindex }, { up: false }));
      this.#sides.guest.request(setLink({ ifindex: there.ifindex }, { name: saved.name, netnsFd }));
      this.forget('guest', ifname);
    }
    // A NIC whose container ended came home by itself, under the name that it had there.
    const home = getLink(this.#sides.host, saved.name)?.name === saved.name ? saved.name : ifname;
    return this.#restore('host', home, saved);
  }

  /** Its successor may have its name already, and is told from it by the group. */
  #restoreGuest(name: string, saved: SavedLink): Request[] {
    const now = [name, saved.name].find((known) => getLink(this.side('guest'), known)?.group === saved.group);
    return this.#restore('guest', now ?? name, saved);
  }

  /** Name, MAC, MTU, group, state, addresses and routes of a link as they were noted. */
  #restore(side: Side, name: string, saved: SavedLink): Request[] {
    const { ifindex, mac: present } = this.link(side, name);
    this.forget(side, name);
    const { mtu, group, up } = saved;
    // A bridge that is given even the one it has keeps it from then on, whatever its ports have.
    const mac = saved.mac === present ? {} : { mac: saved.mac };
    // A sub-interface is up again with the link under it, and the kernel renames only what is down.
    const rename =
      name === saved.name
        ? []
        : [setLink({ ifindex }, { up: false }), setLink({ ifindex }, { name: saved.name })];
    return [
      ...rename,
      setLink({ ifindex }, { ...mac, mtu, group }),
      setLink({ ifindex }, { up }),
      ...restoreAddrs(ifindex, saved.addrs, listAddrs(this.side(side), ifindex)),
      ...savedRoutes(saved).map((route) => replaceRoute({ ...route, dev: ifindex })),
    ];
  }
}

/** A rule that has no priority of its own gets the kernel's next one. */
function ruleOf({ family, from, to, table, priority }: RuleSpec): NewRule {
  return {
    family,
    table,
    ...(priority === undefined ? {} : { priority }),
    ...(from === undefined ? {} : { src: from }),
    ...(to === undefined ? {} : { dst: to }),
  };
}

/** The kernel's numbers mean nothing to who reads a message. */
function named(name: string, request: Request): Request {
  return { ...request, subject: request.subject.replace(/\blink \d+$/, name) };
}

/** For a child of a NIC, born in the container. */
const childHints = {
  EBUSY: 'something else has the NIC: macvlan, ipvlan and bridge exclude each other on one NIC',
  EINVAL: 'a macvlan of mode passthru has to be the only one on its NIC',
};

/** For a bridge. */
export const vlanHints = {
  EOPNOTSUPP: "this kernel's bridges do not filter VLANs: use Open vSwitch (ovs:NAME)",
};

const linkHints = {
  EADDRINUSE: 'another interface on the same NIC has this MAC address: choose another one',
};

function randomMac(): string {
  const bytes = randomBytes(6);
  bytes[0] = ((bytes[0] ?? 0) & 0xfc) | 0x02;
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join(':');
}

/** The socket that an operation's requests go through. A link of the container is born by a request of the host. */
export function sideOf(op: RequestOperation): Side {
  switch (op.do) {
    case 'link.add':
      return op.link.kind === 'vlan' ? op.side : 'host';
    case 'link.give':
    case 'link.take':
    case 'altname.add':
    case 'altname.del':
    case 'vf.set':
    case 'vlan.add':
    case 'vlan.del':
      return 'host';
    case 'link.stash':
    case 'link.restore':
    case 'rule.add':
    case 'rule.del':
    case 'ingress.redirect':
      return 'guest';
    default:
      return op.side;
  }
}

/** The links whose ifindex an operation needs. */
function linksOf(op: RequestOperation): [Side, string][] {
  switch (op.do) {
    case 'link.add': {
      const { link } = op;
      if ('uplink' in link) return [[link.kind === 'vlan' ? op.side : 'host', link.uplink]];
      return link.kind === 'veth' && link.master !== undefined ? [['host', link.master]] : [];
    }
    case 'link.set':
      return [[op.side, op.name], ...(op.set.master ? [['host', op.set.master] as [Side, string]] : [])];
    case 'link.change':
      return [[op.side, op.name]];
    case 'vf.set':
      return [['host', op.uplink]];
    case 'altname.add':
    case 'altname.del':
      return [['host', op.name]];
    case 'vlan.add':
    case 'vlan.del':
      return [['host', op.link]];
    case 'addr.add':
    case 'addr.del':
      return [[op.side, op.link]];
    case 'route.replace':
    case 'route.del':
      return [[op.side, op.route.link]];
    case 'qdisc.set':
      return [[op.side, op.link]];
    case 'ingress.redirect':
      return [op.link, op.to].flatMap((name) => (name === undefined ? [] : [['guest', name]]));
    case 'route.restore':
    case 'rule.add':
    case 'rule.del':
      return [];
    default:
      return [['host', '']];
  }
}

/** After these, names mean other links than before. */
export function changesNames(op: RequestOperation): boolean {
  return ['link.give', 'link.take', 'link.stash', 'link.restore'].includes(op.do);
}
