/** How a container is named: Docker's name, id and id prefix, a pid, a named network namespace. */
import assert from 'node:assert/strict';
import test from 'node:test';
import { cidrs, cleanupOvsBridge, ovsPort, pipework, plainNetns, skipUnless } from '../lab.ts';
import { type Cases, changesBy, type Ground, line, makeGround, reaches, runCases } from './support.ts';

const cases: Cases<Ground> = {
  'the full id, a prefix of it, the name with its slash': ({ host, a }) => {
    for (const [i, name] of [a.id, a.id.slice(0, 12), `docker:${a.name}`].entries()) {
      host.pipework(['br1', '-i', `i${i}`, name, `10.0.${i}.1/24`]);
      assert.deepEqual(cidrs(a.pid, `i${i}`), [`10.0.${i}.1/24`]);
    }
  },

  'pid:N and netns:NAME and netns:/path are connected like any container': async ({ host, a }, t) => {
    const named = await plainNetns(t, 'cnn');
    host.pipework(['br1', `pid:${a.pid}`, '10.0.0.1/24']);
    host.pipework(['br1', `netns:${named.name}`, '10.0.0.2/24']);
    host.pipework(['br1', '-i', 'eth2', `netns:${named.path}`, '10.0.1.2/24']);
    assert.equal(reaches(a.pid, '10.0.0.2'), true);
    assert.deepEqual(cidrs(named.name, 'eth2'), ['10.0.1.2/24']);
    host.pipework(['route', `netns:${named.name}`, 'add', 'default', 'via', '10.0.0.1']);
    assert.ok(host.links().every((name) => Buffer.byteLength(name) <= 15));
  },

  'the same container under two names is one: the interface is not made twice': ({ host, a }) => {
    host.pipework(['br1', a.name, '10.0.0.1/24']);
    const changes = changesBy(host, [a.pid], () => {
      for (const name of [a.id, `pid:${a.pid}`, `netns:/proc/${a.pid}/ns/net`])
        host.pipework(['br1', name, '10.0.0.1/24'], { expect: 'any' });
      assert.equal(
        host.pipework(['br1', a.id, '10.0.0.1/24'], { expect: 1 }).stdout,
        `Link veth1pl${a.pid} exists and is up\n`,
      );
    });
    assert.deepEqual(changes, []);
  },

  'what is no container: one line, exit 1': ({ host, a }) => {
    const changes = changesBy(host, [a.pid], () => {
      for (const name of [
        'pid:0',
        'pid:4194304',
        'pid:x',
        'netns:pwt-nosuch',
        'netns:/etc/passwd',
        'podman:pwt-nosuch',
        'lxc:pwt-nosuch',
        'foo:bar',
        'docker:',
      ]) {
        assert.match(
          line(host.pipework(['br1', name, '10.0.0.1/24'], { expect: 1 })),
          /^pipework: [^\n]+$/,
          name,
        );
      }
    });
    assert.deepEqual(changes, []);
  },

  'the host itself, by its pid or its namespace, is refused': ({ host }) => {
    const changes = changesBy(host, [], () => {
      for (const name of [`pid:${host.pid}`, `netns:${host.name}`]) {
        const said = line(host.pipework(['br1', name, '10.0.0.1/24'], { expect: 1 }));
        assert.match(said, /^pipework: [^\n]*host's network namespace[^\n]*$/);
      }
    });
    assert.deepEqual(changes, []);
  },
};

test('pipework: names of containers', async (t) => {
  if (skipUnless(t, 'root', 'docker')) return;
  await runCases(t, await makeGround(t, 'cn'), cases);
});

test('a port of Open vSwitch for a pid has no container id and no name', async (t) => {
  if (skipUnless(t, 'root', 'ovs')) return;
  const bridge = `ovspwt${process.pid % 100_000}`;
  cleanupOvsBridge(t, bridge);
  const { pid } = await plainNetns(t, 'cno');
  pipework([bridge, `pid:${pid}`, '10.0.0.1/24']);
  assert.deepEqual(Object.keys(ovsPort(`veth1pl${pid}`)?.externalIds ?? {}).sort(), [
    'pipework.bridge',
    'pipework.interface',
    'pipework.nspid',
  ]);
});
