import assert from 'node:assert/strict';
import { readdirSync } from 'node:fs';
import path from 'node:path';
import { describe, test } from 'node:test';
import { parseTopology } from '../../../src/config/topology/load.ts';
import type { AttachmentSpec, Topology } from '../../../src/model/topology.ts';
import { readTopologyFiles } from '../../../src/observe/topology-files.ts';

const parse = (...texts: string[]): Topology =>
  parseTopology(texts.map((text, at) => ({ file: `t${at + 1}.yaml`, text })));
const v4 = (ip: string, prefixLen: number) => ({ family: 4, ip, prefixLen });
const v6 = (ip: string, prefixLen: number) => ({ family: 6, ip, prefixLen });

describe('files that say nothing', () => {
  for (const text of ['', '\n', '# nothing yet\n', '---\n', '\ufeff', '{}', 'version: 1\n']) {
    test(JSON.stringify(text), () => {
      assert.deepEqual(parse(text), { networks: [], attachments: [], expects: [] });
    });
  }
  test('sections whose entries are commented out', () => {
    assert.deepEqual(parse('networks:\n#  lan: {}\nattachments:\nexpect:\n'), {
      networks: [],
      attachments: [],
      expects: [],
    });
  });
  test('no file', () => assert.deepEqual(parse(), { networks: [], attachments: [], expects: [] }));
});

describe('one network', () => {
  const rows: { text: string; want: Partial<Record<string, unknown>> }[] = [
    { text: '{ kind: bridge }', want: { kind: 'bridge', bridge: 'lan' } },
    { text: '{ kind: bridge, bridge: br0, mtu: 9000 }', want: { kind: 'bridge', bridge: 'br0', mtu: 9000 } },
    { text: '{ kind: ovs, bridge: ovs0, vlan: 4094 }', want: { kind: 'ovs', bridge: 'ovs0', vid: 4094 } },
    { text: '{ kind: macvlan, uplink: eth0 }', want: { kind: 'macvlan', uplink: 'eth0', mode: 'bridge' } },
    {
      text: '{ kind: macvlan, uplink: eth0, mode: vepa, vlan: 1 }',
      want: { kind: 'macvlan', uplink: 'eth0', mode: 'vepa', vid: 1 },
    },
    { text: '{ kind: ipvlan, uplink: eth0 }', want: { kind: 'ipvlan', uplink: 'eth0', mode: 'l2' } },
    { text: '{ kind: phys, uplink: eth0, vlan: 7 }', want: { kind: 'phys', uplink: 'eth0', vid: 7 } },
    { text: '{ kind: dummy }', want: { kind: 'dummy' } },
    {
      text: '{ kind: ovs, bridge: ovs0, trunks: [ 200, 0, 100 ] }',
      want: { kind: 'ovs', bridge: 'ovs0', trunks: [0, 100, 200] },
    },
    {
      text: '{ kind: ovs, bridge: ovs0, trunks: 100 }',
      want: { kind: 'ovs', bridge: 'ovs0', trunks: [100] },
    },
    {
      text: '{ kind: bridge, subnet: FD00::/64, gateway: fd00:0::1, hostAddress: "fd00::A/64" }',
      want: {
        kind: 'bridge',
        bridge: 'lan',
        subnets: [v6('fd00::', 64)],
        gateways: [{ family: 6, ip: 'fd00::1' }],
        hostAddresses: [v6('fd00::a', 64)],
      },
    },
    {
      text: '{ kind: bridge, gateway: fe80::1, subnet: fd00::/64, hostAddress: fe80::1/64 }',
      want: {
        kind: 'bridge',
        bridge: 'lan',
        subnets: [v6('fd00::', 64)],
        gateways: [{ family: 6, ip: 'fe80::1' }],
        hostAddresses: [v6('fe80::1', 64)],
      },
    },
  ];
  for (const { text, want } of rows) {
    test(text, () => {
      assert.deepEqual(parse(`networks:\n  lan: ${text}\n`).networks, [
        {
          name: 'lan',
          place: { file: 't1.yaml', line: 2, column: 3 },
          subnets: [],
          gateways: [],
          ranges: [],
          hostAddresses: [],
          ...want,
        },
      ]);
    });
  }
});

describe('ranges, without what is not to be given out', () => {
  const rows: [subnet: string, range: string, first: string, last: string][] = [
    ['10.0.0.0/24', '10.0.0.100-10.0.0.199', '10.0.0.100', '10.0.0.199'],
    ['10.0.0.0/24', '10.0.0.0 - 10.0.0.255', '10.0.0.1', '10.0.0.254'],
    ['10.0.0.0/24', '10.0.0.0/24', '10.0.0.1', '10.0.0.254'],
    ['10.0.0.0/16', '10.0.0.0/24', '10.0.0.1', '10.0.0.255'],
    ['10.0.0.0/24', '10.0.0.192/26', '10.0.0.192', '10.0.0.254'],
    ['10.0.0.4/31', '10.0.0.4/31', '10.0.0.4', '10.0.0.5'],
    ['10.0.0.4/30', '10.0.0.4-10.0.0.5', '10.0.0.5', '10.0.0.5'],
    ['fd00::/64', 'fd00::/64', 'fd00::1', 'fd00::ffff:ffff:ffff:ffff'],
    ['fd00::/127', 'fd00::/127', 'fd00::', 'fd00::1'],
    ['fd00::/64', 'fd00::100-fd00::1ff', 'fd00::100', 'fd00::1ff'],
  ];
  for (const [subnet, range, first, last] of rows) {
    test(`${range} of ${subnet}`, () => {
      const [network] = parse(
        `networks:\n  lan: { kind: bridge, subnet: "${subnet}", range: "${range}" }\n`,
      ).networks;
      assert.deepEqual(network?.ranges, [{ family: first.includes(':') ? 6 : 4, first, last }]);
    });
  }
});

describe('one attachment', () => {
  const plain = {
    place: { file: 't1.yaml', line: 4, column: 5 },
    selector: { by: 'name', name: 'web' },
    network: 'lan',
    ifname: 'eth1',
    addresses: [],
    gateways: [],
    routes: [],
    rules: [],
    sysctls: {},
  };
  const rows: { name?: string; text: string; want: object }[] = [
    { text: 'container: web', want: {} },
    { text: 'container: "web-*"', want: { selector: { by: 'pattern', pattern: 'web-*' } } },
    {
      text: 'container: { compose: shop/web }',
      want: { selector: { by: 'compose', project: 'shop', service: 'web' } },
    },
    {
      text: 'container: { label: "a.b/c=x = y" }',
      want: { selector: { by: 'label', key: 'a.b/c', value: 'x = y' } },
    },
    { text: 'container: { label: tier= }', want: { selector: { by: 'label', key: 'tier', value: '' } } },
    { text: 'container: { label: tier }', want: { selector: { by: 'label', key: 'tier' } } },
    {
      text: 'container: podman:web',
      want: { selector: { by: 'name', name: 'web', runtime: 'podman' } },
    },
    {
      text: 'container: "docker:web-*"',
      want: { selector: { by: 'pattern', pattern: 'web-*', runtime: 'docker' } },
    },
    { text: 'container: "123"', want: { selector: { by: 'name', name: '123' } } },
    { text: 'container: web, addresses: auto', want: { addresses: 'auto' } },
    { text: 'container: web, addresses: dhcp', want: { addresses: 'dhcp' } },
    {
      text:
        'container: web, addresses: dhcp, dhcp: { hostname: db, clientId: db-1, vendorClass: v, userClass: a, ' +
        'requestAddress: 10.0.0.9, options: { 43: "01:02", 124: text } }',
      want: {
        addresses: 'dhcp',
        dhcp: {
          hostName: 'db',
          // Type 0, RFC 2132, section 9.14.
          clientId: '0064622d31',
          vendorClass: 'v',
          userClasses: ['a'],
          requestAddress: '10.0.0.9',
          options: { 43: '0102', 124: '74657874' },
        },
      },
    },
    {
      text: 'container: web, addresses: dhcp, dhcp: { hostname: "", clientId: "01:02:00:00:00:00:01" }',
      want: { addresses: 'dhcp', dhcp: { hostName: '', clientId: '01020000000001' } },
    },
    {
      text: 'container: web, addresses: dhcp, ipv6: auto, dns: container',
      want: { addresses: 'dhcp', ipv6: { mode: 'auto', interfaceId: 'stable-privacy' }, dns: 'container' },
    },
    {
      text: 'container: web, ipv6: slaac, interfaceId: eui64',
      want: { ipv6: { mode: 'slaac', interfaceId: 'eui64' } },
    },
    { text: 'container: web, addresses: 10.0.0.2/24', want: { addresses: [v4('10.0.0.2', 24)] } },
    {
      text: 'container: web, addresses: [ 10.0.0.2/24, 10.0.0.3/32, "fd00::2/64" ]',
      want: { addresses: [v4('10.0.0.2', 24), v4('10.0.0.3', 32), v6('fd00::2', 64)] },
    },
    {
      text: 'container: web, gateway: [ 192.168.9.1, "fe80::1" ]',
      want: {
        gateways: [
          { family: 4, ip: '192.168.9.1' },
          { family: 6, ip: 'fe80::1' },
        ],
      },
    },
    { text: 'container: web, gateway: none', want: { noGateway: true } },
    { text: 'container: web, mac: 02:AA:00:00:00:01', want: { mac: '02:aa:00:00:00:01' } },
    { text: 'container: web, unique: my host', want: { unique: 'my host' } },
    { text: 'container: web, mtu: 1400, ifname: lan0', want: { mtu: 1400, ifname: 'lan0' } },
    {
      text: 'container: web, routes: [ 10.5.0.0/16 via 10.0.0.1, 10.6.0.9, { to: "fd01::/64" } ]',
      want: {
        routes: [
          { dst: v4('10.5.0.0', 16), gateway: '10.0.0.1' },
          { dst: v4('10.6.0.9', 32) },
          { dst: v6('fd01::', 64) },
        ],
      },
    },
    {
      text: 'container: web, routes: [ default via 10.0.0.1 table 100, 10.5.0.0/16 metric 50, { to: default, via: "fd00::1", metric: 7 }, { to: 10.5.0.0/16, table: main } ]',
      want: {
        routes: [
          { dst: v4('0.0.0.0', 0), gateway: '10.0.0.1', table: 100 },
          { dst: v4('10.5.0.0', 16), metric: 50 },
          { dst: v6('::', 0), gateway: 'fd00::1', metric: 7 },
          { dst: v4('10.5.0.0', 16), table: 254 },
        ],
      },
    },
    {
      text: 'container: web, rules: [ { from: 10.0.0.2, table: main } ]',
      want: { rules: [{ family: 4, from: v4('10.0.0.2', 32), table: 254 }] },
    },
    {
      text: 'container: web, rules: [ { from: 10.0.0.2, to: 10.0.0.0/8, table: 100 }, { to: "fd00::/64", table: 4294967295, priority: 5 } ]',
      want: {
        rules: [
          { family: 4, from: v4('10.0.0.2', 32), to: v4('10.0.0.0', 8), table: 100 },
          { family: 6, to: v6('fd00::', 64), table: 4294967295, priority: 5 },
        ],
      },
    },
    {
      text: 'container: web, sysctls: { ipv4.forwarding: 1, ipv6.accept_ra: "0" }',
      want: { sysctls: { 'ipv4/forwarding': '1', 'ipv6/accept_ra': '0' } },
    },
  ];
  for (const { text, want } of rows) {
    test(text, () => {
      const file = `networks:\n  lan: { kind: bridge, subnet: 10.0.0.0/24, range: 10.0.0.8/29 }\nattachments:\n  - { network: lan, ${text} }\n`;
      assert.deepEqual(parse(file).attachments, [{ ...plain, ...want }]);
    });
  }

  test('a VLAN of its own', () => {
    const file =
      'networks: { lan: { kind: ovs, vlan: 5 } }\nattachments: [ { container: web, network: lan, vlan: 6 } ]';
    assert.equal(parse(file).attachments[0]?.vid, 6);
  });

  const rates: [text: string, bits: number][] = [
    ['10mbit', 10e6],
    ['10 Mbit', 10e6],
    ['1.5gbit', 1.5e9],
    ['64000', 64_000],
    ['"64000"', 64_000],
    ['500kbps', 4e6],
    ['1mibit', 1_048_576],
    ['1kibps', 8192],
    ['10tbit', 1e13],
  ];
  for (const [text, bits] of rates) {
    test(`a rate of ${text}`, () => {
      const file = `networks: { lan: { kind: bridge } }\nattachments: [ { container: web, network: lan, rate: { in: ${text} } } ]`;
      assert.deepEqual(parse(file).attachments[0]?.rate, { in: bits });
    });
  }
});

describe('expectations', () => {
  const rows: { text: string; want: object }[] = [
    { text: 'web -> db', want: { from: 'web', to: 'db', reachable: true, probe: { protocol: 'ping' } } },
    {
      text: 'web -/-> db ping',
      want: { from: 'web', to: 'db', reachable: false, probe: { protocol: 'ping' } },
    },
    {
      text: 'web  ->  db  tcp/5432',
      want: { from: 'web', to: 'db', reachable: true, probe: { protocol: 'tcp', port: 5432 } },
    },
    {
      text: 'web -> FD00::1',
      want: { from: 'web', to: 'fd00::1', reachable: true, probe: { protocol: 'ping' } },
    },
  ];
  const base = 'networks: { lan: { kind: bridge } }\nattachments:\n';
  for (const { text, want } of rows) {
    test(text, () => {
      const file = `${base}  - { container: web, network: lan }\n  - { container: "d*", network: lan }\nexpect: [ "${text}" ]\n`;
      assert.deepEqual(parse(file).expects, [{ ...want, place: { file: 't1.yaml', line: 5, column: 11 } }]);
    });
  }
  test('any name can be that of a container with a label', () => {
    parse(`${base}  - { container: { label: tier }, network: lan }\nexpect: [ a -> b ]\n`);
  });
  test('containers of another file', () => {
    parse(
      `${base}  - { container: web, network: lan }\n`,
      'attachments: [ { container: db, network: lan } ]\nexpect: [ web -> db ]',
    );
  });
});

describe('what is right although it looks wrong', () => {
  const rows: [name: string, text: string][] = [
    [
      'one subnet, and one address, in two VLANs of a bridge',
      'networks:\n  a: { kind: ovs, bridge: ovs0, vlan: 1, subnet: 10.0.0.0/24 }\n  b: { kind: ovs, bridge: ovs0, vlan: 2, subnet: 10.0.0.0/24 }\n' +
        'attachments:\n  - { container: x, network: a, addresses: 10.0.0.1/24 }\n  - { container: y, network: b, addresses: 10.0.0.1/24 }\n',
    ],
    [
      'one link-local address and one MAC address on two bridges',
      'networks: { a: { kind: bridge }, b: { kind: bridge } }\n' +
        'attachments:\n  - { container: x, network: a, addresses: "fe80::1/64", mac: "02:00:00:00:00:01" }\n' +
        '  - { container: y, network: b, addresses: "fe80::1/64", mac: "02:00:00:00:00:01" }\n',
    ],
    [
      'one address on two dummies',
      'networks: { a: { kind: dummy } }\n' +
        'attachments:\n  - { container: x, network: a, addresses: 10.0.0.1/32 }\n  - { container: y, network: a, addresses: 10.0.0.1/32 }\n',
    ],
    [
      'a container that is the gateway of its network',
      'networks: { a: { kind: bridge, subnet: 10.0.0.0/24, gateway: 10.0.0.1 } }\n' +
        'attachments: [ { container: router, network: a, addresses: 10.0.0.1/24 } ]\n',
    ],
    [
      'two networks on one NIC, of two VLANs and two kinds',
      'networks:\n  a: { kind: macvlan, uplink: eth0 }\n  b: { kind: ipvlan, uplink: eth0, vlan: 5 }\n  c: { kind: phys, uplink: eth0, vlan: 6 }\n',
    ],
    [
      'one container with two interfaces, each on a network with a gateway',
      'networks: { a: { kind: bridge, gateway: 10.0.0.1 }, b: { kind: bridge, gateway: 10.1.0.1 } }\n' +
        'attachments:\n  - { container: x, network: a, addresses: 10.0.0.2/24 }\n  - { container: x, network: b, ifname: eth2, addresses: 10.1.0.2/24 }\n',
    ],
    [
      'aliases, << and x- keys',
      'x-common: &common { network: a, mtu: 1400 }\nnetworks: { a: { kind: bridge } }\n' +
        'attachments:\n  - { <<: *common, container: x }\n  - { <<: [ *common ], container: y, mtu: 1500 }\n',
    ],
  ];
  for (const [name, text] of rows) test(name, () => void parse(text));

  test('<< brings in what is not said', () => {
    const [, , last] = rows.map(([, text]) => text).slice(-3);
    const { attachments } = parse(last ?? '');
    assert.deepEqual(
      attachments.map(({ network, mtu }) => ({ network, mtu })),
      [
        { network: 'a', mtu: 1400 },
        { network: 'a', mtu: 1500 },
      ],
    );
  });
});

describe('examples', () => {
  const examples = path.join(process.env.PIPEWRIGHT_ROOT ?? process.cwd(), 'examples');
  for (const name of readdirSync(examples)) {
    test(name, () => {
      // As the first host, where it is about several.
      const { networks, attachments, expects } = parseTopology(
        readTopologyFiles([path.join(examples, name)]),
        name === 'hosts' ? 'a' : undefined,
      );
      assert.ok(networks.length > 0 && attachments.length > 0);
      // Whichever host is first reaches nobody yet: check is run when both are there.
      assert.ok(expects.length > 0 || name === 'hosts');
      assert.ok(readdirSync(path.join(examples, name)).includes('README.md'));
    });
  }
});

test('several files, in their order', () => {
  const lan = 'networks: { lan: { kind: bridge } }';
  const web = 'attachments: [ { container: web, network: lan } ]';
  const db = 'attachments: [ { container: db, network: lan } ]';
  const { attachments } = parse(web, lan, db);
  const name = ({ selector, place }: AttachmentSpec): string =>
    `${selector.by === 'name' ? selector.name : ''} ${place.file}`;
  assert.deepEqual(attachments.map(name), ['web t1.yaml', 'db t3.yaml']);
});
