/**
 * Leases that outlive their container, their agent and the host's uptime, judged by what passed the bridge.
 * PWT_DHCP_RESTARTS=20 restarts containers that often, by hand.
 */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { closeSync, openSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { type TestContext, test } from 'node:test';
import { capture } from '../dhcp/v4/ground.ts';
import {
  type Container,
  cidrs,
  containerPid,
  ipLink,
  nsenter,
  run,
  runContainer,
  skipUnless,
} from '../lab.ts';
import { type AgentHost, agentHost, soon } from './agent-ground.ts';
import { bridgeWith, lanOf, leaseOf } from './dhcp-ground.ts';
import { nicOn } from './support.ts';

/** Patience for what takes well under a second. */
const patience = 30_000;

const restarts = Number(process.env.PWT_DHCP_RESTARTS ?? 3);

/** Lines of a program that runs until the test ends. */
function linesOf(t: TestContext, words: readonly string[]): string[] {
  const [first = '', ...rest] = words;
  const child = spawn(first, rest, { stdio: ['ignore', 'pipe', 'ignore'] });
  t.after(() => void child.kill('SIGKILL'));
  const lines: string[] = [];
  createInterface({ input: child.stdout }).on('line', (line) => void lines.push(line));
  return lines;
}

test('the same address by one REQUEST: after a restart, anew, and after those of the agent and the host', async (t) => {
  if (skipUnless(t, 'root', 'docker', 'program:dnsmasq', 'program:tcpdump')) return;
  const host = await agentHost(t, 'dhcpr');
  const web = runContainer(t, 'dhcpr');
  const server = await bridgeWith(t, host, 'dnsmasq');
  await server.start({ pool: [50, 99], lease: 600 });
  host.write(lanOf(web.name));
  let agent = await host.agent(t);
  const address = (): string[] => cidrs(containerPid(web.name), 'eth1');
  await soon(() => address().length === 1, patience);
  const [first = ''] = address();
  assert.match(first, /^10\.77\.0\./, agent.log());
  const ip = first.replace('/24', '');
  const seen = await capture(t, host.name, 'br1');
  const events = linesOf(t, [
    ...['docker', 'events', '--filter', `container=${web.name}`, '--filter', 'event=start'],
    ...['--format', '{{.TimeNano}}'],
  ]);
  const pings = linesOf(t, [...nsenter(server.netns), 'ping', '-n', '-D', '-i', '0.005', ip]);
  const macs = new Set<string>();

  /** What a new life of the container leads to: a REQUEST without a server, its answer, and the same address. */
  const comesBack = async (how: string, begin: () => void | Promise<void>): Promise<void> => {
    macs.add(ipLink(containerPid(web.name), 'eth1')?.address ?? '');
    const [asked, started] = [seen.lines().length, events.length];
    await begin();
    await soon(() => address()[0] === first, patience);
    assert.deepEqual(address(), [first], `${how}: ${agent.log()}`);
    const passed = (): string[] =>
      seen
        .lines()
        .slice(asked)
        .filter((line) => line.includes('DHCP-Message (53)'));
    await soon(() => passed().length >= 2, patience);
    const lines = passed();
    assert.equal(lines.length, 2, `${how}: ${lines.join('\n')}`);
    const [request = ''] = lines;
    assert.match(request, /0\.0\.0\.0\.68 > 255\.255\.255\.255\.67.*length 1: Request/, how);
    assert.match(request, new RegExp(`Requested-IP \\(50\\), length 4: ${ip.replaceAll('.', '\\.')}`), how);
    assert.doesNotMatch(request, /Server-ID \(54\), length|Client-IP/, how);
    await soon(() => events.length > started, patience);
    const at = Number(events.at(-1)) / 1e6;
    const answers = (): number[] =>
      pings
        .filter((line) => line.includes(' bytes from '))
        .map((line) => Number(/^\[(\d+\.\d+)\]/.exec(line)?.[1]) * 1000)
        .filter((time) => time > at);
    await soon(() => answers().length > 0, patience);
    t.diagnostic(`${how}: answers a ping ${Math.round((answers()[0] ?? 0) - at)} ms after the start event`);
  };

  for (let round = 0; round < 3; round++)
    await comesBack('docker restart', () => void run('docker', ['restart', '-t', '0', web.name]));
  await comesBack('docker rm and run', () => {
    run('docker', ['rm', '-f', web.name]);
    again(t, web);
  });
  const restarted = async (wipe: () => void): Promise<void> => {
    run('docker', ['kill', web.name]);
    await agent.stop('SIGKILL');
    wipe();
    agent = await host.agent(t);
    run('docker', ['start', web.name]);
  };
  await comesBack('the agent ended while the container was down', () => restarted(() => {}));
  await comesBack('a reboot of the host', () => restarted(() => forgetBoot(host)));
  assert.ok(macs.size > 3, `a MAC address for each life: ${[...macs]}`);
  await soon(() => leaseOf(host, `${web.name}/eth1`).state === 'healthy', patience);
  host.write('attachments: []\n');
  await soon(() => server.log().includes('DHCPRELEASE'), patience);
  assert.match(server.log(), /DHCPRELEASE\(s0\) 10\.77\.0\./);
});

/** Another container of the same name. */
function again(t: TestContext, { name }: Container): void {
  runContainer(t, name.replace(/^pwt-|-\d+$/g, ''));
}

/** All that /run had of it is gone. */
function forgetBoot(host: AgentHost): void {
  host.run('find', ['/run/pipewright', '-mindepth', '1', '-delete']);
}

test('the namespace of an earlier life, which the kernel has yet to take away, does not cost the address', async (t) => {
  if (skipUnless(t, 'root', 'docker', 'program:kea-dhcp4', 'program:tcpdump')) return;
  const host = await agentHost(t, 'dhcpl');
  const server = await bridgeWith(t, host, 'kea');
  const wire = nicOn(host, 'nic0');
  host.ip('link', 'set', wire, 'master', 'br1');
  await server.start({ pool: [50, 59], lease: 600 });
  const [web, db] = [runContainer(t, 'dhcpl'), runContainer(t, 'dhcpl2')];
  // A command, and the agent: on macvlan, where nothing on the host's side takes the old interface away.
  host.pipework(['br1', db.name, 'dhcp']);
  host.write(lanOf(web.name).replace('kind: bridge, bridge: br1', 'kind: macvlan, uplink: nic0'));
  const agent = await host.agent(t);
  await soon(() => cidrs(web.pid, 'eth1').length === 1, patience);
  const held = [web, db].map(({ pid }) => cidrs(pid, 'eth1'));
  assert.deepEqual(
    held.map(({ length }) => length),
    [1, 1],
    agent.log(),
  );
  await agent.stop('SIGTERM');
  for (const { pid } of [web, db]) {
    const fd = openSync(`/proc/${pid}/ns/net`, 'r');
    t.after(() => closeSync(fd));
  }
  for (const { name } of [web, db]) run('docker', ['restart', '-t', '0', name]);
  host.pipework(['br1', db.name, 'dhcp']);
  const after = await host.agent(t);
  const pids = [web, db].map(({ name }) => containerPid(name));
  await soon(() => pids.every((pid) => cidrs(pid, 'eth1').length === 1), patience);
  assert.deepEqual(
    pids.map((pid) => cidrs(pid, 'eth1')),
    held,
    after.log(),
  );
  assert.doesNotMatch(server.log(), /DHCP4_DECLINE/);
});

test('restarted again and again, on a bridge and on macvlan: the same address each time, in use', async (t) => {
  if (skipUnless(t, 'root', 'docker', 'program:dnsmasq', 'program:tcpdump')) return;
  const host = await agentHost(t, 'dhcpq');
  const server = await bridgeWith(t, host, 'dnsmasq');
  const wire = nicOn(host, 'nic0');
  host.ip('link', 'set', wire, 'master', 'br1');
  await server.start({ pool: [50, 99], lease: 600 });
  const places = ['bridge', 'macvlan'] as const;
  const made = places.map((place) => ({ place, ...runContainer(t, `dhcpq${place}`) }));
  host.write(`networks:
  bridge: {kind: bridge, bridge: br1}
  macvlan: {kind: macvlan, uplink: nic0}
attachments:
${made.map(({ name, place }) => `  - {container: ${name}, network: ${place}, addresses: dhcp}`).join('\n')}
`);
  const agent = await host.agent(t);
  const addressOf = (name: string): string => cidrs(containerPid(name), 'eth1').join();
  await soon(() => made.every(({ name }) => addressOf(name) !== ''), patience);
  const seen = await capture(t, host.name, 'br1');
  const all = made.map(({ name, place }) => {
    const first = addressOf(name);
    assert.match(first, /^10\.77\.0\.\d+\/24$/, agent.log());
    const format = ['--filter', 'event=start', '--format', '{{.TimeNano}}'];
    const events = linesOf(t, ['docker', 'events', '--filter', `container=${name}`, ...format]);
    const ping = ['ping', '-n', '-D', '-i', '0.005', first.replace('/24', '')];
    return {
      name,
      place,
      first,
      events,
      pings: linesOf(t, [...nsenter(server.netns), ...ping]),
      times: [] as number[],
    };
  });
  const answeredAfter = (pings: readonly string[], at: number): number | undefined =>
    pings
      .filter((line) => line.includes(' bytes from '))
      .map((line) => Number(/^\[(\d+\.\d+)\]/.exec(line)?.[1]) * 1000)
      .find((time) => time > at);
  for (let round = 1; round <= restarts; round++) {
    for (const { name, place, first, events, pings, times } of all) {
      run('docker', ['restart', '-t', '0', name]);
      await soon(() => events.length === round && addressOf(name) !== '', patience);
      const at = Number(events.at(-1)) / 1e6;
      await soon(() => answeredAfter(pings, at) !== undefined, patience);
      assert.equal(addressOf(name), first, `${place}, round ${round}: ${agent.log()}`);
      times.push(Math.round((answeredAfter(pings, at) ?? Number.NaN) - at));
    }
  }
  for (const { place, times } of all) {
    assert.equal(times.filter(Number.isFinite).length, restarts, `${place}: ${times}`);
    t.diagnostic(`${place}: answers a ping so many ms after the start event: ${times.join(' ')}`);
  }
  const messages = seen.messages().map((message) => message.split(' ')[0]);
  assert.deepEqual([...new Set(messages)].sort(), ['ACK', 'Request'], 'one round trip each time');
});
