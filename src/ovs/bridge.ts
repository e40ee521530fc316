/** Open vSwitch bridges: list, get, add, del. Each change is one transaction. */
import { PipewrightError } from '../errors.ts';
import { type Change, commit, defaultWait, type Step, type Wait } from './commit.ts';
import { type DatapathType, usableDatapath } from './datapath.ts';
import type { About, Condition, Operation, OpResult, Ovsdb } from './ovsdb.ts';
import { mapOf, namedUuid, type Row, readMap, readString, readUuids, setOf, uuidOf } from './values.ts';

/** A bridge as the database holds it. */
export interface OvsBridge {
  readonly uuid: string;
  readonly name: string;
  readonly datapathType: DatapathType;
  /** external_ids of the Bridge row. */
  readonly externalIds: Readonly<Record<string, string>>;
  /** `hwaddr`: the MAC address of the bridge's own port. */
  readonly otherConfig: Readonly<Record<string, string>>;
  /** Names of its ports without its own, as `ovs-vsctl list-ports` prints them. */
  readonly ports: readonly string[];
}

/** `ovs-vsctl add-br NAME -- set bridge NAME external-ids:KEY=VALUE`. */
export interface NewBridge {
  readonly name: string;
  /** Absent: the kernel's where it can be had (see {@link usableDatapath}). */
  readonly datapathType?: DatapathType | undefined;
  readonly externalIds?: Readonly<Record<string, string>> | undefined;
  readonly otherConfig?: Readonly<Record<string, string>> | undefined;
}

/** An external_ids entry that a row must carry to be deleted. */
export interface Mark {
  readonly key: string;
  readonly value: string;
}

const bridgeColumns = ['_uuid', 'name', 'datapath_type', 'external_ids', 'other_config', 'ports'];

/** All bridges, `ovs-vsctl list-br`; the "fake bridges" that are a VLAN of another one are not among them. */
export async function listBridges(db: Ovsdb): Promise<OvsBridge[]> {
  return await selectBridges(db, [], { op: 'ovs.bridge.list', subject: db.path });
}

/** The bridge of this name, `ovs-vsctl list bridge NAME`; undefined when there is none. */
export async function getBridge(db: Ovsdb, name: string): Promise<OvsBridge | undefined> {
  const [bridge] = await selectBridges(db, [['name', '==', name]], { op: 'ovs.bridge.get', subject: name });
  return bridge;
}

/**
 * Adds a bridge with its own port and internal interface, `ovs-vsctl add-br`. The link of its name stays down.
 * Throws NAME_TAKEN when a bridge or a port has the name; for the rest see {@link commit}.
 */
export async function addBridge(db: Ovsdb, bridge: NewBridge, wait: Wait = defaultWait): Promise<void> {
  await commit(db, addBridgeChange(await withDatapath(db, bridge)), wait);
}

/** `bridge` with its datapath type decided for this host. */
export async function withDatapath(db: Ovsdb, bridge: NewBridge): Promise<NewBridge> {
  return { ...bridge, datapathType: bridge.datapathType ?? (await usableDatapath(db.path)) };
}

/** What {@link addBridge} commits, to be put together with other changes. The datapath type must be decided. */
export function addBridgeChange(bridge: NewBridge): Change {
  const { name } = bridge;
  const about = { op: 'ovs.bridge.add', subject: name };
  const reserve = (table: 'Bridge' | 'Port' | 'Interface'): Step => ({
    operation: nameIsFree(table, name),
    explain: async () => bridgeNameTaken(about, table),
  });
  return {
    about,
    steps: [
      { operation: databaseIsUsed, explain: async () => databaseUnused(about) },
      reserve('Bridge'),
      reserve('Port'),
      reserve('Interface'),
      ...bridgeRows(bridge).map((operation) => ({ operation })),
    ],
    interfaces: [name],
    // Only while it is empty: another command may have plugged into it meanwhile, and then it stays.
    undo: async (db, results) => {
      await db.tryTransact(delBridgeOperations(uuidAt(results, 6), uuidAt(results, 5)), about);
    },
  };
}

/**
 * Deletes a bridge and its ports, `ovs-vsctl --if-exists del-br`; true when it was there. With `onlyIf`, only when its
 * external_ids hold that entry; with `onlyIfEmpty`, only when it has no port but its own, also at the moment
 * of the deletion.
 */
export async function delBridge(
  db: Ovsdb,
  bridge: { readonly name: string; readonly onlyIf?: Mark; readonly onlyIfEmpty?: boolean },
  wait: Wait = defaultWait,
): Promise<boolean> {
  const { name, onlyIf, onlyIfEmpty = false } = bridge;
  const about = { op: 'ovs.bridge.del', subject: name };
  const where: Condition[] = [['name', '==', name]];
  if (onlyIf !== undefined) where.push(carries(onlyIf));
  const [bridges, ports] = await db.transact(
    [
      { op: 'select', table: 'Bridge', where, columns: ['_uuid', 'ports'] },
      { op: 'select', table: 'Port', where: [['name', '==', name]], columns: ['_uuid'] },
    ],
    about,
  );
  const row = bridges?.rows?.[0];
  const [uuid] = readUuids(row?._uuid);
  const [ownPort] = readUuids(ports?.rows?.[0]?._uuid);
  if (uuid === undefined || (onlyIfEmpty && readUuids(row?.ports).some((port) => port !== ownPort)))
    return false;
  const operations = delBridgeOperations(uuid, onlyIfEmpty ? ownPort : undefined, onlyIf);
  return await guarded(db, { about, steps: operations.map((operation) => ({ operation })) }, wait);
}

/**
 * Sets the MAC address of the bridge's own port, `ovs-vsctl set bridge NAME other-config:hwaddr=MAC`; undefined leaves the
 * choice to Open vSwitch. No failure when there is no such bridge.
 */
export async function setBridgeMac(
  db: Ovsdb,
  name: string,
  mac: string | undefined,
  wait: Wait = defaultWait,
): Promise<void> {
  const without = ['other_config', 'delete', setOf(['hwaddr'])] as const;
  const operation: Operation = {
    op: 'mutate',
    table: 'Bridge',
    where: [['name', '==', name]],
    mutations: [
      without,
      ...(mac === undefined ? [] : [['other_config', 'insert', mapOf({ hwaddr: mac })] as const]),
    ],
  };
  await commit(db, { about: { op: 'ovs.bridge.change', subject: name }, steps: [{ operation }] }, wait);
}

/**
 * Commits a change whose first operations are guards and whose last one deletes: false when a guard does not
 * hold any more, or when nothing was left to delete.
 */
export async function guarded(db: Ovsdb, change: Change, wait: Wait): Promise<boolean> {
  const { about, steps } = change;
  let lost = false;
  const watched = steps.map<Step>(({ operation }) => ({
    operation,
    ...(operation.op === 'wait' ? { explain: async () => noLonger() } : {}),
  }));
  const noLonger = (): PipewrightError => {
    lost = true;
    return new PipewrightError('OVS_REFUSED', { ...about, detail: 'it changed meanwhile' });
  };
  try {
    const results = await commit(db, { ...change, steps: watched }, wait);
    return (results.at(-1)?.count ?? 0) > 0;
  } catch (error) {
    if (lost) return false;
    throw error;
  }
}

/** A guard: no row of the table has this name. */
export function nameIsFree(table: 'Bridge' | 'Port' | 'Interface', name: string): Operation {
  return {
    op: 'wait',
    table,
    where: [['name', '==', name]],
    columns: ['name'],
    until: '==',
    rows: [],
    timeout: 0,
  };
}

/** A condition: external_ids hold this entry. */
export function carries(mark: Mark): Condition {
  return ['external_ids', 'includes', mapOf({ [mark.key]: mark.value })];
}

/** The uuid that the insert at this index gave. */
export function uuidAt(results: readonly OpResult[], index: number): string {
  return results[index]?.uuid?.[1] ?? '';
}

/** Inserts for the bridge, its own port and that one's interface. */
function bridgeRows({ name, datapathType, externalIds = {}, otherConfig = {} }: NewBridge): Operation[] {
  return [
    { op: 'insert', table: 'Interface', 'uuid-name': 'bridge_if', row: { name, type: 'internal' } },
    {
      op: 'insert',
      table: 'Port',
      'uuid-name': 'bridge_port',
      row: { name, interfaces: namedUuid('bridge_if') },
    },
    {
      op: 'insert',
      table: 'Bridge',
      'uuid-name': 'bridge',
      row: {
        name,
        ports: namedUuid('bridge_port'),
        external_ids: mapOf(externalIds),
        other_config: mapOf(otherConfig),
        // As ovs-vsctl does: what is not special is not written.
        ...(datapathType === 'netdev' ? { datapath_type: datapathType } : {}),
      },
    },
    {
      op: 'mutate',
      table: 'Open_vSwitch',
      where: [],
      mutations: [['bridges', 'insert', namedUuid('bridge')]],
    },
  ];
}

/** Operations that delete a bridge; with `onlyPort`, guarded by that being its only port. */
function delBridgeOperations(uuid: string, onlyPort?: string, onlyIf?: Mark): Operation[] {
  const itself: Condition = ['_uuid', '==', uuidOf(uuid)];
  const guard = (where: Condition[], row: Row): Operation => ({
    op: 'wait',
    table: 'Bridge',
    where,
    columns: Object.keys(row),
    until: '==',
    rows: [row],
    timeout: 0,
  });
  return [
    ...(onlyPort === undefined ? [] : [guard([itself], { ports: uuidOf(onlyPort) })]),
    ...(onlyIf === undefined ? [] : [guard([itself, carries(onlyIf)], { _uuid: uuidOf(uuid) })]),
    {
      op: 'mutate',
      table: 'Open_vSwitch',
      where: [['bridges', 'includes', uuidOf(uuid)]],
      mutations: [['bridges', 'delete', uuidOf(uuid)]],
    },
  ];
}

/** Without its one row in Open_vSwitch, a new bridge would belong to nothing and be collected at once, silently. */
const databaseIsUsed: Operation = {
  op: 'wait',
  table: 'Open_vSwitch',
  where: [],
  columns: ['_uuid'],
  until: '!=',
  rows: [],
  timeout: 0,
};

function databaseUnused(about: About): PipewrightError {
  const detail = 'the database was never initialised';
  return new PipewrightError('OVS_REFUSED', { ...about, detail, hint: 'run `ovs-vsctl --no-wait init`' });
}

function bridgeNameTaken(about: About, table: 'Bridge' | 'Port' | 'Interface'): PipewrightError {
  const what = { Bridge: 'a bridge', Port: 'a port', Interface: 'an interface' }[table];
  const detail = `${what} of this name exists already in Open vSwitch`;
  return new PipewrightError('NAME_TAKEN', { ...about, errno: 'EEXIST', detail });
}

async function selectBridges(db: Ovsdb, where: Condition[], about: About): Promise<OvsBridge[]> {
  const [bridges, ports] = await db.transact(
    [
      { op: 'select', table: 'Bridge', where, columns: bridgeColumns },
      { op: 'select', table: 'Port', where: [], columns: ['_uuid', 'name'] },
    ],
    about,
  );
  const names = new Map(
    (ports?.rows ?? []).map((row) => [readUuids(row._uuid)[0], readString(row.name) ?? '']),
  );
  return (bridges?.rows ?? []).map((row) => {
    const name = readString(row.name) ?? '';
    return {
      uuid: readUuids(row._uuid)[0] ?? '',
      name,
      datapathType: row.datapath_type === 'netdev' ? 'netdev' : 'system',
      externalIds: readMap(row.external_ids),
      otherConfig: readMap(row.other_config),
      ports: readUuids(row.ports)
        .map((uuid) => names.get(uuid) ?? '')
        .filter((port) => port !== name)
        .sort(),
    };
  });
}
