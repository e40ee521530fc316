/** The address families, and the fixed header that each kind of rtnetlink message begins with. */
import type { Family } from '../../model/address.ts';

/** AF_INET, AF_INET6. */
export const afOf = { 4: 2, 6: 10 } as const;
export const AF_BRIDGE = 7;

/** The family of an AF_INET or AF_INET6; undefined for any other (MPLS, multicast routing, ...). */
export function familyOfAf(af: number): Family | undefined {
  return af === afOf[4] ? 4 : af === afOf[6] ? 6 : undefined;
}

/** A header and the attributes behind it. */
export function message(header: Buffer, attributes: Buffer): Buffer {
  return Buffer.concat([header, attributes]);
}
