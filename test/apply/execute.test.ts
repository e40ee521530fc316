import assert from 'node:assert/strict';
import test, { type TestContext } from 'node:test';
import { type Backends, Executor } from '../../src/apply/execute.ts';
import { NetlinkSocket } from '../../src/kernel/netlink/socket.ts';
import { Netns } from '../../src/kernel/netns.ts';
import { parseCidr } from '../../src/model/address.ts';
import type { Operation } from '../../src/model/operation.ts';
import { cidrs, ipLink, plainNetns, run, skipUnless } from '../lab.ts';
import { now } from '../plan/support.ts';

const noBackends: Backends = {
  ovs: async () => assert.fail('no Open vSwitch here'),
  firewall: async () => assert.fail('no firewall here'),
};

/** Two namespaces as host and guest, and what runs operations in them. */
async function ground(t: TestContext) {
  const [host, guest] = await Promise.all([plainNetns(t, 'exh'), plainNetns(t, 'exg')]);
  const open = (path: string): NetlinkSocket => {
    const netns = Netns.open(path, path);
    const socket = NetlinkSocket.open(netns);
    t.after(() => {
      socket[Symbol.dispose]();
      netns[Symbol.dispose]();
    });
    return socket;
  };
  const sides = { host: open(host.path), guest: open(guest.path) };
  return { host, guest, sides, executor: new Executor(sides, noBackends) };
}

const cidr = (text: string) => {
  const parsed = parseCidr(text);
  if (!parsed) throw new Error(text);
  return parsed;
};
const inGuest = { side: 'guest', link: 'eth1' } as const;
const addAddr = (text: string): Operation => ({ do: 'addr.add', ...inGuest, cidr: cidr(text) });

const connect: readonly Operation[] = [
  { do: 'link.add', side: 'host', name: 'br1', link: { kind: 'bridge' }, group: now },
  {
    do: 'link.add',
    side: 'host',
    name: 'end1',
    link: { kind: 'veth', peer: 'eth1', master: 'br1', mtu: 1500 },
    group: now,
  },
  { do: 'link.set', side: 'guest', name: 'eth1', set: { up: true } },
  addAddr('10.0.0.2/24'),
  { do: 'route.replace', side: 'guest', route: { family: 4, gateway: '10.0.0.1', link: 'eth1' } },
];

test('what goes to one namespace leaves together', async (t) => {
  if (skipUnless(t, 'root')) return;
  const { executor, sides, guest } = await ground(t);
  assert.equal(await executor.run(connect), undefined);
  assert.deepEqual(cidrs(guest.name, 'eth1'), ['10.0.0.2/24']);
  // To the host: the bridge, its ifindex, the pair. To the guest: the ifindex of eth1, and all that is done to it.
  assert.deepEqual({ ...sides.guest.counters }, { sends: 2, messages: 4 });
  assert.ok(sides.host.counters.sends <= 3, `${sides.host.counters.sends} sends`);
});

test('with somebody who looks before each step, one after the other', async (t) => {
  if (skipUnless(t, 'root')) return;
  const { executor, guest } = await ground(t);
  const looked: number[] = [];
  const failed = await executor.run(connect, (index) => {
    looked.push(index);
    if (index === 3) throw new Error('enough');
  });
  assert.match(String(failed?.error), /^Error: enough$/);
  assert.deepEqual(looked, [0, 1, 2, 3]);
  assert.deepEqual(cidrs(guest.name, 'eth1'), []);
  assert.ok(ipLink(guest.name, 'eth1')?.flags.includes('UP'));
});

test('of several refusals the first is told, as the others may follow from it', async (t) => {
  if (skipUnless(t, 'root')) return;
  const { executor } = await ground(t);
  await executor.run(connect.slice(0, 3));
  const failed = await executor.run([
    { do: 'addr.del', ...inGuest, cidr: cidr('10.9.9.9/24') },
    { do: 'route.replace', side: 'guest', route: { family: 4, gateway: '10.0.0.1', link: 'eth1' } },
  ]);
  assert.match(String(failed?.error), /addr\.del 10\.9\.9\.9\/24 on eth1 .*EADDRNOTAVAIL/);
});

test('an undo goes on after a failure, and what is gone already is none', async (t) => {
  if (skipUnless(t, 'root')) return;
  const { executor, host, guest } = await ground(t);
  await executor.run(connect);
  const failures = await executor.runAll([
    { do: 'addr.del', ...inGuest, cidr: cidr('10.9.9.9/24') },
    { do: 'link.set', side: 'guest', name: 'nosuch', set: { up: true } },
    { do: 'route.replace', side: 'guest', route: { family: 4, gateway: '203.0.113.1', link: 'eth1' } },
    { do: 'link.del', side: 'host', name: 'end1', onlyGroup: now + 1 },
    { do: 'link.del', side: 'host', name: 'br1', onlyGroup: now },
  ]);
  assert.equal(failures.length, 1);
  assert.match(String(failures[0]), /203\.0\.113\.1 on eth1 .*ENETUNREACH/);
  assert.equal(ipLink(host.name, 'br1'), undefined);
  assert.equal(ipLink(host.name, 'end1')?.ifname, 'end1', 'of another group, so it stays');
  assert.equal(ipLink(guest.name, 'eth1')?.ifname, 'eth1');
});

test('without the container there is nothing to be done in it', async (t) => {
  if (skipUnless(t, 'root')) return;
  const { sides } = await ground(t);
  const executor = new Executor({ host: sides.host, guest: undefined }, noBackends);
  assert.deepEqual(
    await executor.runAll([addAddr('10.0.0.2/24'), { do: 'link.del', side: 'guest', name: 'eth1' }]),
    [],
  );
  const failed = await executor.run([addAddr('10.0.0.2/24')]);
  assert.match(String(failed?.error), /CONTAINER_GONE|stopped or was replaced/);
});

test('many links of the host are deleted at once, and one that is gone is none', async (t) => {
  if (skipUnless(t, 'root')) return;
  const { executor, host } = await ground(t);
  for (const n of ['1', '2', '3']) run('ip', ['-n', host.name, 'link', 'add', `br${n}`, 'type', 'bridge']);
  await executor.delHostLinks(['br1', 'nosuch', 'br3'], now);
  assert.equal(ipLink(host.name, 'br1'), undefined);
  assert.equal(ipLink(host.name, 'br3'), undefined);
  assert.equal(ipLink(host.name, 'br2')?.ifname, 'br2');
  await executor.delHostLinks([], now);
  await executor.delHostLinks(['br2'], now);
  assert.equal(ipLink(host.name, 'br2'), undefined);
});
