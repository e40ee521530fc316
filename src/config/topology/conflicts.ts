/** What two entries say that cannot both be: each is named with the place of the other. */
import { formatCidr } from '../../model/address.ts';
import type { NetworkSpec, Place } from '../../model/topology.ts';
import type { SaidAttachment } from './attachment.ts';
import { placeOf } from './document.ts';
import { itemPlace, type SaidNetwork } from './network.ts';
import { also, areApart, nameIn, Occupied, segmentOf } from './occupied.ts';
import { matchesPattern } from './pattern.ts';
import { type Complaints, formatPlace, type Problem } from './problem.ts';
import { overlap } from './ranges.ts';

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
  const why = whyNotBothPorts(a, b);
  if (why !== undefined) return why;
  if (!('uplink' in a) || !('uplink' in b) || a.uplink !== b.uplink) return undefined;
  const moved = [a, b].find(({ kind, ...rest }) => kind === 'phys' && !('vid' in rest));
  if (moved !== undefined)
    return `${a.uplink} goes into a container with ${moved.name}: nothing else can use it`;
  // A virtual function is as a NIC of its own.
  if (a.kind === 'sriov' || b.kind === 'sriov' || a.vid !== b.vid) return undefined;
  const link = a.vid === undefined ? a.uplink : `VLAN ${a.vid} of ${a.uplink}`;
  if (a.kind !== b.kind) return `${link} cannot be both of kind ${a.kind} and ${b.kind}`;
  if (a.kind === 'phys') return `${link} cannot be two networks`;
  const modes = [('mode' in a && a.mode) || '', ('mode' in b && b.mode) || ''];
  if (modes.includes('passthru')) return `${link} in mode passthru has one child and no other`;
  if (a.kind === 'ipvlan' && modes[0] !== modes[1])
    return `${link} cannot be in both modes ${modes.join(' and ')}`;
  const flags = [('flag' in a && a.flag) || '', ('flag' in b && b.flag) || ''];
  if (!flags.includes('') && flags[0] !== flags[1])
    return `${link} cannot have both flags ${flags.join(' and ')}`;
  return undefined;
}

/** A NIC is a port of one bridge, and then of use for nothing else; a bridge has one uplink. */
function whyNotBothPorts(a: NetworkSpec, b: NetworkSpec): string | undefined {
  for (const [one, other] of [
    [a, b],
    [b, a],
  ] as const) {
    if (!('bridge' in one) || one.nic === undefined) continue;
    if ('uplink' in other && other.uplink === one.nic)
      return `${one.nic} is a port of ${one.bridge} with ${one.name}: nothing else can use it`;
    if (!('bridge' in other)) continue;
    if (other.bridge !== one.bridge && other.nic === one.nic)
      return `${one.nic} cannot be a port of both ${one.bridge} and ${other.bridge}`;
    if (other.bridge === one.bridge && other.nic !== undefined && other.nic !== one.nic)
      return `${one.bridge} cannot have both ${one.nic} and ${other.nic} as its uplink`;
  }
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
  const occupied = new Occupied();
  const tell = (problems: readonly Problem[]): void => {
    for (const { place, message, hint } of problems) complaints.add(place, message, hint);
  };
  for (const network of networks) tell(occupied.addNetwork(network));
  for (const entry of attachments) {
    tell(occupied.conflictsOf(entry));
    occupied.add(entry);
  }
  checkInterfaces(attachments, complaints);
}

/** One interface of one container, said twice. */
function checkInterfaces(attachments: readonly SaidAttachment[], complaints: Complaints): void {
  const named = new Map<string, SaidAttachment[]>();
  for (const entry of attachments) {
    const { selector, ifname } = entry.spec;
    if (selector.by !== 'name') continue;
    const key = `${nameIn(selector)}/${ifname}`;
    const [first] = named.get(key) ?? [];
    if (first !== undefined) {
      const message = `${selector.name} has an ${ifname} already`;
      const hint = `say another ifname, or see ${formatPlace(first.spec.place)}`;
      complaints.add(interfacePlace(entry), message, hint);
    }
    named.set(key, [...(named.get(key) ?? []), entry]);
  }
  checkGuestVlans(attachments, named, complaints);
  checkSelections(attachments, complaints);
  for (const entry of attachments) {
    const { selector, ifname } = entry.spec;
    if (selector.by !== 'pattern') continue;
    for (const [first] of named.values()) {
      if (first?.spec.selector.by !== 'name' || first.spec.ifname !== ifname) continue;
      const { name, runtime = 'docker' } = first.spec.selector;
      if ((selector.runtime ?? runtime) !== runtime) continue;
      if (!matchesPattern(selector.pattern, name)) continue;
      const message = `${selector.pattern} takes in ${name}, which has an ${ifname} already`;
      complaints.add(interfacePlace(entry), message, also(first.spec.place));
    }
  }
}

/** The interface that a VLAN is in the container has a name as well. */
function checkGuestVlans(
  attachments: readonly SaidAttachment[],
  named: ReadonlyMap<string, readonly SaidAttachment[]>,
  complaints: Complaints,
): void {
  for (const { spec, said } of attachments) {
    const { selector, vlans = [] } = spec;
    if (selector.by !== 'name') continue;
    for (const [at, { ifname }] of vlans.entries()) {
      const [other] = named.get(`${nameIn(selector)}/${ifname}`) ?? [];
      if (!other) continue;
      const place = placeOf(said, 'vlans', at);
      complaints.add(place, `${selector.name} has an ${ifname} already`, also(other.spec.place));
    }
  }
}

/** The same pattern, label or service takes in the same containers. */
function checkSelections(attachments: readonly SaidAttachment[], complaints: Complaints): void {
  const seen = new Map<string, SaidAttachment>();
  for (const entry of attachments) {
    const { selector, ifname } = entry.spec;
    if (selector.by === 'name') continue;
    const key = `${JSON.stringify(selector)}/${ifname}`;
    const first = seen.get(key);
    if (!first) seen.set(key, entry);
    else {
      const message = `the same containers have an ${ifname} already`;
      complaints.add(interfacePlace(entry), message, `say another ifname, or ${also(first.spec.place)}`);
    }
  }
}

function interfacePlace({ said }: SaidAttachment): Place {
  return said.parts.has('ifname') ? placeOf(said, 'ifname') : placeOf(said, 'container');
}
