/** The 802.1Q sub-interfaces of a container's interface, by which it takes part in the VLANs of a trunk port. Pure. */
import { PipewrightError } from '../errors.ts';
import { broadcastOf, type Cidr, contains, formatCidr } from '../model/address.ts';
import { type Attachment, formatContainer, type GuestVlan } from '../model/attachment.ts';
import { isOurGroup } from '../model/naming.ts';
import type { LinkWithAddrs, Observed, ObservedVlan } from '../model/observed.ts';
import type { LinkChange, Operation, Step } from '../model/operation.ts';
import { isAsked, restorable, saved } from './kept.ts';

/** The steps that make them as asked for; the interface itself is up by then. */
export function planGuestVlans(want: Attachment, seen: Observed): Step[] {
  return (want.vlans ?? []).flatMap((vlan) => {
    const there = seen.guest.vlans.find(({ ifname }) => ifname === vlan.ifname);
    if (!there?.link) return addVlan(want, vlan, seen, there);
    requireOurs(want, vlan, seen, there.link);
    return changeVlan(want, vlan, seen, there, there.link);
  });
}

/** Those that were asked for earlier and are no more: the last steps of all. */
export function dropGuestVlans(want: Attachment, seen: Observed): Step[] {
  if (want.vlans === undefined) return [];
  const wanted = new Set(want.vlans.map(({ ifname }) => ifname));
  return seen.guest.vlans
    .filter(({ ifname, link }) => !wanted.has(ifname) && link && isOurGroup(link.link.group))
    .map(({ ifname }) => ({
      op: { do: 'link.del', side: 'guest', name: ifname },
      because: 'it is asked for no more',
      undo: [],
      final: true,
    }));
}

/** They make room with the interface that they are on, and come back with it; they go with it as well. */
export function stashGuestVlans(seen: Observed, nameFor: (at: number) => string): Step[] {
  return seen.guest.vlans.flatMap(({ ifname, link }, at): Step[] => {
    if (!link || link.link.lower !== seen.guest.link?.link.ifindex) return [];
    const as = nameFor(at);
    return [
      {
        op: { do: 'link.stash', name: ifname, as },
        because: 'it is on the interface that is made anew',
        undo: [{ do: 'link.restore', name: as, saved: saved(link) }],
      },
    ];
  });
}

/** They go with the interface, and are made again when that is. */
export function unmakeGuestVlans(seen: Observed): Step[] {
  const on = seen.guest.link?.link;
  return seen.guest.vlans.flatMap(({ link: there }): Step[] => {
    const { vid } = there?.link.data ?? {};
    if (!on || !there || vid === undefined || there.link.lower !== on.ifindex) return [];
    const { name, group } = there.link;
    const link = { kind: 'vlan', uplink: on.name, vid } as const;
    return [
      {
        op: { do: 'link.del', side: 'guest', name, onlyGroup: group },
        because: 'it is on the interface that is made anew',
        undo: [
          { do: 'link.add', side: 'guest', name, link, group },
          { do: 'link.restore', name, saved: saved(there) },
        ],
      },
    ];
  });
}

function requireOurs(want: Attachment, { ifname, vid }: GuestVlan, seen: Observed, { link }: LinkWithAddrs) {
  const isRight =
    link.kind === 'vlan' && link.data.vid === vid && link.lower === seen.guest.link?.link.ifindex;
  if (isRight && isOurGroup(link.group)) return;
  throw new PipewrightError('LINK_EXISTS', {
    op: 'attach',
    subject: `${ifname} in ${formatContainer(want.container)}`,
    errno: 'EEXIST',
    detail: isRight
      ? 'an interface of this name is there, and pipewright did not make it'
      : `an interface of this name is there, and it is not VLAN ${vid} of ${want.ifname}`,
    hint: 'rename or remove it first',
  });
}

function addVlan(want: Attachment, vlan: GuestVlan, seen: Observed, there: ObservedVlan | undefined): Step[] {
  const { ifname: name, vid, cidrs } = vlan;
  const { group } = seen;
  const link = { kind: 'vlan', uplink: want.ifname, vid } as const;
  const step = (op: Operation, because: string, undo: readonly Operation[] = []): Step => ({
    op,
    because,
    undo,
  });
  return [
    step({ do: 'link.add', side: 'guest', name, link, group }, `there is no interface for VLAN ${vid}`, [
      { do: 'link.del', side: 'guest', name, onlyGroup: group },
    ]),
    step({ do: 'link.set', side: 'guest', name, set: { up: true } }, 'a new link is down'),
    ...enableIpv6(vlan, there, []),
    ...cidrs.map((cidr) => step(addAddr(name, cidr), `${name} does not have ${formatCidr(cidr)}`)),
  ];
}

function changeVlan(
  want: Attachment,
  vlan: GuestVlan,
  seen: Observed,
  there: ObservedVlan,
  { link, addrs, ...rest }: LinkWithAddrs,
): Step[] {
  const { ifname: name, cidrs } = vlan;
  const step = (op: Operation, because: string): Step => ({ op, because, undo: [] });
  const set = (change: LinkChange): Operation => ({ do: 'link.set', side: 'guest', name, set: change });
  const isSame = (a: Cidr, b: Cidr): boolean => formatCidr(a) === formatCidr(b);
  const mtu = want.mtu ?? seen.guest.link?.link.mtu ?? link.mtu;
  const missing = cidrs.filter((cidr) => !addrs.some((addr) => isSame(addr.cidr, cidr)));
  const surplus = addrs.filter((addr) => isAsked(addr) && !cidrs.some((cidr) => isSame(addr.cidr, cidr)));
  const swept = cidrs.filter(
    (cidr) =>
      !missing.includes(cidr) &&
      surplus.some((addr) => addr.cidr.family === 4 && contains(addr.cidr, cidr.ip)),
  );
  return restorable({ link, addrs, ...rest }, [
    ...(mtu === link.mtu ? [] : [step(set({ mtu }), `mtu: ${link.mtu} -> ${mtu}`)]),
    ...(link.up ? [] : [step(set({ up: true }), 'it is down')]),
    ...enableIpv6(vlan, there, [{ do: 'ipv6.enable', link: name, enable: false }]),
    // Those to be gone go first: one that stays would go with the first of its subnet, and is added after it.
    ...surplus.map(({ cidr }) =>
      step({ do: 'addr.del', side: 'guest', link: name, cidr }, `${formatCidr(cidr)} is not asked for`),
    ),
    ...[...missing, ...swept].map((cidr) =>
      step(addAddr(name, cidr), `${name} does not have ${formatCidr(cidr)}`),
    ),
  ]);
}

function addAddr(link: string, cidr: Cidr): Operation {
  const broadcast = cidr.family === 4 ? { broadcast: broadcastOf(cidr) } : {};
  return { do: 'addr.add', side: 'guest', link, cidr, ...broadcast };
}

function enableIpv6(
  { ifname, cidrs }: GuestVlan,
  there: ObservedVlan | undefined,
  undo: readonly Operation[],
): Step[] {
  if (!there?.ipv6Disabled || !cidrs.some(({ family }) => family === 6)) return [];
  const op: Operation = { do: 'ipv6.enable', link: ifname, enable: true };
  return [{ op, because: 'IPv6 is asked for and switched off', undo }];
}
