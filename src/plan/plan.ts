/** What to do about a wanted attachment: make it, change it, make it anew, or refuse. Pure. */
import { PipewrightError } from '../errors.ts';
import { everything } from '../model/address.ts';
import {
  type AddrSpec,
  type Attachment,
  formatContainer,
  isInternal,
  isPair,
  type RouteSpec,
} from '../model/attachment.ts';
import type { Route } from '../model/link.ts';
import { hostIfnameFor, isOurGroup, routeProtocol } from '../model/naming.ts';
import type { LinkWithAddrs, Observed } from '../model/observed.ts';
import type { Change, Operation, Step } from '../model/operation.ts';
import { mainTable, routeKey } from '../model/route.ts';
import { planCreate } from './attach.ts';
import { planChange, whyRecreate } from './change.ts';
import { isAsked } from './kept.ts';
import { dropIfb } from './rates.ts';
import { makeRoom } from './replace.ts';

/** What is done when the interface is there already: the drop-in refuses, `attach` makes it right. */
export type IfPresent = 'refuse' | 'converge';

/** The steps that turn what is into what is wanted; none when nothing differs. */
export function planAttach(want: Attachment, seen: Observed, ifPresent: IfPresent): Step[] {
  const { hostEnd } = seen.host;
  const { link: there } = seen.guest;
  if (ifPresent === 'converge' && there && isOurGroup(there.link.group)) {
    const why = whyRecreate(want, seen, there);
    return why === undefined ? planChange(want, seen, there) : planRecreate(want, seen, why);
  }
  const isFormer = hostEnd !== undefined && hostEnd.name === seen.host.formerEnd?.name;
  const leftover = isInternal(want.network)
    ? planLostPort(want, seen)
    : [...dropFormer(seen), ...(isFormer ? [] : pairLeftover(want, seen))];
  // The container's end of a leftover pair goes with it.
  const isLeftover =
    hostEnd && there?.link.kind === 'veth' && there.link.lower === hostEnd.ifindex && leftover.length > 0;
  if (there && !isLeftover) {
    throw new PipewrightError('LINK_EXISTS', {
      op: 'attach',
      subject: `${want.ifname} in ${formatContainer(want.container)}`,
      errno: 'EEXIST',
      detail: 'an interface of this name is there, and pipewright did not make it',
      hint: 'choose another name with -i (pipework) or --ifname (pipewright)',
    });
  }
  return [...leftover, ...planCreate(want, seen)];
}

/** What {@link planAttach} makes of it, where it plans anything. */
export function changeOf(want: Attachment, seen: Observed): Change {
  const { link: there } = seen.guest;
  if (!there || !isOurGroup(there.link.group)) return 'create';
  return whyRecreate(want, seen, there) === undefined ? 'update' : 'replace';
}

/** The port of an interface that is gone. */
function planLostPort(want: Attachment, { host }: Observed): Step[] {
  const { hostEnd, ovsPort } = host;
  if (!ovsPort && hostEnd) {
    throw new PipewrightError('NAME_TAKEN', {
      op: 'attach',
      subject: hostEnd.name,
      errno: 'EEXIST',
      detail: `the host has a link of the name that the internal port for ${want.ifname} is to have`,
      hint: 'choose another name with --ifname',
    });
  }
  if (!ovsPort) return [];
  return [{ op: { do: 'ovs.port.del', port: ovsPort.name }, because: 'its interface is gone', undo: [] }];
}

function pairLeftover(want: Attachment, seen: Observed): Step[] {
  return isPair(want.network) && seen.host.hostEnd ? planLeftover(want, seen) : [];
}

/** The interface of an earlier life would still answer for the addresses that this one is to have. */
function dropFormer({ host: { formerEnd } }: Observed): Step[] {
  if (!formerEnd) return [];
  const { name, group } = formerEnd;
  const op: Operation = { do: 'link.del', side: 'host', name, onlyGroup: group };
  return [{ op, because: "of the container's earlier life", undo: [] }];
}

/** A host's end of the wanted name: up, it is in use; down, it is what an earlier failure left. */
function planLeftover(want: Attachment, seen: Observed): Step[] {
  const { hostEnd, hostIfname } = seen.host;
  if (!hostEnd) return [];
  if (hostEnd.kind !== 'veth' || hostEnd.up) {
    throw new PipewrightError(hostEnd.kind === 'veth' ? 'LINK_EXISTS' : 'NAME_TAKEN', {
      op: 'attach',
      subject: hostIfname,
      errno: 'EEXIST',
      detail: hostEnd.up ? `Link ${hostIfname} exists and is up` : `Link ${hostIfname} exists and is no veth`,
      hint: `for ${want.ifname} of ${formatContainer(want.container)}: choose another name with -l, or remove that link`,
    });
  }
  return [
    {
      op: { do: 'link.del', side: 'host', name: hostIfname },
      because: 'it is down: what an attempt that failed has left',
      undo: [],
    },
  ];
}

function planRecreate(want: Attachment, seen: Observed, why: string): Step[] {
  const { link: there } = seen.guest;
  if (!there) throw new Error('nothing to re-create');
  const inode = seen.group;
  const { hostEnd, hostIfname, ovsPort } = seen.host;
  // That of an internal port is free by then, and the other ends are taken until the predecessor is gone.
  const isTaken = ovsPort?.isInternal ? !isInternal(want.network) : hostEnd !== undefined;
  // What goes down with the predecessor comes back with it; it is nothing for the successor to replace.
  const others = ({ dev }: Route): boolean => dev !== there.link.ifindex;
  const fresh: Observed = {
    ...seen,
    host: {
      ...seen.host,
      hostIfname: isTaken ? hostIfnameFor(want.ifname, { inode }, 2) : hostIfname,
      hostEnd: undefined,
      ovsPort: undefined,
    },
    guest: {
      ...seen.guest,
      link: undefined,
      vlans: [],
      ipv6Disabled: seen.guest.ipv6DisabledOnNew,
      defaults: seen.guest.defaults.filter(others),
      hostRoutes: seen.guest.hostRoutes.filter(others),
    },
  };
  const nameFor = (nr: number): string => hostIfnameFor(want.ifname, { inode }, nr);
  const { before, after } = makeRoom(want, seen, there, nameFor, `made anew, ${why}`);
  return [
    ...before,
    ...planCreate(inherit(want, seen, there), fresh),
    ...after,
    ...(seen.guest.detour.isThere && isPair(want.network) ? [dropIfb(want.ifname)] : []),
  ];
}

/** What is not asked for anew is taken over from the predecessor: its MAC address, addresses, gateway and routes. */
function inherit(want: Attachment, seen: Observed, there: LinkWithAddrs): Attachment {
  const mac = want.mac ?? ownMac(want, there);
  const vlans = want.vlans ?? seen.record?.want?.vlans;
  const own = { ...want, ...(mac === undefined ? {} : { mac }), ...(vlans && { vlans }) };
  if (want.addrs.length > 0) return own;
  const { link, addrs, routes } = there;
  const cidrs = addrs.filter(isAsked).map(({ cidr }) => ({ cidr }));
  const gateways = seen.guest.defaults.flatMap(({ dev, family, gateway }) =>
    dev === link.ifindex && gateway ? [{ gateway: { family, ip: gateway } }] : [],
  );
  const ours = routes.filter(({ protocol }) => protocol === routeProtocol);
  const kept = ours.filter((route) => !isDefault(route) && !isGateway(route, gateways)).map(specOf);
  return { ...own, addrs: [...cidrs, ...gateways], routes: want.routes.length > 0 ? want.routes : kept };
}

/** The route of a gateway, and the way to one that is in no subnet. */
const isDefault = (route: Route): boolean =>
  route.dst === undefined && routeKey(route) === routeKey({ family: route.family });
const isGateway = ({ dst, table }: Route, gateways: readonly AddrSpec[]): boolean =>
  table === mainTable && gateways.some(({ gateway }) => gateway?.ip === dst?.ip);

function specOf({ family, dst, gateway, table, metric }: Route): RouteSpec {
  return {
    dst: dst ?? everything(family),
    ...(gateway === undefined ? {} : { gateway }),
    ...(table === mainTable ? {} : { table }),
    ...(metric === undefined ? {} : { metric }),
  };
}

const ownMacKinds = ['veth', 'bridge', 'ovs', 'tun', 'openvswitch', 'macvlan', 'dummy'];

/** The MAC address of an interface that has one of its own, for one that can: not the NIC's, which some kinds share. */
function ownMac({ network }: Attachment, { link }: LinkWithAddrs): string | undefined {
  const shares = (kind: string | undefined, mode: string | undefined): boolean =>
    !ownMacKinds.includes(kind ?? '') || mode === 'passthru';
  const { mode } = link.data;
  if (shares(link.kind, mode) || shares(network.kind, 'mode' in network ? network.mode : undefined))
    return undefined;
  return link.mac;
}
