import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { parseTopology } from '../../src/config/topology/load.ts';
import type { AttachmentSpec } from '../../src/model/topology.ts';
import { labelsOf, withLabels } from '../../src/plan/labels.ts';
import { type KnownContainer, resolveTopology } from '../../src/plan/topology.ts';

const networks = `
networks:
  lan: { kind: bridge, bridge: br0, subnet: 10.0.0.0/24, gateway: 10.0.0.254, range: 10.0.0.100-10.0.0.199 }
  lan.dmz: { kind: ovs, bridge: ovs0, vlan: 5 }
  nic: { kind: phys, uplink: eth9 }
  plain: { kind: bridge, bridge: br9 }
`;
const topology = parseTopology([{ file: 't.yaml', text: networks }]);

const container = (name: string, labels: Record<string, string>): KnownContainer => ({
  runtime: 'docker',
  id: `id-${name}`,
  name,
  labels,
});

/** What a label of `web` adds. */
function added(labels: Record<string, string>): readonly AttachmentSpec[] {
  const { topology: all, refused } = withLabels(topology, [container('web', labels)], new Map());
  assert.deepEqual(refused, []);
  return all.attachments;
}

/** The reasons, by key. */
function refusals(
  containers: readonly KnownContainer[],
  files = topology,
  remembered = new Map<string, string>(),
): string[] {
  return withLabels(files, containers, remembered).refused.map(({ key, why }) => `${key}: ${why}`);
}

describe('what labels say', () => {
  const plain = {
    place: { file: 'label pipewright.lan of web', line: 0, column: 0 },
    selector: { by: 'name', name: 'web' },
    network: 'lan',
    ifname: 'eth1',
    addresses: [],
    gateways: [],
    routes: [],
    rules: [],
    sysctls: {},
  };
  const v4 = (ip: string, prefixLen: number) => ({ family: 4, ip, prefixLen });
  const rows: [label: string, value: string, want: object][] = [
    ['lan', '', {}],
    ['lan', 'address=auto', { addresses: 'auto' }],
    ['lan', ' address = dhcp ', { addresses: 'dhcp' }],
    [
      'lan',
      'address=10.0.0.2/24,ifname=eth1,gateway=10.0.0.1,mac=02:00:00:00:00:01,mtu=1400,route=10.5.0.0/16 via 10.0.0.9',
      {
        addresses: [v4('10.0.0.2', 24)],
        gateways: [{ family: 4, ip: '10.0.0.1' }],
        mac: '02:00:00:00:00:01',
        mtu: 1400,
        routes: [{ dst: v4('10.5.0.0', 16), gateway: '10.0.0.9' }],
      },
    ],
    [
      'lan',
      'address=10.0.0.2/24,address=fd00::2/64,gateway=none,unique=my web,route=10.5.0.0/16@10.0.0.9 table 7,route=10.6.0.0/16',
      {
        addresses: [v4('10.0.0.2', 24), { family: 6, ip: 'fd00::2', prefixLen: 64 }],
        noGateway: true,
        unique: 'my web',
        routes: [{ dst: v4('10.5.0.0', 16), gateway: '10.0.0.9', table: 7 }, { dst: v4('10.6.0.0', 16) }],
      },
    ],
    [
      'lan',
      'rule=from 10.0.0.2 lookup 7 priority 5,rule=to 10.5.0.0/16 table main,rate-in=10mbit,rate-out=5mbit,sysctl.ipv4.forwarding=1',
      {
        rules: [
          { family: 4, from: v4('10.0.0.2', 32), table: 7, priority: 5 },
          { family: 4, to: v4('10.5.0.0', 16), table: 254 },
        ],
        rate: { in: 10e6, out: 5e6 },
        sysctls: { 'ipv4/forwarding': '1' },
      },
    ],
    ['lan.eth2', 'address=auto', { ifname: 'eth2', addresses: 'auto' }],
    ['lan.eth1.100', 'ifname=eth1.100', { ifname: 'eth1.100' }],
    // The longest name of a network goes before.
    ['lan.dmz', 'vlan=7', { network: 'lan.dmz', vid: 7 }],
    ['lan.dmz.eth3', 'trunks=200,trunks=100', { network: 'lan.dmz', ifname: 'eth3', trunks: [100, 200] }],
  ];
  for (const [label, value, want] of rows) {
    test(`${label}=${value}`, () => {
      const place = { ...plain.place, file: `label pipewright.${label} of web` };
      assert.deepEqual(added({ [`pipewright.${label}`]: value, other: 'x' }), [{ ...plain, place, ...want }]);
    });
  }

  test('several, in the order of their names, besides what a file says', () => {
    const specs = added({
      'pipewright.plain': 'ifname=eth3',
      'pipewright.lan.eth2': '',
      'pipewright.lan': '',
    });
    assert.deepEqual(
      specs.map(({ network, ifname }) => `${network} ${ifname}`),
      ['lan eth1', 'lan eth2', 'plain eth3'],
    );
  });
});

describe('labels that are wrong', () => {
  const rows: [label: string, value: string, why: string][] = [
    ['lna', '', 'there is no network "lna" in the topology; did you mean "lan"?'],
    ['lna.eth2', '', 'there is no network "lna.eth2" in the topology; did you mean "lan"?'],
    ['', '', 'there is no network "" in the topology'],
    [
      'lan',
      '10.0.0.2/24',
      '"10.0.0.2/24" is not WORD=VALUE; a label is as in address=10.0.0.2/24,ifname=eth1',
    ],
    ['lan', 'address=auto,', '"" is not WORD=VALUE; a label is as in address=10.0.0.2/24,ifname=eth1'],
    ['lan', 'adress=auto', 'unknown word "adress"; did you mean "address"?'],
    ['lan', 'addresses=auto', 'unknown word "addresses"; did you mean "address"?'],
    [
      'lan',
      'toString=1',
      'unknown word "toString"; known are address, gateway, ifname, mac, unique, vlan, trunks, mtu, mode, mirror, policing, route, rule, rate-in, rate-out, sysctl.NAME',
    ],
    ['lan', 'mtu=1400,mtu=1500', 'mtu is there twice'],
    ['lan', 'address=10.0.0.2', 'address[0]: "10.0.0.2" has no prefix length; write it as in 10.0.0.2/24'],
    ['lan', 'address=auto,address=10.0.0.2/24', 'address[0]: "auto" stands by itself, not in a list'],
    ['lan', 'address=10.9.0.2/24', '10.9.0.2/24 is not in 10.0.0.0/24, of the network lan'],
    ['plain', 'address=auto', 'address: auto needs a range, and the network plain has none'],
    ['lan', 'mtu=big', 'mtu: must be a number'],
    ['lan', 'mtu=12', 'mtu: must be from 68 to 65535 bytes'],
    ['lan', 'vlan=5000', 'vlan: must be from 1 to 4094'],
    [
      'lan.dmz',
      'vlan=5,trunks=5',
      'trunks: 5 is the vlan that goes without a tag; a port carries a VLAN with its tag or without: leave out one',
    ],
    ['lan', 'ifname=a/b', `ifname: "a/b" cannot be an interface's name: it contains a slash`],
    ['lan.eth2', 'ifname=eth3', "ifname: the label's name says eth2; leave out one"],
    ['lan', 'mac=x', 'mac: "x" is not a MAC address, as in 02:00:00:00:00:01'],
    ['lan', 'route=10.5.0.0/16 by x', 'route[0]: must be a route, as in 10.5.0.0/16 via 10.0.0.1'],
    [
      'lan',
      'rule=from 10.0.0.1',
      'rule: "from 10.0.0.1" is not a rule; write it as in from 10.0.0.2 table 100 priority 1000',
    ],
    ['lan', 'rule=table 7', 'a rule needs from or to'],
    ['lan', 'sysctl.__proto__=1', 'unknown word "sysctl.__proto__"; known are'],
    ['lan', `unique=${'x'.repeat(5000)}`, 'it is longer than 4096 characters'],
    ['lan', 'unique=\u001b[31m', 'unique: "\\u{1b}[31m" is not printable text of at most 255 letters'],
  ];
  for (const [label, value, why] of rows) {
    test(`${label}=${value.slice(0, 60)}`, () => {
      const [said = ''] = refusals([container('web', { [`pipewright.${label}`]: value })]);
      assert.ok(said.startsWith(`web/pipewright.${label}: ${why}`), said);
    });
  }

  test('one stops no other, of its container or another', () => {
    const containers = [
      container('web', { 'pipewright.lan': 'mtu=x', 'pipewright.lan.eth2': 'address=10.0.0.2/24' }),
      container('db', { 'pipewright.lan': 'address=10.0.0.3/24' }),
    ];
    const { topology: all, refused } = withLabels(topology, containers, new Map());
    assert.deepEqual(
      refused.map(({ key, container }) => `${key} ${container}`),
      ['web/pipewright.lan id-web'],
    );
    const { wanted } = resolveTopology(all, containers, { addresses: new Map() });
    assert.deepEqual(wanted.map(({ key }) => key).sort(), ['db/eth1', 'web/eth2']);
  });
});

describe('together with files and with each other', () => {
  const files = parseTopology([
    {
      file: 't.yaml',
      text: `${networks}
attachments:
  - { container: db, network: lan, addresses: 10.0.0.3/24 }
  - { container: "app*", network: lan, addresses: auto }
`,
    },
  ]);

  test('a file goes before a label, by name or by pattern', () => {
    const containers = [
      container('db', { 'pipewright.plain': 'address=10.0.0.4/24' }),
      container('app1', { 'pipewright.plain': '', 'pipewright.lan.eth2': 'gateway=none' }),
    ];
    assert.deepEqual(refusals(containers, files), []);
    const all = withLabels(files, containers, new Map()).topology;
    const { wanted, unwantable } = resolveTopology(all, containers, { addresses: new Map() });
    assert.deepEqual(unwantable, []);
    assert.deepEqual(
      wanted
        .map(({ key, attachment }) => `${key} ${'name' in attachment.network && attachment.network.name}`)
        .sort(),
      ['app1/eth1 br0', 'app1/eth2 br0', 'db/eth1 br0'],
    );
  });

  test('an address of a file, of a range, or of a label before is refused, and what is refused takes nothing', () => {
    const said = refusals(
      [
        container('a', { 'pipewright.lan': 'address=10.0.0.3/24,mac=02:00:00:00:00:0a' }),
        container('b', { 'pipewright.lan': 'address=10.0.0.9/24,mac=02:00:00:00:00:0a' }),
        container('c', { 'pipewright.lan': 'address=10.0.0.9/24' }),
        container('d', { 'pipewright.lan': 'address=10.0.0.150/24' }),
        container('e', { 'pipewright.lan': 'address=10.0.0.151/24' }),
      ],
      files,
      new Map([
        ['app1/eth1 lan 4', '10.0.0.150'],
        ['e/eth1 lan 4', '10.0.0.151'],
      ]),
    );
    assert.deepEqual(said, [
      'd/pipewright.lan: 10.0.0.150/24 was given out to app1/eth1; choose one outside of the range of lan, or auto',
      'a/pipewright.lan: 10.0.0.3 is given to another as well; see t.yaml:9:5',
      'c/pipewright.lan: 10.0.0.9 is given to another as well; see label pipewright.lan of b',
    ]);
  });

  test('one interface twice, one NIC twice, two gateways', () => {
    assert.deepEqual(
      refusals([
        container('a', { 'pipewright.lan': '', 'pipewright.plain': '' }),
        container('b', { 'pipewright.nic': 'ifname=eth5' }),
        container('c', { 'pipewright.nic': 'ifname=eth5' }),
        container('d', {
          'pipewright.lan': 'address=10.0.0.7/24,gateway=10.0.0.1',
          'pipewright.plain': 'ifname=eth2,gateway=10.3.0.1',
        }),
      ]),
      [
        'a/pipewright.plain: pipewright.lan gives it an eth1 already; say another ifname',
        'c/pipewright.nic: nic can be in one container only; see label pipewright.nic of b',
        'd/pipewright.plain: d has an IPv4 gateway by eth1 already; see label pipewright.lan of d',
      ],
    );
  });

  test('a range gives out no address that a label says', () => {
    const one = parseTopology([
      { file: 't.yaml', text: networks.replace('10.0.0.100-10.0.0.199', '10.0.0.100-10.0.0.101') },
    ]);
    const containers = [
      container('a', { 'pipewright.lan': 'address=auto' }),
      container('b', { 'pipewright.lan': 'address=10.0.0.100/24' }),
    ];
    const all = withLabels(one, containers, new Map()).topology;
    const { wanted } = resolveTopology(all, containers, { addresses: new Map() });
    assert.deepEqual(
      wanted.map(({ key, attachment }) => `${key} ${attachment.addrs[0]?.cidr?.ip}`),
      ['a/eth1 10.0.0.101', 'b/eth1 10.0.0.100'],
    );
  });

  test('labels are read once for each topology and container', () => {
    const web = container('web', { 'pipewright.lan': 'address=auto' });
    assert.equal(labelsOf(topology, web), labelsOf(topology, web));
    assert.notEqual(labelsOf(topology, web), labelsOf(files, web));
  });
});
