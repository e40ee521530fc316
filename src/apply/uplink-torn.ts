/** Whether somebody has taken apart what a move had put together. */
import { PipewrightError } from '../errors.ts';
import { getLink } from '../kernel/netlink/link.ts';
import type { UplinkJournal, UplinkWant } from '../model/uplink.ts';
import type { Host } from './host.ts';

/** Why the NIC is not on its bridge, as a sentence without its end; undefined when it is. */
export async function whyNotOn(host: Host, { nic, bridge }: UplinkWant): Promise<string | undefined> {
  const gone = whyGone(host, { nic, bridge });
  if (gone !== undefined || bridge.kind === 'bridge') return gone;
  const { getPort } = await import('../ovs/port.ts');
  let port: { readonly bridge?: string | undefined } | undefined;
  try {
    port = await getPort(await host.ovs(), nic);
  } catch (error) {
    // Packets go on without its database.
    if (error instanceof PipewrightError && error.code === 'OVS_UNAVAILABLE') return undefined;
    throw error;
  }
  return port?.bridge === bridge.name ? undefined : `${nic} is not on ${bridge.name} any more`;
}

/** Likewise, of what the kernel knows: cheap. */
function whyGone({ rtnl }: Host, { nic, bridge }: Pick<UplinkWant, 'nic' | 'bridge'>): string | undefined {
  const [port, master] = [getLink(rtnl, nic), getLink(rtnl, bridge.name)];
  if (port?.name !== nic) return `${nic} is gone`;
  if (master?.name !== bridge.name) return `${bridge.name} is gone`;
  if (bridge.kind === 'bridge' && port.master !== master.ifindex)
    return `${nic} is not on ${bridge.name} any more`;
  return undefined;
}

/** Whether a NIC that waits on its bridge to be confirmed is reached by nobody, since one of the two went away. */
export function isTorn(host: Host, { phase, action, record }: UplinkJournal): boolean {
  return phase === 'moved' && action === 'add' && whyGone(host, record.want) !== undefined;
}
