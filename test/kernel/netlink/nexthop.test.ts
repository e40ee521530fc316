import assert from 'node:assert/strict';
import { test } from 'node:test';
import { listNexthops, replaceNexthop } from '../../../src/kernel/netlink/nexthop.ts';
import { createLab, ifindexOf } from '../lab.ts';

test('nexthop objects as they were read go to another link, and the routes that name them with them', (t) => {
  const lab = createLab(t);
  for (const words of [
    'link set lo up',
    'link add br1 up type bridge',
    'link add br2 up type bridge',
    'addr add 10.0.0.2/24 dev br1',
    'addr add 10.0.0.2/24 dev br2',
    'addr add fd00::2/64 dev br1 nodad',
    'addr add fd00::2/64 dev br2 nodad',
    'nexthop add id 7 via 10.0.0.1 dev br1 proto static',
    'nexthop add id 8 via 172.16.0.1 dev br1 onlink',
    'nexthop add id 9 via fd00::1 dev br1',
    'nexthop add id 10 dev br1',
    'nexthop add id 11 blackhole',
    'nexthop add id 12 group 7/8',
    'route add 10.20.0.0/16 nhid 7',
  ])
    lab.ip(words);
  const before = lab.ipJson('nexthop show');
  const [one, two] = [ifindexOf(lab, 'br1'), ifindexOf(lab, 'br2')];
  const found = listNexthops(lab.rtnl);
  assert.deepEqual(
    found.map(({ id, dev }) => [id, dev]),
    [7, 8, 9, 10].map((id) => [id, one]),
  );
  const move = (dev: number): void =>
    assert.deepEqual(
      lab.rtnl.batch(found.map((nexthop) => replaceNexthop({ ...nexthop, dev }))).filter(Boolean),
      [],
    );
  move(two);
  assert.equal(lab.ipJson('route show 10.20.0.0/16')[0].dev, 'br2');
  assert.deepEqual(
    listNexthops(lab.rtnl),
    found.map((nexthop) => ({ ...nexthop, dev: two })),
  );
  move(one);
  assert.deepEqual(lab.ipJson('nexthop show'), before);
});
