/** What two entries say that cannot both be: each is named with the place of the other. */
import { formatCidr } from '../../model/address.ts';
import type { AttachmentSpec, NetworkSpec, Place } from '../../model/topology.ts';
import type { SaidAttachment } from './attachment.ts';
import { keyPlaceOf, placeOf } from './document.ts';
import { itemPlace, type SaidNetwork } from './network.ts';
import { matchesPattern } from './pattern.ts';
import { type Complaints, formatPlace } from './problem.ts';
import { overlap } from './ranges.ts';

/** Where a network's packets go: two networks of one segment meet. `vlan` tells apart those on one bridge or uplink. */
interface Segment {
  readonly plug: string;
  readonly vlan: number | undefined;
}

/** What a port with trunks carries without a tag, as its interface itself does, is in none of their VLANs. */
function segmentOf(network: NetworkSpec, own: Pick<AttachmentSpec, 'vid' | 'trunks'> = {}): Segment {
  const vlan = own.vid ?? ('vid' in network && own.trunks === undefined ? network.vid : undefined);
  if (network.kind === 'dummy') return { plug: `dummy ${network.name}`, vlan };
  if ('bridge' in network) return { plug: `bridge ${network.bridge}`, vlan };
  return { plug: `uplink ${network.uplink}`, vlan };
}

/** Different VLANs of one bridge or uplink are kept apart on purpose: what is in one may be in another again. */
function areApart(a: Segment, b: Segment): boolean {
  return a.plug === b.plug && a.vlan !== b.vlan;
}

const also = (place: Place): string => `see ${formatPlace(place)}`;

/** Networks that contradict each other. */
export function checkNetworks(networks: readonly SaidNetwork[], complaints: Complaints): void {
  for (const [at, network] of networks.entries()) {
    for (const earlier of networks.slice(0, at)) {
      const place = network.said.keyPlace ?? network.said.place;
      const why = whyNotBoth(earlier.spec, network.spec);
      if (why !== undefined) complaints.add(place, why, also(earlier.spec.place));
      checkOverlap(earlier, network, complaints);
    }
  }
}

function whyNotBoth(a: NetworkSpec, b: NetworkSpec): string | undefined {
  if ('bridge' in a && 'bridge' in b && a.bridge === b.bridge) {
    if (a.kind !== b.kind) return `${a.bridge} cannot be both of kind ${a.kind} and ${b.kind}`;
    const apart = areApart(segmentOf(a), segmentOf(b));
    if (!apart && a.mtu !== undefined && b.mtu !== undefined && a.mtu !== b.mtu) {
      return `${a.bridge} cannot have both an MTU of ${a.mtu} and of ${b.mtu}`;
    }
  }
  if (!('uplink' in a) || !('uplink' in b) || a.uplink !== b.uplink) return undefined;
  const moved = [a, b].find(({ kind, ...rest }) => kind === 'phys' && !('vid' in rest));
  if (moved !== undefined)
    return `${a.uplink} goes into a container with ${moved.name}: nothing else can use it`;
  if (a.vid !== b.vid) return undefined;
  const link = a.vid === undefined ? a.uplink : `VLAN ${a.vid} of ${a.uplink}`;
  if (a.kind !== b.kind) return `${link} cannot be both of kind ${a.kind} and ${b.kind}`;
  if (a.kind === 'phys') return `${link} cannot be two networks`;
  const modes = [('mode' in a && a.mode) || '', ('mode' in b && b.mode) || ''];
  if (modes.includes('passthru')) return `${link} in mode passthru has one child and no other`;
  if (a.kind === 'ipvlan' && modes[0] !== modes[1])
    return `${link} cannot be in both modes ${modes.join(' and ')}`;
  return undefined;
}

function checkOverlap(earlier: SaidNetwork, network: SaidNetwork, complaints: Complaints): void {
  if (areApart(segmentOf(earlier.spec), segmentOf(network.spec))) return;
  for (const [at, subnet] of network.spec.subnets.entries()) {
    const other = earlier.spec.subnets.findIndex((candidate) => overlap(candidate, subnet));
    const first = earlier.spec.subnets[other];
    if (first === undefined) continue;
    complaints.add(
      itemPlace(network.said, 'subnet', at),
      `subnet: ${formatCidr(subnet)} overlaps ${formatCidr(first)} of the network ${earlier.spec.name}`,
      also(itemPlace(earlier.said, 'subnet', other)),
    );
  }
}

/** Attachments that contradict each other, or a network. */
export function checkAttachments(
  networks: readonly SaidNetwork[],
  attachments: readonly SaidAttachment[],
  complaints: Complaints,
): void {
  checkUses(networks, attachments, complaints);
  checkInterfaces(attachments, complaints);
  checkGateways(attachments, complaints);
  checkSingles(attachments, complaints);
}

interface Use {
  /** An address or a MAC address. */
  readonly what: string;
  readonly segment: Segment;
  readonly place: Place;
  readonly owner: object;
}

/** The same address or MAC address twice. */
function checkUses(
  networks: readonly SaidNetwork[],
  attachments: readonly SaidAttachment[],
  complaints: Complaints,
): void {
  const hosts = networks.flatMap(({ spec, said }) =>
    spec.hostAddresses.map(
      ({ ip }, at): Use => ({
        what: ip,
        segment: segmentOf(spec),
        place: itemPlace(said, 'hostAddress', at),
        owner: spec,
      }),
    ),
  );
  const guests = attachments.flatMap(({ spec, said, network }): Use[] => {
    if (network === undefined || spec.selector.by !== 'name') return [];
    const segment = segmentOf(network, spec);
    const addresses = typeof spec.addresses === 'string' ? [] : spec.addresses;
    const macs = spec.mac === undefined ? [] : [{ what: spec.mac, place: placeOf(said, 'mac') }];
    return [
      ...addresses.map(({ ip }, at) => ({ what: ip, place: itemPlace(said, 'addresses', at) })),
      ...macs,
    ].map((use) => ({ ...use, segment, owner: spec }));
  });
  const seen = new Map<string, Use[]>();
  for (const use of [...hosts, ...guests]) {
    const before = seen.get(use.what) ?? [];
    const other = before.find((earlier) => earlier.owner !== use.owner && canMeet(earlier, use));
    if (other !== undefined) {
      complaints.add(use.place, `${use.what} is given to another as well`, also(other.place));
    }
    seen.set(use.what, [...before, use]);
  }
}

function canMeet(a: Use, b: Use): boolean {
  // Link-local and MAC addresses are of one segment only; a dummy leads nowhere.
  const local = a.what.startsWith('fe80:') || /^..(:..){5}$/.test(a.what) || /^dummy /.test(a.segment.plug);
  return local || /^dummy /.test(b.segment.plug)
    ? a.segment.plug === b.segment.plug &&
        a.segment.vlan === b.segment.vlan &&
        !/^dummy /.test(a.segment.plug)
    : !areApart(a.segment, b.segment);
}

/** One interface of one container, said twice. */
function checkInterfaces(attachments: readonly SaidAttachment[], complaints: Complaints): void {
  const named = new Map<string, SaidAttachment[]>();
  for (const entry of attachments) {
    const { selector, ifname } = entry.spec;
    if (selector.by !== 'name') continue;
    const key = `${selector.name}/${ifname}`;
    const [first] = named.get(key) ?? [];
    if (first !== undefined) {
      const message = `${selector.name} has an ${ifname} already`;
      const hint = `say another ifname, or see ${formatPlace(first.spec.place)}`;
      complaints.add(interfacePlace(entry), message, hint);
    }
    named.set(key, [...(named.get(key) ?? []), entry]);
  }
  for (const entry of attachments) {
    const { selector, ifname } = entry.spec;
    if (selector.by !== 'pattern') continue;
    for (const [first] of named.values()) {
      if (first?.spec.selector.by !== 'name' || first.spec.ifname !== ifname) continue;
      const { name } = first.spec.selector;
      if (!matchesPattern(selector.pattern, name)) continue;
      const message = `${selector.pattern} takes in ${name}, which has an ${ifname} already`;
      complaints.add(interfacePlace(entry), message, also(first.spec.place));
    }
  }
}

function interfacePlace({ said }: SaidAttachment): Place {
  return said.parts.has('ifname') ? placeOf(said, 'ifname') : placeOf(said, 'container');
}

/**
 * Two interfaces that each want to be the default route of one container. Gateways that come with networks give way: a
 * container on two networks has one.
 */
function checkGateways(attachments: readonly SaidAttachment[], complaints: Complaints): void {
  const seen = new Map<string, SaidAttachment>();
  for (const entry of attachments) {
    const { selector, gateways, ifname } = entry.spec;
    if (selector.by !== 'name') continue;
    for (const family of new Set(gateways.map((gateway) => gateway.family))) {
      const key = `${selector.name} ${family}`;
      const first = seen.get(key);
      if (first === undefined) seen.set(key, entry);
      else if (first.spec.ifname !== ifname) {
        const message = `${selector.name} has an IPv${family} gateway by ${first.spec.ifname} already`;
        complaints.add(keyPlaceOf(entry.said, 'gateway'), message, also(first.spec.place));
      }
    }
  }
}

/** Networks that only one container can be on. */
function checkSingles(attachments: readonly SaidAttachment[], complaints: Complaints): void {
  const seen = new Map<string, SaidAttachment>();
  for (const entry of attachments) {
    const { network, spec } = entry;
    if (network?.kind !== 'phys' && !(network?.kind === 'macvlan' && network.mode === 'passthru')) continue;
    const { plug, vlan } = segmentOf(network, spec);
    const key = `${plug} ${vlan}`;
    const first = seen.get(key);
    if (first === undefined) seen.set(key, entry);
    else
      complaints.add(
        placeOf(entry.said, 'network'),
        `${network.name} can be in one container only`,
        also(first.spec.place),
      );
  }
}
