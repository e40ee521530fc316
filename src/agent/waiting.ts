/** What waits for its container: the names in the topology of which none runs. */
import { qualifiedName } from '../model/attachment.ts';
import type { Topology } from '../model/topology.ts';

/**
 * Keys of entries of one container that is not there, and keys that are another's. A plain name is Docker's key until a
 * container of Podman has it.
 * @param isHere whether what has this key is there, or was and is out of sight
 */
export function waitingKeys(
  { attachments }: Topology,
  isHere: (key: string) => boolean,
): { readonly waiting: readonly string[]; readonly taken: readonly string[] } {
  const waiting: string[] = [];
  const taken: string[] = [];
  for (const { selector, ifname } of attachments) {
    if (selector.by !== 'name') continue;
    const keyIn = (runtime: 'docker' | 'podman'): string =>
      `${qualifiedName({ runtime, name: selector.name })}/${ifname}`;
    const key = keyIn(selector.runtime ?? 'docker');
    if (isHere(key)) continue;
    const isPodmans = selector.runtime === undefined && isHere(keyIn('podman'));
    (isPodmans ? taken : waiting).push(key);
  }
  return { waiting, taken };
}
