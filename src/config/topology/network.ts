/** A network of a file -> a NetworkSpec, with the checks that need nothing but itself. */
import type * as z from 'zod';
import { broadcastOf, type Cidr, contains, formatCidr, networkOf } from '../../model/address.ts';
import type { AddressRange, NetworkSpec } from '../../model/topology.ts';
import { checkIfname, printable } from '../names.ts';
import { keyPlaceOf, placeOf, type Said } from './document.ts';
import { complainOf, type Words } from './issues.ts';
import type { Complaints } from './problem.ts';
import { holds, overlap, shrink } from './ranges.ts';
import { attachmentSchema } from './schema-attachment.ts';
import { networkSchema } from './schema-network.ts';

type ReadNetwork = z.output<typeof networkSchema>;

/** A spec and where its parts are written. */
export interface SaidNetwork {
  readonly spec: NetworkSpec;
  readonly said: Said;
}

/** The least MTU that IPv6 works with (RFC 8200, section 5): below, the kernel refuses its addresses. */
export const ipv6Mtu = 1280;

/** Reads one network. Undefined when it cannot be had; why is in `complaints`. */
export function readNetwork(name: string, said: Said, complaints: Complaints): SaidNetwork | undefined {
  const place = said.keyPlace ?? said.place;
  const isName = /^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,62}$/.test(name);
  if (!isName) {
    complaints.add(
      place,
      `"${printable(name)}" cannot be a network's name`,
      'letters, digits, ".", "_" and "-" can',
    );
  }
  const parsed = networkSchema.safeParse(said.value);
  if (!parsed.success) {
    const kind = (said.value as { kind?: unknown } | null)?.kind;
    complainOf(parsed.error.issues, said, complaints, (key) => ofOtherKind(String(kind), key));
    return undefined;
  }
  const read = parsed.data;
  checkSubnets(read, said, complaints);
  if ('trunks' in read) checkTrunks(read, said, complaints);
  if (read.kind === 'ovs') checkVlanMode(read, said, complaints);
  if ('sourceMacs' in read && read.mode !== 'source') {
    complaints.add(keyPlaceOf(said, 'sourceMacs'), 'sourceMacs: only the mode source looks at them');
  }
  const { subnet: subnets = [], gateway: gateways = [], range: ranges = [] } = read;
  const common = {
    name,
    place,
    ...(read.mtu !== undefined && { mtu: read.mtu }),
    subnets,
    gateways,
    ranges: ranges.flatMap((range, at) => readRange(range, at, { read, said, complaints })),
    hostAddresses: 'hostAddress' in read ? (read.hostAddress ?? []) : [],
  };
  const plug = isName ? plugOf(name, read, complaints, place) : undefined;
  return plug && { said, spec: { ...common, ...plug } };
}

const allKeys = new Set(networkSchema.options.flatMap((option) => Object.keys(option.shape)));

/** Whether networks of some kind have this key. */
export function isOfNetworks(key: string): boolean {
  return allKeys.has(key);
}

function ofOtherKind(kind: string, key: string): Words | undefined {
  if (!allKeys.has(key)) {
    const isElsewhere = Object.hasOwn(attachmentSchema.shape, key);
    return isElsewhere
      ? [`unknown key "${printable(key)}"`, 'it is an attachment that has it, below attachments']
      : undefined;
  }
  const why = `a network of kind ${kind} has no ${key}`;
  return [why];
}

/** What is a kind's own. */
type PlugOf<T> = T extends NetworkSpec
  ? Omit<T, 'name' | 'place' | 'mtu' | 'subnets' | 'gateways' | 'ranges' | 'hostAddresses'>
  : never;
type Plug = PlugOf<NetworkSpec>;

function plugOf(
  name: string,
  read: ReadNetwork,
  complaints: Complaints,
  place: Said['place'],
): Plug | undefined {
  const vid = 'vlan' in read && read.vlan !== undefined ? { vid: read.vlan } : {};
  switch (read.kind) {
    case 'bridge':
    case 'ovs': {
      const why = read.bridge === undefined ? checkIfname(name) : undefined;
      if (why !== undefined) {
        complaints.add(place, `bridge: is missing, and the network's name cannot be a bridge's: it ${why}`);
        return undefined;
      }
      const bridge = read.bridge ?? name;
      if (read.uplink === bridge) {
        complaints.add(
          place,
          `uplink: ${bridge} cannot be a port of itself`,
          'say another name of the bridge',
        );
        return undefined;
      }
      const nic = read.uplink === undefined ? {} : { nic: read.uplink };
      if (read.kind === 'ovs') {
        const { vlanMode, qinqEthtype } = read;
        const cvlans = read.cvlans && { cvlans: [...read.cvlans].sort((a, b) => a - b) };
        const mode = { ...(vlanMode && { vlanMode }), ...(qinqEthtype && { qinqEthtype }) };
        const internal = read.mode === 'internal' && { internal: true as const };
        return { kind: 'ovs', bridge, ...nic, ...internal, ...vid, ...trunksOf(read), ...mode, ...cvlans };
      }
      const filtering = read.vlanFiltering && { vlanFiltering: read.vlanFiltering };
      return { kind: 'bridge', bridge, ...nic, ...vid, ...trunksOf(read), ...filtering };
    }
    case 'macvlan': {
      const sourceMacs = read.sourceMacs && { sourceMacs: [...read.sourceMacs].sort() };
      return { kind: 'macvlan', uplink: read.uplink, mode: read.mode, ...sourceMacs, ...vid };
    }
    case 'ipvlan': {
      const flag = read.flag && { flag: read.flag };
      return { kind: 'ipvlan', uplink: read.uplink, mode: read.mode, ...flag, ...vid };
    }
    case 'phys':
      return { kind: 'phys', uplink: read.uplink, ...vid };
    case 'sriov': {
      const check = read.spoofCheck === undefined ? {} : { spoofCheck: read.spoofCheck };
      return { kind: 'sriov', uplink: read.uplink, vf: { ...vid, ...check } };
    }
    case 'dummy':
      return { kind: 'dummy' };
  }
}

/** As the model has them. */
export function trunksOf({ trunks }: { readonly trunks?: readonly number[] | undefined }): {
  trunks?: readonly number[];
} {
  return trunks === undefined ? {} : { trunks: [...trunks].sort((a, b) => a - b) };
}

function checkVlanMode(
  { vlanMode, vlan, cvlans, qinqEthtype }: Extract<ReadNetwork, { kind: 'ovs' }>,
  said: Said,
  complaints: Complaints,
): void {
  if (vlanMode !== undefined && vlan === undefined)
    complaints.add(keyPlaceOf(said, 'vlanMode'), `vlanMode: ${vlanMode} needs a vlan`);
  for (const [key, value] of Object.entries({ cvlans, qinqEthtype })) {
    if (value !== undefined && vlanMode !== 'dot1q-tunnel')
      complaints.add(keyPlaceOf(said, key), `${key}: only vlanMode dot1q-tunnel looks at it`);
  }
}

/** Each VLAN of a port once, and with a tag or without. */
export function checkTrunks(
  read: { readonly vlan?: number | undefined; readonly trunks?: readonly number[] | undefined },
  said: Said,
  complaints: Complaints,
): void {
  const { vlan, trunks } = read;
  if (trunks === undefined) return;
  const place = placeOf(said, 'trunks');
  if (trunks.length === 0) complaints.add(place, 'trunks: the list is empty', 'leave it out');
  const twice = trunks.find((vid, at) => trunks.indexOf(vid) < at);
  if (twice !== undefined) complaints.add(place, `trunks: ${twice} is there twice`);
  if (vlan !== undefined && trunks.includes(vlan)) {
    const message = `trunks: ${vlan} is the vlan that goes without a tag`;
    complaints.add(place, message, 'a port carries a VLAN with its tag or without: leave out one');
  }
}

function checkSubnets(read: ReadNetwork, said: Said, complaints: Complaints): void {
  const { subnet: subnets = [], gateway: gateways = [], mtu } = read;
  const hosts = 'hostAddress' in read ? (read.hostAddress ?? []) : [];
  const place = (key: string, at: number) => itemPlace(said, key, at);
  for (const [at, subnet] of subnets.entries()) {
    const other = subnets.slice(0, at).find((earlier) => overlap(earlier, subnet));
    if (other) complaints.add(place('subnet', at), `${formatCidr(subnet)} overlaps ${formatCidr(other)}`);
  }
  for (const [at, { family, ip }] of gateways.entries()) {
    if (gateways.findIndex((gateway) => gateway.family === family) < at) {
      complaints.add(place('gateway', at), `${ip} is a second gateway for IPv${family}`);
    }
    const why = whyOutside({ family, ip }, subnets);
    if (why !== undefined) complaints.add(place('gateway', at), `gateway: ${ip} ${why}`);
  }
  for (const [at, cidr] of hosts.entries()) {
    const why = whyNotIn(cidr, subnets);
    if (why !== undefined) complaints.add(place('hostAddress', at), `hostAddress: ${why[0]}`, why[1]);
  }
  if (mtu !== undefined && mtu < ipv6Mtu && [...subnets, ...hosts].some(({ family }) => family === 6)) {
    complaints.add(placeOf(said, 'mtu'), `mtu: ${mtu} is too small for IPv6, which needs ${ipv6Mtu}`);
  }
}

/** The place of an entry of a list, which may be written as the one value that it is. */
export function itemPlace(said: Said, key: string, at: number): Said['place'] {
  return Array.isArray(said.parts.get(key)?.value) ? placeOf(said, key, at) : placeOf(said, key);
}

/** Link-local addresses are in every network. */
function isLinkLocal({ family, ip }: Pick<Cidr, 'family' | 'ip'>): boolean {
  return family === 6 ? contains({ family: 6, ip: 'fe80::', prefixLen: 10 }, ip) : ip.startsWith('169.254.');
}

/** Why this address is in none of the subnets of its family, as the rest of a sentence. */
export function whyOutside(
  address: Pick<Cidr, 'family' | 'ip'>,
  subnets: readonly Cidr[],
): string | undefined {
  const own = subnets.filter(({ family }) => family === address.family);
  if (own.length === 0 || isLinkLocal(address)) return undefined;
  const subnet = own.find((candidate) => contains(candidate, address.ip));
  if (subnet === undefined) return `is not in ${own.map(formatCidr).join(' or ')}`;
  if (subnet.family === 6 || subnet.prefixLen > 30) return undefined;
  if (address.ip === networkOf(subnet)) return `is the subnet ${formatCidr(subnet)} itself`;
  return address.ip === broadcastOf(subnet) ? `is the broadcast address of ${formatCidr(subnet)}` : undefined;
}

/** Why an interface on a network of these subnets cannot have this address: a message, and perhaps a hint. */
export function whyNotIn(cidr: Cidr, subnets: readonly Cidr[]): Words | undefined {
  const why = whyOutside(cidr, subnets);
  if (why !== undefined) return [`${formatCidr(cidr)} ${why}`];
  const subnet = subnets.find((candidate) => contains(candidate, cidr.ip));
  const single = cidr.prefixLen === (cidr.family === 4 ? 32 : 128);
  if (subnet === undefined || single || subnet.prefixLen === cidr.prefixLen) return undefined;
  const meant = formatCidr({ ...cidr, prefixLen: subnet.prefixLen });
  return [
    `${formatCidr(cidr)} is of another length than the subnet ${formatCidr(subnet)}`,
    `did you mean "${meant}"?`,
  ];
}

/** The part of a range that may be given out: without the subnet's first and last address. */
function readRange(
  range: AddressRange,
  at: number,
  { read, said, complaints }: { read: ReadNetwork; said: Said; complaints: Complaints },
): AddressRange[] {
  const { subnet: subnets = [], gateway: gateways = [] } = read;
  const hosts = 'hostAddress' in read ? (read.hostAddress ?? []) : [];
  const complain = (why: string): AddressRange[] => {
    complaints.add(itemPlace(said, 'range', at), `range: ${range.first}-${range.last} ${why}`);
    return [];
  };
  const own = subnets.filter(({ family }) => family === range.family);
  const subnet = own.find((candidate) => contains(candidate, range.first) && contains(candidate, range.last));
  if (own.length === 0) return complain(`needs a subnet of IPv${range.family} that it is in`);
  if (subnet === undefined) return complain(`is not in ${own.map(formatCidr).join(' or ')}`);
  const usable = shrink(range, subnet);
  const used = [...gateways, ...hosts].map(({ ip }) => ip);
  if (usable === undefined || !holds(usable, used)) return complain('has no address to give out');
  return [usable];
}
