/** `pipewright check` */
import { Host } from '../apply/host.ts';
import { printable } from '../config/names.ts';
import { PipewrightError } from '../errors.ts';
import { type Checked, checkPairs, type EndPlace } from '../observe/check.ts';
import { checkExpectations, type Expectation } from '../observe/expect.ts';
import { hostLinkOf } from '../plan/network.ts';
import { aboutPeers, type End, otherEnds, ownEnds, pairsOf, peerNames } from '../plan/reachability.ts';
import { expectationTable } from './expectations.ts';
import { print, table } from './output.ts';
import { requirePrivileges } from './privileges.ts';
import { defaultStateDir, goalOf, loadTopology, pathsOrDefault } from './topology.ts';

/** Options of `pipewright check`. */
export interface CheckFlags {
  readonly stateDir?: string | undefined;
  readonly trustLabels: boolean;
  readonly host?: string | undefined;
  readonly peer?: readonly string[] | undefined;
  readonly json: boolean;
}

/** Tries who reaches whom from this host. @returns 0: as the files say; 1: something is not, or could not be tried */
export async function checkTopology(flags: CheckFlags, paths: readonly string[]): Promise<number> {
  const topology = loadTopology(pathsOrDefault(paths), flags.host);
  requirePrivileges();
  await using host = new Host();
  const { trustLabels, stateDir = defaultStateDir } = flags;
  const { wanted } = await goalOf(host, topology, stateDir, { dryRun: true, trustLabels });
  const own = ownEnds(
    topology,
    wanted.map((one) => one.wanted),
  );
  const others = otherEnds(topology);
  refuseUnknown(flags.peer ?? [], peerNames(topology, [...own, ...others]));
  const pairs = pairsOf(own, others, topology, flags.peer);
  const places = new Map<string, EndPlace>();
  for (const { wanted: one, container } of wanted)
    places.set(one.key, { container, ifname: one.attachment.ifname });
  const hostLinks = new Map(topology.networks.map((network) => [network.name, hostLinkOf(network)]));
  const placeOf = (end: End): EndPlace | undefined => {
    // What is of a container has its interface in the key.
    const isHost = end.key === end.name;
    const ifname = isHost ? hostLinks.get(end.network) : undefined;
    return places.get(end.key) ?? (ifname === undefined ? undefined : { container: undefined, ifname });
  };
  const checked = await checkPairs(pairs, host.netns, placeOf);
  const expectations = await checkExpectations(aboutPeers(topology, flags.peer), wanted);
  if (flags.json) print(JSON.stringify({ pairs: checked.map(pairJson), expectations }));
  else report(checked, expectations);
  const isAsSaid =
    checked.every(({ expected, seen }) => expected === seen) &&
    expectations.every(({ expected, seen }) => expected === seen);
  return isAsSaid && checked.length + expectations.length > 0 ? 0 : 1;
}

/** @throws PipewrightError BAD_ARGUMENT for a peer that the files do not know */
function refuseUnknown(peers: readonly string[], known: readonly string[]): void {
  const unknown = peers.find((peer) => !known.includes(peer));
  if (unknown === undefined) return;
  throw new PipewrightError('BAD_ARGUMENT', {
    op: 'check',
    subject: printable(unknown),
    detail: 'no container or host of the files has this name',
    hint: known.length > 0 ? `known: ${known.join(', ')}` : 'see: pipewright status',
  });
}

function pairJson({ from, to, expected, seen, detail }: Checked): object {
  return { from: labelOf(from), to: labelOf(to), network: to.network, expected, seen: seen ?? null, detail };
}

function labelOf({ key, host }: End): string {
  return host === undefined || host === key ? key : `${key} on ${host}`;
}

function report(checked: readonly Checked[], expectations: readonly Expectation[]): void {
  if (checked.length > 0) print(`expected/seen\n${table(matrixOf(checked))}`);
  const wrong = checked.filter(({ expected, seen }) => expected !== seen);
  if (wrong.length > 0)
    print(table(wrong.map(({ from, to, detail }) => [`! ${labelOf(from)}`, labelOf(to), detail])));
  if (expectations.length > 0) print(expectationTable(expectations));
  if (checked.length + expectations.length === 0)
    print('nothing to try: no container of the files runs here, or nobody is known whom it could reach');
}

const word = (reached: boolean | undefined): string => (reached === undefined ? '?' : reached ? 'yes' : 'no');

/** A row for each end of this host, a column for each end that it was tried with. */
function matrixOf(checked: readonly Checked[]): string[][] {
  const froms = [...new Set(checked.map(({ from }) => labelOf(from)))];
  const others = checked.map(({ to }) => labelOf(to));
  // A table whose columns are in the order of its rows is read at a glance.
  const tos = [...new Set([...froms.filter((from) => others.includes(from)), ...others])];
  const cells = new Map(checked.map((one) => [`${labelOf(one.from)} ${labelOf(one.to)}`, one]));
  const cell = (from: string, to: string): string => {
    const one = cells.get(`${from} ${to}`);
    if (!one) return '.';
    const text = `${word(one.expected)}/${word(one.seen)}`;
    return one.expected === one.seen ? text : `${text} !`;
  };
  return [['', ...tos], ...froms.map((from) => [from, ...tos.map((to) => cell(from, to))])];
}
