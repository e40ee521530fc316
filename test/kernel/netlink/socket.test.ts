import assert from 'node:assert/strict';
import { readdirSync } from 'node:fs';
import { test } from 'node:test';
import { addAddr } from '../../../src/kernel/netlink/addr.ts';
import {
  addLink,
  delLink,
  delLinkGroup,
  getLink,
  listLinks,
  setLink,
} from '../../../src/kernel/netlink/link.ts';
import { addRoute } from '../../../src/kernel/netlink/route.ts';
import { NetlinkSocket } from '../../../src/kernel/netlink/socket.ts';
import { hostNetns } from '../../../src/kernel/netns.ts';
import { parseCidr } from '../../../src/model/address.ts';
import { createLab, ifindexOf } from '../lab.ts';

const bridge = (name: string, group = 7) => addLink({ kind: 'bridge', name, group });

test('batch: one send, an outcome for each, and the kernel goes on after a refusal', (t) => {
  const { rtnl, name, ip, ipJson } = createLab(t);
  ip('link add br1 type bridge');
  const before = { ...rtnl.counters };
  const outcomes = rtnl.batch([
    bridge('br0'),
    bridge('br1'),
    setLink({ ifindex: 999 }, { up: true }),
    bridge('br2'),
  ]);
  assert.deepEqual(
    outcomes.map((outcome) => outcome && [outcome.code, outcome.op, outcome.subject, outcome.errno]),
    [
      undefined,
      ['KERNEL_REFUSED', 'link.add', `br1 in ${name}`, 'EEXIST'],
      ['KERNEL_REFUSED', 'link.set', `link 999 in ${name}`, 'ENODEV'],
      undefined,
    ],
  );
  assert.deepEqual(rtnl.counters, { sends: before.sends + 1, messages: before.messages + 4 });
  const names = ipJson('link show type bridge').map((link: { ifname: string }) => link.ifname);
  assert.deepEqual(names.sort(), ['br0', 'br1', 'br2']);
  assert.deepEqual(rtnl.batch([]), []);
});

test("errors carry the kernel's own explanation", (t) => {
  const { rtnl, name, ip } = createLab(t);
  ip('link add br1 type bridge');
  ip('link set br1 up');
  const { ifindex } = getLink(rtnl, 'br1') ?? {};
  assert.ok(ifindex);
  assert.throws(() => rtnl.request(addRoute({ family: 4, gateway: '10.9.9.1', dev: ifindex })), {
    message: `route.add default via 10.9.9.1 on link ${ifindex} in ${name}: Nexthop has invalid gateway [ENETUNREACH]`,
  });
  const cidr = parseCidr('10.0.0.2/24')!;
  rtnl.request(addAddr(ifindex, { cidr }));
  assert.throws(() => rtnl.request(addAddr(ifindex, { cidr })), { errno: 'EEXIST', op: 'addr.add' });
});

test('a kind that the kernel lacks is told from other refusals, with what to do', (t) => {
  const { rtnl } = createLab(t);
  // One that no kernel has: what is asked for is a kind of link, whatever its name.
  const spec = { ...bridge('x0'), body: Buffer.from(bridge('x0').body) };
  const at = spec.body.indexOf('bridge');
  spec.body.write('bridgf', at);
  assert.throws(() => rtnl.request(spec), {
    code: 'KIND_UNSUPPORTED',
    errno: 'EOPNOTSUPP',
    message: /Unknown device type/,
    hint: 'try: modprobe bridge',
  });
});

test('without rights every request is refused as not permitted, and reading is not', (t) => {
  if (process.getuid?.() !== 0) return t.skip('needs root');
  process.seteuid?.(65534);
  try {
    using rtnl = NetlinkSocket.open(hostNetns());
    assert.throws(() => rtnl.request(bridge('pwtnever')), {
      code: 'NOT_PERMITTED',
      errno: 'EPERM',
      op: 'link.add',
    });
    assert.equal(getLink(rtnl, 'lo')?.arphrd, 772);
  } finally {
    process.seteuid?.(0);
  }
});

test('a batch larger than a send, and a dump larger than a read: 600 links, deleted by group at once', (t) => {
  const lab = createLab(t);
  const { rtnl } = lab;
  const pairs = Array.from({ length: 300 }, (_, i) =>
    addLink({ kind: 'veth', name: `v${i}`, group: 7, mtu: 1400, peer: { name: `w${i}`, group: 7 } }),
  );
  const sends = rtnl.counters.sends;
  assert.deepEqual(rtnl.batch(pairs).filter(Boolean), []);
  assert.equal(rtnl.counters.sends - sends, 3);

  // Of about a kilobyte each: more than one read.
  const links = listLinks(rtnl);
  const theirs: { ifname: string; ifindex: number; address: string; mtu: number }[] = lab.ipJson('link show');
  assert.equal(links.length, 601);
  assert.deepEqual(
    links.map(({ name, ifindex, mac, mtu }) => ({ ifname: name, ifindex, address: mac, mtu })),
    theirs.map(({ ifname, ifindex, address, mtu }) => ({ ifname, ifindex, address, mtu })),
  );

  rtnl.request(delLinkGroup(7));
  assert.deepEqual(
    listLinks(rtnl).map(({ name }) => name),
    ['lo'],
  );
  assert.throws(() => rtnl.request(delLinkGroup(7)), { errno: 'ENODEV', op: 'link.del' });
});

test('requestInBackground: the event loop runs on, and the outcome is that of request', async (t) => {
  const lab = createLab(t);
  const { rtnl } = lab;
  rtnl.batch(['br0', 'br1', 'br2', 'br3'].map((name) => bridge(name)));
  const indexes = ['br0', 'br1', 'br2', 'br3'].map((name) => ifindexOf(lab, name));
  const descriptors = readdirSync('/proc/self/fd').length;
  let ticks = 0;
  const timer = setInterval(() => ticks++, 1);
  await Promise.all(indexes.map((ifindex) => rtnl.requestInBackground(delLink(ifindex))));
  clearInterval(timer);
  assert.ok(ticks > 2, `${ticks} ticks of 1 ms meanwhile`);
  assert.equal(lab.ipJson('link show type bridge').length, 0);
  await assert.rejects(rtnl.requestInBackground(delLink(indexes[0] ?? 0)), {
    errno: 'ENODEV',
    op: 'link.del',
  });
  assert.equal(readdirSync('/proc/self/fd').length, descriptors);
});

test('a socket stays in its namespace, and is closed with its scope', (t) => {
  const [one, two] = [createLab(t), createLab(t)];
  one.rtnl.request(bridge('onlyone'));
  two.rtnl.request(bridge('onlytwo'));
  assert.equal(getLink(one.rtnl, 'onlytwo'), undefined);
  assert.equal(getLink(two.rtnl, 'onlytwo')?.name, 'onlytwo');
  const before = readdirSync('/proc/self/fd').length;
  {
    using rtnl = NetlinkSocket.open(one.netns);
    assert.equal(getLink(rtnl, 'onlyone')?.kind, 'bridge');
  }
  assert.equal(readdirSync('/proc/self/fd').length, before);
});

test('a dump while links go is a picture of one moment, or is made again', async (t) => {
  const lab = createLab(t);
  const { rtnl } = lab;
  rtnl.batch(Array.from({ length: 100 }, (_, i) => bridge(`b${i}`)));
  const deleting = rtnl.requestInBackground(delLinkGroup(7));
  const pictures: (readonly number[])[] = [];
  for (let i = 0; i < 50; i++) {
    pictures.push(listLinks(rtnl).map(({ ifindex }) => ifindex));
    await new Promise((resolve) => setImmediate(resolve));
  }
  await deleting;
  // What is missing in one picture cannot be in a later one, and nothing is in one twice.
  pictures.forEach((picture, i) => {
    const before = new Set(pictures[i - 1] ?? picture);
    assert.equal(new Set(picture).size, picture.length);
    assert.deepEqual(
      picture.filter((ifindex) => !before.has(ifindex)),
      [],
    );
  });
});
