/** An agent that is killed at any time keeps every lease. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { cidrs, ipAddrs, runContainer, skipUnless } from '../lab.ts';
import { agentHost, soon } from './agent-ground.ts';
import { bridgeWith, lanOf, leaseOf } from './dhcp-ground.ts';

test('killed in every state and started again: no lease is lost, and there are never two addresses', async (t) => {
  if (skipUnless(t, 'root', 'docker', 'program:kea-dhcp4')) return;
  const host = await agentHost(t, 'dhcpk');
  const web = runContainer(t, 'dhcpk');
  const server = await bridgeWith(t, host, 'kea');
  host.write(lanOf(web.name));
  const key = `${web.name}/eth1`;
  const state = (): string | undefined => leaseOf(host, key).lease?.state;
  const addresses = (): string[] => cidrs(web.pid, 'eth1');
  let agent = await host.agent(t);
  const again = async (): Promise<void> => {
    await agent.stop('SIGKILL');
    agent = await host.agent(t);
  };
  await soon(() => state() === 'SELECTING');
  await again();
  assert.deepEqual([state(), addresses()], ['SELECTING', []]);
  // Soon enough after its start to be anywhere between DISCOVER and BOUND.
  await server.start({ pool: [50, 99], lease: 40, t1: 4, t2: 14 });
  for (const ms of [0, 40, 80, 120, 200, 300]) {
    await agent.stop('SIGKILL');
    agent = await host.agent(t);
    await sleep(ms);
    assert.ok(addresses().length <= 1, `${addresses()}`);
  }
  await soon(() => state() === 'BOUND');
  const held = addresses();
  assert.equal(held.length, 1, agent.log());
  await again();
  assert.deepEqual(addresses(), held);
  await server.stop();
  for (const phase of ['RENEWING', 'REBINDING']) {
    await soon(() => state() === phase, 20_000);
    assert.equal(state(), phase);
    await again();
    assert.deepEqual(addresses(), held);
  }
  await server.start({ pool: [50, 99], lease: 600 });
  await soon(() => state() === 'BOUND', 20_000);
  assert.deepEqual([state(), addresses()], ['BOUND', held]);
  const left = Number(ipAddrs(web.pid, 'eth1').find(({ family }) => family === 'inet')?.valid_life_time);
  assert.ok(left > 400, `${left}`);
});
