/**
 * Scene 3 of the brief: two hosts, on each an Open vSwitch bridge whose trunk port is the host's NIC, one container in
 * VLAN 100 and one in VLAN 200, all four in one subnet. Hosts are whatever can run programs.
 */
import assert from 'node:assert/strict';
import type { Ran, RunOptions } from '../lab.ts';

/** A host with a Docker Engine, an Open vSwitch and a NIC eth0, all of its own. */
export interface SceneHost {
  /** Runs a program there. */
  run(command: string, args: readonly string[], options?: RunOptions): Promise<Ran>;
  /** `pipewright ARGS` there. */
  pipewright(args: readonly string[], options?: RunOptions): Promise<Ran>;
  /** Makes the host's topology file, which its agent reads also after a reboot, and starts the agent. */
  keep(yaml: string): Promise<void>;
}

/** `system`, or `netdev` where the kernel has no openvswitch. */
export type Datapath = 'system' | 'netdev';

interface Place {
  readonly host: string;
  /** In VLAN 100, in VLAN 200. */
  readonly guests: readonly [string, string];
}

const places: readonly [Place, Place] = [
  { host: '10.10.101.105', guests: ['192.168.0.1', '192.168.0.2'] },
  { host: '10.10.101.106', guests: ['192.168.0.3', '192.168.0.4'] },
];

/** test1 and test2 are on the first host, test3 and test4 on the second. */
const guestOf = (ip: string): string => `test${ip.slice(ip.lastIndexOf('.') + 1)}`;

const topology = ({ host, guests }: Place): string => `
version: 1
networks:
  lan: { kind: ovs, bridge: ovs0, hostAddress: ${host}/24 }
  vlan100: { kind: ovs, bridge: ovs0, vlan: 100, subnet: 192.168.0.0/24 }
  vlan200: { kind: ovs, bridge: ovs0, vlan: 200, subnet: 192.168.0.0/24 }
attachments:
  - { container: ${guestOf(guests[0])}, network: vlan100, addresses: ${guests[0]}/24 }
  - { container: ${guestOf(guests[1])}, network: vlan200, addresses: ${guests[1]}/24 }
`;

/** The scene on its two hosts. */
export class Scene3 {
  readonly hosts: readonly [SceneHost, SceneHost];
  readonly #datapath: Datapath;

  constructor(hosts: readonly [SceneHost, SceneHost], datapath: Datapath) {
    this.hosts = hosts;
    this.#datapath = datapath;
  }

  /** From hosts with an address on eth0 to the scene, once: what a user does. */
  async setUp(image: (host: SceneHost) => Promise<string>): Promise<void> {
    await Promise.all(places.map((place, at) => this.#setUp(this.hosts[at as 0 | 1], place, image)));
  }

  async #setUp(host: SceneHost, place: Place, image: (host: SceneHost) => Promise<string>): Promise<void> {
    await host.run('ip', ['addr', 'add', `${place.host}/24`, 'dev', 'eth0']);
    const name = await image(host);
    for (const guest of place.guests.map(guestOf)) {
      await host.run('docker', [
        'run',
        '-d',
        '--restart',
        'always',
        '--name',
        guest,
        '--network',
        'none',
        name,
      ]);
    }
    const type = ['set', 'bridge', 'ovs0', `datapath_type=${this.#datapath}`];
    await host.run('ip', ['addr', 'flush', 'dev', 'eth0']);
    await host.run('ovs-vsctl', ['add-br', 'ovs0', '--', ...type, '--', 'add-port', 'ovs0', 'eth0']);
    await host.keep(topology(place));
  }

  /** Waits until both agents say that all is well. @param seconds for each */
  async settled(seconds: number): Promise<void> {
    await Promise.all(this.hosts.map((host) => settled(host, seconds)));
  }

  /** The six pings: expected and seen, to be equal. */
  async pings(): Promise<{ expected: Readonly<Record<string, boolean>>; seen: Record<string, boolean> }> {
    const [a, b] = this.hosts;
    const [there, here] = [places[1], places[0]];
    const seen: Record<string, boolean> = {};
    const expected: Record<string, boolean> = {};
    for (const [i, from] of here.guests.entries()) {
      for (const [j, to] of there.guests.entries()) {
        const name = `${guestOf(from)} -> ${guestOf(to)}`;
        expected[name] = i === j;
        seen[name] = await pings(a, ['docker', 'exec', guestOf(from)], to, i === j);
      }
    }
    for (const [name, host, to] of [
      ['host A -> host B', a, there.host],
      ['host B -> host A', b, here.host],
    ] as const) {
      expected[name] = true;
      seen[name] = await pings(host, [], to, true);
    }
    return { expected, seen };
  }
}

async function settled(host: SceneHost, seconds: number): Promise<void> {
  let said = '';
  for (const deadline = Date.now() + seconds * 1000; Date.now() < deadline; ) {
    const { code, stdout, stderr } = await host.pipewright(['status', '--json'], { expect: 'any' });
    said = `${stdout}${stderr}`;
    if (code !== 0) continue;
    const { agent, attachments } = JSON.parse(stdout) as { agent: boolean; attachments: { state: string }[] };
    if (agent && attachments.length === 2 && attachments.every(({ state }) => state === 'healthy')) return;
  }
  assert.fail(`not settled after ${seconds} s: ${said}`);
}

/** Whether an echo request is answered: one of three where it should be. */
async function pings(
  host: SceneHost,
  enter: readonly string[],
  to: string,
  should: boolean,
): Promise<boolean> {
  const [command = '', ...args] = [...enter, 'ping', '-c1', '-W1', to];
  for (let tries = should ? 5 : 1; tries > 0; tries--) {
    if ((await host.run(command, args, { expect: 'any' })).code === 0) return true;
  }
  return false;
}

/**
 * What tcpdump's lines (`-n -e`) tell of echo requests: the VLAN and where to, once each.
 * `100 192.168.0.3`, `- 10.10.101.106`
 */
export function tagsOf(lines: readonly string[]): string[] {
  const found = lines.flatMap((line) => {
    const to = / > ([\d.]+): ICMP echo request/.exec(line)?.[1];
    return to === undefined ? [] : [`${/\bvlan (\d+)/.exec(line)?.[1] ?? '-'} ${to}`];
  });
  return [...new Set(found)].sort();
}

/** What must be seen of {@link Scene3.pings} on the wire: nothing of those that must not reach but who-has. */
export const tagsExpected = ['- 10.10.101.105', '- 10.10.101.106', '100 192.168.0.3', '200 192.168.0.4'];
