/**
 * Link messages against those of iproute2 6.1, for all kinds, also the ones that a small kernel lacks.
 * Each row was recorded with `strace -e trace=sendmsg -xx ip ...`, in a namespace with the links `up0` (ifindex 3) and
 * `br7` (ifindex 4); it is the message behind the netlink header.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { rawAttrs } from '../../../src/kernel/netlink/codec.ts';
import { addAltname, addLink, changeLink, delLinkGroup, setLink } from '../../../src/kernel/netlink/link.ts';
import type { Request } from '../../../src/kernel/netlink/socket.ts';

interface Row {
  readonly command: string;
  readonly ours: Request;
  readonly theirs: string;
  /** What iproute2 sends besides: the kernel's own defaults. */
  readonly besides?: readonly string[];
}

const vxlan = { kind: 'vxlan', port: 4789, uplink: 3 } as const;

const rows: readonly Row[] = [
  {
    command: 'link add link up0 name up0.100 mtu 1400 type vlan id 100',
    ours: addLink({ kind: 'vlan', name: 'up0.100', uplink: 3, vid: 100, mtu: 1400 }),
    // ifinfomsg, MTU 1400, LINK 3, IFNAME up0.100, LINKINFO { KIND vlan, DATA { VLAN_ID 100 } }
    theirs:
      '00000000000000000000000000000000080004007805000008000500030000000c0003007570302e313030001800120008000100766c616e0c0002000600010064000000',
  },
  {
    command: 'link add dummy0 address 02:00:00:00:00:01 mtu 1400 group 77 type dummy',
    ours: addLink({ kind: 'dummy', name: 'dummy0', mac: '02:00:00:00:00:01', mtu: 1400, group: 77 }),
    // ifinfomsg, ADDRESS, MTU 1400, GROUP 77, IFNAME dummy0, LINKINFO { KIND dummy }
    theirs:
      '000000000000000000000000000000000a0001000200000000010000080004007805000008001b004d0000000b00030064756d6d79300000100012000900010064756d6d79000000',
  },
  {
    command: 'link add link up0 name ipv0 type ipvlan mode l2',
    ours: addLink({ kind: 'ipvlan', name: 'ipv0', uplink: 3, mode: 'l2' }),
    // ifinfomsg, LINK 3, IFNAME ipv0, LINKINFO { KIND ipvlan, DATA { MODE 0, FLAGS 0 } }
    theirs:
      '000000000000000000000000000000000800050003000000090003006970763000000000240012000a0001006970766c616e00001400020006000100000000000600020000000000',
    besides: ['18/2/2=0000'],
  },
  {
    command: 'link add link up0 name ipv0 mtu 1400 type ipvlan mode l3',
    ours: addLink({ kind: 'ipvlan', name: 'ipv0', uplink: 3, mode: 'l3', mtu: 1400 }),
    // ifinfomsg, MTU 1400, LINK 3, IFNAME ipv0, LINKINFO { KIND ipvlan, DATA { MODE 1, FLAGS 0 } }
    theirs:
      '0000000000000000000000000000000008000400780500000800050003000000090003006970763000000000240012000a0001006970766c616e00001400020006000100010000000600020000000000',
    besides: ['18/2/2=0000'],
  },
  {
    command: 'link add link up0 name ipv0 type ipvlan mode l3s',
    ours: addLink({ kind: 'ipvlan', name: 'ipv0', uplink: 3, mode: 'l3s' }),
    // ifinfomsg, LINK 3, IFNAME ipv0, LINKINFO { KIND ipvlan, DATA { MODE 2, FLAGS 0 } }
    theirs:
      '000000000000000000000000000000000800050003000000090003006970763000000000240012000a0001006970766c616e00001400020006000100020000000600020000000000',
    besides: ['18/2/2=0000'],
  },
  {
    command: 'link add link up0 name ib0.8001 mtu 2044 type ipoib pkey 0x8001',
    ours: addLink({ kind: 'ipoib', name: 'ib0.8001', uplink: 3, pkey: 0x8001, mtu: 2044 }),
    // ifinfomsg, MTU 2044, LINK 3, IFNAME ib0.8001, LINKINFO { KIND ipoib, DATA { PKEY 0x8001 } }
    theirs:
      '0000000000000000000000000000000008000400fc07000008000500030000000d0003006962302e38303031000000001c0012000900010069706f69620000000c0002000600010001800000',
  },
  {
    command: 'link add vx4 type vxlan id 4096 dstport 4789 local 10.0.0.1 remote 10.0.0.2 dev up0 nolearning',
    ours: addLink({
      ...vxlan,
      name: 'vx4',
      vni: 4096,
      local: '10.0.0.1',
      remote: '10.0.0.2',
      learning: false,
    }),
    // ifinfomsg, IFNAME vx4, LINKINFO { KIND vxlan, DATA { LINK 3, ID 4096, LOCAL, GROUP, LEARNING 0, PORT 4789 } }
    theirs:
      '000000000000000000000000000000000800030076783400440012000900010076786c616e0000003400020008000300030000000800010000100000080004000a000001080002000a000002050007000000000006000f0012b50000',
  },
  {
    command: 'link add vx6 type vxlan id 4097 dstport 4789 local fd00::1 group ff05::100 dev up0 learning',
    ours: addLink({
      ...vxlan,
      name: 'vx6',
      vni: 4097,
      local: 'fd00::1',
      remote: 'ff05::100',
      learning: true,
    }),
    // ifinfomsg, IFNAME vx6, LINKINFO { KIND vxlan, DATA { LINK 3, ID 4097, LOCAL6, GROUP6, LEARNING 1, PORT 4789 } }
    theirs:
      '0000000000000000000000000000000008000300767836005c0012000900010076786c616e0000004c0002000800030003000000080001000110000014001100fd00000000000000000000000000000114001000ff050000000000000000000000000100050007000100000006000f0012b50000',
  },
  {
    command: 'link add br7 type bridge vlan_filtering 1',
    ours: addLink({ kind: 'bridge', name: 'br7', vlanFiltering: true }),
    // ifinfomsg, IFNAME br7, LINKINFO { KIND bridge, DATA { VLAN_FILTERING 1 } }
    theirs:
      '0000000000000000000000000000000008000300627237001c0012000a00010062726964676500000c0002000500070001000000',
  },
  {
    command: 'link add link up0 name mv0 address 02:00:00:00:00:02 type macvlan mode passthru',
    ours: addLink({ kind: 'macvlan', name: 'mv0', uplink: 3, mode: 'passthru', mac: '02:00:00:00:00:02' }),
    // ifinfomsg, ADDRESS, LINK 3, IFNAME mv0, LINKINFO { KIND macvlan, DATA { MODE 8 } }
    theirs:
      '000000000000000000000000000000000a00010002000000000200000800050003000000080003006d7630001c0012000b0001006d6163766c616e000c0002000800010008000000',
  },
  {
    command: 'link add link up0 name mv1 address 02:00:00:00:00:02 up type macvlan mode private',
    ours: addLink({
      kind: 'macvlan',
      name: 'mv1',
      uplink: 3,
      mode: 'private',
      mac: '02:00:00:00:00:02',
      up: true,
    }),
    // ifinfomsg with IFF_UP, ADDRESS, LINK 3, IFNAME mv1, LINKINFO { KIND macvlan, DATA { MODE 1 } }
    theirs:
      '000000000000000001000000010000000a00010002000000000200000800050003000000080003006d7631001c0012000b0001006d6163766c616e000c0002000800010001000000',
  },
  {
    command: 'link add link up0 name mv2 type macvlan mode vepa',
    ours: addLink({ kind: 'macvlan', name: 'mv2', uplink: 3, mode: 'vepa' }),
    // ifinfomsg, LINK 3, IFNAME mv2, LINKINFO { KIND macvlan, DATA { MODE 2 } }
    theirs:
      '000000000000000000000000000000000800050003000000080003006d7632001c0012000b0001006d6163766c616e000c0002000800010002000000',
  },
  {
    command:
      'link add link up0 name mvs type macvlan mode source macaddr set 02:00:00:00:00:01 02:00:00:00:00:02',
    ours: addLink({
      kind: 'macvlan',
      name: 'mvs',
      uplink: 3,
      mode: 'source',
      sourceMacs: ['02:00:00:00:00:01', '02:00:00:00:00:02'],
    }),
    // ifinfomsg, LINK 3, IFNAME mvs, LINKINFO { KIND macvlan, DATA { MACADDR_MODE 3, MACADDR_DATA { MACADDR x 2 }, MODE 16 } }
    theirs:
      '000000000000000000000000000000000800050003000000080003006d767300400012000b0001006d6163766c616e003000020008000300030000001c0005000a00040002000000000100000a00040002000000000200000800010010000000',
  },
  {
    command: 'link add link up0 name ipv0 type ipvlan mode l2 private',
    ours: addLink({ kind: 'ipvlan', name: 'ipv0', uplink: 3, mode: 'l2', flag: 'private' }),
    // ifinfomsg, LINK 3, IFNAME ipv0, LINKINFO { KIND ipvlan, DATA { MODE 0, FLAGS 1 } }
    theirs:
      '000000000000000000000000000000000800050003000000090003006970763000000000240012000a0001006970766c616e00001400020006000100000000000600020001000000',
  },
  {
    command: 'link set up0 type macvlan mode vepa',
    ours: changeLink(3, { kind: 'macvlan', mode: 'vepa' }),
    // ifinfomsg of 3, LINKINFO { KIND macvlan, DATA { MODE 2 } }
    theirs: '000000000300000000000000000000001c0012000b0001006d6163766c616e000c0002000800010002000000',
  },
  {
    command: 'link set up0 type ipvlan mode l3 vepa',
    ours: changeLink(3, { kind: 'ipvlan', mode: 'l3', flag: 'vepa' }),
    // ifinfomsg of 3, LINKINFO { KIND ipvlan, DATA { MODE 1, FLAGS 2 } }
    theirs:
      '00000000030000000000000000000000240012000a0001006970766c616e00001400020006000100010000000600020002000000',
  },
  {
    command: 'link add vh0 mtu 1400 up type veth peer name vg0 mtu 1400 address 02:00:00:00:00:03',
    ours: addLink({
      kind: 'veth',
      name: 'vh0',
      mtu: 1400,
      up: true,
      peer: { name: 'vg0', mtu: 1400, mac: '02:00:00:00:00:03' },
    }),
    // ifinfomsg with IFF_UP, MTU 1400, IFNAME vh0, LINKINFO { KIND veth, DATA { PEER { ifinfomsg, MTU, ADDRESS, IFNAME } } }
    theirs:
      '00000000000000000100000001000000080004007805000008000300766830004000120008000100766574683400020030000100000000000000000000000000000000000800040078050000 0a00010002000000000300000800030076673000',
  },
  {
    command: 'link set up0 address 02:00:00:00:00:04 mtu 1400 group 77 master br7',
    ours: setLink({ ifindex: 3 }, { mac: '02:00:00:00:00:04', mtu: 1400, group: 77, master: 4 }),
    // ifinfomsg of 3, ADDRESS, MTU 1400, GROUP 77, MASTER 4
    theirs:
      '000000000300000000000000000000000a0001000200000000040000080004007805000008001b004d00000008000a0004000000',
  },
  {
    command: 'link set up0 nomaster down',
    ours: setLink({ ifindex: 3 }, { master: 0, up: false }),
    // ifinfomsg of 3 that clears IFF_UP, MASTER 0
    theirs: '000000000300000000000000010000000 8000a0000000000',
  },
  {
    command: 'link property add dev up0 altname pipewright-0123456789',
    ours: addAltname(3, 'pipewright-0123456789'),
    // ifinfomsg of 3, PROP_LIST with NLA_F_NESTED { ALT_IFNAME }
    theirs:
      '00000000030000000000000000000000200034801a003500706970657772696768742d30313233343536373839000000',
  },
  {
    command: 'link del group 77',
    ours: delLinkGroup(77),
    // ifinfomsg, GROUP 77
    theirs: '0000000000000000000000000000000008001b004d000000',
  },
];

/** Which attributes hold attributes, by their path: LINKINFO, INFO_DATA, VETH_INFO_PEER (behind a header), PROP_LIST. */
const nests: Readonly<Record<string, number>> = { '18': 0, '18/2': 0, '52': 0 };
const peerPath = '18/2/1';

/** `18/1=766c616e`: every attribute by its path. The order and the NUL behind a text say nothing. */
function flatten(body: Buffer, path: string, isVeth: boolean): string[] {
  return rawAttrs(body).flatMap(({ type, data }) => {
    const here = path === '' ? `${type & 0x3fff}` : `${path}/${type & 0x3fff}`;
    const bytes = data as Buffer;
    if (here in nests) return [`${here} nested=${type >> 14}`, ...flatten(bytes, here, isVeth)];
    if (isVeth && here === peerPath) {
      return [`${here} header=${bytes.toString('hex', 0, 16)}`, ...flatten(bytes.subarray(16), here, isVeth)];
    }
    const isText = here === '18/1' || here === '3' || here.endsWith('/3') || here === '52/53';
    return [`${here}=${isText ? bytes.toString().replace(/\0$/, '') : bytes.toString('hex')}`];
  });
}

function dissect(body: Uint8Array): string[] {
  const bytes = Buffer.from(body);
  return [bytes.toString('hex', 0, 16), ...flatten(bytes.subarray(16), '', bytes.includes('veth')).sort()];
}

for (const { command, ours, theirs, besides = [] } of rows) {
  test(`recorded: ip ${command}`, () => {
    const expected = dissect(Buffer.from(theirs.replaceAll(' ', ''), 'hex'));
    assert.deepEqual(
      dissect(ours.body),
      expected.filter((row) => !besides.includes(row)),
    );
  });
}
