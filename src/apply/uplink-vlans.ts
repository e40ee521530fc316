/** The operations of a move that are about VLANs of the bridge and its port. */
import { hasErrno } from '../errors.ts';
import { addPortVlan, delPortVlan } from '../kernel/netlink/bridge-vlan.ts';
import { addAltname, changeLink, delAltname, getLink, listLinks } from '../kernel/netlink/link.ts';
import type { Request } from '../kernel/netlink/socket.ts';
import type { Link } from '../model/link.ts';
import { isOurGroup } from '../model/naming.ts';
import type { UplinkVlanOp } from '../model/uplink.ts';
import { unfilter } from '../plan/bridge.ts';
import type { Host } from './host.ts';
import { vlanHints } from './requests.ts';

/** What is so already. */
const done: Partial<Record<UplinkVlanOp['do'], readonly string[]>> = {
  'altname.add': ['EEXIST'],
  'altname.del': ['ENODEV', 'EINVAL'],
  'vlan.del': ['ENOENT'],
};

/** Changes VLANs, their filtering, or the mark of who switched that on. A link that is gone has none. */
export function changeVlans({ rtnl }: Host, op: UplinkVlanOp): void {
  const name = 'link' in op ? op.link : op.name;
  const link = getLink(rtnl, name);
  if (link?.name !== name) return;
  const request = { ...requestOf(op, link), subject: name, hints: vlanHints };
  const [refusal] = rtnl.batch([request]);
  if (refusal && !hasErrno(refusal, ...(done[op.do] ?? []))) throw refusal;
}

function requestOf(op: UplinkVlanOp, { ifindex }: Link): Request {
  switch (op.do) {
    case 'vlan.add':
      return addPortVlan({ ifindex }, op.vlan);
    case 'vlan.del':
      return delPortVlan({ ifindex }, op.vlan);
    case 'altname.add':
      return addAltname(ifindex, op.altname);
    case 'altname.del':
      return delAltname(ifindex, op.altname);
    case 'link.change':
      return changeLink(ifindex, op.change);
  }
}

/**
 * The bridge filters no VLANs any more, unless something of ours has plugged into it meanwhile. Of a bridge that somebody else
 * made the mark stays then, and the last of ours switches it back.
 */
export function stopFiltering(host: Host, name: string): void {
  const link = getLink(host.rtnl, name);
  if (link?.name !== name) return;
  const isUsed = listLinks(host.rtnl).some(
    ({ master, lower, kind, group }) =>
      isOurGroup(group) && (master === link.ifindex || (kind === 'vlan' && lower === link.ifindex)),
  );
  if (isUsed) return;
  if (isOurGroup(link.group)) {
    const change = { kind: 'bridge', vlanFiltering: false } as const;
    changeVlans(host, { do: 'link.change', side: 'host', name, change });
    return;
  }
  for (const op of unfilter(link))
    if (op.do === 'link.change' || op.do === 'altname.del') changeVlans(host, op);
}
