/**
 * Queueing disciplines, `tc qdisc`: the token bucket that limits what a link sends, and the detour that makes the same
 * bucket limit what it receives. From <linux/pkt_sched.h>, <linux/pkt_cls.h>, <linux/tc_act/tc_mirred.h> and
 * <linux/rtnetlink.h>, v6.12; net/sched/sch_tbf.c.
 */
import type { RawAttr } from '../../model/link.ts';
import { attr, type Codec, decodeAttrs, encodeAttrs, nested, raw, text, u32 } from './codec.ts';
import { message } from './header.ts';
import { type NetlinkSocket, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE, type Request } from './socket.ts';

const RTM_NEWQDISC = 36;
const RTM_DELQDISC = 37;
const RTM_GETQDISC = 38;
const RTM_NEWTFILTER = 44;
const RTM_GETTFILTER = 46;

/** TC_H_ROOT, `root`: the parent of the qdisc that all of a link's outgoing packets go through. */
export const rootParent = 0xffffffff;
/** TC_H_INGRESS, `ffff:fff1`: the parent of the qdisc that a link's incoming packets go through. */
export const ingressParent = 0xfffffff1;
/** The handle `7077:` ("pw") that replaceTbf gives: the kernel's own choices lie above 8000:, so it tells whose it is. */
export const tbfHandle = 0x70770000;
/** `ffff:`. */
const ingressHandle = 0xffff0000;

/** Nanoseconds of a tick of the packet scheduler, PSCHED_TICKS2NS; `/proc/net/psched` says the same. */
const tickNs = 64;
const maxU32 = 0xffffffff;
/** A second's share that a default burst holds: bursts of 4 ms, which is what a timer of 250 Hz can keep up with. */
const burstsPerSecond = 250;
/** ETH_HLEN. */
const etherHeader = 14;
/** The kernel tells a burst as the time it lasts, in 32 bits of ticks. */
const longestBurstSeconds = 274;
/** Below, that time is too short for a frame of 9000 bytes. */
const minRate = 1000;

/** A token bucket as the kernel has it. */
export interface Tbf {
  /** Bits per second. The kernel counts whole bytes. */
  readonly rate: number;
  /** Bytes that may leave at once after a pause. */
  readonly burst: number;
  /** Bytes that may wait; what comes on top is dropped. */
  readonly limit: number;
}

/** What a token bucket is wanted like. */
export interface NewTbf {
  /** Bits per second, at least 1000. */
  readonly rate: number;
  /**
   * Bytes, default 4 ms of the rate and at least ten frames: with less, a fast link stands idle between two timer
   * ticks; below one frame nothing passes at all.
   */
  readonly burst?: number;
  /** How long a packet may wait when the bucket is empty, default 50 ms. `limit` says the same in bytes. */
  readonly latencyMs?: number;
  readonly limit?: number;
  /** Of the link, for the default burst; default 1500. */
  readonly mtu?: number;
}

/** struct tc_ratespec: the rate in bytes per second, for a link layer that needs no table of transmission times. */
function ratespec(bytesPerSecond: number): Buffer {
  const TC_LINKLAYER_ETHERNET = 1;
  const bytes = Buffer.alloc(12);
  bytes.writeUInt8(TC_LINKLAYER_ETHERNET, 1);
  // A larger one is in TCA_TBF_RATE64.
  bytes.writeUInt32LE(Math.min(bytesPerSecond, maxU32), 8);
  return bytes;
}

interface TbfQopt {
  /** Bytes per second. */
  readonly rate: number;
  readonly limit: number;
  /** Ticks. */
  readonly buffer: number;
}

/** struct tc_tbf_qopt: rate, peak rate (none), limit, buffer and mtu in ticks. */
const tbfQopt: Codec<TbfQopt> = {
  size: 36,
  read: (bytes) => ({
    rate: bytes.readUInt32LE(8),
    limit: bytes.readUInt32LE(24),
    buffer: bytes.readUInt32LE(28),
  }),
  write: ({ rate, limit, buffer }) =>
    Buffer.concat([ratespec(rate), ratespec(0), u32.write(limit), u32.write(buffer), u32.write(0)]),
};

const u64: Codec<bigint> = {
  size: 8,
  read: (bytes) => bytes.readBigUInt64LE(),
  write: (value) => {
    const bytes = Buffer.alloc(8);
    bytes.writeBigUInt64LE(value);
    return bytes;
  },
};

/** TCA_TBF_*. */
const tbfAttrs = {
  parms: attr(1, tbfQopt), // TCA_TBF_PARMS
  rate64: attr(4, u64), // TCA_TBF_RATE64
  burst: attr(6, u32), // TCA_TBF_BURST: bytes, before `buffer`; the kernel never tells it
} as const;

/** TCA_*, of qdiscs and filters. What is in the options depends on the kind. */
const tcAttrs = {
  kind: attr(1, text), // TCA_KIND
  options: attr(2, raw), // TCA_OPTIONS
} as const;

interface Tcmsg {
  readonly ifindex?: number;
  readonly handle?: number;
  readonly parent?: number;
  readonly info?: number;
}

/** struct tcmsg; the family is AF_UNSPEC. */
function tcmsg({ ifindex = 0, handle = 0, parent = 0, info = 0 }: Tcmsg): Buffer {
  const header = Buffer.alloc(20);
  header.writeInt32LE(ifindex, 4);
  header.writeUInt32LE(handle, 8);
  header.writeUInt32LE(parent, 12);
  header.writeUInt32LE(info, 16);
  return header;
}

/** The token bucket that `replaceTbf` makes: defaults filled in, the rate in whole bytes. RangeError below 1000 bit/s. */
export function tbfOf({ rate, burst, latencyMs = 50, limit, mtu = 1500 }: NewTbf): Tbf {
  if (!(rate >= minRate)) throw new RangeError(`a rate of ${rate} bit/s is below ${minRate}`);
  const bytesPerSecond = Math.floor(rate / 8);
  const ten = 10 * (mtu + etherHeader);
  const asked = burst ?? Math.max(ten, Math.ceil(bytesPerSecond / burstsPerSecond));
  const held = Math.min(asked, bytesPerSecond * longestBurstSeconds, maxU32);
  const waiting = limit ?? Math.ceil((bytesPerSecond * latencyMs) / 1000) + held;
  return { rate: bytesPerSecond * 8, burst: held, limit: Math.min(waiting, maxU32) };
}

/** Whether two are the same to the kernel, which keeps a burst as a time, in ticks of 64 ns. */
export function sameTbf(a: Tbf, b: Tbf): boolean {
  const bytesPerTick = (a.rate / 8 / 1e9) * tickNs;
  return a.rate === b.rate && a.limit === b.limit && Math.abs(a.burst - b.burst) <= bytesPerTick + 1;
}

function onLink(ifindex: number, what: string): string {
  return `${what} on link ${ifindex}`;
}

/**
 * `tc qdisc replace dev LINK root handle 7077: tbf rate RATE burst BURST limit LIMIT`. Limits what the link sends: of a
 * veth pair, the host's end what the container receives, the container's end what it sends.
 * One that is there is changed in place and loses no packet; any other root qdisc is replaced by it.
 */
export function replaceTbf(ifindex: number, spec: NewTbf): Request {
  const { rate, burst, limit } = tbfOf(spec);
  const bytesPerSecond = rate / 8;
  const options = encodeAttrs(tbfAttrs, {
    parms: { rate: bytesPerSecond, limit, buffer: 0 },
    rate64: bytesPerSecond > maxU32 ? BigInt(bytesPerSecond) : undefined,
    burst,
  });
  const header = tcmsg({ ifindex, handle: tbfHandle, parent: rootParent });
  return {
    op: 'qdisc.replace',
    subject: onLink(ifindex, 'tbf'),
    type: RTM_NEWQDISC,
    flags: NLM_F_CREATE | NLM_F_REPLACE,
    body: message(header, encodeAttrs(tcAttrs, { kind: 'tbf', options })),
    hints: { ENOENT: 'try: modprobe sch_tbf' },
  };
}

/** `tc qdisc del dev LINK root`: the link's default comes back. ENOENT when it is there already. */
export function delRootQdisc(ifindex: number): Request {
  return {
    op: 'qdisc.del',
    subject: onLink(ifindex, 'root'),
    type: RTM_DELQDISC,
    flags: 0,
    body: tcmsg({ ifindex, parent: rootParent }),
  };
}

// What a link receives cannot be queued by itself: it is sent through a link of kind ifb, whose token bucket delays it,
// and comes back. For links without an end of their own on the host's side: macvlan, ipvlan (not in mode l3s, which
// passes this point by), a moved NIC. `police` would do with less, but is often not built, and drops where this delays.

/** `tc qdisc add dev LINK ingress`. EEXIST when there is one (or clsact). */
export function addIngress(ifindex: number): Request {
  const header = tcmsg({ ifindex, handle: ingressHandle, parent: ingressParent });
  return {
    op: 'qdisc.add',
    subject: onLink(ifindex, 'ingress'),
    type: RTM_NEWQDISC,
    flags: NLM_F_CREATE | NLM_F_EXCL,
    body: message(header, encodeAttrs(tcAttrs, { kind: 'ingress' })),
    hints: { ENOENT: 'try: modprobe sch_ingress' },
  };
}

/** `tc qdisc del dev LINK ingress`, its filters with it. EINVAL or ENOENT when there is none. */
export function delIngress(ifindex: number): Request {
  return {
    op: 'qdisc.del',
    subject: onLink(ifindex, 'ingress'),
    type: RTM_DELQDISC,
    flags: 0,
    body: tcmsg({ ifindex, handle: ingressHandle, parent: ingressParent }),
  };
}

/** struct tc_mirred: to which link. */
const mirredParms: Codec<number> = {
  size: 28,
  read: (bytes) => bytes.readUInt32LE(24),
  write: (ifindex) => {
    const TC_ACT_STOLEN = 4;
    const TCA_EGRESS_REDIR = 1;
    // index, capabilities, action, two reference counts; direction, link
    return Buffer.concat([0, 0, TC_ACT_STOLEN, 0, 0, TCA_EGRESS_REDIR, ifindex].map(u32.write));
  },
};

const actionAttrs = {
  kind: attr(1, text), // TCA_ACT_KIND
  options: attr(2, nested({ parms: attr(2, mirredParms) })), // TCA_ACT_OPTIONS, TCA_MIRRED_PARMS
} as const;

/** TCA_U32_*. */
const u32Attrs = {
  selector: attr(5, raw), // TCA_U32_SEL
  actions: attr(7, nested({ first: attr(1, nested(actionAttrs)) })), // TCA_U32_ACT
} as const;

/** struct tc_u32_sel with one key that every packet has: `match u32 0 0`. */
function selectAll(): Buffer {
  const TC_U32_TERMINAL = 1;
  const bytes = Buffer.alloc(32);
  bytes.writeUInt8(TC_U32_TERMINAL, 0);
  bytes.writeUInt8(1, 2);
  return bytes;
}

/**
 * `tc filter add dev LINK ingress pref 1 protocol all u32 match u32 0 0 action mirred egress redirect dev IFB`: what the
 * link receives takes a turn through an ifb, which has to be up. addIngress comes first. The link's ingress has to go
 * before the ifb: a detour that leads nowhere drops everything.
 */
export function redirectIngress(ifindex: number, ifb: number): Request {
  const priority = 1;
  // ETH_P_ALL in the order of the network.
  const header = tcmsg({ ifindex, parent: ingressHandle, info: (priority << 16) | 0x0300 });
  const options = encodeAttrs(u32Attrs, {
    selector: selectAll(),
    actions: { first: { kind: 'mirred', options: { parms: ifb } } },
  });
  return {
    op: 'filter.add',
    subject: `redirection of link ${ifindex} to link ${ifb}`,
    type: RTM_NEWTFILTER,
    flags: NLM_F_CREATE | NLM_F_EXCL,
    body: message(header, encodeAttrs(tcAttrs, { kind: 'u32', options })),
    hints: { ENOENT: 'try: modprobe -a cls_u32 act_mirred' },
  };
}

/** `tc filter show dev LINK ingress`: the ifindex that redirectIngress leads to, undefined when it leads nowhere. */
export function ingressRedirect(rtnl: NetlinkSocket, ifindex: number): number | undefined {
  const body = tcmsg({ ifindex, parent: ingressHandle });
  const subject = `filters of link ${ifindex}`;
  for (const answer of rtnl.dump({ op: 'filter.list', subject, type: RTM_GETTFILTER, flags: 0, body })) {
    const { kind, options } = decodeAttrs(tcAttrs, answer.subarray(20));
    if (kind !== 'u32' || options === undefined) continue;
    const action = decodeAttrs(u32Attrs, options as Buffer).actions?.first;
    if (action?.kind === 'mirred') return action.options?.parms;
  }
  return undefined;
}

/** A qdisc, `tc qdisc`. Handle and parent are `major:minor` as `major << 16 | minor`. */
export interface Qdisc {
  readonly ifindex: number;
  /** `tbf`, `noqueue`, `fq_codel`, `mq`, `ingress`, ... */
  readonly kind: string;
  readonly handle: number;
  /** {@link rootParent}, {@link ingressParent} or a class. */
  readonly parent: number;
  /** When it is one. */
  readonly tbf?: Tbf;
  /** Attributes this program does not know, as they came. */
  readonly unknown: readonly RawAttr[];
}

function decodeTbf(options: Uint8Array): Tbf | undefined {
  const { parms, rate64 } = decodeAttrs(tbfAttrs, options as Buffer);
  if (parms === undefined) return undefined;
  const bytesPerSecond = rate64 === undefined ? parms.rate : Number(rate64);
  const burst = Math.round((bytesPerSecond * parms.buffer * tickNs) / 1e9);
  return { rate: bytesPerSecond * 8, burst, limit: parms.limit };
}

function decodeQdisc(body: Buffer): Qdisc {
  const { kind = '', options, unknown = [] } = decodeAttrs(tcAttrs, body.subarray(20));
  const tbf = kind === 'tbf' && options !== undefined ? decodeTbf(options) : undefined;
  return {
    ifindex: body.readInt32LE(4),
    kind,
    handle: body.readUInt32LE(8),
    parent: body.readUInt32LE(12),
    ...(tbf === undefined ? {} : { tbf }),
    unknown,
  };
}

/** `tc qdisc`, `tc qdisc show dev LINK`. The kernel tells those of all links in any case. */
export function listQdiscs(rtnl: NetlinkSocket, ifindex?: number): Qdisc[] {
  return rtnl
    .dump({ op: 'qdisc.list', subject: 'qdiscs', type: RTM_GETQDISC, flags: 0, body: tcmsg({}) })
    .map(decodeQdisc)
    .filter((qdisc) => ifindex === undefined || qdisc.ifindex === ifindex);
}
