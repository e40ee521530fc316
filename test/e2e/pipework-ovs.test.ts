/** `pipework` on Open vSwitch: the machine's own, on bridges whose names begin with `ovspwt`. */
import assert from 'node:assert/strict';
import test, { type TestContext } from 'node:test';
import {
  type Container,
  cidrs,
  cleanupOvsBridge,
  ipLink,
  linkExists,
  makeOvsBridge,
  ovsPort,
  ovsPorts,
  ovsRows,
  ping,
  pipework,
  pipewright,
  run,
  runContainer,
  skipUnless,
} from '../lab.ts';
import { defaults, emptyGuest, line, linkNames, reaches, until } from './support.ts';

const number = process.pid % 100_000;
/** 15 bytes at most. */
const bridge = `ovspwt${number}`;
const other = `pwtsw${number}`;

interface Ground {
  readonly a: Container;
  readonly b: Container;
}

/** The host's end of a container's eth1. */
const end = ({ pid }: Container): string => `veth1pl${pid}`;

const cases: Record<string, (ground: Ground, t: TestContext) => void | Promise<void>> = {
  "a missing bridge is made, and the port carries the original's external_ids": ({ a }) => {
    const { stdout, stderr } = pipework([bridge, a.name, '192.168.1.1/24']);
    assert.equal(stdout + stderr, '');
    assert.deepEqual(ovsPorts(bridge), [end(a)]);
    const port = ovsPort(end(a));
    assert.equal(port?.tag, undefined);
    assert.deepEqual(port?.externalIds, {
      'pipework.interface': end(a),
      'pipework.bridge': bridge,
      'pipework.containerid': a.id,
      'pipework.containername': `/${a.name}`,
      'pipework.nspid': String(a.pid),
    });
    assert.ok((port?.ofport ?? -1) > 0);
    assert.deepEqual(cidrs(a.pid, 'eth1'), ['192.168.1.1/24']);
    assert.ok(ipLink(a.pid, 'eth1')?.flags.includes('LOWER_UP'));
  },

  'the port forwards when the command returns': ({ a, b }) => {
    pipework([bridge, a.name, '192.168.1.1/24']);
    pipework([bridge, b.name, '192.168.1.2/24']);
    assert.equal(reaches(a.pid, '192.168.1.2'), true);
  },

  "@VLAN, alone and behind a MAC address, is the port's tag": ({ a, b }) => {
    pipework([bridge, a.name, '192.168.1.1/24', '@10']);
    pipework([bridge, b.name, '192.168.1.2/24', '02:00:00:00:00:99@4094']);
    assert.equal(ovsPort(end(a))?.tag, 10);
    assert.equal(ovsPort(end(a))?.externalIds['pipework.vlan'], '10');
    assert.equal(ovsPort(end(b))?.tag, 4094);
    assert.equal(ovsPort(end(b))?.externalIds['pipework.vlan'], '4094');
    assert.equal(ipLink(b.pid, 'eth1')?.address, '02:00:00:00:00:99');
    assert.equal(ping(a.pid, '192.168.1.2'), false);
  },

  'a bridge of any name that Open vSwitch has is used': ({ a }, t) => {
    makeOvsBridge(t, other);
    pipework([other, a.name, '192.168.1.1/24@192.168.1.254', '@7']);
    assert.deepEqual(ovsPorts(other), [end(a)]);
    assert.equal(ovsPort(end(a))?.tag, 7);
    assert.deepEqual(defaults(a.pid), ['via 192.168.1.254 dev eth1']);
  },

  '-i and -l, and an interface name of 15 bytes': ({ a }) => {
    pipework([bridge, '-i', 'verylongname123', '-l', `pwtl${number}`, a.name, '192.168.1.1/24']);
    assert.deepEqual(linkNames(a.pid), ['verylongname123']);
    assert.deepEqual(ovsPorts(bridge), [`pwtl${number}`]);
    assert.equal(ovsPort(`pwtl${number}`)?.externalIds['pipework.interface'], `pwtl${number}`);
  },

  'a VLAN that is none is refused, and neither end of a pair is left': ({ a }) => {
    for (const vid of ['foo', '0', '4095', '-1', '10x']) {
      assert.match(line(pipework([bridge, a.name, '10.0.0.1/24', `@${vid}`], { expect: 1 })), /VLAN id/);
      assert.deepEqual(linkNames(a.pid), []);
      assert.equal(linkExists('host', end(a)), false);
      assert.equal(ovsPorts(bridge), undefined);
    }
  },

  "the same line twice: the original's message and exit code, and the port as it was": ({ a }) => {
    const words = [bridge, a.name, '192.168.1.1/24', '@10'];
    pipework(words);
    const before = ovsPort(end(a));
    assert.equal(pipework(words, { expect: 1 }).stdout, `Link ${end(a)} exists and is up\n`);
    pipework([bridge, a.name, '192.168.1.1/24', '@20'], { expect: 1 });
    assert.deepEqual(ovsPort(end(a)), before);
    assert.deepEqual(linkNames(a.pid), ['eth1']);
  },

  'a failure leaves no port, no pair and no bridge that was made for it': ({ a }) => {
    const said = line(pipework([bridge, a.name, '10.5.0.5/24,10.6.0.5/24@10.5.0.255', '@10'], { expect: 2 }));
    assert.match(said, /^pipework: route\.replace [^\n]*$/);
    assert.equal(ovsPorts(bridge), undefined);
    assert.equal(linkExists('host', end(a)), false);
    assert.equal(linkExists('host', bridge), false);
    assert.deepEqual(linkNames(a.pid), []);
  },

  'two interfaces of one container in two VLANs of one bridge': ({ a, b }) => {
    for (const { name, i } of [
      { ...a, i: 1 },
      { ...b, i: 2 },
    ]) {
      pipework([bridge, name, `10.0.1.${i}/24`, '@10']);
      pipework([bridge, '-i', 'eth2', name, `10.0.2.${i}/24`, '@20']);
    }
    assert.equal(reaches(a.pid, '10.0.1.2') && reaches(a.pid, '10.0.2.2'), true);
  },

  'an IPv6 address on an access port': ({ a, b }) => {
    pipework([bridge, a.name, 'fd00::1/64', '@10']);
    pipework([bridge, b.name, 'fd00::2/64', '@10']);
    for (const { name } of [a, b]) pipewright(['wait', name, '--timeout', '5']);
    assert.equal(reaches(a.pid, 'fd00::2'), true);
  },
};

test('pipework on Open vSwitch', async (t) => {
  if (skipUnless(t, 'root', 'docker', 'ovs')) return;
  const ground = { a: runContainer(t, 'oa'), b: runContainer(t, 'ob') };
  for (const [name, act] of Object.entries(cases)) {
    await t.test(name, async (t) => {
      cleanupOvsBridge(t, bridge);
      t.after(() => [ground.a, ground.b].forEach(({ pid }) => void emptyGuest(pid)));
      await act(ground, t);
    });
  }
});

test('a container that is gone leaves its port, until the next command on Open vSwitch', async (t) => {
  if (skipUnless(t, 'root', 'docker', 'ovs')) return;
  cleanupOvsBridge(t, bridge);
  const gone = runContainer(t, 'og');
  const next = runContainer(t, 'on');
  pipework([bridge, gone.name, '192.168.1.1/24']);
  run('docker', ['kill', gone.name]);
  await until(() => !linkExists('host', end(gone)));
  pipework([bridge, next.name, '192.168.1.2/24']);
  assert.deepEqual(ovsPorts(bridge), [end(next)]);
  assert.deepEqual(
    ovsRows('Interface').filter(({ name }) => name === end(gone)),
    [],
  );
});

test('VLANs on one host: 1 reaches 2, 3 reaches 4, and nothing crosses', async (t) => {
  if (skipUnless(t, 'root', 'docker', 'ovs')) return;
  cleanupOvsBridge(t, bridge);
  const tests = [1, 2, 3, 4].map((i) => runContainer(t, `test${i}`));
  for (const [i, { name }] of tests.entries()) {
    pipework([bridge, name, `192.168.0.${i + 1}/24`, `@${i < 2 ? 100 : 200}`]);
  }
  // Only the ways that are to be open get a second chance.
  const isOpen = (from: number, to: number): boolean => Math.floor(from / 2) === Math.floor(to / 2);
  const reached = tests.map(({ pid }, i) =>
    [0, 1, 2, 3].filter((j) => ping(pid, `192.168.0.${j + 1}`, isOpen(i, j) ? 3 : 1)).map((j) => j + 1),
  );
  assert.deepEqual(reached, [
    [1, 2],
    [1, 2],
    [3, 4],
    [3, 4],
  ]);
  // Docker's own view of a container is as before: nothing but lo.
  assert.deepEqual(linkNames(tests[0]?.pid ?? 0), ['eth1']);
});
