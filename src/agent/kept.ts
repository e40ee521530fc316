/** One-line commands that the agent keeps: `pipework` and `pipewright attach`. */
import { keyOf } from '../apply/converge.ts';
import { containerKey } from '../apply/state.ts';
import { keptPrefix } from '../apply/wanted.ts';
import { type Attachment, qualifiedName } from '../model/attachment.ts';
import { lives } from '../observe/lives.ts';
import type { AgentParts } from './parts.ts';

/** A one-line command that is kept: `pipework` or `pipewright attach` while the agent runs. */
export interface KeptCommand {
  readonly want: Attachment;
  readonly firewall: boolean;
}

/** @param container its {@link qualifiedName} */
export function keptKey(container: string, ifname: string): string {
  return `${keptPrefix}/${container} ${ifname}`;
}

/**
 * What commands made while no agent ran is kept from now on, and what was kept in a file that is damaged: the note of
 * an interface that is there says what was wanted.
 */
export async function adopt({ host, store, containers, log }: AgentParts): Promise<void> {
  for (const record of host.state.records()) {
    const { name } = record.container;
    const runtime = containers.list.find((engine) => engine.runtime === record.container.runtime)?.runtime;
    // What cannot be found again by its name, or has its addresses from a lease, is left to whoever made it.
    if (runtime === undefined || record.dhcpGuest !== undefined) continue;
    if (!record.want || !lives(record.container)) continue;
    const key = keptKey(qualifiedName(record.container), record.ifname);
    if (await store.read(key)) continue;
    if (record.origin !== 'command' && !store.isDamaged(key)) continue;
    // It may have been named by its id, or by a pid.
    const want = { ...record.want, container: { runtime, name } };
    try {
      await store.compareAndSet(key, { want, firewall: true } satisfies KeptCommand, undefined);
    } catch (error) {
      const why = error instanceof Error ? error.message : String(error);
      log.warn({ key: keyOf(record), error: why }, 'what a command had made cannot be kept');
      continue;
    }
    host.state.writeRecord(containerKey(record.container), { ...record, origin: 'kept' });
    log.info({ key: keyOf(record) }, 'adopted what a command had made');
  }
}
