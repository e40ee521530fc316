/** A NIC becomes the uplink of a bridge, or is one no more: lock, recover, observe, plan, journal, guard, run, check. */
import { startTimeOf } from '../containers/proc.ts';
import { PipewrightError } from '../errors.ts';
import { acquireLock } from '../kernel/lock.ts';
import {
  describeUplinkOp,
  type ObservedUplink,
  type StandIn,
  type UplinkBridge,
  type UplinkJournal,
  type UplinkPlan,
  type UplinkRecord,
  type UplinkStep,
  type UplinkWant,
} from '../model/uplink.ts';
import { observeUplink } from '../observe/uplink.ts';
import { planUplinkAdd, planUplinkRemove, standInsOnNic } from '../plan/uplink.ts';
import type { Host } from './host.ts';
import { recover } from './transaction.ts';
import { answering, type Peer, peersBy } from './uplink-check.ts';
import { UplinkExecutor } from './uplink-execute.ts';
import { isOver, startGuard } from './uplink-guard.ts';
import { bootId, monotonicMs, relearn, settled, takeBack } from './uplink-journal.ts';
import { whyNotOn } from './uplink-torn.ts';

/** How a move is made. */
export interface UplinkOptions {
  /** Milliseconds within which {@link confirmUplinks} has to come; 0: it is final when everybody still answers. */
  readonly confirmMs: number;
  readonly dryRun: boolean;
  /** The peer of the session that the command was given in. */
  readonly ssh: string | undefined;
  /** The network of a topology that wants it. */
  readonly network?: string;
}

/** What was done, or would be. */
export interface UplinkResult {
  readonly nic: string;
  readonly bridge: UplinkBridge;
  readonly steps: readonly { readonly command: string; readonly because: string }[];
  /** Who answered before and after. */
  readonly reached: readonly string[];
  readonly warnings: readonly string[];
  /** It goes back unless it is confirmed. */
  readonly toConfirm: boolean;
}

/** Milliseconds for a move that nobody has to confirm, and for its checks. */
const moveMs = 30_000;
const checkMs = 3000;
/** Before the move: who does not answer in this time is not waited for afterwards either. */
const baselineMs = 1500;

/** Makes a NIC the uplink of a bridge. @throws PipewrightError; everything is as it was then */
export function addUplink(host: Host, want: UplinkWant, options: UplinkOptions): Promise<UplinkResult> {
  return locked(host, want.nic, options, async (later) => {
    const seen = await observeUplink(host, want.nic, want.bridge);
    const former = formerOf(host, want);
    const plan = planUplinkAdd(want, seen, former);
    const undoStandIns = standInsOnNic(plan.record, seen.state);
    const record = former ? again(former, plan.record) : plan.record;
    const from = plan.inPlace ? want.bridge.name : want.nic;
    return run(
      host,
      {
        action: 'add',
        record,
        former,
        plan,
        seen,
        from,
        to: want.bridge.name,
        undoStandIns,
        later,
      },
      options,
    );
  });
}

/** Takes a NIC off its bridge again, with what the bridge has of it now. @throws PipewrightError UPLINK_UNKNOWN, ... */
export function removeUplink(host: Host, nic: string, options: UplinkOptions): Promise<UplinkResult> {
  return locked(host, nic, options, async (later) => {
    const journal = host.state.uplink(nic);
    if (!journal) throw unknown(nic);
    const { record, network } = journal;
    const bridge = record.want.bridge.name;
    const seen = await observeUplink(host, nic, record.want.bridge);
    const keep = host.state
      .networkRecords()
      .filter(({ hostLink }) => hostLink === bridge)
      .flatMap(({ addrs }) => addrs);
    const plan = planUplinkRemove(record, seen, keep);
    const undoStandIns = plan.standIns.map((standIn) => ({ ...standIn, link: bridge }));
    return run(
      host,
      { action: 'remove', record, former: undefined, plan, seen, from: bridge, to: nic, undoStandIns, later },
      { ...options, ...(network === undefined ? {} : { network }) },
    );
  });
}

/** What was noted when the NIC became the uplink of this bridge, which somebody has taken it off since. */
function formerOf(host: Host, { nic, bridge }: UplinkWant): UplinkRecord | undefined {
  const record = host.state.uplink(nic)?.record;
  return record?.want.bridge.kind === bridge.kind && record.want.bridge.name === bridge.name
    ? record
    : undefined;
}

/** What came from the NIC the first time is still what it is given back. */
function again(former: UplinkRecord, now: UplinkRecord): UplinkRecord {
  // Of a bridge that is made anew nothing is true any more that was noted of the former one.
  const { nicConf, nicWasUp } = former;
  const base = now.madeGroup === undefined ? former : { ...now, nicConf, nicWasUp };
  return {
    ...base,
    want: now.want,
    mac: now.mac,
    nicAddrs: [...former.nicAddrs, ...now.nicAddrs],
    switched: now.madeGroup === undefined ? [...former.switched, ...now.switched] : now.switched,
  };
}

/** Routes that are left to be relearned when the lock is not held any more: that may take seconds. */
type Later = (standIns: readonly StandIn[]) => void;

/** Holds the lock, with nothing of the NIC's left from before. */
async function locked(
  host: Host,
  nic: string,
  { dryRun }: UplinkOptions,
  work: (later: Later) => Promise<UplinkResult>,
): Promise<UplinkResult> {
  let left: readonly StandIn[] = [];
  try {
    using _lock = await acquireLock(host.state.lockPath);
    if (host.state.uplink(nic)?.bootId !== bootId()) host.state.removeUplink(nic);
    if (!dryRun) await recover(host);
    refusePending(host, nic);
    // Awaited here: the lock is needed until it is done.
    return await work((standIns) => {
      left = standIns;
    });
  } finally {
    await relearn(host, left);
  }
}

/** One of the two. */
interface Move {
  readonly action: 'add' | 'remove';
  readonly record: UplinkRecord;
  readonly former: UplinkRecord | undefined;
  readonly plan: UplinkPlan;
  readonly seen: ObservedUplink;
  /** The link that has the addresses now, and the one that gets them. */
  readonly from: string;
  readonly to: string;
  readonly undoStandIns: readonly StandIn[];
  readonly later: Later;
}

async function run(host: Host, move: Move, options: UplinkOptions): Promise<UplinkResult> {
  const { record, plan, seen } = move;
  const { nic, bridge } = record.want;
  const steps = plan.steps.map(({ op, because }) => ({ command: describeUplinkOp(op), because }));
  const result = { nic, bridge, steps, reached: [], warnings: [], toConfirm: false };
  if (options.dryRun || steps.length === 0) return result;
  const state = move.from === bridge.name ? seen.bridgeState : seen.state;
  const peers = peersBy(host, state, options.ssh);
  const before = await answering(host, move.from, peers, baselineMs);
  const journal = journalOf(move, options);
  host.state.writeUplink(journal);
  try {
    await startGuard(host, nic);
  } catch (error) {
    restoreFile(host, move, options);
    throw error;
  }
  try {
    await runSteps(host, plan.steps, journal);
    const silent = await silentAfter(host, move.to, before);
    if (silent.length > 0) throw lost(move, silent);
  } catch (error) {
    await giveBack(host, move, journal, error);
    throw error;
  }
  const toConfirm = options.confirmMs > 0;
  if (toConfirm) host.state.writeUplink({ ...journal, phase: 'moved' });
  else settle(host, journal);
  // Else the guard looks after them.
  if (!toConfirm) move.later(plan.standIns);
  return { ...result, reached: before.map(({ ip }) => ip), warnings: warningsOf(peers, before), toConfirm };
}

function journalOf(
  { action, record, former, plan, undoStandIns }: Move,
  options: UplinkOptions,
): UplinkJournal {
  const now = monotonicMs();
  return {
    version: 1,
    bootId: bootId(),
    nic: record.want.nic,
    action,
    phase: 'moving',
    pid: process.pid,
    startTime: startTimeOf(process.pid) ?? '',
    notedAt: now,
    deadline: now + (options.confirmMs > 0 ? options.confirmMs : moveMs),
    undo: plan.undo,
    standIns: plan.standIns,
    undoStandIns,
    record,
    former,
    network: options.network,
  };
}

/** Nothing was touched. */
function restoreFile(host: Host, { action, record, former }: Move, options: UplinkOptions): void {
  const journal = host.state.uplink(record.want.nic);
  if (former && journal) host.state.writeUplink(settled({ ...journal, record: former }));
  else if (action === 'remove' && journal)
    host.state.writeUplink({ ...settled(journal), network: options.network });
  else host.state.removeUplink(record.want.nic);
}

async function runSteps(host: Host, steps: readonly UplinkStep[], { notedAt }: UplinkJournal): Promise<void> {
  const executor = new UplinkExecutor(host, monotonicMs() - notedAt);
  for (const { op } of steps) await executor.run(op);
}

async function silentAfter(host: Host, link: string, before: readonly Peer[]): Promise<Peer[]> {
  const after = await answering(host, link, before, checkMs);
  return before.filter((peer) => !after.includes(peer));
}

/** @throws UNDO_INCOMPLETE; the guard goes on trying then */
async function giveBack(host: Host, move: Move, journal: UplinkJournal, reason: unknown): Promise<void> {
  const failures = await takeBack(host, journal);
  if (failures.length === 0) return move.later(journal.undoStandIns);
  // The guard takes over at once.
  host.state.writeUplink({ ...journal, deadline: monotonicMs() });
  const text = (error: unknown): string => (error instanceof Error ? error.message : String(error));
  throw new PipewrightError('UNDO_INCOMPLETE', {
    op: 'undo',
    subject: text(reason),
    detail: `and it could not all be taken back yet: ${failures.map(({ error }) => text(error)).join('; ')}`,
    cause: reason,
  });
}

function lost({ record, action }: Move, silent: readonly Peer[]): PipewrightError {
  const names = silent.map(({ ip, what }) =>
    what === 'ssh' ? `${ip}, the peer of this session` : `${ip}, a gateway`,
  );
  return new PipewrightError('UPLINK_LOST', {
    op: `uplink.${action}`,
    subject: `${record.want.nic} on ${record.want.bridge.name}`,
    detail: `${names.join('; ')}, answered before and does not any more; everything is as it was`,
  });
}

function warningsOf(peers: readonly Peer[], before: readonly Peer[]): string[] {
  return peers
    .filter((peer) => !before.includes(peer))
    .map(({ ip }) => `${ip} did not answer before the move either, so it was not asked afterwards`);
}

/** The move is final. */
function settle(host: Host, journal: UplinkJournal): void {
  if (journal.action === 'remove') host.state.removeUplink(journal.nic);
  else host.state.writeUplink(settled(journal));
}

/** A NIC, and what it is the uplink of. */
export interface Confirmed {
  readonly nic: string;
  readonly bridge: string;
  readonly action: 'add' | 'remove';
}

/**
 * Makes final what waits for it: of this NIC, or of all. Whoever has the lock first decides: this, or the guard at its time.
 * @throws PipewrightError UPLINK_UNKNOWN when nothing waits
 */
export async function confirmUplinks(host: Host, nic: string | undefined): Promise<Confirmed[]> {
  using _lock = await acquireLock(host.state.lockPath);
  await recover(host);
  const waiting = host.state
    .uplinks()
    .filter((journal) => journal.phase === 'moved' && (nic === undefined || journal.nic === nic));
  const inTime = waiting.filter((journal) => journal.bootId === bootId() && !isOver(journal));
  if (inTime.length === 0) {
    throw new PipewrightError('UPLINK_UNKNOWN', {
      op: 'confirm',
      subject: nic ?? 'uplinks',
      detail:
        waiting.length > 0
          ? 'the time is over: it is being taken back'
          : 'nothing waits to be confirmed: it is final already, or was taken back',
      hint: 'see: pipewright uplink list',
    });
  }
  for (const journal of inTime) await confirmOne(host, journal);
  return inTime.map(({ nic: name, record, action }) => ({
    nic: name,
    bridge: record.want.bridge.name,
    action,
  }));
}

/** @throws PipewrightError UPLINK_LOST when somebody has taken the move apart meanwhile; what is left of it is taken back */
async function confirmOne(host: Host, journal: UplinkJournal): Promise<void> {
  const why = journal.action === 'add' ? await whyNotOn(host, journal.record.want) : undefined;
  if (why === undefined) return settle(host, journal);
  const failures = await takeBack(host, journal);
  if (failures.length > 0) host.state.writeUplink({ ...journal, deadline: monotonicMs() });
  throw new PipewrightError('UPLINK_LOST', {
    op: 'confirm',
    subject: `${journal.nic} on ${journal.record.want.bridge.name}`,
    detail: `${why}, so there is nothing to confirm; ${failures.length > 0 ? 'what is left is being taken back' : 'what was left of the move is taken back'}`,
  });
}

/** What is an uplink, or waits to be; what was cut off and is watched by nobody is put right first. */
export async function listUplinks(host: Host): Promise<ListedUplink[]> {
  using _lock = await acquireLock(host.state.lockPath);
  await recover(host);
  const journals = host.state.uplinks().filter((journal) => journal.bootId === bootId());
  return Promise.all(
    journals.map(async (journal) => ({ ...journal, torn: await whyNotOn(host, journal.record.want) })),
  );
}

/** An uplink, and why it is none any more, whoever did that. */
export interface ListedUplink extends UplinkJournal {
  readonly torn: string | undefined;
}

function refusePending(host: Host, nic: string): void {
  const journal = host.state.uplink(nic);
  if (!journal || journal.phase === 'settled') return;
  throw new PipewrightError('UPLINK_REFUSED', {
    op: 'uplink',
    subject: nic,
    detail: 'a change of it waits to be confirmed, or to be taken back',
    hint: 'pipewright confirm',
  });
}

function unknown(nic: string): PipewrightError {
  return new PipewrightError('UPLINK_UNKNOWN', {
    op: 'uplink.remove',
    subject: nic,
    detail: 'pipewright has not made it an uplink',
    hint: 'see: pipewright uplink list',
  });
}
