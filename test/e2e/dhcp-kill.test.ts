/** An agent that is killed at any time keeps every lease. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { messageTypes } from '../../src/dhcp/v4/message.ts';
import { answerTo, type FakeServer, fakeServer, serverFrame } from '../dhcp/v4/fake-server.ts';
import { type Capture, capture } from '../dhcp/v4/ground.ts';
import { cidrs, containerPid, ipAddrs, run, runContainer, skipUnless } from '../lab.ts';
import { agentHost, soon } from './agent-ground.ts';
import { bridgeWith, lanOf, leaseOf, neighbour, restartable } from './dhcp-ground.ts';

/** Patience for what takes a second or so. */
const patience = 60_000;

const serverIp = '10.77.0.1';
const { discover, request } = messageTypes;

/** A lease of ten minutes, and one that is renewed, or not, soon: T1 and T2 as well. */
const long = { leaseTime: 600, renewalTime: 300, rebindingTime: 500 };
const restless = { leaseTime: 150, renewalTime: 2, rebindingTime: 12 };

/** Answers these kinds of questions, with one address, so many times. */
function gives(
  fake: FakeServer,
  ip: string,
  kinds: readonly number[],
  { times = long, most = Number.POSITIVE_INFINITY } = {},
): void {
  let answered = 0;
  fake.behave((question) => {
    const { messageType = 0 } = question.options;
    if (!kinds.includes(messageType) || ++answered > most) return [];
    const type = messageType === discover ? 'offer' : 'ack';
    const answer = answerTo(question, type, { serverId: serverIp, ...times }, { yiaddr: ip });
    return [serverFrame(answer, serverIp)];
  });
}

test('killed in every state and started again: the lease is what it was, and there are never two addresses', async (t) => {
  if (skipUnless(t, 'root', 'docker', 'program:tcpdump')) return;
  const host = await agentHost(t, 'dhcpk');
  const web = runContainer(t, 'dhcpk');
  host.ip('link', 'add', 'br1', 'type', 'bridge');
  host.ip('link', 'set', 'br1', 'up');
  const fake = fakeServer(t, await neighbour(t, host, 'fake', `${serverIp}/24`));
  await neighbour(t, host, 'holder', '10.77.0.60/24');
  const seen = await capture(t, host.name, 'br1');
  host.write(lanOf(web.name));
  const state = (): string | undefined => leaseOf(host, `${web.name}/eth1`).lease?.state;
  const addresses = (): string[] => cidrs(containerPid(web.name), 'eth1');
  const agent = restartable(t, host);
  const comesTo = async (phase: string): Promise<void> => {
    const waitedMs = await soon(() => state() === phase, patience);
    assert.ok(waitedMs !== undefined, `${phase}: ${state()} ${agent.log()}`);
  };
  /** Waits for a state, kills the agent in it, looks, and starts it again. */
  const killedIn = async (
    phase: string,
    held: readonly string[],
    between = (): void => {},
  ): Promise<void> => {
    await comesTo(phase);
    await agent.kill();
    assert.deepEqual(addresses(), held, phase);
    between();
    await agent.start();
    assert.deepEqual(addresses(), held, `${phase}, started again`);
  };
  await agent.start();
  await killedIn('SELECTING', []);
  gives(fake, '10.77.0.61', [discover]);
  await killedIn('REQUESTING', []);
  gives(fake, '10.77.0.60', [discover, request]);
  await killedIn('DECLINED', []);
  // Between the questions of RFC 5227 and the address' use, as far as this machine is fast enough for that.
  gives(fake, '10.77.0.61', [discover, request]);
  const probes = (): number => seen.lines().filter((line) => line.includes('who-has 10.77.0.61 ')).length;
  await soon(() => probes() > 0, patience);
  await agent.kill();
  t.diagnostic(`killed when ${addresses().length === 0 ? 'it was looked at' : 'it was in use'} (PROBING)`);
  await agent.start();
  const held = ['10.77.0.61/24'];
  await killedIn('BOUND', held);
  fake.behave(() => []);
  // It asks for the same address, and has none before that is confirmed.
  run('docker', ['restart', '-t', '0', web.name]);
  await killedIn('REBOOTING', []);
  await comesTo('REBOOTING');
  await seen.settled();
  const asked = seen.messages().length;
  gives(fake, '10.77.0.61', [request], { times: restless, most: 1 });
  await killedIn('RENEWING', held);
  // Whoever comes after it asks at once.
  await killedIn('REBINDING', held, () => gives(fake, '10.77.0.61', [request]));
  await comesTo('BOUND');
  assert.deepEqual(addresses(), held);
  await seen.settled();
  const since = seen.messages().slice(asked);
  assert.deepEqual(
    since.filter((message) => message.startsWith('Discover')),
    [],
  );
  assert.ok(since.includes(`Request 10.77.0.61.68 > ${serverIp}.67`), since.join('\n'));
  assert.ok(since.includes('Request 10.77.0.61.68 > 255.255.255.255.67'), since.join('\n'));
  oneAtATime(seen, ['10.77.0.60', '10.77.0.61']);
});

/** Whom the container has said to have an address: never one that was declined. */
function oneAtATime(seen: Capture, [declined, held]: readonly [string, string]): void {
  const claims = (ip: string): string[] =>
    seen.lines().filter((line) => line.includes(`Announcement ${ip},`) || line.includes(` tell ${ip},`));
  assert.deepEqual(claims(declined), []);
  assert.ok(
    claims(held).length > 0,
    seen
      .lines()
      .filter((line) => line.includes('ARP'))
      .join('\n'),
  );
}

test('killed again and again while it gets a lease of Kea, which has given one address after all', async (t) => {
  if (skipUnless(t, 'root', 'docker', 'program:kea-dhcp4', 'program:tcpdump')) return;
  const host = await agentHost(t, 'dhcpj');
  const web = runContainer(t, 'dhcpj');
  const server = await bridgeWith(t, host, 'kea');
  await server.start({ pool: [50, 99], lease: 600 });
  const seen = await capture(t, host.name, 'br1');
  host.write(lanOf(web.name));
  const agent = restartable(t, host);
  const addresses = (): string[] => cidrs(web.pid, 'eth1');
  for (const message of ['Discover', 'Offer', 'Request', 'ACK', 'who-has']) {
    const before = seen.lines().length;
    const passed = (): boolean =>
      seen
        .lines()
        .slice(before)
        .some((line) => line.includes(message === 'who-has' ? 'tell 0.0.0.0' : `length 1: ${message}`));
    await agent.start();
    // Bound already, and no more to be said.
    await soon(() => passed() || addresses().length > 0, patience);
    await agent.kill();
    assert.ok(addresses().length <= 1, `${addresses()}`);
  }
  await agent.start();
  await soon(() => leaseOf(host, `${web.name}/eth1`).lease?.state === 'BOUND', patience);
  const held = addresses();
  assert.equal(held.length, 1, agent.log());
  const given = [...server.log().matchAll(/DHCP4_LEASE_ALLOC .*lease (\S+)/g)].map(([, ip]) => ip);
  assert.deepEqual([...new Set(given)], [held[0]?.replace('/24', '')], server.log());
  const left = Number(ipAddrs(web.pid, 'eth1').find(({ family }) => family === 'inet')?.valid_life_time);
  assert.ok(left > 300, `${left}`);
});
