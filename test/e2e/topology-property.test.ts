/** Whatever valid topology follows whatever other: it is made, then nothing is left to do, and destroy leaves no trace. */
import assert from 'node:assert/strict';
import test, { type TestContext } from 'node:test';
import fc from 'fast-check';
import {
  type Container,
  cidrs,
  ipLink,
  ipRoutes,
  jsonIn,
  linkExists,
  runContainer,
  skipUnless,
} from '../lab.ts';
import { type AgentHost, agentHost, startOvs } from './agent-ground.ts';
import { dumpOf } from './dump.ts';
import { defaults, emptyGuest, linkNames, nicOn } from './support.ts';

const count = 4;

interface Net {
  readonly kind: 'bridge' | 'ovs' | 'macvlan';
  readonly mtu: number | undefined;
  readonly gateway: boolean;
  readonly hostAddress: boolean;
}

interface Entry {
  /** Of networks and containers. */
  readonly network: number;
  readonly container: number;
  readonly auto: boolean;
  readonly route: boolean;
  readonly rule: boolean;
  readonly rpFilter: 0 | 1 | 2 | undefined;
  readonly rate: number | undefined;
  readonly mtu: number | undefined;
  readonly mac: boolean;
}

interface World {
  readonly nets: readonly Net[];
  readonly entries: readonly Entry[];
}

const maybe = <T>(arb: fc.Arbitrary<T>): fc.Arbitrary<T | undefined> => fc.option(arb, { nil: undefined });

const net: fc.Arbitrary<Net> = fc.record({
  kind: fc.constantFrom('bridge', 'ovs', 'macvlan'),
  mtu: maybe(fc.constantFrom(1300, 1400)),
  gateway: fc.boolean(),
  hostAddress: fc.boolean(),
});

const entry = (nets: number): fc.Arbitrary<Entry> =>
  fc.record({
    network: fc.nat(nets - 1),
    container: fc.nat(count - 1),
    auto: fc.boolean(),
    route: fc.boolean(),
    rule: fc.boolean(),
    rpFilter: maybe(fc.constantFrom(0, 1, 2)),
    rate: maybe(fc.constantFrom(8, 16)),
    mtu: maybe(fc.constantFrom(1280, 1290)),
    mac: fc.boolean(),
  });

/** An entry for each pair of a container and a network at most. */
const world: fc.Arbitrary<World> = fc.array(net, { minLength: 1, maxLength: 3 }).chain((nets) =>
  fc.record({
    nets: fc.constant(nets),
    entries: fc.uniqueArray(entry(nets.length), {
      minLength: 1,
      maxLength: 6,
      selector: ({ network, container }) => `${network} ${container}`,
    }),
  }),
);

/** What somebody changes in a file: all of an entry but what it is of, all of a network but its kind, or an entry goes. */
interface Edit {
  readonly what: 'entry' | 'network' | 'removal';
  readonly at: number;
  readonly net: Net;
  readonly entry: Entry;
}

const edit: fc.Arbitrary<Edit> = fc.record({
  what: fc.constantFrom('entry', 'entry', 'network', 'removal'),
  at: fc.nat(100),
  net,
  entry: entry(1),
});

function edited({ nets, entries }: World, { what, at, net, entry }: Edit): World {
  const [n, e] = [at % nets.length, at % entries.length];
  if (what === 'network')
    return { nets: nets.map((old, i) => (i === n ? { ...net, kind: old.kind } : old)), entries };
  if (what === 'removal' && entries.length > 1) return { nets, entries: entries.filter((_, i) => i !== e) };
  const change = (old: Entry): Entry => ({ ...entry, network: old.network, container: old.container });
  return { nets, entries: entries.map((old, i) => (i === e ? change(old) : old)) };
}

/** A topology, edits of it, and then perhaps another one. */
const history = fc
  .tuple(world, fc.array(edit, { minLength: 1, maxLength: 2 }), maybe(world))
  .map(([first, edits, last]) => {
    const worlds = [first];
    for (const one of edits) worlds.push(edited(worlds.at(-1) ?? first, one));
    return last ? [...worlds, last] : worlds;
  });

const addressOf = ({ network, container }: Entry): string => `10.${network + 1}.0.${container + 1}`;

function netText({ kind, mtu, gateway, hostAddress }: Net, i: number): string {
  const prefix = `10.${i + 1}.0`;
  return `  n${i}: { ${[
    {
      bridge: `kind: bridge, bridge: pbr${i}`,
      ovs: `kind: ovs, bridge: povs${i}, vlan: ${100 + i}`,
      macvlan: `kind: macvlan, uplink: nic${i}`,
    }[kind],
    `subnet: ${prefix}.0/24`,
    `range: ${prefix}.100-${prefix}.150`,
    ...(mtu === undefined || kind === 'macvlan' ? [] : [`mtu: ${mtu}`]),
    ...(gateway ? [`gateway: ${prefix}.254`] : []),
    ...(hostAddress ? [`hostAddress: ${prefix}.253/24`] : []),
  ].join(', ')} }`;
}

function entryText(item: Entry, names: readonly string[]): string {
  const { network, container, auto, route, rule, rpFilter, rate, mtu, mac } = item;
  return `  - { ${[
    `container: ${names[container]}, network: n${network}, ifname: eth${network + 1}`,
    `addresses: ${auto ? 'auto' : `${addressOf(item)}/24`}`,
    ...(route ? [`routes: [10.${100 + network}.0.0/16 via 10.${network + 1}.0.252]`] : []),
    ...(rule ? [`rules: [{ from: ${addressOf(item)}, table: 254, priority: ${1000 + network} }]`] : []),
    ...(rpFilter === undefined ? [] : [`sysctls: { ipv4.rp_filter: ${rpFilter} }`]),
    ...(rate === undefined ? [] : [`rate: { in: ${rate}mbit, out: ${rate}mbit }`]),
    ...(mtu === undefined ? [] : [`mtu: ${mtu}`]),
    ...(mac ? [`mac: '02:00:00:00:0${network}:0${container}'`] : []),
  ].join(', ')} }`;
}

function yamlOf({ nets, entries }: World, names: readonly string[]): string {
  const attachments = entries.map((item) => entryText(item, names)).join('\n');
  return `networks:\n${nets.map(netText).join('\n')}\nattachments:\n${attachments}\n`;
}

/** What is seen by others is what was asked for. */
function check(host: AgentHost, { nets, entries }: World, containers: readonly Container[]): void {
  for (const [i, { pid }] of containers.entries()) {
    const mine = entries.filter(({ container }) => container === i);
    const limited = mine.filter(
      ({ network, rate }) => rate !== undefined && nets[network]?.kind === 'macvlan',
    );
    const links = [
      ...mine.map(({ network }) => `eth${network + 1}`),
      ...limited.map(({ network }) => `ifb-eth${network + 1}`),
    ];
    assert.deepEqual(linkNames(pid), links.sort());
    for (const { network, rate = 0 } of limited) {
      const dev = `ifb-eth${network + 1}`;
      const [qdisc] = jsonIn(pid, 'tc', ['-j', 'qdisc', 'show', 'dev', dev]);
      assert.equal(qdisc?.kind, 'tbf');
      assert.equal((qdisc.options as { rate: number }).rate, (rate * 1e6) / 8);
    }
    for (const item of mine) {
      const ifname = `eth${item.network + 1}`;
      const seen = cidrs(pid, ifname);
      if (item.auto) assert.match(seen.join(), new RegExp(`^10\\.${item.network + 1}\\.0\\.1\\d\\d/24$`));
      else assert.deepEqual(seen, [`${addressOf(item)}/24`]);
      if (item.mtu !== undefined) assert.equal(ipLink(pid, ifname)?.mtu, item.mtu);
      assert.equal(
        ipLink(pid, ifname)?.linkinfo?.info_kind,
        nets[item.network]?.kind === 'macvlan' ? 'macvlan' : 'veth',
      );
      if (nets[item.network]?.kind !== 'ovs') continue;
      const tag = host.run('ovs-vsctl', ['get', 'port', `veth${item.network + 1}pl${pid}`, 'tag']).stdout;
      assert.equal(tag, `${100 + item.network}\n`);
    }
  }
  for (const [i, { pid }] of containers.entries()) {
    const mine = entries.filter(({ container }) => container === i);
    const routes = mine.filter(({ route }) => route).map(({ network }) => `10.${100 + network}.0.0/16`);
    const seen = ipRoutes(pid).map(({ dst }) => dst);
    assert.deepEqual(seen.filter((dst) => dst.endsWith('/16')).sort(), routes.sort());
    assert.equal(defaults(pid).length, mine.some(({ network }) => nets[network]?.gateway) ? 1 : 0);
    for (const { network, rate } of mine) {
      const kinds = jsonIn(pid, 'tc', ['-j', 'qdisc', 'show', 'dev', `eth${network + 1}`]).map(
        ({ kind }) => kind,
      );
      assert.equal(kinds.includes('tbf'), rate !== undefined);
    }
  }
  for (const i of [0, 1, 2]) {
    assert.equal(linkExists(host.name, `pbr${i}`), nets[i]?.kind === 'bridge', `pbr${i}`);
    assert.equal(linkExists(host.name, `povs${i}`), nets[i]?.kind === 'ovs', `povs${i}`);
    assert.equal(
      linkExists(host.name, `pwh-n${i}`),
      nets[i]?.kind === 'macvlan' && nets[i].hostAddress,
      `pwh-n${i}`,
    );
  }
}

/** PIPEWRIGHT_SEED plays the histories of an earlier run again; PIPEWRIGHT_ROUNDS says how many. */
const seed = Number(process.env.PIPEWRIGHT_SEED ?? Date.now() % 1_000_000);
const numRuns = Number(process.env.PIPEWRIGHT_ROUNDS ?? 6);

/** What is not ours, and is not to be touched: NICs, an Open vSwitch bridge with a port, a rule of the firewall. */
async function ground(t: TestContext): Promise<AgentHost> {
  const host = await agentHost(t, 'tyh');
  await startOvs(t, host);
  for (const name of ['nic0', 'nic1', 'nic2', 'nic3']) nicOn(host, name);
  const others = ['add-br', 'others', '--', 'set', 'bridge', 'others', 'datapath_type=netdev'];
  host.run('ovs-vsctl', [...others, '--', 'add-port', 'others', 'nic3', 'tag=7']);
  for (const words of ['-P FORWARD DROP', '-N DOCKER-USER', '-A DOCKER-USER -j RETURN'])
    host.run('iptables', words.split(' '), { expect: 'any' });
  return host;
}

async function prove(t: TestContext): Promise<void> {
  const host = await ground(t);
  const containers = Array.from({ length: count }, (_, i) => runContainer(t, `ty${i}`));
  const pids = containers.map(({ pid }) => pid);
  for (const pid of pids) emptyGuest(pid);
  const names = containers.map(({ name }) => name);
  const run = (worlds: readonly World[]): void => {
    const before = dumpOf(host, pids);
    try {
      for (const one of worlds) {
        host.write(yamlOf(one, names));
        const applied = host.on('apply', '--yes');
        assert.equal(applied.code, 0, applied.stdout + applied.stderr);
        const again = host.on('plan');
        assert.equal(again.stdout + again.stderr, 'nothing to do\n');
        check(host, one, containers);
      }
    } finally {
      host.pipewright(['destroy'], { expect: 'any' });
    }
    assert.deepEqual(dumpOf(host, pids), before);
    assert.deepEqual(host.notes(), []);
  };
  t.diagnostic(`PIPEWRIGHT_SEED=${seed}`);
  const limits = numRuns > 6 ? {} : { interruptAfterTimeLimit: 60_000 };
  fc.assert(fc.property(history, run), { seed, numRuns, endOnFailure: true, ...limits });
}

test('any topology after any other', async (t) => {
  if (skipUnless(t, 'root', 'docker', 'ovs', 'macvlan', 'program:iptables')) return;
  await prove(t);
});
