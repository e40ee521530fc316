/** Docker's firewall drops what bridges forward; the rule against that, and where it is left alone. */
import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import test from 'node:test';
import {
  type Container,
  cidrs,
  cleanupBridge,
  cleanupOvsBridge,
  ping,
  pipework,
  pipewright,
  run,
  runContainer,
  runIn,
  skipUnless,
} from '../lab.ts';
import { type Cases, command, type Ground, makeGround, type OwnHost, reaches, runCases } from './support.ts';

/** There where dockerd has loaded br_netfilter; without it nothing on a bridge is filtered. */
const bridgeNetfilter = '/proc/sys/net/bridge/bridge-nf-call-iptables';

const families = ['iptables', 'ip6tables'] as const;

/** A host whose firewall is as dockerd leaves it. */
function dockerFirewall(host: OwnHost): void {
  for (const program of families) {
    runIn(host.name, program, ['-w', '-F'], { expect: 'any' });
    runIn(host.name, program, ['-w', '-X'], { expect: 'any' });
    runIn(host.name, program, ['-w', '-N', 'DOCKER-USER']);
    runIn(host.name, program, ['-w', '-A', 'DOCKER-USER', '-j', 'RETURN']);
    runIn(host.name, program, ['-w', '-A', 'FORWARD', '-j', 'DOCKER-USER']);
    runIn(host.name, program, ['-w', '-P', 'FORWARD', 'DROP']);
  }
}

/** The rules of DOCKER-USER, without the last, which is Docker's. */
const rules = (host: OwnHost, program: (typeof families)[number] = 'iptables'): string[] =>
  runIn(host.name, program, ['-w', '-S', 'DOCKER-USER'])
    .stdout.split('\n')
    .filter((rule) => rule.startsWith('-A') && rule !== '-A DOCKER-USER -j RETURN');

const ruleFor = (bridge: string): string =>
  `-A DOCKER-USER -i ${bridge} -o ${bridge} -m comment --comment "pipewright:${bridge}" -j ACCEPT`;

const connect = (host: OwnHost, { name }: Container, i: number, ...options: string[]) =>
  host.pipework([...options, 'br1', name, `10.0.0.${i}/24`]);

const cases: Cases<Ground> = {
  'the first interface on a bridge brings its rule, in both families, first in the chain': ({
    host,
    a,
    b,
  }) => {
    connect(host, a, 1);
    connect(host, b, 2);
    for (const program of families) assert.deepEqual(rules(host, program), [ruleFor('br1')]);
    assert.match(
      runIn(host.name, 'iptables', ['-S', 'DOCKER-USER']).stdout,
      /-N DOCKER-USER\n-A .*pipewright/,
    );
    assert.equal(reaches(a.pid, '10.0.0.2'), true);
  },

  '--no-firewall leaves it out': ({ host, a, b }) => {
    connect(host, a, 1, '--no-firewall');
    connect(host, b, 2, '--no-firewall');
    assert.deepEqual(rules(host), []);
    assert.equal(ping(a.pid, '10.0.0.2'), !existsSync(bridgeNetfilter));
    host.pipewright(['attach', a.name, '--network', 'br1', '--no-firewall']);
    assert.deepEqual(rules(host), []);
  },

  'it comes back with the next interface on that bridge when the chain was emptied': ({ host, a, b }) => {
    connect(host, a, 1);
    runIn(host.name, 'iptables', ['-w', '-F', 'DOCKER-USER']);
    connect(host, b, 2);
    assert.deepEqual(rules(host), [ruleFor('br1')]);
    assert.deepEqual(rules(host, 'ip6tables'), [ruleFor('br1')]);
    assert.equal(reaches(a.pid, '10.0.0.2'), true);
  },

  'an attach that changes nothing else brings it back, and says so': ({ host, a }) => {
    connect(host, a, 1);
    runIn(host.name, 'iptables', ['-w', '-F', 'DOCKER-USER']);
    const { stdout } = host.pipewright(['attach', a.name, '--network', 'br1']);
    assert.match(stdout, /^\+ iptables -I DOCKER-USER [^\n]*\n$/);
    assert.deepEqual(rules(host), [ruleFor('br1')]);
  },

  'it goes with the last interface on the bridge, and other rules stay': ({ host, a, b }) => {
    runIn(host.name, 'iptables', ['-w', '-I', 'DOCKER-USER', '-s', '192.0.2.1', '-j', 'DROP']);
    connect(host, a, 1);
    connect(host, b, 2);
    host.pipewright(['detach', a.name]);
    assert.equal(rules(host).length, 2);
    host.pipewright(['detach', b.name]);
    assert.deepEqual(rules(host), ['-A DOCKER-USER -s 192.0.2.1/32 -j DROP']);
    assert.deepEqual(rules(host, 'ip6tables'), []);
  },

  'it goes from a bridge that stays, since it was there before': ({ host, a }) => {
    host.ip('link', 'add', 'br1', 'type', 'bridge');
    connect(host, a, 1);
    assert.deepEqual(rules(host), [ruleFor('br1')]);
    host.pipewright(['detach', a.name]);
    assert.deepEqual(rules(host), []);
    assert.deepEqual(host.links(), ['br1']);
  },

  'a failure takes the rule back': ({ host, a }) => {
    host.pipework(['br1', a.name, '10.5.0.5/24,10.6.0.5/24@10.5.0.255'], { expect: 2 });
    for (const program of families) assert.deepEqual(rules(host, program), []);
  },

  'a rule whose bridge was deleted by hand goes with the next one that is made': ({ host, a, b }) => {
    connect(host, a, 1);
    host.ip('link', 'del', 'br1');
    host.pipework(['br2', b.name, '10.0.0.1/24']);
    assert.deepEqual(rules(host), [ruleFor('br2')]);
  },

  "no chain of Docker's: nothing is done, and nothing fails": ({ host, a }) => {
    for (const program of families) {
      runIn(host.name, program, ['-w', '-F']);
      runIn(host.name, program, ['-w', '-X']);
    }
    connect(host, a, 1);
    assert.equal(runIn(host.name, 'iptables', ['-w', '-S']).stdout.includes('pipewright'), false);
    host.pipewright(['detach', a.name]);
  },

  'no iptables: nothing is done, and nothing fails': ({ host, a }) => {
    // A mount namespace in which the folder of system programs is empty.
    const script = 'mount -t tmpfs none /usr/sbin && exec "$@"';
    const words = command('pipework', ['br1', a.name, '10.0.0.1/24']);
    runIn(host.name, 'unshare', ['-m', 'sh', '-c', script, 'sh', ...words]);
    assert.deepEqual(rules(host), []);
    assert.deepEqual(cidrs(a.pid, 'eth1'), ['10.0.0.1/24']);
  },
};

test("the rule in Docker's firewall", async (t) => {
  if (skipUnless(t, 'root', 'docker', 'program:iptables', 'program:ip6tables')) return;
  const ground = await makeGround(t, 'fw');
  runIn(ground.host.name, 'sh', ['-c', `echo 1 > ${bridgeNetfilter}`], { expect: 'any' });
  const fresh = Object.fromEntries(
    Object.entries(cases).map(([name, act]) => [
      name,
      (given: Ground, t: Parameters<typeof act>[1]) => {
        dockerFirewall(given.host);
        return act(given, t);
      },
    ]),
  );
  await runCases(t, ground, fresh);
});

test("the README's first example pings on a stock Docker Engine", async (t) => {
  if (skipUnless(t, 'root', 'docker', 'program:iptables')) return;
  const bridge = `brpwt${process.pid % 100_000}`;
  cleanupBridge(t, bridge);
  const [web, app] = [runContainer(t, 'web'), runContainer(t, 'app')];
  pipework([bridge, web.name, '10.213.0.1/24']);
  pipework([bridge, app.name, '10.213.0.2/24']);
  const { stdout } = run('docker', ['exec', web.name, 'ping', '-c', '1', '-W', '1', '10.213.0.2']);
  assert.match(stdout, /1 packets received, 0% packet loss/);
  const listed = (): string[] =>
    run('iptables', ['-w', '-S', 'DOCKER-USER'])
      .stdout.split('\n')
      .filter((rule) => rule.includes(`"pipewright:${bridge}"`));
  assert.deepEqual(listed(), [ruleFor(bridge)]);
  pipewright(['detach', app.name]);
  pipewright(['detach', web.name]);
  assert.deepEqual(listed(), []);
});

test("Open vSwitch and Docker's own bridges need no rule", async (t) => {
  if (skipUnless(t, 'root', 'docker', 'ovs', 'program:iptables')) return;
  const bridge = `ovspwt${process.pid % 100_000}`;
  cleanupOvsBridge(t, bridge);
  const { name } = runContainer(t, 'fwo');
  const listed = (): string => run('iptables', ['-w', '-S', 'DOCKER-USER'], { expect: 'any' }).stdout;
  pipework([bridge, name, '10.213.0.1/24']);
  assert.equal(listed().includes(bridge), false);
  pipework(['docker0', '-i', 'eth5', name, '172.17.200.200/16']);
  assert.equal(listed().includes('pipewright:docker0'), false);
  pipewright(['detach', name, '--all']);
});
