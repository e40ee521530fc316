/** Networks of a topology file, see schema.ts. */
import * as z from 'zod';
import {
  ipvlanFlags,
  ipvlanModes,
  macvlanModes,
  ovsVlanModes,
  qinqEthtypes,
} from '../../model/attachment.ts';
import { fields, host, mtu, ovsMode, perHost, trunks, vlan } from './schema-parts.ts';
import * as v from './values.ts';

const common = {
  host,
  subnet: v
    .oneOrMore(v.subnet.meta({ title: 'subnet', examples: ['10.10.101.0/24', 'fd00:101::/64'] }))
    .optional()
    .meta({
      description:
        'Subnets of the network, of either family. Addresses of attachments must lie in one of their family, if there is one.',
    }),
  gateway: v
    .oneOrMore(v.ip.meta({ title: 'address', examples: ['10.10.101.254'] }))
    .optional()
    .meta({
      description:
        'Default gateway of the attachments that say none, at most one of each family: `ip route replace default via GATEWAY`.',
    }),
  range: v
    .oneOrMore(
      v.range.meta({ title: 'range', examples: ['10.10.101.100-10.10.101.199', '10.10.101.128/26'] }),
    )
    .optional()
    .meta({
      ...perHost,
      description:
        'Addresses to give out to attachments with `addresses: auto`: FIRST-LAST, both included, or a prefix. Gateways, the ' +
        "host's own addresses, those that the files give, the subnet's first and its broadcast address are left out.",
    }),
  mtu: mtu.optional().meta({
    description: 'Bytes: `ip link set mtu`. By default that of the bridge or uplink.',
  }),
};

const hostAddress = v
  .oneOrMore(v.hostAddress.meta({ title: 'address/length', examples: ['10.10.101.105/24'] }))
  .optional();
const onBridge = {
  bridge: v.ifname.optional().meta({
    ...perHost,
    title: 'interface name',
    description: "Name of the bridge, made when it is missing. By default the network's own name.",
  }),
  uplink: v.ifname.optional().meta({
    ...perHost,
    title: 'interface name',
    description:
      'NIC of the host that becomes a port of the bridge, by which the network leaves the host. All that it has moves to the ' +
      'bridge, and back when it is asked for no more: `pipewright uplink add UPLINK`.',
  }),
  ...common,
  hostAddress: hostAddress.meta({
    ...perHost,
    description: "The host's own addresses on the network: `ip addr add` on the bridge.",
  }),
};
const uplink = v.ifname.meta({
  ...perHost,
  title: 'interface name',
  description: 'NIC of the host by which the network leaves it: `ip link add link UPLINK`.',
});
const nicVlan = vlan.optional().meta({
  description:
    'VLAN on the uplink: `ip link add link UPLINK name UPLINK.VLAN type vlan id VLAN`, made when it is missing.',
});
const hostLink = {
  hostAddress: hostAddress.meta({
    ...perHost,
    description:
      "The host's own addresses on the network, on an interface of the host of the same kind: a host does not reach " +
      'the children of its NIC by the NIC itself.',
  }),
};

const kind = <K extends string>(name: K) =>
  z.literal(name).meta({ description: 'What the network is, see above.' });

/** A network, by its kind. */
export const networkSchema = z.discriminatedUnion('kind', [
  fields({
    kind: kind('bridge'),
    ...onBridge,
    vlan: vlan.optional().meta({
      description:
        'VLAN that the ports carry without a tag: `bridge vlan add dev PORT vid VLAN pvid untagged`. The bridge filters ' +
        'VLANs then. With it, `hostAddress` is on the interface BRIDGE.VLAN of the host.',
    }),
    trunks: trunks.meta({
      title: 'VLAN ids',
      description:
        'VLANs that the ports carry with their tags: `bridge vlan add dev PORT vid VLAN`. With `vlan` besides what has none. The ' +
        '`uplink` carries these and no others then, and what has no tag.',
    }),
    vlanFiltering: z
      .literal(true)
      .optional()
      .meta({
        description:
          'A bridge that pipewright did not make may be switched to VLAN filtering, and is: ' +
          '`ip link set BRIDGE type bridge vlan_filtering 1`. Without this, VLANs on such a bridge are refused.',
      }),
  }).meta({
    title: 'bridge',
    description: 'Linux bridge: `ip link add BRIDGE type bridge`, each attachment a veth pair.',
  }),
  fields({
    kind: kind('ovs'),
    ...onBridge,
    mode: ovsMode.optional().meta({
      description:
        'What an attachment is: one end of a veth pair whose other end is the port (`veth`, the default), or the port itself ' +
        '(`internal`): `ovs-vsctl add-port BRIDGE PORT -- set interface PORT type=internal`, moved into the container.',
    }),
    vlan: vlan.optional().meta({
      description:
        'VLAN of the ports: `ovs-vsctl add-port BRIDGE PORT tag=VLAN`. With it, `hostAddress` is on the internal port ' +
        'BRIDGE.VLAN of the host.',
    }),
    trunks: trunks.meta({
      description:
        'VLANs that the ports carry with their tags, `ovs-vsctl add-port BRIDGE PORT trunks=VLAN,VLAN`; 0 is for frames ' +
        'without a tag. With `vlan` besides the native VLAN. With neither, the ports carry every VLAN. The `uplink` ' +
        'carries these and no others then, and what has no tag.',
    }),
    vlanMode: z
      .enum(ovsVlanModes)
      .optional()
      .meta({
        description:
          'What `vlan` is: the native VLAN of a trunk, which leaves without a tag (`native-untagged`, the default with ' +
          '`trunks`) or with it (`native-tagged`); or the outer VLAN that what comes is put into (`dot1q-tunnel`, QinQ): ' +
          '`ovs-vsctl set port PORT vlan_mode=MODE`.',
      }),
    cvlans: trunks.meta({
      title: 'VLAN ids',
      description: 'Of `dot1q-tunnel`: the inner VLANs that are taken, by default all.',
    }),
    qinqEthtype: z
      .enum(qinqEthtypes)
      .optional()
      .meta({ description: 'Of `dot1q-tunnel`: the sort of the outer tag, by default 802.1ad.' }),
  }).meta({
    title: 'ovs',
    description:
      'Open vSwitch bridge: `ovs-vsctl add-br BRIDGE`, each attachment a veth pair or an internal port.',
  }),
  fields({
    kind: kind('macvlan'),
    uplink,
    mode: z.enum(macvlanModes).default('bridge').meta({
      description: '`ip link add type macvlan mode MODE`. Changed in place, but for `passthru`.',
    }),
    sourceMacs: z
      .array(v.mac.meta({ title: 'MAC address', examples: ['02:00:00:00:00:01'] }))
      .optional()
      .meta({
        description:
          'Of mode `source`: the MAC addresses whose frames are taken, `ip link set type macvlan macaddr set MACS`.',
      }),
    vlan: nicVlan,
    ...common,
    ...hostLink,
  }).meta({
    title: 'macvlan',
    description: 'Children of a NIC with MAC addresses of their own: `ip link add link UPLINK type macvlan`.',
  }),
  fields({
    kind: kind('ipvlan'),
    uplink,
    mode: z.enum(ipvlanModes).default('l2').meta({
      description: '`ip link add type ipvlan mode MODE`; of all children of the NIC, and changed in place.',
    }),
    flag: z
      .enum(ipvlanFlags)
      .optional()
      .meta({
        description:
          'Whether the children reach each other (`bridge`), do not (`private`), or by the switch (`vepa`): ' +
          '`ip link add type ipvlan mode MODE FLAG`; of all children of the NIC.',
      }),
    vlan: nicVlan,
    ...common,
    ...hostLink,
  }).meta({
    title: 'ipvlan',
    description: 'Children of a NIC with its MAC address: `ip link add link UPLINK type ipvlan`.',
  }),
  fields({ kind: kind('phys'), uplink, vlan: nicVlan, ...common }).meta({
    title: 'phys',
    description: 'The NIC itself, or its VLAN, moved into one container: `ip link set UPLINK netns`.',
  }),
  fields({
    kind: kind('sriov'),
    uplink,
    vlan: vlan.optional().meta({
      description: "VLAN that the NIC's switch puts it into: `ip link set UPLINK vf N vlan VLAN`.",
    }),
    spoofCheck: z
      .boolean()
      .optional()
      .meta({
        description:
          'Whether the NIC drops what it sends from another MAC address: `ip link set UPLINK vf N spoofchk on`. By default ' +
          'as it is.',
      }),
    ...common,
  }).meta({
    title: 'sriov',
    description:
      'A virtual function of a NIC (SR-IOV), whichever is free, moved into the container: `ip link set VF netns`.',
  }),
  fields({ kind: kind('dummy'), ...common }).meta({
    title: 'dummy',
    description: 'An interface that leads nowhere: `ip link add type dummy`.',
  }),
]);
