import assert from 'node:assert/strict';
import test from 'node:test';
import { AddressBook } from '../../src/agent/addresses.ts';
import { parseCidr } from '../../src/model/address.ts';
import type { Attachment } from '../../src/model/attachment.ts';

const on = (name: string): Attachment => ({
  container: { runtime: 'docker', name: 'web' },
  network: { kind: 'bridge', name },
  ifname: 'eth1',
  addrs: [{ cidr: parseCidr('10.0.0.2/24')! }, { gateway: { family: 4, ip: '10.0.0.1' } }],
  routes: [],
});
const minute = 60_000;

test('an address is held while it is there, and for five minutes more, on its network', () => {
  const book = new AddressBook();
  const held = (now: number, name = 'br0'): string[] => [...(book.heldBy('web/eth1', on(name), now) ?? [])];
  assert.deepEqual(held(0), []);
  book.hold('web/eth1', on('br0'));
  assert.deepEqual(held(100 * minute), ['10.0.0.2']);
  assert.deepEqual(held(0, 'br1'), []);
  book.gone('web/eth1', 100 * minute);
  book.gone('other/eth1', 100 * minute);
  assert.deepEqual(held(104 * minute), ['10.0.0.2']);
  assert.deepEqual(held(105 * minute), []);
  book.hold('web/eth1', on('br0'));
  assert.deepEqual(held(200 * minute), ['10.0.0.2']);
});

test("a stranger's address is given out again after an hour", () => {
  const book = new AddressBook();
  book.claim('lan 10.0.0.2', 0);
  assert.deepEqual([...book.foreign(59 * minute)], ['lan 10.0.0.2']);
  assert.deepEqual([...book.foreign(61 * minute)], []);
});
