import assert from 'node:assert/strict';
import { test } from 'node:test';
import { checkReach, type DhcpOptionTexts, parseDhcpOptions } from '../../src/config/attach-dhcp.ts';
import { type AttachOptionTexts, parseAttachment } from '../../src/config/attach-options.ts';

const parse = (texts: DhcpOptionTexts) => parseDhcpOptions(texts, { noGateway: false, secret: 'ab' });

test('what is said to servers of each family', () => {
  const { dhcp, ipv6, dns, sysctls } = parse({
    ...{ dhcp: true, ipv6: 'dhcp', dns: 'container', hostname: 'db', clientId: 'db-1', duid: '00:03:00:01' },
    ...{ vendorClass: 'v', enterprise: '9', userClass: ['a', 'b'], requestAddress: ['10.0.0.9,fd00::9'] },
    ...{ dhcpOption: ['43=01:02'], dhcp6Option: ['17=text'] },
  });
  const both = { hostName: 'db', vendorClass: 'v', userClasses: ['a', 'b'] };
  assert.deepEqual(dhcp, {
    ...both,
    clientId: '0064622d31',
    requestAddress: '10.0.0.9',
    options: { 43: '0102' },
  });
  assert.deepEqual(ipv6, {
    mode: 'dhcp',
    interfaceId: 'stable-privacy',
    dhcp: {
      ...both,
      duid: '00030001',
      enterprise: 9,
      requestAddress: 'fd00::9',
      options: { 17: '74657874' },
    },
  });
  assert.equal(dns, 'container');
  assert.equal(sysctls?.['ipv6/autoconf'], '0');
  assert.equal(sysctls?.['ipv6/stable_secret'], 'ab');
});

test('only what is asked for', () => {
  assert.deepEqual(parse({ dhcp: true }), { dhcp: {} });
  const slaac = parse({ ipv6: 'slaac', interfaceId: 'eui64' });
  assert.deepEqual(slaac.ipv6, { mode: 'slaac', interfaceId: 'eui64' });
  assert.equal(slaac.sysctls?.['ipv6/stable_secret'], undefined);
  const without = parseDhcpOptions({ dhcp: true, ipv6: 'auto' }, { noGateway: true, secret: '' });
  assert.deepEqual([without.dhcp, without.sysctls?.['ipv6/accept_ra_defrtr']], [{ noGateway: true }, '0']);
});

test('what cannot be is refused by name', () => {
  const wrong: readonly (readonly [DhcpOptionTexts, RegExp])[] = [
    [{ ipv6: 'on' }, /--ipv6 "on": it is one of slaac, dhcp, auto/],
    [{ interfaceId: 'eui64' }, /--interface-id "eui64": it goes with --ipv6/],
    [{ dns: 'container' }, /--dns "container": name servers come with --dhcp/],
    [{ ipv6: 'slaac', dns: 'container' }, /--dns "container": name servers come with/],
    [{ hostname: 'db' }, /--hostname "db": no server is asked/],
    [{ ipv6: 'slaac', hostname: 'db' }, /--hostname "db": no server is asked/],
    [{ dhcp: true, hostname: 'a b' }, /--hostname "a b": is not a host name/],
    [{ dhcp: true, clientId: '01' }, /--client-id "01": is too short/],
    [{ dhcp: true, duid: '00:03:00:01' }, /--duid "00:03:00:01": duid goes with DHCPv6/],
    [{ ipv6: 'dhcp', dhcpOption: ['43=a'] }, /--dhcp-option "43": options goes with DHCPv4/],
    [{ dhcp: true, dhcpOption: ['53=01'] }, /--dhcp-option "01": option 53 cannot be set/],
    [{ dhcp: true, dhcpOption: ['43'] }, /--dhcp-option "43": an option is NUMBER=BYTES/],
    [{ dhcp: true, dhcpOption: ['43=a', '43=b'] }, /--dhcp-option "43=b": this option is given twice/],
    [{ dhcp: true, requestAddress: ['x'] }, /--request-address "x": is not an IPv4 address/],
    [{ dhcp: true, requestAddress: ['10.0.0.1', '10.0.0.2'] }, /"10\.0\.0\.2": one of each address family/],
    [{ ipv6: 'dhcp', vendorClass: 'v', enterprise: '-1' }, /--enterprise "-1": it is a number/],
    [{ ipv6: 'dhcp', enterprise: '9' }, /--enterprise "9": enterprise goes with vendorClass/],
  ];
  for (const [texts, why] of wrong) assert.throws(() => parse(texts), why);
  const want = (texts: Partial<AttachOptionTexts>) =>
    parseAttachment({ runtime: 'any', name: 'c' }, { kind: 'dummy' }, { network: 'br1', ...texts });
  assert.throws(
    () => want({ dhcp: true, address: ['10.0.0.2/24'] }),
    /with --dhcp the server says the address/,
  );
  assert.throws(() => want({ dhcp: true, gateway: ['10.0.0.1'] }), /with --dhcp the server says the gateway/);
  assert.throws(() => want({ gateway: ['none'] }), /it goes with --dhcp and --ipv6/);
  const ipvlan = { kind: 'ipvlan', mode: 'l3', uplink: 'eth0' } as const;
  assert.throws(
    () => checkReach(parse({ dhcp: true }), ipvlan),
    /no DHCP server can be reached on a network of kind/,
  );
  assert.throws(() => checkReach(parse({ ipv6: 'auto' }), { kind: 'dummy' }), /no router can be heard/);
});
