/** What was made as asked, and does not do what is expected of it as long as something else is as it is. */
import type { Attachment } from '../model/attachment.ts';
import type { Host } from './host.ts';

/** Sentences for whoever asked for the attachment; the bridge is there. */
export async function adviceOn(host: Host, { network, policing }: Attachment): Promise<string[]> {
  if (network.kind !== 'ovs' || (!network.cvlans && !policing)) return [];
  const [db, { getBridge }, { vlanLimit }] = await Promise.all([
    host.ovs(),
    import('../ovs/bridge.ts'),
    import('../ovs/vlan-limit.ts'),
  ]);
  const advice: string[] = [];
  if (network.cvlans && (await vlanLimit(db)) === 1)
    advice.push(
      'Open vSwitch looks at one VLAN tag of a frame, so that nothing comes out of a tunnel with cvlans: ' +
        'ovs-vsctl set Open_vSwitch . other_config:vlan-limit=2 (a setting of all bridges)',
    );
  if (policing && (await getBridge(db, network.name))?.datapathType === 'netdev')
    advice.push(`${network.name} has the userspace datapath, on which policing has no effect: use rate`);
  return advice;
}
