/** The client against the servers that are in use, judged by what tcpdump saw. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { cidrs, ipAddrs, ipLink, ipRoutes, run, skipUnless } from '../../lab.ts';
import { programOf, serverPrograms } from '../servers.ts';
import { until } from '../support.ts';
import { clientIn, lan } from './ground.ts';

for (const program of serverPrograms) {
  test(`${program}: all that a lease has, renewed, refused, given back`, async (t) => {
    if (skipUnless(t, 'root', `program:${programOf[program]}`, 'program:tcpdump')) return;
    const net = await lan(t, program);
    const server = await net.server(program);
    // dnsmasq gives no less than two minutes, and a T1 that is a second before T2.
    const times = program === 'dnsmasq' ? { lease: 300, t2: 3 } : { lease: 30, t1: 2, t2: 8 };
    const offered = { pool: [50, 59], mtu: 1400, ...times } as const;
    await server.start({
      ...offered,
      routes: ['10.9.8.0/22 10.77.0.2', '10.6.0.0/16 0.0.0.0', '0.0.0.0/0 10.77.0.1'],
    });
    const guest = await net.guest('c');
    const seen = await net.capture();
    const { client, events, bound } = clientIn(t, guest);
    client.start();
    const address = await bound();
    assert.match(address, /^10\.77\.0\.5\d\/24$/);
    const routes = ipRoutes(guest).map(({ dst, gateway = '', protocol }) => `${dst} ${gateway} ${protocol}`);
    assert.deepEqual(routes.sort(), [
      '10.6.0.0/16  dhcp',
      '10.77.0.0/24  kernel',
      '10.9.8.0/22 10.77.0.2 dhcp',
      'default 10.77.0.1 dhcp',
    ]);
    assert.equal(ipLink(guest, 'eth1')?.mtu, 1400);
    const [addr] = ipAddrs(guest, 'eth1').filter(({ family }) => family === 'inet');
    assert.equal(addr?.broadcast, '10.77.0.255');
    const left = Number(addr?.valid_life_time);
    assert.ok(left > times.lease / 3 && left <= times.lease, `${left}`);
    await until('it is renewed', () => events.length > 1);
    await seen.settled();
    const ip = address.replace('/24', '');
    assert.deepEqual(seen.messages().slice(0, 6), [
      'Discover 0.0.0.0.68 > 255.255.255.255.67',
      `Offer 10.77.0.1.67 > ${ip}.68`,
      'Request 0.0.0.0.68 > 255.255.255.255.67',
      `ACK 10.77.0.1.67 > ${ip}.68`,
      `Request ${ip}.68 > 10.77.0.1.67`,
      `ACK 10.77.0.1.67 > ${ip}.68`,
    ]);
    for (const line of seen.lines().filter((text) => text.includes('.68 > '))) {
      assert.doesNotMatch(line, /bad (udp )?cksum/, line);
      assert.match(line, /Hostname \(12\), length 7: "pwt-web"/);
      assert.match(line, /Client-ID \(61\), length 23/);
    }
    // Three questions of RFC 5227 before its use, none after.
    const probes = seen
      .lines()
      .filter((text) => text.includes(`Request who-has ${ip}`) && text.includes('tell 0.0.0.0'));
    assert.equal(probes.length, 3);
    // Kea and ISC's do not answer a renewal of what they do not know. They refuse what a client that has come from
    // elsewhere asks for: ISC's an address of another network, Kea one that another client has.
    const changed = program === 'dhcpd' ? { network: '10.78.0' } : {};
    if (program === 'kea') {
      const other = clientIn(t, await net.guest('o'));
      other.client.start();
      await other.bound();
      const { lease } = other.client.status();
      client.stop();
      run('ip', ['-n', guest, 'addr', 'flush', 'dev', 'eth1']);
      const moved = clientIn(t, guest);
      if (lease) moved.client.start(lease);
      assert.match(await moved.bound(), /^10\.77\.0\.50\/24$/);
      await seen.settled();
      assert.ok(seen.messages().some((message) => message.startsWith('NACK')));
      return;
    }
    await server.start({ ...offered, ...changed, pool: [80, 89] });
    if (program === 'dhcpd') client.linkup();
    const isNew = (): boolean => cidrs(guest, 'eth1').some((one) => /\.8\d\/24$/.test(one));
    await until(`another address: ${events}`, isNew);
    assert.equal(cidrs(guest, 'eth1').length, 1);
    await seen.settled();
    assert.ok(seen.messages().some((message) => message.startsWith('NACK')));
    const [now = ''] = cidrs(guest, 'eth1');
    client.release();
    await seen.settled();
    assert.equal(
      seen.messages().at(-1),
      `Release ${now.replace('/24', '')}.68 > ${changed.network ?? '10.77.0'}.1.67`,
    );
    assert.deepEqual(cidrs(guest, 'eth1'), []);
  });
}
