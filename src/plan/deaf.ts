/**
 * Open vSwitch's datapath in ovs-vswitchd only listens to the host's ends of pairs: the host itself gets all of it too, and
 * would answer, whatever the VLAN. Pure.
 */
import type { Link } from '../model/link.ts';
import type { Observed } from '../model/observed.ts';
import type { Operation, Step } from '../model/operation.ts';

/** It answers no ARP, takes nothing that it has no way back for, which is all, and has no IPv6. */
const deaf = { 'ipv4/arp_ignore': 8, 'ipv4/rp_filter': 1, 'ipv6/disable_ipv6': 1 } as const;

const numberOf = (flag: boolean | undefined): number | undefined =>
  flag === undefined ? undefined : Number(flag);

/** @param present the host's end, where it is not new */
export function planDeaf(name: string, { host }: Observed, present?: Link): Step[] {
  if (host.datapath !== 'netdev') return [];
  const is: Record<keyof typeof deaf, number | undefined> = {
    'ipv4/arp_ignore': present ? present.arpIgnore : 0,
    'ipv4/rp_filter': present ? present.rpFilter : 0,
    'ipv6/disable_ipv6': present ? numberOf(present.ipv6Disabled) : 0,
  };
  const set = (key: string, value: number): Operation => ({
    do: 'sysctl.set',
    side: 'host',
    link: name,
    key,
    value: String(value),
  });
  const because = 'the host is not to answer for the bridge';
  return (Object.keys(deaf) as (keyof typeof deaf)[]).flatMap((key) => {
    const was = is[key];
    if (present && was === undefined) return [];
    return was === deaf[key]
      ? []
      : [{ op: set(key, deaf[key]), because, undo: present ? [set(key, was ?? 0)] : [] }];
  });
}
