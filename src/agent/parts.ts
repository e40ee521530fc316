/** What an agent is made of. */
import type { Host } from '../apply/host.ts';
import type { Engines } from '../containers/engines.ts';
import type { Topology } from '../model/topology.ts';
import type { Store } from '../store/store.ts';

/** Where the agent writes what happens; one line each. */
export interface AgentLog {
  info(fields: object, message: string): void;
  warn(fields: object, message: string): void;
}

/** What an agent is given. */
export interface AgentParts {
  readonly host: Host;
  readonly store: Store;
  readonly containers: Engines;
  readonly log: AgentLog;
  /** Reads the files anew; undefined when there are none. @throws PipewrightError BAD_TOPOLOGY; then the former topology stays in force */
  readonly loadTopology: () => Topology | undefined;
  readonly firewall: boolean;
  /** Called after each round. */
  readonly onRound?: () => void;
  /** Whether labels of containers are entries as well. */
  readonly trustLabels?: boolean;
}

/** What went wrong, for people. */
export function textOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

/** What was done, for people: the commands. */
export function summary(steps: readonly { readonly command: string }[]): string {
  return steps.map(({ command }) => command).join('; ');
}
