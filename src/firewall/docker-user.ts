/**
 * Docker sets the policy of FORWARD to DROP and has the kernel show bridged frames to iptables, so nothing passes
 * between two ports of a bridge that is not Docker's. Its documentation gives users the chain DOCKER-USER for rules of
 * their own; there we let pass what stays on the bridge.
 */
import type { StdioOptions } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { PipewrightError } from '../errors.ts';
import { inNetns, type Netns } from '../kernel/netns.ts';
import { type ChainRules, readChain } from './nftables.ts';

const chain = 'DOCKER-USER';

/** By address family: the program, the family number of nf_tables (NFPROTO_*), and the older backend's table list. */
const families = [
  { program: 'iptables', nfproto: 2, legacyTables: '/proc/thread-self/net/ip_tables_names' },
  { program: 'ip6tables', nfproto: 10, legacyTables: '/proc/thread-self/net/ip6_tables_names' },
] as const;

type IpTables = (typeof families)[number];

/** The comment that names our rule for a bridge, in `iptables -S` and in the kernel. */
function commentOf(bridge: string): string {
  return `pipewright:${bridge}`;
}

/** docker0 and Docker's other bridges: whether their containers may talk is said by Docker's own options. */
function isDockers(bridge: string): boolean {
  return bridge === 'docker0' || bridge === 'docker_gwbridge' || /^br-[0-9a-f]{12}$/.test(bridge);
}

/**
 * Whether nothing is to be done for this bridge: its rule is there, or there is no such chain. Asks the kernel; runs
 * a program only where the older backend (iptables-legacy) is in use.
 */
export async function isAllowed(netns: Netns, bridge: string): Promise<boolean> {
  if (isDockers(bridge)) return true;
  for (const family of families) if ((await isPresent(netns, family, bridge)) === false) return false;
  return true;
}

/** Whether our rule for this bridge is there, in one of the families. */
export async function hasRule(netns: Netns, bridge: string): Promise<boolean> {
  for (const family of families) if (await isPresent(netns, family, bridge)) return true;
  return false;
}

/** Whether the chain has our rule; undefined when there is no such chain. */
async function isPresent(netns: Netns, family: IpTables, bridge: string): Promise<boolean | undefined> {
  const rules = readChain(netns, family.nfproto, 'filter', chain);
  if (rules) return isIn(rules, bridge);
  if (!usesLegacy(netns, family)) return undefined;
  const listed = await iptables(netns, family, ['-S', chain]);
  if (listed.status !== 0) return undefined;
  return listed.stdout.split('\n').some((line) => commentIn(line) === commentOf(bridge));
}

/** The comment is a NUL-terminated string in the rule's data, whichever way it is stored. */
function isIn(rules: ChainRules, bridge: string): boolean {
  return rules.raw.some((rule) => rule.includes(`${commentOf(bridge)}\0`));
}

function usesLegacy(netns: Netns, { legacyTables }: IpTables): boolean {
  try {
    return inNetns(netns, () => readFileSync(legacyTables, 'utf8'))
      .split('\n')
      .includes('filter');
  } catch {
    return false;
  }
}

function ruleOf(bridge: string): string[] {
  return ['-i', bridge, '-o', bridge, '-m', 'comment', '--comment', commentOf(bridge), '-j', 'ACCEPT'];
}

/**
 * `iptables -I DOCKER-USER -i BRIDGE -o BRIDGE -j ACCEPT`, where the chain is and the rule is not; likewise ip6tables.
 * Rules of ours whose bridge is gone are removed on the way. The programs inherit the files `keepOpen`. @throws PipewrightError FIREWALL_FAILED
 */
export async function allowBridge(
  netns: Netns,
  bridge: string,
  keepOpen: readonly number[] = [],
): Promise<void> {
  for (const family of families) {
    if ((await isPresent(netns, family, bridge)) !== false) continue;
    const done = await iptables(netns, family, ['-I', chain, ...ruleOf(bridge)], keepOpen);
    if (done.status !== 0 && !isAbsent(done.error)) throw failed(family, bridge, done);
    await removeStale(netns, family, keepOpen);
  }
}

/** Takes the rule for this bridge away, where it is. @throws PipewrightError FIREWALL_FAILED */
export async function revokeBridge(
  netns: Netns,
  bridge: string,
  keepOpen: readonly number[] = [],
): Promise<void> {
  if (isDockers(bridge)) return;
  for (const family of families) {
    if (!(await isPresent(netns, family, bridge))) continue;
    const done = await iptables(netns, family, ['-D', chain, ...ruleOf(bridge)], keepOpen);
    // 1: somebody else was faster.
    if (done.status !== 0 && done.status !== 1 && !isAbsent(done.error)) throw failed(family, bridge, done);
  }
}

/** The bridge of a rule of ours may have been deleted by hand. */
async function removeStale(netns: Netns, family: IpTables, keepOpen: readonly number[]): Promise<void> {
  const listed = await iptables(netns, family, ['-S', chain]);
  for (const line of listed.stdout?.split('\n') ?? []) {
    const bridge = commentIn(line)?.replace(/^pipewright:/, '');
    if (bridge === undefined || inNetns(netns, () => existsLink(bridge))) continue;
    await iptables(netns, family, ['-D', chain, ...ruleOf(bridge)], keepOpen);
  }
}

/** /sys/class/net shows the namespace it was mounted in; /proc/thread-self/net that of the thread. */
function existsLink(name: string): boolean {
  return readFileSync('/proc/thread-self/net/dev', 'utf8')
    .split('\n')
    .some((line) => line.trim().startsWith(`${name}:`));
}

function commentIn(rule: string): string | undefined {
  return /--comment "?(pipewright:[^\s"]+)"?/.exec(rule)?.[1];
}

async function iptables(
  netns: Netns,
  { program }: IpTables,
  args: readonly string[],
  keepOpen: readonly number[] = [],
) {
  const { spawnSync } = await import('node:child_process');
  // The one child process on the way of an attach. cron and the like leave /usr/sbin out of PATH.
  const env = { PATH: `/usr/sbin:/sbin:/usr/bin:/bin:${process.env.PATH ?? ''}` };
  const stdio: StdioOptions = ['ignore', 'pipe', 'pipe', ...keepOpen];
  return inNetns(netns, () => spawnSync(program, ['-w', ...args], { encoding: 'utf8', env, stdio }));
}

function isAbsent(error: Error | undefined): boolean {
  return (error as NodeJS.ErrnoException | undefined)?.code === 'ENOENT';
}

function failed(family: IpTables, bridge: string, done: { stderr: string; error?: Error }): PipewrightError {
  return new PipewrightError('FIREWALL_FAILED', {
    op: family.program,
    subject: `${chain} for ${bridge}`,
    detail: done.error?.message ?? done.stderr.trim().split('\n').at(-1),
    hint: 'with --no-firewall no rule is made; then Docker may drop what is forwarded on this bridge',
  });
}
