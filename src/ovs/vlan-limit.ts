/** How many VLAN tags of a frame Open vSwitch looks at, on all bridges. */
import type { Ovsdb } from './ovsdb.ts';
import { readMap } from './values.ts';

/** `ovs-vsctl get Open_vSwitch . other_config:vlan-limit`; 0: as many as the datapath can, and 1 when nothing is said. */
export async function vlanLimit(db: Ovsdb): Promise<number> {
  const about = { op: 'ovs.get', subject: 'other_config:vlan-limit' };
  const [found] = await db.transact(
    [{ op: 'select', table: 'Open_vSwitch', where: [], columns: ['other_config'] }],
    about,
  );
  return Number(readMap(found?.rows?.[0]?.other_config)['vlan-limit'] ?? 1);
}
