/** Static IPv6, which the original could not do where busybox was installed. */
import assert from 'node:assert/strict';
import test from 'node:test';
import { cidrs, ipLink, ipRoutes, runIn, skipUnless, sniff } from '../lab.ts';
import { type Cases, connected, defaults, type Ground, makeGround, reaches, runCases } from './support.ts';

const disabled = (pid: number, name: string): string =>
  runIn(pid, 'cat', [`/proc/sys/net/ipv6/conf/${name}/disable_ipv6`]).stdout.trim();

const cases: Cases<Ground> = {
  'with and without -a 6: address, default route, and IPv4 as it was': ({ host, a, b }) => {
    host.pipework(['br1', '-i', 'eth4', a.name, '10.1.0.5/24@10.1.0.1']);
    for (const [i, { name, pid }] of [a, b].entries()) {
      const words = i === 0 ? ['br1', '-a', '6', name] : ['br1', name];
      host.pipework([...words, `2001:db8:5::${5 + i}/64@2001:db8:5::1`]);
      assert.deepEqual(cidrs(pid, 'eth1'), [`2001:db8:5::${5 + i}/64`]);
      assert.deepEqual(
        ipRoutes(pid, 6)
          .filter(({ dst }) => dst === 'default')
          .map(({ gateway, dev }) => `${gateway} ${dev}`),
        ['2001:db8:5::1 eth1'],
      );
    }
    assert.deepEqual(defaults(a.pid), ['via 10.1.0.1 dev eth4']);
    for (const { name } of [a, b]) host.pipewright(['wait', name, '--timeout', '5']);
    assert.equal(reaches(a.pid, '2001:db8:5::6'), true);
  },

  'a gateway outside the subnet gets a /128 route': ({ host, a }) => {
    host.pipework(['br1', a.name, '2001:db8:5::5/64@2001:db8:9::1']);
    assert.deepEqual(connected(a.pid, 6), ['2001:db8:5::/64 dev eth1', '2001:db8:9::1 dev eth1']);
    assert.match(defaults(a.pid, 6).join(), /^via 2001:db8:9::1 dev eth1/);
  },

  'a link-local gateway needs no route of its own': ({ host, a }) => {
    host.pipework(['br1', a.name, '2001:db8:5::5/64@fe80::1']);
    assert.deepEqual(connected(a.pid, 6), ['2001:db8:5::/64 dev eth1']);
    assert.match(defaults(a.pid, 6).join(), /^via fe80::1 dev eth1/);
  },

  "a router's default route (by advertisement) is not what a gateway replaces": ({ host, a }) => {
    host.pipework(['br1', '-i', 'eth4', a.name, 'fd00:4::2/64']);
    runIn(a.pid, 'ip', ['-6', 'route', 'add', 'default', 'via', 'fd00:4::1', 'metric', '512']);
    host.pipework(['br1', a.name, 'fd00:5::2/64@fd00:5::1']);
    assert.deepEqual(defaults(a.pid, 6).sort(), [
      'via fd00:4::1 dev eth4 metric 512',
      'via fd00:5::1 dev eth1 metric 1024',
    ]);
  },

  'the neighbours hear one unsolicited advertisement': async ({ host, a }) => {
    host.ip('link', 'add', 'lan0', 'type', 'bridge');
    host.ip('link', 'set', 'lan0', 'up');
    const mac = '02:00:00:00:05:05';
    // Not those of duplicate address detection, which come from :: and are answered by nobody.
    const { lines } = await sniff(host.name, 'lan0', 'icmp6 and ip6[40]=136', () =>
      host.pipework(['lan0', a.name, '2001:db8:5::5/64', mac]),
    );
    assert.equal(lines.length, 1, lines.join('\n'));
    assert.match(lines[0] ?? '', /02:00:00:00:05:05 > 33:33:00:00:00:01.*> ff02::1: .*tgt is 2001:db8:5::5/);
  },

  "Docker's switch against IPv6 is turned for the new interface only": ({ host, a }) => {
    const before = disabled(a.pid, 'default');
    host.pipework(['br1', '-i', 'eth4', a.name, '10.1.0.5/24']);
    host.pipework(['br1', a.name, 'fd00::5/64']);
    assert.equal(disabled(a.pid, 'eth1'), '0');
    assert.equal(disabled(a.pid, 'eth4'), before);
    assert.equal(disabled(a.pid, 'default'), before);
    assert.ok(ipLink(a.pid, 'eth1'));
  },
};

test('pipework with IPv6', async (t) => {
  if (skipUnless(t, 'root', 'docker', 'ipv6', 'program:tcpdump')) return;
  await runCases(t, await makeGround(t, 'v6'), cases);
});
