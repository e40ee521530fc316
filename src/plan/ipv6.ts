/** IPv6 by router advertisements: what the kernel has to be told, which does the rest itself. Pure. */
import type { Ipv6Spec } from '../model/attachment.ts';

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
