/** Reads the container's side of an attachment: the interface, its routes, and what else is asked for. */
import { ingressParent, ingressRedirect, listQdiscs } from '../kernel/netlink/qdisc.ts';
import { listRules } from '../kernel/netlink/rule.ts';
import type { NetlinkSocket } from '../kernel/netlink/socket.ts';
import { sysctlPath } from '../kernel/sysctl.ts';
import { addressBits } from '../model/address.ts';
import type { Attachment } from '../model/attachment.ts';
import type { Link, Route } from '../model/link.ts';
import { ifbNameFor, isOurGroup } from '../model/naming.ts';
import { type LinkWithAddrs, type ObservedGuest, type ObservedVlan, promotion } from '../model/observed.ts';
import { wantsIpv6 } from '../plan/attach.ts';
import type { NetnsView } from './view.ts';

/** RT_TABLE_MAIN and RTN_UNICAST. */
const mainTable = 254;
const unicast = 1;

/** What is known besides the container's namespace. */
export interface GuestContext {
  readonly pid: number | undefined;
  readonly host: NetlinkSocket;
  readonly hostEnd: Link | undefined;
  /** Sub-interfaces that were asked for when the attachment was made, by name. */
  readonly formerVlans: readonly string[];
  /** Sysctls that were set when the attachment was made. */
  readonly formerSysctls: readonly string[];
  /** A limit was asked for when the attachment was made. */
  readonly hadRate: boolean;
}

/** The container's interface and default routes, and of the rest what `want` asks for. */
export function observeGuest(guest: NetnsView, want: Attachment, context: GuestContext): ObservedGuest {
  const { ifname } = want;
  const found = guest.link(ifname);
  const link = found?.name === ifname ? found : undefined;
  const all = guest.routes();
  const routes = all.filter(({ table }) => table === mainTable);
  // A link that is yet to be born takes the values of `default`.
  const read = (key: string, of = link ? ifname : 'default'): string | undefined => {
    if (link && of === ifname && key === promotion) return flag(link.promotesSecondaries);
    return guest.sysctl(sysctlPath(of, key));
  };
  // What is made anew has the IPv6 addresses of its predecessor, asked for or not.
  const needsIpv6 = wantsIpv6(want) || link !== undefined;
  return {
    pid: context.pid,
    link: link && withAddrs(guest, link, all),
    vlans: vlansOf(guest, want, context.formerVlans, all),
    ipv6Disabled: link ? link.ipv6Disabled === true : needsIpv6 && read('ipv6/disable_ipv6') === '1',
    // Asked for only when it is made anew: a file of another namespace takes as long as all its addresses.
    get ipv6DisabledOnNew() {
      return needsIpv6 && read('ipv6/disable_ipv6', 'default') === '1';
    },
    sysctls: Object.fromEntries(
      [...sysctlsOf(want, link, context)].flatMap((key) => {
        const value = read(key);
        // One without a value cannot be given back.
        return value === undefined || value === '' ? [] : [[key, value]];
      }),
    ),
    rules: want.rules?.length ? listRules(guest.rtnl) : [],
    rates:
      want.rate || context.hadRate
        ? { out: rateOf(guest.rtnl, link), in: rateOf(context.host, context.hostEnd) }
        : {},
    detour:
      want.rate || context.hadRate
        ? detourOf(guest, link, ifname)
        : { isThere: false, hasIngress: false, leads: false },
    defaults: routes.filter(({ dst, type }) => dst === undefined && type === unicast),
    hostRoutes: routes.filter(
      ({ family, dst, type }) => dst?.prefixLen === addressBits[family] && type === unicast,
    ),
  };
}

function sysctlsOf(want: Attachment, link: Link | undefined, { formerSysctls }: GuestContext): Set<string> {
  return new Set([...Object.keys(want.sysctls ?? {}), ...(link ? [promotion, ...formerSysctls] : [])]);
}

const flag = (value: boolean | undefined): string | undefined =>
  value === undefined ? undefined : value ? '1' : '0';

function vlansOf(
  guest: NetnsView,
  { vlans = [] }: Attachment,
  former: readonly string[],
  routes: readonly Route[],
): ObservedVlan[] {
  const names = new Set([...vlans.map(({ ifname }) => ifname), ...former]);
  return [...names].map((ifname) => {
    const found = guest.link(ifname);
    const link = found?.name === ifname ? found : undefined;
    const isDisabled = link
      ? link.ipv6Disabled === true
      : guest.sysctl(sysctlPath('default', 'ipv6/disable_ipv6')) === '1';
    return { ifname, link: link && withAddrs(guest, link, routes), ipv6Disabled: isDisabled };
  });
}

/** The limit of what leaves by a link, in bits per second. */
function rateOf(rtnl: NetlinkSocket, link: Link | undefined): number | undefined {
  return link && listQdiscs(rtnl, link.ifindex).find(({ kind }) => kind === 'tbf')?.tbf?.rate;
}

/** See ObservedGuest. */
function detourOf(guest: NetnsView, link: Link | undefined, ifname: string): ObservedGuest['detour'] {
  const ifb = guest.link(ifbNameFor(ifname));
  const isThere = ifb?.kind === 'ifb' && isOurGroup(ifb.group);
  const hasIngress =
    link !== undefined && listQdiscs(guest.rtnl, link.ifindex).some(({ parent }) => parent === ingressParent);
  const leads = isThere && hasIngress && ingressRedirect(guest.rtnl, link.ifindex) === ifb.ifindex;
  return { isThere, rate: isThere ? rateOf(guest.rtnl, ifb) : undefined, hasIngress, leads };
}

/** A link with its addresses and the routes that leave by it. */
export function withAddrs(view: NetnsView, link: Link, routes = view.routes()): LinkWithAddrs {
  return {
    link,
    addrs: view.addrs(link.ifindex),
    routes: routes.filter(({ dev }) => dev === link.ifindex),
  };
}
