/** All that is on a test's host and in containers, as other programs tell it, to be compared as it is. */
import { type Json, jsonIn, type Where } from '../lab.ts';
import type { AgentHost } from './agent-ground.ts';

/** Timers of bridges and statistics of Open vSwitch: they change by themselves. */
const byItself =
  /_timer$|^(stats|stats64|statistics|_version|cur_cfg|next_cfg|db_version|status|link_resets)$/;

/** Link-local IPv6 comes a moment after a link does; a learned address is forgotten by itself. */
function comesAndGoes(item: unknown): boolean {
  const { dst, local, mac, state } = item as Json;
  const isLinkLocal = [dst, local].some((text) => /^(fe80:|ff00:)/.test(String(text)));
  return isLinkLocal || (mac !== undefined && state !== 'permanent');
}

function stripped(value: unknown): unknown {
  if (Array.isArray(value))
    return value.filter((item) => !(item instanceof Object && comesAndGoes(item))).map(stripped);
  if (value === null || typeof value !== 'object') return value;
  const kept = Object.entries(value).filter(([key]) => !byItself.test(key));
  return Object.fromEntries(kept.map(([key, inner]) => [key, stripped(inner)]));
}

const commands: readonly (readonly [string, ...string[]])[] = [
  ['ip', '-j', '-d', 'addr'],
  ['ip', '-j', '-4', 'route', 'show', 'table', 'all'],
  ['ip', '-j', '-6', 'route', 'show', 'table', 'all'],
  ['ip', '-j', '-4', 'rule'],
  ['ip', '-j', '-6', 'rule'],
  ['tc', '-j', 'qdisc'],
  ['tc', '-j', 'filter'],
];

const ofBridges: readonly (readonly [string, ...string[]])[] = [
  ['bridge', '-j', '-d', 'link'],
  ['bridge', '-j', 'fdb'],
  ['bridge', '-j', 'vlan'],
];

/** The rules without packet counters and times. */
function rulesOf(host: AgentHost): string[] {
  const { stdout } = host.run('sh', ['-c', 'iptables-save; ip6tables-save'], { expect: 'any' });
  return stdout
    .split('\n')
    .flatMap((line) => (line.startsWith('#') ? [] : line.replace(/ \[\d+:\d+\]$/, '')));
}

function ovsOf(host: AgentHost): unknown[] {
  return ['Open_vSwitch', 'Bridge', 'Port', 'Interface', 'Controller', 'QoS'].map((name) => {
    const listed = host.run('ovs-vsctl', ['--timeout=5', '--format=json', 'list', name], { expect: 'any' });
    if (listed.code !== 0) return [];
    const { headings, data } = JSON.parse(listed.stdout) as { headings: string[]; data: unknown[][] };
    return data.map((row) => stripped(Object.fromEntries(headings.map((heading, i) => [heading, row[i]]))));
  });
}

/**
 * `ip -j`, `tc -j`, `bridge -j`, `ovs-vsctl --format=json`, `iptables-save`, the notes of pipewright and what it keeps. A
 * line for each thing, so that a difference of two can be read.
 */
export function dumpOf(host: AgentHost, guests: readonly Where[]): string[] {
  const lines = (where: Where, list: typeof commands): string[] =>
    list.flatMap(([program, ...args]) =>
      jsonIn<Json>(where, program, args)
        .filter((item) => !comesAndGoes(item))
        .map((item) => `${where} ${[program, ...args].join(' ')}: ${JSON.stringify(stripped(item))}`),
    );
  return [
    ...[host.name, ...guests].flatMap((where) => lines(where, commands)),
    ...lines(host.name, ofBridges),
    ...rulesOf(host),
    ...ovsOf(host).flatMap((rows) => (rows as unknown[]).map((row) => `ovs: ${JSON.stringify(row)}`)),
    ...host.notes(),
  ];
}
