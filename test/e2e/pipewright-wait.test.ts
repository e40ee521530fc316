/** `pipewright wait`: until an interface can be used. */
import assert from 'node:assert/strict';
import test from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { type Ran, runAsync, runIn, skipUnless } from '../lab.ts';
import {
  type Cases,
  command,
  type Ground,
  line,
  linkNames,
  makeGround,
  reaches,
  runCases,
} from './support.ts';

/** How long it waited for, in seconds, and what it said. */
async function timed(words: readonly string[]): Promise<Ran & { seconds: number }> {
  const [first = '', ...rest] = command('pipewright', ['wait', ...words]);
  const began = performance.now();
  const ran = await runAsync(first, rest, { expect: 'any', timeout: 20 });
  return { ...ran, seconds: (performance.now() - began) / 1000 };
}

const cases: Cases<Ground> = {
  'an interface that is up with its address is not waited for': async ({ host, a }) => {
    host.pipework(['br1', a.name, '10.0.0.1/24']);
    const { code, stdout, stderr, seconds } = await timed([a.name, '--timeout', '5']);
    assert.equal(`${code} ${stdout}${stderr}`, '0 ');
    assert.ok(seconds < 2);
  },

  'one that is absent is waited for until it is there': async ({ host, a }) => {
    const waiting = timed([a.name, '--ifname', 'lan', '--timeout', '10']);
    await sleep(500);
    host.pipework(['br1', '-i', 'lan', a.name, '10.0.0.1/24']);
    const { code, seconds } = await waiting;
    assert.equal(code, 0);
    assert.ok(seconds > 0.5 && seconds < 5, `${seconds}`);
  },

  'an IPv6 address can be used when it returns': async ({ host, a, b }) => {
    for (const [i, { name }] of [a, b].entries()) host.pipework(['br1', name, `fd00::${i + 1}/64`]);
    for (const { name } of [a, b]) assert.equal((await timed([name, '--timeout', '5'])).code, 0);
    assert.doesNotMatch(runIn(a.pid, 'ip', ['addr', 'show', 'dev', 'eth1']).stdout, /tentative/);
    assert.equal(reaches(a.pid, 'fd00::2'), true);
  },

  'what is missing is said when the time is up: absent, down, no carrier': async ({ host, a }) => {
    const said = async (): Promise<string> => {
      const ran = await timed([a.name, '--timeout', '0.2']);
      assert.equal(`${ran.code} ${ran.stdout}`, '1 ');
      return line(ran);
    };
    assert.match(
      await said(),
      /^pipewright: wait eth1 in \S+: not ready after 0\.2 s: there is no such interface$/,
    );
    host.pipework(['br1', a.name, '10.0.0.1/24']);
    runIn(a.pid, 'ip', ['link', 'set', 'eth1', 'down']);
    assert.match(await said(), /: it is down$/);
    runIn(a.pid, 'ip', ['link', 'set', 'eth1', 'up']);
    host.ip('link', 'set', `veth1pl${a.pid}`, 'down');
    assert.match(await said(), /: it has no carrier$/);
  },

  'an address that another host has: said at once': async ({ host, a, b }) => {
    host.pipework(['br1', a.name, 'fd00::1/64']);
    host.pipewright(['wait', a.name, '--timeout', '5']);
    host.pipework(['br1', b.name, 'fd00::1/64']);
    const ran = await timed([b.name, '--timeout', '10']);
    assert.equal(ran.code, 1);
    assert.match(line(ran), /^pipewright: wait fd00::1 on eth1: another host has this address[^\n]*$/);
    assert.ok(ran.seconds < 5);
  },

  '--json tells the time; without a container it waits in its own namespace': ({ host, a }) => {
    host.pipework(['br1', a.name, '10.0.0.1/24']);
    const { container, ifname, ready, waitedMs } = JSON.parse(
      host.pipewright(['wait', a.name, '--json']).stdout,
    );
    assert.deepEqual([container, ifname, ready, typeof waitedMs], [a.name, 'eth1', true, 'number']);
    const words = command('pipewright', ['wait', '--timeout', '2']);
    runIn(a.pid, words[0] ?? '', words.slice(1));
    assert.match(line(host.pipewright(['wait', '--timeout', '0'], { expect: 1 })), /no such interface/);
  },

  'values that cannot be right: one line': ({ host, a }) => {
    for (const words of [
      ['--timeout', 'soon'],
      ['--timeout', '-1'],
      ['--ifname', 'a/b'],
    ]) {
      assert.match(line(host.pipewright(['wait', a.name, ...words], { expect: 1 })), /^pipewright: [^\n]+$/);
    }
    assert.deepEqual(linkNames(a.pid), []);
  },
};

test('pipewright wait', async (t) => {
  if (skipUnless(t, 'root', 'docker', 'ipv6')) return;
  await runCases(t, await makeGround(t, 'wa'), cases);
});
