import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  mapOf,
  readInteger,
  readIntegers,
  readMap,
  readSet,
  readString,
  readUuids,
  setOf,
  uuidOf,
} from '../../src/ovs/values.ts';

test('a set of one element comes bare', () => {
  assert.deepEqual(readSet('a'), ['a']);
  assert.deepEqual(readSet(['set', []]), []);
  assert.deepEqual(readSet(['set', ['a', 'b']]), ['a', 'b']);
  assert.deepEqual(readUuids(uuidOf('u1')), ['u1']);
  assert.deepEqual(readUuids(setOf([uuidOf('u1'), uuidOf('u2')])), ['u1', 'u2']);
  assert.deepEqual(readIntegers(7), [7]);
  assert.equal(readInteger(setOf([])), undefined);
  assert.equal(readInteger(65534), 65534);
  assert.equal(readString(setOf([])), undefined);
  assert.equal(readString(''), undefined);
});

test('maps keep every key, also those of objects', () => {
  const entries = { constructor: 'a', '': 'b', 'pipework.vlan': '10' };
  assert.deepEqual(readMap(mapOf(entries)), entries);
  const own = readMap(['map', [['__proto__', 'x']]]);
  assert.equal(Object.hasOwn(own, '__proto__'), true);
  assert.deepEqual(readMap(undefined), {});
});
