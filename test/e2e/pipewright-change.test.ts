/** `pipewright attach` with other values: changed in place where the kernel allows, else made anew. */
import assert from 'node:assert/strict';
import test, { type TestContext } from 'node:test';
import {
  type Container,
  cidrs,
  cleanupBridge,
  cleanupOvsBridge,
  ipAddrs,
  ipLink,
  ipRoutes,
  linkExists,
  makeNic,
  makeOvsBridge,
  ovsPort,
  ovsPorts,
  pipewright,
  runContainer,
  runIn,
  skipUnless,
} from '../lab.ts';
import {
  type Cases,
  changesBy,
  defaults,
  emptyGuest,
  type Ground,
  line,
  linkNames,
  makeGround,
  nicOn,
  reaches,
  runCases,
} from './support.ts';

/** What `attach` prints: the commands without their reasons. */
const commands = (stdout: string): string[] =>
  stdout
    .trimEnd()
    .split('\n')
    .map((text) => text.replace(/^\+ (.*?) {3}#.*/, '$1'));

const attach = (host: Ground['host'], { name }: Container, ...options: string[]): string[] => {
  const { stdout } = host.pipewright(['attach', name, ...options]);
  assert.match(
    host.pipewright(['attach', name, ...options]).stdout,
    /nothing to do/,
    `${options.join(' ')} again`,
  );
  return commands(stdout);
};

const ifindex = (pid: number, name = 'eth1'): number | undefined => ipLink(pid, name)?.ifindex;

const cases: Cases<Ground> = {
  'another address takes the place of the one before, in place': ({ host, a }) => {
    attach(host, a, '--network', 'br1', '--address', '10.0.0.1/24');
    const before = ifindex(a.pid);
    assert.deepEqual(attach(host, a, '--network', 'br1', '--address', '10.0.0.2/24'), [
      'ip -n GUEST addr add 10.0.0.2/24 brd 10.0.0.255 dev eth1',
      'ip netns exec GUEST sysctl net/ipv4/conf/eth1/promote_secondaries=1',
      'ip -n GUEST addr del 10.0.0.1/24 dev eth1',
      'ip netns exec GUEST sysctl net/ipv4/conf/eth1/promote_secondaries=0',
    ]);
    assert.deepEqual(cidrs(a.pid, 'eth1'), ['10.0.0.2/24']);
    assert.equal(ipAddrs(a.pid, 'eth1')[0]?.secondary, undefined);
    assert.deepEqual(
      ipRoutes(a.pid).map(({ dst, prefsrc }) => `${dst} ${prefsrc}`),
      ['10.0.0.0/24 10.0.0.2'],
    );
    assert.equal(ifindex(a.pid), before);
  },

  'several addresses, of which one stays': ({ host, a }) => {
    attach(host, a, '--network', 'br1', '--address', '10.0.0.1/24,10.0.0.2/24,fd00::1/64');
    attach(host, a, '--network', 'br1', '--address', '10.0.0.2/24,fd00::2/64,10.1.0.1/16');
    assert.deepEqual(cidrs(a.pid, 'eth1').sort(), ['10.0.0.2/24', '10.1.0.1/16', 'fd00::2/64']);
  },

  'the same address with another prefix length': ({ host, a }) => {
    attach(host, a, '--network', 'br1', '--address', '10.0.0.1/24');
    attach(host, a, '--network', 'br1', '--address', '10.0.0.1/16');
    assert.deepEqual(cidrs(a.pid, 'eth1'), ['10.0.0.1/16']);
    assert.deepEqual(
      ipRoutes(a.pid).map(({ dst }) => dst),
      ['10.0.0.0/16'],
    );
  },

  'what is not asked for stays: the addresses when none is given': ({ host, a }) => {
    attach(host, a, '--network', 'br1', '--address', '10.0.0.1/24@10.0.0.254', '--mac', '02:00:00:00:00:01');
    assert.deepEqual(attach(host, a, '--network', 'br1', '--mtu', '1400'), [
      'ip -n GUEST link set eth1 mtu 1400',
      `ip link set veth1pl${a.pid} mtu 1400`,
    ]);
    assert.deepEqual(cidrs(a.pid, 'eth1'), ['10.0.0.1/24']);
    assert.deepEqual(defaults(a.pid), ['via 10.0.0.254 dev eth1']);
    assert.equal(ipLink(a.pid, 'eth1')?.address, '02:00:00:00:00:01');
  },

  'another gateway; and an address with its gateway at once, through which the default route survives': ({
    host,
    a,
  }) => {
    attach(host, a, '--network', 'br1', '--address', '10.0.0.1/24@10.0.0.254');
    attach(host, a, '--network', 'br1', '--address', '10.0.0.1/24@10.0.0.253');
    assert.deepEqual(defaults(a.pid), ['via 10.0.0.253 dev eth1']);
    attach(host, a, '--network', 'br1', '--address', '10.9.0.1/24@10.9.0.254');
    assert.deepEqual(defaults(a.pid), ['via 10.9.0.254 dev eth1']);
    assert.deepEqual(cidrs(a.pid, 'eth1'), ['10.9.0.1/24']);
  },

  'another address under the gateway that stays: the default route is there afterwards': ({ host, a }) => {
    attach(host, a, '--network', 'br1', '--address', '10.0.0.1/24@10.0.0.254');
    attach(host, a, '--network', 'br1', '--address', '10.0.0.2/24@10.0.0.254');
    assert.deepEqual(cidrs(a.pid, 'eth1'), ['10.0.0.2/24']);
    assert.deepEqual(defaults(a.pid), ['via 10.0.0.254 dev eth1']);
  },

  'another MAC address, in place; addresses and default route stay': ({ host, a }) => {
    attach(host, a, '--network', 'br1', '--address', '10.0.0.1/24@10.0.0.254');
    assert.deepEqual(attach(host, a, '--network', 'br1', '--mac', '02:00:00:00:00:99'), [
      'ip -n GUEST link set eth1 address 02:00:00:00:00:99',
    ]);
    assert.equal(ipLink(a.pid, 'eth1')?.address, '02:00:00:00:00:99');
    assert.deepEqual(cidrs(a.pid, 'eth1'), ['10.0.0.1/24']);
    assert.deepEqual(defaults(a.pid), ['via 10.0.0.254 dev eth1']);
  },

  'a route that is asked for more, and one with another gateway': ({ host, a }) => {
    const to = (gateway: string) => ['--route', `10.5.0.0/16 via ${gateway}`];
    attach(host, a, '--network', 'br1', '--address', '10.0.0.1/24', ...to('10.0.0.5'));
    assert.deepEqual(attach(host, a, '--network', 'br1', ...to('10.0.0.6'), '--route', '10.6.0.0/16'), [
      'ip -n GUEST route replace 10.5.0.0/16 via 10.0.0.6 dev eth1',
      'ip -n GUEST route replace 10.6.0.0/16 dev eth1',
    ]);
    assert.deepEqual(
      ipRoutes(a.pid)
        .filter(({ dst }) => dst === '10.5.0.0/16')
        .map(({ gateway }) => gateway),
      ['10.0.0.6'],
    );
  },

  'another bridge, in place: both ends keep their identity': ({ host, a, b }) => {
    attach(host, a, '--network', 'br1', '--address', '10.0.0.1/24');
    attach(host, b, '--network', 'br2', '--address', '10.0.0.2/24');
    const before = ifindex(a.pid);
    attach(host, a, '--network', 'br2', '--address', '10.0.0.1/24');
    assert.equal(ifindex(a.pid), before);
    assert.equal(ipLink(host.name, `veth1pl${a.pid}`)?.master, 'br2');
    assert.equal(reaches(a.pid, '10.0.0.2'), true);
    for (const { name } of [a, b]) host.pipewright(['detach', name]);
    assert.equal(host.links().includes('br2'), false);
  },

  'an interface that somebody set down comes up, and an end that was pulled goes back': ({ host, a }) => {
    attach(host, a, '--network', 'br1', '--address', '10.0.0.1/24');
    runIn(a.pid, 'ip', ['link', 'set', 'eth1', 'down']);
    host.ip('link', 'set', `veth1pl${a.pid}`, 'down');
    host.ip('link', 'set', `veth1pl${a.pid}`, 'nomaster');
    const done = attach(host, a, '--network', 'br1');
    assert.equal(done.length, 3);
    assert.equal(ipLink(host.name, `veth1pl${a.pid}`)?.master, 'br1');
    assert.ok(ipLink(a.pid, 'eth1')?.flags.includes('LOWER_UP'));
  },

  'another kind: made anew with the reason, and the address goes with it': ({ host, a }) => {
    nicOn(host, 'phy0');
    attach(host, a, '--network', 'br1', '--address', '10.0.0.1/24@10.0.0.254');
    const dry = host.pipewright(['attach', a.name, '--network', 'phy0', '--dry-run']).stdout;
    assert.match(dry, /made anew, kind: veth -> macvlan/);
    assert.equal(ipLink(a.pid, 'eth1')?.linkinfo?.info_kind, 'veth');
    attach(host, a, '--network', 'phy0');
    assert.equal(ipLink(a.pid, 'eth1')?.linkinfo?.info_kind, 'macvlan');
    assert.deepEqual(cidrs(a.pid, 'eth1'), ['10.0.0.1/24']);
    assert.deepEqual(defaults(a.pid), ['via 10.0.0.254 dev eth1']);
    assert.deepEqual(linkNames(a.pid), ['eth1']);
    assert.deepEqual(
      host.links().filter((name) => name.startsWith('v') || name.startsWith('pw')),
      [],
    );
    attach(host, a, '--network', 'br1');
    assert.equal(ipLink(a.pid, 'eth1')?.linkinfo?.info_kind, 'veth');
    assert.equal(ipLink(host.name, `veth1pl${a.pid}`)?.master, 'br1');
    assert.deepEqual(cidrs(a.pid, 'eth1'), ['10.0.0.1/24']);
  },

  'another mode of a macvlan is set in place; on another NIC it is made anew with the reason': ({
    host,
    a,
  }) => {
    nicOn(host, 'phy0');
    nicOn(host, 'phy1');
    attach(host, a, '--network', 'phy0', '--address', '10.0.0.1/24', '--mac', '02:00:00:00:00:99');
    for (const [words, why] of [
      [['--network', 'phy0', '--mode', 'private'], /mode: bridge -> private/],
      [['--network', 'phy1', '--mode', 'private'], /uplink: .*-> phy1/],
    ] as const) {
      assert.match(host.pipewright(['attach', a.name, ...words, '--dry-run']).stdout, why);
      attach(host, a, ...words);
    }
    assert.equal(ipLink(a.pid, 'eth1')?.linkinfo?.info_data?.mode, 'private');
    assert.equal(ipLink(a.pid, 'eth1')?.link_index, ipLink(host.name, 'phy1')?.ifindex);
    assert.deepEqual(cidrs(a.pid, 'eth1'), ['10.0.0.1/24']);
    assert.equal(ipLink(a.pid, 'eth1')?.address, '02:00:00:00:00:99');
    assert.deepEqual(linkNames(a.pid), ['eth1']);
  },

  "another name for the host's end: the pair is made anew under it": ({ host, a }) => {
    attach(host, a, '--network', 'br1', '--address', '10.0.0.1/24', '--host-ifname', 'app1');
    attach(host, a, '--network', 'br1', '--address', '10.0.0.1/24', '--host-ifname', 'app2');
    assert.deepEqual(host.links(), ['app2', 'br1']);
    assert.deepEqual(cidrs(a.pid, 'eth1'), ['10.0.0.1/24']);
    assert.match(host.pipewright(['attach', a.name, '--network', 'br1']).stdout, /nothing to do/);
  },

  "the host's end is gone with its bridge unharmed: the pair is made anew": ({ host, a }) => {
    attach(host, a, '--network', 'br1', '--address', '10.0.0.1/24');
    host.ip('link', 'del', `veth1pl${a.pid}`);
    attach(host, a, '--network', 'br1', '--address', '10.0.0.1/24');
    assert.equal(ipLink(host.name, `veth1pl${a.pid}`)?.master, 'br1');
  },

  'a re-creation that fails leaves the interface as it was': ({ host, a }) => {
    nicOn(host, 'phy0');
    attach(
      host,
      a,
      '--network',
      'br1',
      '--address',
      '10.0.0.1/24@10.0.0.254',
      '--route',
      '10.5.0.0/16 via 10.0.0.5',
    );
    const changes = changesBy(host, [a.pid], () => {
      const bad = ['--address', '10.5.0.5/24,10.6.0.5/24', '--gateway', '10.5.0.255'];
      line(host.pipewright(['attach', a.name, '--network', 'phy0', ...bad], { expect: 1 }));
    });
    assert.deepEqual(changes, []);
  },

  'a change that fails half-way is taken back': ({ host, a }) => {
    attach(host, a, '--network', 'br1', '--address', '10.0.0.1/24@10.0.0.254');
    const changes = changesBy(host, [a.pid], () => {
      const bad = ['--address', '10.5.0.5/24,10.6.0.5/24', '--gateway', '10.5.0.255', '--mtu', '1400'];
      host.pipewright(['attach', a.name, '--network', 'br2', ...bad], { expect: 1 });
    });
    assert.deepEqual(changes, []);
  },

  'the NIC itself cannot be made anew: one line says what to do first': ({ host, a }) => {
    nicOn(host, 'phy0');
    nicOn(host, 'phy1');
    attach(host, a, '--network', 'phys:phy0', '--address', '10.0.0.1/24');
    attach(host, a, '--network', 'phys:phy0', '--address', '10.0.0.2/24', '--mac', '02:00:00:00:00:99');
    assert.deepEqual(cidrs(a.pid, 'eth1'), ['10.0.0.2/24']);
    for (const network of ['br1', 'phys:phy1', 'macvlan:phy1']) {
      const said = line(host.pipewright(['attach', a.name, '--network', network], { expect: 1 }));
      assert.match(said, /^pipewright: attach eth1 in [^\n]*NIC phy0[^\n]*pipewright detach [^\n]*$/);
    }
    assert.deepEqual(linkNames(a.pid), ['eth1']);
  },
};

test('pipewright attach with other values', async (t) => {
  if (skipUnless(t, 'root', 'docker', 'macvlan', 'ipv6')) return;
  await runCases(t, await makeGround(t, 'ch'), cases);
});

const number = process.pid % 100_000;
const [ovs, other, plain] = [`ovspwt${number}`, `ovspwu${number}`, `brpwt${number}`];

const onOvs: Record<string, (a: Container, t: TestContext) => void> = {
  'another tag, and none, in place': (a) => {
    const to = (...vlan: string[]) =>
      pipewright(['attach', a.name, '--network', `ovs:${ovs}`, ...vlan]).stdout;
    to('--vlan', '10');
    assert.match(to('--vlan', '20'), /tag: 10 -> 20/);
    assert.equal(ovsPort(`veth1pl${a.pid}`)?.tag, 20);
    assert.match(to('--vlan', '20'), /nothing to do/);
    assert.match(to(), /tag: 20 -> none/);
    assert.equal(ovsPort(`veth1pl${a.pid}`)?.tag, undefined);
    assert.match(to(), /nothing to do/);
  },

  'from a Linux bridge to Open vSwitch, to another bridge of it, and back, in place': (a) => {
    const to = (network: string, ...vlan: string[]): void => {
      const words = ['attach', a.name, '--network', network, ...vlan];
      pipewright(words);
      assert.match(pipewright(words).stdout, /nothing to do/);
    };
    pipewright(['attach', a.name, '--network', `bridge:${plain}`, '--address', '10.214.0.1/24']);
    const before = ifindex(a.pid);
    to(`ovs:${ovs}`, '--vlan', '10');
    assert.deepEqual(ovsPorts(ovs), [`veth1pl${a.pid}`]);
    assert.equal(ipLink('host', `veth1pl${a.pid}`)?.master, undefined);
    to(`ovs:${other}`, '--vlan', '10');
    // A bridge that was made for it goes when nothing is on it any more.
    assert.deepEqual([ovsPorts(ovs) ?? [], ovsPorts(other)], [[], [`veth1pl${a.pid}`]]);
    assert.equal(ovsPort(`veth1pl${a.pid}`)?.externalIds['pipework.bridge'], other);
    to(`bridge:${plain}`);
    assert.deepEqual(ovsPorts(other) ?? [], []);
    assert.equal(ipLink('host', `veth1pl${a.pid}`)?.master, plain);
    assert.equal(ifindex(a.pid), before);
    assert.deepEqual(cidrs(a.pid, 'eth1'), ['10.214.0.1/24']);
  },

  'from Open vSwitch to a NIC, made anew: the port goes': (a, t) => {
    const nic = `pwtn${number}`;
    makeNic(t, nic);
    pipewright(['attach', a.name, '--network', `ovs:${ovs}`, '--vlan', '10', '--address', '10.214.0.1/24']);
    pipewright(['attach', a.name, '--network', nic]);
    assert.equal(ipLink(a.pid, 'eth1')?.linkinfo?.info_kind, 'macvlan');
    assert.deepEqual(cidrs(a.pid, 'eth1'), ['10.214.0.1/24']);
    assert.deepEqual(ovsPorts(ovs) ?? [], []);
    assert.equal(linkExists('host', `veth1pl${a.pid}`), false);
    pipewright(['attach', a.name, '--network', `ovs:${ovs}`, '--vlan', '10']);
    assert.deepEqual(ovsPorts(ovs), [`veth1pl${a.pid}`]);
  },

  'a move that fails leaves port, tag and external_ids as they were': (a) => {
    pipewright(['attach', a.name, '--network', `ovs:${ovs}`, '--vlan', '10', '--address', '10.214.0.1/24']);
    const before = ovsPort(`veth1pl${a.pid}`);
    const bad = ['--address', '10.5.0.5/24,10.6.0.5/24', '--gateway', '10.5.0.255'];
    for (const network of [`ovs:${other}`, `bridge:${plain}`]) {
      pipewright(['attach', a.name, '--network', network, ...bad], { expect: 1 });
      assert.deepEqual({ ...ovsPort(`veth1pl${a.pid}`), ofport: 1 }, { ...before, ofport: 1 });
      assert.deepEqual(cidrs(a.pid, 'eth1'), ['10.214.0.1/24']);
    }
  },
};

test('pipewright attach with other values on Open vSwitch', async (t) => {
  if (skipUnless(t, 'root', 'docker', 'ovs')) return;
  const a = runContainer(t, 'cho');
  for (const [name, act] of Object.entries(onOvs)) {
    await t.test(name, (t) => {
      cleanupBridge(t, plain);
      cleanupOvsBridge(t, ovs);
      makeOvsBridge(t, other);
      t.after(() => emptyGuest(a.pid));
      act(a, t);
    });
  }
});
