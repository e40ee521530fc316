import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { test } from 'node:test';
import { addLink, delLinkGroup } from '../../../src/kernel/netlink/link.ts';
import { openFirewallMonitor, openMonitor } from '../../../src/kernel/netlink/monitor.ts';
import { createLab, type Lab, until } from '../lab.ts';

interface Heard {
  wakes: number;
  overruns: number;
  readonly onWake: () => void;
  readonly onOverrun: () => void;
}

function ear(): Heard {
  const heard: Heard = {
    wakes: 0,
    overruns: 0,
    onWake: () => heard.wakes++,
    onOverrun: () => heard.overruns++,
  };
  return heard;
}

const settle = (): Promise<void> => new Promise((resolve) => setTimeout(resolve, 50));

const changes: readonly (readonly [string, string])[] = [
  ['a link', 'link add br9 type bridge'],
  ['an address', 'addr add 10.0.0.2/24 dev br1'],
  ['an IPv6 address', 'addr add fd00::2/64 dev br1'],
  ['a route', 'route add 10.9.0.0/16 dev br1'],
  ['an IPv6 route', '-6 route add fd09::/64 dev br1'],
  ['a rule', 'rule add priority 50 lookup 100'],
  ['an IPv6 rule', '-6 rule add priority 50 lookup 100'],
];

test('wakes for links, addresses, routes and rules', async (t) => {
  const lab = createLab(t);
  lab.ip('link add br1 up type bridge');
  const heard = ear();
  using _monitor = openMonitor(lab.netns, heard);
  await settle();
  for (const [what, command] of changes) {
    const before = heard.wakes;
    lab.ip(command);
    await until(() => heard.wakes > before, what);
    await settle();
  }
  const before = heard.wakes;
  lab.ip('neigh add 10.0.0.9 lladdr 02:00:00:00:00:01 dev br1');
  await settle();
  assert.equal(heard.wakes, before, 'neighbours were not asked for');
  assert.equal(heard.overruns, 0);
});

test('wakes for neighbours when they are asked for', async (t) => {
  const lab = createLab(t);
  lab.ip('link add br1 up type bridge');
  const heard = ear();
  using _monitor = openMonitor(lab.netns, { ...heard, neighs: true, onWake: heard.onWake });
  await settle();
  const before = heard.wakes;
  lab.ip('neigh add 10.0.0.9 lladdr 02:00:00:00:00:01 dev br1');
  await until(() => heard.wakes > before, 'neighbour');
});

test('wakes for another namespace once that has a number, and stays deaf to the rest', async (t) => {
  const [host, guest, stranger] = [createLab(t), createLab(t), createLab(t)];
  const heard = ear();
  using _monitor = openMonitor(host.netns, heard);
  host.ip(`link add pwa type veth peer name eth1 netns ${guest.name}`);
  await until(() => heard.wakes > 0, 'the pair');
  await settle();
  const before = heard.wakes;
  stranger.ip('link add br9 type bridge');
  await settle();
  assert.equal(heard.wakes, before);
  guest.ip('addr add 10.0.0.2/24 dev eth1');
  await until(() => heard.wakes > before, 'address in the other namespace');
});

/** More events than can wait, while nobody reads. */
function flood(lab: Lab): void {
  for (let round = 0; round < 3; round++) {
    const pairs = Array.from({ length: 200 }, (_, i) =>
      addLink({ kind: 'veth', name: `v${i}`, group: 7, up: true, peer: { name: `w${i}`, group: 7 } }),
    );
    assert.deepEqual(lab.rtnl.batch(pairs).filter(Boolean), []);
    lab.rtnl.request(delLinkGroup(7));
  }
}

test('an overrun is told, and what comes after it is heard', async (t) => {
  const lab = createLab(t);
  const heard = ear();
  using _monitor = openMonitor(lab.netns, heard);
  flood(lab);
  await until(() => heard.overruns > 0, 'overrun');
  await settle();
  const { wakes, overruns } = heard;
  lab.ip('link add br9 type bridge');
  await until(() => heard.wakes > wakes, 'link after the overrun');
  assert.equal(heard.overruns, overruns);
});

test('ends with its scope or its signal, and leaves nothing open', async (t) => {
  const lab = createLab(t);
  await settle();
  const before = readdirSync('/proc/self/fd').length;
  const controller = new AbortController();
  const heard = ear();
  {
    using _scoped = openMonitor(lab.netns, heard);
    openMonitor(lab.netns, { ...heard, signal: controller.signal });
    assert.equal(readdirSync('/proc/self/fd').length, before + 2);
  }
  controller.abort();
  openMonitor(lab.netns, { ...heard, signal: controller.signal });
  await settle();
  assert.equal(readdirSync('/proc/self/fd').length, before);
  execFileSync('ip', ['-n', lab.name, 'link', 'add', 'br9', 'type', 'bridge']);
  await settle();
  assert.equal(heard.wakes, 0);
});

const firewallChanges: readonly (readonly [string, readonly string[]])[] = [
  ['a chain', ['-N', 'PWT']],
  ['a rule', ['-A', 'PWT', '-j', 'ACCEPT']],
  ['a flush', ['-F', 'PWT']],
  ['a policy', ['-P', 'FORWARD', 'DROP']],
];

test('wakes for what iptables changes, in its own namespace', async (t) => {
  const iptables = (netns: string, ...args: readonly string[]): string =>
    execFileSync('ip', ['netns', 'exec', netns, 'iptables', ...args], { encoding: 'utf8' });
  const [lab, other] = [createLab(t), createLab(t)];
  if (!iptables(lab.name, '--version').includes('nf_tables')) return t.skip('iptables is not iptables-nft');
  iptables(lab.name, '-S');
  const heard = ear();
  using _monitor = openFirewallMonitor(lab.netns, heard);
  await settle();
  for (const [what, args] of firewallChanges) {
    const before = heard.wakes;
    iptables(lab.name, ...args);
    await until(() => heard.wakes > before, what);
    await settle();
  }
  const before = heard.wakes;
  iptables(lab.name, '-S');
  iptables(other.name, '-N', 'PWT');
  lab.ip('link add br1 type bridge');
  await settle();
  assert.equal(heard.wakes, before, 'reading, another namespace and links are no change');
  assert.equal(heard.overruns, 0);
});
