/**
 * Leases that the agent keeps: each of three servers on each of three kinds of network, judged by what passed each
 * server's wire. PWT_DHCP_SECONDS=300 watches leases of a minute for that long, by hand.
 */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { type TestContext, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import {
  type DhcpServer,
  dhcpServer,
  programOf,
  type ServerProgram,
  serverPrograms,
} from '../dhcp/servers.ts';
import { type Capture, capture } from '../dhcp/v4/ground.ts';
import { type Container, cidrs, ipRoutes, nsenter, run, runContainer, skipUnless } from '../lab.ts';
import { type AgentHost, agentHost, soon, startOvs } from './agent-ground.ts';
import { leaseOf } from './dhcp-ground.ts';
import { nicOn } from './support.ts';

const watched = Number(process.env.PWT_DHCP_SECONDS ?? 0);
const places = ['bridge', 'macvlan', 'OVS VLAN'] as const;

/** One server on one kind of network, and the interface that has its lease from there. */
interface Spot {
  readonly what: string;
  readonly ifname: string;
  /** The first three bytes of all addresses; the server's is .1. */
  readonly network: string;
  readonly web: Container;
  readonly server: DhcpServer;
  readonly seen: Capture;
}

/** dnsmasq gives no less than two minutes, so it names the times of a minute's lease; and it takes no T1 below 3 s. */
function timesOf(program: ServerProgram): { lease: number; t1?: number; t2?: number } {
  if (watched === 0) return { lease: program === 'dnsmasq' ? 120 : 30, t1: 3, t2: 20 };
  return program === 'dnsmasq' ? { lease: 120, t1: 30, t2: 52 } : { lease: 60 };
}

async function spotsOf(t: TestContext, host: AgentHost, program: ServerProgram): Promise<Spot[]> {
  const nr = serverPrograms.indexOf(program);
  const web = runContainer(t, `dhcp9-${program}`);
  const wire = nicOn(host, `nic${nr}`);
  for (const name of [`br${nr}`, `sw${nr}`]) {
    host.ip('link', 'add', name, 'type', 'bridge');
    host.ip('link', 'set', name, 'up');
  }
  host.ip('link', 'set', wire, 'master', `sw${nr}`, 'up');
  const spots: Spot[] = [];
  for (const [at, place] of places.entries()) {
    const lan = `lan${nr}${at}`;
    const server = await dhcpServer(t, program, { where: host.name, wire: lan, suffix: `9${nr}${at}` });
    if (place === 'OVS VLAN') host.run('ovs-vsctl', ['add-port', 'ovs0', lan, `tag=${100 + nr}`]);
    else host.ip('link', 'set', lan, 'master', place === 'bridge' ? `br${nr}` : `sw${nr}`);
    const network = `10.${70 + nr}.${at}`;
    await server.start({ network, pool: [50, 99], ...timesOf(program) });
    const seen = await capture(t, server.netns, 's0');
    spots.push({ what: `${program} on ${place}`, ifname: `eth${at + 1}`, network, web, server, seen });
  }
  return spots;
}

const topologyOf = (programs: readonly ServerProgram[], spots: readonly Spot[]): string => `networks:
${programs
  .flatMap((_, nr) => [
    `  b${nr}: {kind: bridge, bridge: br${nr}}`,
    `  m${nr}: {kind: macvlan, uplink: nic${nr}}`,
    `  o${nr}: {kind: ovs, bridge: ovs0, vlan: ${100 + nr}}`,
  ])
  .join('\n')}
attachments:
${spots
  .map(({ web, ifname, network }, at) => {
    const own =
      ifname === 'eth1'
        ? ''
        : `, gateway: none${ifname === 'eth3' ? `, dhcp: {requestAddress: ${network}.77}` : ''}`;
    const name = `${['b', 'm', 'o'][at % 3]}${Math.floor(at / 3)}`;
    return `  - {container: ${web.name}, network: ${name}, ifname: ${ifname}, addresses: dhcp${own}}`;
  })
  .join('\n')}
`;

/** `ping` every 10 ms, until it is stopped. */
function pinging(
  t: TestContext,
  from: string,
  ip: string,
): { stop(): Promise<{ answers: number; lost: number }> } {
  const [first = '', ...rest] = [...nsenter(from), 'ping', '-n', '-i', '0.01', ip];
  const child = spawn(first, rest, { stdio: ['ignore', 'pipe', 'ignore'] });
  t.after(() => void child.kill('SIGKILL'));
  const found = { answers: 0, lost: 0 };
  let last: number | undefined;
  createInterface({ input: child.stdout }).on('line', (line) => {
    const seq = Number(/icmp_seq=(\d+) ttl/.exec(line)?.[1] ?? Number.NaN);
    if (Number.isNaN(seq)) return;
    // Two bytes, which go round.
    if (last !== undefined) found.lost += (seq - last - 1 + 65536) % 65536;
    found.answers += 1;
    last = seq;
  });
  return {
    stop: async () => {
      const ended = once(child, 'close');
      child.kill('SIGINT');
      await ended;
      return found;
    },
  };
}

/** Milliseconds between the renewals that a capture has. */
function intervals({ seen }: Spot): number[] {
  const times = seen
    .lines()
    .filter((line) => /length 1: Request/.test(line))
    .map((line) => Number(/^(\d+\.\d+)/.exec(line)?.[1]));
  return times.slice(1).map((time, at) => Math.round((time - (times[at] ?? 0)) * 1000));
}

test('three servers on a bridge, on macvlan and on a VLAN of Open vSwitch: a lease, renewed with its server', async (t) => {
  const programs = serverPrograms.map((program) => `program:${programOf[program]}` as const);
  if (skipUnless(t, 'root', 'docker', ...programs, 'program:ovs-vsctl', 'program:tcpdump')) return;
  const host = await agentHost(t, 'dhcp9');
  await startOvs(t, host);
  host.run('ovs-vsctl', ['add-br', 'ovs0', '--', 'set', 'bridge', 'ovs0', 'datapath_type=netdev']);
  const spots: Spot[] = [];
  for (const program of serverPrograms) spots.push(...(await spotsOf(t, host, program)));
  host.write(topologyOf(serverPrograms, spots));
  const agent = await host.agent(t);
  const addresses = (): string[] => spots.map(({ web, ifname }) => cidrs(web.pid, ifname).join(' '));
  await soon(() => addresses().every((one) => one !== ''), 30_000);
  const first = addresses();
  for (const [at, { network, ifname, what }] of spots.entries())
    assert.match(
      first[at] ?? '',
      new RegExp(`^${network.replaceAll('.', '\\.')}\\.${ifname === 'eth3' ? '77' : '\\d+'}/24$`),
      `${what}: ${agent.log()}`,
    );
  // The first default route stays, and the others are not asked for.
  for (const { web, network } of spots.filter(({ ifname }) => ifname === 'eth1'))
    assert.deepEqual(
      ipRoutes(web.pid)
        .filter(({ dst }) => dst === 'default')
        .map(({ gateway }) => gateway),
      [`${network}.1`],
    );
  const pings = spots.map(({ server }, at) => pinging(t, server.netns, first[at]?.replace('/24', '') ?? ''));
  const renewed = ({ seen }: Spot): number => Math.floor(seen.messages().length / 2) - 2;
  await soon(() => spots.every((spot) => renewed(spot) >= (watched === 0 ? 2 : 1)), 60_000);
  for (let left = watched; left > 0; left -= 1) {
    await sleep(1000);
    assert.deepEqual(addresses(), first);
  }
  const pinged = await Promise.all(pings.map((one) => one.stop()));
  for (const [at, spot] of spots.entries()) {
    const ip = first[at]?.replace('/24', '') ?? '';
    const messages = spot.seen.messages();
    const whole = messages.slice(0, messages.length - (messages.length % 2));
    const server = `${spot.network}.1.67`;
    const expected = [
      ['Discover 0.0.0.0.68 > 255.255.255.255.67', `Offer ${server} > ${ip}.68`],
      ['Request 0.0.0.0.68 > 255.255.255.255.67', `ACK ${server} > ${ip}.68`],
      ...Array.from({ length: renewed(spot) }, () => [
        `Request ${ip}.68 > ${server}`,
        `ACK ${server} > ${ip}.68`,
      ]),
    ];
    assert.deepEqual(whole, expected.flat(), spot.what);
    assert.ok(renewed(spot) >= (watched === 0 ? 2 : Math.floor(watched / 30) - 1), spot.what);
    const { answers, lost } = pinged[at] ?? { answers: 0, lost: 0 };
    const gaps = intervals(spot);
    t.diagnostic(
      `${spot.what}: ${ip}, ${renewed(spot)} renewals every ${Math.min(...gaps)} to ${Math.max(...gaps)} ms, pings ${answers}, lost ${lost}`,
    );
    assert.ok(answers > 100, `${spot.what}: ${answers} answers`);
    assert.equal(lost, 0, spot.what);
  }
  assert.deepEqual(addresses(), first);
  assert.deepEqual(
    host.status().map(({ state }) => state),
    spots.map(() => 'healthy'),
  );
  const [, macvlan] = spots;
  assert.deepEqual(leaseOf(host, `${macvlan?.web.name}/eth2`).lease?.lease?.server, `${macvlan?.network}.1`);
  // What somebody takes away is put back.
  run('nsenter', [`--net=/proc/${macvlan?.web.pid}/ns/net`, 'ip', 'addr', 'flush', 'dev', 'eth2']);
  await soon(() => addresses()[1] === first[1], 20_000);
  assert.deepEqual(addresses(), first);
});
