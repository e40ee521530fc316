/** An interface that is there -> the fields of an entry that say the same. Pure. */
import { type Cidr, formatCidr } from '../model/address.ts';
import type { MirrorSpec, PolicingSpec, RouteSpec, RuleSpec } from '../model/attachment.ts';
import type { FoundInterface } from '../model/found.ts';
import type { Addr, Route, Rule } from '../model/link.ts';
import { routeProtocol } from '../model/naming.ts';
import { defaultMetric, mainTable, routeKey } from '../model/route.ts';
import type { WrittenAttachment } from './topology/write.ts';

/** IFA_F_PERMANENT: not from a lease or a router advertisement. */
const permanent = 0x80;
/** RTPROT_KERNEL, RTPROT_RA, RTPROT_DHCP: made with an address, by a router, with a lease. */
const byOthers = new Set([2, 9, 16]);
const unicast = 1;

const isAsked = ({ scope, flags }: Addr): boolean => scope === 0 && (flags & permanent) !== 0;

/** Its addresses: what was asked for, or, when nothing was asked for last, what is there; `dhcp` for leases. */
export function addressesOf({ there, record }: FoundInterface): 'dhcp' | readonly Cidr[] {
  if (record?.dhcpGuest !== undefined || record?.want?.dhcp) return 'dhcp';
  const asked = record?.want?.addrs ?? [];
  if (asked.length > 0) return asked.flatMap(({ cidr }) => cidr ?? []);
  const present = (there?.addrs ?? []).filter(({ scope }) => scope === 0);
  const ipv4 = present.filter(({ cidr }) => cidr.family === 4);
  if (!record && ipv4.length > 0 && !ipv4.some(isAsked)) return 'dhcp';
  return present.filter(isAsked).map(({ cidr }) => cidr);
}

/** Its default gateways, likewise. */
export function gatewaysOf({ there, record }: FoundInterface): readonly string[] {
  const asked = record?.want?.addrs ?? [];
  if (asked.length > 0) return asked.flatMap(({ gateway }) => gateway?.ip ?? []);
  return (there?.routes ?? [])
    .filter((route) => isDefault(route) && !byOthers.has(route.protocol))
    .flatMap(({ gateway }) => gateway ?? []);
}

const isDefault = (route: Route): boolean =>
  route.dst === undefined && routeKey(route) === routeKey({ family: route.family });

/** Its other routes as text: those that were asked for, and those that were made by us, or by somebody else's hand. */
export function routesOf({ there, record }: FoundInterface, gateways: readonly string[]): readonly string[] {
  const isMade = ({ protocol, type }: Route): boolean =>
    type === unicast && (record ? protocol === routeProtocol : !byOthers.has(protocol));
  const isWay = ({ dst, gateway, table }: Route): boolean =>
    table === mainTable && gateway === undefined && dst !== undefined && gateways.includes(dst.ip);
  const present = (there?.routes ?? []).filter(
    (route) => isMade(route) && !isDefault(route) && !isWay(route),
  );
  const asked = (record?.want?.routes ?? []).map((spec) => ({ ...spec, family: spec.dst.family }));
  const all = new Map([...asked, ...present].map((route) => [routeKey(route), routeText(route)]));
  // A gateway has to be reachable when a route by it is made.
  const texts = [...all.values()];
  return [
    ...texts.filter((text) => !text.includes(' via ')),
    ...texts.filter((text) => text.includes(' via ')),
  ];
}

function routeText({
  family,
  dst,
  gateway,
  table,
  metric,
}: Partial<RouteSpec> & { readonly family: 4 | 6 }): string {
  const everywhere = gateway === undefined ? (family === 4 ? '0.0.0.0/0' : '::/0') : 'default';
  const words = [dst === undefined || dst.prefixLen === 0 ? everywhere : formatCidr(dst)];
  if (gateway !== undefined) words.push(`via ${gateway}`);
  if (table !== undefined && table !== mainTable) words.push(`table ${table}`);
  if (metric !== undefined && metric !== defaultMetric[family]) words.push(`metric ${metric}`);
  return words.join(' ');
}

type Fields = Pick<
  WrittenAttachment,
  | 'mac'
  | 'mtu'
  | 'rules'
  | 'sysctls'
  | 'rate'
  | 'mirror'
  | 'policing'
  | 'ipv6'
  | 'interfaceId'
  | 'dns'
  | 'dad'
>;

/**
 * What is left: the MTU where it is not the network's, the MAC address, rules, sysctls, rates, and what was asked for by name. The MAC address of what
 * somebody else made is kept, as others may know it.
 * @param networkMtu what the file says of the network
 */
export function interfaceFields(
  found: FoundInterface,
  networkMtu: number | undefined,
  rules: readonly Rule[],
): Fields {
  const { there, record } = found;
  const want = record?.want;
  const present = there?.link.mtu;
  const isUsual = present === undefined || present === (networkMtu ?? found.defaultMtu);
  const mtu = want?.mtu ?? (isUsual ? undefined : present);
  const mac = record ? want?.mac : ownMac(found);
  const said = [...(want?.rules ?? []), ...rules.map(ruleSpec)].map(ruleFields);
  const sysctls = Object.entries(want?.sysctls ?? {}).map(([key, value]) => [key.replace('/', '.'), value]);
  return {
    ...(mac !== undefined && { mac }),
    ...(mtu !== undefined && mtu !== networkMtu && { mtu }),
    ...(said.length > 0 && { rules: said }),
    ...(sysctls.length > 0 && { sysctls: Object.fromEntries(sysctls) as Record<string, string> }),
    ...(want?.rate && { rate: want.rate }),
    ...mirrorField(want?.mirror),
    ...policingField(want?.policing ?? found.policing),
    ...(want?.ipv6 && { ipv6: want.ipv6.mode }),
    ...(want?.ipv6?.interfaceId === 'eui64' && { interfaceId: 'eui64' }),
    ...(want?.dns && { dns: want.dns }),
    ...(want?.dad !== undefined && { dad: want.dad }),
  };
}

function mirrorField(mirror: MirrorSpec | undefined): Pick<Fields, 'mirror'> {
  if (!mirror) return {};
  const { of, direction, vlans } = mirror;
  if (!of && !vlans) return { mirror: 'all' };
  return {
    mirror: {
      ...(of && { of: [...of] }),
      ...(direction && { direction }),
      ...(vlans && { vlans: [...vlans] }),
    },
  };
}

/** In bits: it is kept in thousands of them. */
function policingField(policing: PolicingSpec | undefined): Pick<Fields, 'policing'> {
  if (!policing || policing.rate === 0) return {};
  const { rate, burst } = policing;
  return { policing: { rate: rate * 1000, ...(burst > 0 && { burst: burst * 1000 }) } };
}

/** Of kinds whose interfaces have a MAC address of their own. */
function ownMac({ network, there }: FoundInterface): string | undefined {
  if ('why' in network) return undefined;
  const isOwn =
    network.kind === 'bridge' ||
    network.kind === 'ovs' ||
    (network.kind === 'macvlan' && network.mode !== 'passthru');
  return isOwn ? there?.link.mac : undefined;
}

function ruleSpec({ family, src, dst, table, priority }: Rule): RuleSpec {
  return { family, ...(src && { from: src }), ...(dst && { to: dst }), table, priority };
}

function ruleFields({ from, to, table, priority }: RuleSpec) {
  return {
    ...(from && { from: formatCidr(from) }),
    ...(to && { to: formatCidr(to) }),
    table,
    ...(priority !== undefined && { priority }),
  };
}
