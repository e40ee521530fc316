/** What a user can say to DHCP servers, of either family: in a topology file under `dhcp`, on the command line as options. */
import * as z from 'zod';
import type { Dhcp6Spec, DhcpSpec } from '../../model/lease.ts';
import { printable } from '../names.ts';
import { fields } from './schema-parts.ts';
import { ipOfFamily, not, oneOrMore, type Refused, textAs, whole } from './values.ts';

/** Bytes as colon-separated hexadecimal. */
const hexBytes = /^[0-9a-f]{2}(:[0-9a-f]{2})*$/i;

/** Content of a DHCP option: bytes, or text; as hexadecimal. @param most bytes */
function bytesOf(text: string, most: number): string | Refused {
  const bytes = hexBytes.test(text) ? Buffer.from(text.replaceAll(':', ''), 'hex') : Buffer.from(text);
  return bytes.length === 0 || bytes.length > most
    ? not(`is not 1 to ${most} bytes, as in 0a:00:00:01, or text`)
    : bytes.toString('hex');
}

/** Option 61: text is of type 0, RFC 2132 section 9.14. At least two bytes. */
const clientId = textAs((text) => {
  const bytes = bytesOf(text, 254);
  if (typeof bytes !== 'string') return bytes;
  if (!hexBytes.test(text)) return `00${bytes}`;
  return bytes.length < 4 ? not('is too short: a type and at least one byte') : bytes;
});

/** RFC 8415 section 11.1: a type of two bytes, and up to 128 more. */
const duid = textAs((text) =>
  hexBytes.test(text) && text.length >= 8 && text.length < 3 * 130
    ? text.replaceAll(':', '').toLowerCase()
    : not('is not 3 to 130 bytes, as in 00:03:00:01:02:00:00:00:00:01'),
);

/** Text of an option. */
const optionText = textAs((text) =>
  /^[^\p{C}]+$/u.test(text) && Buffer.byteLength(text) <= 255
    ? text
    : not('is not printable text of at most 255 bytes'),
);

/** A name for the server to know a host by; empty for none. */
const hostName = textAs((text) =>
  text === '' || (/^[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9_])?$/.test(text) && text.length <= 63)
    ? text
    : not('is not a host name of at most 63 letters, digits, hyphens and dots'),
);

const optionBytes = (most: number) => textAs((text) => bytesOf(text, most));

/** The object `dhcp` of an attachment. */
export const dhcpFields = fields({
  hostname: hostName.optional().meta({
    title: 'host name',
    description: "Options 12 and 81, of DHCPv6 39. By default the container's name; empty for none.",
  }),
  clientId: clientId.optional().meta({
    title: 'bytes or text',
    description:
      'Option 61: bytes as in `01:02:00:00:00:00:01`, the type first; or any other text, which is sent with type 0. By ' +
      'default one made from the names of container and interface and from /etc/machine-id, so that a container keeps its ' +
      'address whatever its MAC address (RFC 4361).',
    examples: ['web-1', '01:02:00:00:00:00:01'],
  }),
  duid: duid.optional().meta({
    title: 'bytes',
    description: 'DHCPv6: who the container is, its type first. By default a DUID-UUID that is as stable.',
    examples: ['00:03:00:01:02:00:00:00:00:01'],
  }),
  vendorClass: optionText.optional().meta({ title: 'text', description: 'Option 60, of DHCPv6 16.' }),
  enterprise: whole(0, 0xffff_ffff).optional().meta({
    description: "DHCPv6: IANA's number of the enterprise that `vendorClass` is a word of. By default 0.",
  }),
  userClass: oneOrMore(optionText.meta({ title: 'text' }))
    .optional()
    .meta({ description: 'Option 77 (RFC 3004), of DHCPv6 15.' }),
  requestAddress: ipOfFamily(4)
    .optional()
    .meta({
      title: 'IPv4 address',
      description: 'Asked for (option 50) when no earlier address is remembered. The server decides.',
      examples: ['10.10.101.150'],
    }),
  requestAddress6: ipOfFamily(6)
    .optional()
    .meta({ title: 'IPv6 address', description: 'Likewise of DHCPv6.', examples: ['fd00:101::150'] }),
  options: z
    .record(z.string(), optionBytes(255))
    .optional()
    .meta({
      title: 'options',
      description:
        'Further options by number, each as bytes (`0a:00:00:01`) or text; they go before what is sent otherwise.',
      examples: [{ 43: '01:04:0a:00:00:01', 124: 'pipewright' }],
    }),
  options6: z
    .record(z.string(), optionBytes(1024))
    .optional()
    .meta({
      title: 'options',
      description: 'Likewise of DHCPv6, whose numbers are others.',
      examples: [{ 17: '00:00:11:8b:00:01:00:02:61:62' }],
    }),
}).meta({ id: 'dhcp', title: 'dhcp' });

/** As it was read. */
export type ReadDhcp = z.output<typeof dhcpFields>;

/** What is wrong with a part of it, and where that is: `['options', '53']`. */
interface DhcpFault {
  readonly path: readonly string[];
  readonly message: string;
}

/** Options that are the client's own business, or those of a relay (82) or of the encoding (0, 52, 255). */
const reserved = new Set([0, 1, 50, 51, 52, 53, 54, 55, 57, 82, 255]);
/** Likewise: identifiers, IAs and what is in them, status and time, relays, Reconfigure, authentication. */
const reserved6 = new Set([1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 12, 13, 14, 18, 19, 20, 25, 26, 32, 82, 83]);
const only4 = ['clientId', 'requestAddress', 'options'] as const;
const only6 = ['duid', 'enterprise', 'requestAddress6', 'options6'] as const;

/**
 * What it says to the servers of each family.
 * @param asked of which families servers are asked
 */
export function readDhcp(
  read: ReadDhcp,
  asked: { readonly v4: boolean; readonly v6: boolean },
): { readonly v4: DhcpSpec; readonly v6: Dhcp6Spec; readonly faults: readonly DhcpFault[] } {
  const { hostname, clientId, duid, vendorClass, enterprise, userClass, requestAddress, requestAddress6 } =
    read;
  const { options = {}, options6 = {} } = read;
  const both = {
    ...(hostname !== undefined && { hostName: hostname }),
    ...(vendorClass !== undefined && { vendorClass }),
    ...(userClass !== undefined && { userClasses: userClass }),
  };
  const stray = (keys: readonly (keyof ReadDhcp)[], how: string): DhcpFault[] =>
    keys
      .filter((key) => read[key] !== undefined)
      .map((key) => ({ path: [key], message: `${key} goes with ${how}, which is not asked for` }));
  return {
    v4: {
      ...both,
      ...(clientId !== undefined && { clientId }),
      ...(requestAddress !== undefined && { requestAddress }),
      ...(Object.keys(options).length > 0 && { options }),
    },
    v6: {
      ...both,
      ...(duid !== undefined && { duid }),
      ...(enterprise !== undefined && { enterprise }),
      ...(requestAddress6 !== undefined && { requestAddress: requestAddress6 }),
      ...(Object.keys(options6).length > 0 && { options: options6 }),
    },
    faults: [
      ...(asked.v4 ? [] : stray(only4, 'DHCPv4')),
      ...(asked.v6 ? [] : stray(only6, 'DHCPv6')),
      ...(enterprise !== undefined && vendorClass === undefined
        ? [{ path: ['enterprise'], message: 'enterprise goes with vendorClass' }]
        : []),
      ...optionFaults('options', options, 254, reserved),
      ...optionFaults('options6', options6, 65_535, reserved6),
    ],
  };
}

function optionFaults(
  key: string,
  options: Readonly<Record<string, string>>,
  most: number,
  taken: ReadonlySet<number>,
): DhcpFault[] {
  return Object.keys(options).flatMap((code) => {
    const isNumber = /^(\d|[1-9]\d{1,4})$/.test(code) && Number(code) <= most + 1;
    if (!isNumber)
      return [
        { path: [key, code], message: `"${printable(code)}" is not the number of an option, 1 to ${most}` },
      ];
    return taken.has(Number(code))
      ? [{ path: [key, code], message: `option ${code} cannot be set: it is a part of the protocol` }]
      : [];
  });
}
