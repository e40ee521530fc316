/** Routes of other tables and metrics, with the rules that lead to them: from files, from commands, kept, taken away. */
import assert from 'node:assert/strict';
import test, { type TestContext } from 'node:test';
import {
  type Container,
  ipLink,
  ipRoutes,
  ipRules,
  jsonIn,
  ping,
  runContainer,
  runIn,
  skipUnless,
  sniff,
} from '../lab.ts';
import { type AgentHost, agentHost, soon } from './agent-ground.ts';
import { clear, defaults, nicOn } from './support.ts';

interface Ground {
  readonly host: AgentHost;
  readonly a: Container;
  readonly b: Container;
}

/** What both networks lead to. */
const far = '10.99.0.1';

const networks = `
networks:
  one: { kind: bridge, bridge: br1, subnet: 10.1.0.0/24, gateway: 10.1.0.254, hostAddress: 10.1.0.254/24 }
  two: { kind: bridge, bridge: br2, subnet: 10.2.0.0/24, hostAddress: 10.2.0.254/24 }
`;

/** A container on two networks, who answers by the one that it was asked by. */
function policy({ name }: Container, table = 'table: 100', metric = 50): string {
  return `${networks}
attachments:
  - container: ${name}
    network: one
    addresses: 10.1.0.1/24
    routes:
      - 10.5.0.0/16 via 10.1.0.9 metric ${metric}
      - { to: 10.5.0.0/16, via: 10.1.0.8, metric: 100 }
      - default via 10.1.0.9 metric 500
  - container: ${name}
    network: two
    ifname: eth2
    addresses: [10.2.0.1/24, "fd02::1/64"]
    routes:
      - { to: default, via: 10.2.0.254, ${table} }
      - { to: 10.6.0.0/16, ${table} }
      - { to: default, via: "fd02::fe", ${table}, metric: 9 }
    rules:
      - { from: 10.2.0.1, ${table}, priority: 1000 }
      - { from: "fd02::1", ${table} }
`;
}

function made(host: AgentHost, yaml: string): string {
  host.write(yaml);
  const ran = host.on('apply', '--yes');
  assert.equal(ran.code, 0, ran.stdout + ran.stderr);
  assert.equal(host.on('plan').stdout, 'nothing to do\n');
  return ran.stdout;
}

/** `DST via GATEWAY dev LINK metric METRIC` of one table. */
const routes = (pid: number, table: number, family: 4 | 6 = 4): string[] =>
  ipRoutes(pid, family, 'table', String(table))
    .map(({ dst, gateway, dev, metric }) => [dst, gateway ?? '-', dev, metric ?? '-'].join(' '))
    .sort();

/** By which interface a packet from this address would leave. */
const wayFrom = (pid: number, source: string): unknown =>
  jsonIn(pid, 'ip', ['-j', 'route', 'get', far, 'from', source])[0]?.dev;

const cases: Record<string, (ground: Ground, t: TestContext) => void | Promise<void>> = {
  'policy routing: each address answers by its own network': async ({ host, a }) => {
    host.ip('addr', 'add', `${far}/32`, 'dev', 'lo');
    const said = made(host, policy(a));
    assert.match(said, /route replace default via 10\.2\.0\.254 dev eth2 table 100 /);
    assert.deepEqual(routes(a.pid, 100), ['10.6.0.0/16 - eth2 -', 'default 10.2.0.254 eth2 -']);
    assert.deepEqual(routes(a.pid, 100, 6), ['default fd02::fe eth2 9']);
    assert.deepEqual(
      routes(a.pid, 254).filter((route) => /^(default|10\.5)/.test(route)),
      [
        '10.5.0.0/16 10.1.0.8 eth1 100',
        '10.5.0.0/16 10.1.0.9 eth1 50',
        'default 10.1.0.254 eth1 -',
        'default 10.1.0.9 eth1 500',
      ],
    );
    assert.deepEqual([wayFrom(a.pid, '10.1.0.1'), wayFrom(a.pid, '10.2.0.1')], ['eth1', 'eth2']);
    for (const [source, bridge] of [
      ['10.1.0.1', 'br1'],
      ['10.2.0.1', 'br2'],
    ] as const) {
      const { lines } = await sniff(host.name, bridge, `icmp and src ${source} and dst ${far}`, () => {
        assert.ok(ping(a.pid, '10.1.0.254', 3) && ping(a.pid, '10.2.0.254', 3));
        runIn(a.pid, 'ping', ['-n', '-c2', '-W1', '-I', source, far]);
      });
      assert.ok(lines.length > 0, `${source} goes by ${bridge}`);
    }
  },

  'another table and another metric are changed in place, and what was is gone': ({ host, a }) => {
    made(host, policy(a));
    const index = ipLink(a.pid, 'eth2')?.ifindex;
    made(host, policy(a, 'table: 70000', 60));
    assert.deepEqual(routes(a.pid, 100), []);
    assert.deepEqual(routes(a.pid, 70000), ['10.6.0.0/16 - eth2 -', 'default 10.2.0.254 eth2 -']);
    assert.deepEqual(
      routes(a.pid, 254).filter((route) => route.startsWith('10.5')),
      ['10.5.0.0/16 10.1.0.8 eth1 100', '10.5.0.0/16 10.1.0.9 eth1 60'],
    );
    assert.deepEqual(
      ipRules(a.pid).flatMap(({ table, priority }) =>
        table === 'main' || table === 'local' ? [] : [[table, priority].join()],
      ),
      ['default,32767', '70000,1000'].sort(),
    );
    assert.equal(wayFrom(a.pid, '10.2.0.1'), 'eth2');
    assert.equal(ipLink(a.pid, 'eth2')?.ifindex, index);
    made(
      host,
      `${networks}\nattachments:\n  - { container: ${a.name}, network: one, addresses: 10.1.0.1/24 }\n`,
    );
    assert.deepEqual(routes(a.pid, 70000), []);
    assert.equal(ipRules(a.pid).length, 3);
    assert.deepEqual(defaults(a.pid), ['via 10.1.0.254 dev eth1']);
    assert.ok(routes(a.pid, 254).every((route) => !route.startsWith('10.5')));
  },

  'the agent puts back a route of a table, one of a metric, and a rule': async ({ host, a }, t) => {
    host.write(policy(a));
    const agent = await host.agent(t);
    const rules = (): number => ipRules(a.pid).length + ipRules(a.pid, 6).length;
    const [first, six, main, ruled] = [
      routes(a.pid, 100),
      routes(a.pid, 100, 6),
      routes(a.pid, 254),
      rules(),
    ];
    for (const drift of [
      ['route', 'del', 'default', 'table', '100'],
      ['route', 'replace', 'default', 'via', '10.2.0.77', 'table', '100'],
      ['route', 'flush', 'table', '100'],
      ['-6', 'route', 'del', 'default', 'table', '100'],
      ['route', 'del', '10.5.0.0/16', 'metric', '50'],
      ['rule', 'del', 'priority', '1000'],
      ['link', 'set', 'eth2', 'down'],
    ]) {
      runIn(a.pid, 'ip', drift);
      const isRight = (): boolean =>
        routes(a.pid, 100).join() === first.join() &&
        routes(a.pid, 100, 6).join() === six.join() &&
        routes(a.pid, 254).join() === main.join() &&
        rules() === ruled;
      assert.ok((await soon(isRight)) !== undefined, `${drift.join(' ')}\n${agent.log()}`);
    }
    await agent.stop('SIGTERM');
  },

  'of a command, again, made anew on a NIC, and gone with detach': ({ host, a, b }) => {
    nicOn(host, 'nic0');
    const words = [
      ...['attach', a.name, '--network', 'bridge:br1', '--address', '10.1.0.1/24'],
      ...['--route', 'default via 10.1.0.254 table 100', '--route', '10.5.0.0/16@10.1.0.9 metric 7'],
      ...['--route', '10.7.0.0/16 table main'],
    ];
    const all = (): string[] => [...routes(a.pid, 100), ...routes(a.pid, 254)];
    host.pipewright(words);
    const before = all();
    assert.deepEqual(before, [
      'default 10.1.0.254 eth1 -',
      '10.1.0.0/24 - eth1 -',
      '10.5.0.0/16 10.1.0.9 eth1 7',
      '10.7.0.0/16 - eth1 -',
    ]);
    assert.match(host.pipewright(words).stdout, /nothing to do/);
    host.pipewright(['attach', a.name, '--network', 'macvlan:nic0']);
    assert.equal(ipLink(a.pid, 'eth1')?.linkinfo?.info_kind, 'macvlan');
    assert.deepEqual(all(), before);
    host.pipewright(['detach', a.name]);
    assert.deepEqual(all(), []);
    const said = host.pipewright(['attach', b.name, '--network', 'br1', '--route', 'default via 10.1.0.9'], {
      expect: 1,
    });
    assert.match(said.stderr, /--route .*it is the default route: use --gateway, or say a table or a metric/);
  },
};

test('routes of tables and metrics', async (t) => {
  if (skipUnless(t, 'root', 'docker', 'macvlan', 'ipv6', 'program:tcpdump')) return;
  const ground: Ground = {
    host: await agentHost(t, 'trt'),
    a: runContainer(t, 'trta', { args: ['--sysctl', 'net.ipv6.conf.all.disable_ipv6=0'] }),
    b: runContainer(t, 'trtb'),
  };
  for (const [name, act] of Object.entries(cases)) {
    await t.test(name, async (t) => {
      clear(ground);
      await act(ground, t);
    });
  }
});
