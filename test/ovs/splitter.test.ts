import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { JsonSplitter } from '../../src/ovs/splitter.ts';

function split(bytes: Uint8Array, cuts: readonly number[]): unknown[] {
  const splitter = new JsonSplitter();
  const edges = [0, ...cuts.map((cut) => cut % (bytes.length + 1)).sort((a, b) => a - b), bytes.length];
  return edges.slice(1).flatMap((edge, i) => splitter.push(bytes.subarray(edges[i], edge)));
}

const container = fc.oneof(
  fc.array(fc.jsonValue({ stringUnit: 'binary' })),
  fc.dictionary(fc.string({ unit: 'binary' }), fc.jsonValue({ stringUnit: 'binary' })),
);

test('messages come out as they went in, wherever the bytes were cut', () => {
  const blank = fc.constantFrom('', ' ', '\n', '\r\n\t');
  fc.assert(
    fc.property(fc.array(fc.tuple(container, blank, fc.boolean())), fc.array(fc.nat()), (parts, cuts) => {
      const text = parts
        .map(([value, gap, pretty]) => JSON.stringify(value, null, pretty ? 2 : 0) + gap)
        .join('');
      const want = parts.map(([value]) => JSON.parse(JSON.stringify(value)));
      assert.deepEqual(split(Buffer.from(text), cuts), want);
    }),
    { numRuns: 500 },
  );
});

test('one byte at a time: brackets and quotes in strings, characters of 2, 3 and 4 bytes', () => {
  const values = [{ 'a"}]': ['\\"{', 'ü€😀', '\\'] }, [], {}, [[['"']]], { deep: { '{': '[' } }];
  const bytes = Buffer.from(values.map((value) => JSON.stringify(value)).join(''));
  assert.deepEqual(split(bytes, [...bytes.keys()]), values);
});

test('what is no JSON-RPC is refused', () => {
  for (const text of ['HTTP/1.1 400 Bad Request', '}', '[1}', '{"a":}', '"text"']) {
    assert.throws(() => new JsonSplitter().push(Buffer.from(text)), SyntaxError, text);
  }
});
