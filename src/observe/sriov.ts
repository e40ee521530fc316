/** Reads which virtual function of a NIC an attachment has, or could have. */
import { listLinks } from '../kernel/netlink/link.ts';
import { listVfSettings } from '../kernel/netlink/vf.ts';
import { listVfs } from '../kernel/sriov.ts';
import type { SriovNetwork } from '../model/attachment.ts';
import type { Link } from '../model/link.ts';
import type { AttachmentRecord, ObservedHost } from '../model/observed.ts';
import { freeVf } from '../plan/sriov.ts';
import type { HostView } from './view.ts';

/** What was seen: the link only of one that is yet to be given. */
export interface SeenVf extends Pick<ObservedHost, 'vf' | 'vfs'> {
  readonly link?: Link;
}

/** @param pf the link of the NIC */
export function observeVf(
  { netns }: HostView,
  { uplink }: SriovNetwork,
  pf: Link,
  record: AttachmentRecord | undefined,
): SeenVf {
  const settings = listVfSettings(netns.rtnl, pf.ifindex);
  const own = record?.vf?.uplink === uplink ? record.vf.index : undefined;
  if (own !== undefined) return { vf: { index: own, is: settings.get(own) ?? {} } };
  const { most, vfs } = listVfs(uplink);
  const hasAddress = ({ ifindex }: Link): boolean => netns.addrs(ifindex).some(({ scope }) => scope === 0);
  const found = freeVf(vfs, listLinks(netns.rtnl), hasAddress);
  return {
    vfs: { made: vfs.length, most },
    ...(found && { vf: { index: found.index, is: settings.get(found.index) ?? {} }, link: found.link }),
  };
}
