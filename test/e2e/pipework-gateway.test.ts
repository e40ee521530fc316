/** `@GATEWAY`: the default route of the container, and what becomes of the one that was there. */
import assert from 'node:assert/strict';
import test from 'node:test';
import { cidrs, ipLink, ipRoutes, run, runContainer, runIn, skipUnless, type Where } from '../lab.ts';
import {
  type Cases,
  changesBy,
  connected,
  defaults,
  type Ground,
  makeGround,
  type OwnHost,
  reaches,
  runCases,
} from './support.ts';

/** A container's own network as Docker makes it: an interface with a default route that leads there. */
function dockerLike(host: OwnHost, pid: number): void {
  host.ip('link', 'add', 'dk', 'type', 'veth', 'peer', 'name', 'eth0', 'netns', String(pid));
  host.ip('link', 'set', 'dk', 'up');
  runIn(pid, 'ip', ['addr', 'add', '172.17.0.2/16', 'brd', '+', 'dev', 'eth0']);
  runIn(pid, 'ip', ['link', 'set', 'eth0', 'up']);
  runIn(pid, 'ip', ['route', 'add', 'default', 'via', '172.17.0.1', 'dev', 'eth0']);
}

/** The IPv4 routes word for word. */
const routes = (where: Where): string => runIn(where, 'ip', ['route', 'show', 'table', 'all']).stdout;

const cases: Cases<Ground> = {
  'a gateway takes the place of the default route; what else is there stays': ({ host, a }) => {
    dockerLike(host, a.pid);
    runIn(a.pid, 'ip', ['route', 'add', 'default', 'via', '172.17.0.9', 'dev', 'eth0', 'metric', '100']);
    host.pipework(['br1', a.name, '10.1.0.5/24@10.1.0.1']);
    assert.deepEqual(defaults(a.pid).sort(), ['via 10.1.0.1 dev eth1', 'via 172.17.0.9 dev eth0 metric 100']);
    assert.deepEqual(connected(a.pid), [
      '10.1.0.0/24 dev eth1 scope link',
      '172.17.0.0/16 dev eth0 scope link',
    ]);
  },

  'through the gateway, the world beyond is reached': ({ host, a, b }) => {
    host.pipework(['br1', b.name, '10.1.0.1/24']);
    runIn(b.pid, 'ip', ['addr', 'add', '10.99.0.1/32', 'dev', 'lo']);
    host.pipework(['br1', a.name, '10.1.0.5/24@10.1.0.1']);
    assert.equal(reaches(a.pid, '10.99.0.1'), true);
  },

  'no gateway: the default route stays as it is, to the letter': ({ host, a }) => {
    dockerLike(host, a.pid);
    const before = routes(a.pid);
    host.pipework(['br1', a.name, '10.1.0.5/24']);
    const added = routes(a.pid)
      .split('\n')
      .filter((line) => !line.includes('eth1'));
    assert.equal(added.join('\n'), before);
  },

  'a gateway outside the subnet gets a route of its own': ({ host, a, b }) => {
    host.pipework(['br1', a.name, '10.2.0.5/24@192.168.77.1']);
    assert.deepEqual(connected(a.pid), [
      '10.2.0.0/24 dev eth1 scope link',
      '192.168.77.1 dev eth1 scope link',
    ]);
    assert.deepEqual(defaults(a.pid), ['via 192.168.77.1 dev eth1']);
    host.pipework(['br1', b.name, '192.168.77.1/24']);
    runIn(b.pid, 'ip', ['route', 'add', '10.2.0.0/24', 'dev', 'eth1']);
    assert.equal(reaches(a.pid, '192.168.77.1'), true);
  },

  'an address alone in its subnet (/32) reaches its gateway likewise': ({ host, a }) => {
    host.pipework(['br1', a.name, '10.3.0.5/32@10.3.9.9']);
    assert.deepEqual(cidrs(a.pid, 'eth1'), ['10.3.0.5/32']);
    assert.deepEqual(connected(a.pid), ['10.3.9.9 dev eth1 scope link']);
    assert.deepEqual(defaults(a.pid), ['via 10.3.9.9 dev eth1']);
  },

  'no address but a gateway: 0/0@GATEWAY': ({ host, a }) => {
    host.pipework(['br1', a.name, '0/0@10.9.9.9']);
    assert.deepEqual(cidrs(a.pid, 'eth1'), []);
    assert.ok(ipLink(a.pid, 'eth1')?.flags.includes('UP'));
    assert.deepEqual(connected(a.pid), ['10.9.9.9 dev eth1 scope link']);
    assert.deepEqual(defaults(a.pid), ['via 10.9.9.9 dev eth1']);
  },

  'a gateway in a subnet of another interface is reached through the new one, and no moment is without default route':
    ({ host, a }) => {
      dockerLike(host, a.pid);
      host.pipework(['br1', a.name, '10.4.0.5/24@172.17.0.7']);
      assert.deepEqual(defaults(a.pid), ['via 172.17.0.7 dev eth1']);
      assert.ok(connected(a.pid).includes('172.17.0.7 dev eth1 scope link'));
      assert.ok(connected(a.pid).includes('172.17.0.0/16 dev eth0 scope link'));
    },

  'a gateway that is refused leaves the default route of before': ({ host, a }) => {
    dockerLike(host, a.pid);
    // A broadcast address of the interface: the kernel refuses it as a next hop, after all else is done.
    const changes = changesBy(host, [a.pid], () => {
      const { stderr } = host.pipework(['br1', a.name, '10.5.0.5/24,10.6.0.5/24@10.5.0.255'], { expect: 2 });
      assert.match(stderr, /^pipework: route\.[a-z]+ .*\n$/);
    });
    assert.deepEqual(changes, []);
  },

  'a second interface with a gateway takes the default route from the first': ({ host, a }) => {
    host.pipework(['br1', a.name, '10.1.0.5/24@10.1.0.1']);
    host.pipework(['br2', '-i', 'eth2', a.name, '10.2.0.5/24@10.2.0.1']);
    assert.deepEqual(defaults(a.pid), ['via 10.2.0.1 dev eth2']);
    assert.deepEqual(connected(a.pid), [
      '10.1.0.0/24 dev eth1 scope link',
      '10.2.0.0/24 dev eth2 scope link',
    ]);
  },

  'what comes after a second @ is ignored, and an empty gateway is none': ({ host, a }) => {
    host.pipework(['br1', a.name, '10.1.0.5/24@10.1.0.1@what']);
    assert.deepEqual(defaults(a.pid), ['via 10.1.0.1 dev eth1']);
    host.pipework(['br1', '-i', 'eth2', a.name, '10.2.0.5/24@']);
    assert.deepEqual(defaults(a.pid), ['via 10.1.0.1 dev eth1']);
  },
};

test('pipework gateways', async (t) => {
  if (skipUnless(t, 'root', 'docker')) return;
  await runCases(t, await makeGround(t, 'gw'), cases);
});

test("a container on Docker's own network keeps it when it gets an interface without gateway", async (t) => {
  if (skipUnless(t, 'root', 'docker')) return;
  const { host } = await makeGround(t, 'gd');
  const { name, pid } = runContainer(t, 'gdc', { network: 'bridge' });
  const before = defaults(pid);
  assert.equal(before.length, 1);
  host.pipework(['br1', name, '10.77.0.5/24']);
  assert.deepEqual(defaults(pid), before);
  assert.ok(ipRoutes(pid).some(({ dev }) => dev === 'eth0'));
  assert.deepEqual(cidrs(pid, 'eth1'), ['10.77.0.5/24']);
  const settings = run('docker', ['inspect', '-f', '{{.NetworkSettings.Gateway}}', name]).stdout.trim();
  assert.deepEqual(before, [`via ${settings} dev eth0`]);
});
