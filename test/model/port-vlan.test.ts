import assert from 'node:assert/strict';
import test from 'node:test';
import { type PortVlan, saidVlans, wantedVlans } from '../../src/model/port-vlan.ts';

const untagged = (vid: number): PortVlan => ({ vid, pvid: true, untagged: true });
const tagged = (vid: number, last?: number): PortVlan => ({
  vid,
  ...(last !== undefined && { last }),
  pvid: false,
  untagged: false,
});

for (const [name, present, defaultPvid, want] of [
  ['as the bridge has made it', [untagged(1)], 1, {}],
  ['none, on a bridge that gives none', [], 0, {}],
  ['an access port', [untagged(100)], 1, { vid: 100 }],
  ['a trunk', [tagged(100, 102)], 1, { trunks: [100, 101, 102] }],
  ['both', [untagged(1), tagged(200)], 1, { vid: 1, trunks: [200] }],
  ['none, where the bridge would give one', [], 1, undefined],
  ['out without a tag, in with one', [{ vid: 7, pvid: false, untagged: true }], 1, undefined],
  ['a PVID that leaves with its tag', [{ vid: 7, pvid: true, untagged: false }], 1, undefined],
] as const) {
  test(`what a network says of a port of a Linux bridge: ${name}`, () => {
    const said = saidVlans(present, defaultPvid);
    assert.deepEqual(said, want);
    const again = said && wantedVlans(said);
    if (again) assert.deepEqual(saidVlans(again, defaultPvid), said);
  });
}
