/** What `destroy`, and an edit that takes a network out of the file, take away and put back; and when they refuse to. */
import assert from 'node:assert/strict';
import { readdirSync } from 'node:fs';
import test, { type TestContext } from 'node:test';
import { type Container, cidrs, ipLink, run, runContainer, skipUnless } from '../lab.ts';
import { type AgentHost, agentHost } from './agent-ground.ts';
import { changesBy, clear, line, linkNames, nicOn } from './support.ts';

interface Ground {
  readonly host: AgentHost;
  readonly a: Container;
  readonly b: Container;
}

const lan = (more: string): string =>
  `networks:\n  lan: { kind: bridge, bridge: br0, subnet: 10.1.0.0/24, range: 10.1.0.10-10.1.0.20${more} }\n`;
const nothing = 'networks: {}\n';

function applied(host: AgentHost, yaml: string): void {
  host.write(yaml);
  const ran = host.on('apply', '--yes');
  assert.equal(ran.code, 0, ran.stdout + ran.stderr);
  assert.equal(host.on('plan').stdout, 'nothing to do\n');
}

/** A bridge of somebody else, with an MTU of 1500 that was asked for. */
function foreignBridge(host: AgentHost): void {
  host.ip('link', 'add', 'br0', 'mtu', '1501', 'type', 'bridge');
  host.ip('link', 'set', 'br0', 'up', 'mtu', '1500');
}

const mtu = (host: AgentHost): unknown => ipLink(host.name, 'br0')?.mtu;

const cases: Record<string, (ground: Ground, t: TestContext) => void | Promise<void>> = {
  'destroy refuses while the agent runs; then it forgets commands and addresses as well': async (
    { host, a, b },
    t,
  ) => {
    host.write(`${lan('')}attachments:\n  - { container: ${a.name}, network: lan, addresses: auto }\n`);
    const agent = await host.agent(t);
    host.pipewright(['attach', b.name, '--network', 'bridge:br0', '--address', '10.1.0.2/24']);
    const [given] = cidrs(a.pid, 'eth1');
    assert.ok(given);
    const changes = changesBy(host, [a.pid, b.pid], () => {
      const ran = host.pipewright(['destroy'], { expect: 'any' });
      assert.equal(ran.code, 1);
      assert.match(
        line(ran),
        /the agent runs, and would make everything anew; stop it first: systemctl stop pipewright$/,
      );
    });
    assert.deepEqual(changes, []);
    const dry = host.pipewright(['destroy', '--dry-run']).stdout;
    assert.match(dry, new RegExp(`forget what was kept: ${b.name}/eth1\n.*addresses that were given out: 1`));
    await agent.stop('SIGTERM');
    assert.deepEqual(cidrs(b.pid, 'eth1'), ['10.1.0.2/24']);
    host.pipewright(['destroy']);
    assert.deepEqual([linkNames(a.pid), linkNames(b.pid), host.links(), host.notes()], [[], [], [], []]);
    assert.deepEqual(readdirSync(host.lasting, { recursive: true }).sort(), ['agent.lock', 'attachments']);
    assert.match(host.pipewright(['destroy']).stdout, /^there is nothing of pipewright on this host$/m);
    // The file is the user's, and wants it again; what a command wanted is forgotten.
    await host.agent(t);
    assert.deepEqual([cidrs(a.pid, 'eth1'), linkNames(b.pid)], [[given], []]);
  },

  "somebody else's bridge has its MTU back: on destroy, without the network, without the MTU": ({ host }) => {
    foreignBridge(host);
    const before = host.links();
    const changes = changesBy(host, [], () => {
      for (const end of [
        () => host.pipewright(['destroy']),
        () => applied(host, nothing),
        () => applied(host, lan('')),
      ]) {
        applied(host, lan(', mtu: 1400'));
        assert.equal(mtu(host), 1400);
        applied(host, lan(', mtu: 1300'));
        assert.equal(mtu(host), 1300);
        end();
        assert.equal(mtu(host), 1500);
      }
      applied(host, nothing);
    });
    assert.deepEqual(changes, []);
    assert.deepEqual(host.links(), before);
    // Unless somebody has given it another one since.
    applied(host, lan(', mtu: 1400'));
    host.ip('link', 'set', 'br0', 'mtu', '1450');
    applied(host, nothing);
    assert.equal(mtu(host), 1450);
    assert.deepEqual(host.notes(), []);
  },

  'the sub-interface of a VLAN goes with its network, when nothing else uses it': ({ host, a }, t) => {
    if (skipUnless(t, 'vlan', 'macvlan')) return;
    nicOn(host, 'nic0');
    const before = host.links();
    const network = (name: string, vid: number) =>
      `  ${name}: { kind: macvlan, uplink: nic0, vlan: ${vid}, subnet: 10.${vid}.0.0/24, hostAddress: 10.${vid}.0.254/24 }\n`;
    const attachment = `attachments:\n  - { container: ${a.name}, network: one, addresses: 10.100.0.1/24 }\n`;
    applied(host, `networks:\n${network('one', 100)}${network('two', 200)}${attachment}`);
    assert.ok(ipLink(host.name, 'nic0.100') && ipLink(host.name, 'nic0.200'));
    applied(host, `networks:\n${network('one', 100)}${attachment}`);
    assert.ok(ipLink(host.name, 'nic0.100') && !ipLink(host.name, 'nic0.200'));
    applied(host, `networks:\n${network('one', 101)}`);
    assert.ok(ipLink(host.name, 'nic0.101') && !ipLink(host.name, 'nic0.100'));
    host.pipewright(['destroy']);
    assert.deepEqual([host.links(), host.notes()], [before, []]);
  },
};

test('what is taken away with a topology', async (t) => {
  if (skipUnless(t, 'root', 'docker')) return;
  const ground: Ground = {
    host: await agentHost(t, 'tdh'),
    a: runContainer(t, 'tda'),
    b: runContainer(t, 'tdb'),
  };
  for (const [name, act] of Object.entries(cases)) {
    await t.test(name, async (t) => {
      clear(ground);
      run('rm', ['-rf', ground.host.lasting]);
      await act(ground, t);
    });
  }
});
