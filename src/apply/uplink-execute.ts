/** Carries out the operations of a move of a NIC. Each may find that it is done already. */
import { setTimeout as sleep } from 'node:timers/promises';
import { hasErrno } from '../errors.ts';
import { addAddr, delAddr, listAddrs, replaceAddr } from '../kernel/netlink/addr.ts';
import { addLink, delLink, getLink, listLinks, setLink } from '../kernel/netlink/link.ts';
import { delNeigh, replaceNeigh } from '../kernel/netlink/neigh.ts';
import { replaceNexthop } from '../kernel/netlink/nexthop.ts';
import {
  agedRoute,
  appendRoute,
  delRoute,
  listRoutes,
  prependRoute,
  replaceRoute,
  retargetRoute,
} from '../kernel/netlink/route.ts';
import { addRule, delRule } from '../kernel/netlink/rule.ts';
import { announce, solicitRouters } from '../kernel/packet.ts';
import { sysctlPath, writeSysctl } from '../kernel/sysctl.ts';
import { type Addr, type Link, NTF_PROXY, NUD_PERMANENT, type RawAttr, type Route } from '../model/link.ts';
import { isOurGroup } from '../model/naming.ts';
import type { RoutePlace, StandIn, UplinkOp } from '../model/uplink.ts';
import { ovsMark } from './backends.ts';
import type { Host } from './host.ts';
import { vlanHints } from './requests.ts';
import { changeVlans, stopFiltering } from './uplink-vlans.ts';

/** IFA_F_NODAD, and the flags of an address that can be asked for. */
const noDad = 0x02;
const wantable = 0x02 | 0x04 | 0x10 | 0x100 | 0x200 | 0x400;
/** IFA_LABEL. */
const labelAttr = 3;
/** NUD_STALE. */
const stale = 0x04;
const readyTimeoutMs = 1500;
const readyPollMs = 2;
/** Milliseconds for ovs-vswitchd to act. */
const ovsWait = { waitMs: 5000 };

/** Runs operations on `host`; `ageMs` after the lifetimes in them were read. */
export class UplinkExecutor {
  readonly #host: Host;
  readonly #ageSeconds: number;

  constructor(host: Host, ageMs: number) {
    this.#host = host;
    this.#ageSeconds = Math.max(0, Math.floor(ageMs / 1000));
  }

  /** Each of `ops`, whatever became of the one before. @returns why some could not be done */
  async runAll(ops: readonly UplinkOp[]): Promise<{ op: UplinkOp; error: unknown }[]> {
    const failures: { op: UplinkOp; error: unknown }[] = [];
    for (const op of ops) {
      try {
        await this.run(op);
      } catch (error) {
        // A link that is gone has nothing left to be changed.
        if (!hasErrno(error, 'ENODEV')) failures.push({ op, error });
      }
    }
    return failures;
  }

  /** @throws PipewrightError; not for what is so already */
  async run(op: UplinkOp): Promise<void> {
    switch (op.do) {
      case 'addr.add':
      case 'addr.del':
        return this.#addr(op);
      case 'route.add':
      case 'route.del':
        return this.#route(op);
      case 'nexthop.set':
        return this.#nexthop(op);
      case 'vlan.add':
      case 'vlan.del':
      case 'altname.add':
      case 'altname.del':
      case 'link.change':
        return changeVlans(this.#host, op);
      case 'bridge.unfilter':
        return stopFiltering(this.#host, op.bridge.name);
      case 'rule.add':
        return this.#request(addRule(op.rule), 'EEXIST');
      case 'rule.del':
        return this.#request(delRule(op.rule), 'ENOENT');
      case 'neigh.add':
      case 'neigh.del':
        return this.#neigh(op);
      case 'sysctl.set':
        return this.#sysctl(op);
      case 'announce':
        return this.#announce(op.link);
      case 'solicit':
        return this.#solicit(op.link);
      default:
        return this.#link(op);
    }
  }

  /** Deletes each stand-in whose route the kernel has learned again. @returns those that are still needed */
  settle(standIns: readonly StandIn[]): StandIn[] {
    return standIns.filter(({ link, from, learned, standIn }) => {
      const target = getLink(this.#host.rtnl, link);
      if (!target) return false;
      const isLearned = listRoutes(this.#host.rtnl, { family: 6, table: learned.table }).some(
        (route) =>
          route.dev === target.ifindex &&
          route.gateway === learned.gateway &&
          route.metric === learned.metric &&
          route.dst?.ip === learned.dst?.ip &&
          route.dst?.prefixLen === learned.dst?.prefixLen,
      );
      if (isLearned) this.#request(delRoute(retargetRoute(standIn, from, target.ifindex)), 'ESRCH');
      return !isLearned;
    });
  }

  #request(request: Parameters<Host['rtnl']['request']>[0], ...done: readonly string[]): void {
    const [refusal] = this.#host.rtnl.batch([request]);
    if (refusal && !hasErrno(refusal, ...done)) throw refusal;
  }

  #linkOf(name: string): Link | undefined {
    const link = getLink(this.#host.rtnl, name);
    return link?.name === name ? link : undefined;
  }

  #addr(op: Extract<UplinkOp, { do: 'addr.add' | 'addr.del' }>): void {
    const link = this.#linkOf(op.link);
    if (!link) return;
    const { rtnl } = this.#host;
    const present = listAddrs(rtnl, link.ifindex).find(
      ({ cidr, peer }) =>
        cidr.ip === op.addr.cidr.ip && cidr.prefixLen === op.addr.cidr.prefixLen && peer === op.addr.peer,
    );
    if (op.do === 'addr.del') {
      if (present) this.#request(delAddr(link.ifindex, present.cidr, present.peer), 'EADDRNOTAVAIL');
      return;
    }
    const addr = this.#aged(labelled(op.addr, link.name));
    if (!addr) return;
    const flags = addr.flags & wantable;
    if (present && (present.flags & wantable) === flags) return;
    if (addr.cidr.family === 4) this.#request(addAddr(link.ifindex, addr), 'EEXIST');
    // On a link that is down nothing is looked for yet.
    else if (!link.up) this.#request(addAddr(link.ifindex, { ...addr, flags }), 'EEXIST');
    else this.#addWithoutDetection(link, addr, flags, present !== undefined);
  }

  #addWithoutDetection(link: Link, addr: Addr, flags: number, isPresent: boolean): void {
    // Without detection of doubles, which takes a second and can be lost to our own former self; then as it was.
    if (!isPresent) this.#request(addAddr(link.ifindex, { ...addr, flags: flags | noDad }), 'EEXIST');
    if ((flags & noDad) === 0) this.#request(replaceAddr(link.ifindex, { ...addr, flags }));
  }

  #aged(addr: Addr): Addr | undefined {
    const { validLifetime: valid, preferredLifetime: preferred, ...rest } = addr;
    const validLeft = valid === undefined ? undefined : valid - this.#ageSeconds;
    if (validLeft !== undefined && validLeft <= 0) return undefined;
    const preferredLeft = preferred === undefined ? undefined : Math.max(0, preferred - this.#ageSeconds);
    return {
      ...rest,
      ...(validLeft === undefined ? {} : { validLifetime: validLeft }),
      ...(preferredLeft === undefined ? {} : { preferredLifetime: preferredLeft }),
    };
  }

  #route(op: Extract<UplinkOp, { do: 'route.add' | 'route.del' }>): void {
    const link = this.#linkOf(op.link);
    if (!link) return;
    const route = retargetRoute(op.route, op.from, link.ifindex);
    if (op.do === 'route.del') this.#request(delRoute(route), 'ESRCH', 'ENODEV');
    else this.#addRoute(agedRoute(route, this.#ageSeconds), op.place);
  }

  #addRoute(route: Route | undefined, place: RoutePlace): void {
    if (!route) return;
    try {
      this.#putRoute(route, place);
    } catch (error) {
      if (!hasErrno(error, 'EHOSTUNREACH', 'ENETUNREACH') || !route.gateway || route.onlink) throw error;
      // A route outlives the address by which its gateway was in reach, but cannot be made anew without.
      this.#putRoute({ ...route, onlink: true }, place);
    }
  }

  #putRoute(route: Route, place: RoutePlace): void {
    if (place === 'prepend') {
      // The kernel keeps one that is there where it is.
      this.#request(delRoute(route), 'ESRCH');
      this.#request(prependRoute(route), 'EEXIST');
    } else this.#request(place === 'replace' ? replaceRoute(route) : appendRoute(route), 'EEXIST');
  }

  #nexthop({ link: name, nexthop }: Extract<UplinkOp, { do: 'nexthop.set' }>): void {
    const link = this.#linkOf(name);
    if (link) this.#request(replaceNexthop({ ...nexthop, dev: link.ifindex }));
  }

  #neigh({ do: verb, link: name, neigh }: Extract<UplinkOp, { do: 'neigh.add' | 'neigh.del' }>): void {
    const link = this.#linkOf(name);
    if (!link || neigh.ip === undefined) return;
    const there = { ip: neigh.ip, ifindex: link.ifindex };
    if ((neigh.flags & NTF_PROXY) !== 0) {
      const proxy = { ...there, state: 0, flags: NTF_PROXY };
      this.#request(verb === 'neigh.add' ? replaceNeigh(proxy) : delNeigh(proxy), 'ENOENT');
      return;
    }
    if (verb === 'neigh.del') {
      this.#request(delNeigh(there), 'ENOENT');
      return;
    }
    // Known, and to be asked again when it is used.
    const state = (neigh.state & NUD_PERMANENT) === 0 ? stale : NUD_PERMANENT;
    this.#request(replaceNeigh({ ...neigh, ...there, state }), 'EINVAL');
  }

  /** A setting that this kernel has not, or does not let be written, is no reason to give up. */
  #sysctl({ link, key, value }: Extract<UplinkOp, { do: 'sysctl.set' }>): void {
    try {
      writeSysctl(this.#host.netns, sysctlPath(link, key), value);
    } catch (error) {
      if (!hasErrno(error, 'ENOENT', 'EACCES', 'EPERM', 'EINVAL', 'EIO')) throw error;
    }
  }

  #announce(name: string): void {
    const link = this.#linkOf(name);
    if (!link?.up) return;
    const cidrs = listAddrs(this.#host.rtnl, link.ifindex).map(({ cidr }) => cidr);
    try {
      announce(this.#host.netns, link.ifindex, link.mac, cidrs);
    } catch (error) {
      if (!hasErrno(error, 'ENETDOWN', 'ENXIO', 'ENODEV')) throw error;
    }
  }

  #solicit(name: string): void {
    const link = this.#linkOf(name);
    const from =
      link && listAddrs(this.#host.rtnl, link.ifindex).find(({ cidr }) => cidr.ip.startsWith('fe80:'));
    if (!link?.up || !from) return;
    try {
      solicitRouters(this.#host.netns, link.ifindex, link.mac, from.cidr.ip);
    } catch (error) {
      if (!hasErrno(error, 'ENETDOWN', 'ENXIO', 'ENODEV')) throw error;
    }
  }

  async #link(op: UplinkOp): Promise<void> {
    switch (op.do) {
      case 'bridge.add':
        return this.#addBridge(op);
      case 'bridge.del':
        return this.#delBridge(op);
      case 'link.up':
      case 'link.down':
        return this.#request(setLink({ name: op.link }, { up: op.do === 'link.up' }), 'ENODEV');
      case 'bridge.down':
        return this.#bridgeDown(op.bridge.name);
      case 'mac.set':
        return this.#setMac(op);
      case 'link.ready':
        return this.#ready(op.link);
      case 'port.add':
        return this.#addPort(op);
      case 'port.del':
        return this.#delPort(op);
      case 'port.trunks': {
        const { setPortVlans } = await import('../ovs/port-settings.ts');
        return setPortVlans(await this.#host.ovs(), op.nic, { trunks: op.trunks }, ovsWait);
      }
      default:
        return;
    }
  }

  async #addBridge({
    bridge,
    mac,
    mtu,
    group,
    filters,
  }: Extract<UplinkOp, { do: 'bridge.add' }>): Promise<void> {
    if (this.#linkOf(bridge.name)) return;
    if (bridge.kind === 'bridge') {
      const filtering = filters ? ({ vlanFiltering: true } as const) : {};
      const request = addLink({ kind: 'bridge', name: bridge.name, group, mtu, mac, ...filtering });
      return this.#request(filters ? { ...request, hints: vlanHints } : request);
    }
    const { addBridge } = await import('../ovs/bridge.ts');
    const otherConfig = { hwaddr: mac };
    const externalIds = { [ovsMark]: String(group) };
    await addBridge(await this.#host.ovs(), { name: bridge.name, externalIds, otherConfig }, ovsWait);
  }

  async #delBridge({ bridge, group }: Extract<UplinkOp, { do: 'bridge.del' }>): Promise<void> {
    const { rtnl } = this.#host;
    if (bridge.kind === 'ovs') {
      const { delBridge } = await import('../ovs/bridge.ts');
      const onlyIf = { key: ovsMark, value: String(group) };
      await delBridge(await this.#host.ovs(), { name: bridge.name, onlyIf, onlyIfEmpty: true }, ovsWait);
      return;
    }
    const link = this.#linkOf(bridge.name);
    if (!link || link.group !== group) return;
    if (listLinks(rtnl).some(({ master }) => master === link.ifindex)) return;
    await rtnl.requestInBackground(delLink(link.ifindex));
  }

  #bridgeDown(name: string): void {
    const { rtnl } = this.#host;
    const { ifindex } = this.#linkOf(name) ?? {};
    const isUsed = listLinks(rtnl).some(({ master, group }) => master === ifindex && isOurGroup(group));
    if (!isUsed) this.#request(setLink({ name }, { up: false }), 'ENODEV');
  }

  async #setMac({ bridge, mac }: Extract<UplinkOp, { do: 'mac.set' }>): Promise<void> {
    if (bridge.kind === 'ovs') {
      const { setBridgeMac } = await import('../ovs/bridge.ts');
      return setBridgeMac(await this.#host.ovs(), bridge.name, mac, ovsWait);
    }
    if (mac !== undefined) this.#request(setLink({ name: bridge.name }, { mac }), 'ENODEV');
  }

  /** Until then the kernel throws away what is sent by it. */
  async #ready(name: string): Promise<void> {
    const deadline = performance.now() + readyTimeoutMs;
    const isReady = (): boolean => {
      const link = this.#linkOf(name);
      return link === undefined || ['up', 'unknown'].includes(link.operstate);
    };
    while (!isReady() && performance.now() < deadline) await sleep(readyPollMs);
  }

  async #addPort({ bridge, nic, trunks, group }: Extract<UplinkOp, { do: 'port.add' }>): Promise<void> {
    if (bridge.kind === 'bridge') {
      const master = this.#linkOf(bridge.name);
      const port = this.#linkOf(nic);
      if (!master || !port) throw new Error(`${bridge.name} or ${nic} went away`);
      return port.master === master.ifindex
        ? undefined
        : this.#request(setLink({ ifindex: port.ifindex }, { master: master.ifindex }));
    }
    const { addPort, getPort } = await import('../ovs/port.ts');
    const db = await this.#host.ovs();
    if ((await getPort(db, nic))?.bridge === bridge.name) return;
    const portExternalIds = { [ovsMark]: String(group) };
    await addPort(db, { bridge: bridge.name, port: nic, trunks, portExternalIds }, ovsWait);
  }

  async #delPort({ bridge, nic }: Extract<UplinkOp, { do: 'port.del' }>): Promise<void> {
    const port = this.#linkOf(nic);
    if (bridge.kind === 'bridge') {
      const master = this.#linkOf(bridge.name);
      if (!port || !master || port.master !== master.ifindex) return;
      return this.#request(setLink({ ifindex: port.ifindex }, { master: 0 }));
    }
    const { delPort, getPort } = await import('../ovs/port.ts');
    const db = await this.#host.ovs();
    if ((await getPort(db, nic))?.bridge === bridge.name) await delPort(db, { port: nic }, ovsWait);
  }
}

/** An address carries its link's name as a label, and aliases begin with it: `eth0:1`. */
function labelled(addr: Addr, link: string): Addr {
  const unknown = (addr.unknown ?? []).flatMap((one): RawAttr[] => {
    if ((one.type & 0x3fff) !== labelAttr) return [one];
    const label = Buffer.from(one.data).toString('utf8').replace(/\0.*$/, '');
    const alias = label.indexOf(':');
    if (alias < 0) return [];
    const name = `${link}${label.slice(alias)}`;
    return Buffer.byteLength(name) > 15 ? [] : [{ type: one.type, data: Buffer.from(`${name}\0`) }];
  });
  return { ...addr, unknown };
}
