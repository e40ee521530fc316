/**
 * VLANs of a bridge's ports. The messages are compared byte by byte with those of `bridge` 6.1, recorded with strace in a
 * namespace with the port `p0` (ifindex 3) of `br7` (ifindex 4); what they do is judged by `bridge -j`.
 */
import assert from 'node:assert/strict';
import test from 'node:test';
import { hasErrno } from '../../../src/errors.ts';
import {
  addPortVlan,
  delPortVlan,
  listPortVlans,
  listVlans,
} from '../../../src/kernel/netlink/bridge-vlan.ts';
import { addLink, changeLink, getLink } from '../../../src/kernel/netlink/link.ts';
import type { Request } from '../../../src/kernel/netlink/socket.ts';
import { inRows, type PortVlan } from '../../../src/model/port-vlan.ts';
import { capability, skipUnless } from '../../lab.ts';
import { createLab, ifindexOf, type Json, type Lab } from '../lab.ts';

const tagged = (vid: number, last?: number): PortVlan => ({
  vid,
  ...(last === undefined ? {} : { last }),
  pvid: false,
  untagged: false,
});
const native = (vid: number): PortVlan => ({ vid, pvid: true, untagged: true });

const recorded: readonly { readonly command: string; readonly ours: Request; readonly theirs: string }[] = [
  {
    command: 'bridge vlan add dev p0 vid 100 pvid untagged',
    ours: addPortVlan({ ifindex: 3 }, native(100)),
    // ifinfomsg of AF_BRIDGE and 3, AF_SPEC { VLAN_INFO PVID|UNTAGGED 100 }
    theirs: '070000000300000000000000000000000c001a000800020006006400',
  },
  {
    command: 'bridge vlan add dev p0 vid 100-199',
    ours: addPortVlan({ ifindex: 3 }, tagged(100, 199)),
    // AF_SPEC { VLAN_INFO RANGE_BEGIN 100, VLAN_INFO RANGE_END 199 }
    theirs: '0700000003000000000000000000000014001a000800020008006400080002001000c700',
  },
  {
    command: 'bridge vlan del dev p0 vid 1',
    ours: delPortVlan({ ifindex: 3 }, native(1)),
    // AF_SPEC { VLAN_INFO 1 }
    theirs: '070000000300000000000000000000000c001a000800020000000100',
  },
  {
    command: 'bridge vlan del dev p0 vid 7-9',
    ours: delPortVlan({ ifindex: 3 }, tagged(7, 9)),
    theirs: '0700000003000000000000000000000014001a0008000200080007000800020010000900',
  },
  {
    command: 'bridge vlan add dev br7 vid 100 self',
    ours: addPortVlan({ ifindex: 4, self: true }, tagged(100)),
    // AF_SPEC { FLAGS SELF, VLAN_INFO 100 }
    theirs: '0700000004000000000000000000000014001a0006000000020000000800020000006400',
  },
  {
    command: 'ip link set br7 type bridge vlan_filtering 1',
    ours: changeLink(4, { kind: 'bridge', vlanFiltering: true }),
    // ifinfomsg of 4, LINKINFO { KIND bridge, DATA { VLAN_FILTERING 1 } }
    theirs: '000000000400000000000000000000001c0012000a00010062726964676500000c0002000500070001000000',
  },
];

/** iproute2 leaves the NUL behind a kind away, which makes the attribute shorter by one byte and no other. */
const withoutNul = (hex: string): string =>
  hex.replace('1c0012000b000100627269646765', '1c0012000a000100627269646765');

for (const { command, ours, theirs } of recorded) {
  test(`recorded: ${command}`, () => {
    assert.equal(withoutNul(Buffer.from(ours.body).toString('hex')), theirs);
  });
}

/** `bridge -j vlan` of one port, in our words. */
function judged(lab: Lab, port: string): PortVlan[] {
  const [found] = lab.bridgeJson(`vlan show dev ${port}`);
  return (found?.vlans ?? []).map(({ vlan, vlanEnd, flags = [] }: Json) => ({
    vid: vlan,
    ...(vlanEnd === undefined ? {} : { last: vlanEnd }),
    pvid: flags.includes('PVID'),
    untagged: flags.includes('Egress Untagged'),
  }));
}

test('a port: what is added, changed and taken off, as bridge shows it', (t) => {
  if (skipUnless(t, 'root', 'vlan-filtering')) return;
  const lab = createLab(t);
  const { rtnl } = lab;
  rtnl.request(addLink({ kind: 'bridge', name: 'br7', vlanFiltering: true }));
  lab.ip('link add p0 master br7 type veth peer name p1');
  const ifindex = ifindexOf(lab, 'p0');
  const isAs = (...vlans: readonly PortVlan[]): void => {
    assert.deepEqual(listPortVlans(rtnl, ifindex), vlans);
    assert.deepEqual(listVlans(rtnl).get(ifindex), vlans);
    assert.deepEqual(inRows(judged(lab, 'p0')), vlans);
  };
  assert.equal(getLink(rtnl, 'br7')?.data.vlanFiltering, true);
  assert.equal(getLink(rtnl, 'br7')?.data.defaultPvid, 1);
  isAs(native(1));
  rtnl.request(addPortVlan({ ifindex }, native(100)));
  isAs({ vid: 1, pvid: false, untagged: true }, native(100));
  rtnl.request(delPortVlan({ ifindex }, native(1)));
  rtnl.request(addPortVlan({ ifindex }, tagged(200, 299)));
  isAs(native(100), tagged(200, 299));
  rtnl.request(addPortVlan({ ifindex }, tagged(100)));
  rtnl.request(delPortVlan({ ifindex }, tagged(250)));
  isAs(tagged(100), tagged(200, 249), tagged(251, 299));
  rtnl.request(delPortVlan({ ifindex }, tagged(7)));
});

test('the bridge itself, and filtering switched on and off', (t) => {
  if (skipUnless(t, 'root', 'vlan-filtering')) return;
  const lab = createLab(t);
  const { rtnl } = lab;
  rtnl.request(addLink({ kind: 'bridge', name: 'br7' }));
  const ifindex = ifindexOf(lab, 'br7');
  for (const vlanFiltering of [true, false]) {
    rtnl.request(changeLink(ifindex, { kind: 'bridge', vlanFiltering }));
    assert.equal(getLink(rtnl, ifindex)?.data.vlanFiltering, vlanFiltering);
    assert.equal(lab.ipJson('link show br7')[0].linkinfo.info_data.vlan_filtering, Number(vlanFiltering));
  }
  rtnl.request(addPortVlan({ ifindex, self: true }, tagged(100)));
  assert.deepEqual(listPortVlans(rtnl, ifindex), [native(1), tagged(100)]);
  assert.deepEqual(judged(lab, 'br7'), [native(1), tagged(100)]);
});

test('a kernel whose bridges filter no VLANs says EOPNOTSUPP', (t) => {
  if (skipUnless(t, 'root')) return;
  if (capability('vlan-filtering')) return t.skip('the kernel has vlan-filtering');
  const lab = createLab(t);
  lab.ip('link add br7 type bridge');
  lab.ip('link add p0 master br7 type veth peer name p1');
  const ifindex = ifindexOf(lab, 'p0');
  const asks = [
    () => lab.rtnl.request(addPortVlan({ ifindex }, native(100))),
    () => lab.rtnl.request(changeLink(ifindexOf(lab, 'br7'), { kind: 'bridge', vlanFiltering: true })),
    () => listPortVlans(lab.rtnl, ifindex),
  ];
  for (const ask of asks) assert.throws(ask, (error) => hasErrno(error, 'EOPNOTSUPP'));
});
