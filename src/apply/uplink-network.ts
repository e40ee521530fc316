/** The uplinks of a topology's networks: made, taken back when they are asked for no more, or changed. */
import { listAddrs } from '../kernel/netlink/addr.ts';
import { getLink } from '../kernel/netlink/link.ts';
import type { Addr } from '../model/link.ts';
import { formatVlans, type PortVlan } from '../model/port-vlan.ts';
import type { NetworkSpec } from '../model/topology.ts';
import type { UplinkJournal } from '../model/uplink.ts';
import { portVlansOf } from '../observe/port-vlans.ts';
import { ovsTrunks } from '../plan/uplink-vlans.ts';
import type { Host } from './host.ts';
import type { Held } from './transaction.ts';

/** What was done, or would be. */
interface Done {
  readonly steps: readonly { readonly command: string; readonly because: string }[];
}

/** How it is done. */
export interface NetworkUplinkOptions {
  readonly dryRun: boolean;
  /** The peer of the session that the command was given in. */
  readonly ssh?: string | undefined;
  /** Takes the move, which goes back by itself when it is not made final in an hour. */
  readonly hold?: ((pending: Held) => void) | undefined;
}

/** Milliseconds that a held move may wait. */
const holdMs = 3_600_000;

/** A network with an uplink. */
export type WithNic = Extract<NetworkSpec, { kind: 'bridge' | 'ovs' }> & { readonly nic: string };

/** Those of `networks` that have an uplink. */
export function withNic(networks: readonly NetworkSpec[]): WithNic[] {
  return networks.flatMap((network) =>
    (network.kind === 'bridge' || network.kind === 'ovs') && network.nic !== undefined
      ? [{ ...network, nic: network.nic }]
      : [],
  );
}

/** Makes the NIC the uplink of the network's bridge. What confirms it is that everybody answers who did before. */
export async function ensureUplink(
  host: Host,
  network: WithNic,
  { dryRun, ssh, hold }: NetworkUplinkOptions,
): Promise<Done> {
  if (await isAsWanted(host, network)) return { steps: [] };
  const { addUplink } = await import('./uplink.ts');
  const bridge = { kind: network.kind, name: network.bridge };
  const filtering =
    network.kind === 'bridge' && network.vlanFiltering ? { vlanFiltering: true as const } : {};
  // A file does not say it: as it was given by hand, if it was.
  const { keepMac = false } = host.state.uplink(network.nic)?.record.want ?? {};
  const want = { nic: network.nic, bridge, keepMac, trunks: network.trunks ?? [], ...filtering };
  const options = { confirmMs: hold ? holdMs : 0, dryRun, ssh, network: network.name };
  const result = await addUplink(host, want, options);
  if (hold && result.toConfirm) hold(await held(host, network.nic));
  return result;
}

/** Cheap, as the agent asks it all the time. A port that somebody else made carries what that one wants. */
async function isAsWanted(host: Host, { kind, nic, bridge, trunks = [] }: WithNic): Promise<boolean> {
  const { want, nicAddrs = [] } = host.state.uplink(nic)?.record ?? {};
  const isOurs = want?.bridge.kind === kind && want.bridge.name === bridge;
  // At boot it may have become the uplink before the host's configuration gave it any.
  if (isOurs && !nicAddrs.some(isGlobal) && hasAddresses(host, nic)) return false;
  // What carries all is given what is missing with each attachment.
  const isLimitSame = (want?.trunks ?? []).join() === trunks.join();
  if (kind === 'ovs') {
    const [db, { getPort }] = await Promise.all([host.ovs(), import('../ovs/port.ts')]);
    const port = await getPort(db, nic);
    if (port?.bridge !== bridge) return false;
    if (!isOurs) return !hasAddresses(host, nic);
    return [...port.trunks].sort((a, b) => a - b).join() === ovsTrunks(trunks).join();
  }
  const port = getLink(host.rtnl, nic);
  if (port?.master === undefined || port.master !== getLink(host.rtnl, bridge)?.ifindex) return false;
  if (!isOurs) return !hasAddresses(host, nic);
  if (trunks.length === 0 && isLimitSame) return true;
  const tagged = portVlansOf(host.rtnl, port.ifindex).filter(({ untagged }) => !untagged);
  return isLimitSame && formatVlans(tagged) === formatVlans(limitOf(trunks));
}

/** After a boot it may have some, see planUplinkAdd(). Those that come later are somebody's who will not be told. */
function hasAddresses({ rtnl }: Host, nic: string): boolean {
  const link = getLink(rtnl, nic);
  return link !== undefined && listAddrs(rtnl, link.ifindex).some(isGlobal);
}

const isGlobal = ({ scope }: Addr): boolean => scope === 0;

/** With the VLAN that has no tag a trunk of the same number is no other one. */
function limitOf(trunks: readonly number[]): PortVlan[] {
  return trunks.map((vid) => ({ vid, pvid: false, untagged: false }));
}

async function held(host: Host, nic: string): Promise<Held> {
  const [{ confirmUplinks }, { takeBack }] = await Promise.all([
    import('./uplink.ts'),
    import('./uplink-journal.ts'),
  ]);
  return {
    commit: async () => {
      await confirmUplinks(host, nic);
      return [];
    },
    rollBack: async (reason) => {
      const journal = host.state.uplink(nic);
      const [failure] = journal ? await takeBack(host, journal) : [];
      throw failure ? failure.error : reason;
    },
    abandon: () => {
      // Its time is over, and the guard acts.
      const journal = host.state.uplink(nic);
      if (journal?.phase === 'moved') host.state.writeUplink({ ...journal, deadline: 0 });
    },
  };
}

/** Uplinks that were made for networks and that none of `networks` asks for. */
export function unwantedUplinks(host: Host, networks: readonly NetworkSpec[]): UplinkJournal[] {
  const wanted = withNic(networks);
  return host.state
    .uplinks()
    .filter(
      ({ network, nic, phase }) =>
        phase === 'settled' &&
        network !== undefined &&
        !wanted.some((one) => one.nic === nic && one.name === network),
    );
}

/** Takes an uplink back. */
export async function dropUplink(
  host: Host,
  { nic }: UplinkJournal,
  { dryRun, ssh }: NetworkUplinkOptions,
): Promise<Done> {
  const { removeUplink } = await import('./uplink.ts');
  return removeUplink(host, nic, { confirmMs: 0, dryRun, ssh });
}
