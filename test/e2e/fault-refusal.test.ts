// The kernel and Open vSwitch refuse something in the middle, while all that goes together is sent together.
import assert from 'node:assert/strict';
import test from 'node:test';
import type { RouteSpec } from '../../src/model/attachment.ts';
import { skipUnless } from '../lab.ts';
import { differences, Ground, type Want } from './fault-ground.ts';
import { scenarioOf } from './fault-scenarios.ts';

interface Refusal {
  readonly name: string;
  /** What is there and what is wanted: the scenario whose name begins like this. */
  readonly like: string;
  readonly with?: Partial<Want>;
  readonly also?: (ground: Ground) => void;
  readonly message: RegExp;
}

const unreachable: readonly RouteSpec[] = [
  { dst: { family: 4, ip: '10.98.0.0', prefixLen: 16 } },
  { dst: { family: 4, ip: '10.99.0.0', prefixLen: 16 }, gateway: '203.0.113.1' },
];

const refusals: readonly Refusal[] = [
  {
    name: 'bridge: a route to nowhere, after both default routes were replaced',
    like: 'bridge, new',
    with: { routes: unreachable },
    message: /^route\.replace 10\.99\.0\.0\/16 via 203\.0\.113\.1 .*ENETUNREACH/,
  },
  {
    name: "bridge: a gateway that is the subnet's broadcast address",
    like: 'bridge, there and down',
    with: { addrs: ['10.1.0.5/24@10.1.0.255'] },
    message: /^route\.replace default via 10\.1\.0\.255 .*EINVAL/,
  },
  {
    name: 'bridge: a gateway of IPv6 that is our own address',
    like: 'bridge, new',
    with: { addrs: ['10.1.0.5/24@10.1.0.1', 'fd01::5/64@fd01::5'] },
    message: /^route\.replace default \(IPv6\) via fd01::5 .*EINVAL/,
  },
  {
    name: "bridge: the name in the container is another link's altname",
    like: 'bridge, new',
    also: (ground) => ground.inGuest('link property add dev eth0 altname eth1'),
    message: /^link\.add .*EEXIST/,
  },
  {
    name: 'Open vSwitch: somebody else has a port of this name',
    like: 'Open vSwitch, new',
    with: { hostIfname: 'taken0' },
    also: (ground) => {
      ground.vsctl('add-br', 'sw9', '--', 'set', 'bridge', 'sw9', 'datapath_type=netdev');
      ground.vsctl('--no-wait', 'add-port', 'sw9', 'taken0');
    },
    message: /^ovs\.port\.add taken0 on ovs0: .*sw9.*EEXIST/,
  },
  {
    name: 'Open vSwitch: a route to nowhere',
    like: 'Open vSwitch, new',
    with: { routes: unreachable },
    message: /ENETUNREACH/,
  },
  {
    name: 'macvlan: another one of the NIC has this MAC address',
    like: 'macvlan on a NIC that is down',
    with: { mac: '02:00:00:00:00:0a' },
    also: (ground) => {
      ground.onHost(
        'link set nic0 up',
        'link add link nic0 name mv0 address 02:00:00:00:00:0a type macvlan mode bridge',
        'link set mv0 up',
      );
    },
    message: /^link\.set eth1 .*EADDRINUSE/,
  },
  {
    name: 'macvlan: more than the MTU of the NIC',
    like: 'macvlan on a NIC that is down',
    with: { mtu: 9000 },
    message: /^link\.add eth1.*EINVAL/,
  },
  {
    name: 'macvlan: a NIC that is a port of a bridge',
    like: 'macvlan on a NIC that is down',
    also: (ground) => ground.onHost('link add lan0 type bridge', 'link set nic0 master lan0'),
    message: /^link\.add eth1.*(EBUSY|EINVAL)/,
  },
  {
    name: 'the NIC itself: its name in the container is an altname there, so it arrives under its own',
    like: 'the NIC itself, with',
    also: (ground) => ground.inGuest('link property add dev eth0 altname eth1'),
    message: /^link\.set .*EEXIST/,
  },
  {
    name: 'the NIC itself: its altname is a name in the container, so it does not leave',
    like: 'the NIC itself, with',
    also: (ground) => ground.inGuest('link property add dev eth0 altname enp1s0'),
    message: /^link\.set .*EEXIST/,
  },
  {
    name: 'the NIC itself: its name is that of another link in the container',
    like: 'the NIC itself, with',
    with: { routes: unreachable },
    also: (ground) => ground.inGuest('link add nic0 type veth peer name nic0p'),
    message: /ENETUNREACH/,
  },
  {
    name: 'the NIC itself: a MAC address that no link can have',
    like: 'the NIC itself, with',
    with: { mac: '03:00:00:00:00:01' },
    message: /^link\.set eth1 .*EADDRNOTAVAIL/,
  },
  {
    name: 'the NIC itself: the loopback interface, which cannot move',
    like: 'the NIC itself, with',
    with: { network: { kind: 'phys', uplink: 'lo' } },
    message: /^link\.set .*EINVAL/,
  },
  {
    name: 'in place: a route to nowhere, among new addresses',
    like: 'change in place: address',
    with: { routes: unreachable },
    message: /^route\.replace 10\.99\.0\.0\/16 via 203\.0\.113\.1 .*ENETUNREACH/,
  },
  {
    name: 'in place: IPv6 on an MTU that is too small for it',
    like: 'change in place: address',
    with: { mtu: 1200 },
    message: /IPv6 needs an MTU of at least 1280 bytes/,
  },
  {
    name: 'made anew: another macvlan of the NIC has the MAC address',
    like: 'made anew: from a bridge',
    with: { mac: '02:00:00:00:00:0a' },
    also: (ground) =>
      ground.onHost(
        'link set nic0 up',
        'link add link nic0 name mv0 address 02:00:00:00:00:0a type macvlan mode bridge',
        'link set mv0 up',
      ),
    message: /^link\.set eth1 .*EADDRINUSE/,
  },
  {
    name: 'made anew: a route to nowhere',
    like: 'made anew: from Open vSwitch',
    with: { routes: unreachable },
    message: /ENETUNREACH/,
  },
];

for (const { name, like, also, message, ...refusal } of refusals) {
  test(`refused, and nothing changed: ${name}`, async (t) => {
    const scenario = scenarioOf(like);
    if (skipUnless(t, 'root', ...(scenario.needs ?? []))) return;
    const ground = await Ground.make(t, scenario);
    await scenario.prepare(ground, t);
    also?.(ground);
    const before = ground.dump();
    await assert.rejects(ground.attach({ ...scenario.want, ...refusal.with }), (error: Error) => {
      assert.match(error.message, message);
      return true;
    });
    assert.deepEqual(await differences(before, () => ground.dump()), []);
    // Without what was in the way it works: nothing is stuck.
    if (refusal.with && !also) await ground.attach(scenario.want);
  });
}

test('refused, and nothing changed: ip6tables fails after iptables has made its rule', async (t) => {
  if (skipUnless(t, 'root', 'program:iptables', 'program:ip6tables')) return;
  const ground = await Ground.make(t);
  await scenarioOf('bridge, new').prepare(ground, t);
  const before = ground.dump();
  const words = ['br1', `pid:${ground.guest.pid}`, '10.1.0.5/24@10.1.0.1'];
  const { code, stderr } = ground.pipeworkWith(t, { ip6tables: 'echo "no luck" >&2; exit 4' }, words);
  assert.equal(code, 1);
  assert.match(stderr, /^pipework: ip6tables DOCKER-USER for br1: no luck; [^\n]*--no-firewall[^\n]*\n$/);
  assert.deepEqual(await differences(before, () => ground.dump()), []);
});
