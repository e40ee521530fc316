/** `pipework NIC ...`: macvlan children of a NIC, its VLAN sub-interfaces, and the NIC itself. */
import assert from 'node:assert/strict';
import test from 'node:test';
import { cidrs, ipAddrs, ipLink, lacks, linkExists, run, runContainer, runIn, skipUnless } from '../lab.ts';
import {
  type Cases,
  changesBy,
  connected,
  defaults,
  type Ground,
  line,
  linkNames,
  makeGround,
  namedNetns,
  nicOn,
  ownHost,
  reaches,
  runCases,
  until,
} from './support.ts';

const macvlan: Cases<Ground> = {
  'a NIC that is down is raised and gets a child in the container, of its MTU, in bridge mode': ({
    host,
    a,
  }) => {
    nicOn(host, 'phy0', 'mtu', '1450');
    host.ip('link', 'set', 'phy0', 'down');
    const { stdout, stderr } = host.pipework(['phy0', a.name, '10.0.0.1/24@10.0.0.254']);
    assert.equal(stdout + stderr, '');
    assert.ok(ipLink(host.name, 'phy0')?.flags.includes('UP'));
    const eth1 = ipLink(a.pid, 'eth1');
    assert.equal(eth1?.linkinfo?.info_kind, 'macvlan');
    assert.equal(eth1?.linkinfo?.info_data?.mode, 'bridge');
    assert.equal(eth1?.mtu, 1450);
    assert.equal(eth1?.link_index, ipLink(host.name, 'phy0')?.ifindex);
    assert.equal(ipAddrs(a.pid, 'eth1')[0]?.broadcast, '10.0.0.255');
    assert.deepEqual(connected(a.pid), ['10.0.0.0/24 dev eth1 scope link']);
    assert.deepEqual(defaults(a.pid), ['via 10.0.0.254 dev eth1']);
    assert.deepEqual(host.links(), ['phy0', 'phy0p']);
    assert.equal(namedNetns(a.pid), false);
  },

  'two containers on one NIC reach each other, and what is on the wire': ({ host, a, b }) => {
    nicOn(host, 'phy0');
    host.ip('addr', 'add', '10.0.0.254/24', 'dev', 'phy0p');
    host.pipework(['phy0', a.name, '10.0.0.1/24']);
    host.pipework(['phy0', b.name, '10.0.0.2/24']);
    assert.equal(reaches(a.pid, '10.0.0.2'), true);
    assert.equal(reaches(b.pid, '10.0.0.254'), true);
  },

  "a name of 15 bytes and a MAC address are the interface's": ({ host, a }) => {
    nicOn(host, 'phy0');
    host.pipework(['phy0', '-i', 'verylongname123', a.name, '10.0.0.1/24', '02:00:00:00:00:99']);
    assert.equal(ipLink(a.pid, 'verylongname123')?.address, '02:00:00:00:00:99');
  },

  'no address: 0/0': ({ host, a }) => {
    nicOn(host, 'phy0');
    host.pipework(['phy0', a.name, '0/0']);
    assert.deepEqual(cidrs(a.pid, 'eth1'), []);
    assert.ok(ipLink(a.pid, 'eth1')?.flags.includes('UP'));
  },

  'the same line twice: refused without residue, as often as it is repeated': ({ host, a }) => {
    nicOn(host, 'phy0');
    const words = ['phy0', a.name, '10.0.0.1/24'];
    host.pipework(words);
    const changes = changesBy(host, [a.pid], () => {
      for (let i = 0; i < 3; i++) {
        assert.match(
          line(host.pipework(words, { expect: 2 })),
          /^pipework: [^\n]*eth1 in [^\n]*EEXIST[^\n]*$/,
        );
      }
    });
    assert.deepEqual(changes, []);
  },

  'a MAC address that another child of the NIC has: refused, clearly and without residue': ({
    host,
    a,
    b,
  }) => {
    nicOn(host, 'phy0');
    host.ip('link', 'set', 'phy0', 'down');
    const mac = '02:00:00:00:00:77';
    host.pipework(['phy0', a.name, '10.0.0.1/24', mac]);
    const changes = changesBy(host, [a.pid, b.pid], () => {
      const said = line(host.pipework(['phy0', b.name, '10.0.0.2/24', mac], { expect: 2 }));
      assert.match(said, /^pipework: [^\n]*eth1 in [^\n]*EADDRINUSE[^\n]*MAC address[^\n]*$/);
    });
    assert.deepEqual(changes, []);
    host.pipework(['phy0', b.name, '10.0.0.2/24', '02:00:00:00:00:78']);
    assert.equal(reaches(b.pid, '10.0.0.1'), true);
  },

  'mac: selects the NIC, in lower and in upper case': ({ host, a, b }) => {
    nicOn(host, 'phy0', 'address', '02:00:00:00:ab:01');
    nicOn(host, 'phy1', 'address', '02:00:00:00:ab:02');
    host.pipework(['mac:02:00:00:00:ab:02', a.name, '10.0.0.1/24']);
    host.pipework(['mac:02:00:00:00:AB:01', b.name, '10.0.0.2/24']);
    assert.equal(ipLink(a.pid, 'eth1')?.link_index, ipLink(host.name, 'phy1')?.ifindex);
    assert.equal(ipLink(b.pid, 'eth1')?.link_index, ipLink(host.name, 'phy0')?.ifindex);
  },

  "mac: that no NIC has: the original's message": ({ host, a }) => {
    for (const mac of ['02:00:00:00:ab:03', 'zz', '00:00:00:00:00:00']) {
      const changes = changesBy(host, [a.pid], () => {
        const said = line(host.pipework([`mac:${mac}`, a.name, '10.0.0.1/24'], { expect: 1 }));
        assert.equal(said, `Mac address ${mac} specified for interface but no host interface matched.`);
      });
      assert.deepEqual(changes, []);
    }
  },

  "an existing NIC whose name begins as a bridge's is a NIC": ({ host, a }) => {
    nicOn(host, 'br5');
    host.pipework(['br5', a.name, '10.0.0.1/24']);
    assert.equal(ipLink(a.pid, 'eth1')?.linkinfo?.info_kind, 'macvlan');
  },

  'a link that has the name of the VLAN sub-interface and is none: refused, and nothing is changed': ({
    host,
    a,
  }) => {
    nicOn(host, 'phy0');
    nicOn(host, 'phy0.10');
    const changes = changesBy(host, [a.pid], () => {
      for (const words of [[], ['--direct-phys']]) {
        const said = line(host.pipework([...words, 'phy0', a.name, '10.0.0.1/24', '@10'], { expect: 2 }));
        assert.match(said, /^pipework: [^\n]*phy0\.10[^\n]*not VLAN 10 of phy0[^\n]*$/);
      }
    });
    assert.deepEqual(changes, []);
  },

  'VLAN ids from 1 to 4094 and no others': ({ host, a }) => {
    nicOn(host, 'phy0');
    const changes = changesBy(host, [a.pid], () => {
      for (const id of ['0', '4095', '-1', '1.5', 'foo', '0x10', '010']) {
        assert.match(
          line(host.pipework(['phy0', a.name, '10.0.0.1/24', `@${id}`], { expect: 1 })),
          /VLAN id/,
        );
      }
    });
    assert.deepEqual(changes, []);
  },
};

const moved: Cases<Ground> = {
  '--direct-phys moves the NIC itself, under the name that is asked for': ({ host, a }) => {
    nicOn(host, 'phy0', 'address', '02:00:00:00:cd:01');
    host.ip('addr', 'add', '10.0.0.254/24', 'dev', 'phy0p');
    host.pipework(['--direct-phys', 'phy0', '-i', 'cont0', a.name, '10.0.0.1/24@10.0.0.254']);
    assert.deepEqual(host.links(), ['phy0p']);
    assert.deepEqual(linkNames(a.pid), ['cont0']);
    assert.equal(ipLink(a.pid, 'cont0')?.address, '02:00:00:00:cd:01');
    assert.deepEqual(cidrs(a.pid, 'cont0'), ['10.0.0.1/24']);
    assert.deepEqual(defaults(a.pid), ['via 10.0.0.254 dev cont0']);
    assert.equal(reaches(a.pid, '10.0.0.254'), true);
    const changes = changesBy(host, [a.pid], () => {
      const again = ['--direct-phys', 'phy0', '-i', 'cont0', a.name, '10.0.0.1/24'];
      assert.equal(line(host.pipework(again, { expect: 1 })), 'I do not know how to setup interface phy0.');
    });
    assert.deepEqual(changes, []);
  },

  '--direct-phys takes a MAC address, and a NIC by its MAC address': ({ host, a, b }) => {
    nicOn(host, 'phy0', 'address', '02:00:00:00:cd:01');
    nicOn(host, 'phy1', 'address', '02:00:00:00:cd:02');
    host.pipework(['--direct-phys', 'mac:02:00:00:00:cd:02', a.name, '10.0.0.1/24', '02:00:00:00:cd:99']);
    host.pipework(['phy0', '--direct-phys', b.name, '10.0.0.2/24']);
    assert.deepEqual(host.links(), ['phy0p', 'phy1p']);
    assert.equal(ipLink(a.pid, 'eth1')?.address, '02:00:00:00:cd:99');
    assert.equal(ipLink(b.pid, 'eth1')?.address, '02:00:00:00:cd:01');
  },

  'a failure after the NIC was moved brings it home as it was': ({ host, a }) => {
    nicOn(host, 'phy0', 'address', '02:00:00:00:cd:01', 'mtu', '1450');
    host.ip('addr', 'add', '10.0.0.5/24', 'dev', 'phy0');
    host.ip('route', 'add', '10.9.0.0/16', 'via', '10.0.0.254', 'dev', 'phy0');
    host.ip('route', 'add', 'default', 'via', '10.0.0.254', 'dev', 'phy0', 'metric', '7');
    const changes = changesBy(host, [a.pid], () => {
      const bad = ['10.5.0.5/24,10.6.0.5/24@10.5.0.255', '02:00:00:00:cd:99'];
      host.pipework(['--direct-phys', 'phy0', a.name, ...bad], { expect: 2 });
    });
    assert.deepEqual(changes, []);
  },

  'a name that the container has already: the NIC stays at home': ({ host, a }) => {
    nicOn(host, 'phy0');
    runIn(a.pid, 'ip', ['link', 'add', 'eth1', 'type', 'bridge']);
    const changes = changesBy(host, [a.pid], () =>
      host.pipework(['--direct-phys', 'phy0', a.name, '10.0.0.1/24'], { expect: 2 }),
    );
    assert.deepEqual(changes, []);
  },
};

const vlans: Cases<Ground> = {
  'a VLAN of a NIC: the sub-interface is made once, and both containers ride on it': ({ host, a, b }) => {
    nicOn(host, 'phy0', 'mtu', '1450');
    host.pipework(['phy0', a.name, '10.0.0.1/24', '@10']);
    host.pipework(['phy0', b.name, '10.0.0.2/24', '02:00:00:00:00:99@10']);
    const sub = ipLink(host.name, 'phy0.10');
    assert.equal(sub?.linkinfo?.info_kind, 'vlan');
    assert.equal(sub?.linkinfo?.info_data?.id, 10);
    assert.equal(sub?.mtu, 1450);
    assert.ok(sub?.flags.includes('UP'));
    for (const { pid } of [a, b]) {
      assert.equal(ipLink(pid, 'eth1')?.linkinfo?.info_kind, 'macvlan');
      assert.equal(ipLink(pid, 'eth1')?.link_index, sub?.ifindex);
      assert.equal(ipLink(pid, 'eth1')?.mtu, 1450);
    }
    assert.equal(ipLink(b.pid, 'eth1')?.address, '02:00:00:00:00:99');
    assert.equal(reaches(a.pid, '10.0.0.2'), true);
    assert.deepEqual(host.links(), ['phy0', 'phy0.10', 'phy0p']);
  },

  'frames of that VLAN are tagged on the wire': ({ host, a }) => {
    nicOn(host, 'phy0');
    host.ip('link', 'add', 'link', 'phy0p', 'name', 'far', 'type', 'vlan', 'id', '10');
    host.ip('link', 'set', 'far', 'up');
    host.ip('addr', 'add', '10.0.0.254/24', 'dev', 'far');
    host.pipework(['phy0', a.name, '10.0.0.1/24', '@10']);
    assert.equal(reaches(a.pid, '10.0.0.254'), true);
  },

  '--direct-phys with a VLAN moves the sub-interface': ({ host, a }) => {
    nicOn(host, 'phy0');
    host.pipework(['--direct-phys', 'phy0', a.name, '10.0.0.1/24', '@10']);
    assert.deepEqual(host.links(), ['phy0', 'phy0p']);
    assert.equal(ipLink(a.pid, 'eth1')?.linkinfo?.info_kind, 'vlan');
    assert.deepEqual(cidrs(a.pid, 'eth1'), ['10.0.0.1/24']);
  },

  'a failure takes the sub-interface that was made with it': ({ host, a }) => {
    nicOn(host, 'phy0');
    const bad = '10.5.0.5/24,10.6.0.5/24@10.5.0.255';
    const changes = changesBy(host, [a.pid], () => {
      for (const words of [[], ['--direct-phys']])
        host.pipework([...words, 'phy0', a.name, bad, '@10'], { expect: 2 });
    });
    assert.deepEqual(changes, []);
  },
};

const dummy: Cases<Ground> = {
  'dummy: an interface that leads nowhere, with address and default route': ({ host, a }) => {
    host.pipework(['dummy', a.name, '192.168.21.101/24@192.168.21.1', '02:00:00:00:00:98']);
    assert.equal(ipLink(a.pid, 'eth1')?.linkinfo?.info_kind, 'dummy');
    assert.equal(ipLink(a.pid, 'eth1')?.address, '02:00:00:00:00:98');
    assert.deepEqual(cidrs(a.pid, 'eth1'), ['192.168.21.101/24']);
    assert.deepEqual(defaults(a.pid), ['via 192.168.21.1 dev eth1']);
    assert.deepEqual(host.links(), []);
  },

  'dummy with a name of 15 bytes, and any word that begins so': ({ host, a }) => {
    host.pipework(['dummyX', '-i', 'verylongname123', a.name, '10.0.0.1/24']);
    assert.equal(linkExists(a.pid, 'verylongname123'), true);
  },
};

test('pipework: macvlan on a NIC', async (t) => {
  if (skipUnless(t, 'root', 'docker', 'macvlan')) return;
  await runCases(t, await makeGround(t, 'pm'), macvlan);
});

test('pipework: the NIC itself', async (t) => {
  if (skipUnless(t, 'root', 'docker')) return;
  await runCases(t, await makeGround(t, 'pd'), moved);
});

for (const [name, need, cases] of [
  ['VLANs of a NIC', 'vlan', vlans],
  ['dummy', 'dummy', dummy],
] as const) {
  test(`pipework: ${name}`, async (t) => {
    if (skipUnless(t, 'root', 'docker', 'macvlan', need)) return;
    await runCases(t, await makeGround(t, 'pv'), cases);
  });
}

test('pipework: a NIC that goes from container to container is listed once', async (t) => {
  if (skipUnless(t, 'root', 'docker')) return;
  const host = await ownHost(t, 'pdl');
  const listed = (): string[][] => {
    const { stdout } = host.pipewright(['list', '--json']);
    const { attachments } = JSON.parse(stdout) as { attachments: { container: string; state: string }[] };
    return attachments.map(({ container, state }) => [container, state]);
  };
  for (const name of ['pdla', 'pdlb', 'pdlc']) {
    // A pair goes with the container, where a NIC would come home.
    nicOn(host, 'phy0');
    const container = runContainer(t, name);
    host.pipework(['--direct-phys', 'phy0', container.name, '10.0.0.1/24']);
    assert.deepEqual(listed(), [[container.name, 'up']]);
    run('docker', ['rm', '-f', container.name]);
    await until(() => listed()[0]?.[1] === 'gone');
    assert.deepEqual(listed(), [[container.name, 'gone']]);
  }
});

test('pipework: a kind that the kernel lacks is said in one line, and nothing is changed', async (t) => {
  if (skipUnless(t, 'root', 'docker')) return;
  const { host, a } = await makeGround(t, 'pk');
  nicOn(host, 'phy0');
  for (const [need, module, words] of [
    ['vlan', '8021q', ['phy0', a.name, '10.0.0.1/24', '@10']],
    ['dummy', 'dummy', ['dummy', a.name, '10.0.0.1/24']],
  ] as const) {
    if (lacks(need) === undefined) continue;
    const changes = changesBy(host, [a.pid], () => {
      assert.match(
        line(host.pipework(words, { expect: 2 })),
        new RegExp(`^pipework: [^\\n]*modprobe ${module}$`),
      );
    });
    assert.deepEqual(changes, []);
  }
});
