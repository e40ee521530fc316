/** Rate limits of an interface, by token buckets. Pure. */
import type { Attachment } from '../model/attachment.ts';
import { ifbNameFor } from '../model/naming.ts';
import type { Observed } from '../model/observed.ts';
import type { Operation, Side, Step } from '../model/operation.ts';

/**
 * What the container sends is limited at its own end; what it receives at the host's end of a pair, and where there is no
 * such end by a detour through a link of kind ifb beside the interface, since only what is sent can be queued.
 */
export function planRates(want: Attachment, seen: Observed, hostIfname: string): Step[] {
  // A limit that was asked for earlier and is no more is taken off.
  const rate = want.rate ?? (want.rules && seen.record?.want?.rate && {});
  if (rate === undefined) return [];
  const present = seen.guest.link ? seen.guest.rates : {};
  return [
    ...planRate('guest', want.ifname, rate.out, present.out),
    ...(isPair(want)
      ? planRate('host', hostIfname, rate.in, present.in)
      : planDetour(want, seen, wholeBytes(rate.in))),
  ];
}

const isPair = ({ network }: Attachment): boolean => network.kind === 'bridge' || network.kind === 'ovs';

/** The kernel counts whole bytes. */
const wholeBytes = (rate: number | undefined): number | undefined =>
  rate === undefined ? undefined : Math.floor(rate / 8) * 8;

function planRate(side: Side, link: string, asked: number | undefined, present: number | undefined): Step[] {
  const want = wholeBytes(asked);
  return want === present || link === '' ? [] : [setRate(side, link, want, present)];
}

function setRate(side: Side, link: string, want: number | undefined, present: number | undefined): Step {
  const set = (rate: number | undefined): Operation => ({ do: 'qdisc.set', side, link, rate });
  return { op: set(want), because: `rate: ${text(present)} -> ${text(want)}`, undo: [set(present)] };
}

function text(rate: number | undefined): string {
  return rate === undefined ? 'no limit' : `${rate} bit/s`;
}

function planDetour(want: Attachment, seen: Observed, rate: number | undefined): Step[] {
  const { ifname: link } = want;
  const ifb = ifbNameFor(link);
  const { detour, link: there } = seen.guest;
  // A new interface leads nowhere yet, whatever its predecessor did.
  const leads = there !== undefined && detour.leads;
  if (rate === undefined) return detour.isThere ? dropDetour(link, seen) : [];
  const del: Operation = { do: 'link.del', side: 'guest', name: ifb, onlyGroup: seen.group };
  const add: Operation = {
    do: 'link.add',
    side: 'guest',
    name: ifb,
    link: { kind: 'ifb' },
    group: seen.group,
  };
  const lead = (to: string | undefined): Operation => ({ do: 'ingress.redirect', link, to });
  // What leads to an ifb that is gone leads nowhere.
  const isStale =
    there !== undefined && detour.hasIngress && !leads && seen.record?.want?.rate?.in !== undefined;
  return [
    ...(detour.isThere
      ? []
      : [{ op: add, because: 'what comes in is limited on its way out of there', undo: [del] }]),
    ...(rate === detour.rate ? [] : [setRate('guest', ifb, rate, detour.rate)]),
    ...(isStale ? [{ op: lead(undefined), because: 'it leads nowhere', undo: [] }] : []),
    ...(leads ? [] : [{ op: lead(ifb), because: 'what comes in is to be limited', undo: [lead(undefined)] }]),
  ];
}

function dropDetour(link: string, seen: Observed): Step[] {
  const ifb = ifbNameFor(link);
  const { detour } = seen.guest;
  const because = 'it is asked for no more';
  const lead = (to: string | undefined): Operation => ({ do: 'ingress.redirect', link, to });
  const add: Operation = {
    do: 'link.add',
    side: 'guest',
    name: ifb,
    link: { kind: 'ifb' },
    group: seen.group,
  };
  return [
    ...(detour.leads ? [{ op: lead(undefined), because, undo: [lead(ifb)] }] : []),
    {
      op: { do: 'link.del', side: 'guest', name: ifb },
      because,
      undo: [add, { do: 'qdisc.set', side: 'guest', link: ifb, rate: detour.rate }],
    },
  ];
}

/** The last step of a re-creation, when the successor is a pair. */
export function dropIfb(ifname: string): Step {
  const op: Operation = { do: 'link.del', side: 'guest', name: ifbNameFor(ifname) };
  return { op, because: 'its successor has an end on the host', undo: [], final: true };
}
