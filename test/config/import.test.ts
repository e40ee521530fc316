import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { importPipework } from '../../src/config/import.ts';
import { parseTopology } from '../../src/config/topology/load.ts';
import type { Topology } from '../../src/model/topology.ts';

const read = (yaml: string): Topology => parseTopology([{ file: 'imported', text: yaml }]);
const body = (text: string): string =>
  importPipework(text)
    .yaml.replace(/^version: 1\n\n?/, '')
    .trimEnd();

describe('lines that are taken over', () => {
  const lan = 'networks:\n  br1:\n    kind: bridge\n    bridge: br1\n\nattachments:\n';
  const web = '  - container: web\n    network: br1\n    addresses: 10.0.0.2/24';
  const line = 'pipework br1 web 10.0.0.2/24';
  const rows: { name: string; text: string; want: string }[] = [
    { name: 'one line', text: line, want: lan + web },
    { name: 'a path and sudo', text: `sudo -E /usr/local/bin/${line}`, want: lan + web },
    { name: 'continuation lines', text: 'pipework br1 \\\n  web \\\n  10.0.0.2/24\n', want: lan + web },
    { name: 'quotes', text: `pipework "br1" 'w'eb 10.0.0.2\\/24`, want: lan + web },
    {
      name: 'after &&, before a redirection',
      text: `true && ${line} >/dev/null 2>&1 || exit 1`,
      want: lan + web,
    },
    { name: 'with variables for it alone', text: `FOO=1 ${line}`, want: lan + web },
    { name: 'in an if', text: `if ! ${line}; then exit 1; fi`, want: lan + web },
    { name: 'in braces', text: `web() { ${line}; }`, want: lan + web },
    { name: 'a crontab', text: `@reboot ${line}`, want: lan + web },
    { name: 'a crontab with a user', text: `*/5 0-6 * jan mon root ${line}`, want: lan + web },
    { name: 'line ends of Windows', text: `${line}\r\n# end\r\n`, want: `${lan + web}\n  # end` },
    { name: 'the same line twice', text: `${line}\n${line} # again\n`, want: `${lan + web}\n  # again` },
    { name: '-i eth1 is the default', text: 'pipework br1 -i eth1 web 10.0.0.2/24', want: lan + web },
    { name: 'Docker said', text: 'pipework br1 docker:web 10.0.0.2/24', want: lan + web },
    {
      name: 'a container of Podman, and its route',
      text: 'pipework br1 podman:web 10.0.0.2/24\npipework route podman:web add default via 10.0.0.1',
      want: `${lan}${web.replace('web', 'podman:web')}\n    gateway: 10.0.0.1`,
    },
    {
      name: 'comments',
      text: `#!/bin/sh\n# one\n\n#two\n${line} # three\n# four`,
      want: `${lan}  # one\n  # two\n  # three\n${web}\n  # four`,
    },
    {
      name: 'name, gateway and MAC address',
      text: 'pipework br1 -i lan0 web 10.0.0.2/24@10.0.0.1 02:00:00:00:00:AA',
      want: `${lan}  - container: web\n    network: br1\n    ifname: lan0\n    addresses: 10.0.0.2/24\n    gateway: 10.0.0.1\n    mac: 02:00:00:00:00:aa`,
    },
    {
      name: 'both families',
      text: 'pipework br1 web 10.0.0.2/24@10.0.0.1,fd00::2/64@fd00::1',
      want: `${lan}  - container: web\n    network: br1\n    addresses:\n      - 10.0.0.2/24\n      - fd00::2/64\n    gateway:\n      - 10.0.0.1\n      - fd00::1`,
    },
    { name: 'no address', text: 'pipework br1 web 0/0', want: `${lan}  - container: web\n    network: br1` },
    {
      name: 'a number as a name',
      text: 'pipework br1 007 dhcp',
      want: `${lan}  - container: "007"\n    network: br1\n    addresses: dhcp`,
    },
    {
      name: 'VLANs of one bridge',
      text: 'pipework ovs0 a dhcp @100\npipework ovs0 b dhcp @200\npipework ovs0 c dhcp\npipework ovs0 d dhcp @100',
      want:
        'networks:\n  ovs0-100:\n    kind: ovs\n    bridge: ovs0\n    vlan: 100\n' +
        '  ovs0-200:\n    kind: ovs\n    bridge: ovs0\n    vlan: 200\n  ovs0:\n    kind: ovs\n    bridge: ovs0\n\nattachments:\n' +
        ['a ovs0-100', 'b ovs0-200', 'c ovs0', 'd ovs0-100']
          .map((pair) => pair.split(' '))
          .map(([name, network]) => `  - container: ${name}\n    network: ${network}\n    addresses: dhcp`)
          .join('\n'),
    },
    {
      name: 'a NIC, its VLAN, itself',
      text: 'pipework eth0 a 0/0\npipework eth0 b 0/0 @7\npipework --direct-phys eth1 c 0/0\npipework dummy d 0/0',
      want:
        'networks:\n  eth0:\n    kind: macvlan\n    uplink: eth0\n  eth0-7:\n    kind: macvlan\n    uplink: eth0\n    vlan: 7\n' +
        '  eth1-phys:\n    kind: phys\n    uplink: eth1\n  dummy:\n    kind: dummy\n\nattachments:\n' +
        ['a eth0', 'b eth0-7', 'c eth1-phys', 'd dummy']
          .map((pair) => pair.split(' '))
          .map(([name, network]) => `  - container: ${name}\n    network: ${network}`)
          .join('\n'),
    },
    {
      name: 'routes, rules and tc, before or after',
      text: [
        'pipework route web add 10.5.0.0/16 via 10.0.0.9',
        'pipework route web add default via 10.0.0.1 dev eth1',
        line,
        'pipework rule web add from 10.0.0.2/32 table main prio 7',
        'pipework tc web qdisc add dev eth1 root tbf rate 1mbit burst 10kb latency 50ms',
      ].join('\n'),
      want: `${lan}${web}\n    routes:\n      - 10.5.0.0/16 via 10.0.0.9\n    gateway: 10.0.0.1\n    rules:\n      - from: 10.0.0.2/32\n        table: 254\n        priority: 7\n    rate:\n      out: 1mbit`,
    },
    {
      name: 'routes of another table, and of another metric',
      text: [
        line,
        'pipework route web add default via 10.0.0.1 table 100',
        'pipework route web add default via 10.0.0.2 metric 50',
        'pipework route web add 10.5.0.0/16 table main via 10.0.0.9 metric 7',
      ].join('\n'),
      want: `${lan}${web}\n    routes:\n      - default via 10.0.0.1 table 100\n      - default via 10.0.0.2 metric 50\n      - 10.5.0.0/16 via 10.0.0.9 table main metric 7`,
    },
    { name: 'nothing', text: 'docker run -d nginx\n', want: '' },
  ];
  for (const { name, text, want } of rows) {
    test(name, () => {
      assert.equal(body(text), want);
      assert.deepEqual(
        importPipework(text).notes.filter((note) => !note.includes('the same as')),
        [],
      );
      read(importPipework(text).yaml);
    });
  }
});

describe('lines that are left out, or to be looked at', () => {
  const rows: [text: string, note: string][] = [
    [
      'pipework $BR web 10.0.0.2/24',
      'left out: $BR is known only when the script runs: pipework "$BR" web 10.0.0.2/24',
    ],
    [
      'pipework br1 $(docker run -d x) 10.0.0.2/24',
      'left out: $(docker run -d x) is known only when the script runs: pipework br1 "$(docker run -d x)" 10.0.0.2/24',
    ],
    [
      '$(which pipework) br1 web 0/0',
      'left out: $(which pipework) is known only when the script runs: "$(which pipework)" br1 web 0/0',
    ],
    [
      'ssh b pipework br1 web 0/0',
      'left out: pipework is not run by this itself: ssh b pipework br1 web 0/0',
    ],
    ['pipework --wait', 'left out: this does not connect a container: pipework --wait'],
    ['pipework br1', 'left out: this does not connect a container: pipework br1'],
    ['pipework br1 pid:12 0/0', 'left out: "pid:12" would not be found again: pipework br1 pid:12 0/0'],
    [
      'pipework br1 lxc:web 0/0',
      'left out: "lxc:web" is of LXC, whose containers are not seen to start: pipework br1 lxc:web 0/0',
    ],
    [
      'pipework br1 podman:0123456789ab 0/0',
      'left out: "podman:0123456789ab" is the id of a container, which has a name as well: pipework br1 podman:0123456789ab 0/0',
    ],
    [
      'pipework br1 0123456789ab 0/0',
      'left out: "0123456789ab" is the id of a container, which has a name as well: pipework br1 0123456789ab 0/0',
    ],
    [
      'pipework mac:02:00:00:00:00:01 web 0/0',
      'left out: a file names the NIC, not its MAC address: pipework mac:02:00:00:00:00:01 web 0/0',
    ],
    ['pipework --once br1 web 0/0', 'left out: --once is for what is not kept: pipework --once br1 web 0/0'],
    ['pipework ib0 web 0/0', 'left out: InfiniBand is not in a file: pipework ib0 web 0/0'],
    [
      'pipework br1 web 10.0.0.2',
      'left out: the IP address should include a netmask. Maybe you meant 10.0.0.2/24: pipework br1 web 10.0.0.2',
    ],
    [
      'pipework br1 web 0/0 @5',
      'left out: VLAN configuration currently unsupported for Linux bridge. To have the bridge filter VLANs, give --bridge-vlan or set PIPEWORK_BRIDGE_VLAN=1: pipework br1 web 0/0 @5',
    ],
    [
      'pipework br1 web dhclient:-v',
      'a file does not choose the DHCP client, nor its options: br1 web dhclient:-v',
    ],
    ['pipework br1 -l tap1 web 0/0', "the host's end is not named: -l tap1"],
    ['pipework virbr0 web 0/0', 'virbr0 is taken to be a NIC; if it is a bridge, say kind: bridge or ovs'],
    [
      'pipework route web add 10.5.0.0/16 via 10.0.0.9',
      'left out: nothing connects web before: pipework route web add 10.5.0.0/16 via 10.0.0.9',
    ],
  ];
  for (const [text, note] of rows) {
    test(text, () => {
      const { yaml, notes } = importPipework(`# first\n${text}\n`);
      assert.deepEqual(notes, [`line 2: ${note}`]);
      assert.match(yaml, /# first\n/);
      read(yaml);
    });
  }

  const more: [text: string, note: RegExp][] = [
    ['pipework route web del 10.5.0.0/16', /a file does not say route del/],
    [
      'pipework route web add 10.5.0.0/16 via 10.0.0.9 mtu 1400',
      /a file says only where to, via, by which interface, the table and the metric/,
    ],
    ['pipework route web add 10.5.0.0/16 via 10.0.0.9 table isp', /a numbered table, or main/],
    ['pipework route web add 10.5.0.0/16 via 10.0.0.9 metric 0', /a metric from 1 on/],
    ['pipework route web add 10.5.0.0/16 via 10.9.0.9', /it cannot be told which interface/],
    ['pipework route web add default via 10.1.0.9', /eth2 has the gateway 10\.1\.0\.1 already/],
    ['pipework rule web add fwmark 1 table 5', /of a rule, a file says only/],
    ['pipework tc web qdisc add dev eth1 root netem delay 10ms', /of tc, a file says only the rate/],
    [
      'pipework tc web qdisc add dev eth9 root tbf rate 1mbit burst 1kb latency 1ms',
      /nothing connects eth9 before/,
    ],
    ['pipework br1 web 10.0.0.77/24', /web has an eth1 already/],
    ['pipework br9 db 10.0.0.2/24', /10\.0\.0\.2 is given to another as well/],
    ['pipework --direct-phys eth0 db 0/0', /eth0 goes into a container/],
  ];
  for (const [text, note] of more) {
    test(text, () => {
      const { yaml, notes } = importPipework(
        `pipework br1 web 10.0.0.2/24\npipework br2 -i eth2 web 10.1.0.2/24@10.1.0.1\npipework eth0 nic 0/0\n${text}\n`,
      );
      assert.equal(notes.length, 1, notes.join('\n'));
      assert.match(notes[0] ?? '', note);
      assert.match(notes[0] ?? '', /^line 4: left out: /);
      assert.ok(yaml.includes(`  #  ${text}`) || yaml.includes(`#   ${text}`), yaml);
      assert.equal(read(yaml).attachments.length, 3);
    });
  }
});

describe('any script', () => {
  const name = fc.stringMatching(/^[a-z][a-z0-9_.-]{1,8}$/);
  const hostif = fc.constantFrom('br0', 'br1', 'ovs0', 'eth0', 'dummy', 'enp3s0');
  const entry = fc.record({
    hostif,
    guest: name,
    ifname: fc.constantFrom(undefined, 'eth1', 'eth2', 'lan'),
    vlan: fc.option(fc.integer({ min: 1, max: 4094 }), { nil: undefined }),
    how: fc.constantFrom('static', 'dhcp', 'none'),
    quote: fc.constantFrom('', "'", '"'),
  });
  const entries = fc.uniqueArray(entry, { maxLength: 20, selector: ({ guest }) => guest });

  test('of right lines comes to the attachments of those lines', () => {
    fc.assert(
      fc.property(entries, (list) => {
        const lines = list.map(({ hostif: on, guest, ifname, vlan, how, quote }, at) => {
          const address =
            how === 'static' ? `10.1.${at}.5/16` : how === 'dhcp' && on !== 'dummy' ? 'dhcp' : '0/0';
          const tag = vlan === undefined || /^(br|dummy)/.test(on) ? '' : ` @${vlan}`;
          const option = ifname === undefined ? '' : `-i ${ifname} `;
          return {
            text: `pipework ${on} ${option}${quote}${guest}${quote} ${address}${tag}`,
            address,
            tag,
            on,
            guest,
          };
        });
        const { yaml, notes } = importPipework(lines.map(({ text }) => text).join('\n'));
        assert.deepEqual(notes, []);
        const { networks, attachments } = read(yaml);
        assert.deepEqual(
          attachments.map(({ selector, network, addresses, ifname }) => {
            const plug = networks.find((candidate) => candidate.name === network);
            assert.ok(plug);
            const on = 'bridge' in plug ? plug.bridge : 'uplink' in plug ? plug.uplink : plug.kind;
            const tag = 'vid' in plug && plug.vid !== undefined ? ` @${plug.vid}` : '';
            const ips =
              typeof addresses === 'string'
                ? addresses
                : addresses.map(({ ip, prefixLen }) => `${ip}/${prefixLen}`);
            return { selector, on, tag, address: ips.length === 0 ? '0/0' : String(ips), ifname };
          }),
          lines.map(({ guest, on, tag, address }, at) => ({
            selector: { by: 'name', name: guest },
            on,
            tag,
            address,
            ifname: list[at]?.ifname ?? 'eth1',
          })),
        );
      }),
    );
  });

  const word = fc.constantFrom(
    ...[
      'pipework',
      'br1',
      'ovs0',
      'eth0',
      'dummy',
      'web',
      'db',
      '10.0.0.2/24',
      '10.0.0.3/24@10.0.0.1',
      'dhcp',
      '@5',
    ],
    ...[
      '0/0',
      '-i',
      'eth1',
      '-l',
      'route',
      'rule',
      'tc',
      'add',
      'via',
      '10.0.0.1',
      'default',
      'from',
      'table',
      '5',
      '\n',
    ],
    ...[
      'sudo',
      '$X',
      '"',
      "'",
      '\\',
      '#',
      ';',
      '&&',
      '|',
      '>',
      '(',
      ')',
      '$(',
      '`',
      '{',
      '}',
      '* * * * *',
      '@reboot',
    ],
    ...[
      '--direct-phys',
      'mac:02:00:00:00:00:01',
      '02:00:00:00:00:01',
      '\u0000',
      '\u2028',
      '\ud800',
      'é',
      '{a: b}',
      '- x',
    ],
  );
  test('of any words comes to a file that can be read', () => {
    const script = fc.array(fc.tuple(word, fc.constantFrom(' ', ' ', ' ', '', '\n')), { maxLength: 60 });
    fc.assert(
      fc.property(script, (parts) => {
        const { yaml, notes } = importPipework(parts.flat().join(''));
        read(yaml);
        for (const note of notes) assert.match(note, /^line \d+: [^\n]+$/);
      }),
      { numRuns: 1000 },
    );
    fc.assert(fc.property(fc.string({ unit: 'binary' }), (text) => void read(importPipework(text).yaml)));
  });

  test('of right commands with conflicts comes to a file that can be read', () => {
    const command = fc
      .tuple(
        hostif,
        fc.constantFrom('', '-i eth2 '),
        fc.constantFrom('web', 'db', 'app'),
        fc.integer({ min: 1, max: 4 }),
        fc.constantFrom('', ' @5', ' 02:00:00:00:00:01'),
      )
      .map(([on, option, guest, n, rest]) => `pipework ${on} ${option}${guest} 10.0.0.${n}/24${rest}`);
    const phys = fc.constant('pipework --direct-phys eth0 web 0/0');
    fc.assert(
      fc.property(fc.array(fc.oneof({ weight: 6, arbitrary: command }, phys), { maxLength: 12 }), (list) => {
        const { yaml } = importPipework(list.join('\n'));
        read(yaml);
      }),
    );
  });
});
