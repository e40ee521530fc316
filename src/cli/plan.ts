/** `pipewright plan` */
import { Host } from '../apply/host.ts';
import { print } from './output.ts';
import { requirePrivileges } from './privileges.ts';
import {
  convergeGoal,
  defaultStateDir,
  goalOf,
  loadTopology,
  outcomeJson,
  outcomeText,
  pathsOrDefault,
  tellOfLabels,
} from './topology.ts';

/** Options of `pipewright plan`. */
export interface PlanFlags {
  readonly stateDir?: string | undefined;
  readonly host?: string | undefined;
  readonly noFirewall: boolean;
  readonly trustLabels: boolean;
  readonly json: boolean;
}

/** Shows what `apply` would do. @returns 0: nothing; 2: something; 1: something cannot be had */
export async function planTopology(flags: PlanFlags, paths: readonly string[]): Promise<number> {
  const topology = loadTopology(pathsOrDefault(paths), flags.host);
  requirePrivileges();
  await using host = new Host();
  const options = { dryRun: true, firewall: !flags.noFirewall, trustLabels: flags.trustLabels };
  const goal = await goalOf(host, topology, flags.stateDir ?? defaultStateDir, options);
  const outcomes = await convergeGoal(host, goal, options);
  tellOfLabels(goal);
  if (flags.json) print(JSON.stringify({ changes: outcomes.map(outcomeJson) }));
  else print(outcomes.length === 0 ? 'nothing to do' : outcomes.map(outcomeText).join('\n'));
  if (outcomes.some(({ error }) => error !== undefined)) return 1;
  return outcomes.length === 0 ? 0 : 2;
}
