/** What is done with moves of NICs that nobody watches over any more: by the next command, whatever it is, or the agent. */
import type { Host } from './host.ts';
import { isAlive, isOver, startGuard } from './uplink-guard.ts';
import { bootId, takeBack } from './uplink-journal.ts';

/**
 * What was cut off, or is past its time, goes back; what waits for its confirmation gets a new guard. The caller holds the
 * lock.
 * @returns warnings: what could not be put back yet
 */
export async function recoverUplinks(host: Host): Promise<string[]> {
  const warnings: string[] = [];
  for (const journal of host.state.uplinks()) {
    if (journal.bootId !== bootId()) {
      // The kernel has forgotten all of it.
      host.state.removeUplink(journal.nic);
      continue;
    }
    const guard = host.state.guard(journal.nic);
    if (journal.phase === 'settled' || (guard && isAlive(guard))) continue;
    if (!isOver(journal)) {
      if (journal.phase === 'moved') await startGuard(host, journal.nic);
      continue;
    }
    const failures = await takeBack(host, journal);
    warnings.push(...failures.map(({ error }) => `${journal.nic} is not all as it was: ${String(error)}`));
  }
  return warnings;
}
