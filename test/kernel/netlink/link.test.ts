import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { hasErrno } from '../../../src/errors.ts';
import {
  addAltname,
  addLink,
  decodeLink,
  delAltname,
  delLink,
  delLinkGroup,
  getLink,
  listLinks,
  netnsIdOf,
  setLink,
} from '../../../src/kernel/netlink/link.ts';
import type { Link, NewLink } from '../../../src/model/link.ts';
import { createLab, ifindexOf, type Json, type Lab, run } from '../lab.ts';

/** Makes the link; false, and the test is skipped, when this kernel lacks its kind (or a feature of it). */
function made(t: TestContext, lab: Lab, spec: NewLink, what: string = spec.kind): boolean {
  try {
    lab.rtnl.request(addLink(spec));
    return true;
  } catch (error) {
    if (!hasErrno(error, 'EOPNOTSUPP')) throw error;
    t.skip(`kernel lacks ${what}`);
    return false;
  }
}

function withUplink(t: TestContext): { lab: Lab; uplink: number } {
  const lab = createLab(t);
  lab.ip('link add up0 type veth peer name up1');
  return { lab, uplink: ifindexOf(lab, 'up0') };
}

type Judged = Omit<
  Link,
  | 'unknown'
  | 'data'
  | 'lower'
  | 'master'
  | 'linkNetnsid'
  | 'promotesSecondaries'
  | 'ipv6Disabled'
  | 'rpFilter'
  | 'arpIgnore'
>;

/** What `ip` tells of a link, in the words of our own type. */
function judged(link: Json): Judged {
  return {
    ifindex: link.ifindex,
    name: link.ifname,
    altnames: link.altnames ?? [],
    kind: link.linkinfo?.info_kind,
    arphrd: { ether: 1, loopback: 772, none: 65534 }[link.link_type as string] ?? -1,
    mac: link.address ?? '',
    mtu: link.mtu,
    group: link.group === 'default' ? 0 : Number(link.group),
    up: link.flags.includes('UP'),
    carrier: link.flags.includes('LOWER_UP'),
    operstate: link.operstate.toLowerCase(),
  };
}

function sameAsIp(lab: Lab, name: string): { link: Link; theirs: Json } {
  const look = (): { link: Link | undefined; theirs: Json } => ({
    link: getLink(lab.rtnl, name),
    theirs: lab.ipJson(`link show ${name}`)[0],
  });
  let { link, theirs } = look();
  // The kernel tells of a carrier up to a second after the fact, so maybe between the two.
  if (link?.operstate !== theirs.operstate.toLowerCase()) ({ link, theirs } = look());
  assert.ok(link, name);
  const { data: _1, lower: _2, master: _3, linkNetnsid: _4, ...rest } = link;
  const { promotesSecondaries: _5, ipv6Disabled: _6, rpFilter: _7, arpIgnore: _8, ...ours } = rest;
  assert.deepEqual(ours, judged(theirs));
  return { link, theirs };
}

test('veth: both ends with all their settings in one message, the peer born in the other namespace', (t) => {
  const [host, guest] = [createLab(t), createLab(t)];
  host.rtnl.request(addLink({ kind: 'bridge', name: 'br1', up: true }));
  const master = ifindexOf(host, 'br1');
  const netnsFd = guest.netns.fd;
  const peer = { name: 'eth1', netnsFd, mtu: 1300, mac: '02:00:00:00:00:02', group: 78 };
  const settings = { mtu: 1400, mac: '02:00:00:00:00:01', group: 77, master, up: true };
  host.rtnl.request(addLink({ kind: 'veth', name: 'pwa', ...settings, peer }));

  const { link, theirs } = sameAsIp(host, 'pwa');
  assert.deepEqual([theirs.mtu, theirs.address, theirs.group], [1400, '02:00:00:00:00:01', '77']);
  assert.equal(theirs.master, 'br1');
  assert.ok(theirs.flags.includes('UP'));
  assert.equal(link.master, master);
  assert.equal(link.linkNetnsid, theirs.link_netnsid);
  assert.equal(netnsIdOf(host.rtnl, netnsFd), theirs.link_netnsid);

  const inGuest = sameAsIp(guest, 'eth1');
  assert.deepEqual(
    [inGuest.theirs.mtu, inGuest.theirs.address, inGuest.theirs.group, inGuest.link.up],
    [1300, '02:00:00:00:00:02', '78', false],
  );
  assert.equal(inGuest.link.lower, link.ifindex);
  assert.equal(link.lower, inGuest.link.ifindex);
});

test('veth: what the kernel would not honour of a peer is a mistake', () => {
  const spec = { kind: 'veth', name: 'a' } as const;
  assert.throws(() => addLink({ ...spec, peer: { name: 'b', up: true } }), /born up/);
  assert.throws(() => addLink({ ...spec, peer: { name: 'b', master: 3 } }), /master/);
});

test('a name that is taken: on the host, in the other namespace, and by an altname', (t) => {
  const [host, guest] = [createLab(t), createLab(t)];
  guest.ip('link add eth1 type bridge');
  guest.ip('link property add dev eth1 altname other');
  host.ip('link add pwa type bridge');
  const pair = (name: string, peer: string) =>
    addLink({ kind: 'veth', name, peer: { name: peer, netnsFd: guest.netns.fd } });
  const outcomes = host.rtnl.batch([pair('pwb', 'eth1'), pair('pwa', 'eth2'), pair('pwb', 'other')]);
  assert.deepEqual(
    outcomes.map((outcome) => outcome?.errno),
    ['EEXIST', 'EEXIST', 'EEXIST'],
  );
  assert.equal(guest.ipJson('link show').length, 2);
});

test('bridge: up, with STP off, and VLAN filtering where the kernel has it', (t) => {
  const lab = createLab(t);
  lab.rtnl.request(addLink({ kind: 'bridge', name: 'br1', up: true, mac: '02:00:00:00:00:09', mtu: 1400 }));
  const { link, theirs } = sameAsIp(lab, 'br1');
  assert.equal(theirs.linkinfo.info_data.stp_state, 0);
  assert.deepEqual([theirs.address, theirs.mtu, link.up], ['02:00:00:00:00:09', 1400, true]);
  assert.equal(link.master, undefined);
});

test('bridge: VLAN filtering', (t) => {
  const lab = createLab(t);
  if (!made(t, lab, { kind: 'bridge', name: 'br1', vlanFiltering: true }, 'bridge vlan_filtering')) return;
  const { link, theirs } = sameAsIp(lab, 'br1');
  assert.equal(theirs.linkinfo.info_data.vlan_filtering, 1);
  assert.deepEqual(link.data, { vlanFiltering: true, defaultPvid: 1 });
});

for (const mode of ['bridge', 'private', 'vepa', 'passthru'] as const) {
  test(`macvlan: mode ${mode}, born in the other namespace`, (t) => {
    const { lab, uplink } = withUplink(t);
    const guest = createLab(t);
    const settings = { mac: '02:00:00:00:00:05', mtu: 1400, group: 77, netnsFd: guest.netns.fd };
    if (!made(t, lab, { kind: 'macvlan', name: 'eth1', uplink, mode, ...settings })) return;
    const { link, theirs } = sameAsIp(guest, 'eth1');
    assert.equal(theirs.linkinfo.info_data.mode, mode);
    // A passthru macvlan has the MAC of its uplink, whatever it is given.
    const mac = mode === 'passthru' ? lab.ipJson('link show up0')[0].address : settings.mac;
    assert.deepEqual([theirs.address, theirs.mtu, theirs.group], [mac, 1400, '77']);
    assert.deepEqual(link.data, { mode });
    assert.equal(link.lower, uplink);
    assert.equal(link.linkNetnsid, theirs.link_netnsid);
    assert.equal(lab.ipJson('link show').length, 3);
  });
}

for (const mode of ['l2', 'l3', 'l3s'] as const) {
  test(`ipvlan: mode ${mode}`, (t) => {
    const { lab, uplink } = withUplink(t);
    if (!made(t, lab, { kind: 'ipvlan', name: 'ipv0', uplink, mode, mtu: 1400 })) return;
    const { link, theirs } = sameAsIp(lab, 'ipv0');
    assert.equal(theirs.linkinfo.info_data.mode, mode);
    assert.deepEqual(link.data, { mode, flag: 'bridge' });
    assert.equal(link.lower, uplink);
  });
}

test('vlan: its vid', (t) => {
  const { lab, uplink } = withUplink(t);
  // A vlan cannot be up (ENETDOWN) while what it is on is down.
  lab.ip('link set up0 up');
  if (!made(t, lab, { kind: 'vlan', name: 'up0.100', uplink, vid: 100, mtu: 1400, up: true })) return;
  const { link, theirs } = sameAsIp(lab, 'up0.100');
  assert.deepEqual([theirs.linkinfo.info_data.id, theirs.linkinfo.info_data.protocol], [100, '802.1Q']);
  assert.deepEqual(link.data, { vid: 100, vlanProtocol: '802.1Q' });
  assert.equal(link.lower, uplink);
});

test('dummy', (t) => {
  const lab = createLab(t);
  if (!made(t, lab, { kind: 'dummy', name: 'dummy7', mac: '02:00:00:00:00:06', up: true })) return;
  assert.equal(sameAsIp(lab, 'dummy7').theirs.address, '02:00:00:00:00:06');
});

for (const [family, local, remote] of [
  ['IPv4', '10.0.0.1', '10.0.0.2'],
  ['IPv6', 'fd00::1', 'fd00::2'],
] as const) {
  test(`vxlan: over ${family}`, (t) => {
    const { lab, uplink } = withUplink(t);
    const spec = {
      kind: 'vxlan',
      name: 'vx0',
      vni: 4096,
      port: 4789,
      uplink,
      local,
      remote,
      learning: false,
    } as const;
    if (!made(t, lab, spec)) return;
    const { link, theirs } = sameAsIp(lab, 'vx0');
    const { id, port, learning, link: device } = theirs.linkinfo.info_data;
    assert.deepEqual([id, port, learning, device], [4096, 4789, false, 'up0']);
    assert.deepEqual(
      [
        theirs.linkinfo.info_data.local ?? theirs.linkinfo.info_data.local6,
        theirs.linkinfo.info_data.remote ?? theirs.linkinfo.info_data.remote6,
      ],
      [local, remote],
    );
    assert.deepEqual(link.data, { vni: 4096 });
  });
}

test('kinds that are only read: a tap has its name for a kind, and an unknown kind no data', (t) => {
  const lab = createLab(t);
  lab.ip('tuntap add tap0 mode tap');
  lab.ip('tuntap add tun0 mode tun');
  lab.ip('link add ifb7 type ifb');
  assert.deepEqual(sameAsIp(lab, 'tap0').link.data, {});
  assert.equal(sameAsIp(lab, 'tun0').link.mac, '');
  assert.equal(sameAsIp(lab, 'ifb7').link.kind, 'ifb');
  assert.equal(sameAsIp(lab, 'lo').link.kind, undefined);
});

test('data of the kinds that this kernel lacks, in messages as they were recorded', () => {
  const decode = (hex: string): Link => decodeLink(Buffer.from(hex, 'hex'));
  // ifinfomsg, LINK 3, IFNAME, LINKINFO { KIND, DATA }: see link-recorded.test.ts
  const header = '00000100050000000000000000000000' + '0800050003000000';
  const vlan =
    `${header}0c0003007570302e3130300018001200080001007 6 6c616e0c0002000600010064000000`.replaceAll(' ', '');
  assert.deepEqual([decode(vlan).kind, decode(vlan).data, decode(vlan).lower], ['vlan', { vid: 100 }, 3]);
  // VLAN_PROTOCOL 802.1ad and VLAN_ID 100
  const qinq = `${header}200012000800010076 6c616e140002000600050088a800000600010064000000`.replaceAll(
    ' ',
    '',
  );
  assert.deepEqual(decode(qinq).data, { vid: 100, vlanProtocol: '802.1ad' });
  const ipvlan = `${header}240012000a0001006970766c616e00001400020006000100020000000600020000000000`;
  assert.deepEqual(decode(ipvlan).data, { mode: 'l3s', flag: 'bridge' });
  const ipoib = `${header}1c0012000900010069706f69620000000c0002000600010001800000`;
  assert.deepEqual(decode(ipoib).data, { pkey: 0x8001 });
  const bridge = `${header}1c0012000a00010062726964676500000c0002000500070001000000`;
  assert.deepEqual(decode(bridge).data, { vlanFiltering: true });
});

test('setLink: MAC, MTU, group, master, up, name, each and together', (t) => {
  const { lab, uplink } = withUplink(t);
  lab.ip('link add br1 type bridge');
  const master = ifindexOf(lab, 'br1');
  const up = { mac: '02:00:00:00:00:07', mtu: 1300, group: 9, master, up: true };
  lab.rtnl.request(setLink({ ifindex: uplink }, up));
  const { link, theirs } = sameAsIp(lab, 'up0');
  assert.deepEqual([theirs.address, theirs.mtu, theirs.group, theirs.master], [up.mac, 1300, '9', 'br1']);
  assert.equal(link.up, true);
  lab.rtnl.request(setLink({ name: 'up0' }, { master: 0, up: false }));
  assert.deepEqual([getLink(lab.rtnl, 'up0')?.master, getLink(lab.rtnl, 'up0')?.up], [undefined, false]);
  lab.rtnl.request(setLink({ ifindex: uplink }, { name: 'up9' }));
  assert.equal(sameAsIp(lab, 'up9').theirs.ifindex, uplink);
  // What is not named is left alone.
  lab.rtnl.request(setLink({ ifindex: uplink }, {}));
  assert.deepEqual([getLink(lab.rtnl, 'up9')?.mtu, getLink(lab.rtnl, 'up9')?.group], [1300, 9]);
  assert.throws(() => lab.rtnl.request(setLink({ name: 'gone' }, { up: true })), {
    errno: 'ENODEV',
    subject: /^gone /,
  });
});

test('setLink: to another namespace under a new name, and with settings, in one message', (t) => {
  const { lab, uplink } = withUplink(t);
  const guest = createLab(t);
  const netnsFd = guest.netns.fd;
  lab.rtnl.request(setLink({ ifindex: uplink }, { netnsFd, name: 'eth1', group: 5, mtu: 1300, up: true }));
  const { theirs } = sameAsIp(guest, 'eth1');
  assert.deepEqual([theirs.group, theirs.mtu, theirs.flags.includes('UP')], ['5', 1300, true]);
  assert.equal(getLink(lab.rtnl, 'up0'), undefined);
});

test('setLink: a name that is taken in the other namespace stops a move half-way', (t) => {
  const { lab, uplink } = withUplink(t);
  const guest = createLab(t);
  guest.ip('link add eth1 type bridge');
  const move = setLink({ ifindex: uplink }, { netnsFd: guest.netns.fd, name: 'eth1' });
  assert.throws(() => lab.rtnl.request(move), { errno: 'EEXIST', op: 'link.set' });
  assert.equal(getLink(lab.rtnl, uplink), undefined);
  assert.equal(guest.ipJson('link show up0')[0].linkinfo.info_kind, 'veth');
});

test('delLink and delLinkGroup', (t) => {
  const { lab, uplink } = withUplink(t);
  lab.rtnl.request(delLink(uplink));
  assert.deepEqual(
    listLinks(lab.rtnl).map(({ name }) => name),
    ['lo'],
  );
  lab.ip('link add br1 group 5 type bridge');
  lab.ip('link add br2 group 5 type bridge');
  lab.ip('link add br3 group 6 type bridge');
  lab.rtnl.request(delLinkGroup(5));
  assert.deepEqual(
    lab.ipJson('link show type bridge').map(({ ifname }: { ifname: string }) => ifname),
    ['br3'],
  );
  assert.throws(() => delLinkGroup(0), /everybody/);
});

test('altnames: added, found by, told apart from the name, removed', (t) => {
  const { lab, uplink } = withUplink(t);
  const long = `pipewright-${'x'.repeat(60)}`;
  assert.deepEqual(lab.rtnl.batch([addAltname(uplink, long), addAltname(uplink, 'short')]), [
    undefined,
    undefined,
  ]);
  assert.deepEqual(sameAsIp(lab, 'up0').theirs.altnames, [long, 'short']);
  for (const altname of [long, 'short']) {
    const found = getLink(lab.rtnl, altname);
    assert.deepEqual([found?.ifindex, found?.name, found?.altnames.includes(altname)], [uplink, 'up0', true]);
  }
  assert.throws(() => lab.rtnl.request(addAltname(uplink, 'up1')), { op: 'altname.add', errno: 'EEXIST' });
  lab.rtnl.request(delAltname(uplink, long));
  assert.deepEqual(sameAsIp(lab, 'up0').theirs.altnames, ['short']);
  assert.throws(() => lab.rtnl.request(delAltname(uplink, long)), { op: 'altname.del' });
});

test('getLink: what is not there is undefined', (t) => {
  const { rtnl } = createLab(t);
  assert.equal(getLink(rtnl, 'nothing'), undefined);
  assert.equal(getLink(rtnl, 12345), undefined);
  assert.equal(getLink(rtnl, 'a-name-that-no-link-can-have'), undefined);
  assert.equal(getLink(rtnl, ''), undefined);
  assert.equal(getLink(rtnl, 1)?.name, 'lo');
});

test('netnsIdOf: undefined until the kernel has given a number', (t) => {
  const [one, two] = [createLab(t), createLab(t)];
  assert.equal(netnsIdOf(one.rtnl, two.netns.fd), undefined);
  one.ip(`netns set ${two.name} 42`);
  assert.equal(netnsIdOf(one.rtnl, two.netns.fd), 42);
});

test('four sysctls of a link come with it', (t) => {
  const lab = createLab(t);
  lab.ip('link add v0 type veth peer name v1');
  const inLab = (words: string): string => run(`ip netns exec ${lab.name} ${words}`);
  const keys = [
    'net.ipv4.conf.v0.promote_secondaries',
    'net.ipv6.conf.v0.disable_ipv6',
    'net.ipv4.conf.v0.rp_filter',
    'net.ipv4.conf.v0.arp_ignore',
  ];
  for (const values of ['0118', '1020', '1101', '0000']) {
    inLab(`sysctl -q -w ${keys.map((key, at) => `${key}=${values[at]}`).join(' ')}`);
    const { promotesSecondaries, ipv6Disabled, rpFilter, arpIgnore } = getLink(lab.rtnl, 'v0') ?? {};
    const theirs = inLab(`sysctl -n ${keys.join(' ')}`)
      .trim()
      .split('\n')
      .join('');
    assert.equal(theirs, values);
    assert.equal(`${Number(promotesSecondaries)}${Number(ipv6Disabled)}${rpFilter}${arpIgnore}`, theirs);
  }
});
