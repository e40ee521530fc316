/** How an interface that is made anew gives its place to its successor, and comes back when that is taken back. Pure. */
import type { Attachment } from '../model/attachment.ts';
import { vlanIfnameFor } from '../model/naming.ts';
import type { LinkWithAddrs, Observed } from '../model/observed.ts';
import type { Operation, PlannedLink, Step } from '../model/operation.ts';
import { childSeen } from './change.ts';
import { stashGuestVlans, unmakeGuestVlans } from './guest-vlans.ts';
import { saved } from './kept.ts';
import { portAgain } from './ovs-port.ts';

/** Steps before those that make the successor, and after them. */
export interface Replacement {
  readonly before: readonly Step[];
  readonly after: readonly Step[];
}

/** @param nameFor free names in the container, by number */
export function makeRoom(
  want: Attachment,
  seen: Observed,
  there: LinkWithAddrs,
  nameFor: (nr: number) => string,
  because: string,
): Replacement {
  if (seen.host.ovsPort?.isInternal || isLone(there))
    return { before: [...unmakeGuestVlans(seen), ...unplug(want, seen, there, because)], after: [] };
  const again = againFor(want, seen, there);
  if (again) return { before: [...unmakeGuestVlans(seen), unmake(want, there, again, because)], after: [] };
  const stash = nameFor(1);
  return {
    before: [...stashGuestVlans(seen, (at) => nameFor(3 + at)), stashStep(want, there, stash, because)],
    after: dropStashed(seen, stash),
  };
}

/** An internal port's link whose port is gone. */
const isLone = ({ link }: LinkWithAddrs): boolean => link.kind === 'tun' || link.kind === 'openvswitch';

/** The link of an internal port goes with the port, and under another name the kernel's datapath would lose it. */
function unplug({ ifname }: Attachment, seen: Observed, there: LinkWithAddrs, because: string): Step[] {
  const { ovsPort } = seen.host;
  const { group } = there.link;
  const again: Operation[] = ovsPort
    ? [
        portAgain(seen, ovsPort.name, ovsPort),
        { do: 'link.give', name: ovsPort.name, ifname, group },
        { do: 'link.restore', name: ifname, saved: saved(there) },
      ]
    : [];
  const mirror = seen.host.mirror?.is;
  if (ovsPort && mirror)
    again.push({ do: 'ovs.mirror.set', bridge: ovsPort.bridge, port: ovsPort.name, mirror, group });
  const del: Operation = { do: 'link.del', side: 'guest', name: ifname, onlyGroup: group };
  return [
    ...(ovsPort ? [{ op: { do: 'ovs.port.del', port: ovsPort.name } as const, because, undo: again }] : []),
    // One that Open vSwitch has lost does not go by itself.
    { op: del, because, undo: [] },
  ];
}

/**
 * What makes the predecessor once more, when it has to go before its successor can be made: the kernel has no two kinds of
 * children on one NIC, and a macvlan of mode passthru by itself only. Undefined: both can be there.
 */
function againFor({ network }: Attachment, seen: Observed, { link }: LinkWithAddrs): PlannedLink | undefined {
  if (network.kind !== 'macvlan' && network.kind !== 'ipvlan') return undefined;
  if (link.kind !== 'macvlan' && link.kind !== 'ipvlan') return undefined;
  const { uplink: nic, vid } = network;
  const lower = vid === undefined ? seen.host.network : seen.host.vlanLink;
  const was = childSeen(link.kind, link.data);
  if (!lower || link.lower !== lower.ifindex || !was) return undefined;
  const uplink = vid === undefined ? nic : vlanIfnameFor(nic, vid);
  return { ...was, uplink, mtu: link.mtu, ...(was.kind === 'macvlan' && { mac: link.mac }) };
}

function unmake(want: Attachment, there: LinkWithAddrs, again: PlannedLink, because: string): Step {
  const { ifname: name } = want;
  const { group } = there.link;
  return {
    op: { do: 'link.del', side: 'guest', name, onlyGroup: group },
    because,
    undo: [
      { do: 'link.add', side: 'guest', name, link: again, group },
      { do: 'link.restore', name, saved: saved(there) },
    ],
  };
}

/** The link that is there makes room for its successor; see {@link dropStashed} for its end. */
function stashStep(want: Attachment, there: LinkWithAddrs, as: string, because: string): Step {
  return {
    op: { do: 'link.stash', name: want.ifname, as },
    because,
    undo: [{ do: 'link.restore', name: as, saved: saved(there) }],
  };
}

/** The last steps of a re-creation: the predecessor goes, and its port with it. */
function dropStashed(seen: Observed, as: string): Step[] {
  const { hostEnd, ovsPort } = seen.host;
  const drop = (op: Operation): Step => ({ op, because: 'its successor is in place', undo: [], final: true });
  return [
    ...(hostEnd && ovsPort ? [drop({ do: 'ovs.port.del', port: hostEnd.name })] : []),
    drop({ do: 'link.del', side: 'guest', name: as }),
  ];
}
