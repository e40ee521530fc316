/** The state directory of one host: lock, journals, and what is noted of each attachment. All below /run. */
import { createHash } from 'node:crypto';
import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  symlinkSync,
  unlinkSync,
} from 'node:fs';
import { startTimeOf } from '../containers/proc.ts';
import { PipewrightError } from '../errors.ts';
import type { Family } from '../model/address.ts';
import { type Network, segmentOf } from '../model/attachment.ts';
import type { Lease } from '../model/lease.ts';
import type { AttachmentRecord } from '../model/observed.ts';
import type { Operation } from '../model/operation.ts';
import type { UplinkJournal } from '../model/uplink.ts';
import type { NetworkRecord } from '../plan/drop-network.ts';
import { FileCache } from '../store/file-cache.ts';
import { writeAtomically } from '../store/write.ts';

/** A host's files are told apart by its network namespace: several hosts can share one /run. */
const root = '/run/pipewright';

/** What a transaction writes down before its first step: how to take all of it back, whoever does. */
export interface Journal {
  readonly version: 1;
  /** The process that is at work; the journal is nobody's when it is gone. */
  readonly pid: number;
  readonly startTime: string;
  /** The container's namespace, checked by inode before anything is undone there. */
  readonly guest:
    | { readonly netnsPath: string; readonly netnsInode: number; readonly label: string }
    | undefined;
  /** In the order in which they are to be run. */
  readonly undo: readonly Operation[];
  /** The note of the attachment as it was before, and the DHCP client that may be at work, by its container. */
  readonly note:
    | {
        readonly containerKey: string;
        readonly ifname: string;
        readonly was: AttachmentRecord | undefined;
        readonly dhcpGuest: string | undefined;
      }
    | undefined;
}

/** A lease that an interface has, and what is needed to go on with it or to give it back. */
export interface HeldLease {
  readonly version: 1;
  /** In which life of the container: a lease of an earlier one is remembered, not held. */
  readonly container: AttachmentRecord['container'];
  readonly ifname: string;
  /** `bridge:br1`: on another network a remembered address is worth nothing. */
  readonly network: string;
  readonly lease: Lease;
  /** Who the interface is to the server: MAC address, and client identifier in hexadecimal. */
  readonly mac: string;
  readonly clientId: string;
  /** MAC addresses that the interface had in earlier lives of its container, the latest first. */
  readonly formerMacs?: readonly string[];
  /** Whose frame brought the lease: the server's, or its relay's. */
  readonly serverMac?: string;
  /** It is being taken off the interface. */
  readonly isLeaving?: true;
  /** The process that renews it: `PID:STARTTIME`; absent: nobody does. */
  readonly keeper?: string;
}

/** Paths and files of one host, by the inode of its network namespace. */
export class StateDir {
  readonly path: string;
  readonly #records = new FileCache<AttachmentRecord>();

  constructor(hostInode: number) {
    this.path = `${root}/net-${hostInode}`;
    mkdirSync(`${this.path}/journal`, { recursive: true, mode: 0o755 });
    mkdirSync(`${this.path}/attachments`, { recursive: true, mode: 0o755 });
    mkdirSync(`${this.path}/networks`, { recursive: true, mode: 0o755 });
    mkdirSync(`${this.path}/addresses`, { recursive: true, mode: 0o755 });
    mkdirSync(`${this.path}/leases`, { recursive: true, mode: 0o755 });
    mkdirSync(`${this.path}/uplinks`, { recursive: true, mode: 0o755 });
  }

  get lockPath(): string {
    return `${this.path}/lock`;
  }

  /** Writes a journal and returns its path. On a tmpfs this is no disk access. */
  writeJournal(journal: Journal, transaction: number): string {
    const file = `${this.path}/journal/${journal.pid}-${transaction.toString(16)}.json`;
    this.#write(file, journal);
    return file;
  }

  rewriteJournal(path: string, journal: Journal): void {
    this.#write(path, journal);
  }

  /** Every journal with its path. What processes that were killed have left half-written is removed on the way. */
  journals(): { path: string; value: Journal }[] {
    const names = readdirSync(`${this.path}/journal`);
    for (const name of names) {
      const [, writer] = /^torn\.(\d+)$/.exec(name) ?? [];
      if (writer !== undefined && startTimeOf(Number(writer)) === undefined)
        remove(`${this.path}/journal/${name}`);
    }
    return this.#read<Journal>('journal', names);
  }

  removeFile(path: string): void {
    remove(path);
  }

  #recordPath(containerKey: string, ifname: string): string {
    return `${this.path}/attachments/${shortName(containerKey, ifname)}.json`;
  }

  #leasePath(containerKey: string, ifname: string, family: Family): string {
    return `${this.path}/leases/${shortName(containerKey, ifname)}+${family}.json`;
  }

  /** The lease of an interface, of this life of the container or of an earlier one. */
  lease(containerKey: string, ifname: string, family: Family): HeldLease | undefined {
    return read<HeldLease>(this.#leasePath(containerKey, ifname, family));
  }

  /** As {@link lease}, at a fraction of the cost. */
  hasLease(containerKey: string, ifname: string, family: Family): boolean {
    return existsSync(this.#leasePath(containerKey, ifname, family));
  }

  writeLease(containerKey: string, held: HeldLease): void {
    this.#write(this.#leasePath(containerKey, held.ifname, held.lease.family), held);
  }

  removeLease(containerKey: string, ifname: string, family: Family): void {
    remove(this.#leasePath(containerKey, ifname, family));
  }

  /** @param containerKey `docker-0123456789ab`, see {@link containerKey} */
  record(containerKey: string, ifname: string): AttachmentRecord | undefined {
    return read<AttachmentRecord>(this.#recordPath(containerKey, ifname));
  }

  writeRecord(containerKey: string, record: AttachmentRecord): void {
    const path = this.#recordPath(containerKey, record.ifname);
    this.#write(path, record);
    for (const link of this.#addressPaths(record)) point(link, path);
  }

  removeRecord(containerKey: string, ifname: string): void {
    const path = this.#recordPath(containerKey, ifname);
    const record = read<AttachmentRecord>(path);
    // The note last: killed in between, it is removed once more.
    for (const link of record ? this.#addressPaths(record) : []) if (target(link) === path) remove(link);
    remove(path);
  }

  /**
   * Who was given an address on this network. Found by one link, whatever else is noted; it can be of a container that is
   * gone.
   */
  recordWith(network: Network, ip: string): AttachmentRecord | undefined {
    const link = this.#addressPath(network, ip);
    const path = link === undefined ? undefined : target(link);
    const record = path === undefined ? undefined : read<AttachmentRecord>(path);
    return record && this.#addressPaths(record).some((other) => other === link) ? record : undefined;
  }

  #addressPaths({ network, want }: AttachmentRecord): string[] {
    return (want?.addrs ?? []).flatMap(({ cidr }) => (cidr && this.#addressPath(network, cidr.ip)) ?? []);
  }

  #addressPath(network: Network, ip: string): string | undefined {
    const segment = segmentOf(network);
    return segment === undefined
      ? undefined
      : `${this.path}/addresses/${encodeURIComponent(segment)}+${encodeURIComponent(ip)}`;
  }

  /** A few of the notes, other ones each time, so that all are looked at sooner or later and no command reads them all. */
  someRecords(most: number): AttachmentRecord[] {
    const names = readdirSync(`${this.path}/attachments`);
    const first = Math.floor(Math.random() * names.length);
    return this.#read<AttachmentRecord>(
      'attachments',
      [...names.slice(first), ...names.slice(0, first)].slice(0, most),
    ).map(({ value }) => value);
  }

  records(): AttachmentRecord[] {
    const paths = this.#pathsIn('attachments');
    return this.#records.all(paths, read).map(({ value }) => value);
  }

  /** The notes of one container. */
  recordsOf(containerKey: string): AttachmentRecord[] {
    const names = readdirSync(`${this.path}/attachments`);
    // A name that was too long says nothing of its container.
    const start = `${encodeURIComponent(containerKey)}+`;
    const ours = names.filter((name) => name.startsWith(start));
    return this.#read<AttachmentRecord>('attachments', ours).map(({ value }) => value);
  }

  networkRecord(name: string): NetworkRecord | undefined {
    return this.networkRecords().find(({ network }) => network === name);
  }

  networkRecords(): NetworkRecord[] {
    return this.#read<NetworkRecord>('networks').map(({ value }) => value);
  }

  writeNetworkRecord(record: NetworkRecord): void {
    this.#write(`${this.path}/networks/${encodeURIComponent(record.network)}.json`, record);
  }

  removeNetworkRecord(name: string): void {
    remove(`${this.path}/networks/${encodeURIComponent(name)}.json`);
  }

  /** Every NIC that is an uplink, or is being made one, or was to be. */
  uplinks(): UplinkJournal[] {
    return this.#read<UplinkJournal>('uplinks').map(({ value }) => value);
  }

  /** @param nic as it is named */
  uplink(nic: string): UplinkJournal | undefined {
    return read<UplinkJournal>(this.#uplinkPath(nic));
  }

  /** Whether an uplink of a Linux bridge needs it to filter VLANs. */
  filtersForUplink(bridge: string): boolean {
    return this.uplinks().some(({ record: { want, switched } }) => {
      const isOnIt = want.bridge.kind === 'bridge' && want.bridge.name === bridge;
      return isOnIt && (want.trunks.length > 0 || switched.length > 0);
    });
  }

  writeUplink(journal: UplinkJournal): void {
    this.#write(this.#uplinkPath(journal.nic), journal);
  }

  removeUplink(nic: string): void {
    remove(this.#uplinkPath(nic));
  }

  #uplinkPath(nic: string): string {
    return `${this.path}/uplinks/${encodeURIComponent(nic)}.json`;
  }

  /** The process that watches over the move of a NIC; it is alive when its start time is this. */
  guard(nic: string): { readonly pid: number; readonly startTime: string } | undefined {
    return read(`${this.#uplinkPath(nic)}.guard`);
  }

  writeGuard(nic: string, guard: { readonly pid: number; readonly startTime: string } | undefined): void {
    const path = `${this.#uplinkPath(nic)}.guard`;
    if (guard) this.#write(path, guard);
    else remove(path);
  }

  /** After a crash of the machine nothing here is of use, so nothing is kept from it. */
  #write(path: string, value: unknown): void {
    try {
      writeAtomically(path, value, { lasting: false, temporary: `${this.path}/journal/torn.${process.pid}` });
    } catch (error) {
      const { code, message } = error as NodeJS.ErrnoException;
      const what = { op: 'state.write', subject: path, errno: code, detail: message, cause: error };
      throw new PipewrightError('STATE_UNREADABLE', what);
    }
  }

  #pathsIn(folder: string, names = readdirSync(`${this.path}/${folder}`)): string[] {
    return names
      .filter((name) => name.endsWith('.json'))
      .sort()
      .map((name) => `${this.path}/${folder}/${name}`);
  }

  #read<T>(folder: string, names?: string[]): { path: string; value: T }[] {
    return this.#pathsIn(folder, names).flatMap((path) => {
      const value = read<T>(path);
      return value === undefined ? [] : [{ path, value }];
    });
  }
}

function shortName(containerKey: string, ifname: string): string {
  // A plus sign is in neither of the two: it is encoded there.
  const name = `${encodeURIComponent(containerKey)}+${encodeURIComponent(ifname)}`;
  // The path of a namespace can be longer than a file name can be.
  return name.length <= 200 ? name : createHash('sha256').update(name).digest('hex');
}

/** The part of a record's file name that stands for its container. */
export function containerKey(container: { readonly runtime: string; readonly id: string }): string {
  const { runtime, id } = container;
  return `${runtime}-${/^[0-9a-f]{64}$/.test(id) ? id.slice(0, 12) : id}`;
}

/** Takes a file away that may be gone. rmSync() does so too, by three more system calls. */
function remove(path: string): void {
  try {
    unlinkSync(path);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
  }
}

/** Where a symbolic link leads; undefined when there is none. */
function target(link: string): string | undefined {
  try {
    return readlinkSync(link);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  }
}

function point(link: string, to: string): void {
  if (target(link) === to) return;
  remove(link);
  symlinkSync(to, link);
}

/** What a file holds; undefined when there is none, or an empty one: the machine crashed while it was written. */
function read<T>(path: string): T | undefined {
  try {
    const text = readFileSync(path, 'utf8');
    return text === '' ? undefined : parse<T>(text);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw unreadable(path, error);
  }
}

/** What JSON.stringify wrote; the attributes of routes that are not ours to know are bytes, which JSON has not. */
function parse<T>(text: string): T {
  if (!text.includes('"Buffer"')) return JSON.parse(text) as T;
  const isBytes = (value: unknown): value is { data: number[] } =>
    typeof value === 'object' &&
    value !== null &&
    'type' in value &&
    value.type === 'Buffer' &&
    'data' in value;
  return JSON.parse(text, (_key, value: unknown) => (isBytes(value) ? Buffer.from(value.data) : value)) as T;
}

function unreadable(path: string, cause: unknown): PipewrightError {
  return new PipewrightError('STATE_UNREADABLE', {
    op: 'state.read',
    subject: path,
    detail: cause instanceof Error ? cause.message : String(cause),
    hint: `look at it; move it away if it is damaged: mv ${path} ${path}.bad`,
    cause,
  });
}
