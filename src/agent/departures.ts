/** Takes away what is wanted no more, and what containers that are gone have left. */
import { containerOf, inSight, keyOf, unwantedRecords } from '../apply/converge.ts';
import { detach } from '../apply/detach.ts';
import type { Host } from '../apply/host.ts';
import { containerKey } from '../apply/state.ts';
import { keysToStay } from '../apply/wanted.ts';
import { splitId } from '../containers/engines.ts';
import type { LeaseKeeper } from '../dhcp/keeper.ts';
import { PipewrightError } from '../errors.ts';
import { qualifiedName } from '../model/attachment.ts';
import type { AttachmentRecord } from '../model/observed.ts';
import { lives } from '../observe/lives.ts';
import type { HostView } from '../observe/view.ts';
import type { AddressBook } from './addresses.ts';
import { keptKey } from './kept.ts';
import type { Ledgers } from './ledgers.ts';
import type { Resolved } from './look.ts';
import type { AgentParts } from './parts.ts';
import type { Teller } from './teller.ts';
import type { Scope } from './wakeable.ts';

/** What is needed for it. */
interface DepartureParts extends Pick<AgentParts, 'host' | 'store'> {
  readonly ledgers: Ledgers;
  readonly teller: Teller;
  readonly addresses: AddressBook;
  readonly leases: LeaseKeeper;
}

/**
 * @param hasFiles whether a file says what is wanted: without one nobody says what is wanted no more
 * @throws the failure of one of them, after all were tried
 */
export async function removeUnwanted(
  parts: DepartureParts,
  view: HostView,
  scope: Scope,
  resolved: Resolved,
  hasFiles: boolean,
): Promise<void> {
  const { host, store, leases, ledgers, addresses, teller } = parts;
  const wanted = keysToStay(resolved);
  const running = resolved.wanted.map(({ container }) => container);
  const records =
    scope === 'all'
      ? view.records()
      : [...scope].flatMap((id) => host.state.recordsOf(containerKey(splitId(id))));
  // Of what was kept in a file that is damaged nobody said that it is wanted no more.
  const isForgotten = ({ container, ifname }: AttachmentRecord): boolean =>
    hasFiles && !store.isDamaged(keptKey(qualifiedName(container), ifname));
  const unwanted = unwantedRecords(inSight(records, resolved.away), wanted, running).filter(
    (record) => isForgotten(record) || !lives(record.container),
  );
  if (unwanted.length === 0) return;
  for (const record of unwanted) {
    // One that is wanted again when its container is back keeps its address.
    const isOver = !wanted.has(keyOf(record)) && lives(record.container);
    if (isOver) await leases.drop(keyOf(record));
  }
  const failures = await takeAway(host, unwanted);
  for (const record of unwanted.filter((one) => !failures.has(one))) {
    const key = keyOf(record);
    if (!wanted.has(key)) ledgers.drop(key);
    addresses.gone(key);
    teller.tell(key, 'removed', lives(record.container) ? 'it is wanted no more' : 'its container is gone');
  }
  for (const [, error] of failures) throw error;
}

/** All at once, and one by one when something is in the way of one of them. @returns why some are still there */
async function takeAway(
  host: Host,
  records: readonly AttachmentRecord[],
): Promise<ReadonlyMap<AttachmentRecord, unknown>> {
  const targetOf = (record: AttachmentRecord) => ({
    container: containerOf(record),
    ifname: record.ifname,
  });
  const failures = new Map<AttachmentRecord, unknown>();
  try {
    await detach(host, records.map(targetOf), { keepShared: true });
    return failures;
  } catch {
    // Which of them it was, is seen below.
  }
  for (const record of records) {
    try {
      await detach(host, [targetOf(record)], { keepShared: true });
    } catch (error) {
      // Another command has taken it away meanwhile.
      const isGone = error instanceof PipewrightError && error.code === 'NETWORK_UNKNOWN';
      if (!isGone) failures.set(record, error);
    }
  }
  return failures;
}
