import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { broadcastOf, contains, networkOf, parseCidr } from '../../src/model/address.ts';
import type { AddressRange } from '../../src/model/topology.ts';
import { assign } from '../../src/plan/range.ts';

const v4 = (first: string, last: string): AddressRange => ({ family: 4, first, last });
const v6 = (first: string, last: string): AddressRange => ({ family: 6, first, last });
const none: ReadonlySet<string> = new Set();
const nobody: ReadonlyMap<string, string> = new Map();

describe('one address', () => {
  const small = [v4('10.0.0.10', '10.0.0.12')];
  const rows: {
    name: string;
    ranges?: AddressRange[];
    taken?: string[];
    remembered?: Record<string, string>;
    want: string | undefined;
  }[] = [
    { name: 'the one it had', remembered: { web: '10.0.0.11' }, want: '10.0.0.11' },
    {
      name: 'the one it had is taken',
      remembered: { web: '10.0.0.11' },
      taken: ['10.0.0.11', '10.0.0.12'],
      want: '10.0.0.10',
    },
    {
      name: 'the one it had is another key’s as well',
      remembered: { web: '10.0.0.11', app: '10.0.0.11', db: '10.0.0.10' },
      want: '10.0.0.12',
    },
    {
      name: 'the one it had is out of the range by now',
      remembered: { web: '10.0.0.13' },
      taken: ['10.0.0.10', '10.0.0.12'],
      want: '10.0.0.11',
    },
    {
      name: 'the one it had is of the other family',
      remembered: { web: '::a00:b' },
      taken: ['10.0.0.10', '10.0.0.12'],
      want: '10.0.0.11',
    },
    { name: 'nothing left', taken: ['10.0.0.10', '10.0.0.11', '10.0.0.12'], want: undefined },
    {
      name: 'nothing left but what others had',
      taken: ['10.0.0.10'],
      remembered: { app: '10.0.0.11', db: '10.0.0.12' },
      want: undefined,
    },
    { name: 'no range', ranges: [], want: undefined },
    { name: 'a range of one', ranges: [v4('10.0.0.7', '10.0.0.7')], want: '10.0.0.7' },
    {
      name: 'the second range, when the first is full',
      ranges: [v4('10.0.0.7', '10.0.0.7'), v4('10.0.1.0', '10.0.1.0')],
      taken: ['10.0.0.7'],
      want: '10.0.1.0',
    },
    {
      name: 'ranges that overlap',
      ranges: [
        v4('10.0.0.7', '10.0.0.8'),
        v4('10.0.0.7', '10.0.0.8'),
        v4('10.0.0.8', '10.0.0.8'),
        v4('10.0.0.9', '10.0.0.9'),
      ],
      taken: ['10.0.0.7', '10.0.0.8'],
      want: '10.0.0.9',
    },
    {
      name: 'the end of the address space',
      ranges: [v4('255.255.255.255', '255.255.255.255')],
      want: '255.255.255.255',
    },
    {
      name: 'the last IPv6 address',
      ranges: [v6('ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffe', 'ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff')],
      taken: ['ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffe'],
      want: 'ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff',
    },
  ];
  for (const { name, ranges = small, taken = [], remembered = {}, want } of rows) {
    test(name, () => {
      assert.equal(assign(ranges, new Set(taken), new Map(Object.entries(remembered)), 'web'), want);
    });
  }

  test('IPv6 ranges of 2^64 and of everything', () => {
    const lan = parseCidr('fd00:1::/64')!;
    const ip = assign([v6(networkOf(lan), broadcastOf(lan))], none, nobody, 'web/eth1 lan 6')!;
    assert.ok(contains(lan, ip), ip);
    assert.ok(assign([v6('::', 'ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff')], none, nobody, 'web'));
  });

  test('without a memory, a key gets the same address again, whoever else is there', () => {
    const ranges = [v4('10.0.0.0', '10.0.255.255')];
    const before = assign(ranges, none, nobody, 'web/eth1 lan 4');
    assert.equal(assign(ranges, new Set(['10.0.0.1']), nobody, 'web/eth1 lan 4'), before);
    // A fact of the hash: were it to change, all addresses of hosts whose state was lost would change.
    assert.equal(before, '10.0.75.246');
  });
});

const range = fc
  .record({ base: fc.integer({ min: 0, max: 60 }), length: fc.integer({ min: 0, max: 12 }) })
  .map(({ base, length }) => v4(`10.0.0.${base}`, `10.0.0.${base + length}`));
const ranges = fc.array(range, { minLength: 1, maxLength: 3 });
const addresses = fc.array(
  fc.integer({ min: 0, max: 75 }).map((n) => `10.0.0.${n}`),
  { maxLength: 20 },
);
const keys = fc.uniqueArray(fc.string({ minLength: 1, maxLength: 4 }), { minLength: 1, maxLength: 30 });
const all = (of: readonly AddressRange[]): Set<string> => {
  const found = new Set<string>();
  const end = (ip: string): number => Number(ip.split('.')[3]);
  for (const { first, last } of of) for (let n = end(first); n <= end(last); n++) found.add(`10.0.0.${n}`);
  return found;
};

describe('many addresses', () => {
  const giveOut = (to: readonly string[], from: AddressRange[], taken: Set<string>) => {
    const given = new Map<string, string>();
    for (const key of to) {
      const ip = assign(from, taken, given, key);
      if (ip !== undefined) given.set(key, ip);
    }
    return given;
  };

  test('no two keys get the same, none gets a taken one, and the range is used up to the last', () => {
    fc.assert(
      fc.property(ranges, addresses, keys, (from, taken, to) => {
        const given = giveOut(to, from, new Set(taken));
        const free = [...all(from)].filter((ip) => !taken.includes(ip));
        assert.equal(new Set(given.values()).size, given.size);
        assert.equal(given.size, Math.min(to.length, free.length));
        for (const ip of given.values()) assert.ok(free.includes(ip), ip);
      }),
    );
  });

  test('who goes and comes back finds the address, and the others keep theirs', () => {
    fc.assert(
      fc.property(ranges, addresses, keys, fc.nat(), (from, taken, to, which) => {
        const given = giveOut(to, from, new Set(taken));
        const key = to[which % to.length]!;
        for (const other of [key, ...to].filter((name) => given.has(name))) {
          assert.equal(assign(from, new Set(taken), given, other), given.get(other));
        }
      }),
    );
  });
});
