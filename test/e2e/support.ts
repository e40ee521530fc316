/** What the programs' own tests share: a host of their own, so that nothing else on the machine is in their way. */
import { existsSync, readdirSync, rmSync, statSync } from 'node:fs';
import path from 'node:path';
import type { TestContext } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { formatVlan, inRows } from '../../src/model/port-vlan.ts';
import {
  type Container,
  ipLinks,
  ipRoutes,
  type Json,
  jsonIn,
  nsenter,
  ping,
  plainNetns,
  type Ran,
  type RunOptions,
  root,
  run,
  runAsync,
  runContainer,
  runIn,
  type Where,
} from '../lab.ts';

/** The words that run `bin/PROGRAM` with the Node that runs the tests. */
export function command(program: 'pipework' | 'pipewright', args: readonly string[]): string[] {
  return [process.execPath, path.join(root, 'bin', program), ...args];
}

/** A network namespace that stands for a host: the programs run in it, and Docker's containers can be reached from it. */
export interface OwnHost {
  /** Below /run/netns. */
  readonly name: string;
  readonly pid: number;
  /** Where the programs keep their notes of this host. */
  readonly stateDir: string;
  pipework(args: readonly string[], options?: RunOptions): Ran;
  pipewright(args: readonly string[], options?: RunOptions): Ran;
  pipeworkAsync(args: readonly string[], options?: RunOptions): Promise<Ran>;
  /** `ip ARGS` there. */
  ip(...args: readonly string[]): Ran;
  /** The names of its links, sorted, without lo. */
  links(): string[];
}

/** A host of its own, gone with the test, its notes too. */
export async function ownHost(t: TestContext, name: string): Promise<OwnHost> {
  const { name: full, pid } = await plainNetns(t, name);
  const { ino } = statSync(`/proc/${pid}/ns/net`);
  const stateDir = `/run/pipewright/net-${ino}`;
  const forget = (): void => rmSync(stateDir, { recursive: true, force: true });
  // The number of a namespace may have been another one's.
  forget();
  t.after(forget);
  const enter = (program: 'pipework' | 'pipewright', args: readonly string[]): [string, string[]] => {
    const [first = '', ...rest] = [...nsenter(full), ...command(program, args)];
    return [first, rest];
  };
  return {
    name: full,
    pid,
    stateDir,
    pipework: (args, options) => run(...enter('pipework', args), options),
    pipewright: (args, options) => run(...enter('pipewright', args), options),
    pipeworkAsync: (args, options) => runAsync(...enter('pipework', args), options),
    ip: (...args) => runIn(full, 'ip', args),
    links: () => linkNames(full),
  };
}

/** The names of a namespace's links, sorted, without lo. */
export function linkNames(where: Where): string[] {
  return ipLinks(where)
    .map(({ ifname }) => ifname)
    .filter((name) => name !== 'lo')
    .sort();
}

/** A veth pair that stands for a NIC of that host and its wire, `NAMEp`, both up. */
export function nicOn(host: OwnHost, name: string, ...attributes: readonly string[]): string {
  const wire = `${name}p`;
  host.ip('link', 'add', 'name', name, ...attributes, 'type', 'veth', 'peer', 'name', wire);
  host.ip('link', 'set', name, 'up');
  host.ip('link', 'set', wire, 'up');
  return wire;
}

/** One line for each link, address, route, rule, qdisc and firewall rule. */
const listAll = [
  'ip -o link',
  'ip -o addr',
  ...['-4', '-6'].flatMap((family) => [`ip ${family} route show table all`, `ip ${family} rule`]),
  'tc qdisc',
  'iptables-save',
  'ip6tables-save',
].join('; ');

/** Link-local IPv6 comes and goes by itself a moment after a link does; packets are counted. */
const byItself = /\b(fe80:|ff00::)|^[#:]|^qdisc (noop|noqueue) /;

function linesOf(host: OwnHost, guests: readonly Where[]): string[] {
  const places = [host.name, ...guests].flatMap((where) =>
    runIn(where, 'sh', ['-c', `${listAll} 2>/dev/null`], { expect: 'any' })
      .stdout.split('\n')
      .filter((text) => text !== '' && !byItself.test(text))
      .map(
        (text) =>
          `${where} ${text.replace(/^\d+: | state \S+| qdisc \S+|[A-Z_-]*(CARRIER|LOWER_UP),?|tentative/g, '')}`,
      ),
  );
  const folders = ['attachments', 'journal'].map((name) => path.join(host.stateDir, name)).filter(existsSync);
  const notes = folders.flatMap((folder) => readdirSync(folder).map((name) => `${folder}/${name}`));
  return [...places, ...notes];
}

/** What a command has changed on that host, in its notes and in the containers: - what is gone, + what is new. */
export function changesBy(host: OwnHost, guests: readonly Where[], act: () => unknown): string[] {
  const before = linesOf(host, guests);
  act();
  const after = linesOf(host, guests);
  return [
    ...before.filter((text) => !after.includes(text)).map((text) => `- ${text}`),
    ...after.filter((text) => !before.includes(text)).map((text) => `+ ${text}`),
  ];
}

/** Takes every link but lo and `keep` out of a container. */
export function emptyGuest(pid: number, ...keep: readonly string[]): void {
  for (const name of linkNames(pid).filter((link) => !keep.includes(link)))
    runIn(pid, 'ip', ['link', 'del', name], { expect: 'any' });
}

/** The default routes of a family, as `via 10.0.0.1 dev eth1` and a metric where there is one. */
export function defaults(where: Where, family: 4 | 6 = 4): string[] {
  return ipRoutes(where, family)
    .filter(({ dst }) => dst === 'default')
    .map(({ gateway, dev, metric }) =>
      [
        ...(gateway ? [`via ${gateway}`] : []),
        `dev ${dev}`,
        ...(metric === undefined ? [] : [`metric ${metric}`]),
      ].join(' '),
    );
}

/** The routes of a family without default, link-local and multicast ones, as `10.0.0.0/24 dev eth1 scope link`. */
export function connected(where: Where, family: 4 | 6 = 4): string[] {
  return ipRoutes(where, family)
    .filter(({ dst }) => dst !== 'default' && !/^(fe80|ff00)/.test(dst))
    .map(({ dst, gateway, dev, scope }) =>
      [dst, ...(gateway ? [`via ${gateway}`] : []), `dev ${dev}`, ...(scope ? [`scope ${scope}`] : [])].join(
        ' ',
      ),
    )
    .sort();
}

/** Whether a name for a process' namespace lies in /run/netns, as the original leaves it. */
export function namedNetns(pid: number): boolean {
  return existsSync(`/run/netns/${pid}`);
}

/** The one line that a failure is told in. */
export function line({ stderr }: Ran): string {
  return stderr.trimEnd();
}

/** A host of its own and two containers that have no interface. */
export interface Ground {
  readonly host: OwnHost;
  readonly a: Container;
  readonly b: Container;
}

/** What a user sees, and the act that shows it. Each begins with what {@link clear} leaves. */
export type Cases<G> = Readonly<Record<string, (ground: G, t: TestContext) => void | Promise<void>>>;

/** @param name part of the names of the namespace and the containers */
export async function makeGround(t: TestContext, name: string): Promise<Ground> {
  return {
    host: await ownHost(t, `${name}h`),
    a: runContainer(t, `${name}a`),
    b: runContainer(t, `${name}b`),
  };
}

/** Takes away every link, the host's routes and its notes. */
export function clear({ host, a, b }: Ground): void {
  for (const { pid } of [a, b]) emptyGuest(pid);
  for (const name of host.links()) runIn(host.name, 'ip', ['link', 'del', name], { expect: 'any' });
  rmSync(host.stateDir, { recursive: true, force: true });
}

/** Runs the cases on one ground, one after the other, each as a test of its name. */
export async function runCases(t: TestContext, ground: Ground, cases: Cases<Ground>): Promise<void> {
  for (const [name, act] of Object.entries(cases)) {
    await t.test(name, async (t) => {
      clear(ground);
      await act(ground, t);
    });
  }
}

/** Waits until it is so, 15 s at most; the assertions that follow tell when it is not. */
export async function until(isSo: () => boolean): Promise<void> {
  const deadline = Date.now() + 15_000;
  while (!isSo() && Date.now() < deadline) await sleep(20);
}

/** `bridge vlan show dev PORT`, as `100 pvid untagged`, and of VLANs in a row the first and last. */
export function vlansOf(host: { readonly name: string }, port: string): string[] {
  const [found] = jsonIn<Json>(host.name, 'bridge', ['-j', 'vlan', 'show', 'dev', port]);
  const vlans = (found?.vlans ?? []) as { vlan: number; flags?: string[] }[];
  const rows = vlans.map(({ vlan, flags = [] }) => ({
    vid: vlan,
    pvid: flags.includes('PVID'),
    untagged: flags.includes('Egress Untagged'),
  }));
  return inRows(rows).map(formatVlan);
}

/** Whether one of three echo requests is answered: a machine under load is slow to learn where an address is. */
export function reaches(from: Where, ip: string): boolean {
  return ping(from, ip, 3);
}
