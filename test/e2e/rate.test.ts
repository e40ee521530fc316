/** A limit of what a container receives where it has no end on the host: by real traffic, and through its whole life. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import test from 'node:test';
import { cidrs, jsonIn, nsenter, run, runContainer, runIn, skipUnless, type Where } from '../lab.ts';
import { agentHost, startOvs } from './agent-ground.ts';
import { linkNames, nicOn } from './support.ts';

const receiver = `require('net').createServer((s) => { let bytes = 0; const began = performance.now();
    s.on('data', (d) => { bytes += d.length; }).on('end', () => {
      console.log(performance.now() - began); process.exit(); });
  }).listen(5001, () => console.log('ready'));`;
const sender = `require('net').connect(5001, process.argv[1], function () { this.end(Buffer.alloc(Number(process.argv[2]))); });`;

/** Milliseconds that so many bytes take. */
async function transfer(from: Where, to: Where, ip: string, bytes: number): Promise<number> {
  const start = (where: Where, script: string, ...args: string[]) => {
    const [first = '', ...rest] = [...nsenter(where), process.execPath, '-e', script, ...args];
    return spawn(first, rest, { stdio: ['ignore', 'pipe', 'inherit'] });
  };
  const receiving = start(to, receiver);
  const closed = once(receiving, 'close');
  let said = '';
  receiving.stdout.setEncoding('utf8');
  await once(receiving.stdout, 'data');
  receiving.stdout.on('data', (text: string) => {
    said += text;
  });
  const sending = start(from, sender, ip, String(bytes));
  const limit = setTimeout(() => receiving.kill(), 20_000);
  await Promise.all([closed, once(sending, 'close')]);
  clearTimeout(limit);
  return Number(said);
}

const hasIfb = (): boolean =>
  run('unshare', ['-n', 'ip', 'link', 'add', 'pwtf', 'type', 'ifb'], { expect: 'any' }).code === 0;

test('what a macvlan receives is limited, changed, mended and set free', async (t) => {
  if (skipUnless(t, 'root', 'docker', 'macvlan', 'tbf')) return;
  if (!hasIfb()) return t.skip('kernel lacks ifb');
  const host = await agentHost(t, 'rth');
  const a = runContainer(t, 'rta');
  nicOn(host, 'nic0');
  host.ip('addr', 'add', '10.1.0.254/24', 'dev', 'nic0p');
  const apply = (rest: string): void => {
    const network = 'lan: { kind: macvlan, uplink: nic0, subnet: 10.1.0.0/24 }';
    const entry = `{ container: ${a.name}, network: lan, addresses: 10.1.0.1/24${rest} }`;
    host.write(`networks:\n  ${network}\nattachments:\n  - ${entry}\n`);
    const ran = host.on('apply', '--yes');
    assert.equal(ran.code, 0, ran.stdout + ran.stderr);
    assert.equal(host.on('plan').stdout, 'nothing to do\n');
  };
  apply(', rate: { in: 8mbit }');
  assert.deepEqual(linkNames(a.pid), ['eth1', 'ifb-eth1']);
  const bytes = 1_500_000;
  const slow = await transfer(host.name, a.pid, '10.1.0.1', bytes);
  const other = await transfer(a.pid, host.name, '10.1.0.254', bytes);
  apply(', rate: { in: 64mbit }');
  const faster = await transfer(host.name, a.pid, '10.1.0.1', bytes);
  t.diagnostic(
    `${slow.toFixed(0)} ms at 8 Mbit/s, ${faster.toFixed(0)} ms at 64, ${other.toFixed(0)} ms the other way`,
  );
  assert.ok(slow > 3 * faster, `${slow} ms at 8 Mbit/s, ${faster} ms at 64`);
  assert.ok(slow > 3 * other, `${slow} ms at 8 Mbit/s, ${other} ms the other way`);
  // Somebody takes a part of it away.
  for (const [program, ...words] of [
    ['ip', 'link', 'del', 'ifb-eth1'],
    ['tc', 'qdisc', 'del', 'dev', 'eth1', 'ingress'],
    ['tc', 'filter', 'del', 'dev', 'eth1', 'ingress'],
    ['tc', 'qdisc', 'del', 'dev', 'ifb-eth1', 'root'],
  ] as const) {
    runIn(a.pid, program, words);
    assert.equal(host.on('plan').code, 2, words.join(' '));
    apply(', rate: { in: 64mbit }');
    assert.deepEqual(cidrs(a.pid, 'eth1'), ['10.1.0.1/24']);
  }
  const again = await transfer(host.name, a.pid, '10.1.0.1', 100_000);
  assert.ok(again > 0);
  apply('');
  assert.deepEqual(linkNames(a.pid), ['eth1']);
  const kinds = jsonIn(a.pid, 'tc', ['-j', 'qdisc', 'show', 'dev', 'eth1']).map(({ kind }) => kind);
  assert.deepEqual(kinds, ['noqueue']);
  apply(', rate: { in: 8mbit, out: 8mbit }');
  host.pipewright(['destroy']);
  assert.deepEqual(linkNames(a.pid), []);
});

test('the limit of what a container receives goes with it from bridge to Open vSwitch to another one and back', async (t) => {
  if (skipUnless(t, 'root', 'docker', 'ovs', 'tbf')) return;
  const host = await agentHost(t, 'rto');
  await startOvs(t, host);
  const a = runContainer(t, 'rtb');
  for (const network of ['br', 'ovs', 'other', 'br']) {
    host.write(`networks:
  br: { kind: bridge, bridge: rbr0 }
  ovs: { kind: ovs, bridge: rovs0 }
  other: { kind: ovs, bridge: rovs1 }
attachments:
  - { container: ${a.name}, network: ${network}, addresses: 10.1.0.1/24, rate: { in: 8mbit } }
`);
    const ran = host.on('apply', '--yes');
    assert.equal(ran.code, 0, ran.stdout + ran.stderr);
    assert.match(host.run('tc', ['qdisc', 'show', 'dev', `veth1pl${a.pid}`]).stdout, /tbf .* rate 8Mbit /);
    assert.equal(host.on('plan').stdout, 'nothing to do\n');
  }
  // Somebody pulls the port off, and puts it back: the limit is gone.
  const port = `veth1pl${a.pid}`;
  host.run('ip', ['link', 'set', port, 'nomaster']);
  for (const words of [
    ['add-port', 'rovs0', port],
    ['del-port', 'rovs0', port],
  ])
    host.run('ovs-vsctl', words);
  assert.equal(host.on('plan').code, 2);
  assert.equal(host.on('apply', '--yes').code, 0);
  assert.match(host.run('tc', ['qdisc', 'show', 'dev', port]).stdout, /tbf .* rate 8Mbit /);
});
