/** `pipework route`, `rule` and `tc`: programs of the host in the container's namespace, their output and exit code. */
import assert from 'node:assert/strict';
import test from 'node:test';
import { ipRoutes, ipRules, jsonIn, ping, runIn, skipUnless } from '../lab.ts';
import {
  type Cases,
  changesBy,
  command,
  type Ground,
  line,
  makeGround,
  namedNetns,
  runCases,
} from './support.ts';

const cases: Cases<Ground> = {
  'route add, as ip takes it': ({ host, a }) => {
    host.pipework(['br1', a.name, '10.0.0.2/24']);
    const { stdout, stderr } = host.pipework(['route', a.name, 'add', '10.5.0.0/16', 'via', '10.0.0.1']);
    assert.equal(stdout + stderr, '');
    const [route] = ipRoutes(a.pid).filter(({ dst }) => dst === '10.5.0.0/16');
    assert.equal(`${route?.gateway} ${route?.dev}`, '10.0.0.1 eth1');
    assert.equal(namedNetns(a.pid), false);
  },

  'route add default, and route show prints what ip prints': ({ host, a }) => {
    host.pipework(['br1', a.name, '10.0.0.2/24']);
    host.pipework(['route', a.name, 'add', 'default', 'via', '10.0.0.1', 'dev', 'eth1']);
    const { stdout } = host.pipework(['route', a.name, 'show']);
    assert.equal(stdout, runIn(a.pid, 'ip', ['route', 'show']).stdout);
    assert.match(stdout, /^default via 10\.0\.0\.1 dev eth1/);
  },

  'rule add, as ip takes it': ({ host, a }, t) => {
    const words = ['from', '172.19.0.2/32', 'table', '1'];
    t.after(() => void runIn(a.pid, 'ip', ['rule', 'del', ...words], { expect: 'any' }));
    host.pipework(['rule', a.name, 'add', ...words]);
    const [rule] = ipRules(a.pid).filter(({ src }) => src === '172.19.0.2');
    assert.equal(rule?.table, '1');
  },

  'what the program says and its exit code are the answer': ({ host, a }) => {
    const { stdout, stderr } = host.pipework(['route', a.name, 'bogus'], { expect: 255 });
    const ip = runIn(a.pid, 'ip', ['route', 'bogus'], { expect: 255 });
    assert.deepEqual([stdout, stderr], [ip.stdout, ip.stderr]);
    host.pipework(['route', a.name, 'add', '10.0.0.0/8', 'dev', 'nosuch'], { expect: 1 });
    assert.equal(namedNetns(a.pid), false);
  },

  'words are words: nothing of them reaches a shell': ({ host, a }) => {
    const { stderr } = host.pipework(['route', a.name, 'show', '; echo oops; $(echo oops)'], {
      expect: 'any',
    });
    assert.doesNotMatch(stderr, /^oops/m);
  },

  'a word that begins with route, rule or tc is that word; -i, -l and -a are passed over': ({ host, a }) => {
    host.pipework(['br1', a.name, '10.0.0.2/24']);
    host.pipework(['routeXYZ', '-i', 'eth1', '-a', '4', a.name, 'add', '10.6.0.0/16', 'via', '10.0.0.1']);
    assert.ok(ipRoutes(a.pid).some(({ dst }) => dst === '10.6.0.0/16'));
  },

  'a container that nobody knows: one line, exit 1': ({ host }) => {
    for (const word of ['route', 'rule', 'tc']) {
      assert.match(
        line(host.pipework([word, 'pwt-nosuch', 'show'], { expect: 1 })),
        /^[^\n]*pwt-nosuch[^\n]*$/,
      );
    }
  },

  'ip is not installed: one line, exit 1': ({ host, a }) => {
    const changes = changesBy(host, [a.pid], () => {
      const words = command('pipework', ['route', a.name, 'show']);
      const ran = runIn(host.name, 'env', ['PATH=/nonexistent', ...words], { expect: 1 });
      assert.match(line(ran), /^pipework: ip [^\n]*not installed[^\n]*$/);
    });
    assert.deepEqual(changes, []);
  },
};

const tbf = [
  'qdisc',
  'add',
  'dev',
  'eth1',
  'root',
  'tbf',
  'rate',
  '1mbit',
  'burst',
  '10kb',
  'latency',
  '50ms',
];

const shaping: Cases<Ground> = {
  'tc shapes an interface, and its exit code passes through': ({ host, a }) => {
    host.pipework(['br1', a.name, '10.0.0.2/24']);
    host.pipework(['tc', a.name, ...tbf]);
    const [qdisc] = jsonIn(a.pid, 'tc', ['-j', 'qdisc', 'show', 'dev', 'eth1']);
    assert.equal(qdisc?.kind, 'tbf');
    host.pipework(['tc', a.name, ...tbf], { expect: 2 });
    assert.equal(namedNetns(a.pid), false);
  },
};

test('pipework route and rule', async (t) => {
  if (skipUnless(t, 'root', 'docker')) return;
  await runCases(t, await makeGround(t, 'rr'), cases);
});

const delaying: Cases<Ground> = {
  'tc delays what leaves an interface': ({ host, a, b }) => {
    host.pipework(['br1', a.name, '10.0.0.2/24']);
    host.pipework(['br1', b.name, '10.0.0.3/24']);
    host.pipework(['tc', a.name, 'qdisc', 'add', 'dev', 'eth1', 'root', 'netem', 'delay', '300ms']);
    const [qdisc] = jsonIn(a.pid, 'tc', ['-j', 'qdisc', 'show', 'dev', 'eth1']);
    assert.equal(qdisc?.kind, 'netem');
    assert.ok(ping(a.pid, '10.0.0.3', 5));
    const { stdout } = runIn(b.pid, 'ping', ['-n', '-c1', '-W5', '10.0.0.2']);
    assert.ok(Number(/time=([\d.]+)/.exec(stdout)?.[1]) >= 300, stdout);
  },
};

test('pipework tc', async (t) => {
  if (skipUnless(t, 'root', 'docker', 'tbf')) return;
  await runCases(t, await makeGround(t, 'tc'), shaping);
});

test('pipework tc with netem', async (t) => {
  if (skipUnless(t, 'root', 'docker', 'netem')) return;
  await runCases(t, await makeGround(t, 'tn'), delaying);
});
