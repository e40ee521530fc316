import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { attrNumber } from '../../../src/kernel/netlink/codec.ts';
import {
  addRoute,
  agedRoute,
  appendRoute,
  delRoute,
  getRoute,
  hasNexthopObject,
  listRoutes,
  prependRoute,
  replaceRoute,
  retargetRoute,
  routeDevs,
} from '../../../src/kernel/netlink/route.ts';
import { parseCidr } from '../../../src/model/address.ts';
import { createLab, ifindexOf, type Json, type Lab } from '../lab.ts';

const cidr = (text: string) => parseCidr(text)!;

function withLink(t: TestContext): { lab: Lab; dev: number } {
  const lab = createLab(t);
  lab.ip('link add br1 up type bridge');
  lab.ip('link add br2 up type bridge');
  lab.ip('addr add 10.0.0.2/24 dev br1');
  lab.ip('addr add fd00::2/64 dev br1 nodad');
  return { lab, dev: ifindexOf(lab, 'br1') };
}

/** Every route of the namespace that was made by hand, without what changes by itself. */
function byHand(lab: Lab): Json[] {
  const all = [...lab.ipJson('-4 route show table all'), ...lab.ipJson('-6 route show table all')];
  return all
    .filter(({ protocol }: Json) => protocol !== 'kernel')
    .map((route: Json) => ({
      ...route,
      flags: [],
      nexthops: route.nexthops?.map((hop: Json) => ({ ...hop, flags: [] })),
    }));
}

test('default routes of both families', (t) => {
  const { lab, dev } = withLink(t);
  const routes = [
    { family: 4, gateway: '10.0.0.1', dev },
    { family: 6, gateway: 'fd00::1', dev, metric: 50 },
  ] as const;
  assert.deepEqual(lab.rtnl.batch(routes.map(addRoute)), [undefined, undefined]);
  const [four] = lab.ipJson('route show default');
  assert.deepEqual(
    [four.gateway, four.dev, four.protocol, four.scope],
    ['10.0.0.1', 'br1', 'boot', 'global'],
  );
  const [six] = lab.ipJson('-6 route show default');
  assert.deepEqual([six.gateway, six.dev, six.protocol, six.metric], ['fd00::1', 'br1', 'boot', 50]);
  assert.throws(() => lab.rtnl.request(addRoute(routes[0])), {
    op: 'route.add',
    errno: 'EEXIST',
    subject: `default via 10.0.0.1 on link ${dev} in ${lab.name}`,
  });
  const [ours] = listRoutes(lab.rtnl, { family: 4, table: 254 }).filter(({ dst }) => dst === undefined);
  assert.deepEqual(ours, {
    family: 4,
    gateway: '10.0.0.1',
    dev,
    scope: 0,
    table: 254,
    protocol: 3,
    type: 1,
    unknown: [],
  });
});

test('replaceRoute takes the place of the route with the same destination and metric', (t) => {
  const { lab, dev } = withLink(t);
  lab.rtnl.request(replaceRoute({ family: 4, gateway: '10.0.0.1', dev, protocol: 4 }));
  lab.rtnl.request(replaceRoute({ family: 4, gateway: '10.0.0.9', dev, protocol: 4 }));
  lab.rtnl.request(replaceRoute({ family: 4, gateway: '10.0.0.7', dev, protocol: 4, metric: 10 }));
  const seen = lab
    .ipJson('route show default')
    .map(({ gateway, metric, protocol }: Json) => [gateway, metric, protocol]);
  assert.deepEqual(seen, [
    ['10.0.0.9', undefined, 'static'],
    ['10.0.0.7', 10, 'static'],
  ]);
});

test('scopes, tables, sources, onlink and types', (t) => {
  const { lab, dev } = withLink(t);
  const outcomes = lab.rtnl.batch([
    addRoute({ family: 4, dst: cidr('10.5.0.0/16'), dev }),
    addRoute({
      family: 4,
      dst: cidr('10.6.0.0/16'),
      gateway: '192.0.2.1',
      dev,
      onlink: true,
      prefsrc: '10.0.0.2',
    }),
    addRoute({ family: 4, dst: cidr('10.7.0.0/16'), dev, table: 100 }),
    addRoute({ family: 6, dst: cidr('fd07::/64'), dev, table: 1000 }),
    addRoute({ family: 4, dst: cidr('10.8.0.0/16'), type: 7 }),
  ]);
  assert.deepEqual(outcomes.filter(Boolean), []);
  const [link] = lab.ipJson('route show 10.5.0.0/16');
  assert.deepEqual([link.scope, link.dev], ['link', 'br1']);
  const [onlink] = lab.ipJson('route show 10.6.0.0/16');
  assert.deepEqual([onlink.gateway, onlink.prefsrc, onlink.flags], ['192.0.2.1', '10.0.0.2', ['onlink']]);
  assert.equal(lab.ipJson('route show table 100')[0].dst, '10.7.0.0/16');
  assert.equal(lab.ipJson('-6 route show table 1000')[0].dst, 'fd07::/64');
  assert.equal(lab.ipJson('route show 10.8.0.0/16')[0].type, 'unreachable');
  assert.deepEqual(
    listRoutes(lab.rtnl, { table: 1000 }).map(({ dst, table }) => [dst, table]),
    [[cidr('fd07::/64'), 1000]],
  );
  assert.deepEqual(listRoutes(lab.rtnl, { family: 4, table: 4711 }), []);
  assert.deepEqual(listRoutes(lab.rtnl, { table: 4711 }), []);
});

test('delRoute: what is not said matches anything, and what is said has to match', (t) => {
  const { lab, dev } = withLink(t);
  lab.ip('route add default via 10.0.0.1 dev br1 metric 5 proto static');
  lab.ip('route add default via 10.0.0.9 dev br1 metric 6');
  lab.ip('-6 route add default via fd00::1 dev br1');
  assert.throws(() => lab.rtnl.request(delRoute({ family: 4, gateway: '10.0.0.4' })), {
    op: 'route.del',
    errno: 'ESRCH',
  });
  lab.rtnl.request(delRoute({ family: 4, gateway: '10.0.0.9', dev }));
  assert.deepEqual(
    lab.ipJson('route show default').map(({ gateway }: Json) => gateway),
    ['10.0.0.1'],
  );
  lab.rtnl.request(delRoute({ family: 4 }));
  lab.rtnl.request(delRoute({ family: 6 }));
  assert.deepEqual(byHand(lab), []);
});

/** Each can be read, deleted as it was read, and added again as it was read. */
const kept: readonly { readonly name: string; readonly command: string; readonly before?: string }[] = [
  { name: 'metrics', command: 'route add 10.20.0.0/16 via 10.0.0.1 mtu lock 1300 initcwnd 20 advmss 1200' },
  { name: 'metrics of a direct route', command: 'route add 10.20.0.0/16 dev br1 mtu 1300' },
  {
    name: 'several next hops',
    command: 'route add 10.21.0.0/16 nexthop via 10.0.0.1 weight 2 nexthop via 10.0.0.9 dev br1',
  },
  { name: 'a next hop of the other family', command: 'route add 10.22.0.0/16 via inet6 fd00::1 dev br1' },
  {
    name: 'a nexthop object',
    before: 'nexthop add id 7 via 10.0.0.1 dev br1',
    command: 'route add 10.23.0.0/16 nhid 7',
  },
  { name: 'a realm', command: 'route add 10.24.0.0/16 via 10.0.0.1 realm 5' },
  {
    name: 'several IPv6 next hops',
    command: '-6 route add fd21::/64 nexthop via fd00::1 dev br1 nexthop via fd00::9 dev br1',
  },
  { name: 'an IPv6 source', command: '-6 route add fd23::/64 from fd00::/64 via fd00::1 dev br1' },
  { name: 'IPv6 preference', command: '-6 route add fd22::/64 via fd00::1 dev br1 pref high metric 9' },
  { name: 'IPv6 metrics', command: '-6 route add default via fd00::1 dev br1 mtu 1400 proto ra hoplimit 50' },
  { name: 'a blackhole', command: 'route add blackhole 10.25.0.0/16 metric 9' },
  { name: 'an IPv6 blackhole', command: '-6 route add blackhole fd25::/64' },
  {
    name: 'onlink, source, table, protocol',
    command: 'route add 10.26.0.0/16 via 192.0.2.1 dev br1 onlink src 10.0.0.2 table 500 proto 77',
  },
  { name: 'a local address', command: 'route add local 10.27.0.0/16 dev lo table 99' },
];

for (const { name, before, command } of kept) {
  test(`a route as it was read can be added again: ${name}`, (t) => {
    const { lab } = withLink(t);
    if (before) lab.ip(before);
    lab.ip(command);
    const expected = byHand(lab);
    assert.equal(expected.length, 1);
    const [route, ...others] = listRoutes(lab.rtnl).filter(({ protocol }) => protocol !== 2);
    assert.ok(route);
    assert.equal(others.length, 0);
    lab.rtnl.request(delRoute(route));
    assert.deepEqual(byHand(lab), []);
    lab.rtnl.request(addRoute(route));
    assert.deepEqual(byHand(lab), expected);
    lab.rtnl.request(replaceRoute(route));
    assert.deepEqual(byHand(lab), expected);
  });
}

test('a route that expires is added with the time that it has left', (t) => {
  const { lab } = withLink(t);
  lab.ip('-6 route add fd30::/64 via fd00::1 dev br1 expires 600');
  const [route] = listRoutes(lab.rtnl, { family: 6, table: 254 }).filter(({ dst }) => dst?.ip === 'fd30::');
  assert.ok(route);
  assert.deepEqual(route.unknown.map(attrNumber).sort(), [20, 23]);
  lab.rtnl.request(delRoute(route));
  lab.rtnl.request(addRoute(route));
  assert.ok(Math.abs(lab.ipJson('-6 route show fd30::/64')[0].expires - 600) <= 2);
});

test('next hops whose link is down: the state is not written back', (t) => {
  const { lab } = withLink(t);
  lab.ip('link add va up type veth peer name vb');
  lab.ip('addr add 10.1.0.2/24 dev va');
  lab.ip('route add 10.21.0.0/16 nexthop via 10.0.0.1 nexthop via 10.1.0.1');
  const [hops] = lab.ipJson('route show 10.21.0.0/16');
  assert.ok(
    hops.nexthops.some(({ flags }: Json) => flags.includes('linkdown')),
    JSON.stringify(hops),
  );
  const [route] = listRoutes(lab.rtnl).filter(({ dst }) => dst?.ip === '10.21.0.0');
  assert.ok(route);
  lab.rtnl.request(replaceRoute(route));
  lab.rtnl.request(delRoute(route));
  lab.rtnl.request(addRoute(route));
  assert.equal(lab.ipJson('route show 10.21.0.0/16')[0].nexthops.length, 2);
});

test('getRoute: as `ip route get`; undefined when there is no way', (t) => {
  const { lab, dev } = withLink(t);
  assert.equal(getRoute(lab.rtnl, '8.8.8.8'), undefined);
  lab.ip('route add default via 10.0.0.1');
  lab.ip('-6 route add default via fd00::1');
  const found = getRoute(lab.rtnl, '8.8.8.8');
  const [theirs] = lab.ipJson('route get 8.8.8.8');
  assert.deepEqual([found?.gateway, found?.dev, found?.prefsrc], [theirs.gateway, dev, theirs.prefsrc]);
  assert.deepEqual(
    [getRoute(lab.rtnl, '2001:db8::1')?.gateway, getRoute(lab.rtnl, 'fd00::7')?.dev],
    ['fd00::1', dev],
  );
  assert.equal(getRoute(lab.rtnl, '10.0.0.2')?.type, 2);
});

test('routes of one destination: behind and before each other, and with a type of service', (t) => {
  const { lab, dev } = withLink(t);
  const other = ifindexOf(lab, 'br2');
  const to = { family: 4, dst: cidr('10.5.0.0/16') } as const;
  lab.rtnl.request(addRoute({ ...to, dev }));
  lab.rtnl.request(appendRoute({ ...to, dev: other }));
  const devs = (): string[] => lab.ipJson('route show 10.5.0.0/16').map((route: Json) => route.dev);
  assert.deepEqual(devs(), ['br1', 'br2']);
  assert.throws(() => lab.rtnl.request(appendRoute({ ...to, dev: other })), { errno: 'EEXIST' });
  lab.rtnl.request(delRoute({ ...to, dev: other }));
  lab.rtnl.request(prependRoute({ ...to, dev: other }));
  assert.deepEqual(devs(), ['br2', 'br1']);
  lab.ip('route add 10.6.0.0/16 dev br1 tos 0x10');
  const [found] = listRoutes(lab.rtnl, { family: 4, table: 254 }).filter(({ tos }) => tos !== undefined);
  assert.equal(found?.tos, 0x10);
  const before = byHand(lab);
  lab.rtnl.request(delRoute(found!));
  lab.rtnl.request(addRoute(found!));
  assert.deepEqual(byHand(lab), before);
});

test('a route goes to another link, with those of its next hops that leave by the first', (t) => {
  const { lab, dev } = withLink(t);
  const other = ifindexOf(lab, 'br2');
  lab.ip('addr add 10.1.0.2/24 dev br2');
  lab.ip('route add 10.7.0.0/16 nexthop via 10.0.0.1 dev br1 weight 2 nexthop via 10.1.0.1 dev br2 onlink');
  lab.ip('route add 10.8.0.0/16 dev br1');
  const found = (text: string) =>
    listRoutes(lab.rtnl, { family: 4, table: 254 }).find(({ dst }) => dst?.ip === text)!;
  assert.deepEqual(routeDevs(found('10.7.0.0')), [dev, other]);
  assert.equal(hasNexthopObject(found('10.7.0.0')), false);
  const moved = retargetRoute(found('10.7.0.0'), dev, other);
  assert.deepEqual(routeDevs(moved), [other, other]);
  assert.deepEqual(routeDevs(retargetRoute(found('10.8.0.0'), dev, other)), [other]);
  assert.deepEqual(routeDevs(retargetRoute(found('10.8.0.0'), other, dev)), [dev]);
});

test('a route that ends has less time left later, and none in the end', (t) => {
  const { lab } = withLink(t);
  lab.ip('-6 route add fd07::/64 dev br1 expires 100');
  const route = listRoutes(lab.rtnl, { family: 6, table: 254 }).find(({ dst }) => dst?.ip === 'fd07::')!;
  lab.rtnl.request(delRoute(route));
  lab.rtnl.request(addRoute(agedRoute(route, 40)!));
  const [again] = lab.ipJson('-6 route show fd07::/64');
  assert.ok(again.expires <= 60 && again.expires > 50);
  assert.equal(agedRoute(route, 1000), undefined);
});
