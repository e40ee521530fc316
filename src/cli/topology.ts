/** What `plan`, `apply`, `destroy` and `agent` share: which files, which containers, and how outcomes are shown. */
import { existsSync } from 'node:fs';
import { hostname } from 'node:os';
import { isatty } from 'node:tty';
import { styleText } from 'node:util';
import {
  type ConvergeOptions,
  converge,
  type Goal,
  inSight,
  keyOf,
  type Outcome,
  unwantedRecords,
} from '../apply/converge.ts';
import type { Host } from '../apply/host.ts';
import { sshPeer } from '../apply/uplink-check.ts';
import { foreignIn, kept, keysToStay, resolveWanted } from '../apply/wanted.ts';
import { parseTopology } from '../config/topology/load.ts';
import { Engines, enginesOfHost, isWholeHost, type Sighting } from '../containers/engines.ts';
import { PipewrightError } from '../errors.ts';
import type { AttachmentRecord } from '../model/observed.ts';
import type { Topology } from '../model/topology.ts';
import { lives } from '../observe/lives.ts';
import { readTopologyFiles } from '../observe/topology-files.ts';
import { FileStore } from '../store/file-store.ts';
import { errorLine, printError } from './output.ts';

/** For what outlives a reboot. */
export const defaultStateDir = '/var/lib/pipewright';
/** Where the agent looks for topology files. */
export const systemFolder = '/etc/pipewright';
const localFile = 'pipewright.yaml';

/** The files that are meant when none is named: pipewright.yaml here, else those of /etc/pipewright. */
export function pathsOrDefault(paths: readonly string[]): string[] {
  if (paths.length > 0) return [...paths];
  const [found] = usualPlaces();
  if (found !== undefined) return [found];
  throw new PipewrightError('BAD_ARGUMENT', {
    op: 'topology',
    subject: localFile,
    detail: `there is no such file here, and no folder ${systemFolder}`,
    hint: 'name the topology file',
  });
}

function usualPlaces(): string[] {
  return [localFile, systemFolder].filter((place) => existsSync(place));
}

/** Whether none is named, and there is none where they usually are. */
export function hasNoTopology(paths: readonly string[]): boolean {
  const [place] = usualPlaces();
  return paths.length === 0 && (place === undefined || readTopologyFiles([place]).length === 0);
}

/** The name that files about several hosts know this one by. */
export function nameOfHost(given: string | undefined): string {
  return given ?? hostname();
}

/** @throws PipewrightError BAD_TOPOLOGY with every problem and its place */
export function loadTopology(paths: readonly string[], host: string | undefined): Topology {
  const files = readTopologyFiles(paths);
  if (files.length > 0) return parseTopology(files, nameOfHost(host));
  // Nothing wanted would be a command to take everything away, which is `destroy`.
  throw new PipewrightError('BAD_ARGUMENT', {
    op: 'topology',
    subject: paths.join(' '),
    detail: 'there is no topology file',
  });
}

/** A topology on this host, with the containers that run now. */
export interface HostGoal extends Goal {
  readonly topology: Topology;
  /** What labels that were trusted asked for, where they are not now: whoever trusts them sees to it. */
  readonly ofLabels: readonly string[];
  /** Entries of the file that cannot be had. */
  readonly unwantable: readonly Outcome[];
}

/** What a topology wants of this host. */
export async function goalOf(
  host: Host,
  topology: Topology,
  stateDir: string,
  { dryRun, trustLabels }: { readonly dryRun: boolean; readonly trustLabels: boolean },
): Promise<HostGoal> {
  const records = host.state.records();
  const containers = new Engines(enginesOfHost());
  const isAsked = trustLabels || topology.attachments.length > 0;
  const { running, away } = isAsked ? await look(containers, topology, records) : nothing;
  const foreign = new Set<string>();
  const store = new FileStore(stateDir);
  if (!dryRun) store.sweep();
  const parts = { store, existing: () => containers.existing(), foreign };
  const labelled = trustLabels ? running : undefined;
  const isComplete = isWholeHost(away);
  const resolve = () => resolveWanted(topology, running, parts, { dryRun, labelled, isComplete });
  const resolved = await resolve();
  const { wanted, unwantable } = resolved;
  const unwanted = unwantedRecords(inSight(records, away), await keysThatStay(resolved, store));
  const isLabels = ({ byLabel, container }: AttachmentRecord): boolean =>
    !trustLabels && byLabel === true && lives(container);
  return {
    topology,
    networks: topology.networks,
    wanted,
    unwanted: unwanted.filter((record) => !isLabels(record)),
    ofLabels: unwanted.filter(isLabels).map(keyOf),
    instead: async ({ wanted: failed }, error) => {
      const claimed = foreignIn(failed, error);
      if (claimed === undefined) return undefined;
      foreign.add(claimed);
      const again = await resolve();
      const none = again.unwantable.find(({ key }) => key === failed.key);
      if (none) throw cannotBeHad(none);
      return again.wanted.find((entry) => entry.wanted.key === failed.key);
    },
    unwantable: unwantable.map((entry) => ({
      key: entry.key,
      verb: 'attach',
      steps: [],
      error: cannotBeHad(entry),
    })),
  };
}

/** What the file wants, and the commands that the agent keeps. */
async function keysThatStay(
  resolved: Parameters<typeof keysToStay>[0],
  store: FileStore,
): Promise<Set<string>> {
  const { commands } = await kept(store);
  return new Set([...keysToStay(resolved), ...commands]);
}

function cannotBeHad({ key, why }: { readonly key: string; readonly why: string }): PipewrightError {
  return new PipewrightError('BAD_TOPOLOGY', { op: 'attach', subject: key, detail: why });
}

const nothing: Sighting = { running: [], away: new Map() };

/** The containers that run. An engine that is away is told of, unless nothing says that it should be there. */
async function look(
  engines: Engines,
  topology: Topology,
  records: readonly AttachmentRecord[],
): Promise<Sighting> {
  const sighting = await engines.all();
  const all = [...sighting.away.values()];
  if (all.length === engines.list.length) throw (all.find(({ isAbsent }) => !isAbsent) ?? all[0])?.error;
  for (const [runtime, { title, error, isAbsent }] of sighting.away) {
    const isNamed =
      records.some(({ container }) => container.runtime === runtime) ||
      topology.attachments.some(({ selector }) => 'runtime' in selector && selector.runtime === runtime);
    if (!isAbsent || isNamed)
      printError(`warning: ${error.message}: what there is of containers of ${title} stays as it is`);
  }
  return sighting;
}

/** Plans or makes it. */
export async function convergeGoal(host: Host, goal: HostGoal, options: ConvergeOptions): Promise<Outcome[]> {
  for (const outcome of goal.unwantable) options.onOutcome?.(outcome);
  return [...goal.unwantable, ...(await converge(host, goal, { ssh: sshPeer(), ...options }))];
}

/** Says what is left alone. */
export function tellOfLabels({ ofLabels }: HostGoal): void {
  if (ofLabels.length === 0) return;
  const what = ofLabels.join(', ');
  printError(
    `note: ${what}: asked for by labels, left alone without --trust-labels; pipewright detach takes it away`,
  );
}

/** As Terraform's: made, changed in place, taken away and made anew, taken away. */
const signs = {
  create: ['+', 'green'],
  update: ['~', 'yellow'],
  replace: ['-/+', 'yellow'],
  delete: ['-', 'red'],
} as const;

const deletes: readonly Outcome['verb'][] = ['detach', 'drop network', 'drop uplink'];

/** An outcome and its steps, in colour on a terminal. */
export function outcomeText({ key, verb, change = 'create', steps, error, notes = [] }: Outcome): string {
  const [sign, color] = signs[deletes.includes(verb) ? 'delete' : change];
  const paint = (text: string, style: 'green' | 'red' | 'yellow'): string =>
    isatty(1) ? styleText(style, text) : text;
  if (error !== undefined) return paint(`! ${key}: ${reasonOf(error)}`, 'yellow');
  const lines = steps.map(({ command, because }) => `    ${command}   # ${because}`);
  return [paint(`${sign} ${key}`, color), ...lines, ...notes.map((note) => `    note: ${note}`)].join('\n');
}

/** An outcome as data. */
export function outcomeJson({ key, verb, change, steps, error, notes }: Outcome): object {
  return {
    key,
    verb,
    ...(change && { change }),
    steps,
    ...(notes && { notes }),
    ...(error === undefined ? {} : { error: reasonOf(error) }),
  };
}

/** A failure in one line. */
export function reasonOf(error: unknown): string {
  return error instanceof PipewrightError ? errorLine(error) : String(error);
}
