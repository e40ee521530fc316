/** `pipewright status` */
import { existsSync } from 'node:fs';
import type { AttachmentStatus } from '../agent/status.ts';
import { noMoreAsMade } from '../apply/check.ts';
import { keyOf, type Outcome } from '../apply/converge.ts';
import { Host } from '../apply/host.ts';
import { UnixHttp } from '../containers/http.ts';
import { qualifiedName } from '../model/attachment.ts';
import type { LeaseStatus } from '../model/lease.ts';
import { rememberedLeases } from '../observe/leases.ts';
import { listAttachments } from '../observe/list.ts';
import { lives } from '../observe/lives.ts';
import { HostView } from '../observe/view.ts';
import { agentSocket } from './handover.ts';
import { leaseText } from './lease-text.ts';
import { print, table } from './output.ts';
import { requirePrivileges } from './privileges.ts';
import {
  convergeGoal,
  defaultStateDir,
  goalOf,
  hasNoTopology,
  loadTopology,
  pathsOrDefault,
  reasonOf,
} from './topology.ts';

/** Options of `pipewright status`. */
export interface StatusFlags {
  readonly stateDir?: string | undefined;
  readonly host?: string | undefined;
  readonly trustLabels: boolean;
  readonly json: boolean;
}

/** A line of the answer: what is wanted, and how it is doing. */
interface StatusLine {
  readonly key: string;
  readonly state: AttachmentStatus['state'] | 'differs' | 'not wanted';
  /** RFC 3339; null when nobody watched. */
  readonly since: string | null;
  /** Null when no agent counts. */
  readonly repairs: number | null;
  readonly addrs: readonly string[];
  readonly detail: string;
  readonly leases?: readonly LeaseStatus[];
}

/** Shows each attachment: wanted, seen, healthy or what differs. @returns 0: all is well; 1: something is not */
export async function showStatus(flags: StatusFlags, paths: readonly string[]): Promise<number> {
  requirePrivileges();
  await using host = new Host();
  const seen = new Map(
    listAttachments(host).map(({ container, runtime, ifname, addrs }) => [
      `${qualifiedName({ runtime, name: container })}/${ifname}`,
      addrs,
    ]),
  );
  const agent = await askAgent(host.netns.inode);
  const lines = agent ? linesOfAgent(agent, seen) : await linesOfFiles(host, flags, paths, seen);
  const problems = agent?.problems ?? [];
  if (flags.json) print(JSON.stringify({ agent: agent !== undefined, attachments: lines, problems }));
  else {
    if (!agent) print('no agent runs: this is how it is now, and nobody keeps it so');
    print(
      lines.length === 0 ? 'nothing is wanted, and nothing connected' : table([header, ...lines.map(row)]),
    );
    for (const problem of problems) print(`problem: ${problem}`);
  }
  const isWell = lines.every(({ state }) => state === 'healthy' || state === 'waiting');
  return isWell && problems.length === 0 ? 0 : 1;
}

const header = ['ATTACHMENT', 'STATE', 'SINCE', 'REPAIRS', 'ADDRESSES', ''];

function row({ key, state, since, repairs, addrs, detail, leases = [] }: StatusLine): string[] {
  const said = leases.map((lease) => leaseText(lease, Date.now()));
  const why = state === 'failing' && leases.length > 0 ? said : [detail, ...said];
  const text = why.filter((part) => part !== '').join('; ');
  return [key, state, since ?? '-', repairs === null ? '-' : String(repairs), addrs.join(',') || '-', text];
}

interface AgentAnswer {
  readonly netnsInode: number;
  readonly attachments: readonly AttachmentStatus[];
  readonly problems: readonly string[];
}

/** What the agent says; undefined when none runs. */
export async function askAgent(netnsInode: number): Promise<AgentAnswer | undefined> {
  if (!existsSync(agentSocket)) return undefined;
  try {
    const { status, body } = await new UnixHttp(agentSocket, {}).get('/v1/status');
    const answer = status === 200 ? (JSON.parse(body) as AgentAnswer) : undefined;
    // Of several hosts that share one /run it may be another one's.
    return answer?.netnsInode === netnsInode ? answer : undefined;
  } catch {
    return undefined;
  }
}

function linesOfAgent(
  { attachments }: AgentAnswer,
  seen: ReadonlyMap<string, readonly string[]>,
): StatusLine[] {
  return attachments.map(({ key, state, since, repairs, detail, leases }) => ({
    key,
    state,
    since: new Date(since).toISOString(),
    repairs,
    addrs: seen.get(key) ?? [],
    detail: detail ?? '',
    ...(leases && { leases }),
  }));
}

/** Without an agent: what `apply` would change is what differs. */
async function linesOfFiles(
  host: Host,
  flags: StatusFlags,
  paths: readonly string[],
  seen: ReadonlyMap<string, readonly string[]>,
): Promise<StatusLine[]> {
  const { stateDir = defaultStateDir } = flags;
  const leases = await rememberedLeases(host, stateDir);
  const line = (key: string, state: StatusLine['state'], detail: string): StatusLine => {
    const own = leases.get(key);
    return {
      key,
      state,
      since: null,
      repairs: null,
      addrs: seen.get(key) ?? [],
      detail,
      ...(own && { leases: own }),
    };
  };
  const lines = (await wantedOfFiles(host, flags, paths, stateDir)).map(([key, state, detail]) =>
    line(key, state, detail),
  );
  const keys = new Set(lines.map(({ key }) => key));
  const made = await madeByCommands(host, keys);
  const leased = [...leases].filter(([key]) => !keys.has(key) && !made.some((one) => one.key === key));
  return [
    ...lines,
    ...made.map(({ key, state, detail }) => {
      const own = leases.get(key);
      return line(key, own && state === 'healthy' ? stateOf(own) : state, detail);
    }),
    ...leased.map(([key, own]) => line(key, stateOf(own), '')),
  ];
}

/** What commands have made that no file asks for. */
async function madeByCommands(
  host: Host,
  keys: ReadonlySet<string>,
): Promise<Pick<StatusLine, 'key' | 'state' | 'detail'>[]> {
  const view = new HostView(host, 'once');
  const records = host.state.records().filter((record) => !keys.has(keyOf(record)));
  const lines: Pick<StatusLine, 'key' | 'state' | 'detail'>[] = [];
  for (const record of records.sort((a, b) => (keyOf(a) < keyOf(b) ? -1 : 1))) {
    const key = keyOf(record);
    const isGone = !lives(record.container);
    try {
      const why = isGone
        ? ['its container has ended: what it had is lost']
        : await noMoreAsMade(view, record);
      lines.push({ key, state: why.length === 0 ? 'healthy' : 'differs', detail: why.join('; ') });
    } catch (error) {
      lines.push({ key, state: 'failing', detail: reasonOf(error) });
    }
  }
  return lines;
}

/** Of an attachment that no file asks for, by its leases. */
function stateOf(leases: readonly LeaseStatus[]): StatusLine['state'] {
  if (leases.some(({ state }) => state === 'REMEMBERED')) return 'waiting';
  return leases.every(({ lease }) => lease) ? 'healthy' : 'differs';
}

/** What the files want, and what `apply` would change. */
async function wantedOfFiles(
  host: Host,
  { host: name, trustLabels }: StatusFlags,
  paths: readonly string[],
  stateDir: string,
): Promise<(readonly [key: string, state: StatusLine['state'], detail: string])[]> {
  // Whoever only uses commands has none.
  if (hasNoTopology(paths)) return [];
  const topology = loadTopology(pathsOrDefault(paths), name);
  const dryRun = { dryRun: true, firewall: true };
  const goal = await goalOf(host, topology, stateDir, { ...dryRun, trustLabels });
  const changes = new Map((await convergeGoal(host, goal, dryRun)).map((outcome) => [outcome.key, outcome]));
  const keys = new Set([
    ...topology.networks.map(({ name }) => `network ${name}`),
    ...goal.wanted.map(({ wanted }) => wanted.key),
  ]);
  const wanted = [...keys].map((key) => {
    const change = changes.get(key);
    return change
      ? ([key, change.error === undefined ? 'differs' : 'failing', textOf(change)] as const)
      : ([key, 'healthy', ''] as const);
  });
  const others = [...changes.values()].filter(({ key }) => !keys.has(key));
  return [
    ...wanted,
    ...others.map(
      (change) =>
        [change.key, change.error === undefined ? 'not wanted' : 'failing', textOf(change)] as const,
    ),
  ];
}

function textOf({ change, steps, error }: Outcome): string {
  if (error !== undefined) return reasonOf(error);
  return change === 'create' ? 'it is not there' : steps.map(({ because }) => because).join('; ');
}
