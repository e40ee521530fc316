/** Rate limits of an interface, by token buckets. Pure. */
import { type Attachment, isPair } from '../model/attachment.ts';
import { ifbNameFor } from '../model/naming.ts';
import type { Observed } from '../model/observed.ts';
import type { Operation, Side, Step } from '../model/operation.ts';

/**
 * What the container sends is limited at its own end; what it receives at the host's end of a pair, and where there is no
 * such end by a detour through a link of kind ifb beside the interface, since only what is sent can be queued.
 * @param joinsOvs the host's end becomes a port of Open vSwitch before, which takes a limit off it
 */
export function planRates(want: Attachment, seen: Observed, hostIfname: string, joinsOvs = false): Step[] {
  // A limit that was asked for earlier and is no more is taken off.
  const rate = want.rate ?? (want.rules && seen.record?.want?.rate && {});
  if (rate === undefined) return [];
  const present = seen.guest.link ? seen.guest.rates : {};
  return [
    ...planRate('guest', want.ifname, rate.out, present.out),
    ...(isPair(want.network)
      ? planHostEnd(hostIfname, rate.in, present.in, joinsOvs)
      : planDetour(want, seen, wholeBytes(rate.in))),
  ];
}

/** The kernel counts whole bytes. */
const wholeBytes = (rate: number | undefined): number | undefined =>
  rate === undefined ? undefined : Math.floor(rate / 8) * 8;

function planRate(side: Side, link: string, asked: number | undefined, present: number | undefined): Step[] {
  const want = wholeBytes(asked);
  return want === present || link === '' ? [] : [setRate(side, link, want, present)];
}

function planHostEnd(
  link: string,
  asked: number | undefined,
  present: number | undefined,
  joinsOvs: boolean,
): Step[] {
  if (!joinsOvs || present === undefined) return planRate('host', link, asked, present);
  const because = 'Open vSwitch takes the limit off a new port';
  return planRate('host', link, asked, undefined).map((step) => ({ ...step, because }));
}

/**
 * Open vSwitch takes any qdisc that it does not know off what becomes its port (its lib/netdev-linux.c,
 * netdev_linux_set_qos), so the undo of joining and of leaving ends with the limit of the host's end.
 */
export function undoneWithLimit([first, ...rest]: readonly Step[], { host, guest }: Observed): Step[] {
  if (!first) return [];
  const { in: rate } = guest.rates;
  const touchesOvs = [first, ...rest].some(({ op }) => op.do === 'ovs.port.add' || op.do === 'ovs.port.del');
  if (!host.hostEnd || rate === undefined || !touchesOvs) return [first, ...rest];
  const limit: Operation = { do: 'qdisc.set', side: 'host', link: host.hostEnd.name, rate };
  return [{ ...first, undo: [...first.undo, limit] }, ...rest];
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
