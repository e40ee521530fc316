/** Ports of Open vSwitch bridges: get, add, del, list by owner, tag. Each change is one transaction. */
import { PipewrightError } from '../errors.ts';
import {
  addBridgeChange,
  carries,
  getBridge,
  guarded,
  type Mark,
  type NewBridge,
  nameIsFree,
  uuidAt,
  withDatapath,
} from './bridge.ts';
import { type Change, commit, defaultWait, type Step, type Wait } from './commit.ts';
import { delMirrorOperation, mirrorsWith } from './mirror.ts';
import type { About, Condition, Operation, Ovsdb } from './ovsdb.ts';
import {
  mapOf,
  namedUuid,
  type Row,
  readInteger,
  readIntegers,
  readMap,
  readString,
  readUuids,
  setOf,
  uuidOf,
} from './values.ts';

/** A port and its interface as the database holds them. */
export interface OvsPort {
  readonly name: string;
  /** Name of the bridge it is on. */
  readonly bridge: string;
  /** The VLAN of an access port. */
  readonly tag: number | undefined;
  /** The VLANs of a trunk port; empty: all. */
  readonly trunks: readonly number[];
  /** What it does with both, `native-tagged`; undefined: what follows from them. */
  readonly vlanMode: string | undefined;
  /** The inner VLANs of a tunnel; empty: all. */
  readonly cvlans: readonly number[];
  /** other_config:qinq-ethtype, of the outer tag. */
  readonly qinqEthtype: string | undefined;
  /** external_ids of the Port row. */
  readonly externalIds: Readonly<Record<string, string>>;
  /** The first one when the port is a bond. */
  readonly interface: OvsInterface;
}

/** A row of the table Interface. */
export interface OvsInterface {
  readonly name: string;
  /** Empty for a link of the host, else `internal`, `vxlan`, `patch`, ... */
  readonly type: string;
  readonly externalIds: Readonly<Record<string, string>>;
  /** OpenFlow port number; -1 when it could not be opened, undefined before ovs-vswitchd saw it. */
  readonly ofport: number | undefined;
  /** The host's link that it stands for: 0 once that is gone, undefined when it was never there. */
  readonly ifindex: number | undefined;
  /** ingress_policing_rate and ingress_policing_burst, kbit/s and kbit; 0: none. */
  readonly policing: { readonly rate: number; readonly burst: number };
  /** Why it could not be opened: `could not open network device eth9 (No such device)`. */
  readonly error: string | undefined;
}

/** `ovs-vsctl add-port BRIDGE PORT tag=TAG -- set interface PORT type=TYPE external-ids:KEY=VALUE`. */
export interface NewPort {
  /** Name of a bridge that exists, or a bridge that is added in the same transaction unless it exists. */
  readonly bridge: string | NewBridge;
  /** Name of the port, of its interface, and of the link it stands for. */
  readonly port: string;
  /** VLAN of an access port, 0..4095. */
  readonly tag?: number | undefined;
  /** VLANs of a trunk port. */
  readonly trunks?: readonly number[] | undefined;
  readonly vlanMode?: string | undefined;
  readonly cvlans?: readonly number[] | undefined;
  readonly qinqEthtype?: string | undefined;
  /** Interface.type; absent for a link of the host. */
  readonly type?: string | undefined;
  /** external_ids of the Interface row. */
  readonly externalIds?: Readonly<Record<string, string>> | undefined;
  /** external_ids of the Port row. */
  readonly portExternalIds?: Readonly<Record<string, string>> | undefined;
}

const interfaceColumns = [
  ...['_uuid', 'name', 'type', 'external_ids', 'ofport', 'ifindex', 'error'],
  ...['ingress_policing_rate', 'ingress_policing_burst'],
];
const portColumns = [
  ...['_uuid', 'name', 'tag', 'trunks', 'vlan_mode', 'cvlans', 'other_config', 'external_ids', 'interfaces'],
];

/** The port of this name with its bridge, `ovs-vsctl port-to-br` and `list port`; undefined when there is none. */
export async function getPort(db: Ovsdb, name: string): Promise<OvsPort | undefined> {
  const about = { op: 'ovs.port.get', subject: name };
  const [ports] = await db.transact([selectWhere('Port', [['name', '==', name]], portColumns)], about);
  const port = ports?.rows?.[0];
  const [uuid] = readUuids(port?._uuid);
  const [iface] = readUuids(port?.interfaces);
  if (port === undefined || uuid === undefined || iface === undefined) return undefined;
  const [bridges, interfaces] = await db.transact(
    [
      selectWhere('Bridge', [['ports', 'includes', uuidOf(uuid)]], ['name']),
      selectWhere('Interface', [['_uuid', '==', uuidOf(iface)]], interfaceColumns),
    ],
    about,
  );
  const bridge = readString(bridges?.rows?.[0]?.name);
  const row = interfaces?.rows?.[0];
  // Deleted between the two.
  if (bridge === undefined || row === undefined) return undefined;
  return portOf(port, bridge, row);
}

/**
 * Adds a port; returns whether the bridge was added with it. Throws NETWORK_UNKNOWN when the bridge does not exist,
 * NAME_TAKEN (EEXIST) when a port has the name already, with the bridge it is on; for the rest see {@link commit}.
 */
export async function addPort(
  db: Ovsdb,
  port: NewPort,
  wait: Wait = defaultWait,
): Promise<{ readonly bridgeAdded: boolean }> {
  const { bridge } = port;
  if (typeof bridge === 'string') {
    await commit(db, addPortChange({ ...port, bridge }), wait);
    return { bridgeAdded: false };
  }
  // Another command may add or delete the bridge between our look and our transaction; then look again.
  for (let attempt = 1; ; attempt++) {
    const bridgeAdded = (await getBridge(db, bridge.name)) === undefined;
    const plain = addPortChange({ ...port, bridge: bridge.name });
    const change = bridgeAdded ? inOne(addBridgeChange(await withDatapath(db, bridge)), plain) : plain;
    try {
      await commit(db, change, wait);
      return { bridgeAdded };
    } catch (error) {
      const raced =
        error instanceof PipewrightError &&
        ((bridgeAdded && error.op === 'ovs.bridge.add' && error.code === 'NAME_TAKEN') ||
          (!bridgeAdded && error.code === 'NETWORK_UNKNOWN'));
      if (!raced || attempt === 3) throw error;
    }
  }
}

/** What {@link addPort} commits, to be put together with other changes by {@link inOne}. */
export function addPortChange(port: NewPort & { readonly bridge: string }): Change {
  const { bridge, port: name } = port;
  const about = { op: 'ovs.port.add', subject: `${name} on ${bridge}` };
  const reserve = (table: 'Port' | 'Interface'): Step => ({
    operation: nameIsFree(table, name),
    explain: async (db) => portNameTaken(about, await getPort(db, name), port.type),
  });
  return {
    about,
    steps: [
      { operation: bridgeExists(bridge), explain: async () => bridgeUnknown(about, bridge) },
      reserve('Port'),
      reserve('Interface'),
      ...portRows(port).map((operation) => ({ operation })),
    ],
    interfaces: [name],
    undo: async (db, results) => {
      await db.transact([delPortOperation(uuidAt(results, 4))], about);
    },
  };
}

export const ethtypeKey = 'qinq-ethtype';

/** Inserts for the port and its interface, and the port's way into the bridge. */
function portRows(port: NewPort & { readonly bridge: string }): Operation[] {
  const { bridge, port: name, tag, trunks = [], type, externalIds = {}, portExternalIds = {} } = port;
  const { vlanMode, cvlans = [], qinqEthtype } = port;
  return [
    {
      op: 'insert',
      table: 'Interface',
      'uuid-name': 'port_if',
      row: { name, external_ids: mapOf(externalIds), ...(type === undefined ? {} : { type }) },
    },
    {
      op: 'insert',
      table: 'Port',
      'uuid-name': 'port',
      row: {
        name,
        interfaces: namedUuid('port_if'),
        external_ids: mapOf(portExternalIds),
        ...(tag === undefined ? {} : { tag }),
        ...(trunks.length === 0 ? {} : { trunks: setOf(trunks) }),
        ...(vlanMode === undefined ? {} : { vlan_mode: vlanMode }),
        ...(cvlans.length === 0 ? {} : { cvlans: setOf(cvlans) }),
        ...(qinqEthtype === undefined ? {} : { other_config: mapOf({ [ethtypeKey]: qinqEthtype }) }),
      },
    },
    // An insert into the set, so that two commands at once do not overwrite each other's port.
    {
      op: 'mutate',
      table: 'Bridge',
      where: [['name', '==', bridge]],
      mutations: [['ports', 'insert', namedUuid('port')]],
    },
  ];
}

/** Two changes as one transaction; it is named after the second, and undone in reverse order. */
export function inOne(first: Change, second: Change): Change {
  const cut = first.steps.length;
  return {
    about: second.about,
    steps: [...first.steps, ...second.steps],
    interfaces: [...(first.interfaces ?? []), ...(second.interfaces ?? [])],
    undo: async (db, results) => {
      await second.undo?.(db, results.slice(cut));
      await first.undo?.(db, results.slice(0, cut));
    },
  };
}

/**
 * Deletes a port, `ovs-vsctl --if-exists del-port`; true when it was there. A port whose link was deleted must be
 * deleted, with a wait, before a link of the same name is added again: the userspace datapath keeps its socket to
 * the old link, and the port would show the new link's ifindex and forward nothing. With `onlyIf`, only when its
 * external_ids hold that entry. With `mirrorKey`, mirrors of its name that have this key among their external_ids go as
 * well, also where the port itself is gone. Throws OVS_REFUSED for a bridge's own port.
 */
export async function delPort(
  db: Ovsdb,
  port: { readonly port: string; readonly onlyIf?: Mark; readonly mirrorKey?: string },
  wait: Wait = defaultWait,
): Promise<boolean> {
  const { port: name, onlyIf, mirrorKey } = port;
  const about = { op: 'ovs.port.del', subject: name };
  const [ports, bridges, mirrors] = await db.transact(
    [
      selectWhere('Port', [['name', '==', name]], ['_uuid']),
      selectWhere('Bridge', [['name', '==', name]], ['name']),
      selectWhere('Mirror', [['name', '==', name]], ['_uuid', 'external_ids']),
    ],
    about,
  );
  const going = mirrorKey === undefined ? [] : mirrorsWith(mirrorKey, mirrors?.rows);
  const [uuid] = readUuids(ports?.rows?.[0]?._uuid);
  if (uuid === undefined) {
    const steps = going.map((mirror) => ({ operation: delMirrorOperation(mirror) }));
    if (steps.length > 0) await commit(db, { about, steps }, wait);
    return false;
  }
  if ((bridges?.rows?.length ?? 0) > 0) {
    const detail = 'it is the own port of the bridge of this name';
    throw new PipewrightError('OVS_REFUSED', { ...about, detail, hint: 'delete the bridge' });
  }
  const guard: Operation[] =
    onlyIf === undefined
      ? []
      : [
          {
            op: 'wait',
            table: 'Port',
            where: [['_uuid', '==', uuidOf(uuid)], carries(onlyIf)],
            columns: ['_uuid'],
            until: '==',
            rows: [{ _uuid: uuidOf(uuid) }],
            timeout: 0,
          },
        ];
  const operations = [...guard, ...going.map(delMirrorOperation), delPortOperation(uuid)];
  const steps = operations.map((operation) => ({ operation }));
  return await guarded(db, { about, steps }, wait);
}

/**
 * The ports that have this external_ids key (with this value, when one is given), for cleaning up:
 * `ovs-vsctl find port external_ids:KEY=VALUE`. Without a value, all ports are read.
 */
export async function listPortsBy(db: Ovsdb, key: string, value?: string): Promise<OvsPort[]> {
  const about = { op: 'ovs.port.list', subject: value === undefined ? key : `${key}=${value}` };
  const where = value === undefined ? [] : [carries({ key, value })];
  const [found] = await db.transact([selectWhere('Port', where, portColumns)], about);
  const owned = (found?.rows ?? []).filter((row) => Object.hasOwn(readMap(row.external_ids), key));
  if (owned.length === 0) return [];
  const [interfaces, bridges] = await db.transact(
    [selectWhere('Interface', [], interfaceColumns), selectWhere('Bridge', [], ['name', 'ports'])],
    about,
  );
  const interfaceOf = new Map((interfaces?.rows ?? []).map((row) => [readUuids(row._uuid)[0], row]));
  const bridgeOf = new Map(
    (bridges?.rows ?? []).flatMap((row) =>
      readUuids(row.ports).map((uuid) => [uuid, readString(row.name)] as const),
    ),
  );
  return owned.flatMap((port) => {
    const iface = interfaceOf.get(readUuids(port.interfaces)[0]);
    const bridge = bridgeOf.get(readUuids(port._uuid)[0] ?? '');
    return iface === undefined || bridge === undefined ? [] : [portOf(port, bridge, iface)];
  });
}

function portOf(port: Row, bridge: string, iface: Row): OvsPort {
  return {
    name: readString(port.name) ?? '',
    bridge,
    tag: readInteger(port.tag),
    trunks: readIntegers(port.trunks),
    vlanMode: readString(port.vlan_mode),
    cvlans: readIntegers(port.cvlans),
    qinqEthtype: readMap(port.other_config)[ethtypeKey],
    externalIds: readMap(port.external_ids),
    interface: {
      name: readString(iface.name) ?? '',
      type: readString(iface.type) ?? '',
      externalIds: readMap(iface.external_ids),
      ofport: readInteger(iface.ofport),
      ifindex: readInteger(iface.ifindex),
      policing: {
        rate: readInteger(iface.ingress_policing_rate) ?? 0,
        burst: readInteger(iface.ingress_policing_burst) ?? 0,
      },
      error: readString(iface.error),
    },
  };
}

function selectWhere(table: string, where: readonly Condition[], columns: readonly string[]): Operation {
  return { op: 'select', table, where, columns };
}

/** A guard: the bridge exists. */
function bridgeExists(name: string): Operation {
  const where: Condition[] = [['name', '==', name]];
  return { op: 'wait', table: 'Bridge', where, columns: ['name'], until: '==', rows: [{ name }], timeout: 0 };
}

/** Takes the port off its bridge; its rows, which nothing else refers to, are collected by the database. */
function delPortOperation(uuid: string): Operation {
  return {
    op: 'mutate',
    table: 'Bridge',
    where: [['ports', 'includes', uuidOf(uuid)]],
    mutations: [['ports', 'delete', uuidOf(uuid)]],
  };
}

function bridgeUnknown(about: About, bridge: string): PipewrightError {
  return new PipewrightError('NETWORK_UNKNOWN', {
    ...about,
    detail: `Open vSwitch has no bridge ${bridge}`,
    hint: `\`ovs-vsctl list-br\` lists the bridges; \`ovs-vsctl add-br ${bridge}\` adds this one`,
  });
}

function portNameTaken(about: About, port: OvsPort | undefined, type: string | undefined): PipewrightError {
  const hint = type === 'internal' ? internalHint : undefined;
  const where = port === undefined ? 'an Open vSwitch bond' : `Open vSwitch bridge ${port.bridge}`;
  const detail = `a port of this name is on ${where} already`;
  return new PipewrightError('NAME_TAKEN', { ...about, errno: 'EEXIST', detail, hint });
}

const internalHint =
  "on the kernel's datapath an internal port has the name of its interface: choose one that nobody has (--ifname)";
