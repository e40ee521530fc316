/** `pipewright apply` */
import type { Outcome } from '../apply/converge.ts';
import { Host } from '../apply/host.ts';
import type { Held } from '../apply/transaction.ts';
import { PipewrightError } from '../errors.ts';
import { acquireLock } from '../kernel/lock.ts';
import { checkExpectations, type Expectation } from '../observe/expect.ts';
import { agrees, hasTerminal } from './ask.ts';
import { expectationTable } from './expectations.ts';
import { print, table } from './output.ts';
import { requirePrivileges } from './privileges.ts';
import {
  convergeGoal,
  defaultStateDir,
  goalOf,
  type HostGoal,
  loadTopology,
  outcomeJson,
  outcomeText,
  pathsOrDefault,
  tellOfLabels,
} from './topology.ts';

/** Options of `pipewright apply`. */
export interface ApplyFlags {
  readonly stateDir?: string | undefined;
  readonly host?: string | undefined;
  readonly noFirewall: boolean;
  readonly trustLabels: boolean;
  readonly yes: boolean;
  readonly rollback: boolean;
  readonly json: boolean;
}

/** Makes what the topology wants. @returns 0: all is so; 1: something failed, or the user said no */
export async function applyTopology(flags: ApplyFlags, paths: readonly string[]): Promise<number> {
  const topology = loadTopology(pathsOrDefault(paths), flags.host);
  requirePrivileges();
  await using host = new Host();
  const stateDir = flags.stateDir ?? defaultStateDir;
  const firewall = !flags.noFirewall;
  const { trustLabels } = flags;
  if (!flags.yes && hasTerminal()) {
    const planned = await goalOf(host, topology, stateDir, { dryRun: true, trustLabels });
    const outcomes = await convergeGoal(host, planned, { dryRun: true, firewall });
    if (outcomes.length > 0 && !agrees(outcomes.map(outcomeText).join('\n'), 'Make it so?')) return 1;
  }
  const goal = await goalOf(host, topology, stateDir, { dryRun: false, trustLabels });
  const { outcomes, expectations, tookBack } = await make(host, goal, flags);
  tellOfLabels(goal);
  const failed = outcomes.filter(({ error }) => error !== undefined);
  const unmet = expectations.filter(({ expected, seen }) => expected !== seen);
  if (flags.json)
    print(
      JSON.stringify({ changes: outcomes.map(outcomeJson), failed: failed.length, expectations, tookBack }),
    );
  else report(outcomes, failed, expectations, tookBack);
  return failed.length > 0 || unmet.length > 0 ? 1 : 0;
}

/** With `--rollback`, what can be taken back is made final only when everything is reachable as expected. */
async function make(host: Host, goal: HostGoal, flags: ApplyFlags) {
  const firewall = !flags.noFirewall;
  const onOutcome = flags.json ? () => {} : (outcome: Outcome): void => print(outcomeText(outcome));
  const held: Held[] = [];
  const hold = flags.rollback ? { hold: (pending: Held): void => void held.push(pending) } : {};
  const outcomes = await convergeGoal(host, goal, { dryRun: false, firewall, onOutcome, ...hold });
  const expectations = await checkExpectations(goal.topology, goal.wanted);
  const isBad =
    outcomes.some(({ error }) => error !== undefined) ||
    expectations.some(({ expected, seen }) => expected !== seen);
  if (flags.rollback && isBad) {
    for (const pending of held.reverse()) await takeBack(host, pending);
    return { outcomes, expectations, tookBack: held.length > 0 };
  }
  for (const pending of held) await pending.commit();
  // What is wanted no more could not have been taken back, so it goes when the rest is certain.
  if (flags.rollback)
    outcomes.push(
      ...(await convergeGoal(host, { ...goal, unwantable: [] }, { dryRun: false, firewall, onOutcome })),
    );
  return { outcomes, expectations, tookBack: false };
}

async function takeBack(host: Host, pending: Held): Promise<void> {
  const reason = new Error('taken back');
  using _lock = await acquireLock(host.state.lockPath);
  try {
    await pending.rollBack(reason);
  } catch (error) {
    if (error !== reason) throw error;
  }
}

function report(
  outcomes: readonly Outcome[],
  failed: readonly Outcome[],
  expectations: readonly Expectation[],
  tookBack: boolean,
): void {
  if (failed.length > 0)
    print(table([['FAILED', 'WHY'], ...failed.map(({ key, error }) => [key, whyOf(error)])]));
  else print(outcomes.length === 0 ? 'nothing to do' : `${outcomes.length} made`);
  if (expectations.length > 0) print(expectationTable(expectations));
  if (tookBack) print('taken back: everything is as it was before');
}

function whyOf(error: unknown): string {
  return error instanceof PipewrightError ? error.message : String(error);
}
