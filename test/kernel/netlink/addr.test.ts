import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { addAddr, delAddr, listAddrs, replaceAddr } from '../../../src/kernel/netlink/addr.ts';
import { formatCidr, parseCidr } from '../../../src/model/address.ts';
import { createLab, ifindexOf, type Json, type Lab } from '../lab.ts';

const cidr = (text: string) => parseCidr(text)!;

function withLink(t: TestContext): { lab: Lab; ifindex: number } {
  const lab = createLab(t);
  lab.ip('link add br1 up type bridge');
  lab.ip('link add br2 type bridge');
  return { lab, ifindex: ifindexOf(lab, 'br1') };
}

/** Addresses without those that the kernel makes from the MAC. */
function theirs(lab: Lab, link = 'br1'): Json[] {
  return lab.ipJson(`addr show dev ${link}`)[0].addr_info.filter(({ scope }: Json) => scope !== 'link');
}

for (const [text, family, local, prefixlen] of [
  ['10.0.0.2/24', 'inet', '10.0.0.2', 24],
  ['fd00::2/64', 'inet6', 'fd00::2', 64],
] as const) {
  test(`${text}: added, listed, deleted`, (t) => {
    const { lab, ifindex } = withLink(t);
    lab.rtnl.request(addAddr(ifindex, { cidr: cidr(text) }));
    const [seen] = theirs(lab);
    assert.deepEqual(
      [seen.family, seen.local, seen.prefixlen, seen.scope],
      [family, local, prefixlen, 'global'],
    );
    const ours = listAddrs(lab.rtnl, ifindex).find(({ scope }) => scope === 0);
    assert.equal(ours && formatCidr(ours.cidr), text);
    assert.ok(ours && (ours.flags & 0x80) !== 0);
    assert.throws(() => lab.rtnl.request(addAddr(ifindex, { cidr: cidr(text) })), {
      op: 'addr.add',
      errno: 'EEXIST',
    });
    lab.rtnl.request(delAddr(ifindex, cidr(text)));
    assert.equal(theirs(lab).length, 0);
    assert.throws(() => lab.rtnl.request(delAddr(ifindex, cidr(text))), {
      op: 'addr.del',
      errno: 'EADDRNOTAVAIL',
    });
  });
}

test('broadcast, scope, flags and lifetimes', (t) => {
  const { lab, ifindex } = withLink(t);
  const addr = {
    cidr: cidr('10.0.0.2/24'),
    broadcast: '10.0.0.255',
    scope: 254,
    validLifetime: 600,
    preferredLifetime: 300,
  };
  // noprefixroute
  lab.rtnl.request(addAddr(ifindex, { ...addr, flags: 0x200 }));
  const [seen] = theirs(lab);
  assert.deepEqual(
    [seen.broadcast, seen.scope, seen.noprefixroute, seen.valid_life_time, seen.preferred_life_time],
    ['10.0.0.255', 'host', true, 600, 300],
  );
  const [ours] = listAddrs(lab.rtnl, ifindex).filter(({ cidr: { family } }) => family === 4);
  // IFA_LABEL, which the kernel gives every IPv4 address and nobody here reads, is kept as it is.
  const unknown = [{ type: 3, data: Buffer.from('br1\0') }];
  assert.deepEqual(ours, { ifindex, ...addr, flags: 0x200, unknown });
  lab.rtnl.request(replaceAddr(ifindex, { cidr: addr.cidr, validLifetime: 1000 }));
  assert.deepEqual([theirs(lab)[0].valid_life_time, theirs(lab)[0].preferred_life_time], [1000, 1000]);
});

test('an address as it was read is one that can be added', (t) => {
  const { lab, ifindex } = withLink(t);
  lab.ip('addr add 10.0.0.2/24 brd + dev br1 noprefixroute');
  lab.ip('addr add 10.0.0.3/24 dev br1 valid_lft 600 preferred_lft 300');
  lab.ip('addr add fd00::2/64 dev br1 nodad home');
  lab.ip('addr add fd00::3/64 dev br1');
  const before = theirs(lab);
  const read = listAddrs(lab.rtnl, ifindex).filter(({ scope }) => scope === 0);
  lab.ip('addr flush dev br1 scope global');
  assert.equal(theirs(lab).length, 0);
  assert.deepEqual(lab.rtnl.batch(read.map((addr) => addAddr(ifindex, addr))).filter(Boolean), []);
  const stable = (addrs: Json[]) =>
    addrs.map(({ tentative: _, ...addr }) => addr).sort((a, b) => a.local.localeCompare(b.local));
  assert.deepEqual(stable(theirs(lab)), stable(before));
});

test('addresses of one link or of all, with the peer of a point-to-point link kept out', (t) => {
  const { lab, ifindex } = withLink(t);
  lab.ip('addr add 10.0.0.2/24 dev br1');
  lab.ip('addr add 10.1.0.2/24 dev br2');
  lab.ip('addr add 10.2.0.1 peer 10.2.0.2/32 dev br2');
  const texts = (addrs: ReturnType<typeof listAddrs>): string[] =>
    addrs.filter(({ scope }) => scope === 0).map((addr) => `${addr.ifindex} ${formatCidr(addr.cidr)}`);
  assert.deepEqual(texts(listAddrs(lab.rtnl, ifindex)), [`${ifindex} 10.0.0.2/24`]);
  const other = ifindexOf(lab, 'br2');
  assert.deepEqual(texts(listAddrs(lab.rtnl)), [
    `${ifindex} 10.0.0.2/24`,
    `${other} 10.1.0.2/24`,
    `${other} 10.2.0.1/32`,
  ]);
  // A link that has gone has no addresses.
  assert.deepEqual(listAddrs(lab.rtnl, 12345), []);
});
