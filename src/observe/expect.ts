/** Tries what a topology says must, and must not, be reachable, from inside of the containers' namespaces. */
import type { WantedHere } from '../apply/wanted.ts';
import type { Container } from '../containers/container.ts';
import { openContainerNetns } from '../containers/resolve.ts';
import type { Netns } from '../kernel/netns.ts';
import { type Cidr, familyOf } from '../model/address.ts';
import type { Network } from '../model/attachment.ts';
import type { ExpectSpec, Topology } from '../model/topology.ts';
import { formatNetwork } from './list.ts';
import { type ProbeJob, probeMatrix } from './reach.ts';

/** One expectation, and what was seen. */
export interface Expectation {
  readonly from: string;
  readonly to: string;
  /** `ping`, `tcp/5432`. */
  readonly probe: string;
  readonly expected: boolean;
  readonly seen: boolean;
  /** The address that answered, or why none did. */
  readonly detail: string;
}

/** Milliseconds for one probe. IPv6 looks for doubles of a new address for up to 2 s before it is used. */
const probeTimeoutMs = 3000;

/** Tries all expectations at the same time. Of a container on another host the files say where it is, or nothing does. */
export async function checkExpectations(
  topology: Topology,
  wanted: readonly WantedHere[],
): Promise<Expectation[]> {
  const { expects } = topology;
  const open = new Map<string, Netns>();
  try {
    for (const { container } of wanted) {
      if (!open.has(container.id)) open.set(container.id, openContainerNetns(container));
    }
    const trials = expects.map((spec) => {
      const [from, to] = [containerOf(spec.from, wanted), containerOf(spec.to, wanted)];
      return { spec, jobs: jobsOf(spec, { from, to }, wanted, from && open.get(from.id), topology) };
    });
    const results = await probeMatrix(
      trials.flatMap(({ jobs }) => jobs),
      probeTimeoutMs,
    );
    let at = 0;
    return trials.map(({ spec, jobs }) => {
      const answers = jobs.map((job, i) => ({ ip: job.target.ip, ...results[at + i] }));
      at += jobs.length;
      const good = answers.find(({ reachable }) => reachable);
      const { from, to, reachable: expected, probe } = spec;
      const none =
        jobs.length === 0 ? 'one of the two does not run, or has no address' : (answers[0]?.detail ?? '');
      const detail = good ? `${good.ip}: ${good.detail ?? ''}` : none;
      return { from, to, probe: textOf(probe), expected, seen: good !== undefined, detail };
    });
  } finally {
    for (const netns of open.values()) netns[Symbol.dispose]();
  }
}

/** The container that a name is of: `web` of any engine, the first one first; `podman:web`. */
function containerOf(end: string, wanted: readonly WantedHere[]): Container | undefined {
  const named = (['docker', 'podman'] as const).flatMap((runtime) =>
    wanted.filter(
      ({ container: { name, runtime: of } }) =>
        of === runtime && (name === end || `${runtime}:${name}` === end),
    ),
  );
  return named[0]?.container;
}

/** The addresses of the other on networks that both are on; where there is no such network, all of them. */
function jobsOf(
  { to, probe }: ExpectSpec,
  ends: { readonly from: Container | undefined; readonly to: Container | undefined },
  wanted: readonly WantedHere[],
  netns: Netns | undefined,
  topology: Topology,
): ProbeJob[] {
  if (!netns) return [];
  const of = (end: Container | undefined) =>
    wanted.filter(({ container }) => container.id === end?.id).map((one) => one.wanted.attachment);
  const mine = new Set(of(ends.from).map(({ network }) => segmentOf(network)));
  const theirs = of(ends.to);
  if (familyOf(to) !== undefined) return [{ from: netns, target: { ip: to, ...probe } }];
  if (theirs.length === 0)
    return elsewhere(topology, to).map(({ ip }) => ({ from: netns, target: { ip, ...probe } }));
  const common = theirs.filter(({ network }) => mine.has(segmentOf(network)));
  return (common.length > 0 ? common : theirs)
    .flatMap(({ addrs }) => addrs)
    .flatMap(({ cidr }) => (cidr ? [{ from: netns, target: { ip: cidr.ip, ...probe } }] : []));
}

/** The addresses that the files give to a container on another host. */
function elsewhere({ elsewhere: others = [] }: Topology, name: string): readonly Cidr[] {
  return others
    .flatMap(({ attachments }) => attachments)
    .filter(({ selector }) => selector.by === 'name' && selector.name === name)
    .flatMap(({ addresses }) => (typeof addresses === 'string' ? [] : addresses));
}

/** The bridge or NIC, whatever the VLAN. */
function segmentOf(network: Network): string {
  return formatNetwork(network).replace(/@\d+$/, '');
}

function textOf(probe: ExpectSpec['probe']): string {
  return probe.protocol === 'tcp' ? `tcp/${probe.port}` : probe.protocol;
}
