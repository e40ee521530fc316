/** The command line of `pipework`: the original's grammar, with options in any order before the container's name. */
import type { Family } from '../model/address.ts';
import { isUnicastMac, macFromText, parseMac } from '../model/address.ts';
import { parseContainerRef } from './container-ref.ts';
import { checkIfname, checkPkey, checkVid, printable } from './names.ts';
import { type AddressWord, parseAddressWord } from './pipework-address.ts';
import { refusals, refuse } from './pipework-messages.ts';

/** What a command line asks for. */
type PipeworkCommand =
  | { readonly do: 'usage'; readonly exitCode: 0 | 1 }
  | { readonly do: 'version' }
  | { readonly do: 'wait'; readonly ifname: string }
  /** What `--stay` has left behind; nobody types this. */
  | { readonly do: 'keep-lease'; readonly containerKey: string; readonly ifname: string }
  | PipeworkAttach
  | PipeworkPassthrough;

/** Connect a container. What is absent was not said. */
export interface PipeworkAttach {
  readonly do: 'attach';
  /** As written. */
  readonly hostif: string;
  /** The MAC address of `mac:...`, in lower case. */
  readonly byMac?: string;
  readonly directPhys: boolean;
  /** Takes a VLAN on a Linux bridge, which the original refuses. */
  readonly bridgeVlan?: true;
  readonly once: boolean;
  /** A process is left that renews the lease. */
  readonly stay: boolean;
  /** False with `--no-firewall`. */
  readonly firewall: boolean;
  readonly guest: string;
  /** By default eth1, on IPoIB ib0. */
  readonly ifname?: string;
  readonly hostIfname?: string;
  readonly address: AddressWord;
  readonly mac?: string;
  /** The text after `@`: for {@link parseVid}, or on IPoIB for {@link parsePkey}. */
  readonly vlanText?: string;
}

/** Run `ip route`, `ip rule` or `tc` in the container: `program` with `args`. */
export interface PipeworkPassthrough {
  readonly do: 'passthrough';
  readonly program: 'ip' | 'tc';
  readonly args: readonly string[];
  readonly guest: string;
  readonly hostif: string;
}

/** Facts of the host that decide how a line reads. */
interface HostFacts {
  /** Whether the caller's network namespace has a link of this name; never asked for what cannot be a link's name. */
  linkExists(name: string): boolean;
}

/** What the name of a host interface that does not exist stands for. */
type NewHostif = 'bridge' | 'ovs' | 'route' | 'rule' | 'tc' | 'dummy';

const hostifPrefixes: readonly (readonly [prefix: string, NewHostif])[] = [
  ['br', 'bridge'],
  ['ovs', 'ovs'],
  ['route', 'route'],
  ['rule', 'rule'],
  ['tc', 'tc'],
  ['dummy', 'dummy'],
];

/** What `hostif`, no name of an existing link, asks for, by its first letters. @throws PipeworkRefusal */
export function classifyHostif(hostif: string): NewHostif {
  const found = hostifPrefixes.find(([prefix]) => hostif.startsWith(prefix));
  if (found === undefined) throw refusals.unknownHostif(hostif);
  return found[1];
}

/** A VLAN id. @throws PipeworkRefusal */
export function parseVid(text: string): number {
  const why = checkVid(text);
  if (why !== undefined) throw refuse(`"${printable(text)}" ${why}.`);
  return Number(text);
}

/** An InfiniBand partition key, hexadecimal as the original has it. @throws PipeworkRefusal */
export function parsePkey(text: string): number {
  const why = checkPkey(text);
  if (why !== undefined) throw refuse(`"${printable(text)}" ${why}.`);
  return Number.parseInt(text, 16);
}

/**
 * Reads a command line (without the program's name). The environment has no say.
 * @throws PipeworkRefusal, and PipewrightError BAD_ARGUMENT for a bad name of a container
 */
export function parsePipework(argv: readonly string[], host: HostFacts): PipeworkCommand {
  const [first, containerKey, keptIfname] = argv;
  if (first === '--keep-lease' && containerKey !== undefined && keptIfname !== undefined)
    return { do: 'keep-lease', containerKey, ifname: keptIfname };
  const { options, words } = scan(argv);
  if (options.has('--help')) return { do: 'usage', exitCode: 0 };
  if (options.has('--version')) return { do: 'version' };
  // An empty name is the default, for scripts whose variable is not set.
  const ifname = options.get('-i') || undefined;
  if (options.has('--wait')) {
    refuseIfname(ifname ?? 'eth1');
    return { do: 'wait', ifname: ifname ?? 'eth1' };
  }
  const [hostif = '', guest = '', address = '', macAndVlan = ''] = words;
  if (address === '') return { do: 'usage', exitCode: 1 };

  const byMac = hostif.startsWith('mac:') ? hostif.slice('mac:'.length) : undefined;
  const exists = checkIfname(hostif) === undefined && host.linkExists(hostif);
  const kind = byMac !== undefined || exists ? undefined : classifyHostif(hostif);
  if (kind === 'route' || kind === 'rule' || kind === 'tc') {
    return parsePassthrough(kind, { hostif, guest, rest: words.slice(2) });
  }
  if (byMac === undefined && !exists) refuseIfname(hostif);
  parseContainerRef(guest);
  const [macText = '', vlanText = ''] = macAndVlan.split('@');
  const bridgeVlan = options.has('--bridge-vlan');
  refuseVlan(vlanText, kind, bridgeVlan);
  const hostIfname = options.get('-l') || undefined;
  for (const name of [ifname, hostIfname]) if (name !== undefined) refuseIfname(name);
  const mac = macText === '' ? undefined : parseMacWord(macText);
  return {
    do: 'attach',
    hostif,
    ...(byMac !== undefined && { byMac: parseByMac(byMac) }),
    directPhys: options.has('--direct-phys'),
    ...(bridgeVlan && { bridgeVlan }),
    once: options.has('--once'),
    stay: options.has('--stay'),
    firewall: !options.has('--no-firewall'),
    guest,
    ...(ifname !== undefined && { ifname }),
    ...(hostIfname !== undefined && { hostIfname }),
    address: parseAddressWord(address, parseFamily(options.get('-a'))),
    ...(mac !== undefined && { mac }),
    ...(vlanText !== '' && { vlanText }),
  };
}

const flags = [
  '--bridge-vlan',
  '--direct-phys',
  '--wait',
  '--no-firewall',
  '--once',
  '--stay',
  '--help',
  '--version',
];
const valued = ['-i', '-l', '-a'];

/** Options up to the container's name, the second word; what follows it is never an option. */
function scan(argv: readonly string[]): { options: Map<string, string>; words: string[] } {
  const options = new Map<string, string>();
  const words: string[] = [];
  for (let at = 0; at < argv.length; at++) {
    const arg = argv[at] ?? '';
    const name = arg === '-h' ? '--help' : arg;
    if (words.length >= 2) words.push(arg);
    else if (!name.startsWith('-')) words.push(arg);
    else if (flags.includes(name)) options.set(name, '');
    else if (!valued.includes(name)) throw refuse(`Unknown option "${printable(arg)}"; see pipework --help.`);
    else {
      const value = argv[++at];
      if (value === undefined) throw refuse(`Option ${name} needs a value; see pipework --help.`);
      if (options.has(name)) throw refuse(`Option ${name} is given twice.`);
      options.set(name, value);
    }
  }
  return { options, words };
}

function parsePassthrough(
  kind: 'route' | 'rule' | 'tc',
  { hostif, guest, rest }: { hostif: string; guest: string; rest: readonly string[] },
): PipeworkPassthrough {
  parseContainerRef(guest);
  const bad = rest.find((word) => word.includes('\0'));
  if (bad !== undefined) throw refuse(`"${printable(bad)}" contains a NUL.`);
  const [program, args] = kind === 'tc' ? (['tc', rest] as const) : (['ip', [kind, ...rest]] as const);
  return { do: 'passthrough', program, args, guest, hostif };
}

function refuseIfname(name: string): void {
  const why = checkIfname(name);
  if (why !== undefined) throw refuse(`The interface name "${printable(name)}" ${why}.`);
}

/** Refuses what cannot be right on any kind of network; on an existing link it may yet be a VLAN id or a partition key. */
function refuseVlan(text: string, kind: NewHostif | undefined, bridgeVlan: boolean): void {
  if (text === '') return;
  if (kind === 'bridge' && !bridgeVlan) throw refusals.vlanOnBridge();
  if (kind !== undefined || checkPkey(text) !== undefined) parseVid(text);
}

function parseFamily(text: string | undefined): Family | undefined {
  if (text === undefined) return undefined;
  if (text !== '4' && text !== '6')
    throw refuse(`"${printable(text)}" is not an address family: -a takes 4 or 6.`);
  return text === '4' ? 4 : 6;
}

function parseByMac(text: string): string {
  const mac = parseMac(text);
  if (mac === undefined || !isUnicastMac(mac)) throw refusals.noSuchMac(text);
  return mac;
}

function parseMacWord(text: string): string {
  if (text.startsWith('U:')) return macFromText(text.slice('U:'.length));
  const mac = parseMac(text);
  if (mac === undefined) throw refuse(`"${printable(text)}" is not a MAC address, as in 02:00:00:00:00:01.`);
  if (!isUnicastMac(mac))
    throw refuse(`${mac} cannot be an interface's MAC address: it is multicast or zero.`);
  return mac;
}
