import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { classifyHostif, parsePipework, parsePkey, parseVid } from '../../src/config/pipework.ts';
import { dhcpSpecOf } from '../../src/config/pipework-dhcp.ts';
import { PipeworkRefusal, refusals } from '../../src/config/pipework-messages.ts';
import { help, usage } from '../../src/config/pipework-usage.ts';
import { PipewrightError } from '../../src/errors.ts';

/** The links that "exist" in these tests. */
const links = ['eth0', 'lan0', 'ib5', 'route0', 'dummy0', 'br9'];
const host = { linkExists: (name: string) => links.includes(name) };
const parse = (...argv: string[]) => parsePipework(argv, host);
const plain = { do: 'attach', directPhys: false, once: false, stay: false, firewall: true };
const v4 = (ip: string, prefixLen: number) => ({ family: 4, ip, prefixLen });
const v6 = (ip: string, prefixLen: number) => ({ family: 6, ip, prefixLen });
const address = { how: 'static', addrs: [{ cidr: v4('10.0.0.2', 24) }] };

describe('lines of the original', () => {
  const rows: { line: string | string[]; want: object }[] = [
    { line: 'br1 web 10.0.0.2/24', want: { ...plain, hostif: 'br1', guest: 'web', address } },
    {
      line: 'br0 test1 10.10.101.150/24@10.10.101.254',
      want: {
        ...plain,
        hostif: 'br0',
        guest: 'test1',
        address: {
          how: 'static',
          addrs: [{ cidr: v4('10.10.101.150', 24), gateway: { family: 4, ip: '10.10.101.254' } }],
        },
      },
    },
    {
      line: 'br1 -i eth7 -l app1 -a 4 web 10.0.0.2/24',
      want: {
        ...plain,
        hostif: 'br1',
        guest: 'web',
        ifname: 'eth7',
        hostIfname: 'app1',
        address: { ...address, family: 4 },
      },
    },
    {
      line: '--direct-phys eth0 -i cont0 web 10.0.0.2/24',
      want: { ...plain, directPhys: true, hostif: 'eth0', guest: 'web', ifname: 'cont0', address },
    },
    {
      line: 'mac:02:00:00:43:00:AA web 10.0.0.2/24',
      want: { ...plain, hostif: 'mac:02:00:00:43:00:AA', byMac: '02:00:00:43:00:aa', guest: 'web', address },
    },
    {
      line: 'ovs0 web 10.0.0.2/24 @100',
      want: { ...plain, hostif: 'ovs0', guest: 'web', address, vlanText: '100' },
    },
    {
      line: 'ovs0 web 10.0.0.2/24 02:00:00:00:00:AB@20@30 ignored words',
      want: { ...plain, hostif: 'ovs0', guest: 'web', address, mac: '02:00:00:00:00:ab', vlanText: '20' },
    },
    {
      line: 'br1 web 10.0.0.2/24 26:2e:71:98:60:8f',
      want: { ...plain, hostif: 'br1', guest: 'web', address, mac: '26:2e:71:98:60:8f' },
    },
    {
      line: 'br1 web 10.0.0.2/24 U:myhost.foo.com',
      want: { ...plain, hostif: 'br1', guest: 'web', address, mac: '02:72:6c:cd:9b:8d' },
    },
    {
      line: 'br1 web 10.0.0.2/24 U:',
      want: { ...plain, hostif: 'br1', guest: 'web', address, mac: '02:68:b3:29:da:98' },
    },
    {
      line: 'ovs0 web 10.0.0.2/24 U:a@7',
      want: { ...plain, hostif: 'ovs0', guest: 'web', address, mac: '02:60:b7:25:f1:0c', vlanText: '7' },
    },
    { line: 'eth0 web 10.0.0.2/24 mac@', want: { refused: /"mac" is not a MAC address/ } },
    { line: 'eth0 web 10.0.0.2/24 @', want: { ...plain, hostif: 'eth0', guest: 'web', address } },
    {
      line: 'lan0 web 0/0',
      want: { ...plain, hostif: 'lan0', guest: 'web', address: { how: 'static', addrs: [] } },
    },
    {
      line: 'br1 web 0.0.0.0/0',
      want: { ...plain, hostif: 'br1', guest: 'web', address: { how: 'static', addrs: [] } },
    },
    {
      line: 'br1 web 0/0@10.9.9.9',
      want: {
        ...plain,
        hostif: 'br1',
        guest: 'web',
        address: { how: 'static', addrs: [{ gateway: { family: 4, ip: '10.9.9.9' } }] },
      },
    },
    {
      line: 'br1 web 10.3.0.5/32@10.3.9.9@junk',
      want: {
        ...plain,
        hostif: 'br1',
        guest: 'web',
        address: {
          how: 'static',
          addrs: [{ cidr: v4('10.3.0.5', 32), gateway: { family: 4, ip: '10.3.9.9' } }],
        },
      },
    },
    { line: 'br1 web 10.0.0.2/24@', want: { ...plain, hostif: 'br1', guest: 'web', address } },
    {
      line: ['br1', '-i', '', '-l', '', 'web', '10.0.0.2/24', ''],
      want: { ...plain, hostif: 'br1', guest: 'web', address },
    },
    {
      line: 'br1 -a 6 web fd00::2/64@fe80::1',
      want: {
        ...plain,
        hostif: 'br1',
        guest: 'web',
        address: {
          how: 'static',
          family: 6,
          addrs: [{ cidr: v6('fd00::2', 64), gateway: { family: 6, ip: 'fe80::1' } }],
        },
      },
    },
    { line: 'dummy web 10.0.0.2/24', want: { ...plain, hostif: 'dummy', guest: 'web', address } },
    { line: 'dummyX web 10.0.0.2/24', want: { ...plain, hostif: 'dummyX', guest: 'web', address } },
    {
      line: 'ib5 web 10.0.0.2/24 @8001',
      want: { ...plain, hostif: 'ib5', guest: 'web', address, vlanText: '8001' },
    },
    // What exists is what it is, not what its name begins with.
    { line: 'route0 web 10.0.0.2/24', want: { ...plain, hostif: 'route0', guest: 'web', address } },
    { line: 'dummy0 web 10.0.0.2/24', want: { ...plain, hostif: 'dummy0', guest: 'web', address } },
    ...(['dhcp', 'udhcpc', 'udhcpc-f', 'dhclient', 'dhclient-f', 'dhcpcd'] as const).flatMap((client) => [
      {
        line: `br1 web ${client}`,
        want: { ...plain, hostif: 'br1', guest: 'web', address: { how: 'dhcp', client, options: [] } },
      },
      {
        line: ['br1', '-a', '6', 'web', `${client}: -t 3  -x hostname:a\t`, '02:00:00:00:00:01'],
        want: {
          ...plain,
          hostif: 'br1',
          guest: 'web',
          address: { how: 'dhcp', client, options: ['-t', '3', '-x', 'hostname:a'] },
          mac: '02:00:00:00:00:01',
        },
      },
    ]),
    {
      line: 'route web add 10.5.0.0/16 via 10.0.0.1',
      want: {
        do: 'passthrough',
        program: 'ip',
        args: ['route', 'add', '10.5.0.0/16', 'via', '10.0.0.1'],
        guest: 'web',
        hostif: 'route',
      },
    },
    {
      line: 'routeXYZ -i eth1 -a any -l x web show --help',
      want: {
        do: 'passthrough',
        program: 'ip',
        args: ['route', 'show', '--help'],
        guest: 'web',
        hostif: 'routeXYZ',
      },
    },
    {
      line: 'rule web add from 172.19.0.2/32 table 1',
      want: {
        do: 'passthrough',
        program: 'ip',
        args: ['rule', 'add', 'from', '172.19.0.2/32', 'table', '1'],
        guest: 'web',
        hostif: 'rule',
      },
    },
    {
      line: ['tcp0', 'web', 'qdisc', 'show', '', '-s'],
      want: {
        do: 'passthrough',
        program: 'tc',
        args: ['qdisc', 'show', '', '-s'],
        guest: 'web',
        hostif: 'tcp0',
      },
    },
    { line: '--wait', want: { do: 'wait', ifname: 'eth1' } },
    { line: '--wait -i eth2', want: { do: 'wait', ifname: 'eth2' } },
    { line: '--wait eth2', want: { do: 'wait', ifname: 'eth1' } },
    { line: [], want: { do: 'usage', exitCode: 1 } },
    { line: 'br1', want: { do: 'usage', exitCode: 1 } },
    { line: 'br1 web', want: { do: 'usage', exitCode: 1 } },
    { line: 'route web', want: { do: 'usage', exitCode: 1 } },
    { line: ['br1', 'web', ''], want: { do: 'usage', exitCode: 1 } },
    { line: ['', '', ''], want: { do: 'usage', exitCode: 1 } },
  ];
  for (const { line, want } of rows) {
    const argv = typeof line === 'string' ? line.split(' ') : line;
    test(`pipework ${JSON.stringify(argv)}`, () => {
      if ('refused' in want) assert.throws(() => parse(...argv), { message: want.refused as RegExp });
      else assert.deepEqual(parse(...argv), want);
    });
  }
});

describe('extensions', () => {
  const rows: { line: string; want: object }[] = [
    { line: '-h', want: { do: 'usage', exitCode: 0 } },
    { line: '--help', want: { do: 'usage', exitCode: 0 } },
    { line: 'br1 --help web', want: { do: 'usage', exitCode: 0 } },
    { line: '--version', want: { do: 'version' } },
    { line: '-i eth3 --wait', want: { do: 'wait', ifname: 'eth3' } },
    {
      line: '-l x -i y br1 -a 4 --once --no-firewall web 10.0.0.2/24',
      want: {
        ...plain,
        once: true,
        firewall: false,
        hostif: 'br1',
        guest: 'web',
        ifname: 'y',
        hostIfname: 'x',
        address: { ...address, family: 4 },
      },
    },
    {
      line: 'eth0 --direct-phys web 10.0.0.2/24',
      want: { ...plain, directPhys: true, hostif: 'eth0', guest: 'web', address },
    },
    {
      line: 'br1 web FD00:0:0:0::2/64',
      want: {
        ...plain,
        hostif: 'br1',
        guest: 'web',
        address: { how: 'static', addrs: [{ cidr: v6('fd00::2', 64) }] },
      },
    },
    {
      line: 'br1 web 10.0.0.2/24@10.0.0.1,fd00::2/64@fd00::1,10.0.1.2/24',
      want: {
        ...plain,
        hostif: 'br1',
        guest: 'web',
        address: {
          how: 'static',
          addrs: [
            { cidr: v4('10.0.0.2', 24), gateway: { family: 4, ip: '10.0.0.1' } },
            { cidr: v6('fd00::2', 64), gateway: { family: 6, ip: 'fd00::1' } },
            { cidr: v4('10.0.1.2', 24) },
          ],
        },
      },
    },
    {
      line: 'br1 web ::/0',
      want: { ...plain, hostif: 'br1', guest: 'web', address: { how: 'static', addrs: [] } },
    },
    {
      line: 'br1 web 0/0@fe80::1',
      want: {
        ...plain,
        hostif: 'br1',
        guest: 'web',
        address: { how: 'static', addrs: [{ gateway: { family: 6, ip: 'fe80::1' } }] },
      },
    },
    {
      line: 'br1 web 127.0.0.2/8,240.0.0.1/4,10.255.255.255/8',
      want: {
        ...plain,
        hostif: 'br1',
        guest: 'web',
        address: {
          how: 'static',
          addrs: [
            { cidr: v4('127.0.0.2', 8) },
            { cidr: v4('240.0.0.1', 4) },
            { cidr: v4('10.255.255.255', 8) },
          ],
        },
      },
    },
  ];
  for (const { line, want } of rows) {
    test(`pipework ${line}`, () => {
      assert.deepEqual(parse(...line.split(' ')), want);
    });
  }
});

/** Command lines that are wrong, each with what its one line must say. */
const malformed: [line: string | string[], says: RegExp][] = [
  // Host interfaces.
  ['nosuch web 10/8', /^I do not know how to setup interface nosuch\.$/],
  ['eth9 web 10.0.0.2/24', /setup interface eth9\./],
  ['eth0:1 web 10.0.0.2/24', /setup interface eth0:1\./],
  ['Br1 web 10.0.0.2/24', /setup interface Br1\./],
  ['../eth0 web 10.0.0.2/24', /setup interface/],
  ['/sys web 10.0.0.2/24', /setup interface/],
  ['$(reboot) web 10.0.0.2/24', /setup interface \$\(reboot\)/],
  ['`id` web 10.0.0.2/24', /setup interface/],
  ['é web 10.0.0.2/24', /setup interface é/],
  [['', 'web', '10.0.0.2/24'], /setup interface \.$/],
  [['eth0\n', 'web', '10.0.0.2/24'], /setup interface eth0\\u\{a\}\./],
  [['eth0 ', 'web', '10.0.0.2/24'], /setup interface/],
  ['br12345678901234 web 10.0.0.2/24', /"br12345678901234" is longer than 15 bytes/],
  ['ovs-of-a-name-too-long web 10.0.0.2/24', /longer than 15 bytes/],
  ['brüüüüüüü web 10.0.0.2/24', /longer than 15 bytes/],
  ['br/../x web 10.0.0.2/24', /contains a slash/],
  ['br:1 web 10.0.0.2/24', /contains a colon/],
  ['br%d web 10.0.0.2/24', /contains a percent sign/],
  [['br 1', 'web', '10.0.0.2/24'], /white space/],
  [['br\0', 'web', '10.0.0.2/24'], /control character/],
  [['br\ufffd', 'web', '10.0.0.2/24'], /UTF-8/],
  ['dummy/1 web 10.0.0.2/24', /contains a slash/],
  ['mac:zz web 10.0.0.2/24', /^Mac address zz specified for interface but no host interface matched\.$/],
  ['mac: web 10.0.0.2/24', /no host interface matched/],
  ['mac:02:00:00:00:00 web 10.0.0.2/24', /no host interface matched/],
  ['mac:00:00:00:00:00:00 web 10.0.0.2/24', /no host interface matched/],
  ['mac:ff:ff:ff:ff:ff:ff web 10.0.0.2/24', /no host interface matched/],
  // Options.
  ['--frobnicate br1 web 10.0.0.2/24', /Unknown option "--frobnicate"/],
  ['br1 -x web 10.0.0.2/24', /Unknown option "-x"/],
  ['br1 - web 10.0.0.2/24', /Unknown option "-"/],
  ['br1 -- web 10.0.0.2/24', /Unknown option "--"/],
  ['br1 --direct web 10.0.0.2/24', /Unknown option/],
  ['br1 -i=eth2 web 10.0.0.2/24', /Unknown option/],
  ['br1 -ieth2 web 10.0.0.2/24', /Unknown option/],
  [['br1', '-\u001b[31m', 'web'], /Unknown option "-\\u\{1b\}\[31m"/],
  ['br1 -i', /-i needs a value/],
  ['--wait -i', /-i needs a value/],
  ['br1 -l', /-l needs a value/],
  ['br1 -a', /-a needs a value/],
  ['br1 -i a -i b web 10.0.0.2/24', /-i is given twice/],
  ['br1 -a 4 -a 6 web 10.0.0.2/24', /-a is given twice/],
  ['br1 -a inet6 web fd00::2/64', /"inet6" is not an address family/],
  ['br1 -a ip web 10.0.0.2/24', /not an address family/],
  ['br1 -a 5 web 10.0.0.2/24', /not an address family/],
  ['br1 -a 46 web 10.0.0.2/24', /not an address family/],
  [['br1', '-a', '', 'web', '10.0.0.2/24'], /"" is not an address family/],
  ['br1 -a six web dhcp', /not an address family/],
  ['br1 -i sixteen-bytes-xx web 10.0.0.2/24', /longer than 15 bytes/],
  ['br1 -i eth/1 web 10.0.0.2/24', /contains a slash/],
  ['br1 -i .. web 10.0.0.2/24', /reserved/],
  ['br1 -i all web 10.0.0.2/24', /reserved/],
  ['br1 -i eth1:0 web 10.0.0.2/24', /contains a colon/],
  ['br1 -i eth%d web 10.0.0.2/24', /percent/],
  [['br1', '-i', 'eth 1', 'web', '10.0.0.2/24'], /white space/],
  [['br1', '-i', 'eth\n1', 'web', '10.0.0.2/24'], /"eth\\u\{a\}1" contains/],
  [['br1', '-i', 'e\0', 'web', '10.0.0.2/24'], /control/],
  [['br1', '-i', '\u202e', 'web', '10.0.0.2/24'], /control/],
  ['br1 -l much-too-long-a-name web 10.0.0.2/24', /longer than 15 bytes/],
  ['br1 -l a/b web 10.0.0.2/24', /slash/],
  [['br1', '-l', ' ', 'web', '10.0.0.2/24'], /white space/],
  ['--wait -i much-too-long-a-name', /longer than 15 bytes/],
  ['--wait -i ../../x', /slash/],
  // Addresses.
  ['br1 web 10.0.0.2/33', /"10\.0\.0\.2\/33" is not an IP address with its prefix length/],
  ['br1 web 10.0.0.2/-1', /not an IP address/],
  ['br1 web 10.0.0.2/', /not an IP address/],
  ['br1 web 10.0.0.2/024', /not an IP address/],
  ['br1 web 10.0.0.2/24/24', /not an IP address/],
  ['br1 web 10.0.0.2/255.255.255.0', /not an IP address/],
  ['br1 web 10.0.0.2/0x18', /not an IP address/],
  ['br1 web 10.0.0.2/24.0', /not an IP address/],
  ['br1 web 10.0.0/24', /not an IP address/],
  ['br1 web 10/8', /not an IP address/],
  ['br1 web 10.0.0.256/24', /not an IP address/],
  ['br1 web 10.0.0.2.1/24', /not an IP address/],
  ['br1 web 010.0.0.2/24', /not an IP address/],
  ['br1 web 0x0a.0.0.2/24', /not an IP address/],
  ['br1 web 167772162/24', /not an IP address/],
  ['br1 web 10.0.0.-2/24', /not an IP address/],
  ['br1 web ١٠.0.0.2/24', /not an IP address/],
  ['br1 web bogus/24', /not an IP address/],
  ['br1 web /24', /not an IP address/],
  ['br1 web /', /not an IP address/],
  ['br1 web 0/1', /not an IP address/],
  ['br1 web 10.0.0.2;reboot/24', /not an IP address/],
  ['br1 web $(id)/24', /not an IP address/],
  [['br1', 'web', '10.0.0.2 /24'], /not an IP address/],
  [['br1', 'web', ' 10.0.0.2/24'], /not an IP address/],
  [['br1', 'web', '10.0.0.2/24\n'], /not an IP address/],
  [['br1', 'web', '10.0.0.2\0/24'], /not an IP address/],
  ['br1 web fd00::2/129', /not an IP address/],
  ['br1 web fd00::2::3/64', /not an IP address/],
  ['br1 web fd00:0:0:0:0:0:0:0:2/64', /not an IP address/],
  ['br1 web fg00::2/64', /not an IP address/],
  ['br1 web fd00::12345/64', /not an IP address/],
  ['br1 web fe80::1%eth0/64', /not an IP address/],
  ['br1 web [fd00::2]/64', /not an IP address/],
  ['br1 web 10.0.0.1@10.0.0.254/24', /not an IP address/],
  ['br1 web 10.0.0.2/24,', /"" is not an IP address/],
  ['br1 web ,10.0.0.2/24', /"" is not an IP address/],
  ['br1 web 10.0.0.2/24,,10.0.0.3/24', /"" is not an IP address/],
  ['br1 web dhcp/24', /not an IP address/],
  ['br1 web 224.0.0.1/24', /224\.0\.0\.1\/24 cannot be an interface's address: it is a multicast address/],
  ['br1 web 239.1.1.1/8', /multicast/],
  ['br1 web ff02::1/64', /multicast/],
  ['br1 web 255.255.255.255/32', /broadcast address/],
  ['br1 web 0.0.0.0/24', /unspecified/],
  ['br1 web ::/64', /unspecified/],
  ['br1 web ::1/128', /loopback/],
  ['br1 web 10.0.0.2/24,10.0.0.2/16', /10\.0\.0\.2 is given twice/],
  ['br1 web fd00::2/64,FD00:0::2/64', /fd00::2 is given twice/],
  ['br1 web 0/0,10.0.0.2/24', /no address and for an address/],
  ['br1 web 0/0,0/0', /no address and for an address/],
  // Gateways.
  ['br1 web 10.0.0.2/24@bogus', /"bogus" is not the IP address of a gateway/],
  ['br1 web 10.0.0.2/24@10.0.0.1/24', /not the IP address of a gateway/],
  ['br1 web 10.0.0.2/24@10.0.0', /not the IP address of a gateway/],
  ['br1 web 10.0.0.2/24@fe80::1%eth1', /not the IP address of a gateway/],
  ['br1 web 10.0.0.2/24@0.0.0.0', /cannot be a gateway/],
  ['br1 web 10.0.0.2/24@224.0.0.1', /cannot be a gateway/],
  ['br1 web 10.0.0.2/24@255.255.255.255', /cannot be a gateway/],
  ['br1 web 10.0.0.2/24@10.0.0.255', /broadcast address of 10\.0\.0\.2\/24/],
  ['br1 web fd00::2/64@ff02::1', /cannot be a gateway/],
  ['br1 web 10.0.0.2/24@10.0.0.2', /interface's own address/],
  ['br1 web 10.0.0.2/24@10.0.0.3,10.0.0.3/24', /interface's own address/],
  ['br1 web 10.0.0.2/24@fd00::1', /another family/],
  ['br1 web fd00::2/64@10.0.0.1', /another family/],
  ['br1 web 0.0.0.0/0@fd00::1', /another family/],
  ['br1 -a 6 web 0/0@10.0.0.1', /another family/],
  ['br1 web 10.0.0.2/24@10.0.0.1,10.0.1.2/24@10.0.1.1', /10\.0\.1\.1 is a second one for IPv4/],
  ['br1 -a 4 web fd00::2/64', /not of the family that -a 4/],
  ['br1 -a 6 web 10.0.0.2/24', /not of the family that -a 6/],
  ['br1 -a 6 web fd00::2/64,10.0.0.2/24', /not of the family/],
  ['br1 -a 6 web 0.0.0.0/0', /not of the family/],
  [['br1', 'web', 'udhcpc:-n\0'], /contain a NUL/],
  // MAC addresses and VLANs.
  ['br1 web 10.0.0.2/24 zz', /"zz" is not a MAC address/],
  ['br1 web 10.0.0.2/24 02:00:00:00:00', /not a MAC address/],
  ['br1 web 10.0.0.2/24 02:00:00:00:00:0g', /not a MAC address/],
  ['br1 web 10.0.0.2/24 02:00:00:00:00:01:02', /not a MAC address/],
  ['br1 web 10.0.0.2/24 02-00-00-00-00-01', /not a MAC address/],
  ['br1 web 10.0.0.2/24 020000000001', /not a MAC address/],
  ['br1 web 10.0.0.2/24 u:host', /not a MAC address/],
  [['br1', 'web', '10.0.0.2/24', '02:00:00:00:00:01\n'], /not a MAC address/],
  ['br1 web 10.0.0.2/24 01:00:5e:00:00:01', /multicast or zero/],
  ['br1 web 10.0.0.2/24 FF:ff:ff:ff:ff:ff', /multicast or zero/],
  ['br1 web 10.0.0.2/24 00:00:00:00:00:00', /multicast or zero/],
  ['br1 web 10.0.0.2/24 @10', /^VLAN configuration currently unsupported for Linux bridge\.$/],
  ['--bridge-vlan br1 web 10.0.0.2/24 @4095', /"4095" is not a VLAN id from 1 to 4094\.$/],
  ['br1 web 10.0.0.2/24 02:00:00:00:00:01@foo', /unsupported for Linux bridge/],
  ['ovs0 web 10.0.0.2/24 @0', /"0" is not a VLAN id from 1 to 4094/],
  ['ovs0 web 10.0.0.2/24 @4095', /not a VLAN id/],
  ['ovs0 web 10.0.0.2/24 @-1', /not a VLAN id/],
  ['ovs0 web 10.0.0.2/24 @0x10', /not a VLAN id/],
  ['ovs0 web 10.0.0.2/24 @010', /not a VLAN id/],
  ['ovs0 web 10.0.0.2/24 @foo', /not a VLAN id/],
  ['ovs0 web 10.0.0.2/24 @1,2', /not a VLAN id/],
  ['ovs0 web 10.0.0.2/24 @1;id', /not a VLAN id/],
  [['ovs0', 'web', '10.0.0.2/24', '@ 1'], /not a VLAN id/],
  ['ovs0 web 10.0.0.2/24 U:a@b', /"b" is not a VLAN id/],
  ['eth0 web 10.0.0.2/24 @foo', /not a VLAN id/],
  ['eth0 web 10.0.0.2/24 @0', /not a VLAN id/],
  ['ib5 web 10.0.0.2/24 @8000', /not a VLAN id/],
  ['ib5 web 10.0.0.2/24 @12345', /not a VLAN id/],
  [['tc', 'web', 'qdisc\0'], /contains a NUL/],
];

describe('malformed lines', () => {
  assert.ok(malformed.length >= 110, `${malformed.length}`);
  for (const [line, says] of malformed) {
    const argv = typeof line === 'string' ? line.split(' ') : line;
    test(`pipework ${JSON.stringify(argv)}`, () => {
      const error = refusalOf(argv);
      assert.equal(error.lines.length, 1);
      assert.equal(error.exitCode, 1);
      assert.equal(error.stream, 'stderr');
      assert.match(error.message, says);
      for (const text of error.lines) assertOneLine(text);
    });
  }

  for (const word of [
    '10.0.0.1',
    'bogus',
    'dhcpcd-f',
    'dhcp-f',
    'udhcpc6',
    '-i',
    '10.0.0.1@10.0.0.2',
    'a,b',
  ]) {
    test(`no netmask: ${word}`, () => {
      assert.deepEqual(refusalOf(['br1', 'web', word]).lines, [
        'The IP address should include a netmask.',
        `Maybe you meant ${word}/24 ?`,
      ]);
    });
  }

  test('no netmask in a list: the address that lacks it is named', () => {
    assert.equal(refusalOf(['br1', 'web', '10.0.0.1/24,10.0.0.2']).lines[1], 'Maybe you meant 10.0.0.2/24 ?');
  });

  for (const guest of ['', 'a b', '../x', 'a\0', 'a\nb', '$(id)']) {
    test(`container name ${JSON.stringify(guest)}`, () => {
      for (const argv of [
        ['br1', guest, '10.0.0.2/24'],
        ['route', guest, 'show'],
      ]) {
        assert.throws(
          () => parse(...argv),
          (error) => {
            assert.ok(error instanceof PipewrightError);
            assert.equal(error.code, 'BAD_ARGUMENT');
            assertOneLine(error.message);
            return true;
          },
        );
      }
    });
  }
});

describe('random argument lists', () => {
  const word = fc.oneof(
    fc.constantFrom(
      ...['br1', 'ovs0', 'eth0', 'lan0', 'route', 'tc', 'dummy', 'mac:', 'web', '-i', '-l', '-a', '4', '6'],
    ),
    fc.constantFrom(
      ...[
        '--wait',
        '--once',
        '--direct-phys',
        '-',
        '--',
        'dhcp:',
        '0/0',
        '10.0.0.2/24',
        'fd00::2/64@',
        ',',
        '',
      ],
    ),
    fc.constantFrom(
      ...['@10', '@', 'U:', '02:00:00:00:00:01', '__proto__', 'constructor/', 'toString@x/', '\0', '\n'],
    ),
    fc.string({ unit: 'binary', maxLength: 20 }),
    fc.string({ unit: fc.constantFrom(...'0123456789abcdef./:@,'), maxLength: 30 }),
    fc.string({
      unit: fc.integer({ min: 0, max: 0xffff }).map((code) => String.fromCharCode(code)),
      maxLength: 9,
    }),
  );
  const headed = fc.tuple(
    fc.constantFrom('br1', 'ovs0', 'eth0', 'mac:02:00:00:00:00:01'),
    fc.constantFrom('web', 'pid:1', 'netns:x'),
    fc.oneof(
      word,
      fc.tuple(word, word, word).map((parts) => parts.join('/').concat('@')),
    ),
    word,
  );

  test('give a command, or one clear line', () => {
    fc.assert(
      fc.property(fc.oneof(fc.array(word, { maxLength: 7 }), headed), (argv) => {
        try {
          assert.ok(['usage', 'version', 'wait', 'attach', 'passthrough'].includes(parse(...argv).do));
        } catch (error) {
          if (error instanceof PipeworkRefusal) {
            assert.ok(
              error.lines.length === 1 || error.lines[0] === 'The IP address should include a netmask.',
            );
            for (const line of error.lines) assertOneLine(line);
          } else if (error instanceof PipewrightError) {
            assert.equal(error.code, 'BAD_ARGUMENT');
            assertOneLine(error.message);
          } else throw error;
        }
      }),
      { numRuns: 5000 },
    );
  });
});

test('the environment has no say', () => {
  const names = ['WAIT', 'GATEWAY', 'DHCP_CLIENT', 'LOCAL_IFNAME', 'DIRECT_PHYS', 'DHCP_OPTIONS'];
  const clean = parse('br1', 'web', '10.0.0.2/24');
  for (const name of names) process.env[name] = '1';
  try {
    assert.deepEqual(parse('br1', 'web', '10.0.0.2/24'), clean);
  } finally {
    for (const name of names) delete process.env[name];
  }
});

test('names of links that do not exist are told apart by their beginning', () => {
  const kinds = ['br', 'ovsX', 'routeXYZ', 'rule1', 'tcp0', 'dummy'].map(classifyHostif);
  assert.deepEqual(kinds, ['bridge', 'ovs', 'route', 'rule', 'tc', 'dummy']);
  assert.throws(() => classifyHostif('eth0'), { message: 'I do not know how to setup interface eth0.' });
});

test('a VLAN id is decimal, a partition key hexadecimal', () => {
  assert.equal(parseVid('10'), 10);
  assert.equal(parsePkey('10'), 16);
  assert.equal(parsePkey('0x8001'), 0x8001);
  assert.throws(() => parseVid('8001'), PipeworkRefusal);
  assert.throws(() => parsePkey('0'), PipeworkRefusal);
});

test('what the original says of a repeated command goes to its standard output', () => {
  const { lines, stream, exitCode } = refusals.linkExistsAndIsUp('veth1pl42');
  assert.deepEqual(
    { lines, stream, exitCode },
    { lines: ['Link veth1pl42 exists and is up'], stream: 'stdout', exitCode: 1 },
  );
});

test('usage begins with Syntax: and has the eight forms', () => {
  const [first, ...forms] = usage.split('\n');
  assert.equal(first, 'Syntax:');
  assert.equal(forms.length, 8);
  assert.ok(forms.every((form) => form.startsWith('pipework ')));
  assert.ok(help.startsWith(usage));
  assert.ok(
    help
      .split('\n')
      .slice(9)
      .every((line) => line.length <= 100),
  );
});

function refusalOf(argv: readonly string[]): PipeworkRefusal {
  try {
    parse(...argv);
  } catch (error) {
    if (error instanceof PipeworkRefusal) return error;
    throw error;
  }
  throw new Error(`accepted: ${JSON.stringify(argv)}`);
}

function assertOneLine(message: string): void {
  assert.doesNotMatch(message, /[\p{Cc}\p{Cs}]/u);
  assert.ok(message.length > 0 && message.length < 400, message);
}

describe('the options of dhcp', () => {
  const cases: [string, object][] = [
    ['', {}],
    ['-f -q -n -t 3 -T 5 -O mtu', {}],
    ['-r 10.0.0.9 -F db -V v', { requestAddress: '10.0.0.9', hostName: 'db', vendorClass: 'v' }],
    ['-x hostname:a -x clientid:0102AB', { hostName: 'a', clientId: '0102ab' }],
  ];
  for (const [text, want] of cases) {
    test(text === '' ? 'none' : text, () =>
      assert.deepEqual(dhcpSpecOf(text.split(' ').filter(Boolean)), want),
    );
  }
  for (const text of [
    '-s /x',
    '-r fd00::1',
    '-r',
    'x',
    '-x 0x2b:01',
    '-x clientid:zz',
    '-F a/b',
    '-i eth0',
  ]) {
    test(`${text} is refused`, () => assert.throws(() => dhcpSpecOf(text.split(' ')), PipeworkRefusal));
  }
});
