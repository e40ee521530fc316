/**
 * What servers send: packets recorded from dnsmasq, Kea and ISC dhcpd, and, byte by byte as their makers and RFCs
 * describe it, what a Windows server and home routers do that is not as it should be.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { leaseOf } from '../../../src/dhcp/v4/lease.ts';
import { type DhcpMessage, decodeMessage, messageTypes } from '../../../src/dhcp/v4/message.ts';
import type { Lease } from '../../../src/model/lease.ts';

type Kind = 'offer' | 'ack' | 'nak';

/**
 * Who, what, the message up to `chaddr`, and its options from the cookie on, with so many NULs behind them. What is
 * between, `sname` and `file`, was NULs in all of them. Asked for were two routes, an MTU and a name, by pwt-web.
 */
const recorded: readonly (readonly [string, Kind, string, string, number])[] = [
  [
    'dnsmasq 2.90',
    'offer',
    '020106000060507c00000000000000000a4d003b0a4d00010000000002000000000700000000000000000000',
    '6382536335010236040a4d000133040000012c3a04000000143b04000000280104ffffff001c040a4d00ff0c077077742d776562510b05ffff077077742d7765627914160a09080a4d0002100a0600000000000a4d00011a0205780f086c616e2e7465737406040a4d003503040a4d0001ff',
    0,
  ],
  [
    'dnsmasq 2.90',
    'ack',
    '020106000060507c00000000000000000a4d003b0a4d00010000000002000000000700000000000000000000',
    '6382536335010536040a4d000133040000012c3a04000000143b04000000280104ffffff001c040a4d00ff0c077077742d776562510b05ffff077077742d7765627914160a09080a4d0002100a0600000000000a4d00011a0205780f086c616e2e7465737406040a4d003503040a4d0001ff',
    0,
  ],
  [
    'dnsmasq 2.90',
    'nak',
    '020106006f517ac1000080000000000000000000000000000000000002000000000700000000000000000000',
    '6382536335010636040a4d0001380d77726f6e672061646472657373ff',
    35,
  ],
  [
    'Kea 2.2.0',
    'offer',
    '0201060015fb2a9d00000000000000000a4d0032000000000000000002000000000700000000000000000000',
    '638253633501020104ffffff0003040a4d000106040a4d00350f086c616e2e746573741a02057833040000003c36040a4d00013a04000000143b04000000283d0400646231510c0e0000077077742d776562007914160a09080a4d0002100a0600000000000a4d0001ff',
    0,
  ],
  [
    'Kea 2.2.0',
    'ack',
    '0201060015fb2a9d00000000000000000a4d0032000000000000000002000000000700000000000000000000',
    '638253633501050104ffffff0003040a4d000106040a4d00350f086c616e2e746573741a02057833040000003c36040a4d00013a04000000143b04000000283d0400646231510c0e0000077077742d776562007914160a09080a4d0002100a0600000000000a4d0001ff',
    0,
  ],
  [
    'Kea 2.2.0',
    'nak',
    '020106005f24c7d0000000000000000000000000000000000000000002000000000700000000000000000000',
    '6382536335010636040a4d00013d0400646231ff',
    0,
  ],
  [
    'ISC dhcpd 4.4.3',
    'offer',
    '0201060055445ab100000000000000000a4d0032000000000000000002000000000700000000000000000000',
    '6382536335010236040a4d000133040000003c3a04000000143b04000000280104ffffff007914160a09080a4d0002100a0600000000000a4d000103040a4d000106040a4d00350f086c616e2e746573741a020578ff',
    0,
  ],
  [
    'ISC dhcpd 4.4.3',
    'ack',
    '0201060055445ab100000000000000000a4d0032000000000000000002000000000700000000000000000000',
    '6382536335010536040a4d000133040000003c3a04000000143b04000000280104ffffff007914160a09080a4d0002100a0600000000000a4d000103040a4d000106040a4d00350f086c616e2e746573741a020578ff',
    0,
  ],
  [
    'ISC dhcpd 4.4.3',
    'nak',
    '02010600141dc16b000080000000000000000000000000000000000002000000000700000000000000000000',
    '6382536335010636040a4d0001381f7265717565737465642061646472657373206e6f7420617661696c61626c65ff',
    17,
  ],
];

function bytesOf(head: string, options: string, padding = 0): Buffer {
  return Buffer.concat([
    Buffer.from(head, 'hex'),
    Buffer.alloc(192),
    Buffer.from(options, 'hex'),
    Buffer.alloc(padding),
  ]);
}

/** What an interface would be given, in words. */
function words(message: DhcpMessage): string {
  const lease = leaseOf(message, {}, 0);
  return lease ? wordsOf(lease) : 'nothing';
}

function wordsOf({ addresses, server, routes, dns, search, mtu, renewAt, expiresAt }: Lease): string {
  const [address] = addresses;
  return [
    `${address?.cidr.ip}/${address?.cidr.prefixLen} from ${server}`,
    ...routes.map(({ dst, gateway }) => `${dst.ip}/${dst.prefixLen}${gateway ? ` via ${gateway}` : ''}`),
    `dns ${dns} ${search}`,
    ...(mtu === undefined ? [] : [`mtu ${mtu}`]),
    `${(renewAt ?? 0) / 1000} of ${(expiresAt ?? 0) / 1000} s`,
  ].join(', ');
}

const routes = '10.9.8.0/22 via 10.77.0.2, 10.6.0.0/16, 0.0.0.0/0 via 10.77.0.1';

for (const [server, kind, head, options, padding] of recorded) {
  test(`${server}: ${kind}`, () => {
    const message = decodeMessage(bytesOf(head, options, padding));
    assert.deepEqual([message.op, message.htype, message.options.messageType], [2, 1, messageTypes[kind]]);
    assert.equal(Buffer.from(message.chaddr).toString('hex'), '020000000007');
    assert.equal(message.options.serverId, '10.77.0.1');
    assert.deepEqual({ ...message.raw }, {});
    if (kind === 'nak') {
      const said = { 'dnsmasq 2.90': 'wrong address', 'ISC dhcpd 4.4.3': 'requested address not available' };
      assert.equal(message.options.message, said[server as keyof typeof said]);
      assert.equal(words(message), 'nothing');
      return;
    }
    const seconds = server.startsWith('dnsmasq') ? 300 : 60;
    assert.equal(
      words(message),
      `${message.yiaddr}/24 from 10.77.0.1, ${routes}, dns 10.77.0.53 lan.test, mtu 1400, 20 of ${seconds} s`,
    );
    const { fqdn } = message.options;
    if (fqdn) assert.equal(fqdn.name, 'pwt-web');
  });
}

/** An ACK for 10.0.0.9, with these options behind its type and its server, written as hexadecimal. */
const ack = (options: string, change: (bytes: Buffer) => void = () => {}): DhcpMessage => {
  const head = `02010600${'00000001'}00000000${'00000000'}0a000009${'00000000'}00000000020000000007${'00'.repeat(10)}`;
  const bytes = bytesOf(head, `63825363350105${'36040a000001'}${options.replaceAll(' ', '')}`, 20);
  change(bytes);
  return decodeMessage(bytes);
};
const usual = '3304 00000258 0104 ffffff00 0304 0a000001';
const usualWords = '10.0.0.9/24 from 10.0.0.1, 0.0.0.0/0 via 10.0.0.1, dns  , 300 of 600 s';

/** What, the options in hexadecimal, and what an interface is given. */
const tolerated: readonly (readonly [string, string, string])[] = [
  ['nothing strange', `${usual} ff`, usualWords],
  ['no end', usual, usualWords],
  ['fillers between', `00 ${usual.replaceAll(/ (?=0[13]04)/g, '0000 ')} ff`, usualWords],
  ['what is behind the end', `${usual} ff 33ff`, usualWords],
  [
    'names with a NUL at their end',
    `${usual} 0c04 77656200 0f09 6c616e2e7465737400 ff`,
    usualWords.replace('dns  ', 'dns  lan.test'),
  ],
  ['names of no bytes', `${usual} 0c00 0f00 ff`, usualWords],
  [
    'a name of several domains',
    `${usual} 0f0b 612e74657374206c616e2e ff`,
    usualWords.replace('dns  ', 'dns  a.test,lan.'),
  ],
  ['option 81 of codes alone', `${usual} 5103 00ffff ff`, usualWords],
  ['option 81 that is empty, and one of text', `${usual} 5103 04ffff 5108 0100007765620000 ff`, usualWords],
  ["a vendor's own options", `${usual} 2b0c 0104 00000002 0204 00000001 ff`, usualWords],
  ['options in pieces, twice', `${usual} ${usual} ff`, usualWords],
  ['a lease that is there twice', `3304 00000258 ${usual.slice(14)} 3304 0000003c ff`, usualWords],
  ['no mask', '3304 00000258 0304 0a000001 ff', usualWords.replace('/24', '/8')],
  ['a mask of zeros', `${usual.replace('ffffff00', '00000000')} ff`, usualWords.replace('/24', '/8')],
  ['a mask of a host', `${usual.replace('ffffff00', 'ffffffff')} ff`, usualWords.replace('/24', '/32')],
  ['several routers', `${usual.replace('0304', '030c')} 0a000002 0a000003 ff`, usualWords],
  [
    'a router of zeros',
    `${usual.slice(0, -8)}00000000 ff`,
    usualWords.replace('0.0.0.0/0 via 10.0.0.1, ', ''),
  ],
  [
    'routers that are cut',
    `${usual.slice(0, -13)}0305 0a000001 0a ff`,
    usualWords.replace('0.0.0.0/0 via 10.0.0.1, ', ''),
  ],
  [
    'name servers of zeros',
    `${usual} 0608 00000000 0a000035 ff`,
    usualWords.replace('dns  ', 'dns 10.0.0.53 '),
  ],
  ['option 121 that is longer than it is', `${usual} 7906 18c0a8010a00 ff`, usualWords],
  ['option 121 of an impossible length', `${usual} 7909 21c0a80100 0a000002 ff`, usualWords],
  ['option 121 of no bytes', `${usual} 7900 ff`, usualWords],
  ["Microsoft's option 249, not asked for", `${usual} f908 18c0a801 0a000002 ff`, usualWords],
  ['an MTU of four bytes', `${usual} 1a04 000005dc ff`, usualWords],
  ['search domains that lead nowhere', `${usual} 7704 0161c0ff ff`, usualWords],
  ['T1 and T2 of zero', `${usual} 3a04 00000000 3b04 00000000 ff`, usualWords],
  ['T1 behind T2', `${usual} 3a04 00000200 3b04 00000100 ff`, usualWords.replace('300', '256')],
  ['a broadcast address of zeros', `${usual} 1c04 00000000 ff`, usualWords],
  ['text in Latin-1', `${usual} 0c04 42fc726f 0f03 42fc72 ff`, usualWords.replace('dns  ', 'dns  Bür')],
  ['NetBIOS, WPAD and whatever else', `${usual} 2c04 0a000005 2e01 08 fc04 68747470 d4 00 ff`, usualWords],
];

for (const [what, options, expected] of tolerated)
  test(`taken: ${what}`, () => assert.equal(words(ack(options)), expected));

test('taken: a server that fills in what is not its business', () => {
  const strange = ack(`${usual} ff`, (bytes) => {
    // hops, secs, all flags, ciaddr, siaddr, giaddr, and names of a boot server.
    bytes.set([3], 3);
    bytes.set([0x12, 0x34, 0xff, 0xff, 10, 0, 0, 9], 8);
    bytes.set([10, 0, 0, 7, 10, 0, 0, 8], 20);
    bytes.write('srv.lan.test', 44);
    bytes.write('pxelinux.0', 108);
  });
  assert.equal(words(strange), usualWords);
  assert.equal(strange.ciaddr, '10.0.0.9');
});

test('taken: options in `file` and `sname`, each ended by itself or not', () => {
  const overloaded = ack('3401 03 3304 00000258 ff', (bytes) => {
    bytes.write('0104ffffff0003040a000001', 108, 'hex');
    bytes.write('0f04', 44, 'hex');
    bytes.write('test', 46);
    bytes.set([255], 50);
  });
  assert.equal(words(overloaded), usualWords.replace('dns  ', 'dns  test'));
  // Told of both, where only one has any.
  const half = ack('3401 03 3304 00000258 ff', (bytes) =>
    bytes.write('0104ffffff0003040a000001ff', 108, 'hex'),
  );
  assert.equal(words(half), usualWords);
});

test('not taken: no time, no server, no address of a host', () => {
  for (const options of ['0104 ffffff00 ff', '3304 00000000 ff', '3302 0258 ff'])
    assert.equal(words(ack(options)), 'nothing', options);
  for (const yiaddr of ['00000000', '7f000001', 'e0000001', 'ffffffff'])
    assert.equal(words(ack(`${usual} ff`, (bytes) => bytes.write(yiaddr, 16, 'hex'))), 'nothing', yiaddr);
});
