/** Attachment x Observed -> the ordered steps that make the interface. Pure. */
import { PipewrightError } from '../errors.ts';
import { addressBits, type Cidr, contains, type Family } from '../model/address.ts';
import {
  type AddrSpec,
  type Attachment,
  childModeOf,
  formatContainer,
  isInternal,
} from '../model/attachment.ts';
import type { Route } from '../model/link.ts';
import { vlanIfnameFor } from '../model/naming.ts';
import type { Observed } from '../model/observed.ts';
import type { Operation, PlannedLink, PlannedRoute, Step } from '../model/operation.ts';
import { defaultMetric, plannedRoute } from '../model/route.ts';
import { planAddrs } from './addrs.ts';
import { planBridge, planNewPort } from './bridge.ts';
import { planDeaf } from './deaf.ts';
import { planRules, planSysctls } from './extras.ts';
import { planGuestVlans } from './guest-vlans.ts';
import { saved } from './kept.ts';
import { planMirror, planPolicing } from './ovs-extras.ts';
import { internalName, planDeadPorts, planInternal, planOvsBridge, portStep } from './ovs-port.ts';
import { planRates } from './rates.ts';
import { noFreeVf, planVf } from './sriov.ts';

/** MTU that `ip link add` gives an Ethernet link when nothing else is said. */
const defaultMtu = 1500;

/** RFC 8200, section 5. On a link with less the kernel switches IPv6 off, with all addresses. */
export const ipv6MinMtu = 1280;

/** All steps for an attachment whose interface does not exist yet. Throws when it cannot be made. */
export function planCreate(want: Attachment, seen: Observed): Step[] {
  return [
    ...planNetwork(want, seen),
    ...planLink(want, seen),
    ...planPort(want, seen),
    ...planLayer3(want, seen),
  ];
}

/** Where the host-side pieces are missing: the bridge, the VLAN sub-interface, the firewall rule. */
export function planNetwork(want: Attachment, seen: Observed): Step[] {
  const { network } = want;
  switch (network.kind) {
    case 'bridge':
      return planBridge(network, seen);
    case 'ovs':
      return [...planDeadPorts(seen), ...planOvsBridge(network.name, seen)];
    case 'macvlan':
    case 'ipvlan':
    case 'ipoib': {
      const vid = 'vid' in network ? network.vid : undefined;
      if (vid !== undefined) return planVlan(network.uplink, vid, want, seen);
      return uplinkOf(network.uplink, seen).up ? [] : [setUp(network.uplink, 'it is down')];
    }
    case 'phys':
      // Where the container has it already, there is nothing left on the host to be made.
      if (seen.guest.link) return [];
      if (network.vid !== undefined) return planVlan(network.uplink, network.vid, want, seen);
      uplinkOf(network.uplink, seen);
      return [];
    case 'sriov':
      // What is not up has virtual functions that are not either.
      return uplinkOf(network.uplink, seen).up ? [] : [setUp(network.uplink, 'it is down')];
    case 'dummy':
      return [];
  }
}

function setUp(name: string, because: string): Step {
  return {
    op: { do: 'link.set', side: 'host', name, set: { up: true } },
    because,
    undo: [{ do: 'link.set', side: 'host', name, set: { up: false } }],
  };
}

function uplinkOf(name: string, seen: Observed) {
  const link = seen.host.network;
  if (link) return link;
  throw new PipewrightError('NETWORK_UNKNOWN', {
    op: 'attach',
    subject: name,
    detail: 'there is no such NIC on this host',
    hint: 'see: ip link',
  });
}

function delOurs(name: string, seen: Observed): Operation {
  return { do: 'link.del', side: 'host', name, onlyGroup: seen.group };
}

function planVlan(uplink: string, vid: number, want: Attachment, seen: Observed): Step[] {
  const name = vlanIfnameFor(uplink, vid);
  const parent = uplinkOf(uplink, seen);
  const there = seen.host.vlanLink;
  const raise = parent.up ? [] : [setUp(uplink, 'it is down')];
  // What moves into the container is set up there.
  const moves = want.network.kind === 'phys';
  if (there) {
    if (there.kind !== 'vlan' || there.data.vid !== vid || there.lower !== parent.ifindex) {
      throw new PipewrightError('NAME_TAKEN', {
        op: 'link.add',
        subject: name,
        detail: `a link of this name exists, and it is not VLAN ${vid} of ${uplink}`,
        hint: `see: ip -d link show ${name}`,
      });
    }
    return there.up || moves ? raise : [...raise, setUp(name, 'it is down')];
  }
  return [
    ...raise,
    {
      op: {
        do: 'link.add',
        side: 'host',
        name,
        link: { kind: 'vlan', uplink, vid, mtu: parent.mtu },
        group: seen.group,
      },
      because: `there is no sub-interface for VLAN ${vid} of ${uplink}`,
      undo: [delOurs(name, seen)],
    },
    ...(moves ? [] : [setUp(name, 'it is new')]),
  ];
}

/** The interface itself. */
function planLink(want: Attachment, seen: Observed): Step[] {
  const because = `${want.ifname} is not in ${formatContainer(want.container)}`;
  if (want.network.kind === 'phys') return [planGive(want, seen, because)];
  if (want.network.kind === 'sriov') {
    if (!seen.host.moving) throw noFreeVf(want.network, seen);
    return [...planVf(want, want.network, seen), planGive(want, seen, because)];
  }
  if (isInternal(want.network)) return planInternal(want, seen, because);
  const link = plannedLink(want, seen);
  const [side, name] =
    link.kind === 'veth' ? (['host', seen.host.hostIfname] as const) : (['guest', want.ifname] as const);
  return [
    {
      op: { do: 'link.add', side, name, link, group: seen.group },
      because,
      undo: [{ do: 'link.del', side, name, onlyGroup: seen.group }],
    },
  ];
}

function plannedLink(want: Attachment, seen: Observed): PlannedLink {
  const { network } = want;
  const mtu = want.mtu ?? seen.host.network?.mtu ?? defaultMtu;
  const mac = want.mac === undefined ? {} : { mac: want.mac };
  switch (network.kind) {
    case 'bridge':
      return { kind: 'veth', peer: want.ifname, master: network.name, mtu, ...mac };
    case 'ovs':
      return { kind: 'veth', peer: want.ifname, mtu, ...mac };
    case 'macvlan':
    case 'ipvlan': {
      const uplink = network.vid === undefined ? network.uplink : vlanIfnameFor(network.uplink, network.vid);
      return { ...childModeOf(network), uplink, mtu, ...(network.kind === 'macvlan' ? mac : {}) };
    }
    case 'ipoib':
      return {
        kind: 'ipoib',
        uplink: network.uplink,
        mtu,
        ...(network.pkey === undefined ? {} : { pkey: network.pkey }),
      };
    case 'dummy':
    case 'phys':
    case 'sriov':
      return { kind: 'dummy', ...(want.mtu === undefined ? {} : { mtu: want.mtu }), ...mac };
  }
}

function planGive(want: Attachment, seen: Observed, because: string): Step {
  const { network } = want;
  if (network.kind !== 'phys' && network.kind !== 'sriov')
    throw new Error(`${network.kind} gives no NIC away`);
  const { moving } = seen.host;
  const vid = network.kind === 'phys' ? network.vid : undefined;
  const plain = vid === undefined ? network.uplink : vlanIfnameFor(network.uplink, vid);
  const name = network.kind === 'sriov' ? (moving?.link.name ?? '') : plain;
  const { group } = seen;
  // A sub-interface that this plan makes has nothing to be given back: its own undo deletes it.
  const back: Operation[] = moving
    ? [{ do: 'link.take', ifname: want.ifname, group, saved: saved(moving) }]
    : [];
  if (!moving) back.push({ do: 'link.del', side: 'guest', name: want.ifname, onlyGroup: group });
  const give = { do: 'link.give', name, ifname: want.ifname, group } as const;
  return {
    op: moving?.phy === undefined ? give : { ...give, wireless: wirelessMove(moving.phy, want, seen) },
    because,
    undo: back,
  };
}

function wirelessMove(phy: string, want: Attachment, seen: Observed): { phy: string; pid: number } {
  const { pid } = seen.guest;
  if (pid !== undefined) return { phy, pid };
  throw new PipewrightError('BAD_ARGUMENT', {
    op: 'attach',
    subject: formatContainer(want.container),
    detail: 'a Wi-Fi interface can only move to the namespace of a process: name the container, or pid:N',
  });
}

function planPort(want: Attachment, seen: Observed): Step[] {
  const { network } = want;
  const { hostIfname } = seen.host;
  if (network.kind === 'bridge') return planNewPort(network, hostIfname, seen.host.network);
  if (network.kind !== 'ovs') return [];
  if (isInternal(network)) return planMirror(want, seen, internalName(want, seen));
  return [
    // Before anybody can ask it for anything.
    ...planDeaf(hostIfname, seen),
    portStep(want, seen, hostIfname, 'the new link is no port yet'),
    ...planPolicing(want, seen, hostIfname),
    ...planMirror(want, seen, hostIfname),
  ];
}

/** Settings that the link could not be born with, then addresses and routes. */
function planLayer3(want: Attachment, seen: Observed): Step[] {
  const moved = want.network.kind === 'phys' || want.network.kind === 'sriov' || isInternal(want.network);
  const set = {
    ...(moved && want.mac !== undefined ? { mac: want.mac } : {}),
    ...(moved && want.mtu !== undefined ? { mtu: want.mtu } : {}),
    up: true,
  };
  // The link is new (or goes home with its own settings), so deleting it takes all this back but the default route.
  return [
    // Before it is up: how its link-local address is made, and whether it listens to routers, is decided then.
    ...planSysctls(want, seen),
    ...planIpv6(want, seen),
    {
      op: { do: 'link.set', side: 'guest', name: want.ifname, set },
      because: 'a new link is down',
      undo: [],
    },
    ...planAddrs(
      want,
      seen,
      want.addrs.flatMap(({ cidr }) => cidr ?? []),
    ),
    ...planGateways(want, seen),
    ...want.routes.map(
      (route): Step => ({
        op: { do: 'route.replace', side: 'guest', route: plannedRoute(route, want.ifname) },
        because: 'asked for',
        undo: [],
      }),
    ),
    ...planGuestVlans(want, seen),
    ...planRules(want, seen),
    ...planRates(want, seen, seen.host.hostIfname),
  ];
}

/** An IPv6 address or gateway cannot be had where IPv6 is switched off. A new link needs no undo of its own. */
export function planIpv6(want: Attachment, seen: Observed, undo: readonly Operation[] = []): Step[] {
  const asked = wantsIpv6(want);
  if (asked && want.mtu !== undefined && want.mtu < ipv6MinMtu) {
    throw new PipewrightError('BAD_ARGUMENT', {
      op: 'attach',
      subject: `${want.ifname} in ${formatContainer(want.container)}`,
      detail: `IPv6 needs an MTU of at least ${ipv6MinMtu} bytes, and ${want.mtu} is asked for`,
    });
  }
  if (!asked || !seen.guest.ipv6Disabled) return [];
  return [
    {
      op: { do: 'ipv6.enable', link: want.ifname, enable: true },
      because: 'IPv6 is asked for and switched off',
      undo,
    },
  ];
}

/** Whether anything about the interface needs IPv6 to be on. */
export function wantsIpv6({ addrs, ipv6 }: Attachment): boolean {
  return ipv6 !== undefined || addrs.some(({ cidr, gateway }) => cidr?.family === 6 || gateway?.family === 6);
}

/** Default routes, each with a route to its gateway where no address of the interface covers it. */
function planGateways(want: Attachment, seen: Observed): Step[] {
  return want.addrs.flatMap(({ gateway }) => (gateway ? gatewaySteps(want, gateway, seen) : []));
}

/** The default route that `ip route replace default` of this family would replace. */
export function replacedDefault(family: Family, seen: Observed): Route | undefined {
  return seen.guest.defaults.find((route) => isReplaced(route, family));
}

function isReplaced(route: Route, family: Family): boolean {
  return route.family === family && (route.metric ?? defaultMetric[family]) === defaultMetric[family];
}

/** A gateway: one replacement of the default route, so that there is no moment without one. */
export function gatewaySteps(
  want: Attachment,
  { family, ip }: NonNullable<AddrSpec['gateway']>,
  seen: Observed,
): Step[] {
  const own = seen.guest.link?.link.ifindex;
  const steps: Step[] = [];
  const covered = want.addrs.some(({ cidr }) => cidr && contains(cidr, ip));
  if (!covered && !/^fe[89ab]/.test(ip)) {
    const dst: Cidr = { family, ip, prefixLen: addressBits[family] };
    // The way to the same gateway that another interface has is replaced as well.
    const present = seen.guest.hostRoutes.find((route) => isReplaced(route, family) && route.dst?.ip === ip);
    if (!present || present.dev !== own || present.gateway !== undefined) {
      steps.push(
        replaceStep(
          { family, dst, link: want.ifname },
          present,
          own,
          `${ip} is in no subnet of ${want.ifname}`,
        ),
      );
    }
  }
  const present = replacedDefault(family, seen);
  const because = present
    ? `the default route goes via ${present.gateway ?? 'a link'}`
    : 'there is no default route';
  return [...steps, replaceStep({ family, gateway: ip, link: want.ifname }, present, own, because)];
}

function replaceStep(
  route: PlannedRoute,
  present: Route | undefined,
  own: number | undefined,
  because: string,
): Step {
  // What the link itself had comes back when the link is restored, with the addresses that it needs.
  const others = present && present.dev !== own ? present : undefined;
  return {
    op: { do: 'route.replace', side: 'guest', route },
    because,
    undo: [
      ...(others ? [{ do: 'route.restore', side: 'guest', route: others } as const] : []),
      { do: 'route.del', side: 'guest', route },
    ],
  };
}
