// A network that cannot be made, or whose making or taking away is cut off, at whichever step: nothing is left of it.
import assert from 'node:assert/strict';
import path from 'node:path';
import test, { type TestContext } from 'node:test';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';
import { dropNetworks } from '../../src/apply/drop-networks.ts';
import { ensureNetwork } from '../../src/apply/networks.ts';
import type { BeforeStep } from '../../src/apply/transaction.ts';
import { parseCidr } from '../../src/model/address.ts';
import type { NetworkSpec } from '../../src/model/topology.ts';
import { type Need, root, run, skipUnless } from '../lab.ts';
import { differences, Ground, normalise } from './fault-ground.ts';
import type { NetworkOrder } from './fault-network-child.ts';

const child = path.join(path.dirname(fileURLToPath(import.meta.url)), 'fault-network-child.mjs');

test.before(async () => {
  await build({
    entryPoints: [path.join(root, 'test/e2e/fault-network-child.ts')],
    outfile: child,
    bundle: true,
    platform: 'node',
    format: 'esm',
    target: 'node20',
    packages: 'external',
    logLevel: 'warning',
  });
});

const common = (...addresses: readonly string[]) => ({
  name: 'lan',
  place: { file: 'pipewright.yaml', line: 1, column: 1 },
  subnets: [],
  gateways: [],
  ranges: [],
  hostAddresses: addresses.map((text) => parseCidr(text)!),
});

interface Scenario {
  readonly name: string;
  readonly needs?: readonly Need[];
  readonly ovs?: boolean;
  /** Before the first network. */
  readonly host?: readonly string[];
  /** The network as it was before, where it is changed. */
  readonly former?: NetworkSpec;
  readonly network: NetworkSpec;
  /** What is done, by `do`; sysctls apart, which depend on the kernel's defaults. */
  readonly operations: string;
}

const scenarios: readonly Scenario[] = [
  {
    name: 'a new bridge with an MTU and addresses of the host',
    network: { ...common('10.1.0.1/24', 'fd00:1::1/64'), kind: 'bridge', bridge: 'br0', mtu: 1400 },
    operations: 'link.add link.set link.set addr.add addr.add',
  },
  {
    name: "somebody else's bridge gets another MTU and an address",
    host: ['link add br0 mtu 1501 type bridge', 'link set br0 up mtu 1500', 'addr add 10.9.0.1/24 dev br0'],
    network: { ...common('10.1.0.1/24'), kind: 'bridge', bridge: 'br0', mtu: 1400 },
    operations: 'link.set addr.add',
  },
  {
    name: "addresses and the MTU of somebody else's bridge change",
    host: ['link add br0 mtu 1501 type bridge', 'link set br0 up mtu 1500'],
    former: { ...common('10.1.0.1/24', '10.1.0.2/24'), kind: 'bridge', bridge: 'br0', mtu: 1400 },
    network: { ...common('10.1.0.2/24', '10.1.0.3/24'), kind: 'bridge', bridge: 'br0' },
    operations: 'link.set addr.add addr.del',
  },
  {
    name: 'a macvlan for the host',
    needs: ['macvlan'],
    host: ['link add nic0 type veth peer name nic1', 'link set nic0 up', 'link set nic1 up'],
    network: { ...common('10.1.0.1/24'), kind: 'macvlan', uplink: 'nic0', mode: 'bridge' },
    operations: 'link.add link.set addr.add',
  },
  {
    name: 'an Open vSwitch bridge',
    needs: ['ovs'],
    ovs: true,
    network: { ...common('10.1.0.1/24'), kind: 'ovs', bridge: 'ovs0' },
    operations: 'ovs.bridge.add link.set addr.add',
  },
  {
    name: 'the host in a VLAN of an Open vSwitch bridge',
    needs: ['ovs'],
    ovs: true,
    network: { ...common('10.1.0.1/24'), kind: 'ovs', bridge: 'ovs0', vid: 100 },
    operations: 'ovs.bridge.add ovs.port.add link.set addr.add',
  },
];

async function prepared(t: TestContext, { ovs = false, host = [], former }: Scenario): Promise<Ground> {
  const ground = await Ground.make(t, { ovs });
  ground.onHost(...host);
  if (former) await make(ground, former);
  return ground;
}

async function make(ground: Ground, network: NetworkSpec, beforeStep?: BeforeStep) {
  await using host = ground.openHost();
  return await ensureNetwork(host, network, { beforeStep });
}

async function stepsOf(ground: Ground, network: NetworkSpec): Promise<number> {
  await using host = ground.openHost();
  return (await ensureNetwork(host, network, { dryRun: true })).steps.length;
}

async function drop(ground: Ground): Promise<void> {
  await using host = ground.openHost();
  await dropNetworks(host, host.state.networkRecords());
}

/** What the files say of it apart: of one that was cut off a note is left, which the next `apply` or `destroy` takes. */
const withoutNotes = (ground: Ground) => () =>
  new Map([...ground.dump()].filter(([key]) => !key.includes('/networks/')));

function killed(ground: Ground, order: Pick<NetworkOrder, 'network' | 'killAt'>): void {
  const all: NetworkOrder = {
    netnsPath: `/run/netns/${ground.host.name}`,
    ovsdbSocket: ground.ovsdbSocket,
    ...order,
  };
  const { code, stderr } = run(process.execPath, [child, JSON.stringify(all)], { expect: 'any' });
  assert.deepEqual([code, stderr], [-1, ''], 'the child was killed');
}

for (const scenario of scenarios) {
  const { name, network, former, needs = [] } = scenario;

  test(`an error before each step: ${name}`, async (t) => {
    if (skipUnless(t, 'root', ...needs)) return;
    const ground = await prepared(t, scenario);
    const before = ground.dump();
    const kinds: string[] = [];
    const failAt =
      (at: number): BeforeStep =>
      (step, index) => {
        kinds[index] = step.op.do;
        if (index === at) throw new Error(`fault before step ${at}`);
      };
    const count = await stepsOf(ground, network);
    for (let at = 0; at < count; at++) {
      await assert.rejects(make(ground, network, failAt(at)), { message: `fault before step ${at}` });
      assert.deepEqual(await differences(before, () => ground.dump()), [], `step ${at}: ${kinds[at]}`);
    }
    await make(ground, network, failAt(-1));
    assert.equal(kinds.filter((kind) => kind !== 'sysctl.set').join(' '), scenario.operations);
    assert.deepEqual((await make(ground, network)).steps, [], 'made, there is nothing left to do');
  });

  test(`SIGKILL before each step: ${name}`, async (t) => {
    if (skipUnless(t, 'root', ...needs)) return;
    const clean = await prepared(t, scenario);
    const count = await stepsOf(clean, network);
    await make(clean, network);
    const done = () => normalise(clean.dump(), clean);
    const back = async (ground: Ground): Promise<void> => {
      if (former) await make(ground, former);
      else await drop(ground);
    };
    let ground = await prepared(t, scenario);
    for (let at = 0; at < count; at++) {
      // Addresses that came back are in another order.
      if (former) ground = await prepared(t, scenario);
      const before = withoutNotes(ground)();
      killed(ground, { network, killAt: at });
      await back(ground);
      const left = await differences(before, withoutNotes(ground));
      assert.deepEqual(left, [], `killed before step ${at} of making it`);
      killed(ground, { network, killAt: at });
      await make(ground, network);
      const other = await differences(done, () => normalise(ground.dump(), ground));
      assert.deepEqual(other, [], `killed before step ${at}, then made`);
      await back(ground);
    }
  });

  test(`SIGKILL while it is taken away: ${name}`, async (t) => {
    if (skipUnless(t, 'root', ...needs)) return;
    const { former: _, ...alone } = scenario;
    const ground = await prepared(t, alone);
    const before = ground.dump();
    for (let at = 0; ; at++) {
      await make(ground, network);
      await using host = ground.openHost();
      const [planned] = await dropNetworks(host, host.state.networkRecords(), { dryRun: true });
      if (at >= (planned?.steps.length ?? 0)) break;
      killed(ground, { killAt: at });
      await drop(ground);
      const left = await differences(before, () => ground.dump());
      assert.deepEqual(left, [], `killed before step ${at} of taking it away`);
    }
  });
}
