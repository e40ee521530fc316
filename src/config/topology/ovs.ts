/** What only attachments on Open vSwitch have. */
import type { AttachmentSpec, NetworkSpec } from '../../model/topology.ts';
import { mirrorOf, policingOf } from '../ovs-options.ts';
import type { Check, ReadAttachment } from './attachment.ts';
import { keyPlaceOf } from './document.ts';

/** As the model has them. */
export function ovsPartsOf({
  mode,
  mirror,
  policing,
}: ReadAttachment): Pick<AttachmentSpec, 'internal' | 'mirror' | 'policing'> {
  return {
    ...(mode !== undefined && { internal: mode === 'internal' }),
    ...(mirror !== undefined && { mirror: mirrorOf(mirrorFields(mirror)) }),
    ...(policing !== undefined && { policing: policingOf(policing.rate, policing.burst) }),
  };
}

/** In the long form; all ports are none by name. */
function mirrorFields(mirror: NonNullable<ReadAttachment['mirror']>) {
  const fields = typeof mirror === 'string' || Array.isArray(mirror) ? { of: mirror } : mirror;
  return { ...fields, of: fields.of === 'all' ? undefined : fields.of };
}

/** What goes with Open vSwitch only, and what does not go together there. */
export function checkOvs({ read, said, complaints }: Check, network: NetworkSpec): void {
  const { mode, mirror, policing } = read;
  const complain = (key: string, message: string, hint?: string): void =>
    complaints.add(keyPlaceOf(said, key), message, hint);
  if (network.kind !== 'ovs') {
    for (const [key, value] of Object.entries({ mode, mirror, policing })) {
      if (value !== undefined)
        complain(key, `${key}: the network ${network.name} is of kind ${network.kind}, and only ovs has it`);
    }
    return;
  }
  const isInternal = mode === undefined ? network.internal === true : mode === 'internal';
  if (policing !== undefined && isInternal)
    complain('policing', 'policing: an internal port cannot be policed', 'use rate: { out: ... }');
  if (mirror === undefined) return;
  const { of, direction } = mirrorOf(mirrorFields(mirror));
  if (direction !== undefined && of === undefined)
    complain('mirror', `mirror: direction ${direction} needs a list of attachments: of all it is both`);
  const says = {
    addresses: read.addresses.length > 0,
    ipv6: read.ipv6 !== undefined,
    gateway: read.gateway !== undefined && read.gateway !== 'none',
    vlans: read.vlans.some(({ addresses }) => addresses.length > 0),
  };
  for (const [key, isSaid] of Object.entries(says)) {
    if (isSaid)
      complain(key, `${key}: with mirror the interface gets copies and nothing else`, 'leave it out');
  }
}
