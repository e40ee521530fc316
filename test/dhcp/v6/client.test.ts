import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { hasProgram, runIn, sniff } from '../../lab.ts';
import {
  client6,
  dnsmasq,
  duid,
  end,
  globals,
  iscDhcpd,
  kea,
  type Lab6,
  lab6,
  messagesIn,
  until,
} from './ground.ts';

const root = process.getuid?.() === 0 ? false : 'needs root';
const needs = (...programs: string[]): string | false =>
  root || (programs.every(hasProgram) ? false : `needs ${programs.join(', ')}`);

/** The DHCPv6 messages that pass while something is done, as tcpdump names them. */
async function heard(lab: Lab6, act: () => Promise<void>): Promise<string[]> {
  return messagesIn(await sniff(lab.server, 's0', 'udp port 547', act));
}

/** Renewal and the like in seconds, which only Kea and ISC dhcpd allow. */
const short = { 'renew-timer': 2, 'rebind-timer': 4, 'preferred-lifetime': 7, 'valid-lifetime': 8 };

// Each has namespaces of its own, and most of the time goes by in waiting.
describe('DHCPv6 clients and real servers', { concurrency: true }, () => {
  test('dnsmasq: four messages, an address with its lifetimes, DNS and NTP, and given back', {
    skip: needs('dnsmasq', 'tcpdump'),
  }, async (t) => {
    const lab = await lab6(t, 'a');
    await dnsmasq(lab, 'fd77::50,fd77::99,64,2m', [
      ...['--dhcp-option=option6:dns-server,[fd77::53]', '--dhcp-option=option6:domain-search,lan.test'],
      '--dhcp-option=option6:ntp-server,[fd77::123]',
    ]);
    const { client, bound, unbound } = client6(t, lab);
    const messages = await heard(lab, async () => {
      client.start();
      await until('bound', () => globals(lab.client).some(({ tentative }) => !tentative));
      const [address] = globals(lab.client);
      assert.match(address?.local ?? '', /^fd77::/);
      assert.equal(address?.prefixlen, 128, 'who else is on the link is told by routers');
      assert.ok((address?.valid_life_time ?? 0) > 100 && (address?.valid_life_time ?? 0) <= 120);
      const leases = readFileSync(`${lab.scratch}/leases`, 'utf8');
      // expiry, iaid, address, name, DUID
      assert.match(
        leases,
        new RegExp(`^\\d+ 7 ${address?.local} web ${duid.toString('hex').replace(/..(?=.)/g, '$&:')}$`, 'm'),
      );
      await client.release();
    });
    assert.deepEqual(messages, ['solicit', 'advertise', 'request', 'reply', 'release', 'reply']);
    assert.deepEqual(
      [bound[0]?.dns, bound[0]?.search, bound[0]?.ntp],
      [['fd77::53'], ['lan.test'], ['fd77::123']],
    );
    assert.deepEqual(globals(lab.client), []);
    assert.equal(unbound[0]?.reason, 'it is given back');
    assert.doesNotMatch(readFileSync(`${lab.scratch}/leases`, 'utf8'), /fd77::/);
  });

  test('dnsmasq: rapid commit', { skip: needs('dnsmasq', 'tcpdump') }, async (t) => {
    const lab = await lab6(t, 'b');
    await dnsmasq(lab, 'fd77::50,fd77::99,64,2m', ['--dhcp-rapid-commit']);
    const { client } = client6(t, lab, { rapidCommit: true });
    const messages = await heard(lab, async () => {
      client.start();
      await until('bound', () => client.status().lease !== undefined);
    });
    assert.deepEqual(messages, ['solicit', 'reply']);
  });

  test('routers say when: M is a lease, O is DNS alone, neither is nothing', {
    skip: needs('dnsmasq', 'tcpdump'),
  }, async (t) => {
    const words = ['--dhcp-option=option6:dns-server,[fd77::53]', '--ra-param=s0,1,60'];
    const cases = [
      ['m', 'fd77::50,fd77::99,64,2m', ['solicit', 'advertise', 'request', 'reply'], 1],
      ['o', '::,constructor:s0,ra-stateless,64,2m', ['information-request', 'reply'], 0],
      ['n', '::,constructor:s0,ra-only,64,2m', [], undefined],
    ] as const;
    const check = async ([suffix, range, expected, addresses]: (typeof cases)[number]): Promise<void> => {
      const lab = await lab6(t, suffix);
      const { client } = client6(t, lab, { when: 'asTold' });
      const messages = await heard(lab, async () => {
        client.start();
        await dnsmasq(lab, range, words);
        if (addresses === undefined) {
          const told = 'routers say that there is nothing to be had by DHCPv6';
          await until('a router is heard', () => client.status().reason === told);
          return;
        }
        await until(`${suffix}: a lease`, () => client.status().lease !== undefined);
        assert.equal(client.status().lease?.addresses.length, addresses);
        assert.deepEqual(client.status().lease?.dns, ['fd77::53']);
      });
      assert.deepEqual(messages, expected);
    };
    await Promise.all(cases.map(check));
  });

  test('Kea: renewed, rebound when it is gone, over at its end; had again when it is back', {
    skip: needs('kea-dhcp6', 'tcpdump'),
  }, async (t) => {
    const lab = await lab6(t, 'k');
    const server = await kea(lab, short);
    const { client, bound, unbound } = client6(t, lab);
    const messages = await heard(lab, async () => {
      client.start();
      await until('renewed twice', () => bound.length >= 3);
      const { lease } = client.status();
      assert.equal(lease?.addresses.length, 1);
      assert.deepEqual([lease?.dns, lease?.search], [['fd77::53'], ['lan.test']]);
      await end(server);
      await until('rebinding', () => client.status().state === 'REBINDING');
      assert.equal(globals(lab.client).length, 1, 'held to its end');
      await until('over', () => unbound.length === 1);
      assert.deepEqual(globals(lab.client), []);
      assert.match(client.status().reason ?? '', /^it was not renewed in time: no server answered/);
      await kea(lab, short);
      await until('had again', () => globals(lab.client).length === 1, 30);
      assert.equal(client.status().reason, undefined);
    });
    const firsts = messages.filter((one, at) => one !== messages[at - 1]);
    assert.deepEqual(firsts.slice(0, 10), [
      ...['solicit', 'advertise', 'request', 'reply', 'renew', 'reply', 'renew', 'reply', 'renew', 'rebind'],
    ]);
    assert.deepEqual(firsts.slice(-4), ['solicit', 'advertise', 'request', 'reply']);
  });

  test('ISC dhcpd: a lease, confirmed after a restart of the container, kept over one of the agent', {
    skip: needs('dhcpd', 'tcpdump'),
  }, async (t) => {
    const lab = await lab6(t, 'i');
    await iscDhcpd(lab, 60);
    const first = client6(t, lab);
    await heard(lab, async () => {
      first.client.start();
      await until('bound', () => first.client.status().lease !== undefined);
    });
    const { lease } = first.client.status();
    assert.ok(lease);
    first.client.stop();
    // The agent comes back: the address is on the interface, and there is nothing to ask.
    const second = client6(t, lab);
    const quiet = await heard(lab, async () => {
      second.client.resume(lease);
      await sleep(500);
    });
    assert.deepEqual([quiet, second.client.status().state], [[], 'BOUND']);
    second.client.stop();
    // The container does: the interface is new.
    runIn(lab.client, 'ip', ['-6', 'addr', 'flush', 'dev', 'eth1', 'scope', 'global']);
    const third = client6(t, lab);
    const confirmed = await heard(lab, async () => {
      third.client.start(lease);
      assert.deepEqual(
        globals(lab.client).map(({ local }) => local),
        [lease.addresses[0]?.cidr.ip],
      );
      await until('confirmed', () => third.client.status().state === 'BOUND');
    });
    assert.deepEqual(confirmed, ['confirm', 'reply']);
  });

  test('an address that another host has is declined, and another one taken', {
    skip: needs('kea-dhcp6', 'tcpdump'),
  }, async (t) => {
    const lab = await lab6(t, 'd');
    await kea(lab, short, 'fd77::50 - fd77::51');
    runIn(lab.server, 'ip', ['addr', 'add', 'fd77::50/64', 'dev', 's0', 'nodad']);
    const { client, unbound } = client6(t, lab);
    const messages = await heard(lab, async () => {
      client.start();
      await until('declined', () => unbound.length === 1);
      await until('another one', () => globals(lab.client).some(({ tentative }) => !tentative), 30);
    });
    assert.match(unbound[0]?.reason ?? '', /^another host on the network has fd77::50/);
    assert.deepEqual(
      globals(lab.client).map(({ local }) => local),
      ['fd77::51'],
    );
    assert.deepEqual(messages.slice(3, 6), ['reply', 'decline', 'reply']);
  });

  test('an address that its own former interface still has is no duplicate', {
    skip: needs('kea-dhcp6', 'tcpdump'),
  }, async (t) => {
    const lab = await lab6(t, 'f');
    await kea(lab, short, 'fd77::50 - fd77::51');
    runIn(lab.server, 'ip', ['addr', 'add', 'fd77::50/64', 'dev', 's0', 'nodad']);
    const [shown] = JSON.parse(runIn(lab.server, 'ip', ['-j', 'link', 'show', 's0']).stdout) as [
      { address: string },
    ];
    const { client, unbound } = client6(t, lab, { formerMacs: new Set([shown.address]) });
    const messages = await heard(lab, async () => {
      client.start();
      await until('settled', () => client.isSettled, 30);
    });
    assert.deepEqual(
      globals(lab.client).map(({ local, tentative }) => [local, tentative]),
      [['fd77::50', undefined]],
    );
    assert.deepEqual([unbound, messages.includes('decline')], [[], false]);
  });

  test('a server that gives other addresses now', { skip: needs('kea-dhcp6', 'tcpdump') }, async (t) => {
    const lab = await lab6(t, 'c');
    const former = await kea(lab, short);
    const { client, bound } = client6(t, lab);
    client.start();
    await until('bound', () => bound.length >= 1);
    await end(former);
    await kea(lab, short, 'fd77::a0 - fd77::a9');
    await until('moved', () => globals(lab.client).some(({ local }) => local.startsWith('fd77::a')), 30);
    await until('the old one is gone', () => globals(lab.client).length === 1, 30);
  });

  test('a container that runs a client of its own keeps its port', { skip: root }, async (t) => {
    const lab = await lab6(t, 'u');
    const own = client6(t, lab);
    own.client.start();
    await until('it asks', () => own.client.status().state === 'SOLICITING');
    const { client } = client6(t, lab);
    client.start();
    await until('it is told', () => /EADDRINUSE/.test(client.status().reason ?? ''));
  });
});
