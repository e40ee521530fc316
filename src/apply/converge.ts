/** Brings a host to what a topology wants of it: what is wanted no more goes, then networks, then each attachment. */
import type { Container } from '../containers/container.ts';
import type { NetlinkSocket } from '../kernel/netlink/socket.ts';
import type { Attachment } from '../model/attachment.ts';
import type { AttachmentRecord } from '../model/observed.ts';
import type { NetworkSpec } from '../model/topology.ts';
import { lives } from '../observe/lives.ts';
import type { Wanted } from '../plan/topology.ts';
import { attach } from './attach.ts';
import { detach } from './detach.ts';
import type { Host } from './host.ts';
import { dropNetworks, ensureNetwork } from './networks.ts';
import type { Pending } from './transaction.ts';

/** What happened to one thing, or would. */
export interface Outcome {
  /** `web/eth1`, `network lan`. */
  readonly key: string;
  readonly verb: 'attach' | 'detach' | 'network' | 'drop network';
  readonly steps: readonly { readonly command: string; readonly because: string }[];
  readonly error?: unknown;
}

/** What is wanted of the host. */
export interface Goal {
  readonly networks: readonly NetworkSpec[];
  readonly wanted: readonly { readonly wanted: Wanted; readonly container: Container }[];
  /** Notes of attachments that are wanted no more, see {@link unwantedRecords}. */
  readonly unwanted: readonly AttachmentRecord[];
}

/** How it is brought about. */
export interface ConvergeOptions {
  readonly dryRun: boolean;
  readonly firewall: boolean;
  /** Takes every change that can be taken back, see AttachOptions; what is wanted no more stays then. */
  readonly hold?: (pending: Pending) => void;
  /** Called with each outcome that is not "nothing to do". */
  readonly onOutcome?: (outcome: Outcome) => void;
}

/** Runs all of it; what fails is undone by itself and told, and the rest goes on. */
export async function converge(host: Host, goal: Goal, options: ConvergeOptions): Promise<Outcome[]> {
  const outcomes: Outcome[] = [];
  const run = async (
    key: string,
    verb: Outcome['verb'],
    work: () => Promise<{ steps: Outcome['steps'] }>,
  ): Promise<void> => {
    let outcome: Outcome;
    try {
      outcome = { key, verb, steps: (await work()).steps };
    } catch (error) {
      outcome = { key, verb, steps: [], error };
    }
    if (outcome.steps.length === 0 && outcome.error === undefined) return;
    outcomes.push(outcome);
    options.onOutcome?.(outcome);
  };
  for (const record of options.hold ? [] : goal.unwanted) {
    const target = { container: containerOf(record), ifname: record.ifname };
    // A network that is no more is taken away below, all of it at once.
    await run(keyOf(record), 'detach', () =>
      detach(host, [target], { dryRun: options.dryRun, keepShared: true }),
    );
  }
  for (const network of goal.networks) {
    await run(`network ${network.name}`, 'network', () => ensureNetwork(host, network, options));
  }
  for (const { wanted, container } of goal.wanted) {
    await run(wanted.key, 'attach', () => attachWanted(host, wanted, container, options));
  }
  const names = new Set(goal.networks.map(({ name }) => name));
  const former = options.hold ? [] : host.state.networkRecords();
  for (const gone of former.filter(({ network }) => !names.has(network))) {
    await run(`network ${gone.network}`, 'drop network', async () => {
      const [result] = await dropNetworks(host, [gone], options);
      return { steps: result?.steps ?? [] };
    });
  }
  return outcomes;
}

/** Makes or mends one attachment that is kept. */
export async function attachWanted(
  host: Host,
  { attachment, dhcp }: Wanted,
  container: Container,
  { dryRun, firewall, hold }: Pick<ConvergeOptions, 'dryRun' | 'firewall' | 'hold'>,
) {
  const lease = dhcp && !dryRun ? await leaseFor(host, attachment, container) : {};
  return attach(host, container, attachment, {
    ifPresent: 'converge',
    firewall,
    dryRun,
    origin: 'kept',
    hold,
    ...lease,
  });
}

/** Addresses from a DHCP server: the host's udhcpc gets and renews them, inside of the container's namespace. */
async function leaseFor(host: Host, { ifname }: Attachment, container: Container) {
  const { checkDhcp, runDhcpClient } = await import('../dhcp/clients.ts');
  const target = { client: 'udhcpc-f', options: [], ifname, guest: container.name } as const;
  checkDhcp(target, container.runtime);
  return {
    dhcpGuest: container.name,
    beforeCommit: (guest: NetlinkSocket) =>
      runDhcpClient({ ...target, container, netns: guest.netns, stateDir: host.state.path }),
  };
}

/** `web/eth1` */
export function keyOf({ container, ifname }: Pick<AttachmentRecord, 'container' | 'ifname'>): string {
  return `${container.name}/${ifname}`;
}

/** The container of a note, for taking its interface away. */
export function containerOf({ container }: AttachmentRecord): Container {
  return { ...container, runtime: container.runtime as Container['runtime'] };
}

/**
 * Notes of attachments that were kept and are wanted no more, and of those whose container is gone, to take away what
 * does not go with it.
 */
export function unwantedRecords(
  records: readonly AttachmentRecord[],
  wanted: ReadonlySet<string>,
): AttachmentRecord[] {
  const known = new Map<string, boolean>();
  // A container can have many attachments, and a host many containers.
  const isAlive = ({ container }: AttachmentRecord): boolean => {
    const life = `${container.netnsPath} ${container.netnsInode} ${container.startTime}`;
    const alive = known.get(life) ?? lives(container);
    known.set(life, alive);
    return alive;
  };
  return records.filter(
    (record) => record.origin === 'kept' && (!wanted.has(keyOf(record)) || !isAlive(record)),
  );
}
