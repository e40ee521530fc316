import assert from 'node:assert/strict';
import test from 'node:test';
import { importHost } from '../../src/config/import-host.ts';
import { parseTopology } from '../../src/config/topology/load.ts';
import type { Network, OvsVlans } from '../../src/model/attachment.ts';
import type { FoundContainer, FoundHost, FoundInterface } from '../../src/model/found.ts';
import type { Addr, Route } from '../../src/model/link.ts';
import type { AttachmentRecord } from '../../src/model/observed.ts';
import type { NotedNetwork } from '../../src/model/topology.ts';
import { addr, link, recordOf, route, wanted } from '../plan/support.ts';

interface Some {
  readonly ifname?: string;
  readonly network: FoundInterface['network'];
  readonly addrs?: readonly Addr[];
  readonly routes?: readonly Route[];
  readonly mtu?: number;
  readonly record?: AttachmentRecord;
}

function found({
  ifname = 'eth1',
  network,
  addrs = [],
  routes = [],
  mtu = 1500,
  record,
}: Some): FoundInterface {
  const there = { link: link(ifname, 7, { mac: '02:00:00:00:00:07', mtu }), addrs, routes };
  return { ifname, there, network, defaultMtu: 1500, record };
}

const container = (name: string, ...interfaces: readonly Some[]): FoundContainer => ({
  name,
  interfaces: interfaces.map(found),
  rules: [],
});

const host = (containers: readonly FoundContainer[], networks: readonly NotedNetwork[] = []): FoundHost => ({
  networks,
  containers,
  notes: [],
});

/** The file and what the program understands of it. */
function imported(what: FoundHost) {
  const { yaml, notes } = importHost(what);
  const { networks, attachments } = parseTopology([{ file: 'i.yaml', text: yaml }]);
  return { yaml, notes, networks, attachments };
}

const br1: Network = { kind: 'bridge', name: 'br1' };
const noted: NotedNetwork = {
  kind: 'ovs',
  name: 'lan',
  bridge: 'ovs0',
  vid: 100,
  subnets: [{ family: 4, ip: '10.0.0.0', prefixLen: 24 }],
  gateways: [{ family: 4, ip: '10.0.0.254' }],
  ranges: [{ family: 4, first: '10.0.0.100', last: '10.0.0.110' }],
  hostAddresses: [],
  mtu: 1400,
};

test('containers of two engines with the same name', () => {
  const nets: Network[] = [br1, { kind: 'bridge', name: 'br2' }];
  const names = ['docker:web', 'podman:web'];
  const { notes, attachments } = imported(
    host(names.map((name, at) => container(name, { network: nets[at] ?? br1, record: recordOf() }))),
  );
  assert.deepEqual(notes, []);
  assert.deepEqual(
    attachments.map(({ selector }) => selector),
    [
      { by: 'name', name: 'web', runtime: 'docker' },
      { by: 'name', name: 'web', runtime: 'podman' },
    ],
  );
});

test('kinds of networks that others have made', () => {
  const { yaml, notes, networks } = imported(
    host([
      container(
        'web',
        { network: br1, addrs: [addr('10.0.0.2/24', 7)] },
        { ifname: 'eth2', network: { kind: 'phys', uplink: 'enp3s0' } },
        { ifname: 'eth3', network: { kind: 'ipvlan', uplink: 'eth0', mode: 'l3', vid: 7 } },
        { ifname: 'eth4', network: { kind: 'macvlan', uplink: 'eth0', mode: 'private' } },
        { ifname: 'eth5', network: { kind: 'ovs', name: 'ovs0', trunks: [100, 200] } },
        { ifname: 'eth6', network: { kind: 'phys', uplink: 'eth9', vid: 5 }, mtu: 1496 },
      ),
    ]),
  );
  assert.deepEqual(notes, []);
  assert.deepEqual(
    networks.map(({ name, kind }) => `${name} ${kind}`),
    [
      'br1 bridge',
      'enp3s0-phys phys',
      'eth0-7-ipvlan ipvlan',
      'eth0 macvlan',
      'ovs0-trunk ovs',
      'eth9-5-phys phys',
    ],
  );
  assert.equal(yaml.match(/made by something else/g)?.length, 6);
  // A MAC address is said of interfaces that have their own.
  assert.equal(yaml.match(/mac: 02:00:00:00:00:07/g)?.length, 3);
  assert.match(yaml, /mtu: 1496/);
});

test('what a port of Open vSwitch does with VLANs is its network: another way is another network', () => {
  const on = (more: object): Network => ({ kind: 'ovs', name: 'ovs0', ...more });
  const record = recordOf();
  const { notes, networks, attachments } = imported(
    host([
      container(
        'web',
        { ifname: 'i0', network: on({ vid: 10, trunks: [20], vlanMode: 'native-tagged' }), record },
        { ifname: 'i1', network: on({ vid: 10, trunks: [20], vlanMode: 'native-untagged' }), record },
        { ifname: 'i2', network: on({ vid: 11, trunks: [21], vlanMode: 'native-tagged' }), record },
        { ifname: 'i3', network: on({ vid: 12 }), record },
        { ifname: 'i4', network: on({ vid: 13, internal: true }), record },
        {
          ifname: 'i5',
          network: on({ vid: 3, vlanMode: 'dot1q-tunnel', cvlans: [7], qinqEthtype: '802.1q' }),
          record,
        },
        { ifname: 'i6', network: on({}), record },
      ),
    ]),
  );
  assert.deepEqual(notes, []);
  const ports = (spec: object): string => {
    const { vid, trunks, vlanMode, cvlans, qinqEthtype, internal } = spec as OvsVlans & {
      internal?: boolean;
    };
    return [vid, trunks, vlanMode, cvlans, qinqEthtype, internal].map((part) => part ?? '-').join(' ');
  };
  assert.deepEqual(
    networks.map((network) => `${network.name}: ${ports(network)}`),
    [
      'ovs0-10-trunk: 10 20 native-tagged - - -',
      'ovs0-10-trunk_2: 10 20 - - - -',
      'ovs0-3: 3 - dot1q-tunnel 7 802.1q -',
      'ovs0: - - - - - -',
    ],
  );
  assert.deepEqual(
    attachments.map((one) => `${one.ifname} ${one.network}: ${ports(one)}`),
    [
      'i0 ovs0-10-trunk: - - - - - -',
      'i1 ovs0-10-trunk_2: - - - - - -',
      'i2 ovs0-10-trunk: 11 21 - - - -',
      'i3 ovs0-10-trunk_2: 12 - - - - -',
      'i4 ovs0-10-trunk_2: 13 - - - - true',
      'i5 ovs0-3: - - - - - -',
      'i6 ovs0: - - - - - -',
    ],
  );
});

test('the uplink of a bridge, children in their modes, and VLANs in the container', () => {
  const lan: NotedNetwork = { ...noted, bridge: 'ovs1', nic: 'eth7' };
  const { notes, networks, attachments } = imported(
    host(
      [
        container(
          'kinds',
          { network: { kind: 'macvlan', uplink: 'eth0', mode: 'source', sourceMacs: ['02:00:00:00:00:09'] } },
          { ifname: 'eth2', network: { kind: 'ipvlan', uplink: 'eth8', mode: 'l3', flag: 'private' } },
          { ifname: 'eth3', network: { kind: 'bridge', name: 'br1', vid: 7, trunks: [8, 9] } },
        ),
        {
          name: 'web',
          rules: [],
          interfaces: [
            {
              ...found({ ifname: 'eth4', network: { kind: 'ovs', name: 'ovs0', trunks: [5, 6] } }),
              vlans: [{ vid: 5, ifname: 'eth4.5', cidrs: [{ family: 4, ip: '10.5.0.1', prefixLen: 24 }] }],
              policing: { rate: 5000, burst: 0 },
            },
          ],
        },
      ],
      [lan],
    ),
  );
  assert.deepEqual(notes, []);
  assert.deepEqual(
    networks.map(({ name, place, subnets, gateways, ranges, hostAddresses, ...own }) => own),
    [
      { kind: 'ovs', bridge: 'ovs1', nic: 'eth7', vid: 100, mtu: 1400 },
      { kind: 'macvlan', uplink: 'eth0', mode: 'source', sourceMacs: ['02:00:00:00:00:09'] },
      { kind: 'ipvlan', uplink: 'eth8', mode: 'l3', flag: 'private' },
      { kind: 'bridge', bridge: 'br1', vid: 7, trunks: [8, 9] },
      { kind: 'ovs', bridge: 'ovs0', trunks: [5, 6] },
    ],
  );
  assert.deepEqual(
    attachments.slice(3).map(({ vlans, policing }) => ({ vlans, policing })),
    [
      {
        vlans: [{ vid: 5, ifname: 'eth4.5', cidrs: [{ family: 4, ip: '10.5.0.1', prefixLen: 24 }] }],
        policing: { rate: 5000, burst: 0 },
      },
    ],
  );
});

test('addresses: leases are asked for again, those of routers are left alone', () => {
  const lease = addr('10.0.0.50/24', 7, { flags: 0, validLifetime: 3000 });
  const byRouter = addr('fd00::5/64', 7, { flags: 0 });
  const { attachments } = imported(
    host([
      container('a', {
        network: br1,
        addrs: [lease, byRouter],
        routes: [route('default via 10.0.0.1', 7, { protocol: 16 })],
      }),
      container('b', {
        network: { kind: 'bridge', name: 'br2' },
        addrs: [addr('10.0.0.3/24', 7), byRouter, addr('fe80::1/64', 7, { scope: 253 })],
      }),
    ]),
  );
  assert.equal(attachments[0]?.addresses, 'dhcp');
  assert.deepEqual(attachments[1]?.addresses, [{ family: 4, ip: '10.0.0.3', prefixLen: 24 }]);
});

test('routes: gateways, ways to them, tables, metrics; not the kernel and not routers', () => {
  const { yaml } = imported(
    host([
      container('a', {
        network: br1,
        addrs: [addr('10.0.0.2/24', 7)],
        routes: [
          route('10.0.0.0/24', 7, { protocol: 2 }),
          route('default via 192.168.7.1', 7),
          route('192.168.7.1/32', 7),
          route('10.5.0.0/16 via 10.0.0.9', 7, { metric: 5 }),
          route('10.6.0.0/16', 7, { table: 100 }),
          route('default via 10.0.0.9', 7, { table: 100 }),
          route('default via fe80::1', 7, { protocol: 9, metric: 1024 }),
        ],
      }),
    ]),
  );
  assert.match(yaml, /gateway: 192\.168\.7\.1\n/);
  assert.match(
    yaml,
    /routes:\n {6}- 10\.6\.0\.0\/16 table 100\n {6}- 10\.5\.0\.0\/16 via 10\.0\.0\.9 metric 5\n {6}- default via 10\.0\.0\.9 table 100\n$/,
  );
});

test('rules go to the interface that they are about', () => {
  const rule = (src: string, table: number, priority: number) => ({
    family: 4 as const,
    src: { family: 4 as const, ip: src, prefixLen: 32 },
    table,
    priority,
    unknown: [],
  });
  const { attachments } = imported(
    host([
      {
        ...container(
          'a',
          { network: br1, addrs: [addr('10.0.0.2/24', 7)] },
          {
            ifname: 'eth2',
            network: { kind: 'bridge', name: 'br2' },
            routes: [route('10.6.0.0/16', 7, { table: 100 })],
          },
        ),
        rules: [rule('10.9.9.9', 100, 5), rule('10.0.0.2', 7, 6), rule('10.8.8.8', 9, 7)],
      },
    ]),
  );
  assert.deepEqual(
    attachments.map(({ ifname, rules }) => [ifname, rules.map(({ priority }) => priority).join()]),
    [
      ['eth1', '6,7'],
      ['eth2', '5'],
    ],
  );
});

test('noted networks are there with all they have; what does not fit gets a network of its own', () => {
  const ours = (more: Partial<AttachmentRecord>) =>
    recordOf({ network: { kind: 'ovs', name: 'ovs0', vid: 100 }, ...more });
  const red: Network = { kind: 'ovs', name: 'ovs0', vid: 100 };
  const { yaml, notes, attachments } = imported(
    host(
      [
        container('a', {
          network: red,
          record: ours({ want: wanted(red, ['10.0.0.2/24@10.0.0.254']) }),
          mtu: 1400,
        }),
        container('b', { network: red, record: ours({ want: wanted(red, ['10.0.0.3/24']) }), mtu: 1500 }),
        container('c', {
          network: { kind: 'ovs', name: 'ovs0', vid: 7 },
          record: ours({
            want: wanted({ kind: 'ovs', name: 'ovs0', vid: 7 }, ['10.0.0.4/24@10.0.0.254'], {
              hostIfname: 'tap1',
            }),
          }),
          mtu: 1400,
        }),
        container('d', { network: red, record: ours({ want: wanted(red, ['10.9.0.5/24']) }) }),
        container('e', { network: red, record: ours({ dhcpGuest: 'e' }), mtu: 1400 }),
      ],
      [noted],
    ),
  );
  assert.deepEqual(notes, ["c/eth1: the host's end is not named in a file: tap1"]);
  assert.match(
    yaml,
    /lan:\n {4}kind: ovs\n {4}bridge: ovs0\n {4}vlan: 100\n {4}subnet: 10\.0\.0\.0\/24\n {4}gateway: 10\.0\.0\.254\n {4}range: 10\.0\.0\.100-10\.0\.0\.110\n {4}mtu: 1400\n/,
  );
  assert.deepEqual(
    attachments.map(({ network, vid, mtu, noGateway, gateways, addresses }) =>
      [network, vid ?? '-', mtu ?? '-', noGateway ? 'none' : gateways.length, typeof addresses].join(' '),
    ),
    [
      'lan - - 1 object',
      'lan - 1500 none object',
      'lan 7 - 1 object',
      'ovs0-100 - - 0 object',
      'lan - - 0 string',
    ],
  );
});

test('what contradicts itself, or cannot be said, is left out by name', () => {
  const { yaml, notes, attachments } = imported(
    host([
      container('a', { network: br1, addrs: [addr('10.0.0.2/24', 7)] }),
      container('b', { network: { kind: 'bridge', name: 'br2' }, addrs: [addr('10.0.0.2/24', 7)] }),
      container('c', { network: { why: 'nobody knows' } }),
      container('-d', { network: br1 }),
    ]),
  );
  assert.deepEqual(notes, [
    'c/eth1 was left out: nobody knows',
    '-d was left out: a file cannot name this container',
    'b/eth1 was left out: 10.0.0.2 is given to another as well',
  ]);
  for (const note of notes) assert.ok(yaml.includes(`# ${note}`), yaml);
  assert.equal(attachments.length, 1);
});
