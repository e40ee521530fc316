/** Links, `ip link`. From <linux/rtnetlink.h> and <linux/if_link.h>, v6.12. */
import type { Link, LinkSettings, NewLink } from '../../model/link.ts';
import type { KindChange } from '../../model/operation.ts';
import { type Attrs, attr, decodeAttrs, decodeKnown, encodeAttrs, s32, u32 } from './codec.ts';
import { message } from './header.ts';
import { confOf, IFF_LOWER_UP, IFF_UP, ifinfomsg, linkAttrs, settingAttrs, upFlags } from './link-attrs.ts';
import { decodeKind, encodeKind, moduleOf, uplinkOf } from './link-kind.ts';
import { type NetlinkSocket, NLM_F_CREATE, NLM_F_EXCL, type Request } from './socket.ts';

const RTM_NEWLINK = 16;
const RTM_DELLINK = 17;
const RTM_GETLINK = 18;
const RTM_SETLINK = 19;
const RTM_NEWNSID = 88;
const RTM_GETNSID = 90;
const RTM_NEWLINKPROP = 108;
const RTM_DELLINKPROP = 109;

/** RTEXT_FILTER_SKIP_STATS: without the counters of IPv6 and of virtual functions, much of a message. */
const skipStats = 8;
/** IFNAMSIZ - 1. */
const longestIfname = 15;

/** Which link: an ifindex cannot come to mean another link between two requests, a name can. */
export type LinkRef = { readonly ifindex: number } | { readonly name: string };

/** What setLink changes. Absent: left alone. */
export interface LinkChanges extends LinkSettings {
  /** New name; in the new namespace, when it moves there at once. The link has to be given by ifindex. */
  readonly name?: string;
  /** Moves it to the namespace of this open file descriptor. */
  readonly netnsFd?: number;
}

function subjectOf(ref: LinkRef): string {
  return 'name' in ref ? ref.name : `link ${ref.ifindex}`;
}

/**
 * `ip link add`. EEXIST when there is a link of the name, or what makes the kind unique (a vlan's vid, ...).
 * All settings are honoured in the same message, except a veth peer's `up` and `master`.
 */
export function addLink(spec: NewLink): Request {
  const attributes = encodeAttrs(linkAttrs, {
    ...settingAttrs(spec),
    ifname: spec.name,
    netnsFd: spec.netnsFd,
    lower: uplinkOf(spec),
    linkInfo: { kind: spec.kind, data: encodeKind(spec) },
  });
  return {
    op: 'link.add',
    subject: spec.name,
    type: RTM_NEWLINK,
    flags: NLM_F_CREATE | NLM_F_EXCL,
    body: message(ifinfomsg(upFlags(spec)), attributes),
    hints: { EOPNOTSUPP: `try: modprobe ${moduleOf[spec.kind]}` },
  };
}

/**
 * `ip link set`: name, MAC, MTU, master, group, up or down, another namespace, in one message.
 * The kernel moves it first and changes the rest one after the other; when it refuses one it does not take back those
 * before. So a link that is to move under a name that is taken there (EEXIST) has moved, under its old name.
 * A link that moves loses its addresses and is set down.
 */
export function setLink(ref: { readonly ifindex: number }, changes: LinkChanges): Request;
export function setLink(ref: LinkRef, changes: LinkChanges & { readonly name?: never }): Request;
export function setLink(ref: LinkRef, changes: LinkChanges): Request {
  const named = 'name' in ref;
  const attributes = encodeAttrs(linkAttrs, {
    ...settingAttrs(changes),
    ifname: named ? ref.name : changes.name,
    netnsFd: changes.netnsFd,
  });
  return {
    op: 'link.set',
    subject: subjectOf(ref),
    type: RTM_SETLINK,
    flags: 0,
    body: message(ifinfomsg({ ifindex: named ? 0 : ref.ifindex, ...upFlags(changes) }), attributes),
  };
}

/**
 * `ip link set NAME type KIND ...`: what depends on the kind of a link that exists, and can be changed: whether a bridge
 * filters VLANs, the mode of a macvlan or ipvlan.
 */
export function changeLink(ifindex: number, spec: KindChange): Request {
  // What a child is on cannot be changed, nor is it told.
  const data = encodeKind(spec.kind === 'bridge' ? spec : { ...spec, uplink: 0 });
  const linkInfo = { kind: spec.kind, data };
  return {
    op: 'link.change',
    subject: `link ${ifindex}`,
    type: RTM_NEWLINK,
    flags: 0,
    body: message(ifinfomsg({ ifindex }), encodeAttrs(linkAttrs, { linkInfo })),
  };
}

/** `ip link del`: about 20 ms, so rather by requestInBackground; both ends of a veth pair. */
export function delLink(ifindex: number): Request {
  return {
    op: 'link.del',
    subject: `link ${ifindex}`,
    type: RTM_DELLINK,
    flags: 0,
    body: ifinfomsg({ ifindex }),
  };
}

/** `ip link del group N`: all links of the group at once, in the time of one. ENODEV when there are none. */
export function delLinkGroup(group: number): Request {
  // Group 0 is what every link is in that was not put into another.
  if (group === 0) throw new Error('group 0 is everybody');
  const body = message(ifinfomsg({}), encodeAttrs(linkAttrs, { group }));
  return { op: 'link.del', subject: `group ${group}`, type: RTM_DELLINK, flags: 0, body };
}

function altnameRequest(ifindex: number, altname: string): Omit<Request, 'op' | 'type'> {
  const attributes = encodeAttrs(linkAttrs, { props: { altnames: [altname] } });
  return { subject: altname, flags: 0, body: message(ifinfomsg({ ifindex }), attributes) };
}

/** `ip link property add dev LINK altname NAME`; up to 127 bytes, unique in the namespace like any name. */
export function addAltname(ifindex: number, altname: string): Request {
  return { op: 'altname.add', type: RTM_NEWLINKPROP, ...altnameRequest(ifindex, altname) };
}

/** `ip link property del dev LINK altname NAME`. */
export function delAltname(ifindex: number, altname: string): Request {
  return { op: 'altname.del', type: RTM_DELLINKPROP, ...altnameRequest(ifindex, altname) };
}

function getRequest(ref: LinkRef | undefined): Request {
  const name = ref !== undefined && 'name' in ref ? ref.name : undefined;
  const long = name !== undefined && Buffer.byteLength(name) > longestIfname;
  const attributes = encodeAttrs(linkAttrs, {
    extMask: skipStats,
    ifname: long ? undefined : name,
    altname: long ? name : undefined,
  });
  const header = ifinfomsg(ref !== undefined && 'ifindex' in ref ? ref : {});
  const subject = ref === undefined ? 'links' : subjectOf(ref);
  return { op: 'link.get', subject, type: RTM_GETLINK, flags: 0, body: message(header, attributes) };
}

/**
 * `ip link show`: the link of this ifindex or name. The kernel takes an altname for a name: the link that it finds
 * by one has another `name` than was asked for, and the altname among its `altnames`.
 */
export function getLink(rtnl: NetlinkSocket, which: string | number): Link | undefined {
  // The kernel answers EINVAL to an empty name.
  if (which === '') return undefined;
  const answer = rtnl.get(getRequest(typeof which === 'string' ? { name: which } : { ifindex: which }));
  return answer && decodeLink(answer);
}

/** `ip link`. */
export function listLinks(rtnl: NetlinkSocket): Link[] {
  return rtnl.dump(getRequest(undefined)).map(decodeLink);
}

/** IF_OPER_*, RFC 2863. */
const operstates = ['unknown', 'notpresent', 'down', 'lowerlayerdown', 'testing', 'dormant', 'up'] as const;

/** A link from the body of an RTM_NEWLINK. */
export function decodeLink(body: Buffer): Link {
  const flags = body.readUInt32LE(8);
  const attributes: Attrs<typeof linkAttrs> = decodeKnown(linkAttrs, body.subarray(16));
  const { linkInfo, props } = attributes;
  return {
    ifindex: body.readInt32LE(4),
    name: attributes.ifname ?? '',
    altnames: props?.altnames ?? [],
    kind: linkInfo?.kind,
    arphrd: body.readUInt16LE(2),
    mac: attributes.mac ?? '',
    mtu: attributes.mtu ?? 0,
    group: attributes.group ?? 0,
    up: (flags & IFF_UP) !== 0,
    carrier: (flags & IFF_LOWER_UP) !== 0,
    operstate: operstates[attributes.operstate ?? 0] ?? 'unknown',
    master: attributes.master,
    lower: attributes.lower,
    linkNetnsid: attributes.linkNetnsid,
    ...confOf(attributes),
    data: decodeKind(linkInfo?.kind, linkInfo?.data),
  };
}

/** NETNSA_*, from <linux/net_namespace.h>. */
const netnsAttrs = {
  nsid: attr(1, s32), // NETNSA_NSID
  fd: attr(3, u32), // NETNSA_FD
} as const;

/**
 * `ip netns list-id`: the number that the socket's namespace knows another one by (`link-netnsid` of a veth whose
 * peer is there), undefined when it has none yet.
 */
export function netnsIdOf(rtnl: NetlinkSocket, netnsFd: number): number | undefined {
  // struct rtgenmsg, padded.
  const body = message(Buffer.alloc(4), encodeAttrs(netnsAttrs, { fd: netnsFd }));
  const answer = rtnl.get({ op: 'netns.id', subject: `fd ${netnsFd}`, type: RTM_GETNSID, flags: 0, body });
  const nsid = answer && decodeAttrs(netnsAttrs, answer.subarray(4)).nsid;
  return nsid === undefined || nsid < 0 ? undefined : nsid;
}

/**
 * `ip netns set NAME auto`: gives another namespace a number in the socket's one. Only of numbered namespaces a monitor
 * hears (see monitor.ts). EEXIST when it has one.
 */
export function addNetnsId(netnsFd: number): Request {
  const body = message(Buffer.alloc(4), encodeAttrs(netnsAttrs, { fd: netnsFd, nsid: -1 }));
  return { op: 'netns.set', subject: `fd ${netnsFd}`, type: RTM_NEWNSID, flags: 0, body };
}
