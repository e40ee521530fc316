/** Which datapath a new bridge can have on this host: the kernel's (`system`) or the one in ovs-vswitchd (`netdev`). */
import { existsSync } from 'node:fs';
import { askVswitchd } from './vswitchd.ts';

/** Bridge.datapath_type; `system` is what an empty one means. */
export type DatapathType = 'system' | 'netdev';

/**
 * `system` unless ovs-vswitchd cannot open a kernel datapath; then `netdev`.
 *
 * The column Open_vSwitch.datapath_types does not tell: it lists what was compiled in. A bridge whose kernel
 * datapath cannot be opened carries no error in the database either. So: a loaded module shows in /sys/module, which
 * settles it on nearly every host for the price of one stat (ovs-vswitchd or its start script have the kernel
 * load it). Where it does not show, it may still be built in, and the kernel asked now may answer other than
 * it did when ovs-vswitchd started and asked it, once for all. Therefore ovs-vswitchd itself is asked,
 * by what `ovs-appctl dpctl/show system@ovs-system` does: ENOENT is the missing generic netlink family,
 * EAFNOSUPPORT a build without the kernel datapath, ENODEV only says that there is no such datapath yet.
 * When it does not run, `system` is assumed, as `ovs-vsctl add-br` does.
 *
 * @param dbSocket path of the database's socket
 */
export async function usableDatapath(dbSocket: string, timeoutMs = 2000): Promise<DatapathType> {
  if (existsSync('/sys/module/openvswitch')) return 'system';
  const answer = await askVswitchd(dbSocket, 'dpctl/show', ['system@ovs-system'], timeoutMs);
  return /No such file or directory|Address family not supported/.test(answer) ? 'netdev' : 'system';
}
