import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { type DnsOffer, sourcesIn, withOffer } from '../../../src/dhcp/dns/resolv-conf.ts';

const docker = 'search example.org\nnameserver 127.0.0.11\noptions ndots:0\n';
const lan: DnsOffer = { dns: ['10.77.0.53'], search: ['lan.test'], ntp: ['10.77.0.123'] };

const meaning = (text: string): string[] =>
  text.split('\n').filter((line) => line !== '' && !line.startsWith('#'));

test("name servers and domains are the lease's, options stay", () => {
  const text = withOffer(docker, 'eth1/4', lan);
  assert.deepEqual(meaning(text), ['search lan.test', 'nameserver 10.77.0.53', 'options ndots:0']);
  assert.match(text, /^# time server: 10\.77\.0\.123$/m);
  assert.deepEqual(sourcesIn(text), ['eth1/4']);
});

test('several interfaces and families; the same again changes nothing', () => {
  const one = withOffer(docker, 'eth1/4', lan);
  const six: DnsOffer = { dns: ['fd77::53', 'fe80::1'], search: ['lan.test', 'six.test'], ntp: [] };
  const both = withOffer(one, 'eth1/6', six);
  assert.deepEqual(meaning(both), [
    ...['search lan.test six.test', 'nameserver 10.77.0.53', 'nameserver fd77::53'],
    ...['nameserver fe80::1%eth1', 'options ndots:0'],
  ]);
  assert.equal(withOffer(both, 'eth1/6', six), both);
  assert.equal(withOffer(both, 'eth1/6', undefined), one);
  assert.equal(withOffer(one, 'eth1/4', undefined), docker);
});

test('a lease that names no server leaves those that there are', () => {
  const text = withOffer(docker, 'eth1/4', { dns: [], search: ['lan.test'], ntp: [] });
  assert.deepEqual(meaning(text), ['search lan.test', 'nameserver 127.0.0.11', 'options ndots:0']);
  assert.equal(withOffer(docker, 'eth1/4', { dns: [], search: [], ntp: ['10.0.0.1'] }), docker);
});

test('what is there before comes back byte by byte, whatever it is', () => {
  const offer = fc.record({
    dns: fc.array(fc.oneof(fc.ipV4(), fc.ipV6(), fc.string()), { maxLength: 5 }),
    search: fc.array(fc.oneof(fc.domain(), fc.string()), { maxLength: 8 }),
    ntp: fc.array(fc.oneof(fc.ipV4(), fc.string()), { maxLength: 2 }),
  });
  const source = fc.constantFrom('eth1/4', 'eth1/6', 'eth2/4') as fc.Arbitrary<'eth1/4'>;
  const text = fc.oneof(
    fc.string(),
    fc.array(fc.string()).map((lines) => lines.join('\n')),
  );
  fc.assert(
    fc.property(text, fc.array(fc.tuple(source, offer), { maxLength: 6 }), (former, steps) => {
      let now = former;
      for (const [from, what] of steps) {
        now = withOffer(now, from, what);
        // Nothing that a server says can be another directive than these.
        const allowed =
          /^(search [\w. -]+|nameserver [0-9a-fA-F:.]+(%\S+)?|\s*(options|search|domain|nameserver)\s.*)$/;
        if (now !== former) for (const line of meaning(now)) assert.match(line, allowed);
      }
      for (const from of ['eth1/4', 'eth1/6', 'eth2/4'] as const) now = withOffer(now, from, undefined);
      assert.equal(now, former);
    }),
    { numRuns: 1000 },
  );
});

test('a container that writes nonsense into the file hurts itself only', () => {
  const text = withOffer(docker, 'eth1/4', lan);
  const forged = text
    .replace('dns=10.77.0.53', 'dns=10.77.0.53,evil;x,10.0.0.999')
    .replace('search=lan.test', 'search=$(id)');
  assert.deepEqual(meaning(withOffer(forged, 'eth1/6', { dns: ['fd77::53'], search: [], ntp: [] })), [
    ...['search example.org', 'nameserver 10.77.0.53', 'nameserver fd77::53', 'options ndots:0'],
  ]);
});
