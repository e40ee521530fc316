/** All that a command could have changed, before and after, and what is different between the two. */
import { createHash } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { capability, hasProgram } from './capability.ts';
import { type Json, jsonIn, ovsRows } from './judge.ts';
import { run, type Where } from './run.ts';

/** What is there, one entry for each thing: `host link br1` and its attributes. */
export type Snapshot = ReadonlyMap<string, string>;

/** Docker's own links, and what the kernel and Open vSwitch make for themselves. */
const foreign = /^(veth[0-9a-f]{7}|docker\d+|br-[0-9a-f]{12}|ovs-netdev|ovs-system)$/;
/** Change by themselves, or are new numbers for an old thing. */
const volatile = new Set([
  ...['ifindex', 'link_index', 'stats64', 'valid_life_time', 'preferred_life_time', 'tentative', 'expires'],
  ...['hello_timer', 'tcn_timer', 'topology_change_timer', 'gc_timer', 'hold_timer', 'forward_delay_timer'],
  ...['message_age_timer', 'link_netnsid', 'mcast_query_interval'],
]);
/** A bridge takes these from its ports, so they move with every port and do not come back. */
const ofPorts = new Set(['address', 'bridge_id', 'root_id', 'designated_root', 'designated_bridge']);
const sysctls = [
  ...['net/ipv4/ip_forward', 'net/ipv6/conf/all/forwarding', 'net/ipv4/conf/all/rp_filter'],
  ...['net/bridge/bridge-nf-call-iptables', 'net/bridge/bridge-nf-call-ip6tables'],
];
const folders = ['/run/netns', '/run/pipewright', '/var/lib/pipewright'];

function strip(value: unknown, without: ReadonlySet<string>): unknown {
  if (Array.isArray(value)) return value.map((item) => strip(item, without));
  if (value === null || typeof value !== 'object') return value;
  const kept = Object.entries(value).filter(([key]) => !without.has(key));
  return Object.fromEntries(kept.sort().map(([key, inner]) => [key, strip(inner, without)]));
}

const text = (value: unknown, without: ReadonlySet<string> = volatile): string =>
  JSON.stringify(strip(value, without));

interface AddrLink extends Json {
  readonly ifname: string;
  readonly linkinfo?: { readonly info_kind?: string };
  readonly addr_info?: readonly { readonly local?: string }[];
}

type Add = (key: string, value: string) => void;

function addPlace(add: Add, where: Where): void {
  const ours = (link: { readonly ifname?: unknown }): boolean =>
    where !== 'host' || !foreign.test(String(link.ifname));
  for (const { addr_info = [], ...link } of jsonIn<AddrLink>(where, 'ip', ['-j', '-d', 'addr']).filter(
    ours,
  )) {
    const isBridge = link.linkinfo?.info_kind === 'bridge';
    add(`${where} link ${link.ifname}`, text(link, isBridge ? new Set([...volatile, ...ofPorts]) : volatile));
    for (const addr of addr_info.filter(({ local }) => local !== undefined && !local.startsWith('fe80:'))) {
      add(`${where} addr ${link.ifname} ${addr.local}`, text(addr));
    }
  }
  for (const family of ['-4', '-6']) {
    const routes = jsonIn(where, 'ip', ['-j', '-d', family, 'route', 'show', 'table', 'all']);
    // The kernel's own: one for each address, and link-local IPv6.
    const own = ({ table, dst }: Json): boolean => table === 'local' || /^(fe80|ff00)/.test(String(dst));
    for (const route of routes.filter((item) => !own(item) && ours({ ifname: item.dev }))) {
      add(`${where} route ${family} ${text(route)}`, '');
    }
    for (const rule of jsonIn(where, 'ip', ['-j', family, 'rule']))
      add(`${where} rule ${family} ${text(rule)}`, '');
  }
  for (const qdisc of jsonIn(where, 'tc', ['-j', 'qdisc']).filter((item) => item.kind !== 'noqueue')) {
    if (ours({ ifname: qdisc.dev })) add(`${where} qdisc ${text(qdisc)}`, '');
  }
}

function addOvs(add: Add): void {
  if (!hasProgram('ovs-vsctl') || !capability('ovs')) return;
  for (const row of ovsRows('Bridge'))
    add(`ovs bridge ${row.name}`, text([row.datapath_type, row.external_ids]));
  for (const row of ovsRows('Port'))
    add(`ovs port ${row.name}`, text([row.tag, row.trunks, row.external_ids]));
  for (const row of ovsRows('Interface'))
    add(`ovs interface ${row.name}`, text([row.type, row.external_ids]));
}

function addFirewall(add: Add): void {
  for (const command of ['iptables', 'ip6tables'].filter((name) => hasProgram(`${name}-save`))) {
    let table = '';
    for (const line of run(`${command}-save`, [], { expect: 'any' }).stdout.split('\n')) {
      if (line.startsWith('*')) table = line.slice(1);
      if (line.startsWith(':')) add(`${command} ${table} ${line.replace(/ \[.*/, '')}`, '');
      if (line.startsWith('-A')) add(`${command} ${table} ${line}`, '');
    }
  }
}

function addFiles(add: Add): void {
  const sum = (file: string): string => {
    try {
      return createHash('sha256').update(readFileSync(file)).digest('hex');
    } catch (error) {
      return String((error as NodeJS.ErrnoException).code);
    }
  };
  add('file /etc/resolv.conf', sum('/etc/resolv.conf'));
  for (const name of sysctls) add(`sysctl ${name}`, sum(`/proc/sys/${name}`));
  for (const folder of folders) {
    try {
      for (const entry of readdirSync(folder, { recursive: true, withFileTypes: true })) {
        const file = path.join(entry.parentPath ?? entry.path, entry.name);
        // A named namespace is a mount, whose content is not to be read.
        add(`file ${file}`, entry.isFile() && folder !== '/run/netns' ? sum(file) : '');
      }
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
    }
  }
}

/** Host, Open vSwitch, firewall, files, and the namespaces named: links, addrs, routes, rules, qdiscs. */
export function snapshot(places: readonly Where[] = []): Snapshot {
  const entries = new Map<string, string>();
  const add: Add = (key, value) => {
    let unique = key;
    for (let n = 2; entries.has(unique); n++) unique = `${key} (${n})`;
    entries.set(unique, value);
  };
  for (const where of ['host' as const, ...places]) addPlace(add, where);
  addOvs(add);
  addFirewall(add);
  addFiles(add);
  return entries;
}

/** A line for each thing that is gone (-), new (+) or different (~). Empty: nothing changed. */
export function diffSnapshots(before: Snapshot, after: Snapshot): string[] {
  const keys = [...new Set([...before.keys(), ...after.keys()])].sort();
  return keys.flatMap((key) => {
    const [was, is] = [before.get(key), after.get(key)];
    if (was === is) return [];
    if (is === undefined) return [`- ${key} ${was}`.trimEnd()];
    return [was === undefined ? `+ ${key} ${is}`.trimEnd() : `~ ${key}: ${was} -> ${is}`];
  });
}
