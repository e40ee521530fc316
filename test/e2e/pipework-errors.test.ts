/** What `pipework` refuses, in the original's words where it had any, and that nothing is changed then. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import test from 'node:test';
import { cidrs, ipLink, lacks, run, runContainer, runIn, skipUnless } from '../lab.ts';
import {
  type Cases,
  changesBy,
  command,
  type Ground,
  line,
  linkNames,
  makeGround,
  runCases,
} from './support.ts';

const cases: Cases<Ground> = {
  'no words: the syntax on the standard output, exit 1; --help: exit 0': ({ host, a }) => {
    for (const [words, code] of [
      [[], 1],
      [['br1', a.name], 1],
      [['br1', a.name, ''], 1],
      [['route', a.name], 1],
      [['--help'], 0],
      [['-h'], 0],
    ] as const) {
      const { stdout, stderr } = host.pipework(words, { expect: code });
      assert.match(stdout, /^Syntax:\npipework <hostinterface> /);
      assert.equal(stderr, '');
    }
    assert.match(host.pipework(['--version']).stdout, /^pipework \(pipewright \d+\.\d+\.\d+\)\n$/);
  },

  "a host interface that is nothing: the original's message": ({ host, a }) => {
    for (const name of ['nosuch', 'x', 'xbr1', 'lan0']) {
      const changes = changesBy(host, [a.pid], () => {
        const said = line(host.pipework([name, a.name, '10.0.0.1/8'], { expect: 1 }));
        assert.equal(said, `I do not know how to setup interface ${name}.`);
      });
      assert.deepEqual(changes, []);
    }
  },

  'a container that nobody knows: exit 1, and nothing is made': ({ host }) => {
    const changes = changesBy(host, [], () => {
      for (const bridge of ['br1', 'ovs1', 'dummy']) {
        const { stderr } = host.pipework([bridge, 'pwt-nosuch', '10.0.0.1/24'], { expect: 1 });
        assert.match(stderr, /^[^\n]*No such object: pwt-nosuch[^\n]*\n$/);
      }
    });
    assert.deepEqual(changes, []);
  },

  "a container that has stopped: the original's message, after three seconds": ({ host }, t) => {
    const { name } = runContainer(t, 'erc');
    run('docker', ['kill', name]);
    const began = performance.now();
    const changes = changesBy(host, [], () => {
      const { stderr } = host.pipework(['br1', name, '10.0.0.1/24'], { expect: 1 });
      assert.equal(stderr, 'Docker inspect returned invalid PID 0\n');
    });
    assert.deepEqual(changes, []);
    assert.ok(performance.now() - began > 2900);
  },

  'a container that is started while the command waits for it': ({ host }, t) => {
    const { name } = runContainer(t, 'erd');
    run('docker', ['kill', name]);
    const later = spawn('sh', ['-c', `sleep 1; exec docker start ${name}`], { stdio: 'ignore' });
    t.after(() => void later.kill());
    host.pipework(['br1', name, '10.0.0.1/24']);
  },

  "a DHCP client that is not installed: the original's message": ({ host, a }) => {
    const changes = changesBy(host, [a.pid], () => {
      for (const client of ['udhcpc', 'udhcpc-f', 'dhclient', 'dhclient-f', 'dhcpcd']) {
        const words = command('pipework', ['br1', a.name, client]);
        const said = line(runIn(host.name, 'env', ['PATH=/nonexistent', ...words], { expect: 1 }));
        assert.match(said, /^You asked for DHCP client \S+, but I can't find it\.$/);
      }
    });
    assert.deepEqual(changes, []);
  },

  'words that are no DHCP client are addresses without prefix length': ({ host, a }) => {
    for (const word of ['dhcp-f', 'dhcpcd-f', 'udhcpc6', 'fd00::1']) {
      const said = line(host.pipework(['br1', a.name, word], { expect: 1 }));
      assert.equal(said, `The IP address should include a netmask.\nMaybe you meant ${word}/24 ?`);
    }
    assert.deepEqual(host.links(), []);
  },

  'options in any order before the container': ({ host, a }) => {
    host.pipework(['-l', 'app1', '-i', 'eth5', 'br1', '-a', '4', a.name, '10.0.0.1/24']);
    host.pipework(['br1', '-a', '4', '-l', 'app2', '-i', 'eth6', a.name, '10.0.1.1/24']);
    assert.deepEqual(linkNames(a.pid), ['eth5', 'eth6']);
    assert.deepEqual(host.links(), ['app1', 'app2', 'br1']);
  },

  'an option that is unknown, given twice or without its value: one line': ({ host, a }) => {
    for (const words of [
      ['--nosuch', 'br1', a.name, '10.0.0.1/24'],
      ['br1', '-x', a.name, '10.0.0.1/24'],
      ['br1', '-i', 'x', '-i', 'y', a.name, '10.0.0.1/24'],
      ['br1', '-i'],
    ]) {
      assert.match(line(host.pipework(words, { expect: 1 })), /^Option -i [^\n]*$|^Unknown option "[^\n]*$/);
    }
    assert.deepEqual(host.links(), []);
  },

  "the caller's environment has no say": ({ host, a }) => {
    const env = {
      WAIT: '1',
      GATEWAY: '10.0.0.254',
      DHCP_CLIENT: 'udhcpc',
      DHCP_OPTIONS: '-n',
      LOCAL_IFNAME: 'leak',
      CONTAINER_IFNAME: 'leak',
      DIRECT_PHYS: '1',
      DOCKERPID: '1',
      MACADDR: '02:00:00:00:00:01',
      VLAN: '10',
    };
    host.pipework(['br1', a.name, '10.0.0.1/24'], { env });
    assert.deepEqual(host.links(), ['br1', `veth1pl${a.pid}`]);
    assert.deepEqual(cidrs(a.pid, 'eth1'), ['10.0.0.1/24']);
    assert.equal(runIn(a.pid, 'ip', ['route']).stdout.includes('default'), false);
    assert.notEqual(ipLink(a.pid, 'eth1')?.address, env.MACADDR);
  },

  "a MAC address that cannot be an interface's: one line, and nothing is made": ({ host, a }) => {
    const changes = changesBy(host, [a.pid], () => {
      for (const mac of [
        'zz',
        '01:00:5e:00:00:01',
        'ff:ff:ff:ff:ff:ff',
        '00:00:00:00:00:00',
        '02:00:00:00:00',
      ]) {
        const said = line(host.pipework(['br1', a.name, '10.0.0.1/24', mac], { expect: 1 }));
        assert.match(said, /^[^\n]*MAC address[^\n]*$/);
      }
    });
    assert.deepEqual(changes, []);
  },

  'names that the kernel or a shell would make something of: one line, exit 1, nothing is made': ({
    host,
    a,
  }) => {
    const names = ['a/b', '..', 'a b', 'a\nb', 'eth%d', 'a:b', '$(id)', '`id`', '\u00e0', '\u202e'];
    const changes = changesBy(host, [a.pid], () => {
      for (const name of names) {
        const bad = [
          ['br1', '-i', name, a.name, '10.0.0.1/24'],
          ['br1', name, '10.0.0.1/24'],
        ].slice(/^[$`-]/.test(name) ? 1 : 0);
        for (const words of bad) assert.match(line(host.pipework(words, { expect: 1 })), /^[^\n]+$/, name);
      }
    });
    assert.deepEqual(changes, []);
  },
};

test('pipework refusals', async (t) => {
  if (skipUnless(t, 'root', 'docker')) return;
  await runCases(t, await makeGround(t, 'er'), cases);
});

test("a container on the host's network is refused, and the host is not touched", async (t) => {
  if (skipUnless(t, 'root', 'docker')) return;
  const { name } = runContainer(t, 'ern', { network: 'host' });
  const bridge = `brpwt${process.pid % 100_000}`;
  const words = command('pipework', [bridge, name, '10.213.0.1/24']);
  const { stderr } = run(words[0] ?? '', words.slice(1), { expect: 1 });
  assert.match(stderr, /^pipework: [^\n]*host's network namespace[^\n]*\n$/);
  assert.equal(ipLink('host', bridge), undefined);
  assert.equal(ipLink('host', 'eth1')?.ifname, undefined);
  assert.equal(run('ip', ['addr']).stdout.includes('10.213.0.1'), false);
});

/** Runs a script in a mount namespace of its own, where it may hide what the machine has. */
const hidden = (script: string, words: readonly string[]) =>
  run('unshare', ['-m', 'sh', '-c', `${script} && exec "$@"`, 'sh', ...words], { expect: 'any' });

/** An empty folder in place of Open vSwitch's sockets: as when its daemons are stopped. */
const stopOvs = 'mkdir -p /run/openvswitch && mount -t tmpfs none /run/openvswitch';

/** As if ovs-vsctl were not installed either. */
const removeOvs = [
  stopOvs,
  'mount -t tmpfs none /mnt && mkdir /mnt/upper /mnt/work',
  'mount -t overlay -o lowerdir=/usr/bin,upperdir=/mnt/upper,workdir=/mnt/work none /usr/bin',
  'rm -f /usr/bin/ovs-vsctl',
].join(' && ');

const programs = [
  ['pipework', (name: string) => ['ovspwt0', name, '10.0.0.1/24']],
  ['pipewright', (name: string) => ['attach', name, '--network', 'ovs:ovspwt0', '--address', '10.0.0.1/24']],
] as const;

test('without Open vSwitch: one clear line, and nothing is made', async (t) => {
  if (skipUnless(t, 'root', 'docker')) return;
  const { name, pid } = runContainer(t, 'eov');
  for (const [program, words] of programs) {
    const { code, stderr, stdout } = hidden(stopOvs, command(program, words(name)));
    assert.equal(`${code} ${stdout}`, '1 ');
    // Where it is not installed at all, the drop-in says what the original says.
    if (!lacks('program:ovs-vsctl')) assert.match(stderr, /^pipew[a-z]+: [^\n]*Open vSwitch[^\n]*\n$/);
  }
  assert.deepEqual(linkNames(pid), []);
});

test("where Open vSwitch is not installed: the original's message", async (t) => {
  if (skipUnless(t, 'root', 'docker')) return;
  const { name, pid } = runContainer(t, 'eon');
  if (hidden(removeOvs, ['true']).code !== 0) return t.skip('no overlay file system');
  const { code, stderr } = hidden(removeOvs, command('pipework', ['ovspwt0', name, '10.0.0.1/24']));
  assert.equal(`${code} ${stderr}`, '1 Need OVS installed on the system to create an ovs bridge\n');
  assert.deepEqual(linkNames(pid), []);
});

test('without Docker: one clear line, exit 1', async (t) => {
  if (skipUnless(t, 'root')) return;
  const noDocker = { DOCKER_HOST: 'unix:///nonexistent' };
  const lines = [
    command('pipework', ['brpwt0', 'web', '10.0.0.1/24']),
    command('pipework', ['route', 'web', 'show']),
    command('pipewright', ['attach', 'web', '--network', 'bridge:brpwt0']),
    command('pipewright', ['detach', 'web']),
    command('pipewright', ['wait', 'web']),
  ];
  for (const [first = '', ...rest] of lines) {
    const { stdout, stderr } = run(first, rest, { expect: 1, env: noDocker });
    assert.equal(stdout, '');
    assert.match(stderr, /^[^\n]*Docker[^\n]*\n$/);
  }
  assert.equal(ipLink('host', 'brpwt0'), undefined);
});

test('without root: one clear line, exit 1', async (t) => {
  if (skipUnless(t, 'root', 'program:setpriv')) return;
  const nobody = ['setpriv', '--reuid=65534', '--regid=65534', '--clear-groups'];
  const lines = [
    command('pipework', ['brpwt0', 'web', '10.0.0.1/24']),
    command('pipework', ['route', 'web', 'show']),
    command('pipewright', ['attach', 'web', '--network', 'bridge:brpwt0']),
    command('pipewright', ['detach', 'web']),
    command('pipewright', ['list']),
  ];
  for (const words of lines) {
    const [first = '', ...rest] = [...nobody, ...words];
    const { stdout, stderr } = run(first, rest, { expect: 1 });
    assert.equal(stdout, '');
    assert.match(stderr, /^pipew[a-z]+: [^\n]*root[^\n]*CAP_NET_ADMIN[^\n]*\n$/);
  }
  for (const words of [command('pipework', ['--help']), command('pipewright', ['--help'])]) {
    const [first = '', ...rest] = [...nobody, ...words];
    run(first, rest);
  }
});

test('a container that dies while it is looked up: one clear line, and nothing is left', async (t) => {
  if (skipUnless(t, 'root', 'docker')) return;
  const { host } = await makeGround(t, 'edd');
  // Its first process ends by itself between the command's start and its end, now and then in the middle of it.
  for (const ms of [0, 20, 40, 60, 80, 100]) {
    const holder = spawn('unshare', ['-n', 'sleep', '60'], { stdio: 'ignore' });
    t.after(() => void holder.kill('SIGKILL'));
    await new Promise((resolve) => setTimeout(resolve, 50));
    const running = host.pipeworkAsync(['br1', `pid:${holder.pid}`, '10.0.0.1/24'], { expect: 'any' });
    setTimeout(() => holder.kill('SIGKILL'), ms);
    const { code, stderr } = await running;
    assert.ok(code === 0 || (code <= 2 && /^pipework: [^\n]+\n$/.test(stderr)), `${code} ${stderr}`);
  }
});
