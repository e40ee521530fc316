/** `pipewright agent` */
import { existsSync } from 'node:fs';
import { runAgent } from '../agent/main.ts';
import { parseTopology } from '../config/topology/load.ts';
import { PipewrightError } from '../errors.ts';
import type { Topology } from '../model/topology.ts';
import { readTopologyFiles } from '../observe/topology-files.ts';
import { agentSocket } from './handover.ts';
import { requirePrivileges } from './privileges.ts';
import { defaultStateDir, nameOfHost, systemFolder } from './topology.ts';

/** Options of `pipewright agent`. */
export interface AgentFlags {
  readonly stateDir?: string | undefined;
  readonly host?: string | undefined;
  readonly noFirewall: boolean;
  readonly trustLabels: boolean;
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
    trustLabels: flags.trustLabels,
    version,
    loadTopology: () => load(watched, flags.host),
  });
  return 0;
}

/** Undefined when there is no file: what was made by earlier ones stays, for nobody said that it is to go. */
function load(paths: readonly string[], host: string | undefined): Topology | undefined {
  const present = paths.filter((path) => path !== systemFolder || existsSync(path));
  const files = present.length === 0 ? [] : readTopologyFiles(present);
  return files.length === 0 ? undefined : parseTopology(files, nameOfHost(host));
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
