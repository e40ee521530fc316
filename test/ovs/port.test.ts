// Against the Open vSwitch of this host. The judge is ovs-vsctl.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { type TestContext, test } from 'node:test';
import { addBridge } from '../../src/ovs/bridge.ts';
import { Ovsdb } from '../../src/ovs/ovsdb.ts';
import { addPort, delPort, getPort, listPortsBy } from '../../src/ovs/port.ts';
import { setPortVlans } from '../../src/ovs/port-settings.ts';
import { find, ownBridges, ownVeths, portsOf, run, whyNoOvs } from './support.ts';

const skip = whyNoOvs() ?? false;

async function connected(t: TestContext): Promise<Ovsdb> {
  const db = await Ovsdb.connect();
  t.after(() => db.close());
  return db;
}

const linkOf = (name: string): number => Number(readFileSync(`/sys/class/net/${name}/ifindex`, 'utf8'));

test('a port with its tag, on a bridge that is made with it', { skip }, async (t) => {
  ownBridges(t, 'pwtov1');
  ownVeths(t, 'pwtova', 'pwtovb');
  const db = await connected(t);
  const externalIds = { 'pipework.vlan': '10', 'pipework.containername': '/a' };
  const bridge = { name: 'pwtov1', externalIds: { made: 'yes' } };
  const port = { bridge, port: 'pwtova', tag: 10, externalIds, portExternalIds: { x: 'y' } };
  assert.deepEqual(await addPort(db, port), { bridgeAdded: true });
  assert.deepEqual(await addPort(db, { bridge, port: 'pwtovb', trunks: [5, 7] }), { bridgeAdded: false });

  assert.deepEqual(portsOf('pwtov1'), ['pwtova', 'pwtovb']);
  assert.deepEqual(find('port', 'name=pwtova', ['tag', 'trunks', 'external_ids']), [
    { tag: 10, trunks: [], external_ids: { x: 'y' } },
  ]);
  assert.deepEqual(find('interface', 'name=pwtova', ['type', 'external_ids', 'error']), [
    { type: '', external_ids: externalIds, error: [] },
  ]);
  assert.deepEqual(find('port', 'name=pwtovb', ['tag', 'trunks']), [{ tag: [], trunks: [5, 7] }]);

  const seen = await getPort(db, 'pwtova');
  const ofport = Number(run('ovs-vsctl', 'get', 'interface', 'pwtova', 'ofport'));
  assert.ok(ofport > 0);
  assert.deepEqual(seen, {
    name: 'pwtova',
    bridge: 'pwtov1',
    tag: 10,
    trunks: [],
    vlanMode: undefined,
    cvlans: [],
    qinqEthtype: undefined,
    externalIds: { x: 'y' },
    interface: {
      name: 'pwtova',
      type: '',
      externalIds,
      ofport,
      ifindex: linkOf('pwtova'),
      policing: { rate: 0, burst: 0 },
      error: undefined,
    },
  });
  assert.deepEqual((await getPort(db, 'pwtovb'))?.trunks, [5, 7]);
  assert.equal(await getPort(db, 'pwtovz'), undefined);
});

test('refusals leave nothing behind and say why', { skip }, async (t) => {
  ownBridges(t, 'pwtov1', 'pwtov2');
  ownVeths(t, 'pwtova');
  const db = await connected(t);
  await addBridge(db, { name: 'pwtov1' });
  await addBridge(db, { name: 'pwtov2' });
  await addPort(db, { bridge: 'pwtov2', port: 'pwtova' });
  const add = (bridge: string, port: string, tag?: number): Promise<unknown> =>
    addPort(db, { bridge, port, tag });
  await assert.rejects(add('pwtov9', 'pwtova'), { code: 'NETWORK_UNKNOWN', message: /no bridge pwtov9/ });
  await assert.rejects(add('pwtov1', 'pwtova'), {
    code: 'NAME_TAKEN',
    message: /on Open vSwitch bridge pwtov2/,
  });
  await assert.rejects(add('pwtov1', 'pwtov2'), { code: 'NAME_TAKEN', message: /bridge pwtov2/ });
  await assert.rejects(add('pwtov1', 'pwtovz'), {
    code: 'OVS_REFUSED',
    message: /could not open network device pwtovz/,
  });
  await assert.rejects(add('pwtov1', 'pwtovap', 4096), {
    code: 'OVS_REFUSED',
    message: /valid range 0 to 4095/,
  });
  await assert.rejects(addPort(db, { bridge: { name: 'pwtov3' }, port: 'pwtovz' }), {
    code: 'OVS_REFUSED',
    message: /could not open network device pwtovz/,
  });
  assert.doesNotMatch(run('ovs-vsctl', 'list-br'), /pwtov3/);
  assert.deepEqual(portsOf('pwtov1'), []);
  assert.equal(find('interface', 'name=pwtovz', ['name']).length, 0);
});

test('tag, list by owner, delete by owner', { skip }, async (t) => {
  ownBridges(t, 'pwtov1');
  ownVeths(t, 'pwtova', 'pwtovb');
  const db = await connected(t);
  const bridge = { name: 'pwtov1' };
  await addPort(db, { bridge, port: 'pwtova', tag: 10, portExternalIds: { 'pwt.owner': 'a' } });
  await addPort(db, { bridge, port: 'pwtovb', portExternalIds: { 'pwt.owner': 'b' } });
  await setPortVlans(db, 'pwtova', { tag: 20 });
  assert.equal(run('ovs-vsctl', 'get', 'port', 'pwtova', 'tag').trim(), '20');
  await setPortVlans(db, 'pwtova', { tag: null });
  assert.equal(run('ovs-vsctl', 'get', 'port', 'pwtova', 'tag').trim(), '[]');
  await assert.rejects(setPortVlans(db, 'pwtovz', { tag: 1 }), { code: 'OVS_REFUSED', errno: 'ENOENT' });

  const names = async (value?: string): Promise<string[]> =>
    (await listPortsBy(db, 'pwt.owner', value)).map(({ name }) => name).sort();
  assert.deepEqual(await names(), ['pwtova', 'pwtovb']);
  assert.deepEqual(await names('b'), ['pwtovb']);
  assert.deepEqual(await names('c'), []);

  assert.equal(await delPort(db, { port: 'pwtova', onlyIf: { key: 'pwt.owner', value: 'b' } }), false);
  assert.equal(await delPort(db, { port: 'pwtova', onlyIf: { key: 'pwt.owner', value: 'a' } }), true);
  assert.equal(await delPort(db, { port: 'pwtova' }), false);
  await assert.rejects(delPort(db, { port: 'pwtov1' }), { code: 'OVS_REFUSED', message: /own port/ });
  assert.deepEqual(portsOf('pwtov1'), ['pwtovb']);
});

test('a port whose link is gone is recognised, and forwards again after del and add', { skip }, async (t) => {
  ownBridges(t, 'pwtov1');
  ownVeths(t, 'pwtova');
  const db = await connected(t);
  const port = { bridge: { name: 'pwtov1' }, port: 'pwtova', portExternalIds: { 'pwt.owner': 'a' } };
  await addPort(db, port);
  const was = linkOf('pwtova');
  assert.equal((await getPort(db, 'pwtova'))?.interface.ifindex, was);
  run('ip', 'link', 'del', 'pwtova');
  // ovs-vswitchd hears of it by itself, a little later. (ofport becomes -1 only with the kernel's datapath.)
  run('ovs-vsctl', '--timeout=5', 'wait-until', 'interface', 'pwtova', `ifindex!=${was}`);
  const [stale] = await listPortsBy(db, 'pwt.owner');
  assert.deepEqual([stale?.name, stale?.bridge], ['pwtova', 'pwtov1']);
  // 0 with the userspace datapath, none with the kernel's.
  assert.equal(stale?.interface.ifindex ?? 0, 0);

  run('ip', 'link', 'add', 'pwtova', 'type', 'veth', 'peer', 'name', 'pwtovap');
  assert.equal(await delPort(db, { port: 'pwtova' }), true);
  assert.deepEqual(portsOf('pwtov1'), []);
  await addPort(db, port);
  assert.equal((await getPort(db, 'pwtova'))?.interface.ifindex, linkOf('pwtova'));
});

test('30 at once, on as many connections, on a bridge that none of them finds', { skip }, async (t) => {
  ownBridges(t, 'pwtov1');
  const names = Array.from({ length: 30 }, (_, i) => `pwtovx${i}`);
  ownVeths(t, ...names);
  const added = await Promise.all(
    names.map(async (port, i) => {
      const db = await Ovsdb.connect();
      try {
        return await addPort(db, { bridge: { name: 'pwtov1' }, port, tag: 100 + i });
      } finally {
        db.close();
      }
    }),
  );
  assert.equal(added.filter(({ bridgeAdded }) => bridgeAdded).length, 1);
  assert.deepEqual(portsOf('pwtov1').sort(), [...names].sort());
  const tags = find('port', 'tag!=[]', ['name', 'tag']).filter(({ name }) => names.includes(String(name)));
  assert.deepEqual(
    tags.map(({ name, tag }) => [name, tag]).sort(),
    names.map((name, i) => [name, 100 + i]).sort(),
  );
  const db = await connected(t);
  const gone = await Promise.all(names.map((port) => delPort(db, { port })));
  assert.ok(gone.every(Boolean));
  assert.deepEqual(portsOf('pwtov1'), []);
});
