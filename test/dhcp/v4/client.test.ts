import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { applyLease, hasLease, removeLease } from '../../../src/dhcp/apply.ts';
import { clientIdOf } from '../../../src/dhcp/identity.ts';
import { Dhcp4Client, leaseClock } from '../../../src/dhcp/v4/client.ts';
import type { ClientIdentity } from '../../../src/dhcp/v4/requests.ts';
import { Netns } from '../../../src/kernel/netns.ts';
import type { Lease } from '../../../src/model/lease.ts';
import { cidrs, ipLink, ipRoutes, run, runIn } from '../../lab.ts';
import { dhcpLab, until } from '../support.ts';

function clientIn(t: TestContext, netns: string, given: Partial<ClientIdentity> = {}) {
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
      assert.ok(hasLease(guest, 'eth1', lease));
      events.push(`bind ${lease.addresses[0]?.cidr.ip}`);
      was = lease;
    },
    unbind: (guest, lease, reason) => {
      removeLease(guest, 'eth1', lease);
      events.push(`unbind ${reason}`);
      was = undefined;
    },
    onChange: () => {},
  });
  t.after(() => client.stop());
  return { client, events };
}

test('a lease of dnsmasq is got, renewed at T1 by unicast, and given back', async (t) => {
  const lab = await dhcpLab(t, ['--dhcp-option-force=58,2', '--dhcp-option-force=59,20']);
  run('ip', ['-n', lab.client, 'link', 'set', 'eth1', 'up']);
  const { client, events } = clientIn(t, lab.client);
  const began = performance.now();
  client.start();
  await until('bound', () => client.status().state === 'BOUND');
  console.log('ms', performance.now() - began, JSON.stringify(client.status()));
  const [address = ''] = cidrs(lab.client, 'eth1');
  assert.match(address, /^10\.77\.0\.\d+\/24$/);
  assert.deepEqual(
    ipRoutes(lab.client).map(({ dst, gateway, protocol }) => [dst, gateway, protocol]),
    [
      ['default', '10.77.0.1', 'dhcp'],
      ['10.77.0.0/24', undefined, 'kernel'],
    ],
  );
  console.log(lab.leases());
  await until('renewed', () => events.length === 2);
  console.log(events);
  client.release();
  await until('released', () => lab.leases().length === 0);
  assert.deepEqual(cidrs(lab.client, 'eth1'), []);
  console.log(runIn(lab.client, 'ss', ['-anp'], { expect: 'any' }).stdout);
});
