/** VLANs that come with tags: interfaces eth1.100 in the container. */
import assert from 'node:assert/strict';
import { rmSync } from 'node:fs';
import test from 'node:test';
import { cidrs, ipLink, linkExists, ping, plainNetns, runIn, skipUnless } from '../lab.ts';
import { changesBy, emptyGuest, linkNames, nicOn, type OwnHost, ownHost, reaches } from './support.ts';

interface Ground {
  readonly host: OwnHost;
  /** Pids of two namespaces that stand for containers. */
  readonly a: number;
  readonly b: number;
}

/** `pipewright attach` of eth1, its network a bridge that does not look at tags. */
function connect(host: OwnHost, pid: number, ...words: readonly string[]): string {
  return host.pipewright(['attach', `pid:${pid}`, '--network', 'bridge:br0', ...words]).stdout;
}

const cases: Record<string, (ground: Ground) => void> = {
  'each VLAN is an interface with addresses; edits are made in place, and what is not said stays': ({
    host,
    a,
    b,
  }) => {
    connect(host, a, '--guest-vlan', '100=10.4.100.1/24,fd00:100::1/64', '--guest-vlan', '200=10.4.200.1/24');
    connect(host, b, '--guest-vlan', '100=10.4.100.2/24', '--guest-vlan', '201=10.4.200.2/24');
    assert.equal(ipLink(a, 'eth1.100')?.linkinfo?.info_data?.id, 100);
    assert.deepEqual(cidrs(a, 'eth1.100').sort(), ['10.4.100.1/24', 'fd00:100::1/64']);
    assert.ok(reaches(a, '10.4.100.2') && !ping(a, '10.4.200.2'));
    const { ifindex } = ipLink(a, 'eth1.100') ?? {};
    assert.match(connect(host, a), /nothing to do/);

    const same = ['--guest-vlan', '100=10.4.100.3/24', '--mtu', '1400'];
    connect(host, a, ...same);
    assert.deepEqual(linkNames(a), ['eth1', 'eth1.100']);
    assert.deepEqual(cidrs(a, 'eth1.100'), ['10.4.100.3/24']);
    assert.equal(ipLink(a, 'eth1.100')?.mtu, 1400);
    assert.equal(ipLink(a, 'eth1.100')?.ifindex, ifindex);
    runIn(a, 'ip', ['link', 'set', 'eth1.100', 'down']);
    runIn(a, 'ip', ['addr', 'del', '10.4.100.3/24', 'dev', 'eth1.100']);
    connect(host, a, ...same);
    assert.ok(reaches(b, '10.4.100.3'));
    assert.match(connect(host, a, ...same), /nothing to do/);
    host.pipewright(['detach', `pid:${a}`]);
    assert.deepEqual(linkNames(a), []);
  },

  'they move with an interface that is made anew': ({ host, a }) => {
    nicOn(host, 'nic0');
    connect(host, a, '--guest-vlan', '100=10.4.100.1/24');
    const made = host.pipewright(['attach', `pid:${a}`, '--network', 'macvlan:nic0']);
    assert.match(made.stdout, /made anew/);
    assert.deepEqual(linkNames(a), ['eth1', 'eth1.100']);
    assert.deepEqual(cidrs(a, 'eth1.100'), ['10.4.100.1/24']);
    assert.equal(ipLink(a, 'eth1.100')?.link, 'eth1');
  },

  'what fails leaves them as they were; what somebody else made is not touched': ({ host, a }) => {
    nicOn(host, 'nic0');
    connect(host, a, '--guest-vlan', '100=10.4.100.1/24');
    const wrong = ['--route', '10.9.0.0/16 via 10.77.0.1'];
    for (const network of ['bridge:br0', 'macvlan:nic0']) {
      const changes = changesBy(host, [a], () => {
        const words = ['--guest-vlan', '100=10.4.100.9/24', '--guest-vlan', '300=10.4.30.1/24', ...wrong];
        host.pipewright(['attach', `pid:${a}`, '--network', network, ...words], { expect: 1 });
      });
      assert.deepEqual(changes, [], network);
    }
    runIn(a, 'ip', ['link', 'add', 'link', 'eth1', 'name', 'eth1.400', 'type', 'vlan', 'id', '400']);
    const { stderr } = host.pipewright(
      ['attach', `pid:${a}`, '--network', 'bridge:br0', '--guest-vlan', '400'],
      { expect: 1 },
    );
    assert.match(stderr, /eth1\.400 .*pipewright did not make it/);
  },

  'a NIC goes home without them': ({ host, a }) => {
    nicOn(host, 'nic0');
    host.pipewright(['attach', `pid:${a}`, '--network', 'phys:nic0', '--guest-vlan', '100=10.4.100.1/24']);
    assert.deepEqual(cidrs(a, 'eth1.100'), ['10.4.100.1/24']);
    host.pipewright(['detach', `pid:${a}`]);
    assert.deepEqual(linkNames(a), []);
    assert.ok(linkExists(host.name, 'nic0'));
  },
};

test('VLANs of a trunk in the container', async (t) => {
  if (skipUnless(t, 'root', 'vlan')) return;
  const host = await ownHost(t, 'gvh');
  const [a, b] = [await plainNetns(t, 'gva'), await plainNetns(t, 'gvb')];
  for (const [name, act] of Object.entries(cases)) {
    await t.test(name, () => {
      for (const { pid } of [a, b]) emptyGuest(pid);
      for (const link of host.links()) runIn(host.name, 'ip', ['link', 'del', link], { expect: 'any' });
      rmSync(host.stateDir, { recursive: true, force: true });
      act({ host, a: a.pid, b: b.pid });
    });
  }
});
