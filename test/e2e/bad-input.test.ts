// What cannot be right is refused in one line, and changes nothing.
import assert from 'node:assert/strict';
import { type ChildProcessWithoutNullStreams, spawn } from 'node:child_process';
import path from 'node:path';
import { createInterface } from 'node:readline';
import test, { type TestContext } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';
import fc from 'fast-check';
import { lacks, root, run, skipUnless } from '../lab.ts';
import type { Line, Said } from './bad-input-child.ts';
import { differences, Ground, pipework, pipewright } from './fault-ground.ts';

const rounds = Number(process.env.PIPEWRIGHT_FAULT_ROUNDS ?? 100);

const child = path.join(path.dirname(fileURLToPath(import.meta.url)), 'bad-input-child.mjs');

test.before(async () => {
  await build({
    entryPoints: [path.join(root, 'test/e2e/bad-input-child.ts')],
    outfile: child,
    bundle: true,
    platform: 'node',
    format: 'esm',
    target: 'node20',
    packages: 'external',
    define: { PIPEWRIGHT_VERSION: '"0.0.0-test"' },
    logLevel: 'warning',
  });
});

/** One process for many command lines, on a host of its own. */
class Runner {
  readonly #process: ChildProcessWithoutNullStreams;
  readonly #answers: AsyncIterator<string>;

  constructor(t: TestContext, ground: Ground) {
    const [command = '', ...args] = [...ground.enter, process.execPath, '--enable-source-maps', child];
    // No runtime but the one that is asked for by name.
    const env = { ...process.env, DOCKER_HOST: 'unix:///nonexistent/docker.sock' };
    this.#process = spawn(command, args, { env });
    this.#process.stderr.pipe(process.stderr);
    this.#answers = createInterface({ input: this.#process.stdout })[Symbol.asyncIterator]();
    t.after(() => void this.#process.kill('SIGKILL'));
  }

  get pid(): number {
    return this.#process.pid ?? 0;
  }

  async run(line: Line): Promise<Said> {
    this.#process.stdin.write(`${JSON.stringify(line)}\n`);
    const { value, done } = await this.#answers.next();
    if (done) throw new Error(`it ended at ${JSON.stringify(line)}`);
    return JSON.parse(value) as Said;
  }
}

async function prepare(ground: Ground): Promise<void> {
  ground.onHost(
    'link add lan0 type bridge',
    'link set lan0 up',
    'link add port0 type veth peer name port1',
    'link set port0 master lan0',
    'link set port0 up',
    'link set port1 up',
    'link add nic0 type veth peer name wire1',
    'link set wire1 up',
    'link set nic0 up',
  );
  ground.inGuest('link add eth0 type bridge', 'link set eth0 up', 'addr add 172.17.0.2/16 dev eth0');
  // The state of a bridge follows that of its ports after a moment.
  const isUp = (): boolean => ground.dump().get('host link lan0 operstate') === '"UP"';
  for (let waited = 0; waited < 3000 && !isUp(); waited += 20) await sleep(20);
}

const wrongCidrs = [
  ...[
    '10.0.0/24',
    '10.0.0.256/24',
    '10.0.0.1/33',
    '10.0.0.1/-1',
    '10.0.0.1/',
    '/24',
    '/',
    '//',
    '10.0.0.1/24/8',
  ],
  ...[
    '10.0.0.1/ 24',
    ' 10.0.0.1/24',
    '10.0.0.1/24 ',
    '10.0.0.1/0x18',
    '0x0a.0.0.1/8',
    '010.0.0.1/8',
    '167772161/8',
  ],
  ...[
    '::1/129',
    'fd00::/129',
    'fd00:::1/64',
    'fd00::1%eth0/64',
    '::ffff:1.2.3.4.5/64',
    'g::/64',
    '1:2:3:4:5:6:7/64',
  ],
  ...['0.0.0.0/24', '224.0.0.1/24', '255.255.255.255/32', 'ff02::1/64', '::/64'],
  ...[
    '10.0.0.1/24\n',
    '10.0.0.1\n/24',
    '10.0.0.1/24;reboot',
    '$(reboot)/24',
    '`id`/24',
    '10.0.0.1/24|cat',
    '*/24',
  ],
  ...[
    '١٠.0.0.1/24',
    '10。0。0。1/24',
    '10.0.0.1/２４',
    '\u202e10.0.0.1/24',
    '\u200b10.0.0.1/24',
    '💥/24',
    '\x1b[2J/24',
  ],
  ...[
    `${'a'.repeat(100_000)}/24`,
    `10.0.0.1/${'9'.repeat(5000)}`,
    '10.0.0.1/24\0',
    '\0/24',
    '\ud800/24',
    '--help/24',
  ],
] as const;

const wrongGateways = [
  ...[
    '10.0.0',
    '10.0.0.0/24',
    '10.0.0.256',
    '0.0.0.0',
    '255.255.255.255',
    '224.0.0.1',
    'ff02::1',
    '::',
    'x',
    ' ',
  ],
  ...['10.0.0.254 ', '10.0.0.254\n', '$(id)', '💥', `${'1'.repeat(4000)}`, 'fd00::1%eth0', '10.0.0.254;id'],
] as const;

const wrongMacs = [
  ...[
    '00:00:00:00:00:00',
    'ff:ff:ff:ff:ff:ff',
    '01:00:5e:00:00:01',
    '02:00:00:00:00',
    '02:00:00:00:00:00:01',
  ],
  ...[
    '02-00-00-00-00-01',
    '0200.0000.0001',
    '02:00:00:00:00:0g',
    '02:00:00:00:00:1',
    'zz',
    ' ',
    'U',
    'u:x',
    '💥',
  ],
  ...['02:00:00:00:00:01 ', '02:00:00:00:00:01\n', '$(id)', `02:${'00:'.repeat(2000)}`],
] as const;

const wrongVids = [
  ...[
    '0',
    '4095',
    '4096',
    '-1',
    ' 1',
    '1 ',
    '1\n',
    '01',
    '0x1g',
    '1.5',
    'foo',
    '1e3',
    '١',
    '99999999999999999999',
  ],
  ...['$(id)', '10;id', '💥', '1'.repeat(5000)],
] as const;

const wrongNames = [
  ...[
    'a/b',
    '/',
    'a b',
    'a\tb',
    'a\nb',
    '\r',
    'sixteen-bytes-xx',
    'éééééééé',
    '.',
    '..',
    'all',
    'default',
    'eth%d',
    '%s',
  ],
  ...[
    'a:b',
    '\u00a0x',
    '\u2028',
    '\u200b',
    '\u202eeth1',
    '\ud800',
    'x\0y',
    '\0',
    '\x1b[31m',
    '\x7f',
    '💥💥💥💥',
    'x'.repeat(10_000),
  ],
] as const;

const wrongContainers = [
  ...[
    'a/b',
    'a b',
    '../x',
    'a\nb',
    '$(reboot)',
    '`id`',
    'a;b',
    'a|b',
    '*',
    'ñ',
    '💥',
    'x\0',
    '\x1b[31m',
    'a'.repeat(300),
  ],
  ...[
    'docker:',
    'podman:',
    'lxc:',
    'pid:',
    'netns:',
    ':',
    ':x',
    'foo:bar',
    'docker:a b',
    'docker:-x',
    'lxc:../x',
    'lxc:-x',
  ],
  ...['pid:0', 'pid:-1', 'pid:abc', 'pid:1 ', 'pid:01', 'pid:99999999', 'pid:4194304', 'pid:1e3', 'pid:0x1'],
  ...[
    'netns:..',
    'netns:a/b',
    'netns:/etc/passwd',
    'netns:/etc',
    'netns:/dev/null',
    'netns:/nonexistent',
    'netns:pwt-nosuch',
  ],
  ...[
    'netns:/proc/self/ns/mnt',
    'netns:a b',
    'netns:\n',
    `netns:/${'x'.repeat(5000)}`,
    `netns:${'é'.repeat(200)}`,
  ],
  ...['pwt-nosuch', 'docker:pwt-nosuch', 'podman:pwt-nosuch', 'lxc:pwt-nosuch', 'SELF'],
] as const;

const wrongHostifs = [
  ...[
    'nosuch',
    'x',
    'Br1',
    'br/1',
    'br 1',
    'br1\n',
    'br1\0',
    'br%d',
    'br:1',
    `br${'x'.repeat(14)}`,
    'ovs/',
    'ovs\n',
  ],
  ...[
    '..',
    '.',
    '*',
    ';',
    '|',
    '&',
    '$(id)',
    '`id`',
    'br$(id)/',
    '\u202ebr1',
    '💥',
    'é',
    'all',
    'default',
    '\x1b[31m',
  ],
  ...[
    'mac:',
    'mac:zz',
    'mac:00:00:00:00:00:00',
    'mac:02:00:00:00:00:99',
    'mac:ff:ff:ff:ff:ff:ff',
    'x'.repeat(100_000),
  ],
] as const;

/** Lines of `pipework`; GUEST stands for a container that there is. */
const pipeworkLines: readonly (readonly string[])[] = [
  ...wrongCidrs.map((cidr) => ['br1', 'GUEST', cidr]),
  ...wrongGateways.map((gateway) => ['br1', 'GUEST', `10.0.0.1/24@${gateway}`]),
  ['br1', 'GUEST', '10.0.0.1/24@10.0.0.1'],
  ['br1', 'GUEST', '10.0.0.1/24@10.0.0.255'],
  ['br1', 'GUEST', '10.0.0.1/24@fd00::1'],
  ['br1', 'GUEST', 'fd00::1/64@10.0.0.1'],
  ['br1', 'GUEST', '10.0.0.1/24,10.0.0.1/16'],
  ['br1', 'GUEST', '10.0.0.1/24@10.0.0.2,10.0.0.3/24@10.0.0.4'],
  ['br1', 'GUEST', '10.0.0.1/24,'],
  ['br1', 'GUEST', '0/0,10.0.0.1/24'],
  ...wrongMacs.map((mac) => ['br1', 'GUEST', '10.0.0.1/24', mac]),
  ...['ovs1', 'nic0'].flatMap((hostif) =>
    wrongVids.map((vid) => [hostif, 'GUEST', '10.0.0.1/24', `@${vid}`]),
  ),
  ...['1', '0', 'x', '4095'].flatMap((vid) => [
    ['br1', 'GUEST', '10.0.0.1/24', `@${vid}`],
    ['lan0', 'GUEST', '10.0.0.1/24', `02:00:00:00:00:01@${vid}`],
  ]),
  ...['-i', '-l'].flatMap((option) =>
    wrongNames.map((name) => ['br1', option, name, 'GUEST', '10.0.0.1/24']),
  ),
  ...wrongNames.filter((name) => name !== '').map((name) => ['--wait', '-i', name]),
  ...wrongContainers.map((container) => ['br1', container, '10.0.0.1/24']),
  ...wrongContainers.map((container) => ['nic0', container, '10.0.0.1/24@10.0.0.254', '02:00:00:00:00:01']),
  ...wrongContainers.map((container) => ['route', container, 'add', '10.5.0.0/16', 'dev', 'eth0']),
  ...wrongHostifs.map((hostif) => [hostif, 'GUEST', '10.0.0.1/24']),
  ...['5', '46', 'x', '', '4\n', '💥'].map((family) => ['br1', '-a', family, 'GUEST', '10.0.0.1/24']),
  ['br1', '-a', '6', 'GUEST', '10.0.0.1/24'],
  ['br1', '-a', '4', 'GUEST', 'fd00::1/64'],
  ...[
    '-z',
    '--foo',
    '-',
    '--',
    '-i=x',
    '-ix',
    '--wait=1',
    '-\n',
    '--\x1b[31m',
    '-💥',
    `--${'x'.repeat(10_000)}`,
  ].map((option) => [...['br1', option, 'GUEST', '10.0.0.1/24']]),
  ['-i'],
  ['br1', '-l'],
  ['br1', '-a'],
  ['br1', '-i', 'a', '-i', 'b', 'GUEST', '10.0.0.1/24'],
  ['--direct-phys', 'nosuch', 'GUEST', '10.0.0.1/24'],
  ['br1', 'pwt-nosuch', 'dhcp'],
  ['br1', 'pwt-nosuch', 'udhcpc:\0'],
  ['br1', 'GUEST', 'udhcpc:\0x'],
];

/** What the original answers with two lines. */
const withoutNetmask = [
  '10.0.0.1',
  'fd00::1',
  'foo',
  '; reboot',
  '10.0.0.1@10.0.0.2',
  '💥',
  '\x1b[2J',
  '\n',
  'dhcpx',
  'x'.repeat(9999),
];

const attachWords = (...words: string[]): string[] => [
  'attach',
  'GUEST',
  '--network',
  'bridge:br1',
  ...words,
];

/** And of `pipewright`. */
const pipewrightLines: readonly (readonly string[])[] = [
  ...[...wrongCidrs, '10.0.0.1', '0/0', '0.0.0.0/0', ''].map((cidr) => attachWords('--address', cidr)),
  ...wrongGateways.map((gateway) => attachWords('--address', `10.0.0.1/24@${gateway}`)),
  ...wrongGateways.map((gateway) => attachWords('--address', '10.0.0.1/24', '--gateway', gateway)),
  attachWords('--address', '10.0.0.1/24', '--gateway', '10.0.0.2', '--gateway', '10.0.0.3'),
  attachWords('--address', '10.0.0.1/24', '--address', '10.0.0.1/24'),
  ...[
    '',
    'x',
    '10.0.0.0/24 via',
    'via 10.0.0.1',
    '10.0.0.0/24 via x',
    '10.0.0.0/24 via fd00::1',
    '10.0.0.0/33',
    'default via 10.0.0.9',
    'default table 100',
    '10.0.0.0/24 via 10.0.0.9 table isp',
    '10.0.0.0/24 via 10.0.0.9 table 255',
    '10.0.0.0/24 via 10.0.0.9 table 4294967296',
    '10.0.0.0/24 via 10.0.0.9 metric 0',
    '10.0.0.0/24 metric',
    '💥',
  ].map((route) => attachWords('--route', route)),
  ...[...wrongMacs, ''].map((mac) => attachWords('--mac', mac)),
  ...[...wrongVids, ''].map((vid) => ['attach', 'GUEST', '--network', 'macvlan:nic0', '--vlan', vid]),
  ...['1', '0'].map((vid) => attachWords('--vlan', vid)),
  ...['0', '67', '65536', '-1', '1500 ', 'x', '1e3', '', '💥', '9'.repeat(999)].map((mtu) =>
    attachWords('--mtu', mtu),
  ),
  ...['x', '', 'l2', '💥'].map((mode) => ['attach', 'GUEST', '--network', 'macvlan:nic0', '--mode', mode]),
  attachWords('--mode', 'bridge'),
  ...['--ifname', '--host-ifname'].flatMap((option) =>
    [...wrongNames, ''].map((name) => attachWords(option, name)),
  ),
  ...[
    ...wrongHostifs,
    '',
    'bridge:',
    'ovs:',
    'phys:',
    'macvlan:',
    'foo:br1',
    'bridge:br/1',
    'bridge:nic0',
    'phys:lan0',
  ].map((network) => [...['attach', 'GUEST', '--network', network]]),
  ...['macvlan:nosuch', 'phys:nosuch', 'ipvlan:nosuch', 'ipoib:nic0', 'dummy:x', 'ovs:nic0'].map(
    (network) => [...['attach', 'GUEST', '--network', network]],
  ),
  ...[...wrongContainers, ''].map((container) => ['attach', container, '--network', 'bridge:br1']),
  ...[...wrongContainers, ''].map((container) => ['detach', container]),
  ...[...wrongContainers, ''].map((container) => ['wait', container, '--timeout', '0']),
  ...[...wrongNames, ''].map((name) => ['detach', 'GUEST', '--ifname', name]),
  ...['eth0', 'eth1', 'lo', '-x'].map((name) => ['detach', 'GUEST', '--ifname', name]),
  ...['x', '-1', '', '1s', '💥', '1e9'].map((timeout) => ['wait', 'GUEST', '--timeout', timeout]),
  ...['', 'ksh', 'BASH', '💥', '../bash'].map((shell) => ['completion', shell]),
  ['nosuch'],
  ['attach'],
  ['attach', 'GUEST'],
  ['attach', 'GUEST', 'other', '--network', 'bridge:br1'],
  ['attach', 'GUEST', '--network'],
  ['attach', 'GUEST', '--nosuch'],
  ['attach', '--network', 'bridge:br1'],
  attachWords('--network', 'bridge:br2'),
  ['detach'],
  ['list', 'x'],
  ['completion'],
  ['\n'],
  ['💥'],
  ['\x1b[31m'],
  ['x'.repeat(10_000)],
];

const controls = /[\p{Cc}\p{Zl}\p{Zp}\u202e]/u;

/** Exactly one line, that a terminal shows as it is, no longer than a screen or two, and no stack. */
function assertOneLine({ stdout, stderr }: Said, lines = 1): void {
  const said = stdout + stderr;
  assert.match(said, /\n$/);
  const all = said.slice(0, -1).split('\n');
  assert.equal(all.length, lines, said);
  for (const line of all) {
    assert.ok(line.length > 10 && line.length < 1000, `${line.length} characters: ${line.slice(0, 300)}`);
    assert.ok(!controls.test(line), JSON.stringify(line));
  }
  assert.doesNotMatch(said, /internal error|thrown:|undefined|\[object|Error:|NaN/);
}

async function refuseAll(
  t: TestContext,
  program: Line['program'],
  lines: readonly (readonly string[])[],
  sayLines = 1,
): Promise<void> {
  const ground = await Ground.make(t);
  await prepare(ground);
  const runner = new Runner(t, ground);
  const before = ground.dump();
  const wrong: unknown[] = [];
  for (const words of lines) {
    const argv = words.map((word) =>
      word === 'GUEST' ? `pid:${ground.guest.pid}` : word === 'SELF' ? `pid:${runner.pid}` : word,
    );
    const said = await runner.run({ program, argv });
    try {
      assert.equal(said.code, 1);
      assertOneLine(said, sayLines);
    } catch (error) {
      wrong.push([words.map((word) => word.slice(0, 60)), said.code, (error as Error).message.slice(0, 600)]);
    }
  }
  assert.deepEqual(wrong, [], `${wrong.length} of ${lines.length}`);
  assert.deepEqual(await differences(before, () => ground.dump()), []);
}

test(`pipework: ${pipeworkLines.length} malformed command lines`, async (t) => {
  if (skipUnless(t, 'root')) return;
  await refuseAll(t, 'pipework', pipeworkLines);
});

test("pipework: addresses without a netmask, in the original's two lines", async (t) => {
  if (skipUnless(t, 'root')) return;
  await refuseAll(
    t,
    'pipework',
    withoutNetmask.map((word) => ['br1', 'GUEST', word]),
    2,
  );
});

test(`pipewright: ${pipewrightLines.length} malformed command lines`, async (t) => {
  if (skipUnless(t, 'root')) return;
  await refuseAll(t, 'pipewright', pipewrightLines);
});

test('the programs themselves: a sample of both', async (t) => {
  if (skipUnless(t, 'root')) return;
  const ground = await Ground.make(t);
  await prepare(ground);
  const before = ground.dump();
  const sample = (lines: readonly (readonly string[])[]) =>
    lines.filter(
      (words, i) => i % 23 === 0 && !words.some((word) => word.includes('\0') || /\p{Cs}/u.test(word)),
    );
  for (const [program, lines] of [
    [pipework, sample(pipeworkLines)],
    [pipewright, sample(pipewrightLines)],
  ] as const) {
    for (const words of lines) {
      const argv = words.map((word) => (word === 'GUEST' ? `pid:${ground.guest.pid}` : word));
      if (argv.includes('SELF')) continue;
      const [command = '', ...args] = [...ground.enter, ...program, ...argv];
      const said = run(command, args, {
        expect: 'any',
        env: { DOCKER_HOST: 'unix:///nonexistent/docker.sock' },
      });
      assert.equal(said.code, 1, JSON.stringify(argv).slice(0, 200));
      assertOneLine(said);
    }
  }
  assert.deepEqual(await differences(before, () => ground.dump()), []);
});

/** Words that mean something, words that nearly do, and any text. */
function words(some: readonly string[]): fc.Arbitrary<string> {
  return fc.oneof(
    { weight: 20, arbitrary: fc.constantFrom(...some) },
    {
      weight: 2,
      arbitrary: fc
        .tuple(fc.constantFrom(...some), fc.constantFrom(...some))
        .map(([a, b]) => a.slice(0, 3) + b),
    },
    { weight: 1, arbitrary: fc.string({ unit: 'binary', maxLength: 20 }) },
  );
}

const anyCidr = fc.oneof(
  fc.tuple(fc.ipV4(), fc.integer({ min: 0, max: 40 })).map(([ip, length]) => `${ip}/${length}`),
  fc.tuple(fc.ipV6(), fc.integer({ min: 0, max: 140 })).map(([ip, length]) => `${ip}/${length}`),
);

const numbers = ['0', '1', '10', '100', '4094', '4095', '1280', '1500', '9000', '65535'];
const addresses = [
  '10.0.0.1/24',
  '10.0.0.1/24@10.0.0.254',
  'fd00::1/64',
  'fd00::1/64@fd00::ff',
  '0/0',
  '0/0@10.0.0.9',
  '10.0.0.1/32',
];
const macs = ['02:00:00:00:00:01', 'U:x', '@10', '02:00:00:00:00:01@10', '01:00:00:00:00:01', '@0'];
const networks = ['br1', 'lan0', 'nic0', 'eth0', 'lo', 'wire1', 'dummy', 'mac:02:00:00:00:00:01'];

/** `--wait` would wait, and a DHCP client is a matter of tests of its own. */
const harmless = (argv: readonly string[], container: string): boolean =>
  !argv.some((word) => /^--wait$/.test(word)) &&
  !(container.startsWith('pid:') && argv.some((word) => /^(udhcpc|dhclient|dhcpcd)/.test(word)));

for (const [where, containerOf] of [
  ['a container that there is', (ground: Ground) => `pid:${ground.guest.pid}`],
  ['a container that there is not', () => 'pid:4194304'],
] as const) {
  test(`random lines of pipework, with ${where}: no stack, and no change by one that is refused`, async (t) => {
    if (skipUnless(t, 'root')) return;
    const ground = await Ground.make(t);
    await prepare(ground);
    const container = containerOf(ground);
    const options = fc.oneof(
      {
        weight: 12,
        arbitrary: fc.constantFrom(
          ['-i', 'eth5'],
          ['-i', 'eth0'],
          ['-l', 'app1'],
          ['-l', 'nic0'],
          ['-a', '4'],
          ['-a', '6'],
          ['--direct-phys'],
          ['--no-firewall'],
        ),
      },
      { weight: 1, arbitrary: words(['-i', '-l', '-a', '--', '-z']).map((word) => [word]) },
    );
    const lines = fc
      .tuple(
        fc.array(options, { maxLength: 1 }),
        words(networks),
        fc.array(options, { maxLength: 1 }),
        fc.oneof(
          { weight: 9, arbitrary: fc.constant(container) },
          { weight: 1, arbitrary: words([...wrongContainers]) },
        ),
        fc.oneof(words(addresses), anyCidr),
        fc.array(words(macs), { maxLength: 1 }),
      )
      .map(([some, network, more, guest, address, rest]) => [
        ...[...some.flat(), network, ...more.flat(), guest, address, ...rest],
      ]);
    await assertHarmless(
      t,
      ground,
      'pipework',
      lines.filter((argv) => harmless(argv, container)),
    );
  });

  test(`random lines of pipewright, with ${where}: no stack, and no change by one that is refused`, async (t) => {
    if (skipUnless(t, 'root')) return;
    const ground = await Ground.make(t);
    await prepare(ground);
    const container = containerOf(ground);
    const kinds = [
      'bridge:br1',
      'macvlan:nic0',
      'phys:nic0',
      'ipvlan:nic0',
      'phys:lo',
      'macvlan:lan0',
      ...networks,
    ];
    const flags = fc.oneof(
      fc.tuple(fc.constant('--network'), words(kinds)),
      fc.tuple(fc.constant('--address'), fc.oneof(words(addresses), anyCidr)),
      fc.tuple(fc.constant('--gateway'), fc.oneof(words(['10.0.0.254', 'fd00::1']), fc.ipV4())),
      fc.tuple(fc.constant('--route'), fc.oneof(words(['10.5.0.0/16', '10.5.0.0/16 via 10.0.0.9']), anyCidr)),
      fc.tuple(fc.constant('--mac'), words(macs)),
      fc.tuple(fc.constantFrom('--mtu', '--vlan'), words(numbers)),
      fc.tuple(fc.constant('--mode'), words(['bridge', 'private', 'passthru', 'l2', 'l3'])),
      fc.tuple(
        fc.constantFrom('--ifname', '--host-ifname'),
        words(['eth1', 'eth0', 'app1', 'lo', 'nic0', 'lan0']),
      ),
      fc.tuple(fc.constantFrom('--dry-run', '--json', '--no-firewall', '--all', '--nosuch')),
    );
    const attach = fc
      .tuple(words(kinds), fc.array(flags, { maxLength: 5 }))
      .map(([network, some]) => ['attach', container, '--network', network, ...some.flat()]);
    const other = fc
      .tuple(
        fc.constantFrom('attach', 'detach', 'list', 'completion', 'nosuch'),
        fc.array(flags, { maxLength: 3 }),
      )
      .map(([command, some]) => [command, container, ...some.flat()]);
    await assertHarmless(
      t,
      ground,
      'pipewright',
      fc.oneof({ weight: 5, arbitrary: attach }, { weight: 1, arbitrary: other }),
    );
  });
}

async function assertHarmless(
  t: TestContext,
  ground: Ground,
  program: Line['program'],
  lines: fc.Arbitrary<string[]>,
): Promise<void> {
  if (lacks('macvlan')) t.diagnostic('without macvlan most lines are refused by the kernel');
  const runner = new Runner(t, ground);
  let before = ground.dump();
  const counts = { accepted: 0, refused: 0 };
  await fc.assert(
    fc.asyncProperty(lines, async (argv) => {
      const said = await runner.run({ program, argv });
      assert.doesNotMatch(said.stdout + said.stderr, /internal error|thrown:/);
      if (said.code === 0) {
        counts.accepted += 1;
        await runner.run({ program: 'pipewright', argv: ['detach', `pid:${ground.guest.pid}`, '--all'] });
        before = ground.dump();
        return;
      }
      counts.refused += 1;
      assert.ok([1, 2, 255].includes(said.code), `exit code ${said.code}`);
      assert.deepEqual(await differences(before, () => ground.dump(), 1000), []);
      // What `ip` and `tc` say is theirs.
      if (!argv.some((word) => /^(route|rule|tc)/.test(word))) assertOneLineOrUsage(said);
    }),
    { numRuns: rounds },
  );
  t.diagnostic(`${counts.accepted} accepted, ${counts.refused} refused`);
}

function assertOneLineOrUsage(said: Said): void {
  if (/^(Syntax:|USAGE)/.test(said.stdout)) return;
  const twoLines = said.stderr.startsWith('The IP address should include a netmask.\n');
  assertOneLine(said, twoLines ? 2 : 1);
}
