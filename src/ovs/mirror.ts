/** Mirrors of Open vSwitch bridges: copies of traffic to a port that is for nothing else. */
import { PipewrightError } from '../errors.ts';
import { commit, defaultWait, type Wait } from './commit.ts';
import type { About, Operation, Ovsdb } from './ovsdb.ts';
import {
  mapOf,
  namedUuid,
  type Row,
  readIntegers,
  readMap,
  readString,
  readUuids,
  setOf,
  uuidOf,
} from './values.ts';
import { askVswitchd } from './vswitchd.ts';

/** A row of the table Mirror that leads to a port. */
export interface OvsMirror {
  readonly name: string;
  /** Undefined when its port is gone: it leads nowhere then. */
  readonly outputPort: string | undefined;
  /** select_all: whatever any port sends or receives. */
  readonly all: boolean;
  /** Names of the ports whose frames are copied as they arrive from them, and as they leave by them; sorted. */
  readonly src: readonly string[];
  readonly dst: readonly string[];
  /** Ascending; empty: all. */
  readonly vlans: readonly number[];
  readonly externalIds: Readonly<Record<string, string>>;
}

const columns = [
  ...['_uuid', 'name', 'output_port', 'select_all', 'select_src_port', 'select_dst_port', 'select_vlan'],
  'external_ids',
];

/** All mirrors whose external_ids have this key, `ovs-vsctl list mirror`. */
export async function listMirrorsBy(db: Ovsdb, key: string): Promise<OvsMirror[]> {
  const about = { op: 'ovs.mirror.list', subject: key };
  const [mirrors, ports] = await db.transact(
    [
      { op: 'select', table: 'Mirror', where: [], columns },
      { op: 'select', table: 'Port', where: [], columns: ['_uuid', 'name'] },
    ],
    about,
  );
  const nameOf = new Map((ports?.rows ?? []).map((row) => [readUuids(row._uuid)[0], readString(row.name)]));
  const named = (value: Row[string] | undefined): string[] =>
    readUuids(value)
      .flatMap((uuid) => nameOf.get(uuid) ?? [])
      .sort();
  return (mirrors?.rows ?? [])
    .filter((row) => Object.hasOwn(readMap(row.external_ids), key))
    .map((row) => ({
      name: readString(row.name) ?? '',
      outputPort: named(row.output_port)[0],
      all: row.select_all === true,
      src: named(row.select_src_port),
      dst: named(row.select_dst_port),
      vlans: readIntegers(row.select_vlan).sort((a, b) => a - b),
      externalIds: readMap(row.external_ids),
    }));
}

/** What {@link setMirror} makes. */
export interface NewMirror extends Omit<OvsMirror, 'outputPort' | 'name'> {
  readonly bridge: string;
  /** The port that it leads to; the mirror has its name. */
  readonly port: string;
  /** Of the external_ids: a mirror of the same name without it is somebody else's. */
  readonly key: string;
}

/**
 * Makes or changes the mirror that leads to a port: `ovs-vsctl -- --id=@p get port PORT -- --id=@m create mirror name=PORT
 * select-all=true output-port=@p -- add bridge BRIDGE mirrors @m`. Throws OVS_REFUSED (ENOENT) when there is no such port.
 */
export async function setMirror(db: Ovsdb, mirror: NewMirror, wait: Wait = defaultWait): Promise<void> {
  const { bridge, port, key, externalIds } = mirror;
  const about = { op: 'ovs.mirror.set', subject: `${port} on ${bridge}` };
  const [ports] = await db.transact(
    [{ op: 'select', table: 'Port', where: [], columns: ['_uuid', 'name'] }],
    about,
  );
  const uuids = new Map((ports?.rows ?? []).map((row) => [readString(row.name), readUuids(row._uuid)[0]]));
  const refs = (names: readonly string[]) =>
    setOf(names.flatMap((name) => uuids.get(name) ?? []).map((uuid) => uuidOf(uuid)));
  if (uuids.get(port) === undefined)
    throw new PipewrightError('OVS_REFUSED', { ...about, errno: 'ENOENT', detail: 'no such port' });
  const row: Row = {
    name: port,
    output_port: refs([port]),
    select_all: mirror.all,
    select_src_port: refs(mirror.src),
    select_dst_port: refs(mirror.dst),
    select_vlan: setOf(mirror.vlans),
    external_ids: mapOf(externalIds),
  };
  const former = await mirrorsNamed(db, port, key, about);
  const operations: Operation[] = [
    ...former.map((uuid) => delMirrorOperation(uuid)),
    { op: 'insert', table: 'Mirror', 'uuid-name': 'mirror', row },
    {
      op: 'mutate',
      table: 'Bridge',
      where: [['name', '==', bridge]],
      mutations: [['mirrors', 'insert', namedUuid('mirror')]],
    },
  ];
  await commit(db, { about, steps: operations.map((operation) => ({ operation })) }, wait);
  await forgetFlows(db);
}

/**
 * ovs-vswitchd (3.1) goes on with the flows that are under way as they were: what passes all the time would never be
 * copied, or for ever. `ovs-appctl revalidator/purge`
 */
async function forgetFlows(db: Ovsdb): Promise<void> {
  await askVswitchd(db.path, 'revalidator/purge', []);
}

/** Deletes the mirrors of this name that have this key; no failure when there is none. */
export async function delMirror(
  db: Ovsdb,
  { name, key }: { readonly name: string; readonly key: string },
  wait: Wait = defaultWait,
): Promise<void> {
  const about = { op: 'ovs.mirror.del', subject: name };
  const steps = (await mirrorsNamed(db, name, key, about)).map((uuid) => ({
    operation: delMirrorOperation(uuid),
  }));
  if (steps.length === 0) return;
  await commit(db, { about, steps }, wait);
  await forgetFlows(db);
}

async function mirrorsNamed(db: Ovsdb, name: string, key: string, about: About): Promise<string[]> {
  const [found] = await db.transact(
    [{ op: 'select', table: 'Mirror', where: [['name', '==', name]], columns: ['_uuid', 'external_ids'] }],
    about,
  );
  return mirrorsWith(key, found?.rows);
}

/** The uuids of the rows that have this key among their external_ids. */
export function mirrorsWith(key: string, rows: readonly Row[] = []): string[] {
  return rows
    .filter((row) => Object.hasOwn(readMap(row.external_ids), key))
    .flatMap((row) => readUuids(row._uuid));
}

/** Takes it off its bridge; nothing else refers to it, so that the database collects it. */
export function delMirrorOperation(uuid: string): Operation {
  return {
    op: 'mutate',
    table: 'Bridge',
    where: [['mirrors', 'includes', uuidOf(uuid)]],
    mutations: [['mirrors', 'delete', uuidOf(uuid)]],
  };
}
