/** What `pipework` says when it refuses: the original's own messages where it has one. */
import { printable } from './names.ts';

/** A refusal whose lines are printed as they are, without a prefix. */
export class PipeworkRefusal extends Error {
  override readonly name = 'PipeworkRefusal';
  readonly lines: readonly string[];
  readonly exitCode = 1;
  /** What to do instead, for whoever reads it on a terminal; a script finds the original's text and nothing else. */
  readonly hint: string | undefined;
  /** The original prints a few of its messages to its standard output. */
  readonly stream: 'stdout' | 'stderr';

  constructor(lines: readonly string[], stream: 'stdout' | 'stderr' = 'stderr', hint?: string) {
    super(lines.join('\n'));
    this.lines = lines;
    this.stream = stream;
    this.hint = hint;
  }
}

/** A message of our own, for what the original does not check. */
export function refuse(line: string): PipeworkRefusal {
  return new PipeworkRefusal([line]);
}

/** The messages of the original, word for word. */
export const refusals = {
  noNetmask: (address: string) =>
    new PipeworkRefusal([
      'The IP address should include a netmask.',
      `Maybe you meant ${printable(address)}/24 ?`,
    ]),
  noSuchMac: (mac: string) =>
    refuse(`Mac address ${printable(mac)} specified for interface but no host interface matched.`),
  unknownHostif: (hostif: string) => refuse(`I do not know how to setup interface ${printable(hostif)}.`),
  needOvs: () => refuse('Need OVS installed on the system to create an ovs bridge'),
  vlanOnBridge: () =>
    new PipeworkRefusal(
      ['VLAN configuration currently unsupported for Linux bridge.'],
      'stderr',
      'To have the bridge filter VLANs, give --bridge-vlan or set PIPEWORK_BRIDGE_VLAN=1.',
    ),
  macOnIpoib: () => refuse('MACADDR configuration unsupported for IPoIB interfaces.'),
  linkExistsAndIsUp: (ifname: string) => new PipeworkRefusal([`Link ${ifname} exists and is up`], 'stdout'),
  dockerMissing: (guest: string) =>
    refuse(`Container ${printable(guest)} not found, and Docker not installed.`),
  invalidPid: (pid = 0) => refuse(`Docker inspect returned invalid PID ${pid}`),
  ambiguousGuest: (guest: string) => refuse(`Found more than one container matching ${printable(guest)}.`),
  clientMissing: (client: string) => refuse(`You asked for DHCP client ${client}, but I can't find it.`),
} as const;
