/** Commits a change as one transaction, waits for ovs-vswitchd where asked, and takes it back when that fails. */
import { PipewrightError } from '../errors.ts';
import { startHint } from './jsonrpc.ts';
import type { About, Operation, OpResult, Ovsdb } from './ovsdb.ts';
import { readInteger, readString } from './values.ts';

/** Whether to return before or after ovs-vswitchd has acted. */
export interface Wait {
  /** Milliseconds to wait for ovs-vswitchd; undefined: do not wait, as `ovs-vsctl --no-wait`. */
  readonly waitMs: number | undefined;
}

/** What a caller waits who has no reason for another time: 5 s. */
export const defaultWait: Wait = { waitMs: 5000 };

/** An operation of a transaction, and what it means to a user when the database refuses it. */
export interface Step {
  readonly operation: Operation;
  readonly explain?: (db: Ovsdb) => Promise<PipewrightError>;
}

/** A change of the configuration, to be committed as one transaction. */
export interface Change {
  readonly about: About;
  readonly steps: readonly Step[];
  /** Interfaces that ovs-vswitchd must have opened for the change to count as done. Looked at only after a wait. */
  readonly interfaces?: readonly string[];
  /** Takes the committed change back, given the results of its steps. */
  readonly undo?: (db: Ovsdb, results: readonly OpResult[]) => Promise<void>;
}

/**
 * Commits `change`; the results are those of its steps. Throws what a refused step says about itself, else
 * OVS_REFUSED with OVS's text; OVS_TIMEOUT when ovs-vswitchd has not acted after `waitMs`; OVS_REFUSED when it
 * could not open one of the interfaces. After these two the change is taken back.
 */
export async function commit(db: Ovsdb, change: Change, { waitMs }: Wait): Promise<OpResult[]> {
  const { steps, about } = change;
  const operations = steps.map(({ operation }) => operation);
  if (waitMs !== undefined) {
    // Before the transaction, or the news of it could be missed. Its failure comes out of reachedCfg.
    void db.watchCurCfg().catch(() => {});
    operations.push(bumpNextCfg, selectNextCfg);
  }
  const { results, failure } = await db.tryTransact(operations, about);
  if (failure !== undefined) {
    const explained = await steps[failure.index]?.explain?.(db);
    throw explained ?? new PipewrightError('OVS_REFUSED', { ...about, detail: failure.detail });
  }
  if (waitMs !== undefined) {
    try {
      await acted(db, change, results, waitMs);
    } catch (error) {
      await takeBack(db, change, results, error);
      throw error;
    }
  }
  return results.slice(0, steps.length);
}

const bumpNextCfg: Operation = {
  op: 'mutate',
  table: 'Open_vSwitch',
  where: [],
  mutations: [['next_cfg', '+=', 1]],
};
const selectNextCfg: Operation = { op: 'select', table: 'Open_vSwitch', where: [], columns: ['next_cfg'] };

/** As `ovs-vsctl` waits: until cur_cfg reaches the next_cfg of our own transaction; then what became of it. */
async function acted(db: Ovsdb, change: Change, results: OpResult[], waitMs: number): Promise<void> {
  const { about, interfaces = [] } = change;
  const cfg = readInteger(results.at(-1)?.rows?.[0]?.next_cfg) ?? 0;
  if (!(await db.reachedCfg(cfg, waitMs))) {
    throw new PipewrightError('OVS_TIMEOUT', {
      ...about,
      detail: `ovs-vswitchd did not act on it within ${waitMs} ms`,
      hint: `see whether ovs-vswitchd runs (\`ovs-appctl version\`) and its log; ${startHint}`,
    });
  }
  if (interfaces.length === 0) return;
  const selects = interfaces.map<Operation>((name) => ({
    op: 'select',
    table: 'Interface',
    where: [['name', '==', name]],
    columns: ['name', 'ofport', 'error'],
  }));
  const opened = await db.transact(selects, about);
  for (const [i, name] of interfaces.entries()) {
    const row = opened[i]?.rows?.[0];
    const error = readString(row?.error);
    const ofport = readInteger(row?.ofport);
    if (error === undefined && ofport !== undefined && ofport >= 0) continue;
    throw new PipewrightError('OVS_REFUSED', {
      ...about,
      detail: error ?? `ovs-vswitchd did not set up ${name}`,
      hint: "see ovs-vswitchd's log (/var/log/openvswitch/ovs-vswitchd.log)",
    });
  }
}

async function takeBack(
  db: Ovsdb,
  change: Change,
  results: readonly OpResult[],
  cause: unknown,
): Promise<void> {
  try {
    await change.undo?.(db, results);
  } catch (error) {
    throw new PipewrightError('UNDO_INCOMPLETE', {
      ...change.about,
      detail: `${textOf(cause)}; taking it back failed too: ${textOf(error)}`,
      hint: cause instanceof PipewrightError ? cause.hint : undefined,
      cause,
    });
  }
}

function textOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
