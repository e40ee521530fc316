/** One attach of each kind, on a host and in a container that have something to lose. */
import type { TestContext } from 'node:test';
import type { Need } from '../lab.ts';
import { runIn } from '../lab.ts';
import type { Ground, Want } from './fault-ground.ts';

export interface Scenario {
  readonly name: string;
  readonly needs?: readonly Need[];
  readonly ovs?: boolean;
  /** What is there before. */
  readonly prepare: (ground: Ground, t: TestContext) => Promise<void> | void;
  readonly want: Want;
  /** The operations that this takes, so that a scenario does not quietly become another one. */
  readonly operations: string;
  /** How many of them, at the end, cannot be taken back. */
  readonly final?: number;
}

/** A first interface of the container, to `wire0` on the host, with a default route of each family. */
function eth0(ground: Ground): void {
  const { name } = ground.guest;
  ground.onHost(`link add wire0 type veth peer name eth0 netns ${name}`, 'link set wire0 up');
  ground.inGuest(
    'link set eth0 up',
    'addr add 172.17.0.2/16 brd 172.17.255.255 dev eth0',
    'addr add fd17::2/64 dev eth0 nodad',
    'route add default via 172.17.0.1 dev eth0 proto static initcwnd 20',
    'route add default via 172.17.0.9 dev eth0 metric 100',
    'route add default via fd17::1 dev eth0 proto static metric 1024',
    'route add 10.77.0.0/16 via 172.17.0.7',
    'route add default via 172.17.0.8 table 100',
  );
}

/** A NIC of the host with all that one can have. Its other end is `wire1`. */
function nic(ground: Ground, state: 'up' | 'down' = 'up'): void {
  // The wire's own answer to a NIC that goes up for a moment, a link-local address, is not looked at.
  const wire = ['link set wire1 addrgenmode none', 'link set wire1 up'];
  ground.onHost('link add nic0 mtu 1450 type veth peer name wire1', ...wire);
  // A link that was up once has another qdisc.
  ground.onHost('link set nic0 up', 'link set nic0 down');
  if (state === 'down') return;
  ground.onHost(
    'link set nic0 address 02:00:00:00:00:77',
    'link set nic0 up',
    'link property add dev nic0 altname enp1s0',
    'addr add 10.5.0.5/24 brd + dev nic0',
    'addr add 10.5.0.6/24 brd + dev nic0',
    'addr add 10.6.0.5/24 dev nic0',
    'addr add fd05::5/64 dev nic0 nodad',
    'route add default via 10.5.0.1 dev nic0 proto dhcp metric 100',
    'route add 10.50.0.0/16 via 10.6.0.9',
    'route add 10.51.0.0/16 via 192.168.9.9 dev nic0 onlink',
    'route add default via 10.5.0.2 table 100',
    'route add default via fd05::1 dev nic0',
    'route add fd50::/32 via fd05::9',
  );
}

const sysctlIn = (ground: Ground, setting: string): void => {
  runIn(ground.guest.name, 'sysctl', ['-q', '-w', setting]);
};

/** What is there already, made by pipewright. */
const had = async (ground: Ground, want: Want): Promise<void> => {
  await ground.attach(want);
};

/** The scenario of this name. */
export function scenarioOf(name: string): Scenario {
  const found = scenarios.find((scenario) => scenario.name.startsWith(name));
  if (!found) throw new Error(`no scenario ${name}`);
  return found;
}

export const scenarios: readonly Scenario[] = [
  {
    name: 'bridge, new, with gateways that replace default routes, and the firewall',
    prepare: (ground) => {
      eth0(ground);
      sysctlIn(ground, 'net.ipv6.conf.default.disable_ipv6=1');
    },
    want: {
      network: { kind: 'bridge', name: 'br1' },
      addrs: ['10.1.0.5/24@10.1.0.1', 'fd01::5/64@fd01::1'],
      mac: '02:00:00:00:00:01',
    },
    operations:
      'link.add firewall.allow link.add ipv6.enable link.set addr.add addr.add route.replace route.replace',
  },
  {
    name: 'bridge, there and down, with gateways off the subnet, and routes',
    prepare: (ground) => {
      eth0(ground);
      ground.onHost(
        'link add lan0 mtu 1400 type bridge',
        'link add port0 type veth peer name port1',
        'link set port0 master lan0',
        'link set port0 up',
        'link set lan0 up',
        'link set lan0 down',
        'addr add 10.1.0.1/24 dev lan0',
      );
      ground.inGuest('route add 192.168.77.1/32 dev eth0');
    },
    want: {
      network: { kind: 'bridge', name: 'lan0' },
      addrs: ['10.1.0.5/24@192.168.77.1', 'fd01::5/64@fd77::1'],
      routes: [{ dst: { family: 4, ip: '10.99.0.0', prefixLen: 16 }, gateway: '10.1.0.9' }],
    },
    operations:
      'link.set firewall.allow link.add link.set addr.add addr.add route.replace route.replace route.replace route.replace route.replace',
  },
  {
    name: 'bridge, without an address, only with a gateway',
    prepare: eth0,
    want: { network: { kind: 'bridge', name: 'br1' }, addrs: ['@10.9.9.9'], ifname: 'eth-of-15-bytes' },
    operations: 'link.add firewall.allow link.add link.set route.replace route.replace',
  },
  {
    name: 'Open vSwitch, new bridge, tag',
    needs: ['ovs'],
    ovs: true,
    prepare: eth0,
    want: { network: { kind: 'ovs', name: 'ovs0', vid: 100 }, addrs: ['10.1.0.5/24@10.1.0.1'] },
    operations:
      'ovs.bridge.add link.add sysctl.set sysctl.set sysctl.set ovs.port.add link.set addr.add route.replace',
  },
  {
    name: 'Open vSwitch, bridge that is there',
    needs: ['ovs'],
    ovs: true,
    prepare: (ground) => {
      ground.onHost('link add port0 type veth peer name port1', 'link set port0 up');
      ground.vsctl('add-br', 'sw1', '--', 'set', 'bridge', 'sw1', 'datapath_type=netdev');
      ground.vsctl('add-port', 'sw1', 'port0', 'tag=7');
    },
    want: { network: { kind: 'ovs', name: 'sw1' }, addrs: ['10.1.0.5/24'] },
    operations: 'link.add sysctl.set sysctl.set sysctl.set ovs.port.add link.set addr.add',
  },
  {
    name: 'Open vSwitch, an internal port',
    needs: ['ovs'],
    ovs: true,
    prepare: eth0,
    want: {
      network: { kind: 'ovs', name: 'ovs0', vid: 100, internal: true },
      addrs: ['10.1.0.5/24@10.1.0.1'],
      mac: '02:00:00:00:00:05',
    },
    operations: 'ovs.bridge.add ovs.port.add link.give link.set addr.add route.replace',
  },
  {
    name: 'Open vSwitch, a port that gets copies',
    needs: ['ovs'],
    ovs: true,
    prepare: (ground) => {
      ground.onHost('link add port0 type veth peer name port1', 'link set port0 up');
      ground.vsctl('add-br', 'sw1', '--', 'set', 'bridge', 'sw1', 'datapath_type=netdev');
      ground.vsctl('add-port', 'sw1', 'port0');
    },
    want: { network: { kind: 'ovs', name: 'sw1' }, mirror: { of: ['port:port0'] } },
    operations: 'link.add sysctl.set sysctl.set sysctl.set ovs.port.add ovs.mirror.set link.set',
  },
  {
    name: 'macvlan on a NIC that is down',
    needs: ['macvlan'],
    prepare: (ground) => {
      eth0(ground);
      nic(ground, 'down');
    },
    want: {
      network: { kind: 'macvlan', uplink: 'nic0', mode: 'bridge' },
      addrs: ['10.1.0.5/24@10.1.0.1', 'fd01::5/64@fd01::1'],
    },
    operations: 'link.set link.add link.set addr.add addr.add route.replace route.replace',
  },
  {
    name: 'macvlan on a VLAN of a NIC',
    needs: ['macvlan', 'vlan'],
    prepare: (ground) => nic(ground, 'down'),
    want: { network: { kind: 'macvlan', uplink: 'nic0', mode: 'bridge', vid: 10 }, addrs: ['10.1.0.5/24'] },
    operations: 'link.set link.add link.set link.add link.set addr.add',
  },
  {
    name: 'ipvlan',
    needs: ['ipvlan'],
    prepare: (ground) => nic(ground, 'down'),
    want: { network: { kind: 'ipvlan', uplink: 'nic0', mode: 'l2' }, addrs: ['10.1.0.5/24'] },
    operations: 'link.set link.add link.set addr.add',
  },
  {
    name: 'dummy',
    needs: ['dummy'],
    prepare: eth0,
    want: { network: { kind: 'dummy' }, addrs: ['10.1.0.5/24@10.1.0.1'] },
    operations: 'link.add link.set addr.add route.replace',
  },
  {
    name: 'the NIC itself, with addresses and routes',
    prepare: (ground) => {
      eth0(ground);
      nic(ground);
    },
    want: {
      network: { kind: 'phys', uplink: 'nic0' },
      addrs: ['10.1.0.5/24@10.1.0.1', 'fd01::5/64@fd01::1'],
      mac: '02:00:00:00:00:01',
      mtu: 1400,
    },
    operations: 'link.give link.set addr.add addr.add route.replace route.replace',
  },
  {
    name: 'the NIC itself, configured as NetworkManager does it',
    prepare: (ground) => {
      nic(ground, 'down');
      ground.onHost(
        'link set nic0 up',
        'addr add 10.5.0.5/24 brd + dev nic0 noprefixroute',
        'addr add 10.8.0.5/24 brd + dev nic0 metric 200',
        'addr add 10.7.0.5/24 brd + dev nic0 label nic0:1',
        'addr add 10.9.0.5 peer 10.9.0.6 dev nic0',
        'route add 10.5.0.0/24 dev nic0 proto kernel scope link src 10.5.0.5 metric 100',
        'route add default via 10.5.0.1 dev nic0 proto dhcp src 10.5.0.5 metric 100',
        'addr add fd05::5/64 dev nic0 noprefixroute nodad',
        'route add fd05::/64 dev nic0 proto kernel metric 100',
      );
    },
    want: { network: { kind: 'phys', uplink: 'nic0' }, addrs: ['10.1.0.5/24'], ifname: 'nic0' },
    operations: 'link.give link.set addr.add',
  },
  {
    name: 'change in place: address, gateway, MAC, MTU, route',
    prepare: async (ground) => {
      eth0(ground);
      await had(ground, {
        network: { kind: 'bridge', name: 'br1' },
        addrs: ['10.1.0.5/24@10.1.0.1', '10.1.0.6/24', '10.2.0.6/24', 'fd01::5/64@fd01::1'],
        routes: [
          { dst: { family: 4, ip: '10.99.0.0', prefixLen: 16 }, gateway: '10.1.0.9' },
          { dst: { family: 4, ip: '10.98.0.0', prefixLen: 16 }, gateway: '10.2.0.9' },
        ],
        mac: '02:00:00:00:00:01',
      });
      ground.inGuest(
        'route add 10.97.0.0/16 via 10.1.0.9 proto static',
        'route add default via 10.1.0.1 table 101',
      );
    },
    want: {
      network: { kind: 'bridge', name: 'br1' },
      addrs: ['10.1.0.7/24', '10.2.0.6/24@10.2.0.1', 'fd02::5/64@fd02::1'],
      routes: [{ dst: { family: 4, ip: '10.98.0.0', prefixLen: 16 }, gateway: '10.2.0.8' }],
      mac: '02:00:00:00:00:02',
      mtu: 1400,
    },
    operations:
      'link.set link.set link.set addr.add addr.add route.replace route.replace route.replace sysctl.set addr.del addr.del addr.del sysctl.set',
  },
  {
    name: 'change in place: an MTU too small for IPv6, and another address of the subnet',
    prepare: (ground) =>
      had(ground, {
        network: { kind: 'bridge', name: 'br1' },
        addrs: ['10.1.0.5/24@192.168.77.1', '10.1.0.6/24', 'fd01::5/64@fd01::1'],
      }),
    want: {
      network: { kind: 'bridge', name: 'br1' },
      addrs: ['10.1.0.6/24', '10.1.0.7/24@10.1.0.1'],
      mtu: 1200,
    },
    operations: 'link.set link.set addr.add route.replace sysctl.set addr.del sysctl.set',
  },
  {
    name: 'change in place: another bridge, which is new',
    prepare: (ground) => had(ground, { network: { kind: 'bridge', name: 'br1' }, addrs: ['10.1.0.5/24'] }),
    want: { network: { kind: 'bridge', name: 'br2' }, addrs: ['10.1.0.5/24@10.1.0.1'] },
    operations: 'link.add firewall.allow link.set route.replace firewall.revoke link.del',
    final: 2,
  },
  {
    name: 'change in place: another tag',
    needs: ['ovs'],
    ovs: true,
    prepare: (ground) =>
      had(ground, { network: { kind: 'ovs', name: 'ovs0', vid: 100 }, addrs: ['10.1.0.5/24'] }),
    want: { network: { kind: 'ovs', name: 'ovs0', vid: 200 }, addrs: ['10.1.0.5/24@10.1.0.1'] },
    operations: 'ovs.port.set route.replace',
  },
  {
    name: 'change in place: what a port drops and copies',
    needs: ['ovs'],
    ovs: true,
    prepare: (ground) => had(ground, { network: { kind: 'ovs', name: 'ovs0' }, mirror: {} }),
    want: {
      network: { kind: 'ovs', name: 'ovs0' },
      mirror: { vlans: [100] },
      policing: { rate: 1000, burst: 100 },
    },
    operations: 'ovs.policing.set ovs.mirror.set',
  },
  {
    name: 'made anew: an internal port instead of a pair',
    needs: ['ovs'],
    ovs: true,
    prepare: (ground) =>
      had(ground, { network: { kind: 'ovs', name: 'ovs0', vid: 100 }, addrs: ['10.1.0.5/24@10.1.0.1'] }),
    want: { network: { kind: 'ovs', name: 'ovs0', vid: 100, internal: true } },
    operations: 'link.stash ovs.port.add link.give link.set addr.add route.replace ovs.port.del link.del',
    final: 2,
  },
  {
    name: 'made anew: a pair instead of an internal port',
    needs: ['ovs'],
    ovs: true,
    prepare: (ground) =>
      had(ground, {
        network: { kind: 'ovs', name: 'ovs0', vid: 100, internal: true },
        addrs: ['10.1.0.5/24@10.1.0.1'],
      }),
    want: { network: { kind: 'bridge', name: 'br1' }, addrs: ['10.1.0.5/24'] },
    operations: 'ovs.port.del link.del link.add firewall.allow link.add link.set addr.add ovs.bridge.del',
    final: 1,
  },
  {
    name: 'change in place: from Open vSwitch to a bridge',
    needs: ['ovs'],
    ovs: true,
    prepare: (ground) =>
      had(ground, { network: { kind: 'ovs', name: 'ovs0', vid: 100 }, addrs: ['10.1.0.5/24'] }),
    want: { network: { kind: 'bridge', name: 'br1' }, addrs: ['10.1.0.5/24@10.1.0.1'] },
    operations: 'link.add firewall.allow ovs.port.del link.set route.replace ovs.bridge.del',
    final: 1,
  },
  {
    name: 'change in place: from a bridge to Open vSwitch',
    needs: ['ovs'],
    ovs: true,
    prepare: (ground) => had(ground, { network: { kind: 'bridge', name: 'br1' }, addrs: ['10.1.0.5/24'] }),
    want: { network: { kind: 'ovs', name: 'ovs0', vid: 100 }, addrs: ['10.1.0.5/24@10.1.0.1'] },
    operations:
      'ovs.bridge.add link.set sysctl.set sysctl.set sysctl.set ovs.port.add route.replace firewall.revoke link.del',
    final: 2,
  },
  {
    name: 'made anew: from a bridge to a macvlan, with what was there taken over',
    needs: ['macvlan'],
    prepare: async (ground) => {
      eth0(ground);
      nic(ground, 'down');
      await had(ground, {
        network: { kind: 'bridge', name: 'br1' },
        addrs: ['10.1.0.5/24@10.1.0.1', '10.1.0.6/24', 'fd01::5/64@fd01::1'],
        routes: [{ dst: { family: 4, ip: '10.99.0.0', prefixLen: 16 }, gateway: '10.1.0.9' }],
      });
      ground.inGuest('route add default via 10.1.0.1 table 101', 'link set eth1 mtu 1480');
    },
    want: { network: { kind: 'macvlan', uplink: 'nic0', mode: 'bridge' } },
    operations:
      'link.stash link.set link.add link.set addr.add addr.add addr.add route.replace route.replace route.replace link.del firewall.revoke link.del',
    final: 3,
  },
  {
    name: 'made anew: from Open vSwitch to a macvlan',
    needs: ['macvlan', 'ovs'],
    ovs: true,
    prepare: async (ground) => {
      nic(ground, 'down');
      await had(ground, {
        network: { kind: 'ovs', name: 'ovs0', vid: 100 },
        addrs: ['10.1.0.5/24@10.1.0.1'],
      });
    },
    want: { network: { kind: 'macvlan', uplink: 'nic0', mode: 'bridge' }, addrs: ['10.1.0.5/24'] },
    operations: 'link.stash link.set link.add link.set addr.add ovs.port.del link.del ovs.bridge.del',
    final: 3,
  },
  {
    name: 'change in place: another mode of macvlan',
    needs: ['macvlan'],
    prepare: async (ground) => {
      nic(ground);
      await had(ground, {
        network: { kind: 'macvlan', uplink: 'nic0', mode: 'bridge' },
        addrs: ['10.1.0.5/24@10.1.0.1'],
      });
    },
    want: { network: { kind: 'macvlan', uplink: 'nic0', mode: 'private' }, addrs: ['10.1.0.5/24@10.1.0.1'] },
    operations: 'link.change',
  },
];
