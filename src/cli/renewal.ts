/** Who renews the leases that a command has got: the agent, a process that stays, or nobody, which is said. */
import { containerKey } from '../apply/state.ts';
import type { Container } from '../containers/container.ts';
import { printErrorTo, type Session } from './session.ts';

/** Where the agent has made it and keeps it, the agent renews the leases. */
export async function seeToRenewal(
  session: Session,
  { once, stay }: { readonly once: boolean; readonly stay: boolean },
  container: Container,
  ifname: string,
): Promise<void> {
  const { state } = session.host();
  const key = containerKey(container);
  if (session.keepsLeasesOf(container.runtime) && !once) return;
  if (stay) {
    const { startStaying } = await import('../dhcp/stay.ts');
    return startStaying(key, ifname);
  }
  const { renewalNote } = await import('../dhcp/once.ts');
  const leases = ([4, 6] as const).flatMap((family) => state.lease(key, ifname, family)?.lease ?? []);
  const note = renewalNote(leases, ifname, ', or --stay');
  if (note !== undefined) printErrorTo(session, `note: ${note}`);
}
