/** An attachment of a file -> an AttachmentSpec, with the checks that need only itself and its network. */
import type * as z from 'zod';
import { type Cidr, contains, formatCidr } from '../../model/address.ts';
import type { RouteSpec } from '../../model/attachment.ts';
import { routeKey, routeName } from '../../model/route.ts';
import type { AttachmentSpec, NetworkSpec } from '../../model/topology.ts';
import { checkIfname, printable } from '../names.ts';
import { localTable, whyNoDefault } from '../route-words.ts';
import { readDhcp } from './dhcp.ts';
import { keyPlaceOf, placeOf, type Said } from './document.ts';
import { didYouMean } from './hints.ts';
import { complainOf, type Words } from './issues.ts';
import { checkTrunks, ipv6Mtu, isOfNetworks, itemPlace, trunksOf, whyNotIn, whyOutside } from './network.ts';
import { checkOvs, ovsPartsOf } from './ovs.ts';
import type { Complaints } from './problem.ts';
import { attachmentSchema } from './schema-attachment.ts';
import { sysctlKey } from './values.ts';

export type ReadAttachment = z.output<typeof attachmentSchema>;

/** A spec and where its parts are written. */
export interface SaidAttachment {
  readonly spec: AttachmentSpec;
  readonly said: Said;
  /** Undefined when there is no such network, or when it cannot be had itself. */
  readonly network: NetworkSpec | undefined;
}

/** What networks the files have: those that can be had, and the names of all. */
export interface KnownNetworks {
  readonly specs: ReadonlyMap<string, NetworkSpec>;
  readonly names: ReadonlySet<string>;
}

/** What an attachment is checked with. */
export interface Check {
  readonly read: ReadAttachment;
  readonly said: Said;
  readonly complaints: Complaints;
}

/** Reads one attachment. Undefined when it cannot be had; why is in `complaints`. */
export function readAttachment(
  said: Said,
  networks: KnownNetworks,
  complaints: Complaints,
): SaidAttachment | undefined {
  const parsed = attachmentSchema.safeParse(said.value);
  if (!parsed.success) {
    complainOf(parsed.error.issues, said, complaints, belongsElsewhere);
    return undefined;
  }
  const read = parsed.data;
  const check = { read, said, complaints };
  const network = networks.specs.get(read.network);
  if (!networks.names.has(read.network)) {
    const message = `there is no network "${printable(read.network)}" in these files`;
    complaints.add(placeOf(said, 'network'), message, didYouMean(read.network, networks.names));
  }
  const spec = specOf(check);
  checkSelector(check);
  checkAddresses(check, network);
  checkGateways(check, spec, network);
  checkRoutes(check, network);
  checkRules(check);
  checkTrunks(read, said, complaints);
  checkVlans(check, network);
  checkIpv6(check);
  if (network !== undefined) checkKind(check, network);
  return { spec, said, network };
}

/** Keys that are right, and written at a wrong level. */
function belongsElsewhere(key: string): Words | undefined {
  const unknown = `unknown key "${printable(key)}"`;
  if (key === 'label' || key === 'compose')
    return [unknown, `it goes into container, as in container: { ${key}: ... }`];
  return isOfNetworks(key) ? [unknown, 'it is the network that has it, below networks'] : undefined;
}

function specOf(check: Check): AttachmentSpec {
  const { read, said } = check;
  const { container, network, ifname, addresses, gateway, mac, unique, vlan, mtu, dad } = read;
  const { routes, rules, rate, dns } = read;
  return {
    place: said.place,
    selector: container,
    network,
    ifname,
    addresses,
    ...readServers(check),
    ...(dns !== undefined && { dns }),
    gateways: gateway === undefined || gateway === 'none' ? [] : gateway,
    ...(gateway === 'none' && { noGateway: true }),
    ...(mac !== undefined && { mac }),
    ...(unique !== undefined && { unique }),
    ...(vlan !== undefined && { vid: vlan }),
    ...trunksOf(read),
    ...(mtu !== undefined && { mtu }),
    routes: routes.map(routeSpecOf),
    rules: rules.map(({ from, to, table, priority }) => ({
      family: from?.family ?? to?.family ?? 4,
      ...(from !== undefined && { from }),
      ...(to !== undefined && { to }),
      table,
      ...(priority !== undefined && { priority }),
    })),
    sysctls: readSysctls(check),
    ...(rate !== undefined && { rate: withoutAbsent(rate) }),
    ...ovsPartsOf(read),
    ...(dad !== undefined && { dad }),
    ...(read.vlans.length > 0 && {
      vlans: read.vlans.map(({ vid, addresses }) => ({ vid, ifname: `${ifname}.${vid}`, cidrs: addresses })),
    }),
  };
}

function routeSpecOf({ to, via, table, metric }: ReadAttachment['routes'][number]): RouteSpec {
  return {
    dst: to,
    ...(via !== undefined && { gateway: via.ip }),
    ...(table !== undefined && { table }),
    ...(metric !== undefined && { metric }),
  };
}

/** What is said to servers, and to those of which families. */
function readServers({ read, said, complaints }: Check): Pick<AttachmentSpec, 'dhcp' | 'ipv6'> {
  const { addresses, dhcp, ipv6, interfaceId = 'stable-privacy' } = read;
  const asked = { v4: addresses === 'dhcp', v6: ipv6 === 'dhcp' || ipv6 === 'auto' };
  const { v4, v6, faults } = readDhcp(dhcp ?? {}, asked);
  if (dhcp !== undefined && !asked.v4 && !asked.v6) {
    const hint = 'say addresses: dhcp, or ipv6: dhcp or auto';
    complaints.add(keyPlaceOf(said, 'dhcp'), 'dhcp is only for where servers are asked', hint);
  } else for (const { path, message } of faults) complaints.add(keyPlaceOf(said, 'dhcp', ...path), message);
  return {
    ...(asked.v4 && dhcp !== undefined && { dhcp: v4 }),
    ...(ipv6 !== undefined && {
      ipv6: { mode: ipv6, interfaceId, ...(asked.v6 && Object.keys(v6).length > 0 && { dhcp: v6 }) },
    }),
  };
}

function withoutAbsent({ in: received, out: sent }: NonNullable<ReadAttachment['rate']>) {
  return { ...(received !== undefined && { in: received }), ...(sent !== undefined && { out: sent }) };
}

function readSysctls({ read, said, complaints }: Check): Record<string, string> {
  const sysctls: Record<string, string> = {};
  for (const [name, value] of Object.entries(read.sysctls)) {
    const parsed = sysctlKey(name);
    if ('why' in parsed) complaints.add(keyPlaceOf(said, 'sysctls', name), parsed.why, parsed.hint);
    else if (!/^[\x20-\x7e]{1,255}$/.test(String(value))) {
      complaints.add(placeOf(said, 'sysctls', name), `${name} cannot have this value`);
    } else sysctls[parsed.key] = String(value);
  }
  return sysctls;
}

/** What only one container can have. */
function checkSelector({ read, said, complaints }: Check): void {
  const several = read.container.by !== 'name';
  if (read.mac !== undefined && read.unique !== undefined) {
    complaints.add(
      keyPlaceOf(said, 'unique'),
      'mac and unique are two ways to say one thing',
      'leave out one',
    );
  }
  if (several && read.mac !== undefined) {
    complaints.add(
      keyPlaceOf(said, 'mac'),
      'several containers cannot have one MAC address',
      'use unique, which makes one for each',
    );
  }
  if (several && typeof read.addresses !== 'string' && read.addresses.length > 0) {
    complaints.add(
      keyPlaceOf(said, 'addresses'),
      'several containers cannot have one address',
      'use auto, or name one container',
    );
  }
}

function checkAddresses({ read, said, complaints }: Check, network: NetworkSpec | undefined): void {
  const { addresses, gateway } = read;
  const at = placeOf(said, 'addresses');
  if (addresses === 'auto') {
    if (network !== undefined && network.ranges.length === 0) {
      complaints.add(at, `addresses: auto needs a range, and the network ${network.name} has none`);
    }
    return;
  }
  if (addresses === 'dhcp') {
    if (Array.isArray(gateway)) {
      complaints.add(keyPlaceOf(said, 'gateway'), 'with dhcp the server says the gateway', 'leave it out');
    }
    return;
  }
  for (const [index, cidr] of addresses.entries()) {
    const place = itemPlace(said, 'addresses', index);
    if (addresses.findIndex(({ ip }) => ip === cidr.ip) < index) {
      complaints.add(place, `${cidr.ip} is there twice`);
    }
    const why = network && whyNotIn(cidr, network.subnets);
    if (why) complaints.add(place, `${why[0]}, of the network ${network.name}`, why[1]);
  }
}

/** A gateway may be off the subnet, but is no subnet and no broadcast address. */
function whyNoHop(hop: Pick<Cidr, 'family' | 'ip'>, network: NetworkSpec | undefined): string | undefined {
  const subnet = network?.subnets.find((candidate) => contains(candidate, hop.ip));
  return subnet && whyOutside(hop, [subnet]);
}

function checkGateways(
  { read, said, complaints }: Check,
  { gateways }: AttachmentSpec,
  network: NetworkSpec | undefined,
): void {
  const own = typeof read.addresses === 'string' ? [] : read.addresses.map(({ ip }) => ip);
  for (const [at, { family, ip }] of gateways.entries()) {
    const place = itemPlace(said, 'gateway', at);
    if (gateways.findIndex((gateway) => gateway.family === family) < at) {
      complaints.add(place, `${ip} is a second gateway for IPv${family}`);
    }
    const why = own.includes(ip) ? "is the interface's own address" : whyNoHop({ family, ip }, network);
    if (why !== undefined) complaints.add(place, `gateway: ${ip} ${why}`);
  }
}

function checkRoutes({ read, said, complaints }: Check, network: NetworkSpec | undefined): void {
  const seen = new Set<string>();
  for (const [at, route] of read.routes.entries()) {
    const { to, via, table } = route;
    const place = placeOf(said, 'routes', at);
    const spec = routeSpecOf(route);
    const text = routeName(spec);
    if (whyNoDefault(spec) !== undefined) complaints.add(place, 'this is the default route', 'use gateway');
    if (table === localTable) complaints.add(place, 'table 255 is local, which the kernel fills');
    if (via !== undefined && via.family !== to.family) {
      complaints.add(place, `${text} and ${via.ip} are of different families`);
    }
    const why = via && whyNoHop(via, network);
    if (via && why !== undefined) complaints.add(place, `${via.ip} ${why}`);
    const key = routeKey({ ...spec, family: to.family });
    if (seen.has(key)) complaints.add(place, `there is a route to ${text} already`);
    seen.add(key);
  }
}

function checkRules({ read, said, complaints }: Check): void {
  const seen = new Set<string>();
  const text = (cidr: Cidr | undefined): string => (cidr === undefined ? 'all' : formatCidr(cidr));
  for (const [at, { from, to, table, priority = '' }] of read.rules.entries()) {
    const place = placeOf(said, 'rules', at);
    if (from === undefined && to === undefined) complaints.add(place, 'a rule needs from or to');
    if (from !== undefined && to !== undefined && from.family !== to.family) {
      complaints.add(place, `${text(from)} and ${text(to)} are of different families`);
    }
    const key = `${text(from)} ${text(to)} ${table} ${priority}`;
    if (seen.has(key)) complaints.add(place, 'this rule is there twice');
    seen.add(key);
  }
}

/** Sub-interfaces: each VLAN once, and only what comes by the port. */
function checkVlans({ read, said, complaints }: Check, network: NetworkSpec | undefined): void {
  const carried = network && carriedBy(read, network);
  for (const [at, { vid, addresses }] of read.vlans.entries()) {
    const place = placeOf(said, 'vlans', at);
    const why = checkIfname(`${read.ifname}.${vid}`);
    if (why !== undefined)
      complaints.add(place, `${read.ifname}.${vid} cannot be an interface's name: it ${why}`);
    if (read.vlans.findIndex((other) => other.vid === vid) < at)
      complaints.add(place, `the VLAN ${vid} is there twice`);
    if (carried && !carried.includes(vid)) {
      const hint = carried.length > 0 ? 'say it in trunks' : undefined;
      complaints.add(place, `the VLAN ${vid} does not come with a tag on ${network.name}`, hint);
    }
    if (addresses.length > 0 && read.container.by !== 'name')
      complaints.add(place, 'several containers cannot have one address', 'name one container');
  }
}

/** The VLANs that an attachment's port carries with tags; undefined: whatever the other side sends. */
function carriedBy(read: ReadAttachment, network: NetworkSpec): readonly number[] | undefined {
  if (network.kind === 'ipvlan') return [];
  if (network.kind !== 'bridge' && network.kind !== 'ovs') return undefined;
  const says = read.vlan !== undefined || read.trunks !== undefined;
  const { vid, trunks } = says ? { vid: read.vlan, trunks: read.trunks } : { trunks: undefined, ...network };
  return trunks ?? (vid === undefined ? undefined : []);
}

function checkIpv6({ read, said, complaints }: Check): void {
  const { ipv6, interfaceId, dns, addresses } = read;
  if (interfaceId !== undefined && ipv6 === undefined)
    complaints.add(keyPlaceOf(said, 'interfaceId'), 'interfaceId goes with ipv6', 'say ipv6: slaac');
  if (dns !== undefined && addresses !== 'dhcp' && (ipv6 === undefined || ipv6 === 'slaac')) {
    const hint = 'name servers come with addresses: dhcp, and with ipv6: dhcp or auto';
    complaints.add(keyPlaceOf(said, 'dns'), 'dns: container goes with DHCP', hint);
  }
}

/** What some kinds of networks cannot do. */
function checkKind(check: Check, network: NetworkSpec): void {
  const { read, said, complaints } = check;
  checkOvs(check, network);
  const { kind, name } = network;
  const complain = (key: string, message: string, hint?: string): void =>
    complaints.add(keyPlaceOf(said, key), message, hint);
  if (read.vlan !== undefined && kind === 'dummy') {
    complain('vlan', `the network ${name} is of kind ${kind}, which has no VLANs`);
  }
  if (read.trunks !== undefined && kind !== 'bridge' && kind !== 'ovs') {
    complain('trunks', `the network ${name} is of kind ${kind}, whose attachments have no trunks`);
  }
  if (kind === 'ipvlan' && (read.mac ?? read.unique) !== undefined) {
    complain(
      read.mac === undefined ? 'unique' : 'mac',
      `on a network of kind ipvlan, such as ${name}, every interface has the MAC address of the uplink`,
    );
  }
  if (kind === 'dummy' || (kind === 'ipvlan' && network.mode !== 'l2')) {
    if (read.addresses === 'dhcp')
      complain('addresses', `no DHCP server can be reached on ${name}, of kind ${kind}`);
    if (read.ipv6 !== undefined) complain('ipv6', `no router can be heard on ${name}, of kind ${kind}`);
  }
  // A dummy receives nothing, and what l3s receives passes the place by where it could be held up.
  if (read.rate?.in !== undefined && (kind === 'dummy' || (kind === 'ipvlan' && network.mode === 'l3s'))) {
    const what = kind === 'ipvlan' ? 'kind ipvlan in mode l3s' : `kind ${kind}`;
    complaints.add(placeOf(said, 'rate', 'in'), `on ${name}, of ${what}, what comes in cannot be limited`);
  }
  const one = kind === 'phys' || (kind === 'macvlan' && network.mode === 'passthru');
  if (one && read.container.by !== 'name') {
    complain('container', `only one container can be on ${name}`, 'name it');
  }
  const addresses = typeof read.addresses === 'string' ? [] : read.addresses;
  const ranges = read.addresses === 'auto' ? network.ranges : [];
  const mtu = read.mtu ?? network.mtu;
  const wantsIpv6 = read.ipv6 !== undefined || [...addresses, ...ranges].some(({ family }) => family === 6);
  if (mtu !== undefined && mtu < ipv6Mtu && wantsIpv6) {
    const said6 = read.ipv6 === undefined ? 'addresses' : 'ipv6';
    const place = read.mtu === undefined ? keyPlaceOf(said, said6) : placeOf(said, 'mtu');
    complaints.add(place, `an MTU of ${mtu} is too small for IPv6, which needs ${ipv6Mtu}`);
  }
}
