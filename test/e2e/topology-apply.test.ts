/** `plan`, `apply`, `status` and `destroy` of a topology file, from the user's side. */
import assert from 'node:assert/strict';
import test, { type TestContext } from 'node:test';
import {
  type Container,
  cidrs,
  ensureImage,
  ipLink,
  ipRoutes,
  ipRules,
  linkExists,
  ping,
  run,
  runContainer,
  runIn,
  skipUnless,
} from '../lab.ts';
import { type AgentHost, agentHost, applied } from './agent-ground.ts';
import { changesBy, clear, connected, defaults, linkNames, nicOn } from './support.ts';

interface Ground {
  readonly host: AgentHost;
  readonly a: Container;
  readonly b: Container;
}

const lan = 'lan: { kind: bridge, bridge: br0, subnet: 10.1.0.0/24, hostAddress: 10.1.0.254/24 }';

/** A file of these networks and attachments, each a YAML flow mapping. */
function file(
  networks: readonly string[],
  attachments: readonly string[],
  expects: readonly string[] = [],
): string {
  const list = (items: readonly string[]): string => items.map((item) => `  - ${item}\n`).join('');
  return [
    `networks:\n${networks.map((network) => `  ${network}\n`).join('')}`,
    `attachments:\n${list(attachments)}`,
    ...(expects.length > 0 ? [`expect:\n${list(expects)}`] : []),
  ].join('');
}

const on = (container: Container, rest: string): string =>
  `{ container: ${container.name}, network: lan, ${rest} }`;

const cases: Record<string, (ground: Ground, t: TestContext) => void | Promise<void>> = {
  'plan says 2 and changes nothing, apply makes it, status is well, destroy leaves everything as before': ({
    host,
    a,
    b,
  }) => {
    const yaml = file(
      [lan],
      [on(a, 'addresses: 10.1.0.1/24'), on(b, 'addresses: 10.1.0.2/24, gateway: 10.1.0.254')],
    );
    host.write(yaml);
    const changes = changesBy(host, [a.pid, b.pid], () => {
      assert.deepEqual(
        changesBy(host, [a.pid, b.pid], () => {
          const plan = host.on('plan');
          assert.equal(plan.code, 2, plan.stderr);
          assert.match(plan.stdout, /\+ network lan/);
          assert.equal(plan.stdout.split('ip link add br0').length, 2, plan.stdout);
          assert.match(plan.stdout, new RegExp(`\\+ ${a.name}/eth1`));
        }),
        [],
      );
      applied(host, yaml);
      assert.deepEqual(cidrs(a.pid, 'eth1'), ['10.1.0.1/24']);
      assert.deepEqual(cidrs(host.name, 'br0'), ['10.1.0.254/24']);
      assert.deepEqual(defaults(b.pid), ['via 10.1.0.254 dev eth1']);
      assert.ok(ping(a.pid, '10.1.0.2', 3) && ping(host.name, '10.1.0.1', 3));
      assert.equal(host.on('status').code, 0);
      const planned = host.pipewright(['destroy', '--dry-run']).stdout.split('\n');
      const taken = host.pipewright(['destroy']).stdout.split('\n');
      assert.deepEqual(
        taken.filter((line) => !planned.includes(line)),
        [],
      );
    });
    assert.deepEqual(changes, []);
    assert.deepEqual(host.notes(), []);
    assert.equal(host.on('status').code, 1);
  },

  'plan says 1 of what cannot be had, and of a file that is wrong': ({ host, a }) => {
    host.write(file(['lan: { kind: macvlan, uplink: nothere0 }'], [on(a, 'addresses: 10.1.0.1/24')]));
    const plan = host.on('plan');
    assert.equal(plan.code, 1);
    assert.match(plan.stdout, /nothere0/);
    host.write('networks:\n  lan: { kind: bridge, uplnk: eth0 }\n');
    const wrong = host.on('plan');
    assert.equal(wrong.code, 1);
    assert.match(wrong.stderr, /pipewright\.yaml:2:\d+/);
  },

  'edits are made in place': ({ host, a }) => {
    const variants = [
      'addresses: 10.1.0.1/24',
      'addresses: 10.1.0.9/24',
      'addresses: [10.1.0.9/24, 10.1.0.10/24]',
      'addresses: 10.1.0.9/24, mtu: 1400',
      'addresses: 10.1.0.9/24, mtu: 1400, gateway: 10.1.0.254',
      'addresses: 10.1.0.9/24, mtu: 1400, routes: [10.5.0.0/16 via 10.1.0.254]',
      'addresses: 10.1.0.9/24, mtu: 1400, routes: [10.5.0.0/16 via 10.1.0.253]',
      'addresses: 10.1.0.9/24, rules: [{ from: 10.1.0.9, table: 100, priority: 1000 }]',
      'addresses: 10.1.0.9/24, rate: { in: 8mbit, out: 4mbit }',
      'addresses: 10.1.0.9/24, sysctls: { ipv4.rp_filter: 2 }',
      "addresses: 10.1.0.9/24, mac: '02:00:00:00:00:09'",
    ];
    const seen = variants.map((rest) => {
      applied(host, file([lan], [on(a, rest)]));
      return ipLink(a.pid, 'eth1')?.ifindex;
    });
    assert.equal(new Set(seen).size, 1, `re-created: ${seen.join(' ')}`);
    assert.deepEqual(cidrs(a.pid, 'eth1'), ['10.1.0.9/24']);
    assert.equal(ipLink(a.pid, 'eth1')?.address, '02:00:00:00:00:09');
    // What is asked for no more is as it was.
    assert.deepEqual(
      ['/proc/sys/net/ipv4/conf/eth1/rp_filter', '/proc/sys/net/ipv4/conf/default/rp_filter'].map((file) =>
        runIn(a.pid, 'cat', [file]).stdout.trim(),
      ),
      ['0', '0'],
    );
  },

  'the plan says what is new, changed in place, made anew, and taken away': ({ host, a, b }) => {
    nicOn(host, 'nic0');
    const signs = (yaml: string): string[] => {
      host.write(yaml);
      const { stdout } = host.on('plan');
      const { changes } = JSON.parse(host.on('plan', '--json').stdout) as {
        changes: { key: string; verb: string; change?: string }[];
      };
      applied(host, yaml);
      const said = stdout.split('\n').filter((line) => /^\S/.test(line));
      const words: Record<string, string> = { create: '+', update: '~', replace: '-/+' };
      assert.deepEqual(
        changes.map(({ key, change }) => `${words[change ?? ''] ?? '-'} ${key}`),
        said,
      );
      return said.map((line) => line.replace(a.name, 'a').replace(b.name, 'b'));
    };
    const own = on(a, 'addresses: 10.1.0.1/24');
    assert.deepEqual(signs(file([lan], [own])), ['+ network lan', '+ a/eth1']);
    const moved = on(a, 'addresses: 10.1.0.2/24');
    assert.deepEqual(signs(file([lan], [moved, on(b, '')])), ['~ a/eth1', '+ b/eth1']);
    assert.deepEqual(signs(file([lan.replace('254', '253')], [moved])), ['- b/eth1', '~ network lan']);
    const nic = ['lan: { kind: macvlan, uplink: nic0 }'];
    assert.deepEqual(signs(file(nic, [moved])), ['-/+ a/eth1']);
  },

  'what an edit takes out of the file goes': ({ host, a }) => {
    const bare = file([lan], [on(a, 'addresses: 10.1.0.1/24')]);
    applied(host, bare);
    const look = (): unknown => ({
      routes: connected(a.pid),
      defaults: defaults(a.pid),
      rules: ipRules(a.pid).map(({ priority }) => priority),
      qdiscs: runIn(a.pid, 'tc', ['qdisc', 'show', 'dev', 'eth1']).stdout.replace(/ [0-9a-f]+:/, ''),
    });
    const before = look();
    for (const rest of [
      'gateway: 10.1.0.254',
      'routes: [10.5.0.0/16 via 10.1.0.254]',
      'rate: { in: 8mbit, out: 4mbit }',
      'rules: [{ from: 10.1.0.1, table: 100, priority: 1000 }]',
      'rules: [{ to: 10.9.0.0/16, table: 101, priority: 1001 }]',
    ]) {
      applied(host, file([lan], [on(a, `addresses: 10.1.0.1/24, ${rest}`)]));
      assert.notDeepEqual(look(), before, rest);
      applied(host, bare);
      assert.deepEqual(look(), before, rest);
    }
  },

  'an attachment and a network that are in the file no more go, and nothing else': ({ host, a, b }) => {
    const other = 'other: { kind: bridge, bridge: br1, subnet: 10.2.0.0/24, hostAddress: 10.2.0.254/24 }';
    const onOther = `{ container: ${a.name}, network: other, ifname: eth2, addresses: 10.2.0.1/24 }`;
    const both = [on(a, 'addresses: 10.1.0.1/24'), on(b, 'addresses: 10.1.0.2/24')];
    applied(host, file([lan, other], [...both, onOther]));
    applied(host, file([lan, other], both));
    assert.equal(linkExists(a.pid, 'eth2'), false);
    assert.equal(linkExists(host.name, 'br1'), true);
    applied(host, file([lan], both.slice(1)));
    assert.equal(linkExists(host.name, 'br1'), false);
    assert.deepEqual(linkNames(a.pid), []);
    assert.deepEqual(cidrs(b.pid, 'eth1'), ['10.1.0.2/24']);
    assert.equal(host.links().length, 2);
  },

  'a network that moves to another bridge takes its attachments along, and loses its host address': ({
    host,
    a,
    b,
  }) => {
    const both = [on(a, 'addresses: 10.1.0.1/24'), on(b, 'addresses: 10.1.0.2/24')];
    applied(host, file([lan], both));
    const index = ipLink(a.pid, 'eth1')?.ifindex;
    applied(host, file([lan.replace('br0', 'br1')], both));
    assert.equal(linkExists(host.name, 'br0'), false);
    assert.equal(ipLink(a.pid, 'eth1')?.ifindex, index);
    assert.ok(ping(host.name, '10.1.0.1', 3));
    applied(host, file([lan.replace('br0', 'br1').replace(', hostAddress: 10.1.0.254/24', '')], both));
    assert.deepEqual(cidrs(host.name, 'br1'), []);
    assert.equal(host.links().length, 3);
  },

  'what fails is undone by itself and told in a table, the rest is made': ({ host, a, b }) => {
    runIn(a.pid, 'ip', ['link', 'add', 'eth1', 'type', 'veth', 'peer', 'name', 'foreign']);
    host.write(
      file(
        [lan],
        [
          on(a, 'addresses: 10.1.0.1/24, routes: [10.5.0.0/16 via 10.77.0.1]'),
          on(b, 'addresses: 10.1.0.2/24'),
        ],
      ),
    );
    const before = linkNames(a.pid);
    const ran = host.on('apply', '--yes');
    assert.equal(ran.code, 1);
    assert.match(ran.stdout, /FAILED\s+WHY/);
    assert.match(ran.stdout, new RegExp(`${a.name}/eth1 `));
    assert.deepEqual(linkNames(a.pid), before);
    assert.deepEqual(cidrs(a.pid, 'eth1'), []);
    assert.deepEqual(cidrs(b.pid, 'eth1'), ['10.1.0.2/24']);
    assert.equal(host.links().length, 2);
    assert.equal(host.on('plan').code, 1);
  },

  'expectations: the matrix is printed, one that is unmet is exit code 1, and --rollback takes all back': ({
    host,
    a,
    b,
  }) => {
    const both = [on(a, 'addresses: 10.1.0.1/24'), on(b, 'addresses: 10.1.0.2/24')];
    host.write(file([lan], both, [`${a.name} -/-> ${b.name}`, `${b.name} -> ${a.name}`]));
    const changes = changesBy(host, [a.pid, b.pid], () => {
      const ran = host.on('apply', '--yes', '--rollback');
      assert.equal(ran.code, 1);
      assert.match(ran.stdout, /taken back/);
    });
    assert.deepEqual(changes, []);
    assert.deepEqual(host.notes(), []);
    const kept = host.on('apply', '--yes');
    assert.equal(kept.code, 1);
    assert.match(kept.stdout, /FROM\s+TO\s+PROBE\s+EXPECTED\s+SEEN/);
    assert.match(kept.stdout, /not reachable\s+reachable !/);
    assert.deepEqual(cidrs(a.pid, 'eth1'), ['10.1.0.1/24']);
    applied(host, file([lan], both, [`${a.name} -> ${b.name}`, `${a.name} -/-> ${b.name} tcp/81`]));
  },

  'an edit that is taken back leaves the attachments as they were': ({ host, a, b }) => {
    const both = (mtu: string): string[] => [
      on(a, `addresses: 10.1.0.1/24${mtu}`),
      on(b, `addresses: 10.1.0.2/24${mtu}`),
    ];
    applied(host, file([lan], both('')));
    host.write(file([lan], both(', mtu: 1400'), [`${a.name} -/-> ${b.name}`]));
    const changes = changesBy(host, [a.pid, b.pid], () => {
      assert.equal(host.on('apply', '--yes', '--rollback').code, 1);
    });
    assert.deepEqual(changes, []);
    applied(host, file([lan], both('')));
  },

  'an address that was given out is given again to the container of that name': ({ host, a }, t) => {
    const range = 'lan: { kind: bridge, bridge: br0, subnet: 10.1.0.0/24, range: 10.1.0.100-10.1.0.119 }';
    const name = `pwt-tpauto-${process.pid}`;
    const start = (): number => {
      run('docker', [
        'run',
        '-d',
        '--name',
        name,
        '--label',
        `pwt.pid=${process.pid}`,
        '--network',
        'none',
        ensureImage(),
      ]);
      return Number(run('docker', ['inspect', '-f', '{{.State.Pid}}', name]).stdout);
    };
    t.after(() => void run('docker', ['rm', '-f', name], { expect: 'any' }));
    const yaml = file(
      [range],
      [`{ container: '${name}', network: lan, addresses: auto }`, on(a, 'addresses: auto')],
    );
    const first = start();
    applied(host, yaml);
    const given = cidrs(first, 'eth1');
    assert.match(given.join(), /^10\.1\.0\.1[01]\d\/24$/);
    assert.notDeepEqual(cidrs(a.pid, 'eth1'), given);
    run('docker', ['rm', '-f', name]);
    applied(host, yaml);
    assert.equal(host.links().length, 2);
    applied(host, yaml);
    const second = start();
    applied(host, yaml);
    assert.deepEqual(cidrs(second, 'eth1'), given);
  },

  'containers are selected by pattern and by label': ({ host, a, b }) => {
    const range = 'lan: { kind: bridge, bridge: br0, subnet: 10.1.0.0/24, range: 10.1.0.100-10.1.0.119 }';
    applied(host, file([range], [`{ container: 'pwt-tp?-${process.pid}', network: lan, addresses: auto }`]));
    assert.equal(cidrs(a.pid, 'eth1').length + cidrs(b.pid, 'eth1').length, 2);
    applied(host, file([range], [`{ container: { label: pwt.role=db }, network: lan, addresses: auto }`]));
    assert.deepEqual([linkNames(a.pid), linkNames(b.pid)], [[], ['eth1']]);
  },

  'what is asked for no more goes, although an address is asked for on the link in the middle of it': (
    { host, a },
    t,
  ) => {
    if (skipUnless(t, 'tbf')) return;
    const range = lan.replace(' }', ', range: 10.1.0.100-10.1.0.150 }');
    const route = '10.9.0.0/16 via 10.1.0.99';
    const rate = 'rate: { in: 8mbit, out: 8mbit }';
    applied(host, file([range], [on(a, `addresses: 10.1.0.1/24, routes: [${route}], ${rate}`)]));
    applied(host, file([range], [on(a, 'addresses: auto')]));
    assert.match(cidrs(a.pid, 'eth1').join(), /^10\.1\.0\.1\d\d\/24$/);
    assert.deepEqual(
      ipRoutes(a.pid).map(({ dst }) => dst),
      ['10.1.0.0/24'],
    );
    const inside = runIn(a.pid, 'tc', ['qdisc', 'show', 'dev', 'eth1']).stdout;
    const outside = host.run('tc', ['qdisc', 'show', 'dev', `veth1pl${a.pid}`]).stdout;
    assert.doesNotMatch(inside + outside, /tbf/);
  },

  'macvlan: the host has an interface of its own and reaches the container; both go': (ground, t) => {
    if (skipUnless(t, 'macvlan')) return;
    const { host, a } = ground;
    nicOn(host, 'nic0');
    const before = host.links();
    const network = 'lan: { kind: macvlan, uplink: nic0, subnet: 10.1.0.0/24, hostAddress: 10.1.0.254/24 }';
    const yaml = file([network], [on(a, 'addresses: 10.1.0.1/24')]);
    applied(host, yaml);
    assert.equal(ipLink(host.name, 'pwh-lan')?.linkinfo?.info_kind, 'macvlan');
    assert.ok(ping(host.name, '10.1.0.1', 3));
    applied(host, yaml.replace('10.1.0.254/24', '10.1.0.253/24'));
    assert.deepEqual(cidrs(host.name, 'pwh-lan'), ['10.1.0.253/24']);
    // Another NIC, and another mode: it is made anew, as the containers' interfaces are.
    nicOn(host, 'nic1');
    const other = host.links();
    const elsewhere = yaml.replace('uplink: nic0', 'uplink: nic1');
    applied(host, elsewhere);
    assert.equal(ipLink(host.name, 'pwh-lan')?.link, 'nic1');
    assert.ok(ping(host.name, '10.1.0.1', 3));
    applied(host, elsewhere.replace('uplink: nic1', 'uplink: nic1, mode: vepa'));
    assert.equal(ipLink(host.name, 'pwh-lan')?.linkinfo?.info_data?.mode, 'vepa');
    // Taken back, it is where it was.
    host.write(`${yaml}expect:\n  - ${a.name} -> 10.1.0.77\n`);
    assert.equal(host.on('apply', '--yes', '--rollback').code, 1);
    assert.deepEqual(
      [ipLink(host.name, 'pwh-lan')?.link, ipLink(host.name, 'pwh-lan')?.linkinfo?.info_data?.mode],
      ['nic1', 'vepa'],
    );
    assert.deepEqual(cidrs(host.name, 'pwh-lan'), ['10.1.0.254/24']);
    host.pipewright(['destroy']);
    assert.deepEqual(
      [before, host.links()],
      [other.filter((name) => !/^(nic1|pwh-)/.test(name)), other.filter((name) => !name.startsWith('pwh-'))],
    );
    assert.deepEqual(linkNames(a.pid), []);
    assert.deepEqual(host.notes(), []);
  },

  "destroy takes nothing that is somebody else's": ({ host, a, b }) => {
    // With a port, so that it has a carrier and a MAC address before and after.
    nicOn(host, 'nic0');
    host.ip('link', 'add', 'br0', 'address', '02:00:00:00:01:00', 'type', 'bridge');
    host.ip('link', 'set', 'nic0', 'master', 'br0');
    host.ip('link', 'set', 'br0', 'up');
    host.ip('addr', 'add', '10.1.0.250/24', 'dev', 'br0');
    host.ip('addr', 'add', '10.1.0.254/24', 'dev', 'br0');
    runIn(b.pid, 'ip', ['link', 'add', 'eth7', 'type', 'veth', 'peer', 'name', 'foreign']);
    const changes = changesBy(host, [a.pid, b.pid], () => {
      applied(host, file([lan], [on(a, 'addresses: 10.1.0.1/24'), on(b, 'addresses: 10.1.0.2/24')]));
      host.pipewright(['destroy']);
    });
    assert.deepEqual(changes, []);
  },
};

test('topology files', async (t) => {
  if (skipUnless(t, 'root', 'docker')) return;
  const ground: Ground = {
    host: await agentHost(t, 'tph'),
    a: runContainer(t, 'tpa'),
    b: runContainer(t, 'tpb', { args: ['--label', 'pwt.role=db'] }),
  };
  for (const [name, act] of Object.entries(cases)) {
    await t.test(name, async (t) => {
      clear(ground);
      run('rm', ['-rf', ground.host.lasting]);
      assert.deepEqual(ipRoutes(ground.a.pid), []);
      await act(ground, t);
    });
  }
});
