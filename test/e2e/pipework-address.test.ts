/** The address word of `pipework`: none, one, several, of both families. */
import assert from 'node:assert/strict';
import test from 'node:test';
import { cidrs, ipAddrs, ipLink, ipRoutes, runIn, skipUnless } from '../lab.ts';
import {
  type Cases,
  changesBy,
  command,
  connected,
  defaults,
  type Ground,
  makeGround,
  reaches,
  runCases,
} from './support.ts';

const cases: Cases<Ground> = {
  'an IPv4 address has its broadcast address, whatever tools the host has': ({ host, a }) => {
    for (const [i, [cidr, broadcast]] of [
      ['10.1.0.1/24', '10.1.0.255'],
      ['10.2.3.4/8', '10.255.255.255'],
      ['10.3.0.1/30', '10.3.0.3'],
      ['10.4.0.1/32', '10.4.0.1'],
    ].entries()) {
      const words = command('pipework', ['br1', '-i', `i${i}`, '-l', `h${i}`, a.name, cidr ?? '']);
      runIn(host.name, 'env', [`PATH=${i === 0 ? '/nonexistent' : process.env.PATH}`, ...words]);
      const [addr] = ipAddrs(a.pid, `i${i}`).filter(({ family }) => family === 'inet');
      assert.equal(`${addr?.local}/${addr?.prefixlen}`, cidr);
      assert.equal(addr?.broadcast, broadcast);
    }
  },

  '0/0 and 0.0.0.0/0: the interface is up and has no IPv4 address and no route': ({ host, a }) => {
    for (const [i, word] of ['0/0', '0.0.0.0/0'].entries()) {
      host.pipework(['br1', '-i', `i${i}`, '-l', `h${i}`, a.name, word]);
      assert.ok(ipLink(a.pid, `i${i}`)?.flags.includes('UP'));
      assert.deepEqual(cidrs(a.pid, `i${i}`), []);
    }
    assert.deepEqual(ipRoutes(a.pid), []);
  },

  'one address for two containers is their own affair, as with the original': ({ host, a, b }) => {
    for (const { name, pid } of [a, b]) {
      host.pipework(['br1', name, '10.0.0.2/24']);
      assert.deepEqual(cidrs(pid, 'eth1'), ['10.0.0.2/24']);
    }
  },

  'several addresses by commas, each family with its gateway': ({ host, a, b }) => {
    host.pipework(['br1', a.name, '10.0.0.2/24@10.0.0.1,10.0.5.2/24,fd00::2/64@fd00::1']);
    host.pipework(['br1', b.name, '10.0.0.1/24,10.0.5.1/24,fd00::1/64']);
    assert.deepEqual(cidrs(a.pid, 'eth1').sort(), ['10.0.0.2/24', '10.0.5.2/24', 'fd00::2/64']);
    assert.deepEqual(defaults(a.pid), ['via 10.0.0.1 dev eth1']);
    assert.deepEqual(
      ipRoutes(a.pid, 6)
        .filter(({ dst }) => dst === 'default')
        .map(({ gateway }) => gateway),
      ['fd00::1'],
    );
    assert.deepEqual(connected(a.pid), [
      '10.0.0.0/24 dev eth1 scope link',
      '10.0.5.0/24 dev eth1 scope link',
    ]);
    assert.equal(reaches(a.pid, '10.0.0.1') && reaches(a.pid, '10.0.5.1'), true);
    for (const { name } of [a, b]) host.pipewright(['wait', name, '--timeout', '5']);
    assert.equal(reaches(a.pid, 'fd00::1'), true);
  },

  'a second address in the same subnet is a secondary one': ({ host, a, b }) => {
    host.pipework(['br1', a.name, '10.0.0.2/24,10.0.0.3/24']);
    host.pipework(['br1', b.name, '10.0.0.1/24']);
    assert.deepEqual(cidrs(a.pid, 'eth1'), ['10.0.0.2/24', '10.0.0.3/24']);
    assert.equal(reaches(b.pid, '10.0.0.2') && reaches(b.pid, '10.0.0.3'), true);
  },

  '-a 4 is the default, and refuses an address of the other family': ({ host, a }) => {
    host.pipework(['br1', '-a', '4', a.name, '10.0.0.1/24']);
    assert.deepEqual(cidrs(a.pid, 'eth1'), ['10.0.0.1/24']);
    for (const words of [
      ['-a', '4', a.name, 'fd00::1/64'],
      ['-a', '6', a.name, '10.0.0.1/24'],
      ['-a', 'inet6', a.name, 'fd00::1/64'],
    ]) {
      const changes = changesBy(host, [a.pid], () =>
        assert.match(host.pipework(['br2', '-i', 'eth2', ...words], { expect: 1 }).stderr, /^.*family.*\n$/),
      );
      assert.deepEqual(changes, []);
    }
  },

  'an address that cannot be right is refused before anything is made': ({ host, a }) => {
    const wrong = [
      '10.0.0.1/33',
      '10.0.0.1/255.255.255.0',
      '10.0.0.1/',
      '10.0.0.1/024',
      '224.0.0.1/4',
      '::1/128',
      'fd00::1/129',
      '10.0.0.1/24,',
      '10.0.0.1/24,10.0.0.1/24',
      '10.0.0.1/24@10.0.0.2,10.1.0.1/24@10.1.0.2',
      '10.0.0.1/24@fd00::1',
      '10.0.0.1/24@10.0.0.1',
      '10.0.0.1/24;reboot',
      '$(reboot)/24',
    ];
    const changes = changesBy(host, [a.pid], () => {
      for (const word of wrong) {
        const { code, stdout, stderr } = host.pipework(['br1', a.name, word], { expect: 'any' });
        assert.equal(code, 1, word);
        assert.match(stdout + stderr, /^[^\n]+\n([^\n]+\n)?$/, word);
      }
    });
    assert.deepEqual(changes, []);
  },

  "an address without prefix length: the original's two lines, and nothing is made": ({ host, a }) => {
    const changes = changesBy(host, [a.pid], () => {
      const { stdout, stderr } = host.pipework(['br1', a.name, '10.0.0.1'], { expect: 1 });
      assert.equal(stdout, '');
      assert.equal(stderr, 'The IP address should include a netmask.\nMaybe you meant 10.0.0.1/24 ?\n');
    });
    assert.deepEqual(changes, []);
  },
};

test('pipework addresses', async (t) => {
  if (skipUnless(t, 'root', 'docker', 'ipv6')) return;
  await runCases(t, await makeGround(t, 'ad'), cases);
});
