/** `pipewright agent` */
import { existsSync } from 'node:fs';
import { runAgent } from '../agent/main.ts';
import { PipewrightError } from '../errors.ts';
import type { Topology } from '../model/topology.ts';
import { agentSocket } from './handover.ts';
import { requirePrivileges } from './privileges.ts';
import { defaultStateDir, loadTopology, systemFolder } from './topology.ts';

/** Options of `pipewright agent`. */
export interface AgentFlags {
  readonly stateDir?: string | undefined;
  readonly noFirewall: boolean;
  readonly logFormat?: string | undefined;
  readonly logLevel?: string | undefined;
}

const logFormats = ['text', 'json'] as const;
const logLevels = ['debug', 'info', 'warn', 'error'] as const;

/** Runs until it is stopped. @throws PipewrightError when it cannot start */
export async function startAgent(
  flags: AgentFlags,
  paths: readonly string[],
  version: string,
): Promise<number> {
  const logFormat = oneOf('--log-format', logFormats, flags.logFormat ?? 'text');
  const logLevel = oneOf('--log-level', logLevels, flags.logLevel ?? 'info');
  requirePrivileges();
  const watched = paths.length > 0 ? paths : [systemFolder];
  await runAgent({
    paths: watched,
    stateDir: flags.stateDir ?? defaultStateDir,
    socketPath: agentSocket,
    logFormat,
    logLevel,
    firewall: !flags.noFirewall,
    version,
    loadTopology: () => load(watched),
  });
  return 0;
}

/** No folder is no topology: there may be kept commands all the same. */
function load(paths: readonly string[]): Topology {
  const present = paths.filter((path) => path !== systemFolder || existsSync(path));
  return present.length === 0 ? { networks: [], attachments: [], expects: [] } : loadTopology(present);
}

function oneOf<T extends string>(option: string, known: readonly T[], text: string): T {
  const found = known.find((word) => word === text);
  if (found !== undefined) return found;
  throw new PipewrightError('BAD_ARGUMENT', {
    op: option,
    subject: JSON.stringify(text),
    detail: `it is one of ${known.join(', ')}`,
  });
}
