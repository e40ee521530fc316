/** What ports of Open vSwitch are changed to in place: their VLANs, and how much they take. */
import { PipewrightError } from '../errors.ts';
import { commit, defaultWait, type Wait } from './commit.ts';
import type { Operation, Ovsdb } from './ovsdb.ts';
import { ethtypeKey } from './port.ts';
import { mapOf, setOf } from './values.ts';

/** What {@link setPortVlans} sets. */
interface NewPortVlans {
  readonly tag?: number | null;
  readonly trunks?: readonly number[];
  readonly vlanMode?: string | null;
  readonly cvlans?: readonly number[];
  readonly qinqEthtype?: string | null;
}

/**
 * Sets the VLANs of a port: `ovs-vsctl set port PORT tag=TAG trunks=VID,VID`. What is absent stays; null and an empty list
 * take the setting away. Throws OVS_REFUSED (ENOENT) when there is no such port.
 */
export async function setPortVlans(
  db: Ovsdb,
  port: string,
  { tag, trunks, vlanMode, cvlans, qinqEthtype }: NewPortVlans,
  wait: Wait = defaultWait,
): Promise<void> {
  const about = { op: 'ovs.port.change', subject: port };
  const operation: Operation = {
    op: 'update',
    table: 'Port',
    where: [['name', '==', port]],
    row: {
      ...(tag === undefined ? {} : { tag: tag ?? setOf([]) }),
      ...(trunks === undefined ? {} : { trunks: setOf(trunks) }),
      ...(vlanMode === undefined ? {} : { vlan_mode: vlanMode ?? setOf([]) }),
      ...(cvlans === undefined ? {} : { cvlans: setOf(cvlans) }),
    },
  };
  // Of other_config, which others may use as well, the one entry.
  const ethtype: Operation = {
    op: 'mutate',
    table: 'Port',
    where: [['name', '==', port]],
    mutations: [
      ['other_config', 'delete', setOf([ethtypeKey])],
      ['other_config', 'insert', mapOf(qinqEthtype ? { [ethtypeKey]: qinqEthtype } : {})],
    ],
  };
  const operations = qinqEthtype === undefined ? [operation] : [operation, ethtype];
  const steps = operations.map((one) => ({ operation: one }));
  const [updated] = await commit(db, { about, steps }, wait);
  if ((updated?.count ?? 0) === 0) {
    throw new PipewrightError('OVS_REFUSED', { ...about, errno: 'ENOENT', detail: 'no such port' });
  }
}

/**
 * Limits what the port takes from its link: `ovs-vsctl set interface PORT ingress_policing_rate=RATE ...`, in kbit/s and kbit;
 * 0 and 0 for no limit. Throws OVS_REFUSED (ENOENT) when there is no such port.
 */
export async function setPolicing(
  db: Ovsdb,
  port: string,
  { rate, burst }: { readonly rate: number; readonly burst: number },
  wait: Wait = defaultWait,
): Promise<void> {
  const about = { op: 'ovs.policing.set', subject: port };
  const operation: Operation = {
    op: 'update',
    table: 'Interface',
    where: [['name', '==', port]],
    row: { ingress_policing_rate: rate, ingress_policing_burst: burst },
  };
  const [updated] = await commit(db, { about, steps: [{ operation }] }, wait);
  if ((updated?.count ?? 0) === 0)
    throw new PipewrightError('OVS_REFUSED', { ...about, errno: 'ENOENT', detail: 'no such port' });
}
