/** What other programs say is there: `ip -j`, `bridge -j`, `ovs-vsctl --format=json`. */
import { run, runIn, type Where } from './run.ts';

export type Json = Readonly<Record<string, unknown>>;

/** As `ip -j -d link` prints it, with the fields that tests ask for. */
export interface LinkInfo extends Json {
  readonly ifindex: number;
  readonly ifname: string;
  readonly flags: readonly string[];
  readonly mtu: number;
  readonly operstate: string;
  readonly address: string;
  readonly master?: string;
  /** The parent of a macvlan or vlan, when it is in the same namespace. */
  readonly link?: string;
  readonly group?: string;
  readonly altnames?: readonly string[];
  readonly linkinfo?: {
    readonly info_kind?: string;
    readonly info_data?: Json;
    readonly info_slave_kind?: string;
  };
}

/** As `ip -j addr` prints it. */
export interface AddrInfo extends Json {
  readonly family: 'inet' | 'inet6';
  readonly local: string;
  readonly prefixlen: number;
  readonly broadcast?: string;
  readonly scope: string;
}

/** As `ip -j route` prints it. */
export interface RouteInfo extends Json {
  readonly dst: string;
  readonly gateway?: string;
  readonly dev?: string;
  readonly scope?: string;
  readonly protocol?: string;
  readonly metric?: number;
  readonly prefsrc?: string;
  readonly table?: string;
}

/** The JSON list that a program prints in a namespace; empty when it fails or prints nothing. */
export function jsonIn<T extends Json>(where: Where, command: string, args: readonly string[]): T[] {
  const { code, stdout } = runIn(where, command, args, { expect: 'any' });
  if (code !== 0 || stdout.trim() === '') return [];
  // `ip -j` prints {} for an object that a filter left out.
  return (JSON.parse(stdout) as T[]).filter((item) => Object.keys(item).length > 0);
}

/** `ip -j -d link`. */
export function ipLinks(where: Where): LinkInfo[] {
  return jsonIn(where, 'ip', ['-j', '-d', 'link', 'show']);
}

/** `ip -j -d link show dev NAME`; undefined when it is not there. */
export function ipLink(where: Where, name: string): LinkInfo | undefined {
  return jsonIn<LinkInfo>(where, 'ip', ['-j', '-d', 'link', 'show', 'dev', name])[0];
}

/** `ip -j addr show dev NAME`: all addresses, link-local ones too. */
export function ipAddrs(where: Where, name: string): AddrInfo[] {
  const [link] = jsonIn<Json>(where, 'ip', ['-j', 'addr', 'show', 'dev', name]);
  return ((link?.addr_info as AddrInfo[] | undefined) ?? []).filter((addr) => addr.local !== undefined);
}

/** The addresses as `10.0.0.2/24`, without link-local IPv6. */
export function cidrs(where: Where, name: string): string[] {
  const wanted = ipAddrs(where, name).filter((addr) => !addr.local.startsWith('fe80:'));
  return wanted.map((addr) => `${addr.local}/${addr.prefixlen}`);
}

/** `ip -j -4|-6 route`, of the main table or with more words (`table`, `100`). */
export function ipRoutes(where: Where, family: 4 | 6 = 4, ...words: readonly string[]): RouteInfo[] {
  return jsonIn(where, 'ip', ['-j', `-${family}`, 'route', 'show', ...words]);
}

/** `ip -j -4|-6 rule`. */
export function ipRules(where: Where, family: 4 | 6 = 4): Json[] {
  return jsonIn(where, 'ip', ['-j', `-${family}`, 'rule']);
}

/** The names of a Linux bridge's ports, sorted: `bridge -j link`. */
export function bridgePorts(name: string): string[] {
  const links = jsonIn<Json & { ifname: string; master?: string }>('host', 'bridge', ['-j', 'link', 'show']);
  return links
    .filter((link) => link.master === name)
    .map((link) => link.ifname)
    .sort();
}

/** OVSDB's notation as plain values: a set as a list (of one: the value, empty: undefined), a map as an object. */
function plain(value: unknown): unknown {
  if (!Array.isArray(value)) return value;
  const [kind, content] = value as [string, unknown];
  if (kind === 'uuid') return content;
  if (kind === 'map') return Object.fromEntries(content as [string, string][]);
  const items = (content as unknown[]).map(plain);
  return items.length > 1 ? items : items[0];
}

/** The rows of a table: `ovs-vsctl --format=json list TABLE`, with OVSDB's sets and maps as plain values. */
export function ovsRows(table: string): Json[] {
  const { stdout } = run('ovs-vsctl', ['--timeout=5', '--format=json', 'list', table]);
  const { headings, data } = JSON.parse(stdout) as { headings: string[]; data: unknown[][] };
  return data.map((row) => Object.fromEntries(headings.map((name, i) => [name, plain(row[i])])));
}

const list = (value: unknown): unknown[] =>
  value === undefined ? [] : Array.isArray(value) ? value : [value];

/** A port of Open vSwitch with its one interface. */
export interface OvsPort {
  readonly bridge: string;
  readonly tag: number | undefined;
  readonly trunks: readonly number[];
  /** Of the Port row. */
  readonly portIds: Readonly<Record<string, string>>;
  /** Of the Interface row, where pipework keeps its own. */
  readonly externalIds: Readonly<Record<string, string>>;
  /** OpenFlow number: positive when ovs-vswitchd forwards, -1 when it cannot. */
  readonly ofport: number | undefined;
  readonly error: string | undefined;
}

/** The port of this name, wherever it is; undefined when there is none. */
export function ovsPort(name: string): OvsPort | undefined {
  const port = ovsRows('Port').find((row) => row.name === name);
  if (!port) return undefined;
  const bridge = ovsRows('Bridge').find((row) => list(row.ports).includes(port._uuid));
  const link = ovsRows('Interface').find((row) => list(port.interfaces).includes(row._uuid));
  return {
    bridge: String(bridge?.name),
    tag: port.tag as number | undefined,
    trunks: list(port.trunks) as number[],
    portIds: port.external_ids as Record<string, string>,
    externalIds: (link?.external_ids ?? {}) as Record<string, string>,
    ofport: link?.ofport as number | undefined,
    error: link?.error as string | undefined,
  };
}

/** The names of a bridge's ports, without its own; undefined when there is no such bridge. */
export function ovsPorts(bridge: string): string[] | undefined {
  const listed = run('ovs-vsctl', ['--timeout=5', 'list-ports', bridge], { expect: 'any' });
  return listed.code === 0 ? listed.stdout.split('\n').filter(Boolean).sort() : undefined;
}
