/** `pipework BRIDGE ...`: Linux bridges, made or found, and what becomes of the pair's two ends. */
import assert from 'node:assert/strict';
import test from 'node:test';
import {
  cidrs,
  ipAddrs,
  ipLink,
  jsonIn,
  linkExists,
  run,
  runContainer,
  runIn,
  skipUnless,
  sniff,
} from '../lab.ts';
import {
  type Cases,
  changesBy,
  command,
  connected,
  defaults,
  type Ground,
  linkNames,
  makeGround,
  namedNetns,
  reaches,
  runCases,
  until,
} from './support.ts';

const vlanRefusal = 'VLAN configuration currently unsupported for Linux bridge.\n';
const vlanHint = 'To have the bridge filter VLANs, give --bridge-vlan or set PIPEWORK_BRIDGE_VLAN=1.\n';

const cases: Cases<Ground> = {
  'a missing bridge is made, and the container has interface, address and connected route': ({ host, a }) => {
    const { stdout, stderr } = host.pipework(['br1', a.name, '192.168.1.1/24']);
    assert.equal(stdout + stderr, '');
    const bridge = ipLink(host.name, 'br1');
    assert.ok(bridge?.flags.includes('UP'));
    assert.equal(bridge?.linkinfo?.info_kind, 'bridge');
    assert.equal(bridge?.linkinfo?.info_data?.stp_state, 0);
    assert.equal(bridge?.linkinfo?.info_data?.vlan_filtering, 0);
    assert.deepEqual(cidrs(host.name, 'br1'), []);
    const port = `veth1pl${a.pid}`;
    assert.deepEqual(host.links(), ['br1', port]);
    const [slave] = jsonIn(host.name, 'bridge', ['-j', '-d', 'link', 'show', 'dev', port]);
    assert.equal(slave?.master, 'br1');
    assert.equal(slave?.state, 'forwarding');
    const eth1 = ipLink(a.pid, 'eth1');
    assert.ok(eth1?.flags.includes('UP') && eth1.flags.includes('LOWER_UP'));
    const [addr] = ipAddrs(a.pid, 'eth1').filter(({ family }) => family === 'inet');
    assert.equal(`${addr?.local}/${addr?.prefixlen} ${addr?.scope}`, '192.168.1.1/24 global');
    assert.deepEqual(connected(a.pid), ['192.168.1.0/24 dev eth1 scope link']);
    assert.deepEqual(defaults(a.pid), []);
    assert.equal(namedNetns(a.pid), false);
  },

  'a second container joins the bridge, and the two reach each other': ({ host, a, b }) => {
    host.pipework(['br1', a.name, '192.168.1.1/24']);
    host.pipework(['br1', b.name, '192.168.1.2/24']);
    assert.deepEqual(host.links(), ['br1', `veth1pl${a.pid}`, `veth1pl${b.pid}`].sort());
    assert.equal(reaches(a.pid, '192.168.1.2'), true);
    assert.equal(reaches(b.pid, '192.168.1.1'), true);
  },

  'a bridge of any name that exists is used as it is': ({ host, a }) => {
    host.ip('link', 'add', 'lan0', 'type', 'bridge');
    host.ip('link', 'set', 'lan0', 'up');
    host.ip('addr', 'add', '10.0.0.254/24', 'dev', 'lan0');
    host.pipework(['lan0', a.name, '10.0.0.1/24']);
    assert.equal(ipLink(host.name, `veth1pl${a.pid}`)?.master, 'lan0');
    assert.deepEqual(cidrs(host.name, 'lan0'), ['10.0.0.254/24']);
    assert.equal(reaches(a.pid, '10.0.0.254'), true);
  },

  'both ends have the MTU of the bridge, 1400 or 9000': ({ host, a }) => {
    for (const mtu of [1400, 9000]) {
      host.ip('link', 'add', `lan${mtu}`, 'mtu', String(mtu), 'type', 'bridge');
      host.ip('link', 'set', `lan${mtu}`, 'up');
      host.pipework([`lan${mtu}`, '-i', `m${mtu}`, '-l', `h${mtu}`, a.name, '10.0.0.1/24']);
      assert.equal(ipLink(a.pid, `m${mtu}`)?.mtu, mtu);
      assert.equal(ipLink(host.name, `h${mtu}`)?.mtu, mtu);
      assert.equal(ipLink(host.name, `lan${mtu}`)?.mtu, mtu);
    }
  },

  'a bridge that is down is raised, since nothing would pass it': ({ host, a }) => {
    host.ip('link', 'add', 'lan0', 'type', 'bridge');
    host.pipework(['lan0', a.name, '10.0.0.1/24']);
    assert.ok(ipLink(host.name, 'lan0')?.flags.includes('UP'));
  },

  'a bridge whose name is a word of the command line is a bridge': ({ host, a }) => {
    host.ip('link', 'add', 'route0', 'type', 'bridge');
    host.ip('link', 'set', 'route0', 'up');
    host.pipework(['route0', a.name, '10.0.0.1/24']);
    assert.equal(ipLink(host.name, `veth1pl${a.pid}`)?.master, 'route0');
  },

  '-i names the interface in the container': ({ host, a }) => {
    host.pipework(['br1', '-i', 'eth7', a.name, '10.0.0.1/24']);
    assert.deepEqual(linkNames(a.pid), ['eth7']);
    assert.deepEqual(host.links(), ['br1', `veth7pl${a.pid}`]);
  },

  "-l names the host's end": ({ host, a }) => {
    host.pipework(['br1', '-i', 'eth7', '-l', 'app1', a.name, '10.0.0.1/24']);
    assert.deepEqual(linkNames(a.pid), ['eth7']);
    assert.deepEqual(host.links(), ['app1', 'br1']);
  },

  'an interface name of 15 bytes is had in full, and the name on the host stays unique': ({ host, a, b }) => {
    const names = ['interface7', 'fifteen-bytes-x', 'fifteen-bytes-y', 'zwölf-bytes'];
    for (const [i, name] of names.entries()) {
      host.pipework(['br1', '-i', name, a.name, `10.0.${i}.1/24`]);
      host.pipework(['br1', '-i', name, b.name, `10.0.${i}.2/24`]);
      assert.deepEqual(cidrs(a.pid, name), [`10.0.${i}.1/24`]);
      assert.equal(reaches(a.pid, `10.0.${i}.2`), true);
    }
    const ends = host.links().filter((name) => name !== 'br1');
    assert.equal(ends.length, 2 * names.length);
    assert.ok(ends.every((name) => Buffer.byteLength(name) <= 15));
  },

  'a name of 16 bytes is refused for container, host and bridge, and nothing is made': ({ host, a }) => {
    const lines = [
      ['br1', '-i', 'sixteen-bytes-xx', a.name, '10.0.0.1/24'],
      ['br1', '-l', 'sixteen-bytes-xx', a.name, '10.0.0.1/24'],
      ['br-sixteen-bytes', a.name, '10.0.0.1/24'],
    ];
    for (const words of lines) {
      const changes = changesBy(host, [a.pid], () => {
        const { stderr } = host.pipework(words, { expect: 1 });
        assert.match(stderr, /^.*longer than 15 bytes.*\n$/);
      });
      assert.deepEqual(changes, []);
    }
  },

  "a MAC address is the interface's": ({ host, a }) => {
    host.pipework(['br1', a.name, '10.0.0.1/24', '26:2e:71:98:60:8f']);
    assert.equal(ipLink(a.pid, 'eth1')?.address, '26:2e:71:98:60:8f');
    host.pipework(['br1', '-i', 'eth2', a.name, '10.0.1.1/24', '26:2E:71:98:60:90']);
    assert.equal(ipLink(a.pid, 'eth2')?.address, '26:2e:71:98:60:90');
  },

  'U: makes the same MAC address from the same text': ({ host, a, b }) => {
    host.pipework(['br1', a.name, '10.0.0.1/24', 'U:myhost.foo.com']);
    host.pipework(['br1', '-i', 'eth2', a.name, '10.0.1.1/24', 'U:']);
    host.pipework(['br1', b.name, '10.0.2.1/24', 'U:myhost.foo.com']);
    assert.equal(ipLink(a.pid, 'eth1')?.address, '02:72:6c:cd:9b:8d');
    assert.equal(ipLink(a.pid, 'eth2')?.address, '02:68:b3:29:da:98');
    assert.equal(ipLink(b.pid, 'eth1')?.address, '02:72:6c:cd:9b:8d');
  },

  'a VLAN on a Linux bridge is refused, and nothing is made': ({ host, a }) => {
    for (const word of ['@10', '26:2e:71:98:60:8f@10']) {
      const changes = changesBy(host, [a.pid], () => {
        const { stdout, stderr } = host.pipework(['br1', a.name, '10.0.0.1/24', word], { expect: 1 });
        assert.equal(stdout + stderr, vlanRefusal);
      });
      assert.deepEqual(changes, []);
    }
    host.ip('link', 'add', 'lan0', 'type', 'bridge');
    const { stderr } = host.pipework(['lan0', a.name, '10.0.0.1/24', '@10'], { expect: 1 });
    assert.equal(stderr, vlanRefusal);
    // At a terminal one is told how to have it all the same.
    const words = command('pipework', ['lan0', a.name, '10.0.0.1/24', '@10']).join(' ');
    const typed = runIn(host.name, 'script', ['-qec', words, '/dev/null'], { expect: 'any' });
    assert.equal(typed.stdout.replaceAll('\r', ''), vlanRefusal + vlanHint);
    assert.deepEqual(host.links(), ['lan0']);
  },

  'neighbours hear one gratuitous ARP reply, and nobody waits for it': async ({ host, a }) => {
    host.ip('link', 'add', 'lan0', 'type', 'bridge');
    host.ip('link', 'set', 'lan0', 'up');
    let seconds = 0;
    const { frames } = await sniff(host.name, 'lan0', 'arp', () => {
      const began = performance.now();
      host.pipework(['lan0', a.name, '10.0.0.1/24', '26:2e:71:98:60:8f']);
      seconds = (performance.now() - began) / 1000;
    });
    assert.ok(seconds < 0.8, `${seconds} s`);
    assert.equal(frames.length, 1);
    const hex = Buffer.from(frames[0] ?? []).toString('hex');
    const mac = '262e7198608f';
    // Ethernet, then ARP for Ethernet and IPv4, operation 2: sender and target are the interface.
    assert.equal(hex.slice(0, 28), `ffffffffffff${mac}0806`);
    assert.equal(hex.slice(28, 84), `0001080006040002${mac}0a000001${mac}0a000001`);
  },

  "the same line twice: the original's message and exit code, and no change": ({ host, a }) => {
    const words = ['br1', a.name, '10.0.0.1/24'];
    host.pipework(words);
    const changes = changesBy(host, [a.pid], () => {
      const { stdout, stderr } = host.pipework(words, { expect: 1 });
      assert.equal(stdout, `Link veth1pl${a.pid} exists and is up\n`);
      assert.equal(stderr, '');
    });
    assert.deepEqual(changes, []);
    assert.equal(namedNetns(a.pid), false);
  },

  'another bridge for the same interface name is refused likewise': ({ host, a }) => {
    host.pipework(['br1', a.name, '10.0.0.1/24']);
    const changes = changesBy(host, [a.pid], () => {
      const { stdout } = host.pipework(['br2', a.name, '10.0.0.2/24'], { expect: 1 });
      assert.equal(stdout, `Link veth1pl${a.pid} exists and is up\n`);
      host.pipework(['br2', '-l', 'other', a.name, '10.0.0.2/24'], { expect: 2 });
    });
    assert.deepEqual(changes, []);
  },

  "a host's end that is down is what a failure left: it is replaced": ({ host, a }) => {
    host.pipework(['br1', a.name, '10.0.0.1/24']);
    host.ip('link', 'set', `veth1pl${a.pid}`, 'down');
    host.pipework(['br1', a.name, '10.0.0.2/24']);
    assert.deepEqual(cidrs(a.pid, 'eth1'), ['10.0.0.2/24']);
    assert.deepEqual(host.links(), ['br1', `veth1pl${a.pid}`]);
    assert.ok(ipLink(host.name, `veth1pl${a.pid}`)?.flags.includes('UP'));
    assert.deepEqual(linkNames(a.pid), ['eth1']);
  },

  'an interface of that name that the container has: refused without residue; when it is gone, it works': ({
    host,
    a,
  }) => {
    runIn(a.pid, 'ip', ['link', 'add', 'eth1', 'type', 'bridge']);
    const changes = changesBy(host, [a.pid], () => {
      const { stderr } = host.pipework(['br1', a.name, '10.0.0.1/24'], { expect: 2 });
      assert.match(stderr, /^pipework: .*eth1 in .*EEXIST.*\n$/);
    });
    assert.deepEqual(changes, []);
    runIn(a.pid, 'ip', ['link', 'del', 'eth1']);
    host.pipework(['br1', a.name, '10.0.0.1/24']);
    assert.deepEqual(cidrs(a.pid, 'eth1'), ['10.0.0.1/24']);
  },

  "a name for the host's end that something else has: refused without residue": ({ host, a }) => {
    host.ip('link', 'add', 'app1', 'type', 'bridge');
    const changes = changesBy(host, [a.pid], () => {
      const { stderr } = host.pipework(['br1', '-l', 'app1', a.name, '10.0.0.1/24'], { expect: 2 });
      assert.match(stderr, /^pipework: .*app1.*\n$/);
    });
    assert.deepEqual(changes, []);
  },

  "two interfaces of one container on two bridges do not get in each other's way": ({ host, a, b }) => {
    host.pipework(['br1', a.name, '10.0.1.1/24']);
    host.pipework(['br2', '-i', 'eth2', a.name, '10.0.2.1/24']);
    host.pipework(['br1', b.name, '10.0.1.2/24']);
    host.pipework(['br2', '-i', 'eth2', b.name, '10.0.2.2/24']);
    assert.equal(reaches(a.pid, '10.0.1.2') && reaches(a.pid, '10.0.2.2'), true);
    assert.equal(ipLink(host.name, `veth1pl${a.pid}`)?.master, 'br1');
    assert.equal(ipLink(host.name, `veth2pl${a.pid}`)?.master, 'br2');
  },

  '--direct-phys and words after the MAC address mean nothing on a bridge': ({ host, a }) => {
    host.pipework(['--direct-phys', 'br1', a.name, '10.0.0.1/24', '26:2e:71:98:60:8f', 'more', '-i', 'x']);
    assert.deepEqual(linkNames(a.pid), ['eth1']);
    assert.equal(ipLink(a.pid, 'eth1')?.address, '26:2e:71:98:60:8f');
    assert.equal(ipLink(a.pid, 'eth1')?.linkinfo?.info_kind, 'veth');
  },

  'when the container ends, its end on the host goes by itself, and the bridge stays': async (
    { host },
    t,
  ) => {
    const { name, pid } = runContainer(t, 'brc');
    host.pipework(['br1', name, '10.0.0.1/24']);
    assert.equal(linkExists(host.name, `veth1pl${pid}`), true);
    run('docker', ['kill', name]);
    await until(() => !linkExists(host.name, `veth1pl${pid}`));
    assert.deepEqual(host.links(), ['br1']);
  },
};

test('pipework on a Linux bridge', async (t) => {
  if (skipUnless(t, 'root', 'docker', 'program:tcpdump')) return;
  const ground = await makeGround(t, 'br');
  await runCases(t, ground, cases);
});
