/** IPv6 by router advertisements: what the kernel has to be told, which does the rest itself. Pure. */
import { contains } from '../model/address.ts';
import type { Attachment, Ipv6Spec } from '../model/attachment.ts';
import type { Addr, Route } from '../model/link.ts';
import type { LinkWithAddrs, Observed } from '../model/observed.ts';
import type { PlannedRoute, Step } from '../model/operation.ts';
import { wantsIpv6 } from './attach.ts';

/** Values of addr_gen_mode, `ip link set addrgenmode`. */
const addrGenMode = { eui64: '0', 'stable-privacy': '2' } as const;

/**
 * Sysctls of the interface. Before it is up, as its link-local address is made then. With stable-privacy the kernel needs
 * a secret first, see {@link withStableSecret}.
 */
export function ipv6Sysctls(
  { mode, interfaceId }: Ipv6Spec,
  noGateway: boolean | undefined,
): Record<string, string> {
  return {
    // 2: also in a container that forwards, which would otherwise not listen to routers.
    'ipv6/accept_ra': '2',
    'ipv6/accept_ra_defrtr': noGateway ? '0' : '1',
    'ipv6/autoconf': mode === 'dhcp' ? '0' : '1',
    // Addresses that change every day would make a container hard to find.
    'ipv6/use_tempaddr': '0',
    // A container that comes back has its addresses and another MAC: neighbours are told, or they would send to the old one.
    'ipv6/ndisc_notify': '1',
    'ipv6/addr_gen_mode': addrGenMode[interfaceId],
  };
}

/** RTPROT_RA, and RTPROT_KERNEL: router advertisements bring routes of both. */
const byRouter = 9;
const byKernel = 2;
/** IFA_F_PERMANENT: not from a lease or a router advertisement. */
const permanent = 0x80;

/**
 * What `ipv6` had brought goes when it is asked for no more: addresses by advertisements and their routes; and IPv6 is
 * switched off again where it was before, unless something else needs it by now. The DHCPv6 client takes its lease off
 * itself. Only for an entry of a topology, which says all that is wanted.
 */
export function dropIpv6(want: Attachment, seen: Observed, { link, addrs, routes }: LinkWithAddrs): Step[] {
  const { record } = seen;
  if (want.rules === undefined || !record) return [];
  const steps: Step[] = [];
  const global = addrs.filter(({ cidr, scope }) => cidr.family === 6 && scope === 0);
  if (record.want?.ipv6 && !want.ipv6) {
    const because = 'IPv6 from the network is asked for no more';
    const advertised = global.filter(({ cidr, flags }) => (flags & permanent) === 0 && cidr.prefixLen < 128);
    const lasting = global.filter(({ flags }) => (flags & permanent) !== 0);
    for (const { cidr } of advertised)
      steps.push({ op: { do: 'addr.del', side: 'guest', link: want.ifname, cidr }, because, undo: [] });
    for (const route of routes.filter((one) => isAdvertised(one, lasting)))
      steps.push({
        op: { do: 'route.del', side: 'guest', route: plannedAs(route, want.ifname) },
        because,
        undo: [],
      });
  }
  const needed = wantsIpv6(want) || global.some(({ flags }) => (flags & permanent) !== 0);
  if (record.formerSysctls?.['ipv6/disable_ipv6'] !== '1' || needed || link.ipv6Disabled) return steps;
  return [
    ...steps,
    {
      op: { do: 'ipv6.enable', link: want.ifname, enable: false },
      because: 'IPv6 is asked for no more, and was switched off before',
      undo: [{ do: 'ipv6.enable', link: want.ifname, enable: true }],
    },
  ];
}

/** Default routes of routers, and the prefixes that they say are on the link. */
function isAdvertised({ family, protocol, dst }: Route, lasting: readonly Addr[]): boolean {
  if (family !== 6 || (protocol !== byRouter && protocol !== byKernel)) return false;
  if (dst === undefined || protocol === byRouter) return true;
  const isOwn = lasting.some(({ cidr }) => cidr.prefixLen === dst.prefixLen && contains(dst, cidr.ip));
  return dst.prefixLen < 128 && !/^f[ef]/.test(dst.ip) && !isOwn;
}

function plannedAs({ family, dst, gateway, metric, protocol }: Route, link: string): PlannedRoute {
  return {
    family,
    link,
    ...(dst && { dst }),
    ...(gateway !== undefined && { gateway }),
    ...(metric !== undefined && { metric }),
    ...(protocol !== undefined && { protocol }),
  };
}

const secretKey = 'ipv6/stable_secret';

/** The sysctls with the secret that stable-privacy addresses are made from, before everything else. */
export function withStableSecret(
  sysctls: Readonly<Record<string, string>>,
  { interfaceId }: Ipv6Spec,
  secret: string,
): Record<string, string> {
  // Whoever says a secret of their own has reasons.
  return interfaceId === 'eui64' ? { ...sysctls } : { [secretKey]: secret, ...sysctls };
}
