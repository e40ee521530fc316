/** The address word of a `pipework` command: static addresses, or a DHCP client with its options. */

import { broadcastOf, type Cidr, type Family, parseCidr, parseIp, whyNoHost } from '../model/address.ts';
import type { AddrSpec } from '../model/attachment.ts';
import { printable } from './names.ts';
import { refusals, refuse } from './pipework-messages.ts';

/** How the interface gets its addresses. */
export type AddressWord =
  | {
      readonly how: 'static';
      /** Empty for `0/0`: no address. */
      readonly addrs: readonly AddrSpec[];
      /** As asked for with `-a`. */
      readonly family?: Family;
    }
  | { readonly how: 'dhcp'; readonly client: DhcpWord; readonly options: readonly string[] };

/** The DHCP words of the original; `dhcp` is our own client, the others are programs, with `-f` those that stay. */
const dhcpClients = ['dhcp', 'udhcpc', 'udhcpc-f', 'dhclient', 'dhclient-f', 'dhcpcd'] as const;
type DhcpWord = (typeof dhcpClients)[number];
/** A program of the host. */
export type DhcpClient = Exclude<DhcpWord, 'dhcp'>;

/** Address words that ask for no address. `0/0` is of no family, so any gateway may follow it. */
const noAddress: ReadonlyMap<string, Family | undefined> = new Map([
  ['0/0', undefined],
  ['0.0.0.0/0', 4],
  ['::/0', 6],
]);

/** The address word. `family` is what `-a` asked for. @throws PipeworkRefusal */
export function parseAddressWord(word: string, family: Family | undefined): AddressWord {
  const colon = word.indexOf(':');
  const head = colon < 0 ? word : word.slice(0, colon);
  const client = dhcpClients.find((name) => name === head);
  if (client === undefined) {
    return { how: 'static', addrs: parseStatic(word, family), ...(family && { family }) };
  }
  if (word.includes('\0')) throw refuse(`The options of ${client} contain a NUL.`);
  const rest = colon < 0 ? '' : word.slice(colon + 1);
  return { how: 'dhcp', client, options: rest.split(/\s+/).filter(Boolean) };
}

function parseStatic(word: string, family: Family | undefined): AddrSpec[] {
  if (!word.includes('/')) throw refusals.noNetmask(word);
  const specs = word.split(',').map((element) => parseElement(element, family));
  if (specs.length > 1 && specs.some((spec) => spec.cidr === undefined)) {
    throw refuse(`"${printable(word)}" asks for no address and for an address.`);
  }
  const ips = specs.flatMap((spec) => spec.cidr?.ip ?? []);
  const twice = ips.find((ip, i) => ips.indexOf(ip) !== i);
  if (twice !== undefined) throw refuse(`Address ${twice} is given twice.`);
  const gateways = specs.flatMap((spec) => spec.gateway ?? []);
  const second = gateways.find((gateway, i) => gateways.findIndex((g) => g.family === gateway.family) !== i);
  if (second !== undefined) {
    throw refuse(
      `Gateway ${second.ip} is a second one for IPv${second.family}; there can be one of each family.`,
    );
  }
  const own = gateways.find((gateway) => ips.includes(gateway.ip));
  if (own !== undefined) throw refuse(`Gateway ${own.ip} is the interface's own address.`);
  return specs.filter((spec) => spec.cidr !== undefined || spec.gateway !== undefined);
}

/** `10.0.0.2/24`, with its gateway up to a second `@`, as the original cuts it. An empty gateway is none. */
function parseElement(element: string, family: Family | undefined): AddrSpec {
  if (!element.includes('/') && element !== '') throw refusals.noNetmask(element);
  const [address = '', via = ''] = element.split('@');
  const cidr = noAddress.has(address) ? undefined : parseAddress(address);
  const own = cidr?.family ?? noAddress.get(address);
  if (family !== undefined && own !== undefined && own !== family) {
    throw refuse(`Address ${printable(address)} is not of the family that -a ${family} asks for.`);
  }
  const gateway = via === '' ? undefined : parseGateway(via, cidr);
  if (gateway !== undefined && gateway.family !== (own ?? family ?? gateway.family)) {
    throw refuse(`Gateway ${gateway.ip} is of another family than ${printable(address)}.`);
  }
  return { ...(cidr && { cidr }), ...(gateway && { gateway }) };
}

function parseAddress(text: string): Cidr {
  // 024 is 20 to some programs and 24 to others.
  const cidr = /\/0\d/.test(text) ? undefined : parseCidr(text);
  if (cidr === undefined) {
    throw refuse(`"${printable(text)}" is not an IP address with its prefix length, as in 10.0.0.2/24.`);
  }
  // All others are left to the kernel, which takes even 127.0.0.2 and 240.0.0.1.
  const why = whyNoHost(cidr);
  if (why !== undefined)
    throw refuse(`${cidr.ip}/${cidr.prefixLen} cannot be an interface's address: ${why}.`);
  return cidr;
}

function parseGateway(text: string, cidr: Cidr | undefined): { family: Family; ip: string } {
  const gateway = parseIp(text);
  if (gateway === undefined) throw refuse(`"${printable(text)}" is not the IP address of a gateway.`);
  const why = whyNoHost(gateway);
  if (why !== undefined) throw refuse(`${gateway.ip} cannot be a gateway: ${why}.`);
  if (cidr?.family === 4 && cidr.prefixLen < 31 && gateway.ip === broadcastOf(cidr)) {
    throw refuse(
      `${gateway.ip} cannot be a gateway: it is the broadcast address of ${cidr.ip}/${cidr.prefixLen}.`,
    );
  }
  return gateway;
}
