/** The options of `pipewright attach`, read into an attachment: every value is checked here, once. */
import { PipewrightError } from '../errors.ts';
import {
  everything,
  isUnicastMac,
  macFromText,
  parseCidr,
  parseIp,
  parseMac,
  whyNoHost,
} from '../model/address.ts';
import {
  type AddrSpec,
  type Attachment,
  type ContainerRef,
  ipvlanModes,
  macvlanModes,
  type Network,
  type RouteSpec,
} from '../model/attachment.ts';
import type { NetworkType } from '../model/observed.ts';
import { checkIfname, checkPkey, checkVid, printable } from './names.ts';
import { parseMetric, parseTable, splitRoute, whyNoDefault } from './route-words.ts';

/** As typed; what is absent was not. */
export interface AttachOptionTexts {
  readonly network: string;
  readonly ifname?: string | undefined;
  readonly hostIfname?: string | undefined;
  readonly address?: readonly string[] | undefined;
  readonly gateway?: readonly string[] | undefined;
  readonly route?: readonly string[] | undefined;
  readonly mac?: string | undefined;
  readonly vlan?: string | undefined;
  readonly mtu?: string | undefined;
  readonly mode?: string | undefined;
  readonly dad?: boolean | undefined;
}

/** A network as named on the command line: a bare name stands for whatever has this name on the host. */
export interface NamedNetwork {
  readonly kind: Network['kind'] | undefined;
  readonly name: string;
}

function bad(option: string, text: string, why: string): PipewrightError {
  return new PipewrightError('BAD_ARGUMENT', { op: option, subject: `"${printable(text)}"`, detail: why });
}

const kinds = ['bridge', 'ovs', 'macvlan', 'ipvlan', 'phys', 'ipoib', 'dummy'] as const;

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
  options: Pick<AttachOptionTexts, 'vlan' | 'mode'>,
): Network {
  const network = networkOf(kind ?? guessKind(name, type), name, options);
  if (network.kind !== 'macvlan' && network.kind !== 'ipvlan' && options.mode !== undefined) {
    throw bad('--mode', options.mode, `a network of kind ${network.kind} has no modes`);
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

/** What a network of each kind is made on. */
const expectedType: { readonly [K in Network['kind']]: readonly NetworkType[] | undefined } = {
  bridge: ['bridge'],
  ovs: ['ovs'],
  // A macvlan on a bridge or an Open vSwitch port is unusual, and works.
  macvlan: ['nic', 'bridge', 'ovs'],
  ipvlan: ['nic', 'bridge', 'ovs'],
  phys: ['nic', 'ipoib'],
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
  { vlan, mode }: Pick<AttachOptionTexts, 'vlan' | 'mode'>,
): Network {
  const vid = vlan === undefined || kind === 'ipoib' ? {} : { vid: parseVid(vlan) };
  switch (kind) {
    case 'bridge':
    case 'dummy':
      if (vlan !== undefined)
        throw bad('--vlan', vlan, `a network of kind ${kind} has no VLANs here; use ovs, or a NIC`);
      return kind === 'dummy' ? { kind } : { kind, name };
    case 'ovs':
      return { kind, name, ...vid };
    case 'macvlan':
      return { kind, uplink: name, mode: oneOf(macvlanModes, mode, 'bridge'), ...vid };
    case 'ipvlan':
      return { kind, uplink: name, mode: oneOf(ipvlanModes, mode, 'l2'), ...vid };
    case 'phys':
      return { kind, uplink: name, ...vid };
    case 'ipoib':
      return { kind, uplink: name, ...(vlan === undefined ? {} : { pkey: parsePkey(vlan) }) };
  }
}

function oneOf<T extends string>(known: readonly T[], text: string | undefined, otherwise: T): T {
  if (text === undefined) return otherwise;
  const found = known.find((mode) => mode === text);
  if (!found) throw bad('--mode', text, `the mode is one of ${known.join(', ')}`);
  return found;
}

function parseVid(text: string): number {
  const why = checkVid(text);
  if (why !== undefined) throw bad('--vlan', text, `it ${why}`);
  return Number(text);
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
  return {
    container,
    network,
    ifname,
    addrs: parseAddresses(options.address ?? [], options.gateway ?? []),
    routes: (options.route ?? []).map(parseRoute),
    ...(hostIfname === undefined ? {} : { hostIfname }),
    ...(mac === undefined ? {} : { mac: parseMacOption(mac) }),
    ...(mtu === undefined ? {} : { mtu: parseMtu(mtu) }),
    ...(dad ? { dad } : {}),
  };
}

function parseAddresses(addresses: readonly string[], gateways: readonly string[]): AddrSpec[] {
  const specs = addresses.flatMap((text) => text.split(',')).map(parseAddress);
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

function parseAddress(text: string): AddrSpec {
  const [address = '', gateway, ...rest] = text.split('@');
  const cidr = parseCidr(address);
  if (rest.length > 0 || !cidr) {
    throw bad(
      '--address',
      text,
      'an address has a prefix length, and may have a gateway: 10.0.0.2/24@10.0.0.1',
    );
  }
  const why = whyNoHost(cidr);
  if (why !== undefined) throw bad('--address', text, `no interface can have this address: ${why}`);
  return gateway === undefined ? { cidr } : { cidr, gateway: parseGateway('--address', gateway) };
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

function parseMacOption(text: string): string {
  if (text.startsWith('U:')) return macFromText(text.slice(2));
  const mac = parseMac(text);
  if (!mac || !isUnicastMac(mac))
    throw bad('--mac', text, 'a MAC address is as 02:00:00:00:00:01, and not multicast; or U:TEXT');
  return mac;
}

/** Bytes: 68 is what IPv4 needs at the least (RFC 791), 65535 the most of an IP packet. */
function parseMtu(text: string): number {
  const mtu = /^\d{2,5}$/.test(text) ? Number(text) : 0;
  if (mtu < 68 || mtu > 65535) throw bad('--mtu', text, 'an MTU is a number of bytes, 68 to 65535');
  return mtu;
}
