/** What happens on a LAN: servers that end, two of them, none, rogues, addresses that somebody has, relays. */
import assert from 'node:assert/strict';
import { writeSync } from 'node:fs';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { encodeMessage, messageTypes } from '../../../src/dhcp/v4/message.ts';
import { Netns } from '../../../src/kernel/netns.ts';
import { closeInBackground, openPacketSocket } from '../../../src/kernel/packet-socket.ts';
import { cidrs, ipLink, ipRoutes, run, runIn, skipUnless } from '../../lab.ts';
import { until } from '../support.ts';
import { clientIn, lan, spawnIn } from './ground.ts';

test('a server that ends: the lease is held to its end, then goes, and another is got from its successor', async (t) => {
  if (skipUnless(t, 'root', 'program:kea-dhcp4', 'program:tcpdump')) return;
  const net = await lan(t, 'end');
  const server = await net.server('kea');
  await server.start({ pool: [50, 59], lease: 8, t1: 3, t2: 6 });
  const guest = await net.guest('c');
  const seen = await net.capture();
  const { client, events, bound } = clientIn(t, guest);
  client.start();
  const address = await bound();
  await server.stop();
  await until('T2', () => client.status().state === 'REBINDING');
  assert.deepEqual(cidrs(guest, 'eth1'), [address]);
  await until('its end', () => events.length > 1);
  assert.match(events[1] ?? '', /the lease of 10\.77\.0\.50 ended, and no server renewed it/);
  assert.deepEqual(cidrs(guest, 'eth1'), []);
  assert.deepEqual(ipRoutes(guest), []);
  assert.match(client.status().reason ?? '', /ended/);
  await server.start({ pool: [50, 59], lease: 60 });
  assert.equal(await bound(), address);
  const kinds = seen.messages().map((message) => message.replace(' 0.0.0.0.68 > 255.255.255.255.67', ''));
  const renewals = kinds.filter((kind) => kind.startsWith('Request 10.77.0.50'));
  assert.deepEqual(
    [...new Set(renewals)],
    ['Request 10.77.0.50.68 > 10.77.0.1.67', 'Request 10.77.0.50.68 > 255.255.255.255.67'],
  );
});

test('two servers: the first good offer is taken, with its server named', async (t) => {
  if (skipUnless(t, 'root', 'program:dnsmasq', 'program:dhcpd', 'program:tcpdump')) return;
  const net = await lan(t, 'two');
  const [one, two] = [await net.server('dnsmasq', 1), await net.server('dhcpd', 2)];
  await one.start({ pool: [50, 50], lease: 600, authoritative: false });
  await two.start({ pool: [60, 60], lease: 600, authoritative: false });
  const seen = await net.capture();
  const first = await net.guest('a');
  const a = clientIn(t, first);
  a.client.start();
  const got = await a.bound();
  assert.match(got, /^10\.77\.0\.[56]0\/24$/);
  await until(
    'both have offered',
    () => seen.messages().filter((message) => message.startsWith('Offer')).length === 2,
  );
  const requests = seen.lines().filter((line) => line.includes('length 1: Request'));
  assert.equal(requests.length, 1);
  assert.match(
    requests[0] ?? '',
    new RegExp(`Server-ID \\(54\\), length 4: ${a.client.status().lease?.server}`),
  );
  assert.deepEqual(cidrs(first, 'eth1'), [got]);
});

test('a pool that is exhausted, until somebody gives an address back', async (t) => {
  if (skipUnless(t, 'root', 'program:dnsmasq')) return;
  const net = await lan(t, 'one');
  const server = await net.server('dnsmasq');
  await server.start({ pool: [50, 50], lease: 600 });
  const [first, second] = [await net.guest('a'), await net.guest('b')];
  const a = clientIn(t, first);
  a.client.start();
  assert.equal(await a.bound(), '10.77.0.50/24');
  const b = clientIn(t, second);
  b.client.start();
  await until('it has asked twice', () => b.client.status().reason !== undefined);
  assert.deepEqual(
    [b.client.status().state, b.client.status().reason],
    ['SELECTING', 'no DHCP server answers'],
  );
  assert.deepEqual(cidrs(second, 'eth1'), []);
  a.client.release();
  assert.equal(await b.bound(), '10.77.0.50/24');
});

test('an answer to another question, and one to another host, is not believed', async (t) => {
  if (skipUnless(t, 'root', 'program:dnsmasq', 'program:tcpdump')) return;
  const net = await lan(t, 'rogue');
  const guest = await net.guest('c');
  const rogue = await net.guest('r');
  const seen = await net.capture();
  const { client, events } = clientIn(t, guest);
  client.start();
  await until('it asks', () => seen.messages().length > 0);
  const [line = ''] = seen.lines().filter((text) => text.includes('Discover'));
  const xid = Number(/xid (0x[0-9a-f]+)/.exec(line)?.[1]);
  const mac = ipLink(guest, 'eth1')?.address ?? '';
  using netns = Netns.open(`/run/netns/${rogue}`, rogue);
  const fd = openPacketSocket(netns, ipLink(rogue, 'eth1')?.ifindex ?? 0);
  t.after(() => closeInBackground(fd));
  const bytes = (text: string): Buffer => Buffer.from(text.replaceAll(':', ''), 'hex');
  const offer = (ours: { xid: number; chaddr: Buffer }): Buffer =>
    encodeMessage({
      ...{ op: 2, htype: 1, hops: 0, secs: 0, broadcast: true, ciaddr: '0.0.0.0', yiaddr: '10.77.0.66' },
      ...{ siaddr: '0.0.0.0', giaddr: '0.0.0.0', raw: {}, ...ours },
      options: {
        messageType: messageTypes.offer,
        serverId: '10.77.0.6',
        leaseTime: 600,
        subnetMask: '255.255.255.0',
      },
    });
  const send = (payload: Buffer): void => void writeSync(fd, serverFrame(bytes(mac), payload));
  send(offer({ xid: (xid ^ 1) >>> 0, chaddr: bytes(mac) }));
  send(offer({ xid, chaddr: bytes('02:00:00:00:00:99') }));
  await until(
    'both passed',
    () => seen.messages().filter((message) => message.startsWith('Offer')).length === 2,
  );
  await sleep(200);
  assert.equal(seen.messages().filter((message) => message.startsWith('Request')).length, 0);
  // The same with the right ones is taken, so that it was for those that the others were not.
  send(offer({ xid, chaddr: bytes(mac) }));
  await until('it is taken', () => seen.messages().some((message) => message.startsWith('Request')));
  const server = await net.server('dnsmasq');
  await server.start({ pool: [50, 59], lease: 600 });
  assert.deepEqual(events, []);
  client.stop();
  const after = clientIn(t, guest);
  after.client.start();
  assert.match(await after.bound(), /^10\.77\.0\.5/);
});

/** A frame from a server's port, with no checksum in UDP. */
function serverFrame(to: Buffer, payload: Buffer): Buffer {
  const ip = Buffer.from('450000000000000040110000' + '0a4d0006' + 'ffffffff', 'hex');
  ip.writeUInt16BE(28 + payload.length, 2);
  let sum = 0;
  for (let at = 0; at < 20; at += 2) sum += ip.readUInt16BE(at);
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  ip.writeUInt16BE(~sum & 0xffff, 10);
  const udp = Buffer.from([0, 67, 0, 68, 0, 0, 0, 0]);
  udp.writeUInt16BE(8 + payload.length, 4);
  return Buffer.concat([to, Buffer.from('020000000006', 'hex'), Buffer.from([8, 0]), ip, udp, payload]);
}

test('an address that another host has is declined, and its holder keeps it', async (t) => {
  if (skipUnless(t, 'root', 'program:dnsmasq', 'program:tcpdump')) return;
  const net = await lan(t, 'dup');
  const server = await net.server('dnsmasq');
  await server.start({ pool: [50, 50], lease: 600 });
  const holder = await net.guest('h');
  run('ip', ['-n', holder, 'addr', 'add', '10.77.0.50/24', 'dev', 'eth1']);
  const guest = await net.guest('c');
  const seen = await net.capture();
  const { client, events } = clientIn(t, guest);
  client.start();
  await until('it is declined', () => client.status().state === 'DECLINED');
  const mac = ipLink(holder, 'eth1')?.address;
  assert.equal(client.status().reason, `10.77.0.50 was refused: ${mac} has it`);
  await until('tcpdump tells', () => seen.messages().some((message) => message.startsWith('Decline')));
  const [line = ''] = seen.lines().filter((text) => text.includes('Decline'));
  assert.match(line, /0\.0\.0\.0\.68 > 255\.255\.255\.255\.67/);
  assert.match(line, /Requested-IP \(50\), length 4: 10\.77\.0\.50/);
  assert.match(line, /Server-ID \(54\), length 4: 10\.77\.0\.1/);
  assert.match(line, /Client-ID \(61\)/);
  assert.deepEqual(events, []);
  assert.deepEqual(cidrs(guest, 'eth1'), []);
  await until('the server has put it aside', () => server.log().includes('DHCPDECLINE'));
  assert.deepEqual(cidrs(holder, 'eth1'), ['10.77.0.50/24']);
});

test("through a relay: its option 82 is the server's to see, the client neither sends nor needs it", async (t) => {
  if (skipUnless(t, 'root', 'program:dhcrelay', 'program:dhcpd', 'program:tcpdump')) return;
  const net = await lan(t, 'rel');
  const relay = await net.guest('r');
  run('ip', ['-n', relay, 'addr', 'add', '10.77.0.254/24', 'dev', 'eth1']);
  // The server is behind the relay, on a network of its own.
  const far = await lan(t, 'far');
  const server = await far.server('dhcpd');
  run('ip', ['-n', far.name, 'link', 'add', 'wire', 'type', 'veth', 'peer', 'name', 'far', 'netns', relay]);
  run('ip', ['-n', far.name, 'link', 'set', 'wire', 'master', 'br0', 'up']);
  run('ip', ['-n', relay, 'link', 'set', 'far', 'up']);
  run('ip', ['-n', relay, 'addr', 'add', '10.88.0.254/24', 'dev', 'far']);
  runIn(relay, 'sysctl', ['-qw', 'net.ipv4.ip_forward=1']);
  await server.start({ pool: [50, 59], lease: 60, t1: 2, t2: 30, behindRelay: '10.88.0' });
  run('ip', ['-n', server.netns, 'route', 'add', '10.77.0.0/24', 'via', '10.88.0.254']);
  spawnIn(t, relay, 'dhcrelay', ['-4', '-d', '-a', '-iu', 'far', '-id', 'eth1', '10.88.0.1']);
  await until('the relay listens', () => runIn(relay, 'ss', ['-Hlun', 'sport', '=', '67']).stdout !== '');
  const [near, beyond] = [await net.capture(), await far.capture()];
  const guest = await net.guest('c');
  const { client, events, bound } = clientIn(t, guest);
  client.start();
  assert.match(await bound(), /^10\.77\.0\.5\d\/24$/);
  assert.ok(
    beyond.lines().some((line) => line.includes('Agent-Information (82)') && line.includes('Discover')),
  );
  for (const line of near.lines().filter((text) => text.includes('.68 > ')))
    assert.doesNotMatch(line, /Agent-Information/);
  // Renewed with the server itself, which is on another network.
  await until('it is renewed', () => events.length > 1);
  assert.ok(
    beyond.messages().some((message) => /^Request 10\.77\.0\.5\d\.68 > 10\.88\.0\.1\.67$/.test(message)),
  );
});
