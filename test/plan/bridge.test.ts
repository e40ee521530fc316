import assert from 'node:assert/strict';
import test from 'node:test';
import fc from 'fast-check';
import { PipewrightError } from '../../src/errors.ts';
import type { BridgeNetwork } from '../../src/model/attachment.ts';
import { filteringMark } from '../../src/model/naming.ts';
import type { Observed } from '../../src/model/observed.ts';
import { formatVlans, inRows, type PortVlan, vlanChanges } from '../../src/model/port-vlan.ts';
import { unfilter } from '../../src/plan/bridge.ts';
import { planAttach } from '../../src/plan/plan.ts';
import { commands, connected, earlier, link, recordOf, seen, undoOf, wanted } from './support.ts';

const br1 = (more: Partial<BridgeNetwork> = {}): BridgeNetwork => ({ kind: 'bridge', name: 'br1', ...more });
const native = (vid: number): PortVlan => ({ vid, pvid: true, untagged: true });
const tagged = (vid: number): PortVlan => ({ vid, pvid: false, untagged: false });

const ours = link('br1', 5, {
  kind: 'bridge',
  group: earlier,
  data: { vlanFiltering: true, defaultPvid: 1 },
});
const plain = { ...ours, data: { vlanFiltering: false, defaultPvid: 1 } };

const vlanCommands = (want: BridgeNetwork, facts: Observed) => {
  const steps = planAttach(wanted(want), facts, 'converge');
  const isAbout = (text: string): boolean => /vlan/.test(text);
  return { plan: commands(steps).filter(isAbout), undo: undoOf(steps).filter(isAbout) };
};

test('a new bridge filters VLANs from its birth, and its port is in its VLAN before the container is up', () => {
  const plan = commands(planAttach(wanted(br1({ vid: 100 })), seen(), 'converge'));
  assert.deepEqual(plan, [
    'ip link add br1 type bridge vlan_filtering 1',
    'ip link add veth1pl42 up mtu 1500 master br1 type veth peer name eth1 mtu 1500 netns GUEST',
    'bridge vlan add dev veth1pl42 vid 100 pvid untagged',
    'bridge vlan del dev veth1pl42 vid 1',
    'ip -n GUEST link set eth1 up',
  ]);
});

test('ports of a bridge that is there', () => {
  const facts = seen({ host: { network: ours, networkType: 'bridge' } });
  assert.deepEqual(vlanCommands(br1(), facts).plan, []);
  assert.deepEqual(vlanCommands(br1({ vid: 1 }), facts).plan, []);
  assert.deepEqual(vlanCommands(br1({ trunks: [100, 101, 200] }), facts).plan, [
    'bridge vlan add dev veth1pl42 vid 100-101',
    'bridge vlan add dev veth1pl42 vid 200',
    'bridge vlan del dev veth1pl42 vid 1',
  ]);
  const none = { ...ours, data: { vlanFiltering: true, defaultPvid: 0 } };
  const bare = seen({ host: { network: none, networkType: 'bridge' } });
  assert.deepEqual(vlanCommands(br1({ vid: 7 }), bare).plan, [
    'bridge vlan add dev veth1pl42 vid 7 pvid untagged',
  ]);
});

test('a bridge that filters nothing is switched when it is ours, or when the user says so and then marked', () => {
  const on = (network: typeof plain): Observed => seen({ host: { network, networkType: 'bridge' } });
  assert.deepEqual(vlanCommands(br1({ vid: 1 }), on(plain)), {
    plan: ['ip link set br1 type bridge vlan_filtering 1'],
    undo: ['ip link set br1 type bridge vlan_filtering 0'],
  });
  const theirs = { ...plain, group: 0 };
  const refused = (error: unknown): boolean =>
    error instanceof PipewrightError && error.code === 'VLAN_FILTERING_OFF';
  assert.throws(() => vlanCommands(br1({ vid: 1 }), on(theirs)), refused);
  const marked = `altname ${filteringMark('br1')}`;
  assert.deepEqual(vlanCommands(br1({ vlanFiltering: true }), on(theirs)), {
    plan: [`ip link property add dev br1 ${marked}`, 'ip link set br1 type bridge vlan_filtering 1'],
    undo: ['ip link set br1 type bridge vlan_filtering 0', `ip link property del dev br1 ${marked}`],
  });
  assert.deepEqual(unfilter(theirs), []);
  assert.equal(unfilter({ name: 'br1', altnames: [filteringMark('br1')] }).length, 2);
});

test('VLANs of a port that is there are changed in place, the new one first', () => {
  const { host, guest, record } = connected([]);
  const at = (portVlans: readonly PortVlan[], network: BridgeNetwork = br1()): Observed =>
    seen({ host: { ...host, network: ours, portVlans }, guest, record: { ...record, network } });
  assert.deepEqual(vlanCommands(br1({ vid: 100 }), at([native(100)])).plan, []);
  assert.deepEqual(vlanCommands(br1({ vid: 200 }), at([native(100)])), {
    plan: ['bridge vlan add dev veth1pl42 vid 200 pvid untagged', 'bridge vlan del dev veth1pl42 vid 100'],
    undo: ['bridge vlan add dev veth1pl42 vid 100 pvid untagged', 'bridge vlan del dev veth1pl42 vid 200'],
  });
  // What nobody asked us for is not ours to take away, what we made is.
  assert.deepEqual(vlanCommands(br1(), at([native(7)])).plan, []);
  assert.deepEqual(vlanCommands(br1(), at([native(7)], br1({ vid: 7 }))).plan, [
    'bridge vlan add dev veth1pl42 vid 1 pvid untagged',
    'bridge vlan del dev veth1pl42 vid 7',
  ]);
});

test('a port that moves to another bridge has its VLANs there, and gets those it had when it comes back', () => {
  const { host, guest } = connected([]);
  const facts = seen({
    host: {
      ...host,
      network: { ...ours, ifindex: 9 },
      hostEndMaster: 'br0',
      hostEndPvid: 1,
      portVlans: [native(7)],
    },
    guest,
    record: recordOf({ network: br1({ vid: 7 }) }),
  });
  const steps = planAttach(wanted(br1({ vid: 100 })), facts, 'converge');
  assert.deepEqual(commands(steps), [
    'ip link set veth1pl42 master br1',
    'bridge vlan add dev veth1pl42 vid 100 pvid untagged',
    'bridge vlan del dev veth1pl42 vid 1',
  ]);
  assert.deepEqual(undoOf(steps), [
    'ip link set veth1pl42 master br0',
    'bridge vlan add dev veth1pl42 vid 7 pvid untagged',
    'bridge vlan del dev veth1pl42 vid 1',
  ]);
});

test('rows: what is in a row and alike is one, but for a PVID', () => {
  assert.equal(
    formatVlans([...[4, 3, 2].map(tagged), native(5), ...[6, 8].map(tagged)]),
    '2-4, 5 pvid untagged, 6, 8',
  );
  assert.equal(formatVlans([]), 'none');
});

/** At most one PVID, as the kernel has it. */
const someVlans = fc
  .tuple(
    fc.uniqueArray(fc.tuple(fc.integer({ min: 1, max: 20 }), fc.boolean()), { selector: ([vid]) => vid }),
    fc.integer({ min: 1, max: 40 }),
  )
  .map(([vlans, pvid]) => vlans.map(([vid, untagged]): PortVlan => ({ vid, pvid: vid === pvid, untagged })));

/** What a port carries after that, as the kernel does it: a new PVID takes the place of the old one. */
function after(present: readonly PortVlan[], { add, del }: ReturnType<typeof vlanChanges>): PortVlan[] {
  let now = new Map(present.map((vlan) => [vlan.vid, vlan]));
  for (const { vid, last = vid, pvid, untagged } of add) {
    if (pvid) now = new Map([...now].map(([key, vlan]) => [key, { ...vlan, pvid: false }]));
    for (let one = vid; one <= last; one++) now.set(one, { vid: one, pvid, untagged });
  }
  for (const { vid, last = vid } of del) for (let one = vid; one <= last; one++) now.delete(one);
  return [...now.values()];
}

test('whatever a port carries, the changes lead to what is wanted, and back', () => {
  fc.assert(
    fc.property(someVlans, someVlans, (wanted, present) => {
      const changed = after(present, vlanChanges(wanted, present));
      assert.equal(formatVlans(changed), formatVlans(wanted));
      assert.equal(formatVlans(after(changed, vlanChanges(present, wanted))), formatVlans(present));
      assert.deepEqual(vlanChanges(wanted, inRows(wanted)), { add: [], del: [] });
    }),
  );
});
