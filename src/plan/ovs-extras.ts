/** What a port of Open vSwitch has besides VLANs: a mirror that leads to it, and what it drops. Pure. */
import { type Attachment, formatContainer, type PolicingSpec } from '../model/attachment.ts';
import type { Observed } from '../model/observed.ts';
import type { Operation, PortMirror, Step } from '../model/operation.ts';

const none: PolicingSpec = { rate: 0, burst: 0 };

/** What the port drops of what the container sends; asked for no more by a topology, it drops nothing. */
export function planPolicing(want: Attachment, seen: Observed, port: string): Step[] {
  const isDropped = want.rules !== undefined && seen.record?.want?.policing !== undefined;
  const asked = want.policing ?? (isDropped ? none : undefined);
  const present = (seen.host.ovsPort?.name === port ? seen.host.ovsPort.policing : undefined) ?? none;
  if (asked === undefined || text(asked) === text(present)) return [];
  const set = (policing: PolicingSpec): Operation => ({ do: 'ovs.policing.set', port, policing });
  return [{ op: set(asked), because: `policing: ${text(present)} -> ${text(asked)}`, undo: [set(present)] }];
}

const text = ({ rate, burst }: PolicingSpec): string =>
  rate === 0 ? 'none' : `${rate} kbit/s${burst === 0 ? '' : ` with bursts of ${burst} kbit`}`;

/** The mirror that leads to the port; one without a port to look at is none. */
export function planMirror(want: Attachment, seen: Observed, port: string): Step[] {
  const { network } = want;
  if (network.kind !== 'ovs') return [];
  const isDropped = want.rules !== undefined && seen.record?.want?.mirror !== undefined;
  if (!want.mirror && !isDropped) return [];
  const to = mirrorOf(want, seen, port);
  // That of a port that makes room for its successor goes with it.
  const is = seen.host.ovsPort?.name === port ? seen.host.mirror?.is : undefined;
  if (JSON.stringify(to) === JSON.stringify(is)) return [];
  const group = seen.record?.group ?? seen.group;
  const set = (mirror: PortMirror): Operation => ({
    do: 'ovs.mirror.set',
    bridge: network.name,
    port,
    mirror,
    group,
  });
  const del: Operation = { do: 'ovs.mirror.del', port };
  const undo = [is ? set(is) : del];
  if (!to) {
    const because = want.mirror ? 'nothing that it is to copy is there' : 'it is asked for no more';
    return [{ op: del, because, undo }];
  }
  const because = is ? `mirror: ${mirrorText(is)} -> ${mirrorText(to)}` : why(want);
  return [{ op: set(to), because, undo }];
}

function why({ container, ifname, mirror }: Attachment): string {
  const of = mirror?.of ? `what passes ${mirror.of.join(', ')}` : 'what passes the bridge';
  return `${ifname} of ${formatContainer(container)} gets a copy of ${of}`;
}

function mirrorOf({ mirror }: Attachment, { host }: Observed, port: string): PortMirror | undefined {
  if (!mirror) return undefined;
  const vlans = mirror.vlans ?? [];
  if (!mirror.of) return { all: true, src: [], dst: [], vlans };
  const of = (host.mirror?.of ?? []).filter((name) => name !== port);
  const { direction = 'both' } = mirror;
  if (of.length === 0) return undefined;
  return { all: false, src: direction === 'dst' ? [] : of, dst: direction === 'src' ? [] : of, vlans };
}

function mirrorText({ all, src, dst, vlans }: PortMirror): string {
  const words = [
    ...(all ? ['all'] : []),
    ...(src.length > 0 ? [`src ${src.join(',')}`] : []),
    ...(dst.length > 0 ? [`dst ${dst.join(',')}`] : []),
    ...(vlans.length > 0 ? [`vlans ${vlans.join(',')}`] : []),
  ];
  return words.join(' ') || 'nothing';
}
