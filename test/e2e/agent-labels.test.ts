/** Labels of containers as entries: off unless told, made by a running agent, by plan and apply, wrong ones by themselves. */
import assert from 'node:assert/strict';
import test, { type TestContext } from 'node:test';
import {
  type Container,
  cidrs,
  containerPid,
  ensureImage,
  ipLink,
  ipRoutes,
  run,
  runContainer,
  runIn,
  skipUnless,
} from '../lab.ts';
import { type AgentHost, agentHost, soon } from './agent-ground.ts';
import { defaults, linkNames, reaches } from './support.ts';

const networks = `
networks:
  lan: { kind: bridge, bridge: br0, subnet: 10.1.0.0/24, gateway: 10.1.0.254, range: 10.1.0.100-10.1.0.199, hostAddress: 10.1.0.254/24 }
  far: { kind: bridge, bridge: br1 }
`;

const labelled = (t: TestContext, name: string, labels: Readonly<Record<string, string>>): Container =>
  runContainer(t, name, {
    args: Object.entries(labels).flatMap(([key, value]) => ['--label', `pipewright.${key}=${value}`]),
  });

const stateOf = (host: AgentHost, key: string) => host.status().find((line) => line.key === key);

test('labels of containers and the agent', async (t) => {
  if (skipUnless(t, 'root', 'docker')) return;
  const host = await agentHost(t, 'lbh');
  const full = labelled(t, 'lba', {
    lan: 'address=10.1.0.1/24,ifname=eth1,gateway=10.1.0.253,mac=02:00:00:00:01:01,mtu=1400,route=10.5.0.0/16 via 10.1.0.9,route=default via 10.1.0.8 table 100',
    'far.eth5': 'address=10.9.0.1/24,gateway=none',
  });
  const auto = labelled(t, 'lbb', { lan: 'address=auto' });
  const wrong = labelled(t, 'lbc', { lan: 'address=10.1.0.1/24', far: 'adress=auto', nosuch: '' });
  const filed = labelled(t, 'lbd', { lan: 'address=10.1.0.66/24' });
  const file = `${networks}attachments:\n  - { container: ${filed.name}, network: lan, addresses: 10.1.0.4/24 }\n`;
  host.write(file);

  await t.test('say nothing to an agent that is not told to trust them', async (t) => {
    const agent = await host.agent(t);
    assert.deepEqual(linkNames(full.pid), []);
    assert.deepEqual(cidrs(filed.pid, 'eth1'), ['10.1.0.4/24']);
    await agent.stop('SIGTERM');
    assert.equal(host.on('plan').stdout, 'nothing to do\n');
  });

  const agent = await host.agent(t, '--trust-labels');

  await t.test('say as much as an entry of a file', () => {
    assert.deepEqual(linkNames(full.pid), ['eth1', 'eth5']);
    assert.deepEqual(cidrs(full.pid, 'eth1'), ['10.1.0.1/24']);
    assert.equal(ipLink(full.pid, 'eth1')?.address, '02:00:00:00:01:01');
    assert.equal(ipLink(full.pid, 'eth1')?.mtu, 1400);
    assert.deepEqual(defaults(full.pid), ['via 10.1.0.253 dev eth1']);
    assert.ok(ipRoutes(full.pid).some(({ dst, gateway }) => dst === '10.5.0.0/16' && gateway === '10.1.0.9'));
    assert.equal(ipRoutes(full.pid, 4, 'table', '100')[0]?.gateway, '10.1.0.8');
    assert.deepEqual(cidrs(full.pid, 'eth5'), ['10.9.0.1/24']);
    assert.match(cidrs(auto.pid, 'eth1').join(), /^10\.1\.0\.1\d\d\/24$/);
    assert.deepEqual(defaults(auto.pid), ['via 10.1.0.254 dev eth1']);
    assert.ok(reaches(auto.pid, '10.1.0.1') && reaches(auto.pid, '10.1.0.254'));
    assert.equal(stateOf(host, `${full.name}/eth5`)?.state, 'healthy');
  });

  await t.test('that are wrong are errors by name, and stop nothing else', async () => {
    assert.deepEqual(linkNames(wrong.pid), []);
    const details = ['lan', 'far', 'nosuch'].map((label) => {
      const line = stateOf(host, `${wrong.name}/pipewright.${label}`);
      assert.equal(line?.state, 'failing', JSON.stringify(host.status()));
      return line.detail;
    });
    assert.match(
      details[0] ?? '',
      new RegExp(`^10\\.1\\.0\\.1 is given to another as well; see label pipewright\\.lan of ${full.name}$`),
    );
    assert.equal(details[1], 'unknown word "adress"; did you mean "address"?');
    assert.equal(details[2], 'there is no network "nosuch" in the topology');
    assert.equal(host.pipewright(['status'], { expect: 'any' }).code, 1);
    const told = (agent.log().match(/unknown word/g) ?? []).length;
    runIn(full.pid, 'ip', ['link', 'set', 'eth1', 'down']);
    await soon(() => defaults(full.pid).length === 1);
    assert.equal((agent.log().match(/unknown word/g) ?? []).length, told, 'told once');
  });

  await t.test('a file goes before a label', () => {
    assert.deepEqual(cidrs(filed.pid, 'eth1'), ['10.1.0.4/24']);
    assert.equal(stateOf(host, `${filed.name}/eth1`)?.state, 'healthy');
    assert.equal(stateOf(host, `${filed.name}/pipewright.lan`), undefined);
  });

  await t.test('of a container that starts; a wrong one is forgotten with its container', async () => {
    run('docker', ['restart', '-t', '0', auto.name]);
    const pid = containerPid(auto.name);
    const before = cidrs(auto.pid, 'eth1');
    assert.ok((await soon(() => cidrs(pid, 'eth1').length === 1)) !== undefined, agent.log());
    assert.deepEqual(before, []);
    const name = `pwt-lbe-${process.pid}`;
    const start = (value: string): void =>
      void run('docker', [
        ...['run', '-d', '--name', name, '--label', `pwt.pid=${process.pid}`, '--network', 'none'],
        ...['--label', `pipewright.lan=${value}`, ensureImage()],
      ]);
    t.after(() => void run('docker', ['rm', '-f', name], { expect: 'any' }));
    start('address=10.1.0.1/24');
    const key = `${name}/pipewright.lan`;
    assert.ok((await soon(() => stateOf(host, key)?.state === 'failing')) !== undefined, agent.log());
    run('docker', ['rm', '-f', name]);
    assert.ok(
      (await soon(() => stateOf(host, key) === undefined)) !== undefined,
      JSON.stringify(host.status()),
    );
    start('address=10.1.0.5/24');
    assert.ok(
      (await soon(() => stateOf(host, `${name}/eth1`)?.state === 'healthy')) !== undefined,
      agent.log(),
    );
    assert.deepEqual(cidrs(containerPid(name), 'eth1'), ['10.1.0.5/24']);
    run('docker', ['rm', '-f', name]);
    assert.ok((await soon(() => stateOf(host, `${name}/eth1`) === undefined)) !== undefined);
  });

  await t.test('a network that comes or goes with the file', async () => {
    host.write(file.replace('far:', 'nosuch:'));
    const key = `${wrong.name}/eth1`;
    const isSo = (): boolean =>
      stateOf(host, key)?.state === 'healthy' && linkNames(full.pid).join() === 'eth1';
    assert.ok((await soon(isSo)) !== undefined, `${JSON.stringify(host.status())}\n${agent.log()}`);
    assert.equal(stateOf(host, `${wrong.name}/pipewright.nosuch`), undefined);
    assert.equal(stateOf(host, `${full.name}/pipewright.far.eth5`)?.state, 'failing');
    host.write(file);
    const isBack = (): boolean =>
      linkNames(wrong.pid).length === 0 && linkNames(full.pid).join() === 'eth1,eth5';
    assert.ok((await soon(isBack)) !== undefined, `${JSON.stringify(host.status())}\n${agent.log()}`);
  });

  await t.test('a command is told that a label goes before it', () => {
    const said = host.pipewright(['detach', full.name], { expect: 0 });
    assert.match(said.stderr, /eth1 is in label pipewright\.lan of [^ ]*: it will be made again/);
  });

  await t.test('plan and apply take them too, when told', async () => {
    await soon(() => linkNames(full.pid).length === 2);
    await agent.stop('SIGTERM');
    const planned = host.on('plan', '--trust-labels');
    assert.equal(planned.code, 1, planned.stdout);
    assert.equal(planned.stdout.match(/^! /gm)?.length, 3, planned.stdout);
    assert.match(
      planned.stdout,
      new RegExp(`^! ${wrong.name}/pipewright\\.far: .*unknown word "adress"`, 'm'),
    );
    run('docker', ['rm', '-f', wrong.name]);
    assert.equal(host.on('plan', '--trust-labels').stdout, 'nothing to do\n');
    assert.equal(host.on('status', '--trust-labels').code, 0);
    for (const words of [['plan'], ['apply', '--yes']]) {
      const untold = host.on(...(words as ['plan']));
      assert.deepEqual([untold.code, untold.stdout], [0, 'nothing to do\n']);
      assert.match(untold.stderr, new RegExp(`${full.name}/eth1.*asked for by labels, left alone`));
    }
    assert.deepEqual(linkNames(full.pid), ['eth1', 'eth5']);
  });

  await t.test("what a label asked for is the file's when that says the same, and goes with it", () => {
    const entry = `  - { container: ${auto.name}, network: lan, addresses: auto }\n`;
    const pid = containerPid(auto.name);
    const before = cidrs(pid, 'eth1');
    host.write(file + entry);
    assert.equal(host.on('apply', '--yes').stdout, 'nothing to do\n');
    assert.deepEqual(cidrs(pid, 'eth1'), before);
    host.write(file);
    assert.equal(host.on('apply', '--yes').code, 0);
    assert.deepEqual(linkNames(pid), []);
    const told = host.on('apply', '--yes', '--trust-labels');
    assert.equal(told.code, 0, told.stdout);
    assert.deepEqual(cidrs(pid, 'eth1'), before);
  });

  await t.test('an agent that does not trust them takes away what they asked for', async (t) => {
    const untold = await host.agent(t);
    assert.deepEqual(linkNames(full.pid), [], untold.log());
    assert.deepEqual(cidrs(filed.pid, 'eth1'), ['10.1.0.4/24']);
  });
});
