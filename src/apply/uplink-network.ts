/** The uplinks of a topology's networks: made, taken back when they are asked for no more, or changed. */
import { getLink } from '../kernel/netlink/link.ts';
import type { NetworkSpec } from '../model/topology.ts';
import type { UplinkJournal } from '../model/uplink.ts';
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
  if (await isPort(host, network)) return { steps: [] };
  const { addUplink } = await import('./uplink.ts');
  const bridge = { kind: network.kind, name: network.bridge };
  const want = { nic: network.nic, bridge, keepMac: false, trunks: [] };
  const options = { confirmMs: hold ? holdMs : 0, dryRun, ssh, network: network.name };
  const result = await addUplink(host, want, options);
  if (hold && result.toConfirm) hold(await held(host, network.nic));
  return result;
}

/** Cheap, as the agent asks it all the time. */
async function isPort(host: Host, { kind, nic, bridge }: WithNic): Promise<boolean> {
  if (kind === 'ovs') {
    const [db, { getPort }] = await Promise.all([host.ovs(), import('../ovs/port.ts')]);
    return (await getPort(db, nic))?.bridge === bridge;
  }
  const port = getLink(host.rtnl, nic);
  return port?.master !== undefined && port.master === getLink(host.rtnl, bridge)?.ifindex;
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
