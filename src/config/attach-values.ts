/** Values of options of `pipewright attach` that stand for themselves. */
import { PipewrightError } from '../errors.ts';
import { isUnicastMac, macFromText, parseMac } from '../model/address.ts';
import { printable } from './names.ts';

/** What is wrong with the value of an option. */
export function bad(option: string, text: string, why: string): PipewrightError {
  return new PipewrightError('BAD_ARGUMENT', { op: option, subject: `"${printable(text)}"`, detail: why });
}

/** `02:...`, or `U:TEXT` for one that is made from the text. */
export function parseMacOption(text: string): string {
  return text.startsWith('U:') ? macFromText(text.slice(2)) : parseMacText('--mac', text);
}

/** @param option as it was typed @throws PipewrightError BAD_ARGUMENT */
export function parseMacText(option: string, text: string): string {
  const mac = parseMac(text);
  if (!mac || !isUnicastMac(mac))
    throw bad(option, text, 'a MAC address is as 02:00:00:00:00:01, and not multicast; or U:TEXT');
  return mac;
}

/** Bytes: 68 is what IPv4 needs at the least (RFC 791), 65535 the most of an IP packet. */
export function parseMtu(text: string): number {
  const mtu = /^\d{2,5}$/.test(text) ? Number(text) : 0;
  if (mtu < 68 || mtu > 65535) throw bad('--mtu', text, 'an MTU is a number of bytes, 68 to 65535');
  return mtu;
}
