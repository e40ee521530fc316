/** A plan is run as one transaction: its undo is on disk before its first step, and any failure takes all of it back. */
import { startTimeOf } from '../containers/proc.ts';
import { PipewrightError } from '../errors.ts';
import { NetlinkSocket } from '../kernel/netlink/socket.ts';
import { Netns } from '../kernel/netns.ts';
import type { Link } from '../model/link.ts';
import type { AttachmentRecord } from '../model/observed.ts';
import type { Operation, Step } from '../model/operation.ts';
import { lives } from '../observe/lives.ts';
import { backendsOf } from './backends.ts';
import { Executor } from './execute.ts';
import type { Host } from './host.ts';
import { containerKey, type Journal } from './state.ts';

/** The container of a transaction: its namespace, open, and where it was found. */
export interface Guest {
  readonly rtnl: NetlinkSocket;
  readonly netnsPath: string;
  /** For messages: the container's name. */
  readonly label: string;
}

/** What is run. */
export interface Transaction {
  readonly group: number;
  readonly steps: readonly Step[];
  /** Links of the host as they are now, which the steps need not look up again. */
  readonly known?: readonly Link[];
  /** Where the note of the attachment goes, what is there now, and what is to be there. */
  readonly note?: {
    readonly containerKey: string;
    readonly ifname: string;
    readonly was: AttachmentRecord | undefined;
    readonly is: AttachmentRecord;
  };
}

let startTime: string | undefined;

function ownStartTime(): string {
  startTime ??= startTimeOf(process.pid) ?? '';
  return startTime;
}

/** For tests: what is called before each step; it may throw, or end the process. */
export type BeforeStep = (step: Step, index: number) => void;

/** A transaction whose steps are done but for the final ones, and which can still be taken back. */
export interface Pending {
  /** Makes it final. @returns warnings: what failed of the final steps; the next command tries them again */
  commit(): Promise<string[]>;
  /** Takes it back because of `reason`, which is thrown. */
  rollBack(reason: unknown): Promise<never>;
}

/**
 * Runs every step but the final ones. The caller holds the host's lock.
 * @throws the failure of the step, after everything was taken back; UNDO_INCOMPLETE when not all of it could be
 */
export async function begin(
  host: Host,
  guest: Guest | undefined,
  transaction: Transaction,
  before?: BeforeStep,
): Promise<Pending> {
  const { note } = transaction;
  const steps = transaction.steps.filter((step) => !step.final);
  const final = transaction.steps.filter((step) => step.final);
  const undo = [...steps].reverse().flatMap((step) => step.undo);
  const journal: Journal = {
    version: 1,
    pid: process.pid,
    startTime: ownStartTime(),
    guest: guest && { netnsPath: guest.netnsPath, netnsInode: guest.rtnl.netns.inode, label: guest.label },
    undo,
    note: note && {
      containerKey: note.containerKey,
      ifname: note.ifname,
      was: note.was,
      dhcpGuest: note.is.dhcpGuest,
    },
  };
  const path = host.state.writeJournal(journal, transaction.group);
  const rollBack = async (reason: unknown): Promise<never> => {
    const { failures, undo } = await takeBack(host, journal);
    if (failures.length > 0) {
      abandon(host, path, { ...journal, undo });
      throw undoIncomplete(reason, failures);
    }
    host.state.removeFile(path);
    throw reason;
  };
  const run = (some: readonly Step[], from: number, rtnl: NetlinkSocket | undefined) =>
    new Executor({ host: host.rtnl, guest: rtnl, known: transaction.known }, backendsOf(host)).run(
      some.map(({ op }) => op),
      before && ((index): void => before(some[index] as Step, from + index)),
    );
  const failed = await run(steps, 0, guest?.rtnl);
  if (failed) return rollBack(failed.error);
  try {
    if (note) host.state.writeRecord(note.containerKey, note.is);
  } catch (error) {
    return rollBack(error);
  }
  const commit = async (): Promise<string[]> => {
    // From here on the way is forward, whoever goes it.
    const forward = { ...journal, undo: final.map(({ op }) => op), note: undefined };
    if (final.length > 0) {
      host.state.rewriteJournal(path, forward);
      using again = openGuest(journal.guest);
      const failure = await run(final, steps.length, again?.rtnl);
      if (failure) {
        abandon(host, path, forward);
        return warningsOf([failure.error]);
      }
    }
    host.state.removeFile(path);
    return [];
  };
  return { commit, rollBack };
}

/** What is left to do stays in the journal, for the next command, even when that is one of this process. */
function abandon(host: Host, path: string, journal: Journal): void {
  host.state.rewriteJournal(path, { ...journal, pid: 0 });
}

function undoIncomplete(reason: unknown, failures: readonly unknown[]): PipewrightError {
  const text = (error: unknown): string => (error instanceof Error ? error.message : String(error));
  return new PipewrightError('UNDO_INCOMPLETE', {
    op: 'undo',
    subject: text(reason),
    detail: `and it could not all be taken back: ${failures.map(text).join('; ')}`,
    cause: reason,
  });
}

function restoreNote(host: Host, note: Journal['note']): unknown[] {
  if (!note) return [];
  try {
    if (note.was) host.state.writeRecord(note.containerKey, note.was);
    else host.state.removeRecord(note.containerKey, note.ifname);
    return [];
  } catch (error) {
    return [error];
  }
}

/**
 * The undo of a journal without what others have come to use meanwhile: while a command waits for a DHCP server, other
 * containers can be connected to the bridge that it made.
 */
function unshared(host: Host, { undo, note }: Journal): readonly Operation[] {
  const takesAway = (op: Operation): string | undefined => {
    if (op.do === 'firewall.revoke') return op.bridge;
    if (op.do === 'link.del' && op.side === 'host') return op.name;
    return op.do === 'link.set' && op.side === 'host' && op.set.up === false ? op.name : undefined;
  };
  if (undo.every((op) => takesAway(op) === undefined)) return undo;
  const isOwn = ({ container, ifname }: AttachmentRecord): boolean =>
    containerKey(container) === note?.containerKey && ifname === note.ifname;
  const used = new Set(
    host.state
      .records()
      .filter((record) => !isOwn(record) && lives(record.container))
      .flatMap(({ network, vlanIfname }) => [
        'uplink' in network ? network.uplink : 'name' in network ? network.name : undefined,
        vlanIfname,
      ]),
  );
  return undo.filter((op) => {
    const name = takesAway(op);
    return name === undefined || !used.has(name);
  });
}

/**
 * Takes back what commands that died in the middle have left. The caller holds the host's lock.
 * @returns warnings: what could not be taken back; it is tried again the next time
 */
export async function recover(host: Host): Promise<string[]> {
  const failures: unknown[] = [];
  for (const { path, value: journal } of host.state.journals()) {
    // Alive, it is waiting outside the lock, for a DHCP server.
    if (startTimeOf(journal.pid) === journal.startTime) continue;
    await stopClient(host, journal).catch((error: unknown) => failures.push(error));
    const done = await takeBack(host, journal);
    failures.push(...done.failures);
    if (done.undo.length > 0) host.state.rewriteJournal(path, { ...journal, undo: done.undo });
    else host.state.removeFile(path);
  }
  return warningsOf(failures);
}

/**
 * Runs the undo of a journal, whoever wrote it and whenever: what was open then may be closed.
 * @returns what failed, and the operations that are still to be run
 */
async function takeBack(host: Host, journal: Journal): Promise<{ failures: unknown[]; undo: Operation[] }> {
  using guest = openGuest(journal.guest);
  const executor = new Executor({ host: host.rtnl, guest: guest?.rtnl }, backendsOf(host));
  const failures: unknown[] = [];
  const undo: Operation[] = [];
  for (const op of unshared(host, journal)) {
    // What was in a container that is gone is gone.
    if (!guest && 'side' in op && op.side === 'guest') continue;
    const [failure] = await executor.runAll([op]);
    if (failure === undefined) continue;
    failures.push(failure);
    undo.push(op);
  }
  failures.push(...restoreNote(host, journal.note));
  return { failures, undo };
}

function warningsOf(failures: readonly unknown[]): string[] {
  const text = (error: unknown): string => (error instanceof Error ? error.message : String(error));
  return [...new Set(failures.map(text))].map(
    (why) => `something is left over, until the next command: ${why}`,
  );
}

/** A DHCP client that was at work when its command was killed. */
async function stopClient(host: Host, { note }: Journal): Promise<void> {
  if (note?.dhcpGuest === undefined || note.dhcpGuest === note.was?.dhcpGuest) return;
  const { stopDhcpClient } = await import('../dhcp/clients.ts');
  await stopDhcpClient({ guest: note.dhcpGuest, ifname: note.ifname, stateDir: host.state.path });
}

function openGuest(guest: Journal['guest']): (Disposable & { readonly rtnl: NetlinkSocket }) | undefined {
  if (!guest) return undefined;
  let netns: Netns;
  try {
    netns = Netns.open(guest.netnsPath, guest.label);
  } catch {
    return undefined;
  }
  if (netns.inode !== guest.netnsInode) {
    netns[Symbol.dispose]();
    return undefined;
  }
  const rtnl = NetlinkSocket.open(netns);
  const dispose = (): void => {
    rtnl[Symbol.dispose]();
    netns[Symbol.dispose]();
  };
  return { rtnl, [Symbol.dispose]: dispose };
}
