// What `uplink export` writes, judged by the programs that it is written for: they run, or say what they would do, in
// namespaces of their own, and there must be then what is on the bridge after `uplink add`. MAC address, MTU and all else.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import test, { type TestContext } from 'node:test';
import { type Judge, judge, plainNetns, run, runIn, skipUnless } from '../lab.ts';
import { soon } from './agent-ground.ts';
import { line } from './support.ts';
import { at, patience, type UplinkGround, uplinkGround } from './uplink-ground.ts';

const mac = '02:00:00:00:00:05';

/** One of each kind; `#`: what not every system has words for. */
const rich = [
  'link set eth0 mtu 9000',
  'addr add 10.9.0.7/32 dev eth0 metric 55',
  'addr add 10.10.0.1 peer 10.10.0.2/32 dev eth0',
  'addr add 10.11.0.1/24 dev eth0 noprefixroute',
  'addr add 10.12.0.1/24 broadcast 10.12.0.77 dev eth0 scope link',
  'addr add 10.13.0.1/24 dev eth0 scope host',
  'addr add fd0a::6/64 dev eth0 noprefixroute nodad',
  'addr add fd0b::6/64 dev eth0 metric 77 nodad',
  'addr add fd0c::1 peer fd0c::2/64 dev eth0 nodad',
  'addr add fe80::77/64 dev eth0 nodad',
  'route add 10.30.0.0/16 via 10.99.0.1 dev eth0 onlink',
  'route add 10.31.0.0/16 dev eth0 src 10.9.0.6 mtu 1400 advmss 1300 table 1000000 proto static',
  `route add 10.34.0.0/16 nexthop via ${at.router} weight 3 nexthop via 10.77.0.2 dev eth1`,
  `route add 10.35.0.0/16 nexthop via ${at.router} weight 3 nexthop via 10.9.0.99`,
  `route add 10.36.0.0/16 via inet6 ${at.router6} dev eth0`,
  'route add 10.37.0.0/16 dev eth0 metric 7',
  'route add local 10.40.0.0/16 dev eth0 table 255',
  'route add blackhole 10.32.0.0/16',
  'route add unreachable 10.33.0.0/16 table 100 metric 5',
  `-6 route add fd30::/32 nexthop via ${at.router6} dev eth0 nexthop via fd09::9 dev eth0 weight 4`,
  `-6 route add fd31::/32 from fd09::/64 via ${at.router6} dev eth0 table 201 mtu 1300`,
  '-6 route add prohibit fd32::/32',
  'rule add oif eth0 from 10.9.0.6 fwmark 5/0xff lookup 200 pref 101',
  'rule add iif eth0 oif eth1 ipproto tcp sport 80-90 uidrange 0-1000 lookup 300 pref 102',
  'rule add not iif eth0 lookup 200 suppress_prefixlength 0 pref 103',
  'rule add iif eth0 blackhole pref 104',
  'rule add from 10.9.0.0/24 to 10.0.0.0/8 lookup 100 pref 106',
  '-6 rule add from fd09::/64 lookup 201 pref 107',
];
/** No file of any system but ifupdown's can say these. */
const unsayable = [
  `route add default via ${at.router} metric 100 src 10.9.0.6 tos 0x10`,
  '-6 rule add oif eth0 from fd09::/64 to fd30::/32 goto 32766 pref 105',
];

/** What people see of a link and its ways, without what differs by who made it. */
function contentOf(netns: string): string[] {
  const json = (...words: readonly string[]): Record<string, unknown>[] =>
    JSON.parse(runIn(netns, 'ip', ['-j', ...words]).stdout || '[]');
  const [link] = json('addr', 'show', 'br0') as [
    { address: string; mtu: number; addr_info: Record<string, unknown>[] },
  ];
  const addrs = link.addr_info
    .filter(({ local }) => !/^fe80:.*ff:fe/.test(String(local)))
    // An address has a broadcast or none, as each system likes it; what is not usual is told of it.
    .map(({ local, address, prefixlen, scope, label, metric, broadcast, noprefixroute }) => [
      ...[local, address, prefixlen, scope, metric, noprefixroute],
      ...(broadcast === '10.12.0.77' ? [broadcast] : []),
      ...(/:/.test(String(label)) ? [label] : []),
    ]);
  const ways = ['-4', '-6'].flatMap((family) => [
    ...json(family, 'route', 'show', 'table', 'all')
      .filter(({ dev, protocol }) => protocol !== 'kernel' && dev !== 'eth1')
      .map(({ protocol, flags, ...route }) => ({
        ...route,
        flags: JSON.stringify(flags).includes('onlink'),
      })),
    ...json(family, 'rule').map(({ protocol, table, ...rule }) => ({
      ...rule,
      // Where nothing is looked up some say a table all the same.
      ...(rule.action === undefined ? { table } : {}),
    })),
  ]);
  return [`${link.address} mtu ${link.mtu}`, ...[...addrs, ...ways].map((one) => JSON.stringify(one)).sort()];
}

interface Printed {
  readonly files: readonly { readonly path?: string; readonly text: string }[];
  readonly notes: readonly string[];
}

function exported({ host }: UplinkGround, target: string, ...words: readonly string[]): Printed {
  const { stdout, stderr } = host.pipewright(['uplink', 'export', ...words, '--for', target, '--json']);
  const printed = JSON.parse(stdout) as Printed;
  for (const note of printed.notes) assert.ok(stderr.includes(`warning: ${note}\n`));
  return printed;
}

/** Their files below a folder. */
function written(t: TestContext, { files }: Printed): string {
  const folder = mkdtempSync(path.join(tmpdir(), 'pwt-'));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  for (const file of files) {
    const place = path.join(folder, file.path ?? 'commands');
    mkdirSync(path.dirname(place), { recursive: true });
    writeFileSync(place, file.text);
    chmodSync(place, 0o600);
  }
  return folder;
}

/** The same NICs in a namespace that nobody has configured. */
async function bareHost(t: TestContext, name: string): Promise<string> {
  const { name: netns } = await plainNetns(t, name);
  for (const words of [
    `link add eth0 address ${mac} type veth peer name lan`,
    'link add eth1 type veth peer name eth1p',
    'link set eth1 up',
    'link set eth1p up',
    'link set lan up mtu 9000',
    'addr add 10.77.0.1/24 dev eth1',
  ])
    runIn(netns, 'ip', words.split(' '));
  return netns;
}

const networkdScript = `
mount -t tmpfs tmpfs /run && mount -t sysfs -o ro sysfs /sys && mkdir -p /run/systemd/network /etc/systemd/network || exit 1
mount -t tmpfs tmpfs /etc/systemd/network || exit 1
cp -r "$1"/etc/systemd/network/. /etc/systemd/network/ 2>/dev/null
cp -r "$1"/run/systemd/network/. /run/systemd/network/ 2>/dev/null
chmod -R a+rX /etc/systemd/network /run/systemd
exec "$0"`;

/** Runs systemd-networkd in the namespace, with mounts of its own, until it has made what is wanted, and ends it. */
async function byNetworkd(netns: string, folder: string, wanted: readonly string[]): Promise<string> {
  const networkd = judge('networkd')?.command ?? '';
  const child = spawn(
    'nsenter',
    [
      `--net=/run/netns/${netns}`,
      'unshare',
      '-m',
      '--propagation',
      'private',
      'sh',
      '-c',
      networkdScript,
      networkd,
      folder,
    ],
    {
      stdio: ['ignore', 'pipe', 'pipe'],
      env: { ...process.env, SYSTEMD_LOG_LEVEL: 'info', SYSTEMD_LOG_TARGET: 'console' },
    },
  );
  let said = '';
  for (const stream of [child.stdout, child.stderr])
    stream.setEncoding('utf8').on('data', (text: string) => {
      said += text;
    });
  const ended = once(child, 'close');
  const isMade = (): boolean => {
    const { code } = runIn(netns, 'ip', ['link', 'show', 'br0'], { expect: 'any' });
    return code === 0 && JSON.stringify(contentOf(netns)) === JSON.stringify(wanted);
  };
  await soon(isMade, patience / 2);
  child.kill('SIGTERM');
  await ended;
  return said;
}

const parserComplaints = /Unknown|Failed to parse|Invalid|ignoring|Missing/i;

/** What the uplink has in the end is what the system makes of the files. */
const judges: Readonly<
  Record<
    'networkd' | 'netplan' | 'ifup' | 'nmcli',
    (t: TestContext, ground: UplinkGround, program: Judge) => Promise<void>
  >
> = {
  networkd: async (t, ground) => {
    const folder = written(t, exported(ground, 'networkd'));
    const netns = await bareHost(t, 'uen');
    const wanted = contentOf(ground.host.name);
    assert.doesNotMatch(await byNetworkd(netns, folder, wanted), parserComplaints);
    assert.deepEqual(contentOf(netns), wanted);
  },
  netplan: async (t, ground, { command, env }) => {
    const folder = written(t, exported(ground, 'netplan'));
    const { stderr } = run(command, ['--root-dir', folder], { env });
    assert.equal(stderr, '');
    if (!judge('networkd'))
      return t.diagnostic('systemd-networkd is not there: what netplan made was not tried');
    const netns = await bareHost(t, 'uep');
    const wanted = contentOf(ground.host.name);
    assert.doesNotMatch(await byNetworkd(netns, folder, wanted), parserComplaints);
    assert.deepEqual(contentOf(netns), wanted);
  },
  ifup: async (t, ground, { command, env }) => {
    const folder = written(t, exported(ground, 'ifupdown'));
    const file = path.join(folder, 'etc/network/interfaces.d/br0');
    const words = [
      '--no-act',
      '-v',
      '--no-scripts',
      '--no-loopback',
      '-i',
      file,
      '--state-dir',
      folder,
      '-a',
    ];
    const { stdout, stderr } = run(command, words, { env });
    assert.doesNotMatch(stderr, /error|unknown|couldn't|cannot/i);
    const netns = await bareHost(t, 'uei');
    // What bridge-utils' script does with the options whose names begin with bridge_.
    const options = run(command.replace(/ifup$/, 'ifquery'), ['-i', file, 'br0'], { env }).stdout;
    for (const option of ['bridge-ports: eth0', 'bridge-stp: off', `bridge-hw: ${mac}`])
      assert.ok(options.replaceAll('_', '-').includes(option), options);
    for (const made of [`link add br0 address ${mac} type bridge`, 'link set eth0 master br0 up'])
      runIn(netns, 'ip', made.split(' '));
    const commands = `${stdout}${stderr}`.split('\n').filter((said) => /^(ip|bridge) /.test(said));
    for (const said of commands) runIn(netns, 'sh', ['-c', said]);
    assert.deepEqual(contentOf(netns), contentOf(ground.host.name));
  },
  nmcli: async (t, ground, { command, env }) => {
    const { files, notes } = exported(ground, 'nmcli');
    const text = files[0]?.text ?? '';
    const wrapper = 'nmcli() { if [ "$2" = add ]; then "$0" --offline "$@"; else echo "# $*"; fi; }\n';
    const { name } = await plainNetns(t, 'uem');
    const { stdout } = runIn(name, 'sh', ['-ec', `${wrapper}${text}`, command], { env });
    for (const wanted of [
      '# -g GENERAL.CON-UUID device show eth0',
      ...[
        'mtu=9000',
        `mac-address=${mac}`,
        'master=br0',
        'address1=10.9.0.5/24',
        'route1_options=onlink=true',
      ],
      'routing-rule1=priority 77 from 0.0.0.0/0 iif br0 table 100',
    ])
      assert.ok(
        wanted.startsWith('#') || stdout.includes(wanted.replace(/^route1_/, '')),
        `${wanted} in ${stdout}`,
      );
    const told = notes.map((note) => note.replace(/^.*: ip |dev br0.*$/g, '').trim());
    assert.deepEqual(told.filter((note) => /^(-6 )?route/.test(note)).length, 3, told.join('\n'));
  },
};

test('what is exported makes the same at boot, as its readers read it', async (t) => {
  if (skipUnless(t, 'root', 'program:ethtool')) return;
  const ground = await uplinkGround(t, 'ue');
  const { host, router } = ground;
  runIn(router, 'ip', ['link', 'set', 'lan', 'mtu', '9000']);
  for (const words of [
    `link set eth0 address ${mac}`,
    'link add eth1 up type veth peer name eth1p',
    'link set eth1p up',
    'addr add 10.77.0.1/24 dev eth1',
    ...rich,
  ])
    host.ip(...words.split(' '));
  const before = exported(ground, 'networkd', 'eth0', '--network', 'bridge:br0');
  host.pipewright(['uplink', 'add', 'eth0', '--network', 'bridge:br0', '--confirm', '0']);
  const sorted = ({ files }: Printed): string[] => files.flatMap(({ text }) => text.split('\n\n')).sort();
  assert.deepEqual(sorted(exported(ground, 'networkd')), sorted(before), 'the same before and after');
  for (const [name, act] of Object.entries(judges))
    await t.test(name, async (t) => {
      const program = judge(name as keyof typeof judges);
      if (!program) return t.skip(`${name} is not there, or does not run`);
      await act(t, ground, program);
    });
  await t.test('what cannot be said is told', () => {
    for (const words of unsayable) host.ip(...words.replace('eth0', 'br0').split(' '));
    for (const target of ['networkd', 'netplan'])
      assert.match(exported(ground, target).notes.join('\n'), /tos 16 \(.*\n.*goto 32766 \(/);
    assert.deepEqual(exported(ground, 'ifupdown').notes, []);
  });
});

test('leases stay leases, and a bridge with a MAC address of its own keeps that', async (t) => {
  if (skipUnless(t, 'root', 'program:ethtool')) return;
  const ground = await uplinkGround(t, 'uel');
  const { host } = ground;
  for (const words of [
    'addr flush dev eth0',
    '-6 route flush default',
    'rule del pref 77',
    'route flush table 100',
    `addr add ${at.host}/24 dev eth0 valid_lft 3600 preferred_lft 3600`,
    'addr add fd09::77/128 dev eth0 valid_lft 3600 preferred_lft 3600 nodad',
    'addr add fd09::78/64 dev eth0 valid_lft 3600 preferred_lft 3600 nodad',
    `route add default via ${at.router} dev eth0`,
  ])
    host.ip(...words.split(' '));
  host.pipewright(['uplink', 'add', 'eth0', '--network', 'bridge:br0', '--keep-mac', '--confirm', '0']);
  const [link] = JSON.parse(host.ip('-j', 'link', 'show', 'br0').stdout) as [{ address: string }];
  const text = (target: string): string =>
    exported(ground, target)
      .files.map((file) => file.text)
      .join('');
  for (const target of ['netplan', 'networkd', 'ifupdown', 'nmcli'])
    assert.ok(text(target).includes(link.address), target);
  assert.match(text('netplan'), /dhcp4: true\n {6}dhcp6: true\n {6}accept-ra: true\n$/);
  assert.match(text('networkd'), /DHCP=yes\nIPv6AcceptRA=yes\n$/);
  assert.match(text('ifupdown'), /inet dhcp\n[\s\S]*inet6 auto\n {4}dhcp 1\n/);
  assert.match(text('nmcli'), /ipv4.method auto ipv6.method auto\n/);
});

test('a bridge that filters VLANs is exported as one, with the VLANs of its port', async (t) => {
  if (skipUnless(t, 'root', 'program:ethtool', 'vlan-filtering')) return;
  const ground = await uplinkGround(t, 'uev');
  const { host } = ground;
  host.ip('link', 'set', 'eth0', 'address', mac);
  host.ip(...'link add br0 type bridge vlan_filtering 1 vlan_default_pvid 0'.split(' '));
  const vlan = (netns: string, words: string): string => runIn(netns, 'bridge', words.split(' ')).stdout;
  vlan(host.name, 'vlan add dev br0 vid 10 pvid untagged self');
  host.pipewright(['uplink', 'add', 'eth0', '--network', 'bridge:br0', '--confirm', '0']);
  vlan(host.name, 'vlan add dev eth0 vid 100-103');
  const vlans = (netns: string): string =>
    ['br0', 'eth0'].map((name) => vlan(netns, `-j vlan show dev ${name}`)).join('');
  const wanted = contentOf(host.name);
  const seen = vlans(host.name);
  assert.match(seen, /100/);
  const program = judge('netplan');
  for (const target of judge('networkd') ? ['networkd', ...(program ? ['netplan'] : [])] : []) {
    const folder = written(t, exported(ground, target));
    if (target === 'netplan')
      run(program?.command ?? '', ['--root-dir', folder], program ? { env: program.env } : {});
    const netns = await bareHost(t, `uev${target.slice(0, 4)}`);
    assert.doesNotMatch(await byNetworkd(netns, folder, wanted), parserComplaints);
    assert.equal(vlans(netns), seen, target);
  }
});

test('what cannot be an uplink is refused with one line', async (t) => {
  if (skipUnless(t, 'root', 'program:ethtool')) return;
  const { host } = await uplinkGround(t, 'uer');
  const refused = (why: RegExp, ...words: readonly string[]): void => {
    const answer = host.pipewright(['uplink', 'export', ...words, '--for', 'networkd'], { expect: 1 });
    assert.match(line(answer), why);
    assert.equal(answer.stdout, '');
  };
  refused(
    /uplink.export nic9 on br0: there is no nic9 on this host; see: ip link/,
    'nic9',
    '--network',
    'bridge:br0',
  );
  refused(/uplinks: there is none: say which NIC/);
  refused(/eth0: it is no uplink yet: say of which bridge/, 'eth0');
  host.pipewright(['uplink', 'add', 'eth0', '--network', 'bridge:br0', '--confirm', '0']);
  refused(
    /eth0 is the uplink of br0 already; pipewright uplink remove eth0/,
    'eth0',
    '--network',
    'bridge:br1',
  );
});
