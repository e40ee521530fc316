/** What differs between a wanted attachment and the interface that is there: changed in place, or made anew. Pure. */
import { PipewrightError } from '../errors.ts';
import { type Cidr, contains, formatCidr } from '../model/address.ts';
import { type Attachment, formatContainer, type Network, type RouteSpec } from '../model/attachment.ts';
import type { Addr } from '../model/link.ts';
import { routeProtocol, vlanIfnameFor } from '../model/naming.ts';
import { type LinkWithAddrs, type Observed, type ObservedOvsPort, promotion } from '../model/observed.ts';
import type { LinkChange, Operation, Step } from '../model/operation.ts';
import { isWantedRoute, plannedRoute, routeKey, routeName } from '../model/route.ts';
import { planAddrs } from './addrs.ts';
import {
  gatewaySteps,
  ipv6MinMtu,
  planIpv6,
  planNetwork,
  portIds,
  portStep,
  replacedDefault,
  saved,
} from './attach.ts';
import { planRules, planSysctls } from './extras.ts';
import { planRates } from './rates.ts';

/** The kind of link that a network puts into the container. */
const linkKindOf = {
  bridge: 'veth',
  ovs: 'veth',
  macvlan: 'macvlan',
  ipvlan: 'ipvlan',
  ipoib: 'ipoib',
  dummy: 'dummy',
  phys: undefined,
} as const;

/**
 * Why the interface cannot be changed into what is wanted, or undefined when it can.
 * @param there the interface that has the wanted name, known to be ours
 */
export function whyRecreate(want: Attachment, seen: Observed, there: LinkWithAddrs): string | undefined {
  const { network } = want;
  const taken = seen.record?.taken;
  if (network.kind === 'phys' || taken) {
    const name =
      network.kind === 'phys' &&
      (network.vid === undefined ? network.uplink : vlanIfnameFor(network.uplink, network.vid));
    // A sub-interface that was made for it was nobody's before.
    const made = !taken && seen.record?.network.kind === 'phys' ? seen.record.vlanIfname : undefined;
    if (name !== false && name === (taken?.name ?? made)) return undefined;
    throw new PipewrightError('LINK_EXISTS', {
      op: 'attach',
      subject: `${want.ifname} in ${formatContainer(want.container)}`,
      detail: taken ? `it is the NIC ${taken.name} of the host` : 'it is not the NIC that is asked for',
      hint: `first: pipewright detach ${formatContainer(want.container)} --ifname ${want.ifname}`,
    });
  }
  const kind = linkKindOf[network.kind];
  if (there.link.kind !== kind) return `kind: ${there.link.kind ?? 'a NIC'} -> ${kind}`;
  if (network.kind === 'macvlan' || network.kind === 'ipvlan') {
    const lower = network.vid === undefined ? seen.host.network : seen.host.vlanLink;
    if (lower === undefined || there.link.lower !== lower.ifindex)
      return `uplink: -> ${lower?.name ?? network.uplink}`;
    if (there.link.data.mode !== network.mode) return `mode: ${there.link.data.mode} -> ${network.mode}`;
  }
  if (network.kind === 'ipoib' && network.pkey !== undefined && there.link.data.pkey !== network.pkey)
    return 'pkey';
  if (kind === 'veth' && seen.host.hostEnd === undefined) return "the host's end is gone";
  return undefined;
}

/** The steps that turn the interface that is there into what is wanted, in place. Empty when nothing differs. */
export function planChange(want: Attachment, seen: Observed, there: LinkWithAddrs): Step[] {
  return [
    ...planNetwork(want, seen),
    ...changePort(want, seen),
    ...restorable(there, [
      ...changeLink(want, seen, there),
      ...planIpv6(want, seen, [{ do: 'ipv6.enable', link: want.ifname, enable: false }]),
      ...planSysctls(want, seen),
      ...addAddrs(want, seen, there),
      ...changeGateways(want, seen, there),
      ...changeRoutes(want, there),
      ...dropRoutes(want, seen, there),
      ...dropGateways(want, seen, there),
      ...dropAddrs(want, seen, there),
    ]),
    ...planRules(want, seen),
    ...planRates(want, seen, seen.host.hostEnd?.name ?? ''),
  ];
}

/**
 * Taken back, the link is as it was down to the order of its addresses, by one operation for all steps: a deleted address
 * takes routes with it, and an MTU below 1280 all of IPv6, so that no step knows by itself what it costs.
 */
function restorable(there: LinkWithAddrs, steps: readonly Step[]): Step[] {
  const [first, ...others] = steps;
  if (!first) return [];
  const restore: Operation = { do: 'link.restore', name: there.link.name, saved: saved(there) };
  return [{ ...first, undo: [...first.undo, restore] }, ...others];
}

function changePort(want: Attachment, seen: Observed): Step[] {
  const { network } = want;
  const { hostEnd, ovsPort } = seen.host;
  if (!hostEnd || (network.kind !== 'bridge' && network.kind !== 'ovs')) return [];
  const leave: Step[] =
    ovsPort && (network.kind === 'bridge' || ovsPort.bridge !== network.name)
      ? [
          {
            op: { do: 'ovs.port.del', port: hostEnd.name },
            because: `it is a port of ${ovsPort.bridge}, not of ${network.name}`,
            undo: [portAgain(seen, hostEnd.name, ovsPort)],
          },
        ]
      : [];
  if (network.kind === 'ovs') {
    const release =
      hostEnd.master !== undefined && !ovsPort
        ? [masterStep(hostEnd.name, '', seen, 'it moves to Open vSwitch')]
        : [];
    if (!ovsPort || leave.length > 0) {
      return [...leave, ...release, portStep(want, seen, hostEnd.name, `it is no port of ${network.name}`)];
    }
    return changeVlans(network, hostEnd.name, ovsPort);
  }
  if (seen.host.network && hostEnd.master === seen.host.network.ifindex && leave.length === 0) return [];
  return [...leave, masterStep(hostEnd.name, network.name, seen, `it is no port of ${network.name}`)];
}

/** The VLANs of a port that stays where it is. */
function changeVlans(
  { vid, trunks = [] }: Extract<Network, { kind: 'ovs' }>,
  port: string,
  was: ObservedOvsPort,
): Step[] {
  const list = (vids: readonly number[]): string => vids.join(',') || 'none';
  const isSameTag = vid === was.vid;
  const areSameTrunks = list(trunks) === list(was.trunks);
  if (isSameTag && areSameTrunks) return [];
  const set = (to: ObservedOvsPort['vid'], carried: readonly number[]): Operation => ({
    do: 'ovs.port.set',
    port,
    set: { ...(isSameTag ? {} : { vid: to ?? null }), ...(areSameTrunks ? {} : { trunks: carried }) },
  });
  const reasons = [
    ...(isSameTag ? [] : [`tag: ${was.vid ?? 'none'} -> ${vid ?? 'none'}`]),
    ...(areSameTrunks ? [] : [`trunks: ${list(was.trunks)} -> ${list(trunks)}`]),
  ];
  return [{ op: set(vid, trunks), because: reasons.join(', '), undo: [set(was.vid, was.trunks)] }];
}

function portAgain(seen: Observed, port: string, was: ObservedOvsPort): Operation {
  const { bridge, vid, trunks } = was;
  const group = seen.record?.group ?? seen.group;
  const externalIds = portIds(seen, port, was);
  const tag = vid === undefined ? {} : { vid };
  return {
    do: 'ovs.port.add',
    bridge,
    port,
    group,
    externalIds,
    ...tag,
    ...(trunks.length > 0 && { trunks }),
  };
}

function masterStep(name: string, master: string, seen: Observed, because: string): Step {
  return {
    op: { do: 'link.set', side: 'host', name, set: { master } },
    because,
    undo: [{ do: 'link.set', side: 'host', name, set: { master: seen.host.hostEndMaster ?? '' } }],
  };
}

function changeLink(want: Attachment, seen: Observed, { link }: LinkWithAddrs): Step[] {
  const steps: Step[] = [];
  const set = (
    side: 'host' | 'guest',
    name: string,
    change: LinkChange,
    was: LinkChange,
    because: string,
  ): void => {
    steps.push({
      op: { do: 'link.set', side, name, set: change },
      because,
      undo: [{ do: 'link.set', side, name, set: was }],
    });
  };
  const { hostEnd } = seen.host;
  if (want.mac !== undefined && want.mac !== link.mac) {
    set('guest', want.ifname, { mac: want.mac }, { mac: link.mac }, `mac: ${link.mac} -> ${want.mac}`);
  }
  if (want.mtu !== undefined && want.mtu !== link.mtu) {
    set('guest', want.ifname, { mtu: want.mtu }, { mtu: link.mtu }, `mtu: ${link.mtu} -> ${want.mtu}`);
  }
  if (hostEnd && want.mtu !== undefined && want.mtu !== hostEnd.mtu) {
    set('host', hostEnd.name, { mtu: want.mtu }, { mtu: hostEnd.mtu }, `mtu: ${hostEnd.mtu} -> ${want.mtu}`);
  }
  if (!link.up) set('guest', want.ifname, { up: true }, { up: false }, 'it is down');
  if (hostEnd && !hostEnd.up) set('host', hostEnd.name, { up: true }, { up: false }, 'it is down');
  return steps;
}

const sameCidr = (a: Cidr, b: Cidr): boolean => a.ip === b.ip && a.prefixLen === b.prefixLen;

/** IFA_F_PERMANENT: not from a lease or a router advertisement. */
const permanent = 0x80;

/** Whether an address was put there on purpose: not by a lease, not a link-local one. */
export function isAsked({ scope, flags }: Addr): boolean {
  return scope === 0 && (flags & permanent) !== 0;
}

const cidrsOf = (want: Attachment): Cidr[] => want.addrs.flatMap(({ cidr }) => (cidr ? [cidr] : []));

function addAddrs(want: Attachment, seen: Observed, { addrs }: LinkWithAddrs): Step[] {
  const missing = cidrsOf(want).filter((cidr) => !addrs.some((addr) => sameCidr(addr.cidr, cidr)));
  // With another prefix length it is its own already.
  const own = addrs.map(({ cidr }) => cidr.ip);
  return planAddrs(want, { ...seen, verified: new Set([...(seen.verified ?? []), ...own]) }, missing);
}

/** Last of all, so that what leads over an old address is replaced before it goes, and comes back after it. */
function dropAddrs(want: Attachment, seen: Observed, { addrs }: LinkWithAddrs): Step[] {
  // No address asked for says nothing about those that are there.
  if (want.addrs.length === 0) return [];
  const wanted = cidrsOf(want);
  const gone = ({ cidr }: Addr): boolean =>
    cidr.family === 6 && want.mtu !== undefined && want.mtu < ipv6MinMtu;
  const surplus = addrs.filter(
    (addr) => isAsked(addr) && !gone(addr) && !wanted.some((cidr) => sameCidr(cidr, addr.cidr)),
  );
  const steps = surplus.map(
    ({ cidr }): Step => ({
      op: { do: 'addr.del', side: 'guest', link: want.ifname, cidr },
      because: `${formatCidr(cidr)} is not asked for`,
      undo: [],
    }),
  );
  const staying = [...wanted, ...addrs.filter((addr) => !surplus.includes(addr)).map(({ cidr }) => cidr)];
  const shared = surplus.some(
    ({ cidr }) => cidr.family === 4 && staying.some((other) => sameSubnet(cidr, other)),
  );
  return shared ? withPromotion(want, seen, steps) : steps;
}

const sameSubnet = (a: Cidr, b: Cidr): boolean => a.prefixLen === b.prefixLen && contains(a, b.ip);

/** The first IPv4 address of a subnet takes the others of that subnet with it, unless the next is to follow it. */
function withPromotion(want: Attachment, seen: Observed, steps: readonly Step[]): Step[] {
  const present = want.sysctls?.[promotion] ?? seen.guest.sysctls[promotion];
  if (present !== '0') return [...steps];
  const set = (value: string): Operation => ({ do: 'sysctl.set', link: want.ifname, key: promotion, value });
  return [
    { op: set('1'), because: 'the other addresses of the subnet are to stay', undo: [set('0')] },
    ...steps,
    { op: set('0'), because: 'as it was', undo: [set('1')] },
  ];
}

function changeGateways(want: Attachment, seen: Observed, { link }: LinkWithAddrs): Step[] {
  return want.addrs.flatMap((spec) => {
    if (!spec.gateway) return [];
    const present = replacedDefault(spec.gateway.family, seen);
    const right = present?.gateway === spec.gateway.ip && present.dev === link.ifindex;
    return right ? [] : gatewaySteps(want, spec.gateway, seen);
  });
}

function changeRoutes(want: Attachment, { routes }: LinkWithAddrs): Step[] {
  return want.routes
    .filter((spec) => !routes.some((route) => isWantedRoute(spec, route)))
    .map((spec): Step => {
      const route = plannedRoute(spec, want.ifname);
      const was = routes.find((other) => routeKey(other) === routeKey(route));
      return {
        op: { do: 'route.replace', side: 'guest', route },
        because: was ? `${routeName(spec)}: another gateway` : `no route to ${routeName(spec)}`,
        undo: was ? [] : [{ do: 'route.del', side: 'guest', route }],
      };
    });
}

/**
 * Routes that were asked for earlier and are no more; those that others made stay. Only for an entry of a topology, which
 * says all that is wanted (its rules, if only none): what a command does not say it leaves alone.
 */
function dropRoutes(want: Attachment, seen: Observed, { routes }: LinkWithAddrs): Step[] {
  if (want.rules === undefined) return [];
  const key = (spec: RouteSpec): string => routeKey({ ...spec, family: spec.dst.family });
  const wanted = new Set(want.routes.map(key));
  const former = (seen.record?.want?.routes ?? []).filter((spec) => !wanted.has(key(spec)));
  return former.flatMap((spec): Step[] => {
    const present = routes.find((route) => isWantedRoute(spec, route) && route.protocol === routeProtocol);
    if (!present) return [];
    const { metric } = present;
    const route = plannedRoute({ ...spec, ...(metric === undefined ? {} : { metric }) }, want.ifname);
    return [
      {
        op: { do: 'route.del', side: 'guest', route },
        because: `the route to ${routeName(spec)} is asked for no more`,
        undo: [{ do: 'route.restore', side: 'guest', route: present }],
      },
    ];
  });
}

/** Likewise the default route, whose predecessor comes back. */
function dropGateways(want: Attachment, seen: Observed, { link }: LinkWithAddrs): Step[] {
  // No address asked for says nothing about those that are there, nor about the gateway.
  if (want.addrs.length === 0 || want.rules === undefined) return [];
  const families = new Set(want.addrs.flatMap(({ gateway }) => gateway?.family ?? []));
  return (seen.record?.want?.addrs ?? []).flatMap(({ gateway }) => {
    if (!gateway || families.has(gateway.family)) return [];
    const present = replacedDefault(gateway.family, seen);
    if (present?.gateway !== gateway.ip || present.dev !== link.ifindex) return [];
    const route = { family: gateway.family, gateway: gateway.ip, link: want.ifname };
    const del: Step = {
      op: { do: 'route.del', side: 'guest', route },
      because: `the gateway ${gateway.ip} is asked for no more`,
      undo: [{ do: 'route.restore', side: 'guest', route: present }],
    };
    const former = (seen.record?.replaced ?? []).filter(({ family }) => family === gateway.family);
    const back = former.map(
      (was): Step => ({
        op: { do: 'route.restore', side: 'guest', route: was },
        because: 'it was the default route before',
        undo: [],
      }),
    );
    return [del, ...back];
  });
}

/** The link that is there makes room for its successor; see {@link dropStashed} for its end. */
export function stashStep(want: Attachment, there: LinkWithAddrs, as: string, because: string): Step {
  return {
    op: { do: 'link.stash', name: want.ifname, as },
    because,
    undo: [{ do: 'link.restore', name: as, saved: saved(there) }],
  };
}

/** The last steps of a re-creation: the predecessor goes, and its port with it. */
export function dropStashed(seen: Observed, as: string): Step[] {
  const { hostEnd, ovsPort } = seen.host;
  const drop = (op: Operation): Step => ({ op, because: 'its successor is in place', undo: [], final: true });
  return [
    ...(hostEnd && ovsPort ? [drop({ do: 'ovs.port.del', port: hostEnd.name })] : []),
    drop({ do: 'link.del', side: 'guest', name: as }),
  ];
}
