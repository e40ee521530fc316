import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { didYouMean } from '../../../src/config/topology/hints.ts';
import { matchesPattern } from '../../../src/config/topology/pattern.ts';

const keys = ['kind', 'bridge', 'uplink', 'mode', 'vlan', 'mtu', 'subnet', 'gateway', 'range', 'addresses'];

test('the word that was meant', () => {
  const rows: [word: string, meant: string | undefined][] = [
    ['uplnk', 'uplink'],
    ['uplinkk', 'uplink'],
    ['Uplink', 'uplink'],
    ['upilnk', 'uplink'],
    ['gatway', 'gateway'],
    ['adresses', 'addresses'],
    ['ip', 'addresses'],
    ['gw', 'gateway'],
    ['tag', 'vlan'],
    ['type', 'kind'],
    ['mut', 'mtu'],
    ['color', undefined],
    ['x', undefined],
    ['', undefined],
    ['interface', undefined],
  ];
  for (const [word, meant] of rows) {
    assert.equal(didYouMean(word, keys), meant && `did you mean "${meant}"?`, word);
  }
});

test('patterns are what they are to a regular expression', () => {
  const name = fc.array(fc.constantFrom('a', 'b', '-', '.'), { maxLength: 8 }).map((parts) => parts.join(''));
  const pattern = fc.array(fc.constantFrom('a', 'b', '-', '.', '*', '?'), { maxLength: 8 });
  fc.assert(
    fc.property(pattern, name, (parts, text) => {
      const meaning: Record<string, string> = { '*': '.*', '?': '.', '.': '\\.' };
      const expression = parts.map((part) => meaning[part] ?? part).join('');
      assert.equal(matchesPattern(parts.join(''), text), new RegExp(`^${expression}$`).test(text));
    }),
    { numRuns: 2000 },
  );
});

test('a pattern that is made to take long does not', () => {
  // A search that goes back for every star would not end today.
  assert.equal(matchesPattern(`${'a*'.repeat(120)}b`, 'a'.repeat(255)), false);
});
