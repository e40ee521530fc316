/** `pipewright list`: what was connected, and what is there of it now. */
import assert from 'node:assert/strict';
import test from 'node:test';
import { ipLink, plainNetns, run, runContainer, runIn, skipUnless } from '../lab.ts';
import { type Cases, type Ground, linkNames, makeGround, nicOn, type OwnHost, runCases } from './support.ts';

interface Listed {
  readonly container: string;
  readonly runtime: string;
  readonly ifname: string;
  readonly network: string;
  readonly hostIfname: string | null;
  readonly addrs: readonly string[];
  readonly mac: string | null;
  readonly mtu: number | null;
  readonly state: string;
  readonly since: string;
}

const listed = (host: OwnHost): Listed[] =>
  JSON.parse(host.pipewright(['list', '--json']).stdout).attachments;

const states = (host: OwnHost): string[] =>
  listed(host).map(({ container, ifname, state }) => `${container.replace(/-\d+$/, '')} ${ifname} ${state}`);

const cases: Cases<Ground> = {
  'nothing is connected': ({ host }) => {
    assert.equal(host.pipewright(['list']).stdout, 'nothing is connected\n');
    assert.deepEqual(listed(host), []);
  },

  'a line for each interface, of both programs, with what the kernel says now': ({ host, a, b }) => {
    nicOn(host, 'phy0', 'mtu', '1450');
    host.pipework(['br1', a.name, '10.0.0.1/24']);
    host.pipework(['phy0', '-i', 'eth2', a.name, '10.0.1.1/24', '02:00:00:00:00:42']);
    host.pipewright(['attach', b.name, '--network', 'br1', '--address', '10.0.0.2/24,fd00::2/64']);
    const { stdout } = host.pipewright(['list']);
    const [header = '', ...rows] = stdout.trimEnd().split('\n');
    assert.match(header, /^CONTAINER +INTERFACE +NETWORK +ADDRESSES +MAC +STATE$/);
    assert.deepEqual(
      rows.map((row) =>
        row
          .replace(/(..:){5}../, 'MAC')
          .replace(/-\d+ /, ' ')
          .replace(/ +/g, ' '),
      ),
      [
        'pwt-lia eth1 bridge:br1 10.0.0.1/24 MAC up',
        'pwt-lia eth2 macvlan:phy0 10.0.1.1/24 MAC up',
        'pwt-lib eth1 bridge:br1 10.0.0.2/24,fd00::2/64 MAC up',
      ],
    );
    const [first, second] = listed(host);
    assert.deepEqual(first && { ...first, mac: 'MAC', since: typeof Date.parse(first.since) }, {
      container: a.name,
      runtime: 'docker',
      ifname: 'eth1',
      network: 'bridge:br1',
      hostIfname: `veth1pl${a.pid}`,
      addrs: ['10.0.0.1/24'],
      mac: 'MAC',
      mtu: 1500,
      state: 'up',
      since: 'number',
    });
    assert.deepEqual([second?.mac, second?.mtu, second?.hostIfname], ['02:00:00:00:00:42', 1450, null]);
    assert.ok(Math.abs(Date.parse(first?.since ?? '') - Date.now()) < 60_000);
  },

  'what was changed by hand is shown as it is: address, down, no carrier, missing': ({ host, a }) => {
    for (const i of [1, 2, 3, 4]) host.pipework(['br1', '-i', `eth${i}`, a.name, `10.0.${i}.1/24`]);
    runIn(a.pid, 'ip', ['addr', 'add', '10.0.9.1/24', 'dev', 'eth1']);
    runIn(a.pid, 'ip', ['link', 'set', 'eth2', 'down']);
    host.ip('link', 'set', `veth3pl${a.pid}`, 'down');
    runIn(a.pid, 'ip', ['link', 'del', 'eth4']);
    assert.deepEqual(states(host), [
      'pwt-lia eth1 up',
      'pwt-lia eth2 down',
      'pwt-lia eth3 no carrier',
      'pwt-lia eth4 missing',
    ]);
    assert.deepEqual(listed(host)[0]?.addrs, ['10.0.1.1/24', '10.0.9.1/24']);
  },

  'an interface of somebody else under the same name is not taken for ours': ({ host, a }) => {
    host.pipework(['br1', a.name, '10.0.0.1/24']);
    runIn(a.pid, 'ip', ['link', 'del', 'eth1']);
    runIn(a.pid, 'ip', ['link', 'add', 'eth1', 'type', 'bridge']);
    assert.deepEqual(states(host), ['pwt-lia eth1 missing']);
  },

  'the network of the moment after a move': ({ host, a }) => {
    nicOn(host, 'phy0');
    host.pipework(['br1', a.name, '10.0.0.1/24']);
    host.pipewright(['attach', a.name, '--network', 'br2']);
    assert.equal(listed(host)[0]?.network, 'bridge:br2');
    host.pipewright(['attach', a.name, '--network', 'phy0']);
    assert.equal(listed(host)[0]?.network, 'macvlan:phy0');
    assert.equal(listed(host)[0]?.mac, ipLink(a.pid, 'eth1')?.address);
    host.pipewright(['detach', a.name]);
    assert.deepEqual([listed(host), linkNames(a.pid)], [[], []]);
  },

  'a container that has stopped is gone; its line goes with a detach': async ({ host }, t) => {
    const docker = runContainer(t, 'lic');
    const plain = await plainNetns(t, 'lin');
    host.pipework(['br1', docker.name, '10.0.0.1/24']);
    host.pipework(['br1', `netns:${plain.name}`, '10.0.0.2/24']);
    run('docker', ['kill', docker.name]);
    assert.deepEqual(states(host), ['pwt-lic eth1 gone', 'pwt-lin eth1 up']);
    host.pipewright(['detach', docker.name]);
    host.pipewright(['detach', `netns:${plain.name}`]);
    assert.deepEqual([listed(host), host.links()], [[], []]);
  },

  'a container that was started again has lost its interface, which is said': ({ host }, t) => {
    const { name } = runContainer(t, 'lis');
    host.pipework(['br1', name, '10.0.0.1/24']);
    run('docker', ['restart', '-t', '0', name]);
    assert.deepEqual(states(host), ['pwt-lis eth1 gone']);
    host.pipework(['br1', name, '10.0.0.1/24']);
    assert.deepEqual(states(host), ['pwt-lis eth1 up']);
    host.pipewright(['detach', name]);
    assert.deepEqual(host.links(), []);
  },
};

test('pipewright list', async (t) => {
  if (skipUnless(t, 'root', 'docker', 'macvlan', 'ipv6')) return;
  await runCases(t, await makeGround(t, 'li'), cases);
});
