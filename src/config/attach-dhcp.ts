/**
 * The options of `pipewright attach` about what servers and routers of the network give: the fields of a topology file,
 * by the same schema. Loaded only where one of them is given.
 */
import { PipewrightError } from '../errors.ts';
import {
  type Attachment,
  type Ipv6Spec,
  interfaceIds,
  ipv6Modes,
  type Network,
} from '../model/attachment.ts';
import { ipv6Sysctls, withStableSecret } from '../plan/ipv6.ts';
import { printable } from './names.ts';
import { dhcpFields, type ReadDhcp, readDhcp } from './topology/dhcp.ts';

/** As typed; what is absent was not. */
export interface DhcpOptionTexts {
  readonly dhcp?: boolean | undefined;
  readonly ipv6?: string | undefined;
  readonly interfaceId?: string | undefined;
  readonly dns?: string | undefined;
  readonly hostname?: string | undefined;
  readonly clientId?: string | undefined;
  readonly duid?: string | undefined;
  readonly vendorClass?: string | undefined;
  readonly enterprise?: string | undefined;
  readonly userClass?: readonly string[] | undefined;
  /** Of either family. */
  readonly requestAddress?: readonly string[] | undefined;
  /** `43=01:02`. */
  readonly dhcpOption?: readonly string[] | undefined;
  readonly dhcp6Option?: readonly string[] | undefined;
}

/** What belongs to them of an attachment. */
type Leased = Pick<Attachment, 'dhcp' | 'ipv6' | 'dns' | 'sysctls'>;

/** Options whose values are those of a field of the same name. */
const plain = ['hostname', 'clientId', 'duid', 'vendorClass', 'userClass'] as const;

const optionOf: Readonly<Record<string, string>> = {
  clientId: '--client-id',
  vendorClass: '--vendor-class',
  userClass: '--user-class',
  requestAddress: '--request-address',
  requestAddress6: '--request-address',
  options: '--dhcp-option',
  options6: '--dhcp6-option',
};

function bad(option: string, text: string, why: string, hint?: string): PipewrightError {
  const subject = `"${printable(text)}"`;
  return new PipewrightError('BAD_ARGUMENT', { op: option, subject, detail: why, hint });
}

/**
 * What they say of an attachment.
 * @param secretOf the secret that stable addresses are made from, see plan/ipv6.ts
 * @throws PipewrightError BAD_ARGUMENT
 */
export function parseDhcpOptions(
  texts: DhcpOptionTexts,
  { noGateway, secret }: { readonly noGateway: boolean; readonly secret: string },
): Leased {
  const mode = choice('--ipv6', ipv6Modes, texts.ipv6);
  const interfaceId = choice('--interface-id', interfaceIds, texts.interfaceId);
  if (interfaceId !== undefined && mode === undefined)
    throw bad('--interface-id', interfaceId, 'it goes with --ipv6');
  const asked = { v4: texts.dhcp ?? false, v6: mode === 'dhcp' || mode === 'auto' };
  const dns = choice('--dns', ['container'] as const, texts.dns);
  if (dns !== undefined && !asked.v4 && !asked.v6)
    throw bad('--dns', dns, 'name servers come with --dhcp, and with --ipv6 dhcp or auto');
  const { v4, v6 } = said(texts, asked);
  const ipv6: Ipv6Spec | undefined = mode && {
    mode,
    interfaceId: interfaceId ?? 'stable-privacy',
    ...(Object.keys(v6).length > 0 && { dhcp: v6 }),
  };
  return {
    ...(asked.v4 && { dhcp: { ...v4, ...(noGateway && { noGateway }) } }),
    ...(ipv6 && { ipv6, sysctls: withStableSecret(ipv6Sysctls(ipv6, noGateway), ipv6, secret) }),
    ...(dns && { dns }),
  };
}

function choice<T extends string>(
  option: string,
  known: readonly T[],
  text: string | undefined,
): T | undefined {
  const found = known.find((one) => one === text);
  if (text !== undefined && found === undefined) throw bad(option, text, `it is one of ${known.join(', ')}`);
  return found;
}

/** What is said to servers. */
function said(texts: DhcpOptionTexts, asked: { readonly v4: boolean; readonly v6: boolean }) {
  const written = {
    ...Object.fromEntries(plain.flatMap((key) => (texts[key] === undefined ? [] : [[key, texts[key]]]))),
    ...addresses(texts.requestAddress ?? []),
    ...numbered('options', '--dhcp-option', texts.dhcpOption),
    ...numbered('options6', '--dhcp6-option', texts.dhcp6Option),
    ...(texts.enterprise !== undefined && { enterprise: numberIn(texts.enterprise) }),
  };
  if (Object.keys(written).length > 0 && !asked.v4 && !asked.v6) {
    const [key = ''] = Object.keys(written);
    throw bad(
      nameOf(key),
      textOf(written, [key]),
      'no server is asked',
      'say --dhcp, or --ipv6 dhcp or auto',
    );
  }
  const parsed = dhcpFields.safeParse(written);
  if (!parsed.success) {
    const [issue] = parsed.error.issues;
    const path = (issue?.path ?? []).map(String);
    throw bad(
      nameOf(path[0] ?? ''),
      textOf(written, path),
      (issue?.message ?? '').replace(/^".*" (?=is )/s, ''),
    );
  }
  const read = readDhcp(parsed.data satisfies ReadDhcp, asked);
  const [fault] = read.faults;
  if (fault) throw bad(nameOf(fault.path[0] ?? ''), textOf(written, fault.path), fault.message);
  return read;
}

const nameOf = (key: string): string => optionOf[key] ?? `--${key}`;

/** What was typed, of a field or of a part of it. */
function textOf(written: object, path: readonly string[]): string {
  let value: unknown = written;
  for (const key of path) value = (value as Record<string, unknown> | undefined)?.[key];
  return typeof value === 'object' && value !== null ? Object.keys(value).join(' ') : String(value);
}

function addresses(texts: readonly string[]): Record<string, string> {
  const found: Record<string, string> = {};
  for (const text of texts.flatMap((one) => one.split(','))) {
    const key = text.includes(':') ? 'requestAddress6' : 'requestAddress';
    if (found[key] !== undefined) throw bad('--request-address', text, 'one of each address family');
    found[key] = text;
  }
  return found;
}

function numbered(
  key: string,
  option: string,
  texts: readonly string[] | undefined,
): Record<string, Record<string, string>> {
  if (texts === undefined) return {};
  const options: Record<string, string> = {};
  for (const text of texts) {
    const [, code = '', value = ''] = /^([^=]+)=(.+)$/s.exec(text) ?? [];
    if (code === '')
      throw bad(option, text, 'an option is NUMBER=BYTES or NUMBER=TEXT, as in 43=01:04:0a:00:00:01');
    if (options[code] !== undefined) throw bad(option, text, 'this option is given twice');
    options[code] = value;
  }
  return { [key]: options };
}

function numberIn(text: string): number {
  if (/^\d{1,10}$/.test(text)) return Number(text);
  throw bad('--enterprise', text, 'it is a number that IANA has given out');
}

/** @throws PipewrightError BAD_ARGUMENT where nobody on the network could answer */
export function checkReach({ dhcp, ipv6 }: Leased, network: Network): void {
  const { kind } = network;
  if (kind !== 'dummy' && (kind !== 'ipvlan' || network.mode === 'l2')) return;
  const what = `a network of kind ${kind}${kind === 'ipvlan' ? ` in mode ${network.mode}` : ''}`;
  if (dhcp) throw bad('--dhcp', kind, `no DHCP server can be reached on ${what}`);
  if (ipv6) throw bad('--ipv6', ipv6.mode, `no router can be heard on ${what}`);
}
