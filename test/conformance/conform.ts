/**
 * Runs a recorded case against a program and tells what differs from what the original left behind. The cases'
 * own words are shell (`setup`, `needs`); what changes by itself (pids, MACs nobody asked for, link-local
 * addresses) is taken out on both sides.
 */
import { createHash } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import type { TestContext } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import {
  type Container,
  cleanupBridge,
  cleanupLink,
  cleanupOvsBridge,
  type Json,
  jsonIn,
  ovsPort,
  ovsPorts,
  type Ran,
  root,
  run,
  runContainer,
  type Where,
} from '../lab.ts';

/** Words of the program's command line, or a shell step such as a ping. */
type Step = readonly string[] | { readonly sh: string; readonly exit?: boolean };

/** A case as cases*.json holds it. */
export interface Case {
  readonly name: string;
  readonly run: readonly Step[];
  /** Short names, default `c1`; `{c1}`, `{id:c1}` and `{pid:c1}` stand for them in words. */
  readonly containers?: readonly string[];
  /** Options of `docker run`, default `--network none`. */
  readonly runopt?: string;
  readonly setup?: readonly string[];
  readonly teardown?: readonly string[];
  readonly clean_links?: readonly string[];
  readonly clean_ovs?: readonly string[];
  /** MACs that the case asks for: compared, where others are `*`. */
  readonly macs?: readonly string[];
  /** Seconds to wait after each step. */
  readonly settle?: number;
  /** Shell tests; the case runs where all succeed. */
  readonly needs?: readonly string[];
  readonly original_is_wrong?: string;
  /** Compare exit codes and state, not the text. */
  readonly loose_text?: boolean;
}

/** What was seen: each step's exit code and text, and the state after the last. */
export interface Seen {
  readonly steps: readonly Json[];
  readonly state: Json;
}

const folder = path.join(root, 'test/conformance');
const load = (file: string): unknown => JSON.parse(readFileSync(path.join(folder, file), 'utf8'));
const files = (start: string): string[] =>
  readdirSync(folder)
    .filter((name) => name.startsWith(start))
    .sort();

/** Every recorded case. */
export function loadCases(): Case[] {
  return files('cases').flatMap((file) => load(file) as Case[]);
}

/**
 * What was seen with Open vSwitch's userspace datapath, as it is with the kernel's: other kinds of link, and the
 * ports have a master. The rest is the same; conformance.test.ts checks that on what was recorded with both.
 */
export function withKernelDatapath(seen: Seen): Seen {
  const bridges = seen.state.ovs as Readonly<Record<string, Json>>;
  const ports = Object.values(bridges).flatMap((bridge) => Object.keys(bridge));
  const links = (seen.state.host as { links: readonly Json[] }).links.map((link) => {
    if (String(link.ifname) in bridges) return { ...link, kind: 'openvswitch' };
    const enslaved = { master: 'ovs-system', slave_kind: 'openvswitch' };
    return ports.includes(String(link.ifname)) ? { ...link, ...enslaved } : link;
  });
  return { ...seen, state: { ...seen.state, host: { links } } };
}

/** What the original left behind on a kernel of this kind, as it was recorded. */
export function loadObservedOn(kind: 'small' | 'full'): (Seen & { readonly name: string })[] {
  return files('observed')
    .filter((file) => file.endsWith(`${kind}-kernel.json`))
    .flatMap((file) => load(file) as (Seen & { name: string })[]);
}

/** What the original left behind, by the case's name: seen on this kind of kernel, or as it would be there. */
export function loadObserved(hasOvsModule: boolean): Map<string, Seen> {
  const [small, full] = [loadObservedOn('small'), loadObservedOn('full')];
  const here = hasOvsModule
    ? [...small.map((seen) => ({ ...withKernelDatapath(seen), name: seen.name })), ...full]
    : [...full, ...small];
  return new Map(here.map((seen) => [seen.name, seen]));
}

/** Where the original is wrong: why, and what is right instead, as a patch to what was observed. */
export function loadAccepted(): Map<string, { readonly why: string; readonly instead: Json }> {
  return new Map(Object.entries(load('accepted.json') as Record<string, { why: string; instead: Json }>));
}

const isObject = (value: unknown): value is Json =>
  value !== null && typeof value === 'object' && !Array.isArray(value);

/** `value` with `change` laid over it: objects by key, lists by index or whole, the rest replaced; null removes. */
export function patched(value: unknown, change: unknown): unknown {
  if (!isObject(change)) return change;
  if (Array.isArray(value))
    return value.map((item, i) => (String(i) in change ? patched(item, change[i]) : item));
  const merged: Record<string, unknown> = isObject(value) ? { ...value } : {};
  for (const [key, part] of Object.entries(change)) {
    if (part === null) delete merged[key];
    else merged[key] = patched(merged[key], part);
  }
  return merged;
}

/** One line for each difference, each with its path. `*` is right whatever is there, `not 0` any failure's exit code. */
export function differences(want: unknown, got: unknown, at = ''): string[] {
  if (want === '*' || (want === 'not 0' && got !== 0)) return [];
  if (isObject(want) && isObject(got)) {
    const keys = [...new Set([...Object.keys(want), ...Object.keys(got)])].sort();
    return keys.flatMap((key) => differences(want[key], got[key], `${at}/${key}`));
  }
  if (Array.isArray(want) && Array.isArray(got) && want.length === got.length) {
    return want.flatMap((item, i) => differences(item, got[i], `${at}[${i}]`));
  }
  const [wanted, found] = [JSON.stringify(want), JSON.stringify(got)];
  return wanted === found ? [] : [`${at}: want ${wanted}, got ${found}`];
}

const pick = (from: Json, keys: readonly string[]): Json =>
  Object.fromEntries(keys.filter((key) => key in from).map((key) => [key, from[key]]));

const sorted = (items: readonly Json[], key?: string): Json[] => {
  const text = (item: Json): string =>
    key ? String(item[key]) : JSON.stringify(Object.entries(item).sort());
  return [...items].sort((a, b) => (text(a) < text(b) ? -1 : 1));
};

interface AddrLink extends Json {
  readonly ifname: string;
  readonly address?: string;
  readonly flags?: readonly string[];
  readonly linkinfo?: {
    readonly info_kind?: string;
    readonly info_slave_kind?: string;
    readonly info_data?: Json;
  };
  readonly addr_info?: readonly { local: string; prefixlen: number; broadcast?: string; scope: string }[];
}

const flags = ['UP', 'BROADCAST', 'MULTICAST', 'NOARP', 'LOWER_UP'];

function links(where: Where, macs: readonly string[]): Json[] {
  const found = jsonIn<AddrLink>(where, 'ip', ['-j', '-d', 'addr']).filter((link) => link.ifname !== 'lo');
  const entries = found.map((link) => {
    const addrs = (link.addr_info ?? []).filter(({ local }) => !local.startsWith('fe80'));
    const text = addrs.map((a) => `${a.local}/${a.prefixlen} brd ${a.broadcast ?? '-'} ${a.scope}`);
    const { info_kind = null, info_slave_kind, info_data = {} } = link.linkinfo ?? {};
    return {
      ...pick(link, ['ifname', 'mtu', 'operstate', 'master', 'link_type']),
      flags: (link.flags ?? []).filter((flag) => flags.includes(flag)).sort(),
      kind: info_kind,
      ...(info_slave_kind === undefined ? {} : { slave_kind: info_slave_kind }),
      data: pick(info_data, ['mode', 'id', 'protocol', 'pkey']),
      mac: macs.includes(link.address ?? '') ? link.address : '*',
      addr: text.sort(),
    };
  });
  return sorted(entries, 'ifname');
}

function guest(pid: number, macs: readonly string[]): Json {
  const routes = [4, 6].flatMap((family) =>
    jsonIn(pid, 'ip', ['-j', `-${family}`, 'route', 'show', 'table', 'all'])
      .filter(({ table, dst, type }) => {
        const own = ['local', 'multicast', 'broadcast', 'anycast'].includes(String(type));
        return table !== 'local' && !own && !/^(fe80|ff00)/.test(String(dst));
      })
      .map((route) => {
        const metric = family === 4 ? ['metric'] : [];
        return pick(route, ['dst', 'gateway', 'dev', 'scope', 'prefsrc', 'table', ...metric]);
      }),
  );
  const rules = jsonIn(pid, 'ip', ['-j', 'rule']);
  const qdiscs = jsonIn(pid, 'tc', ['-j', 'qdisc']).filter(({ kind }) => kind !== 'noqueue');
  return {
    links: links(pid, macs),
    routes: sorted(routes),
    rules: rules.map((rule) => pick(rule, ['priority', 'src', 'srclen', 'dst', 'dstlen', 'table'])),
    qdisc: qdiscs.map((qdisc) => pick(qdisc, ['kind', 'dev', 'root'])),
  };
}

/** An OVSDB map as `ovs-vsctl get` prints it: sorted, with quotes around what is no word. */
function ovsMap(map: Readonly<Record<string, string>>): string {
  const quoted = (text: string): string => (/^[A-Za-z_][\w.-]*$/.test(text) ? text : JSON.stringify(text));
  const pairs = Object.entries(map).sort();
  return `{${pairs.map(([k, v]) => `${k}=${/^[0-9a-f]{64}$/.test(v) ? '<cid>' : quoted(v)}`).join(', ')}}`;
}

function ovs(bridges: readonly string[]): Json {
  const found = bridges.flatMap((bridge) => {
    const ports = ovsPorts(bridge)?.map((name) => {
      const port = ovsPort(name);
      return [name, { tag: String(port?.tag ?? '[]'), external_ids: ovsMap(port?.externalIds ?? {}) }];
    });
    return ports ? [[bridge, Object.fromEntries(ports)]] : [];
  });
  return Object.fromEntries(found);
}

/** Links that other programs, and other tests, make meanwhile. */
const foreign = /^(?!vethd)veth[0-9a-f]{7}$|^br-|^docker|^ovs-netdev|^ovs-system|^lr|^pwt/;
const resolvConf = (): string => createHash('sha256').update(readFileSync('/etc/resolv.conf')).digest('hex');
const namedNetns = (): string[] => {
  try {
    return readdirSync('/run/netns');
  } catch {
    return [];
  }
};

/** One case on the ground: its containers, and the names and numbers that stand for them. */
class Stage {
  readonly #case: Case;
  readonly #containers = new Map<string, Container>();
  readonly #linksBefore: ReadonlySet<string>;
  readonly #resolvBefore = resolvConf();

  constructor(t: TestContext, item: Case) {
    this.#case = item;
    this.#linksBefore = new Set(links('host', []).map((link) => String(link.ifname)));
    for (const short of item.containers ?? ['c1']) {
      const words = (item.runopt ?? '').split(' ').filter(Boolean);
      this.#containers.set(
        short,
        runContainer(t, short, { args: words.filter((w) => !w.startsWith('--network')) }),
      );
    }
    t.after(() => {
      for (const line of item.teardown ?? []) this.shell(line);
    });
    for (const name of item.clean_ovs ?? []) cleanupOvsBridge(t, name);
    for (const name of item.clean_links ?? []) (name.startsWith('br') ? cleanupBridge : cleanupLink)(t, name);
    for (const line of item.setup ?? []) {
      const { code, stderr } = this.shell(line);
      if (code !== 0) throw new Error(`${item.name}: ${line}: ${stderr}`);
    }
  }

  shell(line: string): Ran {
    return run('bash', ['-c', this.filled(line)], { expect: 'any' });
  }

  /** `{c1}`, `{id:c1}` and `{pid:c1}` as the name, short id and pid they stand for. */
  filled(word: string): string {
    let text = word;
    for (const [short, { name, id, pid }] of this.#containers) {
      text = text.replaceAll(`{id:${short}}`, id.slice(0, 12));
      text = text.replaceAll(`{${short}}`, name).replaceAll(`{pid:${short}}`, String(pid));
    }
    return text;
  }

  /** The other way round, in every text of a value. */
  emptied(value: unknown): unknown {
    if (Array.isArray(value)) return value.map((item) => this.emptied(item));
    if (isObject(value)) {
      return Object.fromEntries(Object.entries(value).map(([k, v]) => [this.emptied(k), this.emptied(v)]));
    }
    if (typeof value !== 'string') return value;
    let text = value;
    for (const [short, { name, pid }] of this.#containers) {
      text = text
        .replaceAll(name, `{${short}}`)
        .replace(new RegExp(`(?<!\\d)${pid}(?!\\d)`, 'g'), `{pid:${short}}`);
    }
    return text;
  }

  state(): Json {
    const macs = this.#case.macs ?? [];
    const pids = new Set([...this.#containers.values()].map(({ pid }) => String(pid)));
    // Another run's containers come and go meanwhile; the names of what is made for them end in their pids.
    const ofOthers = (name: string): boolean => {
      const [, pid] = /^v.*p[lg](\d+)$/.exec(name) ?? [];
      return pid !== undefined && !pids.has(pid);
    };
    const isNew = ({ ifname }: Json): boolean => {
      const name = String(ifname);
      return !this.#linksBefore.has(name) && !foreign.test(name) && !ofOthers(name);
    };
    const guests = [...this.#containers].map(([short, { pid }]) => [short, guest(pid, macs)]);
    const state = {
      ...Object.fromEntries(guests),
      host: { links: links('host', macs).filter(isNew) },
      ovs: ovs(this.#case.clean_ovs ?? []),
      host_resolv_conf: resolvConf() === this.#resolvBefore ? 'untouched' : 'changed',
      netns_links: namedNetns().filter((name) => pids.has(name)),
    };
    const plain = this.emptied(state) as typeof state;
    return { ...plain, host: { links: sorted(plain.host.links, 'ifname') } };
  }
}

/** Lists whose order means nothing, in one order on both sides. */
function ordered(seen: Seen): Seen {
  const state = Object.entries(seen.state).map(([key, part]) => {
    if (!isObject(part) || !Array.isArray(part.routes)) return [key, part];
    return [key, { ...part, routes: sorted(part.routes as Json[]) }];
  });
  return { steps: seen.steps, state: Object.fromEntries(state) };
}

/** Why this machine cannot run the case; undefined when it can. */
export function unmet(item: Case): string | undefined {
  const failed = (item.needs ?? []).find((line) => run('bash', ['-c', line], { expect: 'any' }).code !== 0);
  return failed === undefined ? undefined : `this machine fails: ${failed}`;
}

/** Plays a case to its end: what each step said, and a look at the state that can be taken again. */
export async function play(
  t: TestContext,
  item: Case,
  program: (words: string[]) => Ran,
): Promise<{ steps: Json[]; look: () => Json }> {
  const stage = new Stage(t, item);
  const steps: Json[] = [];
  for (const step of item.run) {
    if ('sh' in step) {
      const { code } = stage.shell(step.sh);
      steps.push({ sh: step.sh, exit: step.exit === false ? '*' : code });
      continue;
    }
    const { code, stdout, stderr } = program(step.map((word) => stage.filled(word)));
    const text = { stdout: stage.emptied(stdout.trim()), stderr: stage.emptied(stderr.trim()) };
    steps.push({ args: step, exit: code, ...text });
    if (item.settle) await sleep(1000 * item.settle);
  }
  return { steps, look: () => stage.state() };
}

/** Plays a case and gives the differences to what is wanted. */
export async function conform(
  t: TestContext,
  item: Case,
  want: Seen,
  program: (words: string[]) => Ran,
): Promise<string[]> {
  const { steps, look } = await play(t, item, program);
  // Carrier and operstate follow by themselves, a moment later.
  const deadline = Date.now() + 2000;
  for (;;) {
    const found = differences(ordered(want), ordered({ steps, state: look() }));
    const counted = item.loose_text
      ? found.filter((line) => !/^\/steps\[\d+\]\/std(out|err):/.test(line))
      : found;
    if (counted.length === 0 || Date.now() > deadline) return counted;
    await sleep(100);
  }
}
