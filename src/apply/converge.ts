/** Brings a host to what a topology wants of it: what is wanted no more goes, then networks, then each attachment. */
import { isLabelPlace } from '../config/topology/labels.ts';
import type { Container } from '../containers/container.ts';
import { type Attachment, qualifiedName } from '../model/attachment.ts';
import type { AttachmentRecord } from '../model/observed.ts';
import type { Change } from '../model/operation.ts';
import type { NetworkSpec } from '../model/topology.ts';
import { lives } from '../observe/lives.ts';
import type { Wanted } from '../plan/topology.ts';
import { adviceOn } from './advice.ts';
import type { AttachOptions, AttachResult } from './attach.ts';
import { detach } from './detach.ts';
import { dropNetworks } from './drop-networks.ts';
import type { Host } from './host.ts';
import { attachLeased } from './leased.ts';
import { ensureNetwork } from './networks.ts';
import type { Held } from './transaction.ts';
import { dropUplink, ensureUplink, unwantedUplinks, withNic } from './uplink-network.ts';
import type { IsLeaving } from './verify.ts';
import type { WantedHere } from './wanted.ts';

/** What happened to one thing, or would. */
export interface Outcome {
  /** `web/eth1`, `network lan`. */
  readonly key: string;
  /** Of networks and attachments. */
  readonly change?: Change;
  readonly verb: 'attach' | 'detach' | 'network' | 'drop network' | 'uplink' | 'drop uplink';
  readonly steps: readonly { readonly command: string; readonly because: string }[];
  readonly error?: unknown;
  /** What whoever asked for it should know. */
  readonly notes?: readonly string[];
}

/** What is wanted of the host. */
export interface Goal {
  readonly networks: readonly NetworkSpec[];
  readonly wanted: readonly WantedHere[];
  /** Notes of attachments that are wanted no more, see {@link unwantedRecords}. */
  readonly unwanted: readonly AttachmentRecord[];
  /** What to try instead of one that failed; undefined: nothing. */
  readonly instead?: ((failed: WantedHere, error: unknown) => Promise<WantedHere | undefined>) | undefined;
}

/** How it is brought about. */
export interface ConvergeOptions {
  readonly dryRun: boolean;
  readonly firewall: boolean;
  /** Somebody sees to leases: interfaces are made without. */
  readonly keepsLeases?: boolean;
  /** Takes every change that can be taken back, see AttachOptions; what is wanted no more stays then. */
  readonly hold?: (pending: Held) => void;
  /** The peer of the session that the command was given in: a NIC that moves must not cut it off. */
  readonly ssh?: string | undefined;
  /** Keys of what is not to be tried now. */
  readonly postponed?: ReadonlySet<string>;
  /** Called with each outcome that is not "nothing to do". */
  readonly onOutcome?: (outcome: Outcome) => void;
}

/** Runs all of it; what fails is undone by itself and told, and the rest goes on. */
export async function converge(host: Host, goal: Goal, options: ConvergeOptions): Promise<Outcome[]> {
  const outcomes: Outcome[] = [];
  // In a dry run each comes to a host without what others have made there by then, as a bridge.
  const isFirst = firstOfEach();
  const run = async (
    key: string,
    verb: Outcome['verb'],
    work: () => Promise<Pick<Outcome, 'steps' | 'change' | 'notes'>>,
  ): Promise<void> => {
    if (options.postponed?.has(key)) return;
    let outcome: Outcome;
    try {
      const { steps: all, change, notes = [] } = await work();
      const steps = options.dryRun ? all.filter(isFirst) : all;
      outcome = { key, verb, ...(change && { change }), steps, ...(notes.length > 0 && { notes }) };
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
  for (const uplink of options.hold ? [] : unwantedUplinks(host, goal.networks)) {
    await run(uplinkKey(uplink.network ?? '', uplink.nic), 'drop uplink', () =>
      dropUplink(host, uplink, options),
    );
  }
  for (const network of goal.networks) {
    await run(`network ${network.name}`, 'network', () => ensureNetwork(host, network, options));
  }
  for (const network of withNic(goal.networks)) {
    await run(uplinkKey(network.name, network.nic), 'uplink', () => ensureUplink(host, network, options));
  }
  const attachments = new Map(goal.wanted.map(({ wanted }) => [wanted.key, wanted.attachment]));
  const isLeaving = leavingIn((key) => attachments.get(key));
  // A mirror is of the ports that are there.
  const isMirror = ({ wanted }: WantedHere): boolean => wanted.attachment.mirror !== undefined;
  for (const last of [false, true]) {
    await atOnce(
      goal.wanted.filter((entry) => isMirror(entry) === last),
      (entry, onWait) =>
        run(entry.wanted.key, 'attach', () => attachOr(host, entry, goal, { ...options, isLeaving, onWait })),
    );
  }
  const names = new Set(goal.networks.map(({ name }) => name));
  const bridgeOf = ({ network }: Pick<Attachment, 'network'>): string =>
    'name' in network ? `${network.kind}:${network.name}` : '';
  const moving = host.state.records().filter((record) => {
    const next = attachments.get(keyOf(record));
    return next !== undefined && bridgeOf(next) !== bridgeOf(record);
  });
  const former = options.hold ? [] : host.state.networkRecords();
  for (const gone of former.filter(({ network }) => !names.has(network))) {
    await run(`network ${gone.network}`, 'drop network', async () => {
      const [result] = await dropNetworks(host, [gone], {
        ...options,
        ...(options.dryRun && { leaving: [...goal.unwanted, ...moving] }),
      });
      return { steps: result?.steps ?? [] };
    });
  }
  return outcomes;
}

/** Says of steps, one after the other, whether it is the first of its kind: what several ask of the host is shown once. */
export function firstOfEach(): (step: Outcome['steps'][number]) => boolean {
  const seen = new Set<string>();
  return ({ command }) => {
    const isAgain = seen.has(command) && !command.includes(' GUEST ');
    seen.add(command);
    return !isAgain;
  };
}

/** `network lan uplink eth0` */
export function uplinkKey(network: string, nic: string): string {
  return `network ${network} uplink ${nic}`;
}

/** How one attachment is made or mended. */
type AttachWantedOptions = Pick<ConvergeOptions, 'dryRun' | 'firewall' | 'hold' | 'keepsLeases'> &
  Pick<AttachOptions, 'verified' | 'isLeaving' | 'onWait'>;

/** What waits for an answer from the link does not hold up the others, but for this many. */
const mostAtOnce = 64;

/** Works on all in turn; on the next one as soon as one is done, or only waits. */
async function atOnce<T>(
  all: readonly T[],
  work: (one: T, onWait: () => void) => Promise<void>,
): Promise<void> {
  const underWay = new Set<Promise<void>>();
  for (const one of all) {
    if (underWay.size >= mostAtOnce) await Promise.race(underWay);
    await new Promise<void>((resolve, reject) => {
      const working = work(one, resolve).finally(() => underWay.delete(working));
      underWay.add(working);
      working.then(resolve, reject);
    });
  }
  await Promise.all(underWay);
}

async function attachOr(host: Host, entry: WantedHere, { instead }: Goal, options: AttachWantedOptions) {
  for (let one = entry; ; ) {
    try {
      return await attachWanted(host, one.wanted, one.container, options);
    } catch (error) {
      const next = await instead?.(one, error);
      if (!next) throw error;
      one = next;
    }
  }
}

/** Whether a note's address is not wanted there any more, whose turn is yet to come. */
export function leavingIn(wantedOf: (key: string) => Attachment | undefined): IsLeaving {
  return (holder, ip) => {
    const next = wantedOf(keyOf(holder));
    return next !== undefined && !next.addrs.some(({ cidr }) => cidr?.ip === ip);
  };
}

/** Makes or mends one attachment that is kept. */
export async function attachWanted(
  host: Host,
  { attachment, place }: Wanted,
  container: Container,
  options: AttachWantedOptions,
): Promise<AttachResult & { readonly notes: readonly string[] }> {
  const { keepsLeases, ...rest } = options;
  const { leases, ...result } = await attachLeased(host, container, attachment, {
    ...rest,
    ifPresent: 'converge',
    origin: 'kept',
    byLabel: place !== undefined && isLabelPlace(place),
    isResident: keepsLeases ?? false,
    get: keepsLeases ? 'never' : 'missing',
  });
  const advice = result.steps.length > 0 && !options.dryRun ? await adviceOn(host, attachment) : [];
  if (leases.length === 0) return { ...result, notes: advice };
  const { renewalNote } = await import('../dhcp/once.ts');
  return { ...result, notes: [renewalNote(leases, attachment.ifname) ?? [], advice].flat() };
}

/** `web/eth1`, `podman:web/eth1` */
export function keyOf({ container, ifname }: Pick<AttachmentRecord, 'container' | 'ifname'>): string {
  return `${qualifiedName(container)}/${ifname}`;
}

/** The container of a note, for taking its interface away. */
export function containerOf({ container }: AttachmentRecord): Container {
  return { ...container, runtime: container.runtime as Container['runtime'] };
}

/**
 * Notes of attachments that were kept and are wanted no more, and of those whose container is gone, to take away what
 * does not go with it.
 * @param running containers that were just seen to run
 */
export function unwantedRecords(
  records: readonly AttachmentRecord[],
  wanted: ReadonlySet<string>,
  running: Iterable<Container> = [],
): AttachmentRecord[] {
  const known = new Map<string, boolean>();
  const processes = new Set([...running].map(({ pid, startTime }) => `${pid}:${startTime}`));
  // A container can have many attachments, and a host many containers.
  const isAlive = ({ container }: AttachmentRecord): boolean => {
    const { pid, startTime } = container;
    if (pid !== undefined && processes.has(`${pid}:${startTime}`)) return true;
    const life = `${container.netnsPath} ${container.netnsInode} ${startTime}`;
    const alive = known.get(life) ?? lives(container);
    known.set(life, alive);
    return alive;
  };
  return records.filter(
    (record) => record.origin === 'kept' && (!wanted.has(keyOf(record)) || !isAlive(record)),
  );
}

/** Without the notes of containers that run and of whose engine nothing is known now: they stay as they are. */
export function inSight(
  records: readonly AttachmentRecord[],
  away: ReadonlyMap<string, unknown>,
): AttachmentRecord[] {
  return records.filter(({ container }) => !away.has(container.runtime) || !lives(container));
}
