import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  addFdb,
  addNeigh,
  delFdb,
  delNeigh,
  listFdb,
  listNeighs,
  listProxies,
  NTF_SELF,
  replaceNeigh,
} from '../../../src/kernel/netlink/neigh.ts';
import { NTF_PROXY } from '../../../src/model/link.ts';
import { createLab, ifindexOf, type Json } from '../lab.ts';

const mac = '02:00:00:00:00:11';

test('neighbours of both families: added, replaced, listed, deleted', (t) => {
  const lab = createLab(t);
  lab.ip('link add br1 up type bridge');
  lab.ip('link add br2 up type bridge');
  const ifindex = ifindexOf(lab, 'br1');
  for (const ip of ['10.0.0.9', 'fd00::9']) {
    lab.rtnl.request(addNeigh({ ifindex, ip, mac }));
    assert.throws(() => lab.rtnl.request(addNeigh({ ifindex, ip, mac })), {
      op: 'neigh.add',
      errno: 'EEXIST',
    });
    lab.rtnl.request(replaceNeigh({ ifindex, ip, mac: '02:00:00:00:00:12' }));
    const [seen] = lab.ipJson(`neigh show ${ip}`);
    assert.deepEqual([seen.dev, seen.lladdr, seen.state], ['br1', '02:00:00:00:00:12', ['PERMANENT']]);
    const ours = listNeighs(lab.rtnl, ifindex).filter((neigh) => neigh.ip === ip);
    assert.deepEqual(ours, [{ ifindex, ip, mac: '02:00:00:00:00:12', state: 0x80, flags: 0 }]);
    assert.deepEqual(
      listNeighs(lab.rtnl, ifindexOf(lab, 'br2')).filter((neigh) => neigh.ip === ip),
      [],
    );
    assert.equal(listNeighs(lab.rtnl).filter((neigh) => neigh.ip === ip).length, 1);
    lab.rtnl.request(delNeigh({ ifindex, ip }));
    assert.throws(() => lab.rtnl.request(delNeigh({ ifindex, ip })), { op: 'neigh.del', errno: 'ENOENT' });
  }
  assert.equal(lab.ipJson('neigh show nud permanent').length, 0);
});

test('proxied neighbours of both families: added, listed, deleted', (t) => {
  const lab = createLab(t);
  lab.ip('link add br1 up type bridge');
  lab.ip('link add br2 up type bridge');
  const ifindex = ifindexOf(lab, 'br1');
  const proxy = { state: 0, flags: NTF_PROXY };
  for (const ip of ['10.0.0.9', 'fd00::9']) {
    for (let i = 0; i < 2; i++) lab.rtnl.request(replaceNeigh({ ifindex, ip, ...proxy }));
    const theirs = (): string[] =>
      lab.ipJson('neigh show proxy').map(({ dst, dev }: Json) => `${dst} ${dev}`);
    assert.deepEqual(theirs(), [`${ip} br1`]);
    assert.deepEqual(listProxies(lab.rtnl, ifindex), [{ ifindex, ip, ...proxy }]);
    assert.deepEqual(listProxies(lab.rtnl, ifindexOf(lab, 'br2')), []);
    lab.rtnl.request(delNeigh({ ifindex, ip, ...proxy }));
    assert.throws(() => lab.rtnl.request(delNeigh({ ifindex, ip, ...proxy })), { errno: 'ENOENT' });
    assert.deepEqual(theirs(), []);
  }
});

test('forwarding entries of a bridge port: added, listed by port and by bridge, deleted', (t) => {
  const lab = createLab(t);
  lab.ip('link add br1 up type bridge');
  lab.ip('link add br2 up type bridge');
  lab.ip('link add p1 up master br1 type veth peer name q1');
  lab.ip('link add p2 up master br2 type veth peer name q2');
  const [bridge, other, ifindex] = ['br1', 'br2', 'p1'].map((name) => ifindexOf(lab, name)) as [
    number,
    number,
    number,
  ];
  lab.rtnl.request(addFdb({ ifindex, mac }));
  assert.throws(() => lab.rtnl.request(addFdb({ ifindex, mac })), { op: 'fdb.add', errno: 'EEXIST' });
  const theirs = (): Json[] => lab.bridgeJson('fdb show br br1').filter((entry: Json) => entry.mac === mac);
  assert.deepEqual([theirs()[0].ifname, theirs()[0].master, theirs()[0].state], ['p1', 'br1', 'permanent']);
  const ours = (filter: Parameters<typeof listFdb>[1]) =>
    listFdb(lab.rtnl, filter).filter((entry) => entry.mac === mac);
  assert.deepEqual(ours({ bridge }), ours({ ifindex }));
  assert.deepEqual(
    ours({ bridge }).map(({ ifindex: port, state }) => [port, state]),
    [[ifindex, 0x80]],
  );
  assert.deepEqual(ours({ bridge: other }), []);
  assert.equal(listFdb(lab.rtnl, { bridge }).length, lab.bridgeJson('fdb show br br1').length);
  lab.rtnl.request(delFdb({ ifindex, mac }));
  assert.deepEqual(theirs(), []);
  assert.throws(() => lab.rtnl.request(delFdb({ ifindex, mac })), { op: 'fdb.del', errno: 'ENOENT' });
});

test('forwarding entries of a vxlan have an address', (t) => {
  const lab = createLab(t);
  try {
    lab.ip('link add vx0 up type vxlan id 7 dstport 4789');
  } catch {
    return t.skip('kernel lacks vxlan');
  }
  const ifindex = ifindexOf(lab, 'vx0');
  lab.rtnl.request(addFdb({ ifindex, mac, ip: '10.0.0.9', flags: NTF_SELF }));
  const [seen] = lab.bridgeJson('fdb show dev vx0');
  assert.deepEqual([seen.mac, seen.dst, seen.flags], [mac, '10.0.0.9', ['self']]);
  assert.deepEqual(listFdb(lab.rtnl, { ifindex }), [
    { ifindex, ip: '10.0.0.9', mac, state: 0x80, flags: NTF_SELF },
  ]);
  lab.rtnl.request(delFdb({ ifindex, mac, ip: '10.0.0.9', flags: NTF_SELF }));
  assert.deepEqual(lab.bridgeJson('fdb show dev vx0'), []);
});
