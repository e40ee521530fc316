import { everything, parseCidr, parseIp, whyNoHost } from '../model/address.ts';
import type {
  AddrSpec,
  Attachment,
  ContainerRef,
  GuestVlan,
  Network,
  RouteSpec,
} from '../model/attachment.ts';
import type { DhcpOptionTexts } from './attach-dhcp.ts';
import { bad, parseMacOption, parseMtu } from './attach-values.ts';
import { checkIfname, checkVid, printable } from './names.ts';
import { type OvsOptionTexts, parseOvsOptions } from './ovs-options.ts';
import { parseMetric, parseTable, splitRoute, whyNoDefault } from './route-words.ts';

/** As typed; what is absent was not. */
export interface AttachOptionTexts extends DhcpOptionTexts, OvsOptionTexts {
  readonly network: string;
  readonly ifname?: string | undefined;
  readonly hostIfname?: string | undefined;
  readonly address?: readonly string[] | undefined;
  readonly gateway?: readonly string[] | undefined;
  readonly route?: readonly string[] | undefined;
  readonly mac?: string | undefined;
  readonly vlan?: string | undefined;
  readonly trunks?: readonly string[] | undefined;
  readonly vlanFiltering?: boolean | undefined;
  readonly guestVlan?: readonly string[] | undefined;
  readonly mtu?: string | undefined;
  readonly mode?: string | undefined;
  readonly ipvlanFlag?: string | undefined;
  readonly sourceMac?: readonly string[] | undefined;
  readonly spoofCheck?: string | undefined;
  readonly vlanMode?: string | undefined;
  readonly dad?: boolean | undefined;
}

/** The attachment that the options describe, on `network`. @throws PipewrightError BAD_ARGUMENT */
export function parseAttachment(
  container: ContainerRef,
  network: Network,
  options: AttachOptionTexts,
): Attachment {
  const { ifname = 'eth1', hostIfname, mac, mtu, dad } = options;
  for (const [option, name] of [
    ['--ifname', ifname],
    ['--host-ifname', hostIfname],
  ] as const) {
    const why = name === undefined ? undefined : checkIfname(name);
    if (name !== undefined && why !== undefined) throw bad(option, name, `the name ${why}`);
  }
  const ovs = parseOvsOptions(options);
  const [address] = [...(options.address ?? []), ...(options.gateway ?? [])];
  if (ovs.mirror && address !== undefined)
    throw bad('--mirror', address, 'the interface gets copies and nothing else: no address');
  return {
    container,
    network,
    ifname,
    addrs: addressesOf(options),
    ...ovs,
    routes: (options.route ?? []).map(parseRoute),
    ...(options.guestVlan !== undefined && { vlans: parseGuestVlans(ifname, options.guestVlan) }),
    ...(hostIfname === undefined ? {} : { hostIfname }),
    ...(mac === undefined ? {} : { mac: parseMacOption(mac) }),
    ...(mtu === undefined ? {} : { mtu: parseMtu(mtu) }),
    ...(dad ? { dad } : {}),
  };
}

/** `100=10.100.0.2/24,fd00:100::2/64`, or `100` for a VLAN without an address. */
function parseGuestVlans(ifname: string, texts: readonly string[]): GuestVlan[] {
  return texts.map((text, at) => {
    const [vidText = '', ...rest] = text.split('=');
    const why = checkVid(vidText) ?? checkIfname(`${ifname}.${vidText}`);
    if (why !== undefined) throw bad('--guest-vlan', text, `${printable(vidText)} ${why}`);
    if (texts.slice(0, at).some((other) => other.split('=')[0] === vidText))
      throw bad('--guest-vlan', text, 'this VLAN is given twice');
    const cidrs = rest
      .join('=')
      .split(',')
      .filter((part) => part !== '')
      .map((part) => {
        const { cidr, gateway } = parseAddress('--guest-vlan', part);
        if (!cidr || gateway) throw bad('--guest-vlan', part, 'a VLAN has addresses, and no gateway');
        return cidr;
      });
    return { vid: Number(vidText), ifname: `${ifname}.${vidText}`, cidrs };
  });
}

/** With DHCP the server says addresses and gateway, but for `--gateway none`. */
function addressesOf(options: AttachOptionTexts): AddrSpec[] {
  const { address = [], dhcp, ipv6 } = options;
  const [first] = address;
  if (dhcp && first !== undefined) throw bad('--address', first, 'with --dhcp the server says the address');
  const gateways = isWithoutGateway(options) ? [] : (options.gateway ?? []);
  const [gateway] = gateways;
  if (dhcp && gateway !== undefined)
    throw bad('--gateway', gateway, 'with --dhcp the server says the gateway, or none');
  if (isWithoutGateway(options) && !dhcp && ipv6 === undefined)
    throw bad('--gateway', 'none', 'it goes with --dhcp and --ipv6; there is none that is not asked for');
  return parseAddresses(address, gateways);
}

/** No default route by this interface, whatever the network says. */
export function isWithoutGateway({ gateway = [] }: AttachOptionTexts): boolean {
  return gateway.length === 1 && gateway[0] === 'none';
}

function parseAddresses(addresses: readonly string[], gateways: readonly string[]): AddrSpec[] {
  const specs = addresses.flatMap((text) => text.split(',')).map((text) => parseAddress('--address', text));
  for (const gateway of gateways) specs.push({ gateway: parseGateway('--gateway', gateway) });
  for (const family of [4, 6] as const) {
    if (specs.filter((spec) => spec.gateway?.family === family).length > 1) {
      throw bad(
        '--gateway',
        gateways.join(' ') || addresses.join(' '),
        `two default gateways for IPv${family}`,
      );
    }
  }
  const seen = new Set<string>();
  for (const { cidr } of specs) {
    if (cidr && seen.has(cidr.ip)) throw bad('--address', cidr.ip, 'it is given twice');
    if (cidr) seen.add(cidr.ip);
  }
  return specs;
}

function parseAddress(option: string, text: string): AddrSpec {
  const [address = '', gateway, ...rest] = text.split('@');
  const cidr = parseCidr(address);
  if (rest.length > 0 || !cidr) {
    throw bad(option, text, 'an address has a prefix length, and may have a gateway: 10.0.0.2/24@10.0.0.1');
  }
  const why = whyNoHost(cidr);
  if (why !== undefined) throw bad(option, text, `no interface can have this address: ${why}`);
  return gateway === undefined ? { cidr } : { cidr, gateway: parseGateway(option, gateway) };
}

function parseGateway(option: string, text: string) {
  const gateway = parseIp(text);
  if (!gateway) throw bad(option, text, 'a gateway is an IP address without a prefix length');
  const why = whyNoHost(gateway);
  if (why !== undefined) throw bad(option, text, `it cannot be a gateway: ${why}`);
  return gateway;
}

/**
 * `10.5.0.0/16 via 10.0.0.1`, `10.5.0.0/16@10.0.0.1`, or `10.5.0.0/16` for a directly connected subnet; with
 * `table 100` and `metric 50`; `default via 10.0.0.1` with one of these.
 */
function parseRoute(text: string): RouteSpec {
  const words = splitRoute(text);
  const gateway = words?.via === undefined ? undefined : parseGateway('--route', words.via);
  const dst = words?.to === 'default' && gateway ? everything(gateway.family) : parseCidr(words?.to ?? '');
  if (!words || !dst)
    throw bad('--route', text, 'a route is PREFIX via GATEWAY, as in 10.5.0.0/16 via 10.0.0.1');
  if (gateway && gateway.family !== dst.family)
    throw bad('--route', text, 'prefix and gateway are of different families');
  const spec = {
    dst,
    ...(gateway ? { gateway: gateway.ip } : {}),
    ...(words.table === undefined ? {} : { table: numberOf(text, words.table, parseTable) }),
    ...(words.metric === undefined ? {} : { metric: numberOf(text, words.metric, parseMetric) }),
  };
  const why = whyNoDefault(spec);
  if (why !== undefined) throw bad('--route', text, `it ${why}: use --gateway, or say a table or a metric`);
  return spec;
}

function numberOf(route: string, text: string, parse: (text: string) => number | string): number {
  const read = parse(text);
  if (typeof read === 'string') throw bad('--route', route, `"${printable(text)}" ${read}`);
  return read;
}
