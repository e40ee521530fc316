/** What networks and attachments have in common in a topology file, see schema.ts. */
import * as z from 'zod';
import * as v from './values.ts';

/** An object that takes no other keys: they are what the message of such an issue lists, see issues.ts. */
export function fields<S extends z.core.$ZodShape>(shape: S) {
  return z.strictObject(shape, {
    error: ({ code }) => (code === 'unrecognized_keys' ? Object.keys(shape).join(' ') : undefined),
  });
}

/** `vid`, of frames with a tag. */
export const vlan = v.whole(1, 4094).meta({ title: 'VLAN id' });
/** VLANs and ranges of them, as a list or one. */
export const trunks = v
  .oneOrMore(v.vids.meta({ title: 'VLAN ids', examples: [100, '200-299'] }))
  .transform((lists) => lists.flat())
  .optional();
/** Bytes; IPv4's least (RFC 791) to the most of a link. */
export const mtu = v.whole(68, 65535, 'bytes');

/** Can be said for each host as well, `uplink: { a: eth0, b: enp3s0 }`; hosts.ts picks the value of one. */
export const perHost = { perHost: true } as const;

/** Of what is on some hosts only. */
export const host = v
  .oneOrMore(v.hostName.meta({ title: 'host name', examples: ['a'] }))
  .optional()
  .meta({ description: 'Only on this host, or these, of those under `hosts`.' });

/** Whether the interface is one end of a pair, or a port of Open vSwitch itself. */
export const ovsMode = z.enum(['veth', 'internal']);
