/** Addresses of an interface: asked for on the link first, where that is wanted, and then added. Pure. */
import { broadcastOf, type Cidr, formatCidr } from '../model/address.ts';
import type { Attachment } from '../model/attachment.ts';
import { vlanIfnameFor } from '../model/naming.ts';
import type { Observed } from '../model/observed.ts';
import type { Side, Step } from '../model/operation.ts';

/** Addresses that are not there yet; before all of them, the question whether somebody else has one. */
export function planAddrs(want: Attachment, seen: Observed, cidrs: readonly Cidr[]): Step[] {
  return [...planProbe(want, seen, cidrs), ...cidrs.map((cidr) => addrStep(want, seen, cidr))];
}

function planProbe(want: Attachment, seen: Observed, cidrs: readonly Cidr[]): Step[] {
  const from = want.dad ? probingLink(want) : undefined;
  const ips = cidrs.map(({ ip }) => ip).filter((ip) => !seen.verified?.has(ip));
  if (!from || ips.length === 0) return [];
  return [{ op: { do: 'addr.probe', ...from, ips }, because: 'somebody else may have it', undo: [] }];
}

/** The link that asks; undefined where nobody could answer. */
function probingLink({ network, ifname }: Attachment): { side: Side; link: string } | undefined {
  switch (network.kind) {
    case 'dummy':
    case 'ipoib':
      return undefined;
    case 'ipvlan': {
      // It has the MAC address of its uplink, where answers to a question from no address end up. Above layer 2 there is
      // nobody to ask.
      const { uplink, vid, mode } = network;
      if (mode !== 'l2') return undefined;
      return { side: 'host', link: vid === undefined ? uplink : vlanIfnameFor(uplink, vid) };
    }
    default:
      return { side: 'guest', link: ifname };
  }
}

/** `ip addr add`, with the broadcast address for IPv4 whatever tools the host has. */
function addrStep(want: Attachment, seen: Observed, cidr: Cidr): Step {
  return {
    op: {
      do: 'addr.add',
      side: 'guest',
      link: want.ifname,
      cidr,
      ...(cidr.family === 4 ? { broadcast: broadcastOf(cidr) } : {}),
      // The kernel would ask once more, and not let it be used for a second or two; or never, where the former interface
      // of a container that comes back answers for it still.
      ...(cidr.family === 6 && seen.verified?.has(cidr.ip) ? { nodad: true } : {}),
    },
    because: `${want.ifname} does not have ${formatCidr(cidr)}`,
    // It goes with the new link, or when the link that was there is restored.
    undo: [],
  };
}
