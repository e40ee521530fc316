/** `pipewright attach`: a new interface of each kind, what it prints, and what it refuses. */
import assert from 'node:assert/strict';
import test from 'node:test';
import {
  cidrs,
  cleanupOvsBridge,
  ipLink,
  ipRoutes,
  ovsPort,
  pipewright,
  plainNetns,
  skipUnless,
} from '../lab.ts';
import {
  type Cases,
  changesBy,
  connected,
  defaults,
  type Ground,
  line,
  linkNames,
  makeGround,
  nicOn,
  reaches,
  runCases,
} from './support.ts';

const cases: Cases<Ground> = {
  'on a bridge that is made for it; the steps are printed, each with its reason': ({ host, a }) => {
    const { stdout, stderr } = host.pipewright([
      'attach',
      a.name,
      '--network',
      'bridge:sw1',
      '--address',
      '10.0.0.1/24',
    ]);
    assert.equal(stderr, '');
    assert.match(stdout, /^\+ ip link add sw1 type bridge {3}# there is no such bridge\n/);
    assert.ok(
      stdout
        .trimEnd()
        .split('\n')
        .every((text) => /^\+ .* {3}# .+$/.test(text)),
      stdout,
    );
    assert.deepEqual(cidrs(a.pid, 'eth1'), ['10.0.0.1/24']);
    assert.deepEqual(host.links(), [`veth1pl${a.pid}`, 'sw1'].sort());
  },

  'a bare name stands for what it is on the host, or by its first letters for a bridge': ({ host, a }) => {
    nicOn(host, 'phy0');
    host.ip('link', 'add', 'lan0', 'type', 'bridge');
    for (const [ifname, network, kind] of [
      ['e1', 'lan0', 'veth'],
      ['e2', 'phy0', 'macvlan'],
      ['e3', 'br7', 'veth'],
    ] as const) {
      host.pipewright(['attach', a.name, '--network', network, '--ifname', ifname]);
      assert.equal(ipLink(a.pid, ifname)?.linkinfo?.info_kind, kind);
    }
    const said = line(
      host.pipewright(['attach', a.name, '--network', 'nosuch', '--ifname', 'e4'], { expect: 1 }),
    );
    assert.match(said, /^pipewright: attach nosuch: [^\n]*--network bridge:nosuch[^\n]*$/);
    assert.equal(ipLink(host.name, 'nosuch'), undefined);
  },

  'all that an interface can have': ({ host, a }) => {
    const options = [
      ...['--network', 'bridge:br1', '--ifname', 'lan', '--host-ifname', 'app1', '--mtu', '1400'],
      ...[
        '--mac',
        '02:00:00:00:00:42',
        '--address',
        '10.0.0.2/24@10.0.0.1',
        '--address',
        '10.0.9.2/24,fd00::2/64',
      ],
      ...['--gateway', 'fd00::1', '--route', '10.5.0.0/16 via 10.0.0.5', '--route', '10.6.0.0/16@10.0.0.6'],
      ...['--route', '10.7.0.0/16'],
    ];
    host.pipewright(['attach', a.name, ...options]);
    const lan = ipLink(a.pid, 'lan');
    assert.equal(`${lan?.mtu} ${lan?.address}`, '1400 02:00:00:00:00:42');
    assert.equal(ipLink(host.name, 'app1')?.mtu, 1400);
    assert.deepEqual(cidrs(a.pid, 'lan').sort(), ['10.0.0.2/24', '10.0.9.2/24', 'fd00::2/64']);
    assert.deepEqual(defaults(a.pid), ['via 10.0.0.1 dev lan']);
    assert.match(defaults(a.pid, 6).join(), /^via fd00::1 dev lan/);
    assert.deepEqual(
      connected(a.pid).filter((route) => /^10\.[567]/.test(route)),
      [
        '10.5.0.0/16 via 10.0.0.5 dev lan',
        '10.6.0.0/16 via 10.0.0.6 dev lan',
        '10.7.0.0/16 dev lan scope link',
      ],
    );
    const again = host.pipewright(['attach', a.name, ...options]);
    assert.equal(again.stdout, `lan of ${a.name} is as asked: nothing to do\n`);
  },

  'a gateway takes the default route, and `0/0` is no address of an attach': ({ host, a }) => {
    host.pipewright(['attach', a.name, '--network', 'br1', '--gateway', '10.9.9.9']);
    assert.deepEqual(cidrs(a.pid, 'eth1'), []);
    assert.deepEqual(defaults(a.pid), ['via 10.9.9.9 dev eth1']);
    assert.match(
      line(host.pipewright(['attach', a.name, '--network', 'br1', '--address', '0/0'], { expect: 1 })),
      /--address/,
    );
  },

  'macvlan in every mode, by a NIC that is raised': ({ host, a, b }) => {
    nicOn(host, 'phy0');
    host.ip('link', 'set', 'phy0', 'down');
    for (const mode of ['bridge', 'private', 'vepa']) {
      host.pipewright(['attach', a.name, '--network', 'macvlan:phy0', '--mode', mode, '--ifname', mode]);
      assert.equal(ipLink(a.pid, mode)?.linkinfo?.info_data?.mode, mode);
    }
    assert.ok(ipLink(host.name, 'phy0')?.flags.includes('UP'));
    host.pipewright(['attach', a.name, '--network', 'phy0', '--address', '10.0.0.1/24']);
    host.pipewright(['attach', b.name, '--network', 'phy0', '--address', '10.0.0.2/24']);
    assert.equal(reaches(b.pid, '10.0.0.1'), true);
  },

  'macvlan passthru takes the NIC for itself; a second child is refused in one line': ({ host, a, b }) => {
    nicOn(host, 'phy0');
    host.pipewright([
      'attach',
      a.name,
      '--network',
      'macvlan:phy0',
      '--mode',
      'passthru',
      '--address',
      '10.0.0.1/24',
    ]);
    assert.equal(ipLink(a.pid, 'eth1')?.linkinfo?.info_data?.mode, 'passthru');
    const changes = changesBy(host, [b.pid], () => {
      const said = line(host.pipewright(['attach', b.name, '--network', 'macvlan:phy0'], { expect: 1 }));
      assert.match(said, /^pipewright: link\.add eth1 in [^\n]*EINVAL[^\n]*passthru[^\n]*$/);
      const again = ['--network', 'phy0', '--ifname', 'eth2', '--mode', 'passthru'];
      assert.match(line(host.pipewright(['attach', a.name, ...again], { expect: 1 })), /passthru/);
    });
    assert.deepEqual(changes, []);
  },

  "a NIC that is a bridge's port can have no macvlan: one line": ({ host, a }) => {
    nicOn(host, 'phy0');
    host.ip('link', 'add', 'lan0', 'type', 'bridge');
    host.ip('link', 'set', 'phy0', 'master', 'lan0');
    const changes = changesBy(host, [a.pid], () => {
      const said = line(host.pipewright(['attach', a.name, '--network', 'phy0'], { expect: 1 }));
      assert.match(said, /^pipewright: link\.add eth1 in [^\n]*EBUSY[^\n]*$/);
    });
    assert.deepEqual(changes, []);
  },

  'the NIC itself, named phys:': ({ host, a }) => {
    nicOn(host, 'phy0', 'address', '02:00:00:00:00:55');
    host.pipewright([
      'attach',
      a.name,
      '--network',
      'phys:phy0',
      '--ifname',
      'lan',
      '--address',
      '10.0.0.1/24',
    ]);
    assert.deepEqual(linkNames(a.pid), ['lan']);
    assert.equal(ipLink(a.pid, 'lan')?.address, '02:00:00:00:00:55');
    assert.deepEqual(host.links(), ['phy0p']);
  },

  'a NIC that is not there: one line, and nothing is made': ({ host, a }) => {
    const changes = changesBy(host, [a.pid], () => {
      for (const network of ['phys:nosuch', 'macvlan:nosuch', 'ipvlan:nosuch', 'ipoib:nosuch']) {
        const said = line(host.pipewright(['attach', a.name, '--network', network], { expect: 1 }));
        assert.match(said, /^pipewright: attach nosuch: [^\n]*no such NIC[^\n]*$/);
      }
    });
    assert.deepEqual(changes, []);
  },

  'a network of another kind than its name: one line': ({ host, a }) => {
    nicOn(host, 'phy0');
    host.ip('link', 'add', 'lan0', 'type', 'bridge');
    const changes = changesBy(host, [a.pid], () => {
      for (const network of ['bridge:phy0', 'ovs:phy0', 'ovs:lan0', 'phys:lan0', 'ipoib:phy0']) {
        assert.match(
          line(host.pipewright(['attach', a.name, '--network', network], { expect: 1 })),
          /^pipewright: attach \S+: [^\n]*type[^\n]*$/,
        );
      }
    });
    assert.deepEqual(changes, []);
  },

  'values that cannot be right: one line each, before anything is asked': ({ host, a }) => {
    const bad = [
      ['--network', 'foo:x'],
      ['--network', 'bridge:'],
      ['--network', 'bridge:sixteen-bytes-xx'],
      ['--network', 'br1', '--ifname', 'a/b'],
      ['--network', 'br1', '--host-ifname', 'sixteen-bytes-xx'],
      ['--network', 'br1', '--address', '10.0.0.1'],
      ['--network', 'br1', '--address', '10.0.0.1/33'],
      ['--network', 'br1', '--address', '10.0.0.1/24', '--address', '10.0.0.1/24'],
      ['--network', 'br1', '--gateway', '10.0.0.1/24'],
      ['--network', 'br1', '--gateway', '10.0.0.1', '--gateway', '10.0.0.2'],
      ['--network', 'br1', '--mac', '01:00:00:00:00:01'],
      ['--network', 'br1', '--mtu', '67'],
      ['--network', 'br1', '--mtu', '65536'],
      ['--network', 'br1', '--vlan', '10'],
      ['--network', 'ovs:ovs1', '--vlan', '4095'],
      ['--network', 'ovs:ovs1', '--vlan', '0'],
      ['--network', 'br1', '--mode', 'bridge'],
      ['--network', 'br1', '--route', '10.0.0.0/8 via fd00::1'],
      ['--network', 'br1', '--route', 'bogus'],
      ['--network', 'br1', '--nosuch'],
      ['--network'],
      [],
    ];
    const changes = changesBy(host, [a.pid], () => {
      for (const words of bad) {
        const { code, stdout, stderr } = host.pipewright(['attach', a.name, ...words], { expect: 'any' });
        assert.equal(`${code} ${stdout}`, '1 ', words.join(' '));
        assert.match(stderr, /^pipewright: [^\n]+\n$/, words.join(' '));
      }
    });
    assert.deepEqual(changes, []);
  },

  'an interface of that name that is not ours: refused, with what to do': ({ host, a }) => {
    nicOn(host, 'x');
    host.ip('link', 'set', 'x', 'netns', String(a.pid), 'name', 'eth1');
    const changes = changesBy(host, [a.pid], () => {
      const said = line(host.pipewright(['attach', a.name, '--network', 'br1'], { expect: 1 }));
      assert.match(said, /^pipewright: attach eth1 in [^\n]*not make it[^\n]*--ifname[^\n]*$/);
    });
    assert.deepEqual(changes, []);
  },

  'what pipework made, pipewright takes for its own': ({ host, a }) => {
    host.pipework(['br1', a.name, '10.0.0.1/24']);
    const { stdout } = host.pipewright(['attach', a.name, '--network', 'br1', '--address', '10.0.0.1/24']);
    assert.equal(stdout, `eth1 of ${a.name} is as asked: nothing to do\n`);
  },

  '--json is one JSON object, on both occasions': ({ host, a }) => {
    const words = ['attach', a.name, '--network', 'br1', '--address', '10.0.0.1/24', '--json'];
    const first = JSON.parse(host.pipewright(words).stdout);
    assert.deepEqual(
      { ...first, steps: first.steps.length > 0 },
      {
        container: a.name,
        runtime: 'docker',
        ifname: 'eth1',
        changed: true,
        dryRun: false,
        steps: true,
        warnings: [],
        hostIfname: `veth1pl${a.pid}`,
      },
    );
    assert.ok(first.steps.every((step: Record<string, string>) => step.command && step.because));
    const second = JSON.parse(host.pipewright(words).stdout);
    assert.deepEqual([second.changed, second.steps], [false, []]);
  },

  '--dry-run shows what would be done and changes nothing': ({ host, a }) => {
    let shown = '';
    const words = ['attach', a.name, '--network', 'br1', '--address', '10.0.0.1/24@10.0.0.254'];
    const changes = changesBy(host, [a.pid], () => {
      shown = host.pipewright([...words, '--dry-run']).stdout;
      assert.equal(JSON.parse(host.pipewright([...words, '--dry-run', '--json']).stdout).dryRun, true);
    });
    assert.deepEqual(changes, []);
    const done = host.pipewright(words).stdout;
    assert.equal(done, shown);
  },

  'a failure changes nothing and is told in one line': ({ host, a }) => {
    const changes = changesBy(host, [a.pid], () => {
      const words = [
        'attach',
        a.name,
        '--network',
        'br1',
        '--address',
        '10.5.0.5/24,10.6.0.5/24',
        '--gateway',
        '10.5.0.255',
      ];
      assert.match(
        line(host.pipewright(words, { expect: 1 })),
        /^pipewright: route\.replace default via 10\.5\.0\.255 on eth1 [^\n]*EINVAL[^\n]*$/,
      );
    });
    assert.deepEqual(changes, []);
  },

  'a pid and a named namespace are attached like any container': async ({ host, a }, t) => {
    const named = await plainNetns(t, 'atn');
    host.pipewright(['attach', `pid:${a.pid}`, '--network', 'br1', '--address', '10.0.0.1/24']);
    const { stdout } = host.pipewright([
      'attach',
      `netns:${named.name}`,
      '--network',
      'br1',
      '--address',
      '10.0.0.2/24',
    ]);
    assert.match(stdout, /type veth/);
    assert.equal(reaches(a.pid, '10.0.0.2'), true);
    assert.match(
      host.pipewright(['attach', `netns:${named.name}`, '--network', 'br1']).stdout,
      /nothing to do/,
    );
    host.pipewright(['detach', `netns:${named.name}`]);
    host.pipewright(['detach', `pid:${a.pid}`]);
    assert.deepEqual(host.links(), []);
  },
};

const children: Cases<Ground> = {
  'ipvlan in every mode': ({ host, a, b }) => {
    nicOn(host, 'phy0');
    host.pipewright(['attach', a.name, '--network', 'ipvlan:phy0', '--address', '10.0.0.1/24']);
    host.pipewright(['attach', b.name, '--network', 'ipvlan:phy0', '--address', '10.0.0.2/24']);
    assert.equal(ipLink(a.pid, 'eth1')?.linkinfo?.info_kind, 'ipvlan');
    assert.equal(reaches(a.pid, '10.0.0.2'), true);
    for (const mode of ['l3', 'l3s']) {
      nicOn(host, `n${mode}`);
      host.pipewright(['attach', a.name, '--network', `ipvlan:n${mode}`, '--mode', mode, '--ifname', mode]);
      assert.equal(ipLink(a.pid, mode)?.linkinfo?.info_data?.mode, mode);
    }
  },
};

test('pipewright attach', async (t) => {
  if (skipUnless(t, 'root', 'docker', 'macvlan', 'ipv6')) return;
  await runCases(t, await makeGround(t, 'at'), cases);
});

test('pipewright attach: ipvlan', async (t) => {
  if (skipUnless(t, 'root', 'docker', 'ipvlan')) return;
  await runCases(t, await makeGround(t, 'ai'), children);
});

test('pipewright attach to Open vSwitch, with a tag', async (t) => {
  if (skipUnless(t, 'root', 'ovs')) return;
  const bridge = `ovspwt${process.pid % 100_000}`;
  cleanupOvsBridge(t, bridge);
  const { pid } = await plainNetns(t, 'ao');
  const words = [
    'attach',
    `pid:${pid}`,
    '--network',
    `ovs:${bridge}`,
    '--vlan',
    '100',
    '--address',
    '10.0.0.1/24',
  ];
  const { stdout } = pipewright(words);
  assert.match(stdout, new RegExp(`^\\+ ovs-vsctl add-br ${bridge} {3}# `));
  assert.equal(ovsPort(`veth1pl${pid}`)?.tag, 100);
  assert.equal(pipewright(words).stdout, `eth1 of pid:${pid} is as asked: nothing to do\n`);
  assert.ok(ipRoutes(pid).some(({ dst }) => dst === '10.0.0.0/24'));
});
