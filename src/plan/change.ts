/** What differs between a wanted attachment and the interface that is there: changed in place, or made anew. Pure. */
import { PipewrightError } from '../errors.ts';
import { type Cidr, formatCidr } from '../model/address.ts';
import { type Attachment, formatContainer } from '../model/attachment.ts';
import type { Addr } from '../model/link.ts';
import { vlanIfnameFor } from '../model/naming.ts';
import type { LinkWithAddrs, Observed } from '../model/observed.ts';
import type { LinkChange, Operation, Step } from '../model/operation.ts';
import { addrStep, gatewaySteps, planIpv6, planNetwork, portStep, replacedDefault, saved } from './attach.ts';
import { planRates, planRules, planSysctls } from './extras.ts';

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
    if (taken?.name === name) return undefined;
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
    ...changeLink(want, seen, there),
    ...planIpv6(want, seen),
    ...planSysctls(want, seen),
    ...changeAddrs(want, there),
    ...changeGateways(want, seen, there),
    ...changeRoutes(want, there),
    ...planRules(want, seen),
    ...planRates(want, seen, seen.host.hostEnd?.name ?? ''),
  ];
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
    if (ovsPort.vid === network.vid) return [];
    return [
      {
        op: { do: 'ovs.port.set', port: hostEnd.name, vid: network.vid },
        because: `tag: ${ovsPort.vid ?? 'none'} -> ${network.vid ?? 'none'}`,
        undo: [{ do: 'ovs.port.set', port: hostEnd.name, vid: ovsPort.vid }],
      },
    ];
  }
  if (seen.host.network && hostEnd.master === seen.host.network.ifindex && leave.length === 0) return [];
  return [...leave, masterStep(hostEnd.name, network.name, seen, `it is no port of ${network.name}`)];
}

function portAgain(
  seen: Observed,
  port: string,
  was: { readonly bridge: string; readonly vid: number | undefined },
): Operation {
  return {
    do: 'ovs.port.add',
    bridge: was.bridge,
    port,
    group: seen.record?.group ?? seen.group,
    externalIds: seen.externalIds,
    ...(was.vid === undefined ? {} : { vid: was.vid }),
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

function changeAddrs(want: Attachment, { addrs }: LinkWithAddrs): Step[] {
  const wanted = want.addrs.flatMap(({ cidr }) => (cidr ? [cidr] : []));
  // No address asked for says nothing about those that are there.
  if (want.addrs.length === 0) return [];
  const add = wanted
    .filter((cidr) => !addrs.some((addr) => sameCidr(addr.cidr, cidr)))
    .map((cidr) => addrStep(want, cidr, [{ do: 'addr.del', side: 'guest', link: want.ifname, cidr }]));
  const del = addrs
    .filter((addr) => isAsked(addr) && !wanted.some((cidr) => sameCidr(cidr, addr.cidr)))
    .map(({ cidr, broadcast }): Step => {
      const back: Operation = {
        do: 'addr.add',
        side: 'guest',
        link: want.ifname,
        cidr,
        ...(broadcast ? { broadcast } : {}),
      };
      return {
        op: { do: 'addr.del', side: 'guest', link: want.ifname, cidr },
        because: `${formatCidr(cidr)} is not asked for`,
        undo: [back],
      };
    });
  // New ones first: deleting the first address of a subnet takes the others of that subnet with it in some kernels.
  return [...add, ...del];
}

function changeGateways(want: Attachment, seen: Observed, { link }: LinkWithAddrs): Step[] {
  return want.addrs.flatMap((spec) => {
    if (!spec.gateway) return [];
    const present = replacedDefault(spec.gateway.family, seen);
    const right = present?.gateway === spec.gateway.ip && present.dev === link.ifindex;
    return right ? [] : gatewaySteps(want, spec, present);
  });
}

function changeRoutes(want: Attachment, { routes }: LinkWithAddrs): Step[] {
  return want.routes
    .filter(
      ({ dst, gateway }) =>
        !routes.some((route) => route.dst && sameCidr(route.dst, dst) && route.gateway === gateway),
    )
    .map(({ dst, gateway }): Step => {
      const route = { family: dst.family, dst, link: want.ifname, ...(gateway ? { gateway } : {}) };
      const was = routes.find((other) => other.dst && sameCidr(other.dst, dst));
      return {
        op: { do: 'route.replace', side: 'guest', route },
        because: was ? `${formatCidr(dst)}: another gateway` : `no route to ${formatCidr(dst)}`,
        undo: [
          was
            ? { do: 'route.restore', side: 'guest', route: was }
            : { do: 'route.del', side: 'guest', route },
        ],
      };
    });
}

/** The link that is there makes room for its successor; see {@link dropStashed} for its end. */
export function stashStep(want: Attachment, there: LinkWithAddrs, as: string, because: string): Step {
  return {
    op: { do: 'link.stash', name: want.ifname, as },
    because,
    undo: [{ do: 'link.unstash', as, saved: saved(there) }],
  };
}

/** The last steps of a re-creation: the predecessor goes, and its port with it. */
export function dropStashed(seen: Observed, as: string): Step[] {
  const because = 'its successor is in place';
  const { hostEnd, ovsPort } = seen.host;
  const port: Step[] =
    hostEnd && ovsPort ? [{ op: { do: 'ovs.port.del', port: hostEnd.name }, because, undo: [] }] : [];
  return [{ op: { do: 'link.del', side: 'guest', name: as }, because, undo: [] }, ...port];
}
