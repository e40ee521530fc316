/** What a network's name stands for on the host. */
import { existsSync } from 'node:fs';
import type { Link } from '../model/link.ts';
import type { NetworkType } from '../model/observed.ts';
import type { HostView } from './view.ts';

/** ARPHRD_INFINIBAND. */
const infiniband = 32;

/** The link of this name and what kind of network it is; both undefined when there is none. */
export async function observeNetwork(
  { host, netns }: HostView,
  name: string,
): Promise<{ link: Link | undefined; type: NetworkType | undefined }> {
  const link = netns.link(name);
  if (!link || link.name !== name) return { link: undefined, type: undefined };
  if (link.kind === 'bridge') return { link, type: 'bridge' };
  // The local port of an Open vSwitch bridge: of kind openvswitch in the kernel's datapath, a tap in the other one.
  if ((link.kind === 'openvswitch' || link.kind === 'tun') && existsSync(host.ovsdbSocket)) {
    const { getBridge } = await import('../ovs/bridge.ts');
    if (await getBridge(await host.ovs(), name)) return { link, type: 'ovs' };
  }
  return { link, type: link.arphrd === infiniband ? 'ipoib' : 'nic' };
}
