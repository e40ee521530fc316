/** What differs between a wanted attachment and the interface that is there: changed in place, or made anew. Pure. */
import { PipewrightError } from '../errors.ts';
import { type Cidr, contains, formatCidr } from '../model/address.ts';
import {
  type Attachment,
  type BridgeNetwork,
  type ChildMode,
  childModeOf,
  formatContainer,
  ipvlanModes,
  isInternal,
  macvlanModes,
  type RouteSpec,
} from '../model/attachment.ts';
import type { Addr, Link } from '../model/link.ts';
import { routeProtocol, vlanIfnameFor } from '../model/naming.ts';
import { type LinkWithAddrs, type Observed, promotion } from '../model/observed.ts';
import type { LinkChange, Operation, Step } from '../model/operation.ts';
import { bornVlans, saysVlans, wantedVlans } from '../model/port-vlan.ts';
import { isWantedRoute, plannedRoute, routeKey, routeName } from '../model/route.ts';
import { planAddrs } from './addrs.ts';
import { gatewaySteps, ipv6MinMtu, planIpv6, planNetwork, replacedDefault } from './attach.ts';
import { planNewPort, planPortVlans, portVlanOps } from './bridge.ts';
import { planDeaf } from './deaf.ts';
import { dropSysctls, planRules, planSysctls } from './extras.ts';
import { dropGuestVlans, planGuestVlans } from './guest-vlans.ts';
import { dropIpv6 } from './ipv6.ts';
import { isAsked, restorable } from './kept.ts';
import { planMirror, planPolicing } from './ovs-extras.ts';
import { changeVlans, portAgain, portStep } from './ovs-port.ts';
import { planRates, undoneWithLimit } from './rates.ts';
import { planVf } from './sriov.ts';

/** The kind of link that a network puts into the container. */
const linkKindOf = {
  bridge: 'veth',
  ovs: 'veth',
  macvlan: 'macvlan',
  ipvlan: 'ipvlan',
  ipoib: 'ipoib',
  dummy: 'dummy',
  phys: undefined,
  sriov: undefined,
} as const;

/**
 * Why the interface cannot be changed into what is wanted, or undefined when it can.
 * @param there the interface that has the wanted name, known to be ours
 */
export function whyRecreate(want: Attachment, seen: Observed, there: LinkWithAddrs): string | undefined {
  const { network } = want;
  const taken = seen.record?.taken;
  const isSame = network.kind === 'sriov' && seen.record?.vf?.uplink === network.uplink;
  if (isSame) return undefined;
  if (network.kind === 'phys' || network.kind === 'sriov' || taken) {
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
  if (isInternal(network)) return whyInternalAnew(network.name, seen, there);
  const kind = linkKindOf[network.kind];
  if (there.link.kind !== kind) return `kind: ${there.link.kind ?? 'a NIC'} -> ${kind}`;
  if (network.kind === 'macvlan' || network.kind === 'ipvlan') {
    const lower = network.vid === undefined ? seen.host.network : seen.host.vlanLink;
    if (lower === undefined || there.link.lower !== lower.ifindex)
      return `uplink: -> ${lower?.name ?? network.uplink}`;
    // The other modes of a macvlan can be changed, and those of an ipvlan are the NIC's.
    const modes: (string | undefined)[] = [there.link.data.mode, network.mode];
    if (modes[0] !== modes[1] && modes.includes('passthru')) return `mode: ${modes[0]} -> ${modes[1]}`;
  }
  if (network.kind === 'ipoib' && network.pkey !== undefined && there.link.data.pkey !== network.pkey)
    return 'pkey';
  if (kind === 'veth' && seen.host.hostEnd === undefined) return "the host's end is gone";
  return undefined;
}

/** The link of an internal port is what it is for as long as its port is: whatever happens to that, it is made anew. */
function whyInternalAnew(bridge: string, { host }: Observed, { link }: LinkWithAddrs): string | undefined {
  const { ovsPort, hostEnd } = host;
  if (link.kind !== 'tun' && link.kind !== 'openvswitch') return `kind: ${link.kind ?? 'a NIC'} -> internal`;
  if (!ovsPort?.isInternal) return 'its port is gone';
  if (ovsPort.bridge !== bridge) return `bridge: ${ovsPort.bridge} -> ${bridge}`;
  return hostEnd && hostEnd.kind === link.kind
    ? 'Open vSwitch has made its port anew, on the host'
    : undefined;
}

/** The steps that turn the interface that is there into what is wanted, in place. Empty when nothing differs. */
export function planChange(want: Attachment, seen: Observed, there: LinkWithAddrs): Step[] {
  const port = changePort(want, seen);
  const joinsOvs = port.some(({ op }) => op.do === 'ovs.port.add');
  return [
    ...planNetwork(want, seen),
    ...undoneWithLimit(port, seen),
    ...(want.network.kind === 'sriov' ? planVf(want, want.network, seen) : []),
    ...restorable(there, [
      ...changeMode(want, there),
      ...changeLink(want, seen, there),
      ...planSysctls(want, seen),
      ...dropSysctls(want, seen),
      ...planIpv6(want, seen, [{ do: 'ipv6.enable', link: want.ifname, enable: false }]),
      ...addAddrs(want, seen, there),
      ...changeGateways(want, seen, there),
      ...changeRoutes(want, there),
      ...dropRoutes(want, seen, there),
      ...dropGateways(want, seen, there),
      ...dropAddrs(want, seen, there),
      ...dropIpv6(want, seen, there),
    ]),
    ...planGuestVlans(want, seen),
    ...planRules(want, seen),
    ...planRates(want, seen, seen.host.hostEnd?.name ?? '', joinsOvs),
    ...dropGuestVlans(want, seen),
  ];
}

function changePort(want: Attachment, seen: Observed): Step[] {
  const { network } = want;
  const { hostEnd, ovsPort } = seen.host;
  if (isInternal(network)) {
    if (!ovsPort) return [];
    return [...changeVlans(network, ovsPort.name, ovsPort), ...planMirror(want, seen, ovsPort.name)];
  }
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
    const hush = planDeaf(hostEnd.name, seen, hostEnd);
    const others = (of: Observed): Step[] => [
      ...planPolicing(want, of, hostEnd.name),
      ...planMirror(want, of, hostEnd.name),
    ];
    if (!ovsPort || leave.length > 0) {
      const add = portStep(want, seen, hostEnd.name, `it is no port of ${network.name}`);
      const bare: Observed = { ...seen, host: { ...seen.host, ovsPort: undefined } };
      return [...leave, ...release, ...hush, add, ...others(bare)];
    }
    return [...hush, ...changeVlans(network, hostEnd.name, ovsPort), ...others(seen)];
  }
  const isPort = seen.host.network && hostEnd.master === seen.host.network.ifindex && leave.length === 0;
  if (isPort) return changePortVlans(network, hostEnd.name, seen);
  return [
    ...leave,
    masterStep(hostEnd.name, network.name, seen, `it is no port of ${network.name}`),
    ...planNewPort(network, hostEnd.name, seen.host.network),
  ];
}

/** Asked for no VLAN any more, the port is as the bridge gives it to a new one. */
function changePortVlans(network: BridgeNetwork, port: string, { host, record }: Observed): Step[] {
  const had = record?.network.kind === 'bridge' && saysVlans(record.network);
  const wanted = wantedVlans(network) ?? (had ? bornVlans(host.network?.data.defaultPvid) : undefined);
  return wanted ? planPortVlans(port, wanted, host.portVlans) : [];
}

function masterStep(name: string, master: string, seen: Observed, because: string): Step {
  return {
    op: { do: 'link.set', side: 'host', name, set: { master } },
    because,
    undo: [
      { do: 'link.set', side: 'host', name, set: { master: seen.host.hostEndMaster ?? '' } },
      // A port that comes back has the VLANs of a new one.
      ...portVlanOps(
        name,
        seen.host.portVlans,
        seen.host.portVlans.length > 0 ? bornVlans(seen.host.hostEndPvid) : [],
      ),
    ],
  };
}

/** Mode and flag of a child of a NIC. */
function changeMode(want: Attachment, { link }: LinkWithAddrs): Step[] {
  const { network, ifname: name } = want;
  if (network.kind !== 'macvlan' && network.kind !== 'ipvlan') return [];
  const is = childSeen(network.kind, link.data);
  const to = childModeOf(network);
  // Without a flag, or addresses, those that are there stay.
  const asked = is && childModeOf({ ...is, ...to } as ChildMode);
  if (!is || JSON.stringify(asked) === JSON.stringify(childModeOf(is))) return [];
  const change = (child: ChildMode): Operation => ({ do: 'link.change', side: 'guest', name, change: child });
  return [{ op: change(to), because: `mode: ${childText(is)} -> ${childText(to)}`, undo: [change(is)] }];
}

/** `bridge`, `source 02:00:00:00:00:01`. */
export const childText = ({ mode, ...more }: ChildMode): string =>
  [
    mode,
    ...('flag' in more ? [more.flag] : []),
    ...('sourceMacs' in more ? (more.sourceMacs ?? []) : []),
  ].join(' ');

/** What a link of this kind is; undefined in a mode that this program does not know. */
export function childSeen(
  kind: ChildMode['kind'],
  { mode, flag, sourceMacs }: Link['data'],
): ChildMode | undefined {
  const isMacvlan = macvlanModes.find((known) => known === mode);
  if (kind === 'macvlan') return isMacvlan && { kind, mode: isMacvlan, ...(sourceMacs && { sourceMacs }) };
  const isIpvlan = ipvlanModes.find((known) => known === mode);
  return isIpvlan && { kind, mode: isIpvlan, ...(flag && { flag }) };
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

const cidrsOf = (want: Attachment): Cidr[] => want.addrs.flatMap(({ cidr }) => (cidr ? [cidr] : []));

function addAddrs(want: Attachment, seen: Observed, { addrs }: LinkWithAddrs): Step[] {
  const missing = cidrsOf(want).filter((cidr) => !addrs.some((addr) => sameCidr(addr.cidr, cidr)));
  // With another prefix length it is its own already.
  const own = addrs.map(({ cidr }) => cidr.ip);
  return planAddrs(want, { ...seen, verified: new Set([...(seen.verified ?? []), ...own]) }, missing);
}

/** Last of all, so that what leads over an old address is replaced before it goes, and comes back after it. */
function dropAddrs(want: Attachment, seen: Observed, { addrs }: LinkWithAddrs): Step[] {
  // No address asked for says nothing about those that are there, but for those whose place a lease takes.
  if (want.addrs.length === 0 && !want.dhcp) return [];
  const wanted = cidrsOf(want);
  const former = seen.record?.want ? cidrsOf(seen.record.want) : [];
  const isOurs = ({ cidr }: Addr): boolean =>
    want.addrs.length > 0 || former.some((other) => sameCidr(other, cidr));
  const gone = ({ cidr }: Addr): boolean =>
    cidr.family === 6 && want.mtu !== undefined && want.mtu < ipv6MinMtu;
  const surplus = addrs.filter(
    (addr) =>
      isAsked(addr) && isOurs(addr) && !gone(addr) && !wanted.some((cidr) => sameCidr(cidr, addr.cidr)),
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
  if ((want.addrs.length === 0 && !want.dhcp) || want.rules === undefined) return [];
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
