/** Wrong topology files, given to an agent that runs and to `apply`: each is refused with its places, and nothing changes. */
import assert from 'node:assert/strict';
import { mkdirSync, readdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import test from 'node:test';
import { wrongFiles } from '../config/topology/wrong-files.ts';
import { cidrs, runContainer, skipUnless } from '../lab.ts';
import { agentHost, soon, startOvs } from './agent-ground.ts';
import { dumpOf } from './dump.ts';

interface Wrong {
  readonly name: string;
  /** Puts it into the folder. */
  readonly put: (folder: string) => void;
  /** Lines of the refusal, without the folder and the name t1.yaml. */
  readonly want: readonly (string | RegExp)[];
}

const text = (name: string, content: string | Buffer, want: string | RegExp): Wrong => ({
  name,
  put: (folder) => writeFileSync(path.join(folder, 't1.yaml'), content),
  want: [want],
});

function bomb(): string {
  const list = (from: string): string => `[ ${Array(10).fill(`*${from}`).join(', ')} ]`;
  const lines = ['x-a: &a [ 1, 1, 1, 1, 1, 1, 1, 1, 1, 1 ]'];
  for (const [from = '', to = ''] of ['ab', 'bc', 'cd', 'de', 'ef', 'fg', 'gh', 'hi'])
    lines.push(`x-${to}: &${to} ${list(from)}`);
  return lines.join('\n');
}

/** Files that are made to hurt, besides those of wrong-files.txt. */
const nasty: readonly Wrong[] = [
  text(
    'a huge file',
    '# text\n'.repeat(200_000),
    '1:1: the file is larger than 1 MiB, which no topology needs',
  ),
  text('many brackets', '['.repeat(5000), /^1:\d+: this is nested too deeply$/),
  text('aliases that would come to 10^9 values', bomb(), /^\d+:\d+: aliases repeat more than 50000 values$/),
  text('many keys', Array.from({ length: 2000 }, (_, i) => `k${i}: 1`).join('\n'), 'and 1980 more'),
  text('what is not UTF-8', Buffer.from('networks:\n  \xff: 1\n', 'latin1'), '2:3: this is not UTF-8'),
  text('zeros', Buffer.alloc(4096), /^1:1: /),
  {
    name: 'a link to itself',
    put: (folder) => symlinkSync('t1.yaml', path.join(folder, 't1.yaml')),
    want: [/^topology +it cannot be read/],
  },
  {
    name: 'a link to nothing',
    put: (folder) => symlinkSync('nothing', path.join(folder, 't1.yaml')),
    want: [/^topology +it is a link to a file that is not there/],
  },
];

/** One of so many of wrong-files.txt, which are all refused by the parser's own test, and the nasty ones. */
const share = (one: number): readonly Wrong[] => [...listed.filter((_, i) => i % one === 0), ...nasty];

const listed = wrongFiles().map(({ name, files, want }) => ({
  name,
  put: (folder: string) => {
    for (const { file, text: content } of files) writeFileSync(path.join(folder, file), content);
  },
  want,
}));

function empty(folder: string): void {
  for (const name of readdirSync(folder)) rmSync(path.join(folder, name));
}

/** Lines of the refusal that are not there. */
function missing(refusal: string, folder: string, { want }: Wrong): (string | RegExp)[] {
  const lines = refusal.replaceAll(`${folder}/`, '').replaceAll('t1.yaml:', '').split('\n');
  return want.filter((line) =>
    typeof line === 'string'
      ? !lines.some((each) => each === line || each.endsWith(` ${line}`))
      : !lines.some((each) => line.test(each)),
  );
}

test('wrong files', async (t) => {
  if (skipUnless(t, 'root', 'docker', 'ovs', 'program:curl')) return;
  const cases = share(2);
  const host = await agentHost(t, 'twr');
  await startOvs(t, host);
  const [a, b] = [runContainer(t, 'twra'), runContainer(t, 'twrb')];
  const folder = path.join(path.dirname(host.lasting), 'etc');
  mkdirSync(folder);
  const good = `
networks:
  good: { kind: bridge, bridge: br0, subnet: 10.1.0.0/24, hostAddress: 10.1.0.254/24, range: 10.1.0.100-10.1.0.199 }
  vlan100: { kind: ovs, bridge: ovs0, vlan: 100 }
attachments:
  - { container: ${a.name}, network: good, addresses: auto, gateway: 10.1.0.254 }
  - { container: ${b.name}, network: good, addresses: 10.1.0.2/24, rate: { in: 8mbit } }
  - { container: ${b.name}, network: vlan100, ifname: eth2, addresses: 192.168.0.2/24 }
`;
  const put = (): void => {
    empty(folder);
    writeFileSync(path.join(folder, 'good.yaml'), good);
  };
  put();
  host.use(folder);
  const agent = await host.agent(t);
  const problems = (): readonly string[] => {
    const words = ['-s', '--unix-socket', '/run/pipewright/agent.sock', 'http://agent/v1/status'];
    return (JSON.parse(host.run('curl', words).stdout) as { problems: string[] }).problems;
  };
  const isWell = (): boolean =>
    host.status().length === 3 &&
    host.status().every(({ state, repairs }) => state === 'healthy' && repairs === 0);
  assert.ok((await soon(isWell)) !== undefined, agent.log());
  const before = dumpOf(host, [a.pid, b.pid]);
  assert.ok(before.some((line) => line.includes('ovs0')) && before.length > 50);

  await t.test(`an agent that runs is given ${cases.length}`, async () => {
    for (const wrong of cases) {
      empty(folder);
      wrong.put(folder);
      agent.process.kill('SIGHUP');
      let left: unknown;
      const isTold = (): boolean => {
        left = missing(problems().join('\n'), folder, wrong);
        return (left as unknown[]).length === 0;
      };
      assert.ok(
        (await soon(isTold, 10_000)) !== undefined,
        `${wrong.name}: ${left}\n${problems().join('\n')}`,
      );
    }
    assert.deepEqual(dumpOf(host, [a.pid, b.pid]), before);
    assert.doesNotMatch(agent.log(), /"what":"(removed|repaired|failed)"/);
  });

  await t.test('with the good file again all is well', async () => {
    put();
    assert.ok((await soon(() => problems().length === 0)) !== undefined, problems().join('\n'));
    assert.ok((await soon(isWell)) !== undefined);
    assert.deepEqual(dumpOf(host, [a.pid, b.pid]), before);
  });

  await agent.stop('SIGTERM');
  const given = share(3);
  await t.test(`apply is given ${given.length}`, () => {
    assert.ok(given.length > 60);
    for (const wrong of given) {
      empty(folder);
      wrong.put(folder);
      const ran = host.on('apply', '--yes');
      assert.equal(ran.code, 1, wrong.name);
      assert.equal(ran.stdout, '', wrong.name);
      assert.deepEqual(missing(ran.stderr, folder, wrong), [], `${wrong.name}\n${ran.stderr}`);
    }
    assert.deepEqual(dumpOf(host, [a.pid, b.pid]), before);
    assert.match(cidrs(a.pid, 'eth1').join(), /^10\.1\.0\.1/);
  });
});
