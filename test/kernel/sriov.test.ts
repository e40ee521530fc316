/**
 * Virtual functions. No machine of ours has any: the messages are compared with those of `ip` 6.1, recorded with strace on
 * a link with the ifindex 3 (the kernel refuses them there), and what /sys says is read from a tree that is made up.
 */
import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import test, { type TestContext } from 'node:test';
import { hasErrno } from '../../src/errors.ts';
import { decodeVfs, listVfSettings, setVf } from '../../src/kernel/netlink/vf.ts';
import { listVfs } from '../../src/kernel/sriov.ts';
import { skipUnless } from '../lab.ts';
import { createLab, ifindexOf } from './lab.ts';

const mac = '02:00:00:00:00:07';
const recorded = [
  {
    command: `ip link set up0 vf 3 mac ${mac} vlan 100 spoofchk off`,
    ours: setVf(3, 3, { mac, vid: 100, spoofCheck: false }),
    // ifinfomsg of 3, VFINFO_LIST { VF_INFO { MAC { 3, mac }, VLAN { 3, 100, 0 }, SPOOFCHK { 3, 0 } } }
    theirs:
      '000000000300000000000000000000004c0016004800010028000100030000000200000000070000000000000000000000000000000000000000000000000000100002000300000064000000000000000c0004000300000000000000',
  },
  {
    command: 'ip link set up0 vf 0 vlan 0',
    ours: setVf(3, 0, { vid: 0 }),
    // VFINFO_LIST { VF_INFO { VLAN { 0, 0, 0 } } }
    theirs: '00000000030000000000000000000000180016001400010010000200000000000000000000000000',
  },
];

for (const { command, ours, theirs } of recorded) {
  test(`recorded: ${command}`, () => {
    assert.equal(Buffer.from(ours.body).toString('hex'), theirs);
  });
}

test('what was written is read: the kernel answers with the same attributes', () => {
  const settings = { mac, vid: 100, spoofCheck: true };
  assert.deepEqual(decodeVfs(Buffer.from(setVf(3, 5, settings).body)), new Map([[5, settings]]));
  // A driver that cannot check for spoofing says -1.
  const cannot = Buffer.from(setVf(3, 5, settings).body);
  cannot.writeInt32LE(-1, cannot.length - 4);
  assert.deepEqual(decodeVfs(cannot), new Map([[5, { mac, vid: 100 }]]));
});

test('a NIC without virtual functions', (t) => {
  if (skipUnless(t, 'root')) return;
  const lab = createLab(t);
  lab.ip('link add up0 type veth peer name up1');
  const ifindex = ifindexOf(lab, 'up0');
  assert.deepEqual(listVfSettings(lab.rtnl, ifindex), new Map());
  assert.throws(
    () => lab.rtnl.request(setVf(ifindex, 0, { vid: 5 })),
    (error) => hasErrno(error, 'EOPNOTSUPP'),
  );
});

/** A /sys with one NIC: the links of its virtual functions, undefined for one that is elsewhere. */
function sysfs(t: TestContext, most: number, links: readonly (string | undefined)[]): string {
  const root = mkdtempSync(path.join(tmpdir(), 'pwt-sys-'));
  t.after(() => rmSync(root, { recursive: true, force: true }));
  const device = path.join(root, 'class/net/eth0/device');
  mkdirSync(device, { recursive: true });
  writeFileSync(path.join(device, 'sriov_totalvfs'), `${most}\n`);
  writeFileSync(path.join(device, 'sriov_numvfs'), `${links.length}\n`);
  for (const [index, name] of links.entries()) {
    const net = path.join(device, `virtfn${index}/net`);
    mkdirSync(net, { recursive: true });
    if (name !== undefined) mkdirSync(path.join(net, name));
  }
  return root;
}

test('the virtual functions of a NIC, from /sys', (t) => {
  assert.deepEqual(listVfs('eth0', sysfs(t, 8, ['eth4', undefined, 'eth5'])), {
    most: 8,
    vfs: [
      { index: 0, ifname: 'eth4' },
      { index: 1, ifname: undefined },
      { index: 2, ifname: 'eth5' },
    ],
  });
  assert.deepEqual(listVfs('eth0', sysfs(t, 8, [])), { most: 8, vfs: [] });
  assert.deepEqual(listVfs('lo'), { most: 0, vfs: [] });
});
