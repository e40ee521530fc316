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

/** What can still be taken back. */
export interface Held {
  /** Makes it final. @returns warnings: what failed of the final steps; the next command tries them again */
  commit(): Promise<string[]>;
  /** Takes it back because of `reason`, which is thrown. */
  rollBack(reason: unknown): Promise<never>;
  /** Leaves it to the next command to take it back. */
  abandon(): void;
}

/** A transaction whose steps are done but for the final ones. */
export interface Pending extends Held {
  /**
   * Goes on with more steps, for what was left open because it takes too long for the lock. The caller holds it again.
   * @throws the failure of a step, after everything was taken back, what was done before as well
   */
  extend(steps: readonly Step[], note: AttachmentRecord): Promise<void>;
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
  const running = new Running(host, guest, transaction, before);
  await running.run(transaction.steps, transaction.note?.is, transaction.known);
  return running;
}

/** A transaction under way: its journal is what takes it back at any moment. */
class Running implements Pending {
  readonly #host: Host;
  readonly #guest: Guest | undefined;
  readonly #before: BeforeStep | undefined;
  readonly #path: string;
  readonly #final: Step[] = [];
  #journal: Journal;
  /** Steps that were begun. */
  #count = 0;

  constructor(
    host: Host,
    guest: Guest | undefined,
    { group, steps, note }: Transaction,
    before: BeforeStep | undefined,
  ) {
    this.#host = host;
    this.#guest = guest;
    this.#before = before;
    this.#journal = {
      version: 1,
      pid: process.pid,
      startTime: ownStartTime(),
      guest: guest && {
        netnsPath: guest.netnsPath,
        netnsInode: guest.rtnl.netns.inode,
        label: guest.label,
      },
      undo: undoOf(steps),
      note: note && {
        containerKey: note.containerKey,
        ifname: note.ifname,
        was: note.was,
        dhcpGuest: note.is.dhcpGuest,
      },
    };
    this.#path = host.state.writeJournal(this.#journal, group);
  }

  async run(steps: readonly Step[], note?: AttachmentRecord, known?: readonly Link[]): Promise<void> {
    this.#final.push(...steps.filter((step) => step.final));
    const failed = await this.#execute(
      steps.filter((step) => !step.final),
      this.#guest?.rtnl,
      known,
    );
    if (failed) return this.rollBack(failed.error);
    if (!note || !this.#journal.note) return;
    try {
      this.#host.state.writeRecord(this.#journal.note.containerKey, note);
    } catch (error) {
      return this.rollBack(error);
    }
  }

  #execute(steps: readonly Step[], guest: NetlinkSocket | undefined, known?: readonly Link[]) {
    const from = this.#count;
    this.#count += steps.length;
    const before = this.#before;
    return new Executor({ host: this.#host.rtnl, guest, known }, backendsOf(this.#host)).run(
      steps.map(({ op }) => op),
      before && ((index): void => before(steps[index] as Step, from + index)),
    );
  }

  async extend(steps: readonly Step[], note: AttachmentRecord): Promise<void> {
    try {
      const undo = [...undoOf(steps), ...this.#journal.undo];
      this.#journal = { ...this.#journal, undo };
      this.#host.state.rewriteJournal(this.#path, this.#journal);
    } catch (error) {
      return this.rollBack(error);
    }
    return this.run(steps, note);
  }

  async commit(): Promise<string[]> {
    // From here on the way is forward, whoever goes it.
    const forward = { ...this.#journal, undo: this.#final.map(({ op }) => op), note: undefined };
    if (this.#final.length > 0) {
      this.#host.state.rewriteJournal(this.#path, forward);
      using again = openGuest(this.#host, this.#journal.guest);
      const failure = await this.#execute(this.#final, again?.rtnl);
      if (failure) {
        abandon(this.#host, this.#path, forward);
        return warningsOf([failure.error]);
      }
    }
    this.#host.state.removeFile(this.#path);
    return [];
  }

  abandon(): void {
    abandon(this.#host, this.#path, this.#journal);
  }

  async rollBack(reason: unknown): Promise<never> {
    const { failures, undo } = await takeBack(this.#host, this.#journal);
    if (failures.length > 0) {
      abandon(this.#host, this.#path, { ...this.#journal, undo });
      throw undoIncomplete(reason, failures);
    }
    this.#host.state.removeFile(this.#path);
    throw reason;
  }
}

/** What takes the steps back, the last one first. */
function undoOf(steps: readonly Step[]): Operation[] {
  return steps
    .filter((step) => !step.final)
    .reverse()
    .flatMap((step) => step.undo);
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
  const isUnderWay = host.state.uplinks().some(({ phase }) => phase !== 'settled');
  const uplinks = isUnderWay ? await (await import('./uplink-recover.ts')).recoverUplinks(host) : [];
  return [...warningsOf(failures), ...uplinks];
}

/**
 * Runs the undo of a journal, whoever wrote it and whenever: what was open then may be closed.
 * @returns what failed, and the operations that are still to be run
 */
async function takeBack(host: Host, journal: Journal): Promise<{ failures: unknown[]; undo: Operation[] }> {
  using guest = openGuest(host, journal.guest);
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

function openGuest(
  host: Host,
  guest: Journal['guest'],
): (Disposable & { readonly rtnl: NetlinkSocket }) | undefined {
  if (!guest) return undefined;
  // A network of a topology: its links are born where those of containers are, and stay on the host.
  if (guest.netnsInode === host.netns.inode) return { rtnl: host.rtnl, [Symbol.dispose]: () => {} };
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
