import assert from 'node:assert/strict';
import test from 'node:test';
import fc from 'fast-check';
import {
  broadcastOf,
  bytesToIp,
  contains,
  formatCidr,
  ipToBytes,
  isUnicastMac,
  macFromText,
  networkOf,
  parseCidr,
  parseIp,
  parseMac,
} from '../../src/model/address.ts';

const cidr = (text: string) => {
  const parsed = parseCidr(text);
  assert.ok(parsed, text);
  return parsed;
};

for (const [text, want] of [
  ['10.0.0.2/24', '10.0.0.2/24'],
  ['fd00:0:0:0::2/64', 'fd00::2/64'],
  ['FE80::1/128', 'fe80::1/128'],
  ['::ffff:1.2.3.4/96', '::ffff:102:304/96'],
  ['0.0.0.0/0', '0.0.0.0/0'],
] as const) {
  test(`parseCidr ${text} -> ${want}`, () => assert.equal(formatCidr(cidr(text)), want));
}

for (const text of [
  '10.0.0.2',
  '10.0.0.2/33',
  '10.1/16',
  '010.0.0.1/8',
  'fd00::/129',
  'fe80::1%eth0/64',
  '10.0.0.2/24 ',
  '/24',
  '',
]) {
  test(`parseCidr refuses ${JSON.stringify(text)}`, () => assert.equal(parseCidr(text), undefined));
}

test('subnet arithmetic', () => {
  assert.equal(networkOf(cidr('192.168.41.25/20')), '192.168.32.0');
  assert.equal(broadcastOf(cidr('192.168.41.25/20')), '192.168.47.255');
  assert.equal(broadcastOf(cidr('10.0.0.1/32')), '10.0.0.1');
  assert.equal(networkOf(cidr('2001:db8::ff/124')), '2001:db8::f0');
  assert.ok(contains(cidr('10.0.0.2/24'), '10.0.0.254'));
  assert.ok(!contains(cidr('10.0.0.2/24'), '10.0.1.1'));
  assert.ok(!contains(cidr('10.0.0.2/0'), 'fd00::1'));
});

test('MAC addresses', () => {
  assert.equal(parseMac('02:AA:bb:cc:dd:0F'), '02:aa:bb:cc:dd:0f');
  for (const bad of ['zz', '02:aa:bb:cc:dd', '02-aa-bb-cc-dd-ee', '02:aa:bb:cc:dd:ee:ff'])
    assert.equal(parseMac(bad), undefined);
  assert.ok(isUnicastMac('02:00:00:00:00:01'));
  assert.ok(!isUnicastMac('01:00:5e:00:00:01'));
  assert.ok(!isUnicastMac('00:00:00:00:00:00'));
});

test('U: addresses are those the original makes', () => {
  assert.equal(macFromText('myhost.foo.com'), '02:72:6c:cd:9b:8d');
  assert.equal(macFromText(''), '02:68:b3:29:da:98');
  assert.equal(macFromText('a  b'), macFromText('a b'));
});

test('every address survives text and back', () => {
  fc.assert(
    fc.property(
      fc.oneof(
        fc.uint8Array({ minLength: 4, maxLength: 4 }),
        fc.uint8Array({ minLength: 16, maxLength: 16 }),
      ),
      (bytes) => {
        const text = bytesToIp(bytes);
        assert.deepEqual(ipToBytes(text), Uint8Array.from(bytes));
        assert.equal(parseIp(text)?.ip, text);
      },
    ),
  );
});
