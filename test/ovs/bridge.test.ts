// Against the Open vSwitch of this host. The judge is ovs-vsctl.
import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { addBridge, delBridge, getBridge, listBridges, setBridgeMac } from '../../src/ovs/bridge.ts';
import { usableDatapath } from '../../src/ovs/datapath.ts';
import { defaultSocket, Ovsdb } from '../../src/ovs/ovsdb.ts';
import { addPort, delPort, getPort } from '../../src/ovs/port.ts';
import { find, ownBridges, ownVeths, run, whyNoOvs } from './support.ts';

const skip = whyNoOvs() ?? false;
const about = { op: 'test', subject: 'test' };

async function connected(t: TestContext): Promise<Ovsdb> {
  const db = await Ovsdb.connect();
  t.after(() => db.close());
  return db;
}

test('a bridge is added as ovs-vsctl add-br would, and forwards on return', { skip }, async (t) => {
  ownBridges(t, 'pwtov1');
  const db = await connected(t);
  const externalIds = { owner: 'ü "quoted" \\u0000', '': 'empty key' };
  await addBridge(db, { name: 'pwtov1', externalIds });

  const [bridge] = find('bridge', 'name=pwtov1', ['datapath_type', 'external_ids', 'datapath_id']);
  assert.deepEqual(bridge?.external_ids, externalIds);
  assert.match(String(bridge?.datapath_id), /^[0-9a-f]{16}$/);
  assert.equal(bridge?.datapath_type, (await usableDatapath(defaultSocket)) === 'netdev' ? 'netdev' : '');
  const [own] = find('interface', 'name=pwtov1', ['type', 'ofport']);
  assert.deepEqual(own, { type: 'internal', ofport: 65534 });
  assert.match(run('ip', '-o', 'link', 'show', 'pwtov1'), /state DOWN/);

  const seen = await getBridge(db, 'pwtov1');
  assert.equal(seen?.uuid, run('ovs-vsctl', 'get', 'bridge', 'pwtov1', '_uuid').trim());
  assert.deepEqual(seen?.externalIds, externalIds);
  assert.deepEqual(seen?.ports, []);
  const names = (await listBridges(db)).map(({ name }) => name).sort();
  assert.deepEqual(names, run('ovs-vsctl', 'list-br').split('\n').filter(Boolean).sort());
  assert.equal(await getBridge(db, 'pwtov9'), undefined);
});

test('a name that a bridge or a port has is refused', { skip }, async (t) => {
  ownBridges(t, 'pwtov1', 'pwtov2');
  ownVeths(t, 'pwtova');
  const db = await connected(t);
  await addPort(db, { bridge: { name: 'pwtov1' }, port: 'pwtova' });
  await assert.rejects(addBridge(db, { name: 'pwtov1' }), {
    code: 'NAME_TAKEN',
    message: /a bridge of this name/,
  });
  await assert.rejects(addBridge(db, { name: 'pwtova' }), {
    code: 'NAME_TAKEN',
    message: /a port of this name/,
  });
});

test('a bridge whose datapath cannot be opened is refused and taken back', { skip }, async (t) => {
  const db = await connected(t);
  if ((await usableDatapath(db.path)) === 'system') return t.skip('this kernel has the openvswitch module');
  ownBridges(t, 'pwtov1');
  await assert.rejects(addBridge(db, { name: 'pwtov1', datapathType: 'system' }), { code: 'OVS_REFUSED' });
  assert.equal(find('bridge', 'name=pwtov1', ['name']).length, 0);
  assert.equal(find('interface', 'name=pwtov1', ['name']).length, 0);
});

test('deleting asks for the mark and for emptiness', { skip }, async (t) => {
  ownBridges(t, 'pwtov1');
  ownVeths(t, 'pwtova');
  const db = await connected(t);
  assert.equal(await delBridge(db, { name: 'pwtov1' }), false);
  await addPort(db, { bridge: { name: 'pwtov1', externalIds: { by: 'us' } }, port: 'pwtova' });
  assert.equal(await delBridge(db, { name: 'pwtov1', onlyIf: { key: 'by', value: 'them' } }), false);
  assert.equal(await delBridge(db, { name: 'pwtov1', onlyIfEmpty: true }), false);
  assert.equal(run('ovs-vsctl', 'port-to-br', 'pwtova').trim(), 'pwtov1');
  assert.equal(await delPort(db, { port: 'pwtova' }), true);
  const only = { name: 'pwtov1', onlyIfEmpty: true, onlyIf: { key: 'by', value: 'us' } };
  assert.equal(await delBridge(db, only), true);
  assert.doesNotMatch(run('ovs-vsctl', 'list-br'), /pwtov1/);
  assert.doesNotMatch(run('ip', '-o', 'link'), /pwtov1/);
});

test('a port that comes between the look and the deletion saves the bridge', { skip }, async (t) => {
  ownBridges(t, 'pwtov1');
  const db = await connected(t);
  await addBridge(db, { name: 'pwtov1' });
  const slow = Object.create(db) as Ovsdb;
  // The look has been answered and the deletion not yet sent: the moment another command would need.
  slow.transact = async (...args) => {
    const results = await db.transact(...args);
    run('ovs-vsctl', 'add-port', 'pwtov1', 'pwtovi', '--', 'set', 'interface', 'pwtovi', 'type=internal');
    return results;
  };
  assert.equal(await delBridge(slow, { name: 'pwtov1', onlyIfEmpty: true }), false);
  assert.equal((await getPort(db, 'pwtovi'))?.bridge, 'pwtov1');
});

test('a text that OVS cannot parse is refused before it is sent', { skip }, async (t) => {
  const db = await connected(t);
  for (const name of ['a\0b', 'a\ud800', '\\\0']) {
    await assert.rejects(addBridge(db, { name, datapathType: 'netdev' }), { code: 'BAD_ARGUMENT' });
  }
  await db.transact([], about);
});

test('the MAC address of a bridge is pinned from its birth, changed and let go', { skip }, async (t) => {
  ownBridges(t, 'pwtov1');
  const db = await connected(t);
  const mac = (): string => run('cat', '/sys/class/net/pwtov1/address').trim();
  await addBridge(db, { name: 'pwtov1', otherConfig: { hwaddr: '02:00:00:00:00:07' } });
  assert.equal(mac(), '02:00:00:00:00:07');
  assert.deepEqual((await getBridge(db, 'pwtov1'))?.otherConfig, { hwaddr: '02:00:00:00:00:07' });
  await setBridgeMac(db, 'pwtov1', '02:00:00:00:00:08');
  assert.equal(mac(), '02:00:00:00:00:08');
  await setBridgeMac(db, 'pwtov1', undefined);
  assert.deepEqual((await getBridge(db, 'pwtov1'))?.otherConfig, {});
});
