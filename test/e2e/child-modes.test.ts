/** Modes of the children of a NIC: set, seen, changed in place where the kernel can, and 802.1Q sub-interfaces shared. */
import assert from 'node:assert/strict';
import { rmSync } from 'node:fs';
import test, { type TestContext } from 'node:test';
import { ipLink, linkExists, type Need, ping, plainNetns, runIn, skipUnless } from '../lab.ts';
import { changesBy, emptyGuest, nicOn, type OwnHost, ownHost, reaches } from './support.ts';

interface Ground {
  readonly host: OwnHost;
  readonly a: number;
  readonly b: number;
}

const attach = (pid: number, network: string, ...words: readonly string[]): string[] => [
  'attach',
  `pid:${pid}`,
  '--network',
  network,
  ...words,
];

/** Mode, flag and sources of eth1, and its number: another one when it was made anew. */
function seen(pid: number): { mode: string; index: number | undefined } {
  const link = ipLink(pid, 'eth1');
  const { mode, macaddr_data: macs = [] } = (link?.linkinfo?.info_data ?? {}) as {
    mode?: string;
    macaddr_data?: string[];
  };
  // In JSON the flag of an ipvlan is not told.
  const { stdout } = runIn(pid, 'ip', ['-d', 'link', 'show', 'dev', 'eth1'], { expect: 'any' });
  const [, ipvlan, flag] = /ipvlan\s+mode (\w+)\s+(\w+)/.exec(stdout) ?? [];
  return { mode: [ipvlan ?? mode, ...(flag ? [flag] : []), ...macs].join(' '), index: link?.ifindex };
}

const cases: Record<string, readonly [Need, (ground: Ground) => void]> = {
  'macvlan: every mode, changed in place but for passthru': [
    'macvlan',
    ({ host, a }) => {
      const set = (mode: string, ...words: readonly string[]) => {
        host.pipewright(attach(a, 'macvlan:nic0', '--mode', mode, ...words));
        assert.match(
          host.pipewright(attach(a, 'macvlan:nic0', '--mode', mode, ...words)).stdout,
          /nothing to do/,
        );
        return seen(a);
      };
      const first = set('bridge');
      assert.equal(first.mode, 'bridge');
      for (const mode of ['private', 'vepa']) assert.deepEqual(set(mode), { ...first, mode });
      const macs = ['02:00:00:00:00:01', '02:00:00:00:00:02'];
      const sources = macs.flatMap((mac) => ['--source-mac', mac]);
      const many = set('source', ...sources);
      assert.deepEqual([many.index, many.mode.split(' ').sort()], [first.index, [...macs, 'source']]);
      assert.deepEqual(set('source', '--source-mac', macs[1] ?? ''), { ...first, mode: `source ${macs[1]}` });
      assert.deepEqual(set('bridge'), first);
      const anew = set('passthru');
      assert.equal(anew.mode.split(' ')[0], 'passthru');
      assert.notEqual(anew.index, first.index);
    },
  ],

  'macvlan: private children do not reach each other, and what fails leaves the mode as it was': [
    'macvlan',
    ({ host, a, b }) => {
      const on = (pid: number, last: number, mode: string) =>
        attach(pid, 'macvlan:nic0', '--mode', mode, '--address', `10.6.0.${last}/24`);
      host.pipewright(on(a, 1, 'bridge'));
      host.pipewright(on(b, 2, 'bridge'));
      assert.ok(reaches(a, '10.6.0.2'));
      for (const [pid, last] of [[a, 1] as const, [b, 2] as const]) host.pipewright(on(pid, last, 'private'));
      assert.ok(!ping(a, '10.6.0.2'));
      const wrong = ['--route', '10.9.0.0/16 via 10.77.0.1'];
      host.pipewright([...on(a, 1, 'vepa'), ...wrong], { expect: 1 });
      assert.equal(seen(a).mode, 'private');
    },
  ],

  'ipvlan: every mode and flag, changed in place': [
    'ipvlan',
    ({ host, a }) => {
      const set = (...words: readonly string[]) => {
        host.pipewright(attach(a, 'ipvlan:nic0', ...words));
        assert.match(host.pipewright(attach(a, 'ipvlan:nic0', ...words)).stdout, /nothing to do/);
        return seen(a);
      };
      const first = set('--mode', 'l2');
      assert.equal(first.mode, 'l2 bridge');
      assert.deepEqual(set('--mode', 'l3'), { ...first, mode: 'l3 bridge' });
      assert.deepEqual(set('--mode', 'l3s', '--ipvlan-flag', 'private'), { ...first, mode: 'l3s private' });
      assert.deepEqual(set('--mode', 'l3s'), { ...first, mode: 'l3s private' });
      assert.deepEqual(set('--mode', 'l2', '--ipvlan-flag', 'vepa'), { ...first, mode: 'l2 vepa' });
      assert.deepEqual(set('--mode', 'l2', '--ipvlan-flag', 'bridge'), first);
    },
  ],

  'a sub-interface of the NIC is made for the first, shared by the second, and goes with the last': [
    'vlan',
    ({ host, a, b }) => {
      const changes = changesBy(host, [a, b], () => {
        for (const [pid, last] of [[a, 1] as const, [b, 2] as const]) {
          host.pipewright(attach(pid, 'macvlan:nic0', '--vlan', '70', '--address', `10.6.0.${last}/24`));
        }
        assert.equal(ipLink(host.name, 'nic0.70')?.linkinfo?.info_data?.id, 70);
        assert.ok(reaches(a, '10.6.0.2'));
        host.pipewright(['detach', `pid:${a}`]);
        assert.ok(linkExists(host.name, 'nic0.70'));
        // To another VLAN: the one it leaves goes.
        host.pipewright(attach(b, 'macvlan:nic0', '--vlan', '71', '--address', '10.6.0.2/24'));
        assert.ok(!linkExists(host.name, 'nic0.70') && linkExists(host.name, 'nic0.71'));
        host.pipewright(['detach', `pid:${b}`]);
      });
      assert.deepEqual(changes, []);
    },
  ],
};

async function run(t: TestContext, ground: Ground): Promise<void> {
  for (const [name, [need, act]] of Object.entries(cases)) {
    await t.test(name, (t) => {
      if (skipUnless(t, need)) return;
      for (const pid of [ground.a, ground.b]) emptyGuest(pid);
      for (const link of ground.host.links())
        runIn(ground.host.name, 'ip', ['link', 'del', link], { expect: 'any' });
      rmSync(ground.host.stateDir, { recursive: true, force: true });
      nicOn(ground.host, 'nic0');
      act(ground);
    });
  }
}

test('children of a NIC', async (t) => {
  if (skipUnless(t, 'root')) return;
  const host = await ownHost(t, 'cmh');
  const [a, b] = [await plainNetns(t, 'cma'), await plainNetns(t, 'cmb')];
  await run(t, { host, a: a.pid, b: b.pid });
});
