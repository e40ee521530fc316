/** The options of `pipewright attach`, read into an attachment: every value is checked here, once. */
import { PipewrightError } from '../errors.ts';
import { everything, parseCidr, parseIp, whyNoHost } from '../model/address.ts';
import {
  type AddrSpec,
  type Attachment,
  type ContainerRef,
  type GuestVlan,
  ipvlanFlags,
  ipvlanModes,
  macvlanModes,
  type Network,
  ovsVlanModes,
  ovsVlansOf,
  type RouteSpec,
} from '../model/attachment.ts';
import type { NetworkType } from '../model/observed.ts';
import type { DhcpOptionTexts } from './attach-dhcp.ts';
import { bad, parseMacOption, parseMacText, parseMtu } from './attach-values.ts';
import { checkIfname, checkPkey, checkVid, parseVids, printable } from './names.ts';
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

/** Those of the options that make the network. */
type NetworkOptions = Pick<
  AttachOptionTexts,
  | 'vlan'
  | 'mode'
  | 'ipvlanFlag'
  | 'sourceMac'
  | 'spoofCheck'
  | 'vlanMode'
  | 'trunks'
  | 'vlanFiltering'
  | keyof OvsOptionTexts
>;

/** A network as named on the command line: a bare name stands for whatever has this name on the host. */
export interface NamedNetwork {
  readonly kind: Network['kind'] | undefined;
  readonly name: string;
}

const kinds = ['bridge', 'ovs', 'macvlan', 'ipvlan', 'phys', 'sriov', 'ipoib', 'dummy'] as const;

/** `bridge:br0`, `ovs:ovs0`, `macvlan:eth0`, `dummy`, or just `br0`. @throws PipewrightError BAD_ARGUMENT */
export function parseNetworkName(text: string): NamedNetwork {
  if (text === 'dummy') return { kind: 'dummy', name: '' };
  const at = text.indexOf(':');
  const kind = at < 0 ? undefined : kinds.find((known) => known === text.slice(0, at));
  if (at >= 0 && !kind) throw bad('--network', text, `the kind is one of ${kinds.join(', ')}`);
  const name = text.slice(at + 1);
  if (kind === 'dummy') {
    if (name !== '') throw bad('--network', text, 'a dummy network has no name');
    return { kind, name };
  }
  const why = checkIfname(name);
  if (why !== undefined) throw bad('--network', text, `the name ${why}`);
  return { kind, name };
}

/**
 * The network that is meant, given what the name stands for on this host.
 * @param type what the link of this name is; undefined when there is none
 */
export function decideNetwork(
  { kind, name }: NamedNetwork,
  type: NetworkType | undefined,
  options: NetworkOptions,
): Network {
  const network = networkOf(kind ?? guessKind(name, type), name, options);
  if (network.kind !== 'ovs') refuseOvsOptions(network.kind, options);
  const hasModes = network.kind === 'macvlan' || network.kind === 'ipvlan' || network.kind === 'ovs';
  if (!hasModes && options.mode !== undefined) {
    throw bad('--mode', options.mode, `a network of kind ${network.kind} has no modes`);
  }
  if (options.policing !== undefined && options.mode === 'internal')
    throw bad('--policing', options.policing, 'an internal port cannot be policed');
  if (network.kind !== 'ipvlan' && options.ipvlanFlag !== undefined)
    throw bad('--ipvlan-flag', options.ipvlanFlag, `a network of kind ${network.kind} has no flags`);
  if (options.vlanMode !== undefined && (network.kind !== 'ovs' || network.vid === undefined))
    throw bad('--vlan-mode', options.vlanMode, 'only a port of Open vSwitch with a --vlan has one');
  if (network.kind !== 'sriov' && options.spoofCheck !== undefined)
    throw bad('--spoof-check', options.spoofCheck, `a network of kind ${network.kind} has no such setting`);
  if (network.kind !== 'macvlan' && options.sourceMac !== undefined)
    throw bad(
      '--source-mac',
      options.sourceMac.join(','),
      `a network of kind ${network.kind} has no such setting`,
    );
  if (network.kind !== 'bridge') {
    const why = `a network of kind ${network.kind} has no such setting`;
    if (options.trunks !== undefined && network.kind !== 'ovs')
      throw bad('--trunks', options.trunks.join(','), why);
    if (options.vlanFiltering) throw bad('--vlan-filtering', name, why);
  }
  const expected = expectedType[network.kind];
  if (type !== undefined && expected !== undefined && !expected.includes(type)) {
    throw new PipewrightError('NETWORK_UNKNOWN', {
      op: 'attach',
      subject: name,
      detail: `it is of type ${type}, and a network of kind ${network.kind} needs one of type ${expected.join(' or ')}`,
    });
  }
  return network;
}

function refuseOvsOptions(kind: Network['kind'], { mirror, policing }: NetworkOptions): void {
  const why = `a network of kind ${kind} has no such setting`;
  if (mirror !== undefined) throw bad('--mirror', mirror.join(','), why);
  if (policing !== undefined) throw bad('--policing', policing, why);
}

/** What a network of each kind is made on. */
const expectedType: { readonly [K in Network['kind']]: readonly NetworkType[] | undefined } = {
  bridge: ['bridge'],
  ovs: ['ovs'],
  // A macvlan on a bridge or an Open vSwitch port is unusual, and works.
  macvlan: ['nic', 'bridge', 'ovs'],
  ipvlan: ['nic', 'bridge', 'ovs'],
  phys: ['nic', 'ipoib'],
  sriov: ['nic'],
  ipoib: ['ipoib'],
  dummy: undefined,
};

function guessKind(name: string, type: NetworkType | undefined): Network['kind'] {
  if (type !== undefined) return type === 'nic' ? 'macvlan' : type;
  if (name.startsWith('br')) return 'bridge';
  if (name.startsWith('ovs')) return 'ovs';
  throw new PipewrightError('NETWORK_UNKNOWN', {
    op: 'attach',
    subject: name,
    detail: 'there is no link of this name on the host',
    hint: `to have it made, say what it is: --network bridge:${name} or --network ovs:${name}`,
  });
}

function networkOf(
  kind: Network['kind'],
  name: string,
  { vlan, mode, trunks, vlanFiltering, ipvlanFlag, sourceMac, spoofCheck, vlanMode }: NetworkOptions,
): Network {
  const vid = vlan === undefined || kind === 'ipoib' ? {} : { vid: parseVid(vlan) };
  switch (kind) {
    case 'dummy':
      if (vlan !== undefined) throw bad('--vlan', vlan, 'a network of kind dummy has no VLANs');
      return { kind };
    case 'bridge':
      return {
        kind,
        name,
        ...vid,
        ...(trunks !== undefined && { trunks: parseTrunks(trunks, vid.vid) }),
        ...(vlanFiltering && { vlanFiltering: true }),
      };
    case 'ovs':
      return {
        kind,
        name,
        ...(oneOf('--mode', ['veth', 'internal'], mode, 'veth') === 'internal' && { internal: true }),
        ...ovsVlansOf({
          ...vid,
          ...(trunks !== undefined && { trunks: parseTrunks(trunks, vid.vid) }),
          ...(vlanMode !== undefined && {
            vlanMode: oneOf('--vlan-mode', ovsVlanModes, vlanMode, 'native-untagged'),
          }),
        }),
      };
    case 'macvlan':
      return {
        kind,
        uplink: name,
        mode: oneOf('--mode', macvlanModes, mode, 'bridge'),
        ...(sourceMac !== undefined && { sourceMacs: parseSourceMacs(sourceMac, mode) }),
        ...vid,
      };
    case 'ipvlan':
      return {
        kind,
        uplink: name,
        mode: oneOf('--mode', ipvlanModes, mode, 'l2'),
        ...(ipvlanFlag !== undefined && { flag: oneOf('--ipvlan-flag', ipvlanFlags, ipvlanFlag, 'bridge') }),
        ...vid,
      };
    case 'phys':
      return { kind, uplink: name, ...vid };
    case 'sriov':
      return { kind, uplink: name, vf: { ...vid, ...parseSpoofCheck(spoofCheck) } };
    case 'ipoib':
      return { kind, uplink: name, ...(vlan === undefined ? {} : { pkey: parsePkey(vlan) }) };
  }
}

function oneOf<T extends string>(
  option: string,
  known: readonly T[],
  text: string | undefined,
  otherwise: T,
): T {
  if (text === undefined) return otherwise;
  const found = known.find((mode) => mode === text);
  if (!found) throw bad(option, text, `the ${option.replace(/^.*-/, '')} is one of ${known.join(', ')}`);
  return found;
}

function parseSpoofCheck(text: string | undefined): { spoofCheck?: boolean } {
  return text === undefined
    ? {}
    : { spoofCheck: oneOf('--spoof-check', ['on', 'off'], text, 'off') === 'on' };
}

function parseSourceMacs(texts: readonly string[], mode: string | undefined): string[] {
  if (mode !== 'source') throw bad('--source-mac', texts.join(','), 'only the mode source looks at them');
  const macs = texts.flatMap((text) => text.split(',')).map((text) => parseMacText('--source-mac', text));
  return [...new Set(macs)].sort();
}

function parseVid(text: string): number {
  const why = checkVid(text);
  if (why !== undefined) throw bad('--vlan', text, `it ${why}`);
  return Number(text);
}

/** `100,200-299`, several by repeating. */
function parseTrunks(texts: readonly string[], vid: number | undefined): number[] {
  const vids = texts.flatMap((text) =>
    text.split(',').flatMap((part) => {
      const range = parseVids(part);
      if (range === undefined)
        throw bad('--trunks', text, 'VLAN ids are as 100,200-299, each from 1 to 4094');
      return range;
    }),
  );
  if (vid !== undefined && vids.includes(vid))
    throw bad('--trunks', texts.join(','), `${vid} is the VLAN that goes without a tag`);
  return [...new Set(vids)].sort((a, b) => a - b);
}

function parsePkey(text: string): number {
  const why = checkPkey(text);
  if (why !== undefined) throw bad('--vlan', text, `it ${why}`);
  return Number.parseInt(text, 16);
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
