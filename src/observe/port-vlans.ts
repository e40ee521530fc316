/** The VLANs of bridges' ports, on any kernel. */
import { hasErrno } from '../errors.ts';
import { listPortVlans, listVlans } from '../kernel/netlink/bridge-vlan.ts';
import type { NetlinkSocket } from '../kernel/netlink/socket.ts';
import type { PortVlan } from '../model/port-vlan.ts';

/** None where the kernel's bridges know no VLANs: whoever wants one then hears so from the kernel. */
export function portVlansOf(rtnl: NetlinkSocket, ifindex: number): PortVlan[] {
  return orNone(() => listPortVlans(rtnl, ifindex), []);
}

/** Likewise of all ports and bridges, by ifindex. */
export function allPortVlans(rtnl: NetlinkSocket): Map<number, PortVlan[]> {
  return orNone(() => listVlans(rtnl), new Map<number, PortVlan[]>());
}

function orNone<T>(list: () => T, none: T): T {
  try {
    return list();
  } catch (error) {
    if (hasErrno(error, 'EOPNOTSUPP')) return none;
    throw error;
  }
}
