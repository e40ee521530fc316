/** A client in a namespace, a bridge that stands for a LAN, servers on it, and a capture of what passes. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { writeSync } from 'node:fs';
import type { TestContext } from 'node:test';
import { applyLease, hasLease, removeLease } from '../../../src/dhcp/apply.ts';
import { clientIdOf } from '../../../src/dhcp/identity.ts';
import { Dhcp4Client, leaseClock } from '../../../src/dhcp/v4/client.ts';
import type { ClientIdentity } from '../../../src/dhcp/v4/requests.ts';
import { arpQuestion } from '../../../src/kernel/frames.ts';
import { Netns } from '../../../src/kernel/netns.ts';
import { closeInBackground, openPacketSocket } from '../../../src/kernel/packet-socket.ts';
import type { Lease } from '../../../src/model/lease.ts';
import { cidrs, ipLink, nsenter, plainNetns, run } from '../../lab.ts';
import { type DhcpServer, dhcpServer, type ServerProgram } from '../servers.ts';
import { until } from '../support.ts';

/** A LAN: a bridge `br0` in a namespace of its own. */
export interface Lan {
  readonly name: string;
  /** A server with the address 10.77.0.HOST. */
  server(program: ServerProgram, host?: number): Promise<DhcpServer>;
  /** A namespace with an `eth1` on the LAN. @returns its name */
  guest(name: string): Promise<string>;
  /** What passes the bridge from now on, as `tcpdump -vvv` tells it, a line for each packet. */
  capture(): Promise<Capture>;
}

export interface Capture {
  lines(): string[];
  /** The kinds of DHCP messages, in order: `Discover 0.0.0.0.68 > 255.255.255.255.67`. */
  messages(): string[];
  /** Waits until what has passed so far is told: a question that nobody answers is sent after it. */
  settled(): Promise<void>;
}

export async function lan(t: TestContext, suffix: string): Promise<Lan> {
  const { name } = await plainNetns(t, `lan${suffix}`);
  run('ip', ['-n', name, 'link', 'add', 'br0', 'type', 'bridge']);
  run('ip', ['-n', name, 'link', 'set', 'br0', 'up']);
  const plug = (wire: string): void =>
    void run('ip', ['-n', name, 'link', 'set', wire, 'master', 'br0', 'up']);
  return {
    name,
    server: async (program, host = 1) => {
      const wire = `srv${host}`;
      const server = await dhcpServer(t, program, { where: name, wire, host, suffix });
      plug(wire);
      return server;
    },
    guest: async (guest) => {
      const { name: full } = await plainNetns(t, `${guest}${suffix}`);
      run('ip', [
        '-n',
        name,
        'link',
        'add',
        `w-${guest}`,
        'type',
        'veth',
        'peer',
        'name',
        'eth1',
        'netns',
        full,
      ]);
      plug(`w-${guest}`);
      run('ip', ['-n', full, 'link', 'set', 'eth1', 'up']);
      return full;
    },
    capture: () => capture(t, name, 'br0'),
  };
}

/** What passes a link of a namespace from now on. */
export async function capture(t: TestContext, where: string, link: string): Promise<Capture> {
  const words = [...nsenter(where), 'tcpdump', '-i', link, '-nevvv', '-tt', '--immediate-mode', '-l', '-U'];
  const filter = ['-Z', 'root', 'udp port 67 or udp port 68 or arp'];
  const child = spawn(words[0] ?? '', [...words.slice(1), ...filter], { stdio: ['ignore', 'pipe', 'pipe'] });
  let text = '';
  let said = '';
  child.stdout.setEncoding('utf8').on('data', (chunk: string) => {
    text += chunk;
  });
  child.stderr.setEncoding('utf8').on('data', (chunk: string) => {
    said += chunk;
  });
  const closed = once(child, 'close');
  t.after(async () => {
    child.kill('SIGINT');
    await closed;
  });
  await until('tcpdump', () => said.includes('listening on'));
  const lines = (): string[] =>
    text.split(/\n(?=\d+\.\d{6} )/).map((packet) => packet.replace(/\s*\n\s*/g, ' '));
  let marks = 0;
  return {
    lines,
    settled: async () => {
      const ip = `192.0.2.${++marks}`;
      sendFrom(where, link, arpQuestion('02:00:00:00:00:99', ip));
      await until('tcpdump tells all', () => lines().some((line) => line.includes(`who-has ${ip} `)));
    },
    messages: () =>
      lines().flatMap((line) => {
        const [, ends = ''] = /(\d+\.\d+\.\d+\.\d+\.6[78] > \d+\.\d+\.\d+\.\d+\.6[78])/.exec(line) ?? [];
        const [, kind] = /DHCP-Message \(53\), length 1: (\S+)/.exec(line) ?? [];
        return kind === undefined ? [] : [`${kind} ${ends}`];
      }),
  };
}

function sendFrom(where: string, link: string, frame: Buffer): void {
  using netns = Netns.open(`/run/netns/${where}`, where);
  const fd = openPacketSocket(netns, ipLink(where, link)?.ifindex ?? 0);
  try {
    writeSync(fd, frame);
  } finally {
    closeInBackground(fd);
  }
}

/** A client and what it did. */
export interface RunningClient {
  readonly client: Dhcp4Client;
  /** `bind 10.77.0.50`, `unbind 10.77.0.50: REASON` */
  readonly events: string[];
  /** Waits until its interface has a lease. @returns the address */
  bound(): Promise<string>;
}

export function clientIn(t: TestContext, netns: string, given: Partial<ClientIdentity> = {}): RunningClient {
  const mac = ipLink(netns, 'eth1')?.address ?? '';
  const events: string[] = [];
  let was: Lease | undefined;
  const client = new Dhcp4Client({
    ifname: 'eth1',
    identity: {
      htype: 1,
      chaddr: Buffer.from(mac.replaceAll(':', ''), 'hex'),
      clientId: clientIdOf('test', netns, 'eth1'),
      hostName: 'pwt-web',
      raw: {},
      broadcast: false,
      maxMessageSize: 1500,
      ...given,
    },
    openNetns: () => Netns.open(`/run/netns/${netns}`, netns),
    bind: (guest, lease) => {
      applyLease(guest, 'eth1', lease, { now: leaseClock(), was, keepMtu: false });
      events.push(
        `bind ${lease.addresses[0]?.cidr.ip}${hasLease(guest, 'eth1', lease) ? '' : ', not all of it'}`,
      );
      was = lease;
    },
    unbind: (guest, lease, reason) => {
      removeLease(guest, 'eth1', lease);
      events.push(`unbind ${lease.addresses[0]?.cidr.ip}: ${reason}`);
      was = undefined;
    },
    onChange: () => {},
  });
  t.after(() => client.stop());
  return {
    client,
    events,
    bound: async () => {
      await until('it is bound', () => client.status().state === 'BOUND');
      return cidrs(netns, 'eth1')[0] ?? '';
    },
  };
}

/** A program in a namespace, until the test ends. */
export function spawnIn(t: TestContext, netns: string, program: string, args: readonly string[]): void {
  const [first = '', ...rest] = [...nsenter(netns), program, ...args];
  const child = spawn(first, rest, { stdio: 'ignore' });
  t.after(() => void child.kill('SIGKILL'));
}
