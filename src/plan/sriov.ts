/** Virtual functions of a NIC: which one is free, what it is to be, and how it was before. Pure. */
import { PipewrightError } from '../errors.ts';
import type { Attachment, SriovNetwork } from '../model/attachment.ts';
import type { Link } from '../model/link.ts';
import type { Observed } from '../model/observed.ts';
import type { Operation, Step } from '../model/operation.ts';
import type { Vf, VfSettings } from '../model/sriov.ts';

/**
 * The first one whose link is on the host and that nothing uses: it is no port, has no address and nothing rides on it.
 * @param links of the host
 * @param isAddressed whether a link has an address of its own
 */
export function freeVf(
  vfs: readonly Vf[],
  links: readonly Link[],
  isAddressed: (link: Link) => boolean,
): { readonly index: number; readonly link: Link } | undefined {
  for (const { index, ifname } of vfs) {
    const link = links.find(({ name }) => name === ifname);
    if (!link || link.master !== undefined || isAddressed(link)) continue;
    const isUsed = links.some(
      ({ lower, linkNetnsid }) => lower === link.ifindex && linkNetnsid === undefined,
    );
    if (!isUsed) return { index, link };
  }
  return undefined;
}

/** What the NIC is told of the virtual function, as far as it differs. Taken back, that is as it was. */
export function planVf(want: Attachment, network: SriovNetwork, { host }: Observed): Step[] {
  const { uplink, vf } = network;
  if (!host.vf) return [];
  const { index, is } = host.vf;
  const { vid, spoofCheck } = vf;
  const set: VfSettings = {
    ...(want.mac !== undefined && want.mac !== is.mac && { mac: want.mac }),
    ...(vid !== undefined && vid !== (is.vid ?? 0) && { vid }),
    ...(spoofCheck !== undefined && spoofCheck !== is.spoofCheck && { spoofCheck }),
  };
  if (Object.keys(set).length === 0) return [];
  const op = (to: VfSettings): Operation => ({ do: 'vf.set', uplink, vf: index, set: to });
  return [
    {
      op: op(set),
      because: `${Object.keys(set).join(', ')} of the virtual function`,
      undo: [op(former(is, set))],
    },
  ];
}

/** How the settings were that are changed. One that was not told cannot be given back. */
function former(is: VfSettings, changed: VfSettings): VfSettings {
  const { mac, vid = 0, spoofCheck } = is;
  return {
    ...(changed.mac !== undefined && mac !== undefined && { mac }),
    ...(changed.vid !== undefined && { vid }),
    ...(changed.spoofCheck !== undefined && spoofCheck !== undefined && { spoofCheck }),
  };
}

/** Why no virtual function can be given. */
export function noFreeVf({ uplink }: SriovNetwork, { host }: Observed): PipewrightError {
  const { made = 0, most = 0 } = host.vfs ?? {};
  const about = { op: 'attach', subject: uplink };
  if (most === 0) {
    return new PipewrightError('NETWORK_UNKNOWN', {
      ...about,
      detail: 'this NIC, or its driver, has no virtual functions (SR-IOV)',
      hint: `see: cat /sys/class/net/${uplink}/device/sriov_totalvfs`,
    });
  }
  if (made === 0) {
    return new PipewrightError('NETWORK_UNKNOWN', {
      ...about,
      detail: `no virtual function of it is switched on; it can have ${most}`,
      hint: `echo ${Math.min(most, 4)} > /sys/class/net/${uplink}/device/sriov_numvfs`,
    });
  }
  return new PipewrightError('NETWORK_UNKNOWN', {
    ...about,
    detail: `none of its ${made} virtual functions is free: each is in a container, has an address or is a port`,
    hint: made < most ? `it can have ${most}` : undefined,
  });
}
