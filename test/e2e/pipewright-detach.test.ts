/** `pipewright detach`: what goes with an interface, what stays, and what comes back. */
import assert from 'node:assert/strict';
import test, { type TestContext } from 'node:test';
import {
  type Container,
  cleanupOvsBridge,
  ipLink,
  ipRoutes,
  linkExists,
  makeOvsBridge,
  ovsPorts,
  pipewright,
  run,
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
  type OwnHost,
  runCases,
} from './support.ts';

const attach = (host: OwnHost, { name }: Container, ...options: string[]): void => {
  host.pipewright(['attach', name, ...options]);
};

const detach = (host: OwnHost, { name }: Container, ...options: string[]): string =>
  host.pipewright(['detach', name, ...options]).stdout;

/** An interface that is not ours, with a default route. */
function otherNetwork(host: OwnHost, pid: number, metric?: number): void {
  host.ip('link', 'add', 'dk', 'type', 'veth', 'peer', 'name', 'eth0', 'netns', String(pid));
  host.ip('link', 'set', 'dk', 'up');
  runIn(pid, 'ip', ['addr', 'add', '172.17.0.2/16', 'brd', '+', 'dev', 'eth0']);
  runIn(pid, 'ip', ['link', 'set', 'eth0', 'up']);
  const more = metric === undefined ? [] : ['metric', String(metric)];
  runIn(pid, 'ip', ['route', 'add', 'default', 'via', '172.17.0.1', 'dev', 'eth0', ...more]);
}

const cases: Cases<Ground> = {
  'everything that an attach made is gone afterwards': ({ host, a }) => {
    const changes = changesBy(host, [a.pid], () => {
      attach(
        host,
        a,
        '--network',
        'br1',
        '--address',
        '10.0.0.1/24@10.0.0.254,fd00::1/64',
        '--route',
        '10.5.0.0/16',
      );
      assert.equal(
        detach(host, a),
        `+ ip link del veth1pl${a.pid}   # asked for\n+ ip link del br1   # made for this, and without ports\n`,
      );
    });
    assert.deepEqual(changes, []);
  },

  'what pipework made is taken away likewise': ({ host, a }) => {
    nicOn(host, 'phy0');
    const changes = changesBy(host, [a.pid], () => {
      host.pipework(['br1', a.name, '10.0.0.1/24@10.0.0.254']);
      host.pipework(['phy0', '-i', 'eth2', a.name, '10.0.1.1/24']);
      detach(host, a, '--all');
    });
    assert.deepEqual(changes, []);
  },

  'a bridge that others use stays until the last of them goes': ({ host, a, b }) => {
    attach(host, a, '--network', 'br1');
    attach(host, b, '--network', 'br1');
    attach(host, b, '--network', 'br1', '--ifname', 'eth2');
    detach(host, a);
    assert.ok(host.links().includes('br1'));
    detach(host, b, '--all');
    assert.deepEqual(host.links(), []);
  },

  'a bridge that was there before stays, also when it is empty': ({ host, a }) => {
    host.ip('link', 'add', 'lan0', 'type', 'bridge');
    attach(host, a, '--network', 'lan0');
    detach(host, a);
    assert.deepEqual(host.links(), ['lan0']);
  },

  'a bridge that we made stays when somebody gave it a port or an address': ({ host, a }) => {
    attach(host, a, '--network', 'br1');
    attach(host, a, '--network', 'br2', '--ifname', 'eth2');
    nicOn(host, 'phy0');
    host.ip('link', 'set', 'phy0', 'master', 'br1');
    host.ip('addr', 'add', '10.0.0.254/24', 'dev', 'br2');
    detach(host, a, '--all');
    assert.deepEqual(host.links(), ['br1', 'br2', 'phy0', 'phy0p']);
  },

  'the interface is named; without a name it is eth1': ({ host, a }) => {
    attach(host, a, '--network', 'br1', '--ifname', 'lan');
    attach(host, a, '--network', 'br1');
    detach(host, a);
    assert.deepEqual(linkNames(a.pid), ['lan']);
    detach(host, a, '--ifname', 'lan');
    assert.deepEqual(linkNames(a.pid), []);
  },

  'what we did not make is refused and stays': ({ host, a }) => {
    otherNetwork(host, a.pid);
    const changes = changesBy(host, [a.pid], () => {
      const said = line(host.pipewright(['detach', a.name, '--ifname', 'eth0'], { expect: 1 }));
      assert.match(said, /^pipewright: detach eth0 in [^\n]*did not make[^\n]*$/);
      const none = line(host.pipewright(['detach', a.name, '--ifname', 'eth9'], { expect: 1 }));
      assert.match(none, /^pipewright: detach eth9 in [^\n]*no such interface[^\n]*pipewright list[^\n]*$/);
    });
    assert.deepEqual(changes, []);
  },

  'what stands in place of ours is refused and stays': ({ host, a }) => {
    attach(host, a, '--network', 'br1');
    host.ip('link', 'del', `veth1pl${a.pid}`);
    otherNetwork(host, a.pid);
    runIn(a.pid, 'ip', ['link', 'set', 'eth0', 'down']);
    runIn(a.pid, 'ip', ['link', 'set', 'eth0', 'name', 'eth1']);
    host.pipewright(['detach', a.name], { expect: 'any' });
    assert.deepEqual(linkNames(a.pid), ['eth1']);
  },

  'twice: the second time there is nothing to take away': ({ host, a }) => {
    attach(host, a, '--network', 'br1');
    detach(host, a);
    host.pipewright(['detach', a.name], { expect: 1 });
    assert.match(detach(host, a, '--all'), /^nothing of \S+ is left to take away\n$/);
  },

  '--dry-run shows it and changes nothing; --json is one JSON object': ({ host, a }) => {
    attach(host, a, '--network', 'br1', '--address', '10.0.0.1/24');
    const changes = changesBy(host, [a.pid], () => {
      const shown = detach(host, a, '--dry-run');
      const { steps, dryRun, ifnames } = JSON.parse(detach(host, a, '--dry-run', '--json'));
      assert.deepEqual([dryRun, ifnames], [true, ['eth1']]);
      const text = steps.map(
        ({ command, because }: Record<string, string>) => `+ ${command}   # ${because}\n`,
      );
      assert.equal(text.join(''), shown);
    });
    assert.deepEqual(changes, []);
    assert.equal(JSON.parse(detach(host, a, '--json')).steps.length, 2);
  },

  'an interface that somebody deleted by hand: the rest is taken away': ({ host, a }) => {
    attach(host, a, '--network', 'br1', '--address', '10.0.0.1/24');
    runIn(a.pid, 'ip', ['link', 'del', 'eth1']);
    detach(host, a);
    assert.deepEqual(host.links(), []);
    assert.match(host.pipewright(['list']).stdout, /nothing is connected/);
  },

  'a veth pair of somebody else is never taken for ours, whatever its numbers': ({ host, a }) => {
    nicOn(host, 'phy0');
    // Each NIC's number is tried as the number that the interface has in the container.
    for (let i = 0; i < 40; i++) {
      attach(host, a, '--network', 'phy0');
      const index = ipLink(a.pid, 'eth1')?.ifindex;
      detach(host, a);
      if (index === ipLink(host.name, 'phy0p')?.ifindex) break;
    }
    assert.deepEqual(host.links(), ['phy0', 'phy0p']);
  },

  'an interface that was set down and renamed by nobody: down it goes too': ({ host, a }) => {
    attach(host, a, '--network', 'br1');
    runIn(a.pid, 'ip', ['link', 'set', 'eth1', 'down']);
    detach(host, a);
    assert.deepEqual([linkNames(a.pid), host.links()], [[], []]);
  },

  'a pid that names the same container finds it as well': ({ host, a }) => {
    otherNetwork(host, a.pid);
    const changes = changesBy(host, [a.pid], () => {
      attach(host, a, '--network', 'br1', '--address', '10.0.0.1/24@10.0.0.254');
      host.pipewright(['attach', `pid:${a.pid}`, '--network', 'br1', '--mtu', '1400']);
      assert.equal(JSON.parse(host.pipewright(['list', '--json']).stdout).attachments.length, 1);
      host.pipewright(['detach', `pid:${a.pid}`]);
    });
    assert.deepEqual(changes, []);
  },
};

const routes: Cases<Ground> = {
  'the default route that a gateway replaced comes back': ({ host, a }) => {
    otherNetwork(host, a.pid);
    const changes = changesBy(host, [a.pid], () => {
      attach(host, a, '--network', 'br1', '--address', '10.0.0.1/24@10.0.0.254');
      assert.deepEqual(defaults(a.pid), ['via 10.0.0.254 dev eth1']);
      assert.match(detach(host, a), /route replace default via 172\.17\.0\.1 \(as before\) {3}# /);
    });
    assert.deepEqual(changes, []);
  },

  'one that another interface holds meanwhile is left alone': ({ host, a }) => {
    otherNetwork(host, a.pid);
    attach(host, a, '--network', 'br1', '--address', '10.0.0.1/24@10.0.0.254');
    runIn(a.pid, 'ip', ['route', 'replace', 'default', 'via', '172.17.0.77', 'dev', 'eth0']);
    detach(host, a);
    assert.deepEqual(defaults(a.pid), ['via 172.17.0.77 dev eth0']);
  },

  'two interfaces replaced it one after the other; the later one goes first': ({ host, a }) => {
    otherNetwork(host, a.pid);
    const changes = changesBy(host, [a.pid], () => {
      attach(host, a, '--network', 'br1', '--address', '10.1.0.1/24@10.1.0.254');
      attach(host, a, '--network', 'br2', '--ifname', 'eth2', '--address', '10.2.0.1/24@10.2.0.254');
      detach(host, a, '--ifname', 'eth2');
      assert.deepEqual(defaults(a.pid), ['via 10.1.0.254 dev eth1']);
      detach(host, a);
    });
    assert.deepEqual(changes, []);
  },

  'two interfaces replaced it one after the other; the earlier one goes first': ({ host, a }) => {
    otherNetwork(host, a.pid);
    const changes = changesBy(host, [a.pid], () => {
      attach(host, a, '--network', 'br1', '--address', '10.1.0.1/24@10.1.0.254');
      attach(host, a, '--network', 'br2', '--ifname', 'eth2', '--address', '10.2.0.1/24@10.2.0.254');
      detach(host, a);
      assert.deepEqual(defaults(a.pid), ['via 10.2.0.254 dev eth2']);
      detach(host, a, '--ifname', 'eth2');
    });
    assert.deepEqual(changes, []);
  },

  'both at once, and three at once': ({ host, a }) => {
    otherNetwork(host, a.pid);
    const changes = changesBy(host, [a.pid], () => {
      for (const i of [1, 2, 3]) {
        attach(
          host,
          a,
          '--network',
          `br${i}`,
          '--ifname',
          `eth${i}`,
          '--address',
          `10.${i}.0.1/24@10.${i}.0.254`,
        );
      }
      detach(host, a, '--all');
    });
    assert.deepEqual(changes, []);
  },

  'the middle one of three goes first, then the last, then the first': ({ host, a }) => {
    otherNetwork(host, a.pid);
    const changes = changesBy(host, [a.pid], () => {
      for (const i of [1, 2, 3]) {
        attach(
          host,
          a,
          '--network',
          `br${i}`,
          '--ifname',
          `eth${i}`,
          '--address',
          `10.${i}.0.1/24@10.${i}.0.254`,
        );
      }
      detach(host, a, '--ifname', 'eth2');
      assert.deepEqual(defaults(a.pid), ['via 10.3.0.254 dev eth3']);
      detach(host, a, '--ifname', 'eth3');
      assert.deepEqual(defaults(a.pid), ['via 10.1.0.254 dev eth1']);
      detach(host, a);
    });
    assert.deepEqual(changes, []);
  },

  'both families, and a metric that is kept': ({ host, a }) => {
    otherNetwork(host, a.pid, 50);
    attach(host, a, '--network', 'br3', '--ifname', 'eth5', '--address', 'fd00:5::1/64@fd00:5::fe');
    const before = ipRoutes(a.pid, 6).filter(({ dst }) => dst === 'default');
    attach(host, a, '--network', 'br1', '--address', '10.0.0.1/24@10.0.0.254,fd00::1/64@fd00::fe');
    assert.deepEqual(defaults(a.pid).sort(), [
      'via 10.0.0.254 dev eth1',
      'via 172.17.0.1 dev eth0 metric 50',
    ]);
    detach(host, a);
    assert.deepEqual(defaults(a.pid), ['via 172.17.0.1 dev eth0 metric 50']);
    assert.deepEqual(
      ipRoutes(a.pid, 6).filter(({ dst }) => dst === 'default'),
      before,
    );
  },

  'a gateway that came with a later change gives it back as well': ({ host, a }) => {
    otherNetwork(host, a.pid);
    const changes = changesBy(host, [a.pid], () => {
      attach(host, a, '--network', 'br1', '--address', '10.0.0.1/24');
      attach(host, a, '--network', 'br1', '--gateway', '10.0.0.254', '--address', '10.0.0.1/24');
      attach(host, a, '--network', 'br1', '--gateway', '10.0.0.253', '--address', '10.0.0.1/24');
      detach(host, a);
    });
    assert.deepEqual(changes, []);
  },

  'an interface that was made anew gives it back as well': ({ host, a }) => {
    nicOn(host, 'phy0');
    otherNetwork(host, a.pid);
    const changes = changesBy(host, [a.pid], () => {
      attach(host, a, '--network', 'br1', '--address', '10.0.0.1/24@10.0.0.254');
      attach(host, a, '--network', 'phy0');
      assert.deepEqual(defaults(a.pid), ['via 10.0.0.254 dev eth1']);
      detach(host, a);
    });
    assert.deepEqual(
      changes.filter((text) => !text.includes(' br1')),
      [],
    );
  },
};

const nics: Cases<Ground> = {
  'a NIC comes home as it was: name, MAC, MTU, state, addresses, routes': ({ host, a }) => {
    nicOn(host, 'phy0', 'address', '02:00:00:00:cd:01', 'mtu', '1450');
    host.ip('addr', 'add', '10.0.0.5/24', 'brd', '+', 'dev', 'phy0');
    host.ip('addr', 'add', '10.0.0.6/24', 'brd', '+', 'dev', 'phy0');
    host.ip('addr', 'add', 'fd00::5/64', 'nodad', 'dev', 'phy0');
    host.ip('route', 'add', '10.9.0.0/16', 'via', '10.0.0.254', 'dev', 'phy0', 'metric', '9');
    host.ip('route', 'add', 'default', 'via', '10.0.0.254', 'dev', 'phy0');
    host.ip('-6', 'route', 'add', 'default', 'via', 'fd00::fe', 'dev', 'phy0');
    const changes = changesBy(host, [a.pid], () => {
      const options = ['--address', '10.7.0.1/24@10.7.0.254', '--mac', '02:00:00:00:cd:99', '--mtu', '1300'];
      attach(host, a, '--network', 'phys:phy0', '--ifname', 'lan', ...options);
      assert.equal(linkExists(host.name, 'phy0'), false);
      assert.equal(ipLink(a.pid, 'lan')?.mtu, 1300);
      detach(host, a, '--ifname', 'lan');
    });
    assert.deepEqual(changes, []);
  },

  'a NIC that was down is down again; one given by pipework comes home too': ({ host, a }) => {
    nicOn(host, 'phy0');
    host.ip('link', 'set', 'phy0', 'down');
    const changes = changesBy(host, [a.pid], () => {
      host.pipework(['--direct-phys', 'phy0', a.name, '10.7.0.1/24']);
      detach(host, a);
    });
    assert.deepEqual(changes, []);
  },

  'its name was taken meanwhile: one line says so, and the NIC stays where it is': ({ host, a }) => {
    nicOn(host, 'phy0');
    attach(host, a, '--network', 'phys:phy0');
    host.ip('link', 'add', 'phy0', 'type', 'bridge');
    const said = line(host.pipewright(['detach', a.name], { expect: 1 }));
    assert.match(said, /^pipewright: [^\n]*phy0[^\n]*$/);
    assert.deepEqual(linkNames(a.pid), ['eth1']);
    host.ip('link', 'del', 'phy0');
    detach(host, a);
    assert.deepEqual(host.links(), ['phy0', 'phy0p']);
  },
};

test('pipewright detach', async (t) => {
  if (skipUnless(t, 'root', 'docker', 'macvlan', 'ipv6')) return;
  await runCases(t, await makeGround(t, 'de'), cases);
});

test('pipewright detach gives back the default route', async (t) => {
  if (skipUnless(t, 'root', 'docker', 'macvlan', 'ipv6')) return;
  await runCases(t, await makeGround(t, 'dr'), routes);
});

test('pipewright detach of a NIC', async (t) => {
  if (skipUnless(t, 'root', 'docker', 'ipv6')) return;
  await runCases(t, await makeGround(t, 'dn'), nics);
});

test("pipewright detach of a VLAN's sub-interface", async (t) => {
  if (skipUnless(t, 'root', 'docker', 'macvlan', 'vlan')) return;
  await runCases(t, await makeGround(t, 'dv'), {
    'it goes with the last that rides on it, unless it was there before': ({ host, a, b }) => {
      nicOn(host, 'phy0');
      host.ip('link', 'add', 'link', 'phy0', 'name', 'phy0.20', 'type', 'vlan', 'id', '20');
      for (const { name } of [a, b]) {
        host.pipewright(['attach', name, '--network', 'phy0', '--vlan', '10']);
        host.pipewright(['attach', name, '--network', 'phy0', '--vlan', '20', '--ifname', 'eth2']);
      }
      detach(host, a, '--all');
      assert.deepEqual(host.links(), ['phy0', 'phy0.10', 'phy0.20', 'phy0p']);
      detach(host, b, '--all');
      assert.deepEqual(host.links(), ['phy0', 'phy0.20', 'phy0p']);
    },

    'moved into the container, it goes with the interface when we made it': ({ host, a }) => {
      nicOn(host, 'phy0');
      const changes = changesBy(host, [a.pid], () => {
        attach(host, a, '--network', 'phys:phy0', '--vlan', '10', '--address', '10.0.0.1/24');
        attach(host, a, '--network', 'phys:phy0', '--vlan', '10', '--address', '10.0.0.2/24');
        detach(host, a);
      });
      assert.deepEqual(changes, []);
    },
  });
});

test('a container that is gone is detached by the name it had', async (t) => {
  if (skipUnless(t, 'root', 'docker')) return;
  const { host } = await makeGround(t, 'dg');
  for (const how of [['kill'], ['rm', '-f']]) {
    const gone = runContainer(t, `dgc${how.length}`);
    host.pipework(['br1', gone.name, '10.0.0.1/24']);
    run('docker', [...how, gone.name]);
    assert.match(host.pipewright(['list']).stdout, new RegExp(`${gone.name} .* gone`));
    host.pipewright(['detach', gone.name]);
    assert.deepEqual(host.links(), []);
    assert.match(host.pipewright(['list']).stdout, /nothing is connected/);
  }
  const said = line(host.pipewright(['detach', 'pwt-never-was'], { expect: 1 }));
  assert.match(said, /^pipewright: [^\n]*pwt-never-was[^\n]*$/);
});

const number = process.pid % 100_000;
const ovs = `ovspwt${number}`;
const other = `pwtsw${number}`;

const onOvs: Record<string, (a: Container, b: Container, t: TestContext) => void> = {
  'the port goes, and the bridge with its last port when we made it': (a, b) => {
    for (const { name } of [a, b]) pipewright(['attach', name, '--network', `ovs:${ovs}`, '--vlan', '10']);
    pipewright(['detach', a.name]);
    assert.deepEqual(ovsPorts(ovs), [`veth1pl${b.pid}`]);
    assert.equal(linkExists('host', `veth1pl${a.pid}`), false);
    pipewright(['detach', b.name]);
    assert.equal(ovsPorts(ovs), undefined);
    assert.equal(linkExists('host', ovs), false);
  },

  'a bridge that was there before stays': (a, _b, t) => {
    makeOvsBridge(t, other);
    pipewright(['attach', a.name, '--network', other]);
    pipewright(['detach', a.name]);
    assert.deepEqual(ovsPorts(other), []);
  },

  'a port of somebody else keeps the bridge that we made': (a) => {
    pipewright(['attach', a.name, '--network', `ovs:${ovs}`]);
    run('ovs-vsctl', [
      'add-port',
      ovs,
      `pwti${number}`,
      '--',
      'set',
      'interface',
      `pwti${number}`,
      'type=internal',
    ]);
    pipewright(['detach', a.name]);
    assert.deepEqual(ovsPorts(ovs), [`pwti${number}`]);
  },

  'the link was deleted by hand: the port goes': (a) => {
    pipewright(['attach', a.name, '--network', `ovs:${ovs}`]);
    runIn(a.pid, 'ip', ['link', 'del', 'eth1']);
    pipewright(['detach', a.name]);
    assert.equal(ovsPorts(ovs), undefined);
  },
};

test('pipewright detach from Open vSwitch', async (t) => {
  if (skipUnless(t, 'root', 'docker', 'ovs')) return;
  const [a, b] = [runContainer(t, 'doa'), runContainer(t, 'dob')];
  for (const [name, act] of Object.entries(onOvs)) {
    await t.test(name, (t) => {
      cleanupOvsBridge(t, ovs);
      t.after(() => [a, b].forEach(({ pid }) => void emptyGuest(pid)));
      act(a, b, t);
    });
  }
});
