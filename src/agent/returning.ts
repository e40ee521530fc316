/** SLAAC for a container that was away for a moment. */
import type { Container } from '../containers/container.ts';
import { openContainerNetns } from '../containers/resolve.ts';
import { readSysctl, sysctlPath, writeSysctl } from '../kernel/sysctl.ts';
import type { Attachment } from '../model/attachment.ts';

const transmits = 'ipv6/dad_transmits';
/** Milliseconds in which routers have told what addresses are made of; they are asked as soon as the link is up. */
const settleMs = 20_000;

/** Whether the addresses that its interface makes itself are those that it had before. */
export function makesTheSame({ ipv6, mac, sysctls }: Attachment): boolean {
  const isStable = ipv6?.interfaceId === 'stable-privacy' || mac !== undefined;
  return ipv6?.mode === 'slaac' && isStable && sysctls?.[transmits] === undefined;
}

/**
 * Makes an interface whose own addresses are used without asking the link for them, for a moment: they were its own until
 * its container ended. The kernel takes the former interface away when it finds the time, and a macvlan in there would
 * answer for them: the successor would make itself other ones.
 */
export async function withoutQuestions<T>(
  container: Container,
  { ifname }: Attachment,
  make: () => Promise<T>,
): Promise<T> {
  using netns = openContainerNetns(container);
  const key = sysctlPath('default', transmits);
  const was = readSysctl(netns, key);
  if (was === undefined || was === '0') return make();
  writeSysctl(netns, key, '0');
  try {
    return await make();
  } finally {
    writeSysctl(netns, key, was);
    setTimeout(() => askAgain(container, ifname, was), settleMs).unref();
  }
}

/** From now on questions are asked as in any other interface. */
function askAgain(container: Container, ifname: string, was: string): void {
  try {
    using netns = openContainerNetns(container);
    const key = sysctlPath(ifname, transmits);
    if (readSysctl(netns, key) === '0') writeSysctl(netns, key, was);
  } catch {
    // The container has ended meanwhile.
  }
}
