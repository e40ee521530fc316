// The VLANs of an uplink: on a bridge that filters them, and on Open vSwitch. The LAN has VLANs 100 and 200 with tags, and the
// host is reached without one.
import assert from 'node:assert/strict';
import test, { type TestContext } from 'node:test';
import {
  capability,
  ensureImage,
  ipLink,
  ping,
  plainNetns,
  runContainer,
  runIn,
  skipUnless,
  sniff,
} from '../lab.ts';
import { soon, startOvs } from './agent-ground.ts';
import { line, reaches, vlansOf } from './support.ts';
import {
  at,
  difference,
  dump,
  patience,
  startTransfer,
  type UplinkGround,
  uplinkGround,
} from './uplink-ground.ts';

const filters = ({ host }: UplinkGround): unknown =>
  ipLink(host.name, 'br0')?.linkinfo?.info_data?.vlan_filtering;

/** The router is 10.VID.0.1 in these VLANs. */
function tagLan({ router }: UplinkGround, ...vids: readonly number[]): void {
  for (const vid of vids) {
    const name = `lan.${vid}`;
    runIn(router, 'ip', ['link', 'add', 'link', 'lan', 'name', name, 'up', 'type', 'vlan', 'id', `${vid}`]);
    runIn(router, 'ip', ['addr', 'add', `10.${vid}.0.1/24`, 'dev', name]);
  }
}

const add = (...words: readonly string[]): string[] => [
  ...['uplink', 'add', 'eth0', '--network', 'bridge:br0', '--confirm', '0'],
  ...words,
];
const remove = ['uplink', 'remove', 'eth0', '--confirm', '0'];

async function connect(t: TestContext, { host }: UplinkGround, name: string, vid: number): Promise<number> {
  const { pid } = await plainNetns(t, name);
  const words = ['--address', `10.${vid}.0.2/24`, '--vlan', `${vid}`];
  host.pipewright(['attach', `pid:${pid}`, '--network', 'bridge:br0', ...words]);
  return pid;
}

test('trunks of a Linux bridge: made, changed, taken back', async (t) => {
  if (skipUnless(t, 'root', 'program:ethtool', 'vlan-filtering', 'vlan')) return;
  const ground = await uplinkGround(t, 'uvt');
  const { host, router } = ground;
  tagLan(ground, 100, 200);
  const before = dump(ground);
  const transfer = await startTransfer(ground, 5800);
  host.pipewright(add('--trunks', '100'));
  assert.equal(filters(ground), 1);
  assert.deepEqual(vlansOf(ground.host, 'eth0'), ['1 pvid untagged', '100']);
  assert.ok(ping(router, at.host, 5) && ping(host.name, at.router6, 5));
  const [red, blue] = [await connect(t, ground, 'uvta', 100), await connect(t, ground, 'uvtb', 200)];
  assert.ok(reaches(red, '10.100.0.1'));
  assert.ok(!ping(blue, '10.200.0.1'), 'the limit is not widened by what is connected');
  assert.match(host.pipewright(add('--trunks', '100')).stdout, /nothing to do/);
  assert.match(host.pipewright(add('--trunks', '200')).stdout, /bridge vlan del dev eth0 vid 100/);
  assert.deepEqual(vlansOf(ground.host, 'eth0'), ['1 pvid untagged', '200']);
  assert.ok(reaches(blue, '10.200.0.1') && !ping(red, '10.100.0.1'));
  host.pipewright(['detach', `pid:${red}`]);
  host.pipewright(['detach', `pid:${blue}`]);
  assert.equal(filters(ground), 1);
  host.pipewright(remove);
  assert.equal((await transfer.stop()).broken, undefined);
  assert.deepEqual(difference(before, dump(ground)), []);
});

test('without a limit the uplink carries what is used on the bridge, before and after', async (t) => {
  if (skipUnless(t, 'root', 'program:ethtool', 'vlan-filtering', 'vlan')) return;
  const ground = await uplinkGround(t, 'uvu');
  const { host, router } = ground;
  tagLan(ground, 100, 200);
  const red = await connect(t, ground, 'uvua', 100);
  host.pipewright(add());
  assert.deepEqual(vlansOf(ground.host, 'eth0'), ['1 pvid untagged', '100']);
  assert.ok(reaches(red, '10.100.0.1'));
  const blue = await connect(t, ground, 'uvub', 200);
  assert.deepEqual(vlansOf(ground.host, 'eth0'), ['1 pvid untagged', '100', '200']);
  assert.ok(reaches(blue, '10.200.0.1') && !ping(blue, '10.100.0.1'));
  // What is exported is what the port has.
  const exported = host.pipewright(['uplink', 'export', '--for', 'networkd']).stdout;
  assert.match(exported, /\nVLANFiltering=yes\nDefaultPVID=1\n/);
  assert.match(
    exported,
    /\n\[BridgeVLAN\]\nPVID=1\nEgressUntagged=1\n\n\[BridgeVLAN\]\nVLAN=100\n\n\[BridgeVLAN\]\nVLAN=200\n/,
  );
  const commands = host.pipewright(['uplink', 'export', '--for', 'nmcli']).stdout;
  assert.match(commands, / bridge-port.vlans '1 pvid untagged, 100, 200'\n/);
  const { lines } = await sniff(router, 'lan', '', async () => {
    ping(red, '10.100.0.1');
    ping(host.name, at.router);
  });
  assert.ok(lines.some((text) => / vlan 100,.* > 10\.100\.0\.1: ICMP echo request/.test(text)));
  assert.ok(
    lines.some((text) => !text.includes('vlan') && text.includes(`> ${at.router}: ICMP echo request`)),
  );
  // Taken off, and put on again by the undo, it carries the same.
  host.pipewright(['uplink', 'remove', 'eth0', '--confirm', '4s']);
  assert.deepEqual(vlansOf(ground.host, 'eth0'), []);
  await soon(() => vlansOf(ground.host, 'eth0').length === 3, patience);
  assert.deepEqual(vlansOf(ground.host, 'eth0'), ['1 pvid untagged', '100', '200']);
});

test('a bridge that somebody else made is switched only when the user says so, and switched back', async (t) => {
  if (skipUnless(t, 'root', 'program:ethtool', 'vlan-filtering', 'vlan')) return;
  const ground = await uplinkGround(t, 'uvf');
  const { host } = ground;
  host.ip('link', 'add', 'br0', 'address', '02:00:00:00:00:b0', 'up', 'type', 'bridge');
  // With a port of its own: what the kernel gives a bridge with its first carrier it never takes away.
  host.ip('link', 'add', 'port0', 'up', 'master', 'br0', 'type', 'veth', 'peer', 'name', 'port1');
  host.ip('link', 'set', 'port1', 'up');
  const link = (...words: string[]): string => host.ip('-6', '-br', 'addr', 'show', 'br0', ...words).stdout;
  await soon(() => link().includes('fe80') && !link('tentative').includes('fe80'), patience);
  const before = dump(ground);
  assert.match(line(host.pipewright(add('--trunks', '100'), { expect: 1 })), /pipewright did not make it/);
  assert.deepEqual([filters(ground), difference(before, dump(ground))], [0, []]);
  host.pipewright(add('--trunks', '100', '--vlan-filtering'));
  assert.equal(filters(ground), 1);
  const red = await connect(t, ground, 'uvfa', 100);
  host.pipewright(['detach', `pid:${red}`]);
  assert.equal(filters(ground), 1, 'the uplink needs it');
  host.pipewright(remove);
  assert.equal(filters(ground), 0);
  assert.deepEqual(difference(before, dump(ground)), []);
});

test('a topology: hosts and containers in VLANs of a Linux bridge, by its uplink', async (t) => {
  if (skipUnless(t, 'root', 'program:ethtool', 'vlan-filtering', 'vlan', 'docker')) return;
  ensureImage();
  const ground = await uplinkGround(t, 'uvy');
  const { host } = ground;
  tagLan(ground, 100, 200);
  const before = dump(ground);
  const web = runContainer(t, 'uvyw');
  const yaml = (trunks: string): string => `networks:
  lan: { kind: bridge, bridge: br0, uplink: eth0${trunks} }
  red: { kind: bridge, bridge: br0, vlan: 100, subnet: 10.100.0.0/24 }
  blue: { kind: bridge, bridge: br0, vlan: 200, subnet: 10.200.0.0/24, hostAddress: 10.200.0.9/24 }
attachments:
  - { container: ${web.name}, network: red, addresses: 10.100.0.2/24 }
`;
  host.write(yaml(''));
  const made = host.on('apply', '--yes');
  assert.equal(made.code, 0, made.stdout + made.stderr);
  assert.equal(host.on('plan').stdout, 'nothing to do\n');
  assert.deepEqual(vlansOf(ground.host, 'eth0'), ['1 pvid untagged', '100', '200']);
  assert.ok(
    reaches(web.pid, '10.100.0.1') && reaches(host.name, '10.200.0.1') && reaches(host.name, at.router),
  );
  host.write(yaml(', trunks: [200]'));
  const limited = host.on('apply', '--yes');
  assert.equal(limited.code, 0, limited.stdout + limited.stderr);
  assert.deepEqual(vlansOf(ground.host, 'eth0'), ['1 pvid untagged', '200']);
  assert.equal(host.on('plan').stdout, 'nothing to do\n');
  assert.equal(host.pipewright(['destroy']).code, 0);
  assert.deepEqual(difference(before, dump(ground)), []);
});

test('trunks of Open vSwitch leave the host what has no tag, and are changed in place', async (t) => {
  if (skipUnless(t, 'root', 'program:ethtool', 'ovs')) return;
  const ground = await uplinkGround(t, 'uvo');
  const { host, router } = ground;
  await startOvs(t, host);
  const before = dump(ground);
  const trunks = (): string => host.run('ovs-vsctl', ['get', 'port', 'eth0', 'trunks']).stdout.trim();
  const addTo = (...words: readonly string[]): string =>
    host.pipewright(['uplink', 'add', 'eth0', '--network', 'ovs:ovs0', '--confirm', '0', ...words]).stdout;
  addTo('--trunks', '100,200');
  assert.equal(trunks(), '[0, 100, 200]');
  assert.ok(ping(router, at.host, 5));
  assert.match(addTo('--trunks', '100,200'), /nothing to do/);
  assert.match(addTo('--trunks', '100'), /ovs-vsctl set port eth0 trunks=0,100/);
  assert.equal(trunks(), '[0, 100]');
  host.write('networks:\n  lan: { kind: ovs, bridge: ovs0, uplink: eth0, trunks: [300] }\n');
  const made = host.on('apply', '--yes');
  assert.equal(made.code, 0, made.stdout + made.stderr);
  assert.equal(trunks(), '[0, 300]');
  assert.equal(host.on('plan').stdout, 'nothing to do\n');
  assert.ok(ping(router, at.host, 5));
  host.pipewright(remove);
  host.pipewright(['destroy']);
  assert.deepEqual(difference(before, dump(ground)), []);
});

test('a kernel whose bridges filter no VLANs: trunks of an uplink are refused, and nothing is changed', async (t) => {
  if (capability('vlan-filtering')) return t.skip('the kernel has vlan-filtering');
  if (skipUnless(t, 'root', 'program:ethtool')) return;
  const ground = await uplinkGround(t, 'uvn');
  const before = dump(ground);
  const refused = ground.host.pipewright(add('--trunks', '100'), { expect: 1 });
  assert.match(line(refused), /this kernel's bridges do not filter VLANs/);
  assert.deepEqual(difference(before, dump(ground)), []);
});
