/** The options of the word `dhcp:OPTIONS`: those of udhcpc, for which this word once stood, as far as they say something. */
import { familyOf } from '../model/address.ts';
import type { DhcpSpec } from '../model/lease.ts';
import { printable } from './names.ts';
import { refuse } from './pipework-messages.ts';

/** About how long and how loudly udhcpc works: here that is the agent's business. */
const ignored = new Set(['-f', '-q', '-n', '-b', '-R', '-S', '-v', '-o', '-B']);
const ignoredWithValue = new Set(['-t', '-T', '-A', '-O']);

/** @throws PipeworkRefusal for an option that would have an effect which it cannot have */
export function dhcpSpecOf(options: readonly string[]): DhcpSpec {
  let spec: DhcpSpec = {};
  for (let at = 0; at < options.length; at++) {
    const option = options[at] ?? '';
    if (ignored.has(option)) continue;
    const value = options[++at];
    if (value === undefined || !option.startsWith('-')) throw unknown(option);
    if (ignoredWithValue.has(option)) continue;
    spec = { ...spec, ...valued(option, value) };
  }
  return spec;
}

function valued(option: string, value: string): DhcpSpec {
  switch (option) {
    case '-r':
      if (familyOf(value) === 4) return { requestAddress: value };
      throw refuse(`"${printable(value)}" is not an IPv4 address to ask for.`);
    case '-F':
    case '-H':
      return { hostName: hostNameIn(value) };
    case '-V':
      return { vendorClass: value };
    case '-x': {
      const [, name = '', text = ''] = /^(hostname|vendor|clientid|0x3d):(.+)$/.exec(value) ?? [];
      if (name === 'hostname') return { hostName: hostNameIn(text) };
      if (name === 'vendor') return { vendorClass: text };
      if (name !== '' && /^([0-9a-f]{2}){2,254}$/i.test(text)) return { clientId: text.toLowerCase() };
      throw unknown(`${option} ${value}`);
    }
    default:
      throw unknown(option);
  }
}

function hostNameIn(text: string): string {
  if (/^[A-Za-z0-9_]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9_])?$/.test(text)) return text;
  throw refuse(`"${printable(text)}" is not a host name.`);
}

function unknown(option: string) {
  const known = '-r ADDRESS, -F NAME, -V VENDOR, -x hostname:NAME and -x clientid:HEX';
  return refuse(`dhcp takes ${known}, not "${printable(option)}"; other options need udhcpc:OPTIONS.`);
}
