/** familyOf() against node:net's isIP(), which judges. */
import assert from 'node:assert/strict';
import { isIP } from 'node:net';
import test from 'node:test';
import fc from 'fast-check';
import { familyOf } from '../../src/model/address.ts';

const judge = (text: string): number | undefined => (text.includes('%') ? 0 : isIP(text)) || undefined;

test('an address is one where Node says so', () => {
  const word = fc.oneof(
    fc.constantFrom('', '0', 'f', 'ffff', '00000', 'g', 'FFFF', '1.2.3.4', '1.2.3', '256', '01', '255', ' '),
    fc.nat({ max: 300 }).map(String),
    fc.nat({ max: 0x1ffff }).map((n) => n.toString(16)),
  );
  const colons = fc.array(word, { maxLength: 10 }).map((words) => words.join(':'));
  const dots = fc.array(word, { minLength: 2, maxLength: 5 }).map((words) => words.join('.'));
  const broken = fc.tuple(
    fc.ipV6(),
    fc.constantFrom(':', '::', '.', '%eth0', '\n', 'x'),
    fc.nat({ max: 40 }),
  );
  const cut = broken.map(([ip, text, at]) => ip.slice(0, at) + text + ip.slice(at));
  const texts = fc.oneof(fc.ipV4(), fc.ipV6(), colons, dots, cut, fc.string());
  fc.assert(
    fc.property(texts, (text) => assert.equal(familyOf(text), judge(text), JSON.stringify(text))),
    { numRuns: 20_000 },
  );
});

test('addresses at the edges of the form', () => {
  const texts = ['::', '::1', '1::', ':::', ':', '', '1', '::1::', '1:2:3:4:5:6:7:8', '1:2:3:4:5:6:7::'];
  texts.push(
    '::2:3:4:5:6:7:8',
    '1:2:3:4:5:6:7:8::',
    '::1:2:3:4:5:6:7:8',
    '1::2:3:4:5:6:7:8',
    ':1:2:3:4:5:6:7',
  );
  texts.push(
    '::1.2.3.4',
    '1:2:3:4:5:6:1.2.3.4',
    '1:2:3:4:5:6:7:1.2.3.4',
    '1.2.3.4::',
    '::1.2.3.4:5',
    '1.2.3.4',
  );
  texts.push(
    '01.2.3.4',
    '1.2.3.4.',
    '.1.2.3.4',
    '1.2.3',
    '1.2.3.256',
    'fe80::1%eth0',
    '1:2:3:4:5:6:7:',
    '1.2.3.4\n',
  );
  for (const text of texts) assert.equal(familyOf(text), judge(text), JSON.stringify(text));
});
