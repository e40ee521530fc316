/** An address that somebody has already: refused by name, or the next one of a range; and who pays for the question. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync } from 'node:fs';
import path from 'node:path';
import test, { type TestContext } from 'node:test';
import {
  type Container,
  cidrs,
  containerPid,
  ipAddrs,
  ipLink,
  ping,
  plainNetns,
  run,
  runContainer,
  runIn,
  skipUnless,
  sniff,
} from '../lab.ts';
import { type AgentHost, agentHost, soon } from './agent-ground.ts';
import { changesBy, clear, command, line, linkNames, nicOn } from './support.ts';

interface Ground {
  readonly host: AgentHost;
  readonly a: Container;
  readonly b: Container;
  /** Somebody else on the wire of br0. */
  readonly stranger: number;
}

const mac = '02:00:00:00:00:99';
const lan =
  'lan: { kind: bridge, bridge: br0, subnet: [10.1.0.0/24, fd00:1::/64], range: 10.1.0.10-10.1.0.13 }';

/** A bridge whose uplink ends at a stranger, who has these addresses. */
function wire({ host, stranger }: Ground, ...addresses: readonly string[]): void {
  host.ip('link', 'add', 'br0', 'type', 'bridge');
  host.ip('link', 'set', 'br0', 'up');
  nicOn(host, 'nic0');
  host.ip('link', 'set', 'nic0', 'master', 'br0');
  host.ip('link', 'set', 'nic0p', 'down');
  host.ip('link', 'set', 'nic0p', 'netns', String(stranger));
  runIn(stranger, 'ip', ['link', 'set', 'nic0p', 'address', mac]);
  runIn(stranger, 'sysctl', ['-qw', 'net.ipv6.conf.nic0p.disable_ipv6=0']);
  runIn(stranger, 'ip', ['link', 'set', 'nic0p', 'up']);
  for (const address of addresses)
    runIn(stranger, 'ip', [
      'addr',
      'add',
      address,
      'dev',
      'nic0p',
      ...(address.includes(':') ? ['nodad'] : []),
    ]);
}

const entry = ({ name }: Container, rest: string): string =>
  `  - { container: ${name}, network: lan, ${rest} }\n`;
const file = (...entries: readonly string[]): string =>
  `networks:\n  ${lan}\nattachments:\n${entries.join('')}`;

const probes = (lines: readonly string[], ip: string): number =>
  lines.filter((text) => text.includes(`Request who-has ${ip} `) && text.includes('tell 0.0.0.0')).length;

const cases: Record<string, (ground: Ground, t: TestContext) => void | Promise<void>> = {
  'a command refuses what a stranger answers for, names it, and leaves nothing': (ground) => {
    const { host, a } = ground;
    wire(ground, '10.1.0.7/24', 'fd00:1::7/64');
    const attach = (...words: readonly string[]) =>
      host.pipewright(['attach', a.name, '--network', 'br0', ...words], { expect: 'any' });
    for (const address of ['10.1.0.7/24', 'fd00:1::7/64']) {
      const changes = changesBy(host, [a.pid], () => {
        const ran = attach('--address', address, '--dad');
        assert.equal(ran.code, 1);
        const ip = address.replace(/\/.*/, '');
        assert.match(
          line(ran),
          new RegExp(`addr.probe ${ip}: ${mac} answers for it on br0, so eth1 of ${a.name}`),
        );
      });
      assert.deepEqual(changes, []);
    }
    // An interface that is there stays as it is, when only the new address is refused.
    assert.equal(attach('--address', '10.1.0.8/24', '--dad').code, 0);
    assert.deepEqual(
      changesBy(host, [a.pid], () =>
        assert.equal(attach('--address', '10.1.0.8/24,10.1.0.7/24', '--dad').code, 1),
      ),
      [],
    );
    const plan = attach('--address', '10.1.0.8/24,fd00:1::8/64', '--dad', '--dry-run');
    assert.match(plan.stdout, /ip netns exec GUEST arping -D -c 3 -I eth1 fd00:1::8 /);
    assert.equal(attach('--address', '10.1.0.8/24,fd00:1::8/64', '--dad').code, 0);
    // Asked for already: usable at once.
    const mine = ipAddrs(a.pid, 'eth1').find(({ local }) => local === 'fd00:1::8');
    assert.ok(mine && !mine.tentative, JSON.stringify(mine));
    // As the original does it: nobody is asked.
    assert.equal(host.pipework(['br0', '-i', 'eth2', a.name, '10.1.0.7/24']).code, 0);
  },

  'what another container of ours has is refused by its name, asked for or not': ({ host, a, b }) => {
    const attach = ({ name }: Container, network: string, ...words: readonly string[]) =>
      host.pipewright(['attach', name, '--network', network, '--address', '10.1.0.7/24', ...words], {
        expect: 'any',
      });
    assert.equal(attach(b, 'br0').code, 0);
    const changes = changesBy(host, [a.pid, b.pid], () => {
      const ran = attach(a, 'br0');
      assert.equal(ran.code, 1);
      assert.match(
        line(ran),
        new RegExp(`addr.add 10.1.0.7: eth1 of ${b.name} has it on br0, so eth1 of ${a.name}`),
      );
      assert.equal(attach(b, 'br0', '--ifname', 'eth2').code, 1);
    });
    assert.deepEqual(changes, []);
    // On another network it is another address, and its owner may ask again.
    assert.equal(attach(a, 'br9').code, 0);
    assert.equal(attach(b, 'br0').code, 0);
    // Nobody's any more.
    host.pipewright(['detach', a.name]);
    host.pipewright(['detach', b.name]);
    assert.deepEqual(readdirSync(path.join(host.stateDir, 'addresses')), []);
    assert.equal(attach(a, 'br0').code, 0);
    // Who made it without us is found by its answer, and named by its link.
    host.ip('addr', 'add', '10.1.0.20/24', 'dev', 'br0');
    const ran = host.pipewright(
      ['attach', b.name, '--network', 'br0', '--address', '10.1.0.20/24', '--dad'],
      {
        expect: 'any',
      },
    );
    assert.match(line(ran), /addr.probe 10.1.0.20: \S+ \(br0 of this host\) answers for it on br0/);
  },

  'auto takes the next address of the range; a static one is refused, and the rest goes on': (ground) => {
    const { host, a, b } = ground;
    wire(ground, '10.1.0.10/24', '10.1.0.11/24', '10.1.0.12/24', '10.1.0.77/24');
    host.write(file(entry(a, 'addresses: auto'), entry(b, 'addresses: 10.1.0.77/24, dad: true')));
    const ran = host.on('apply', '--yes');
    assert.equal(ran.code, 1);
    assert.match(ran.stdout, new RegExp(`addr.probe 10.1.0.77: ${mac} answers for it on br0`));
    assert.deepEqual(cidrs(a.pid, 'eth1'), ['10.1.0.13/24']);
    assert.deepEqual(linkNames(b.pid), []);
    // Remembered, and not asked for again.
    host.write(file(entry(a, 'addresses: auto')));
    assert.equal(host.on('plan').stdout, 'nothing to do\n');
    // Without the question, it is as the file says.
    host.write(file(entry(a, 'addresses: auto'), entry(b, 'addresses: 10.1.0.77/24')));
    assert.equal(host.on('apply', '--yes').code, 0);
    // When nothing is left, that is what is said.
    runIn(ground.stranger, 'ip', ['addr', 'add', '10.1.0.13/24', 'dev', 'nic0p']);
    host.write(file(entry(b, 'addresses: auto')));
    const full = host.on('apply', '--yes');
    assert.equal(full.code, 1);
    assert.match(full.stdout, /the range of lan has no address left/);
  },

  'two containers of a file can swap their addresses, asked for or not': ({ host, a, b }) => {
    for (const dad of ['', ', dad: true']) {
      for (const [one, two] of [
        ['10.1.0.1', '10.1.0.2'],
        ['10.1.0.2', '10.1.0.1'],
        ['10.1.0.3', '10.1.0.2'],
      ]) {
        host.write(file(entry(a, `addresses: ${one}/24${dad}`), entry(b, `addresses: ${two}/24${dad}`)));
        const ran = host.on('apply', '--yes');
        assert.equal(ran.code, 0, ran.stdout + ran.stderr);
        assert.deepEqual([cidrs(a.pid, 'eth1'), cidrs(b.pid, 'eth1')], [[`${one}/24`], [`${two}/24`]]);
      }
    }
    assert.ok(ping(a.pid, '10.1.0.2', 3));
  },

  'eight wait for their answers together': ({ host, a, b }) => {
    const eight = (dad: string): string =>
      file(
        ...Array.from({ length: 8 }, (_, i) =>
          entry(i % 2 ? a : b, `ifname: eth${i}, addresses: 10.1.0.${i + 100}/24, dad: ${dad}`),
        ),
      );
    const timed = (yaml: string): number => {
      host.write(yaml);
      const began = Date.now();
      assert.equal(host.on('apply', '--yes').code, 0);
      const ms = Date.now() - began;
      host.pipewright(['destroy']);
      return ms;
    };
    const [quick, asking] = [timed(eight('false')), timed(eight('true'))];
    // One after the other they would listen for 2 s.
    assert.ok(asking - quick < 1500, `${quick} ms without, ${asking} ms with`);
  },

  'killed while it listens, the next command takes back what it left': async ({ host, a }) => {
    const before = changesBy(host, [a.pid], () => {});
    assert.deepEqual(before, []);
    const words = command('pipewright', [
      'attach',
      a.name,
      '--network',
      'br0',
      '--address',
      '10.1.0.7/24',
      '--dad',
    ]);
    const child = spawn('nsenter', [
      `--mount=/proc/${host.pid}/ns/mnt`,
      `--net=/run/netns/${host.name}`,
      ...words,
    ]);
    assert.ok((await soon(() => ipLink(a.pid, 'eth1')?.operstate === 'UP')) !== undefined);
    child.kill('SIGKILL');
    await once(child, 'exit');
    assert.deepEqual(cidrs(a.pid, 'eth1'), []);
    assert.equal(host.notes().filter((note) => note.startsWith('journal/')).length, 1);
    host.pipewright(['attach', a.name, '--network', 'dummy', '--ifname', 'eth9'], { expect: 'any' });
    host.pipewright(['detach', a.name, '--ifname', 'eth9'], { expect: 'any' });
    assert.deepEqual([host.notes(), host.links(), linkNames(a.pid)], [[], [], []]);
  },

  'the agent: the first start pays, a restart does not; a taken address is replaced by the next': async (
    ground,
    t,
  ) => {
    const { host, a, stranger } = ground;
    wire(ground, '10.1.0.10/24', '10.1.0.11/24');
    host.write(file(entry(a, 'addresses: auto')));
    let agent: Awaited<ReturnType<AgentHost['agent']>> | undefined;
    const first = await sniff(stranger, 'nic0p', 'arp', async () => {
      agent = await host.agent(t);
    });
    const [given = ''] = cidrs(a.pid, 'eth1');
    assert.match(given, /^10\.1\.0\.1[23]\/24$/);
    const ip = given.replace('/24', '');
    assert.equal(probes(first.lines, ip), 3, first.lines.join('\n'));
    assert.deepEqual(
      host.status().map(({ state }) => state),
      ['healthy'],
    );
    const again = await sniff(stranger, 'nic0p', 'arp', async () => {
      run('docker', ['restart', '-t', '0', a.name]);
      await soon(() => cidrs(containerPid(a.name), 'eth1').length > 0);
    });
    assert.deepEqual(cidrs(containerPid(a.name), 'eth1'), [given]);
    assert.equal(probes(again.lines, ip), 0, again.lines.join('\n'));
    // Restarted itself, it finds all as it should be, and asks nobody.
    await agent?.stop('SIGKILL');
    const adopted = await sniff(stranger, 'nic0p', 'arp', async () => {
      agent = await host.agent(t);
    });
    assert.equal(probes(adopted.lines, ip), 0, adopted.lines.join('\n'));
    assert.ok(ping(stranger, ip, 3));
  },
};

test('addresses that are in use', async (t) => {
  if (skipUnless(t, 'root', 'docker')) return;
  const ground: Ground = {
    host: await agentHost(t, 'aih'),
    a: runContainer(t, 'aia'),
    b: runContainer(t, 'aib'),
    stranger: (await plainNetns(t, 'ais')).pid,
  };
  for (const [name, act] of Object.entries(cases)) {
    await t.test(name, async (t) => {
      clear(ground);
      run('rm', ['-rf', ground.host.lasting]);
      await act(ground, t);
    });
  }
});
