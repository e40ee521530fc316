import assert from 'node:assert/strict';
import test from 'node:test';
import fc from 'fast-check';
import { parseContainerRef } from '../../src/config/container-ref.ts';
import { PipewrightError } from '../../src/errors.ts';
import { formatContainer } from '../../src/model/attachment.ts';

for (const [text, runtime, name] of [
  ['web', 'any', 'web'],
  ['a', 'any', 'a'],
  ['any', 'any', 'any'],
  ['docker', 'any', 'docker'],
  ['123', 'any', '123'],
  ['web_1.a-b', 'any', 'web_1.a-b'],
  ['docker:web', 'docker', 'web'],
  ['podman:x', 'podman', 'x'],
  ['lxc:x', 'lxc', 'x'],
  ['lxc:user:x', 'lxc', 'user:x'],
  ['pid:123', 'pid', '123'],
  ['pid:4194304', 'pid', '4194304'],
  ['netns:x', 'netns', 'x'],
  ['netns:blau-grün', 'netns', 'blau-grün'],
  ['netns:/run/netns/x', 'netns', '/run/netns/x'],
  ['netns:/proc/1/ns/net', 'netns', '/proc/1/ns/net'],
] as const) {
  test(`${text} is ${runtime} ${name}`, () => {
    assert.deepEqual(parseContainerRef(text), { runtime, name });
    assert.equal(formatContainer(parseContainerRef(text)), text);
  });
}

const bad = [
  '',
  ' ',
  'a b',
  ' web',
  'web ',
  'web\n',
  'web\0',
  'we\x1b[31mb',
  '/web',
  'a/b',
  '../x',
  '..',
  '.hidden',
  '-i',
  '--help',
  '_x',
  'wéb',
  'web;reboot',
  '$(id)',
  '`id`',
  'a*',
  'a?b',
  'a%2fb',
  'x'.repeat(256),
  ':web',
  'any:web',
  'crio:web',
  'Docker:web',
  'docker:',
  'docker:a:b',
  'docker:/web',
  'docker:a b',
  'podman:-x',
  'lxc:',
  'lxc:../x',
  'lxc:a/b',
  'lxc:-n',
  'lxc:*',
  'lxc:.',
  'pid:',
  'pid:0',
  'pid:-1',
  'pid:+1',
  'pid:1.5',
  'pid:0x10',
  'pid:007',
  'pid:4194305',
  'pid:99999999999999999999',
  'pid:1 ',
  'pid:self',
  'netns:',
  'netns:.',
  'netns:..',
  'netns:a/b',
  'netns:../x',
  'netns:a b',
  'netns:/',
  'netns:/a b',
  'netns:/a\0b',
  'netns:\u202ex',
  `netns:/${'x'.repeat(4096)}`,
];

for (const text of bad) {
  test(`refused in one line: ${JSON.stringify(text).slice(0, 40)}`, () => {
    assert.throws(
      () => parseContainerRef(text),
      (error) => {
        assert.ok(error instanceof PipewrightError);
        assert.equal(error.code, 'BAD_ARGUMENT');
        assert.match(error.message, /^[^\p{C}]{10,400}$/u);
        return true;
      },
    );
  });
}

test('any text at all is understood or refused in one line', () => {
  const prefix = fc.constantFrom('', 'docker:', 'podman:', 'lxc:', 'pid:', 'netns:', 'netns:/');
  fc.assert(
    fc.property(prefix, fc.string({ unit: 'binary' }), (start, rest) => {
      try {
        const ref = parseContainerRef(start + rest);
        assert.equal(formatContainer(ref), start + rest);
        assert.doesNotMatch(ref.name, /[\s\p{C}]/u);
      } catch (error) {
        assert.ok(error instanceof PipewrightError, String(error));
        assert.equal(error.code, 'BAD_ARGUMENT');
        assert.doesNotMatch(error.message, /\p{C}/u);
      }
    }),
    { numRuns: 500 },
  );
});
