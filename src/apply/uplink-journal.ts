/** The journal of a move: written before the first step, and what puts everything back is run from it. */
import { readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import type { StandIn, UplinkJournal, UplinkOp } from '../model/uplink.ts';
import type { Host } from './host.ts';
import { UplinkExecutor } from './uplink-execute.ts';

/** Routers answer within half a second (RFC 4861, section 6.2.6), and not more often than every three. */
const relearnMs = 4000;
const relearnPollMs = 50;

/** Milliseconds of a clock that all processes share and nobody sets: CLOCK_MONOTONIC. */
export function monotonicMs(): number {
  return Number(process.hrtime.bigint() / 1_000_000n);
}

let boot: string | undefined;

/** The number of this run of the machine. */
export function bootId(): string {
  boot ??= readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim();
  return boot;
}

/**
 * Puts everything back and drops the journal, or, of an uplink that was to be removed, lets it be one again. Any number of
 * times, from any point of the move. The caller holds the host's lock.
 * @returns what could not be put back; the journal stays then
 */
export async function takeBack(
  host: Host,
  journal: UplinkJournal,
): Promise<{ readonly op: UplinkOp; readonly error: unknown }[]> {
  const executor = new UplinkExecutor(host, monotonicMs() - journal.notedAt);
  const failures = await executor.runAll(journal.undo);
  if (failures.length > 0) return failures;
  const { former, action } = journal;
  if (action === 'remove') host.state.writeUplink(settled(journal));
  else if (former) host.state.writeUplink(settled({ ...journal, record: former }));
  else host.state.removeUplink(journal.nic);
  return [];
}

/** A NIC that is an uplink, and nothing is under way. */
export function settled(journal: UplinkJournal): UplinkJournal {
  return {
    ...journal,
    action: 'add',
    phase: 'settled',
    undo: [],
    standIns: [],
    undoStandIns: [],
    former: undefined,
  };
}

/** Waits for the kernel to learn the routers again, so that the stand-ins can go. Without the lock: it may take seconds. */
export async function relearn(host: Host, standIns: readonly StandIn[]): Promise<void> {
  const executor = new UplinkExecutor(host, 0);
  const deadline = monotonicMs() + relearnMs;
  let left = standIns;
  while (left.length > 0 && monotonicMs() < deadline) {
    left = executor.settle(left);
    if (left.length > 0) await sleep(relearnPollMs);
  }
}
