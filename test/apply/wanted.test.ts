import assert from 'node:assert/strict';
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { type TestContext, test } from 'node:test';
import { type RunningContainer, resolveWanted } from '../../src/apply/wanted.ts';
import { parseTopology } from '../../src/config/topology/load.ts';
import { FileStore } from '../../src/store/file-store.ts';

const topology = parseTopology([
  {
    file: 'pipewright.yaml',
    text: `
networks:
  lan: { kind: bridge, bridge: br0, subnet: 10.0.0.0/24, range: 10.0.0.1-10.0.0.3 }
attachments:
  - { container: "app*", network: lan, addresses: auto }
`,
  },
]);

const running = (...names: readonly string[]): RunningContainer[] =>
  names.map((name) => ({
    listed: { runtime: 'docker', id: name, name, labels: {} },
    container: { runtime: 'docker', id: name, name, pid: 1, netnsPath: '/proc/1/ns/net', startTime: '1' },
  }));

function ground(t: TestContext) {
  const folder = mkdtempSync(path.join(tmpdir(), 'pwt-'));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  const store = new FileStore(folder);
  const stopped = new Set<string>();
  /** Addresses by container, and whether there was none for somebody. */
  const look = async (names: readonly string[], foreign: ReadonlySet<string> = new Set()) => {
    const existing = async () => new Set([...names, ...stopped]);
    const parts = { store, existing, foreign };
    const { wanted, unwantable } = await resolveWanted(topology, running(...names), parts, {
      isComplete: true,
    });
    const given = wanted.map(({ wanted: one }) => [one.attachment.container.name, one.auto?.ips[0]] as const);
    return { given: Object.fromEntries(given), short: unwantable.map(({ key }) => key) };
  };
  return { folder, store, stopped, look };
}

test('a full range gives out anew what a container that is gone for good has not used for longest', async (t) => {
  const { look, stopped } = ground(t);
  const { given: first } = await look(['app1', 'app2', 'app3']);
  assert.equal(new Set(Object.values(first)).size, 3);
  // app2 goes before app1; both come back to their own as long as nobody needs it.
  await look(['app1', 'app3']);
  await new Promise((resolve) => setTimeout(resolve, 5));
  await look(['app3']);
  assert.deepEqual((await look(['app1', 'app3'])).given, { app1: first.app1, app3: first.app3 });
  await new Promise((resolve) => setTimeout(resolve, 5));
  await look(['app3']);
  assert.deepEqual((await look(['app3', 'app4'])).given, { app3: first.app3, app4: first.app2 });
  assert.deepEqual((await look(['app3', 'app4', 'app1'])).given.app1, first.app1);
  assert.deepEqual((await look(['app3', 'app4', 'app1', 'app2'])).short, ['app2/eth1']);
  // A container that is only stopped keeps its own.
  stopped.add('app1');
  assert.deepEqual((await look(['app3', 'app4', 'app2'])).short, ['app2/eth1']);
  stopped.clear();
  assert.deepEqual((await look(['app3', 'app4', 'app2'])).given.app2, first.app1);
});

test('an address that a stranger has is not given out, and the new one is kept', async (t) => {
  const { look } = ground(t);
  const { given } = await look(['app1']);
  const other = await look(['app1'], new Set([`lan ${given.app1}`]));
  assert.notEqual(other.given.app1, given.app1);
  assert.deepEqual((await look(['app1'])).given, other.given);
  const strangers = new Set(['lan 10.0.0.1', 'lan 10.0.0.2', 'lan 10.0.0.3']);
  assert.deepEqual((await look(['app1'], strangers)).short, ['app1/eth1']);
  // On another network it is another address.
  assert.deepEqual((await look(['app1'], new Set([`wan ${other.given.app1}`]))).given, other.given);
});

test('addresses that an earlier version kept as plain text are given again, and written anew with the next', async (t) => {
  const { look, folder, store } = ground(t);
  const file = path.join(folder, 'addresses.json');
  writeFileSync(file, '{"format":1,"value":{"app1/eth1 lan 4":"10.0.0.3"}}\n');
  assert.deepEqual((await look(['app1'])).given, { app1: '10.0.0.3' });
  const { given } = await look(['app1', 'app2']);
  assert.equal(given.app1, '10.0.0.3');
  assert.deepEqual((await store.read('addresses'))?.value, {
    'app1/eth1 lan 4': { ip: '10.0.0.3' },
    'app2/eth1 lan 4': { ip: given.app2 },
  });
});

test('two at once give out different addresses, and one file has both', async (t) => {
  const { look, folder, store } = ground(t);
  const looks = await Promise.all([look(['app1']), look(['app2']), look(['app3'])]);
  const ips = looks.flatMap(({ given }) => Object.values(given));
  assert.equal(new Set(ips).size, 3);
  const stored = await store.read<Record<string, { ip: string }>>('addresses');
  assert.deepEqual(
    Object.values(stored?.value ?? {})
      .map(({ ip }) => ip)
      .sort(),
    [...ips].sort(),
  );
  assert.deepEqual(readdirSync(folder), ['addresses.json']);
});
