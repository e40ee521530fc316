import assert from 'node:assert/strict';
import { test } from 'node:test';
import { checkIfname, checkPkey, checkVid, printable } from '../../src/config/names.ts';

const good = [
  'eth1',
  'a',
  'fifteen-bytes-x',
  'br-1.10',
  'a@b',
  "it's",
  '$(id)',
  ';',
  '*',
  'ütz',
  '-i',
  '...',
  '日本',
];

for (const name of good) {
  test(`interface name ${name} is one`, () => {
    assert.equal(checkIfname(name), undefined);
  });
}

const bad: [name: string, reason: RegExp][] = [
  ['', /empty/],
  ['sixteen-bytes-xx', /longer than 15 bytes/],
  ['日本日本日本', /longer than 15 bytes/],
  ['.', /reserved/],
  ['..', /reserved/],
  ['all', /reserved/],
  ['default', /reserved/],
  ['a/b', /slash/],
  ['../x', /slash/],
  ['eth0:1', /colon/],
  ['eth%d', /percent/],
  ['eth 1', /white space/],
  ['eth\t1', /white space/],
  ['eth1\n', /white space/],
  ['a\u00a0b', /white space/],
  // "à" is c3 a0, and the kernel takes the byte a0 for white space.
  ['voilà', /white space/],
  ['a\0b', /control/],
  ['a\u001b[31m', /control/],
  ['a\u007f', /control/],
  ['a\u202eb', /control/],
  ['a\ufffd', /UTF-8/],
  ['a\ud800', /UTF-8/],
];

for (const [name, reason] of bad) {
  test(`interface name ${JSON.stringify(name)} is refused`, () => {
    assert.match(checkIfname(name) ?? '', reason);
  });
}

test('VLAN ids are 1 to 4094 in decimal', () => {
  for (const vid of ['1', '10', '100', '4094']) assert.equal(checkVid(vid), undefined, vid);
  for (const vid of [
    '',
    '0',
    '4095',
    '4096',
    '99999',
    '-1',
    '+1',
    '010',
    '0x10',
    '1.5',
    '1e2',
    ' 1',
    '1 ',
    'ten',
    '١',
  ]) {
    assert.match(checkVid(vid) ?? '', /VLAN id/, vid);
  }
});

test('partition keys are 1 to ffff in hexadecimal, less the bare membership bit', () => {
  for (const pkey of ['1', '10', '8001', '0x8001', '0X7fff', 'FFFF'])
    assert.equal(checkPkey(pkey), undefined, pkey);
  for (const pkey of ['', '0', '0x', '0000', '8000', '10000', 'xyz', '-1', '0x 1']) {
    assert.match(checkPkey(pkey) ?? '', /partition key/, pkey);
  }
});

test('text from outside stays on one line', () => {
  assert.equal(printable('a\nb\u2028c\u001b\ud800'), 'a\\u{a}b\\u{2028}c\\u{1b}\\u{d800}');
  assert.equal(printable('x'.repeat(500)).length, 123);
  assert.equal(printable('日本 ok'), '日本 ok');
});
