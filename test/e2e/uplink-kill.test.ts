// SIGKILL of the command between any two of its steps: within the time for its confirmation and two seconds the host is as it
// was before, or all of it has moved, and it is reached either way. PWT_UPLINK_KILLS sets how often, by default 8.
import assert from 'node:assert/strict';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import test, { type TestContext } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { ping, run, skipUnless } from '../lab.ts';
import { soon, startOvs } from './agent-ground.ts';
import { command } from './support.ts';
import { at, difference, dump, isAs, patience, type UplinkGround, uplinkGround } from './uplink-ground.ts';

const measures = process.env.PWT_UPLINK_KILLS !== undefined;
const kills = Number(process.env.PWT_UPLINK_KILLS ?? 8);
/** System calls of the main thread that change something, as in fault-syscall.test.ts. */
const changing = 'write,rename,unlink,flock,clone,vfork';
const confirmMs = 2500;
/** On top of the time for the confirmation; on a machine that does something else as well it says nothing. */
const graceMs = measures ? 2000 : patience;

interface Direction {
  readonly words: readonly string[];
  /** Makes the host as it is before. */
  prepare(ground: UplinkGround): void;
}

const directions = (network: string): readonly Direction[] => [
  {
    words: ['uplink', 'add', 'eth0', '--network', network, '--confirm', `${confirmMs}ms`],
    prepare: ({ host }) =>
      void host.pipewright(['uplink', 'remove', 'eth0', '--confirm', '0'], { expect: 'any' }),
  },
  {
    words: ['uplink', 'remove', 'eth0', '--confirm', `${confirmMs}ms`],
    prepare: ({ host }) =>
      void host.pipewright(['uplink', 'add', 'eth0', '--network', network, '--confirm', '0']),
  },
];

for (const [kind, network] of Object.entries({ bridge: 'bridge:br0', ovs: 'ovs:ovs0' })) {
  for (const [nr, direction] of directions(network).entries()) {
    const share = Math.ceil((kills * (kind === 'bridge' ? 2 : 1)) / (nr === 0 ? 4 : 8));
    test(`${kind}: ${direction.words[1]} is killed ${share} times`, async (t) => {
      if (
        skipUnless(
          t,
          'root',
          'program:strace',
          'program:ethtool',
          ...(kind === 'ovs' ? ['ovs' as const] : []),
        )
      )
        return;
      const ground = await uplinkGround(t, `uk${kind}${nr}`);
      if (kind === 'ovs') await startOvs(t, ground.host);
      direction.prepare(ground);
      const before = dump(ground);
      const calls = callsOf(t, ground, direction.words);
      direction.prepare(ground);
      assert.deepEqual(
        difference(before, dump(ground)).filter((text) => !text.includes('"ifname":"br0"')),
        [],
      );
      const first = calls.findIndex((call) => call.includes('/run/pipewright') || call.startsWith('flock'));
      assert.ok(first > 0);
      const begun: Record<string, number> = { before: 0, between: 0, after: 0 };
      let longest = 0;
      for (let i = 0; i < share; i++) {
        // Spread over all calls, at random within each share.
        const where = first + 1 + Math.floor(((i + Math.random()) / share) * (calls.length - first));
        const { found, ms } = await killAt(ground, direction, where, calls[where - 1] ?? '');
        begun[found] = (begun[found] ?? 0) + 1;
        longest = Math.max(longest, ms);
      }
      t.diagnostic(
        `${kind} ${direction.words[1]}: right after the kill the host was ${JSON.stringify(begun)}; as before ${longest} ms after a kill at the latest, of which ${confirmMs} ms are for the confirmation`,
      );
    });
  }
}

/** The system calls of a run that nobody kills. */
function callsOf(t: TestContext, { host }: UplinkGround, words: readonly string[]): string[] {
  const dir = mkdtempSync(path.join(tmpdir(), 'pwt-strace-'));
  t.after(() => rmSync(dir, { recursive: true, force: true }));
  const flags = ['-qq', '-o', `${dir}/calls`, '-e', `trace=${changing}`, '-e', 'signal=none'];
  host.run('strace', [...flags, ...command('pipewright', [...words.slice(0, -1), '60s'])]);
  host.pipewright(['confirm']);
  return readFileSync(`${dir}/calls`, 'utf8').split('\n').filter(Boolean);
}

function waiting({ host }: UplinkGround): number {
  const { uplinks } = JSON.parse(host.pipewright(['uplink', 'list', '--json']).stdout) as {
    uplinks: { state: string }[];
  };
  return uplinks.filter(({ state }) => state !== 'up').length;
}

/** @returns how the host was right after the kill, and when it was as before */
async function killAt(
  ground: UplinkGround,
  direction: Direction,
  nr: number,
  call: string,
): Promise<{ found: string; ms: number }> {
  const { host, router } = ground;
  const before = dump(ground);
  const inject = `inject=${changing}:signal=KILL:when=${nr}`;
  const flags = ['-qq', '-o', '/dev/null', '-e', `trace=${changing}`, '-e', inject];
  host.run('strace', [...flags, ...command('pipewright', direction.words)], { expect: 'any' });
  const killedAt = performance.now();
  const isBack = (): boolean => isAs(ground, before);
  const found = isBack() ? 'before' : reads(ground, direction) ? 'after' : 'between';
  const where = `killed at call ${nr}: ${call}`;
  // The time for the confirmation began before the kill, so this is no less strict.
  while (!isBack() && performance.now() - killedAt < confirmMs + graceMs) await sleep(20);
  const ms = Math.round(performance.now() - killedAt);
  assert.deepEqual(difference(before, dump(ground)), [], `${where}\n${guardOf(ground)}`);
  assert.ok(ping(router, at.host, 5), `${where}: not reached`);
  assert.ok(ping(host.name, at.router, 5), `${where}: does not reach`);
  // Without another command, nothing is left over.
  await soon(() => waiting(ground) === 0, patience);
  assert.equal(waiting(ground), 0, where);
  return { found, ms };
}

/** What there is of the guard, for a failure. */
function guardOf({ host }: UplinkGround): string {
  const files = ['eth0.json.guard', 'eth0.json'].map((name) => `${host.stateDir}/uplinks/${name}`);
  const texts = files.map((file) => (existsSync(file) ? readFileSync(file, 'utf8').slice(0, 300) : 'none'));
  return [...texts, process.hrtime.bigint(), run('pgrep', ['-fa', '__guard'], { expect: 'any' }).stdout].join(
    '\n',
  );
}

/** Whether all addresses are on the other link. */
function reads({ host }: UplinkGround, { words }: Direction): boolean {
  const isOn = (link: string): boolean =>
    host.ip('-br', 'addr', 'show', 'dev', link).stdout.includes(at.host);
  const isPort = /master (br0|ovs-system)/.test(host.ip('link', 'show', 'eth0').stdout);
  return words[1] === 'add' ? isPort && !isOn('eth0') : !isPort && isOn('eth0');
}
