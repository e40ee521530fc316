/** What a NIC and its bridge have that has to be there again after a boot: what somebody gave, and who gives the rest. */
import { routeDevs } from '../kernel/netlink/route.ts';
import { routeInWords, ruleInWords, scopeNames } from '../kernel/netlink/route-words.ts';
import { broadcastOf, type Cidr, formatCidr } from '../model/address.ts';
import type { Addr, Route, Rule } from '../model/link.ts';
import { routeProtocol } from '../model/naming.ts';
import type { PortVlan } from '../model/port-vlan.ts';
import { bornVlans } from '../model/port-vlan.ts';
import type { Conf, ObservedUplink, UplinkWant } from '../model/uplink.ts';
import type { BridgeVlans, ExportedAddr, UplinkFacts } from '../model/uplink-facts.ts';
import { filters, ovsTrunks, uplinkVlans, usualPvid } from '../plan/uplink-vlans.ts';

/** RTPROT_RA, and those that do not come from a person: redirects, the kernel, DHCP, routing daemons, ourselves. */
const byRouter = 9;
const byOthers = new Set([
  1,
  2,
  8,
  9,
  10,
  11,
  12,
  13,
  14,
  15,
  16,
  17,
  18,
  42,
  186,
  187,
  188,
  189,
  192,
  routeProtocol,
]);
/** RT_TABLE_*. */
const mainTable = 254;
const localTable = 255;
/** IFA_F_*. */
const temporary = 0x01;
const home = 0x10;
const noPrefixRoute = 0x200;
/** IFA_LABEL, IFA_RT_PRIORITY, IFA_PROTO; IFAPROT_KERNEL_RA, IFAPROT_KERNEL_LL. */
const labelAttr = 3;
const metricAttr = 9;
const protoAttr = 11;
const kernelRa = 2;
const kernelLl = 3;
/** RTA_EXPIRES. */
const expiresAttr = 23;
/** IN6_ADDR_GEN_MODE_EUI64. */
const eui64Mode = '0';

/** What the facts are taken from. */
export interface FactSources {
  readonly seen: ObservedUplink;
  readonly want: UplinkWant;
  /** All rules of the namespace. */
  readonly rules: readonly Rule[];
  readonly nameOf: (ifindex: number) => string | undefined;
  /** Addresses that we give the bridge ourselves, and would again. */
  readonly ours: readonly Cidr[];
  /** A DHCP client has the NIC, whatever its addresses look like. */
  readonly leased: boolean;
  readonly connection?: string | undefined;
}

/** Whether the NIC is a port of the bridge. */
export function hasMoved(
  { nic, bridge, ovsBridgeOfNic }: ObservedUplink,
  { bridge: { name } }: UplinkWant,
): boolean {
  return (nic?.master !== undefined && nic.master === bridge?.ifindex) || ovsBridgeOfNic === name;
}

function attrOf({ unknown = [] }: Addr, nr: number): Uint8Array | undefined {
  return unknown.find(({ type }) => (type & 0x3fff) === nr)?.data;
}

/** `fe80::...` of a MAC address, RFC 4291 appendix A. */
function isEui64(ip: string, mac: string): boolean {
  const [a = 0, b = 0, c = 0, d = 0, e = 0, f = 0] = mac.split(':').map((byte) => Number.parseInt(byte, 16));
  const word = (high: number, low: number): string => ((high << 8) | low).toString(16);
  return ip === `fe80::${word(a ^ 2, b)}:${word(c, 0xff)}:${word(0xfe, d)}:${word(e, f)}`;
}

/** The kernel, or a program in its place, makes it on every link. Kernels before 5.18 do not say so. */
function isOwnLinkLocal(addr: Addr, mac: string, conf: Conf): boolean {
  const { cidr } = addr;
  if (cidr.family === 4 || !cidr.ip.startsWith('fe80:')) return false;
  const proto = attrOf(addr, protoAttr)?.[0];
  return (
    proto === kernelLl || isEui64(cidr.ip, mac) || (conf['ipv6/addr_gen_mode'] ?? eui64Mode) !== eui64Mode
  );
}

function addrInWords(addr: Addr, nic: string, link: string): ExportedAddr {
  const { cidr, peer, broadcast, scope, flags } = addr;
  const label = Buffer.from(attrOf(addr, labelAttr) ?? [])
    .toString('utf8')
    .replace(/\0.*$/s, '');
  const alias = /^[^:]*(:.+)$/s.exec(label)?.[1];
  const name = alias === undefined ? '' : `${link}${alias}`;
  const metric = attrOf(addr, metricAttr);
  const isUsual = broadcast === undefined || broadcast === broadcastOf(cidr);
  // Of an address without IFA_SCOPE the family says it: IPv6 has the scope in the address.
  const isGlobal = scope === 0 || cidr.family === 6;
  return {
    cidr,
    ...(peer === undefined ? {} : { peer }),
    ...(isUsual ? {} : { broadcast }),
    ...(isGlobal ? {} : { scope: scopeNames[scope] ?? String(scope) }),
    ...(name === '' || Buffer.byteLength(name) > 15 || nic === '' ? {} : { label: name }),
    ...(metric ? { metric: Buffer.from(metric).readUInt32LE(0) } : {}),
    ...((flags & noPrefixRoute) === 0 ? {} : { noPrefixRoute: true }),
    ...((flags & home) === 0 || cidr.family === 4 ? {} : { home: true }),
  };
}

/** Who gives the addresses that have an end. */
function leasesOf(addrs: readonly Addr[], routes: readonly Route[], devs: readonly number[]) {
  const dynamic = addrs.filter(({ validLifetime, scope }) => validLifetime !== undefined && scope === 0);
  const six = dynamic.filter(({ cidr, flags }) => cidr.family === 6 && (flags & temporary) === 0);
  const isByRouter = (addr: Addr): boolean => attrOf(addr, protoAttr)?.[0] === kernelRa;
  // A DHCPv6 server gives single addresses, a router's prefix has 64 bits.
  const isByServer = (addr: Addr): boolean => addr.cidr.prefixLen === 128 && !isByRouter(addr);
  const advertised = routes.some(
    (route) =>
      route.family === 6 && route.protocol === byRouter && routeDevs(route).some((dev) => devs.includes(dev)),
  );
  return {
    dhcp4: dynamic.some(({ cidr }) => cidr.family === 4),
    dhcp6: six.some(isByServer),
    ra: advertised || six.some((addr) => !isByServer(addr)),
  };
}

/** Blackhole, unreachable, prohibit and throw are of no link. */
const leadsNowhere = ({ type }: Route): boolean => type >= 6 && type <= 9;

function isGiven({ protocol, unknown }: Route): boolean {
  return !byOthers.has(protocol) && !unknown.some(({ type }) => (type & 0x3fff) === expiresAttr);
}

function vlansOf(seen: ObservedUplink, want: UplinkWant, moved: boolean): BridgeVlans | undefined {
  if (want.bridge.kind === 'ovs' || !filters(want, seen)) return undefined;
  const defaultPvid = seen.bridge?.data.defaultPvid ?? usualPvid;
  const isThere = seen.bridge?.data.vlanFiltering === true;
  const port: readonly PortVlan[] = moved && isThere ? seen.nicVlans : (uplinkVlans(want, seen) ?? []);
  return { defaultPvid, port, self: isThere ? seen.bridgeVlans : bornVlans(defaultPvid) };
}

/** Reads the facts off both links: what is said is said of the bridge, whichever of them has it now. */
export function uplinkFacts(sources: FactSources): UplinkFacts {
  const { seen, want, leased, connection } = sources;
  const { nic, bridge, state, bridgeState } = seen;
  const moved = hasMoved(seen, want);
  const devs = [nic?.ifindex, bridge?.ifindex].filter((ifindex) => ifindex !== undefined);
  const mac = (moved || want.keepMac ? bridge?.mac : undefined) ?? nic?.mac ?? '';
  const conf = moved ? seen.bridgeConf : seen.nicConf;
  const isOurs = ({ cidr }: Addr): boolean =>
    sources.ours.some((own) => formatCidr(own) === formatCidr(cidr));
  const addrs = [...bridgeState.addrs.filter((addr) => !isOurs(addr)), ...state.addrs];
  const leases = leasesOf(addrs, seen.routes, devs);
  const dhcp4 = leases.dhcp4 || leased;
  // Some clients give an address no end, so that it looks like one given by hand.
  const isLease = ({ cidr, validLifetime }: Addr): boolean =>
    validLifetime !== undefined || (leased && !leases.dhcp4 && cidr.family === 4);
  const addresses = addrs
    .filter((addr) => !isLease(addr) && !isOwnLinkLocal(addr, mac, conf))
    .map((addr) => addrInWords(addr, want.nic, want.bridge.name));
  const has4 = addresses.some(({ cidr, scope }) => cidr.family === 4 && scope === undefined);
  return {
    nic: want.nic,
    bridge: want.bridge,
    mac,
    mtu: nic?.mtu ?? 1500,
    vlans: vlansOf(seen, want, moved),
    ovsTrunks: want.bridge.kind === 'bridge' ? [] : moved ? seen.ovsTrunks : ovsTrunks(want.trunks),
    addresses,
    ...leases,
    dhcp4,
    privacy: (leases.ra || leases.dhcp6) && conf['ipv6/use_tempaddr'] === '2',
    ...waysOf(sources, devs, addrs, dhcp4 && !has4),
    ...(connection === undefined ? {} : { connection }),
  };
}

/** Routes by the two links and into nowhere, and the rules that lead to them. @param dhcpOnly the lease has the default route */
function waysOf(
  { seen, want, rules, nameOf }: FactSources,
  devs: readonly number[],
  addrs: readonly Addr[],
  dhcpOnly: boolean,
): Pick<UplinkFacts, 'routes' | 'rules'> {
  const rename = (name: string): string => (name === want.nic ? want.bridge.name : name);
  const isByLink = (route: Route): boolean => routeDevs(route).some((dev) => devs.includes(dev));
  const isLeased = ({ family, table, dst }: Route): boolean =>
    dhcpOnly && family === 4 && table === mainTable && dst === undefined;
  const given = seen.routes.filter(
    (route) => isGiven(route) && (leadsNowhere(route) || isByLink(route)) && !isLeased(route),
  );
  // What a gateway of another may need comes first.
  const direct = given.filter(({ gateway, type }) => gateway === undefined && type === 1);
  const inOrder = [...direct, ...given.filter((route) => !direct.includes(route))];
  const tables = new Set(given.filter((route) => !leadsNowhere(route)).map(({ table }) => table));
  for (const table of [mainTable, localTable]) tables.delete(table);
  const isOwn = ({ iif, oif, src, action, table }: Rule): boolean =>
    [iif, oif].some((name) => name === want.nic || name === want.bridge.name) ||
    (action === undefined && tables.has(table)) ||
    addrs.some(({ cidr }) => cidr.ip === src?.ip);
  return {
    routes: inOrder.map((route) =>
      routeInWords(route, (ifindex) =>
        devs.includes(ifindex) ? want.bridge.name : (nameOf(ifindex) ?? `if${ifindex}`),
      ),
    ),
    rules: rules.filter(isOwn).map((rule) => ruleInWords(rule, rename)),
  };
}
