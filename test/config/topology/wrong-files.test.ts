import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { parseTopology } from '../../../src/config/topology/load.ts';
import { TopologyError } from '../../../src/config/topology/problem.ts';
import { wrongFiles } from './wrong-files.ts';

function refusal(files: Parameters<typeof parseTopology>[0]): TopologyError {
  try {
    parseTopology(files);
  } catch (error) {
    assert.ok(error instanceof TopologyError, String(error));
    return error;
  }
  return assert.fail('it was accepted');
}

describe('wrong files, each with its place and reason', () => {
  const cases = wrongFiles();
  assert.ok(cases.length >= 60);
  for (const { name, files, want } of cases) {
    test(name, () => {
      const error = refusal(files);
      assert.equal(error.code, 'BAD_TOPOLOGY');
      assert.deepEqual(error.message.replaceAll('t1.yaml:', '').split('\n'), want);
    });
  }
});

describe('files that are made to hurt', () => {
  const one = (text: string) => refusal([{ file: 't.yaml', text }]);
  const cpuMs = (work: () => unknown): number => {
    const start = process.cpuUsage();
    work();
    const { user, system } = process.cpuUsage(start);
    return (user + system) / 1000;
  };
  // What a large file that is right costs to read.
  const entries = Array.from({ length: 10_000 }, (_, i) => `  - { container: c${i}, network: lan }\n`);
  const large = `networks: { lan: { kind: bridge, bridge: br0 } }\nattachments:\n${entries.join('')}`;
  const usualMs = cpuMs(() => parseTopology([{ file: 't.yaml', text: large }]));
  const cheaply = (text: string): TopologyError => {
    let error: TopologyError | undefined;
    const ms = cpuMs(() => {
      error = one(text);
    });
    assert.ok(error && ms < 10 * usualMs, `${ms} ms of CPU time, and ${usualMs} ms for a file that is right`);
    return error;
  };

  test('a file of more than 1 MiB is not read', () => {
    const error = cheaply('# text\n'.repeat(200_000));
    assert.equal(error.message, 't.yaml:1:1: the file is larger than 1 MiB, which no topology needs');
  });

  test('characters that no text file has, and line ends of long ago', () => {
    const networks = 'networks:\n  lan: { kind: bridge }\n';
    assert.equal(
      one(`${networks}\0`).message,
      't.yaml:3:1: the character \\u{0} cannot be in a topology file',
    );
    const bell = one(networks.replace('bridge', '"bri\u0007dge"'));
    assert.equal(bell.message, 't.yaml:2:20: the character \\u{7} cannot be in a topology file');
    assert.match(
      one(networks.replace('\n', '\u0085')).message,
      /^t\.yaml:1:10: the character \\u\{85\} cannot/,
    );
    assert.match(
      one(networks.replaceAll('\n', '\r')).message,
      /^t\.yaml:1:10: a second key and value in one line/,
    );
  });

  test('a byte order mark, line ends of Windows and nothing at all are not wrong', () => {
    for (const text of [
      '\ufeffnetworks:\r\n  lan: { kind: bridge }\r\n',
      '',
      '# nothing\n',
      '---\n',
      '...\n',
    ])
      parseTopology([{ file: 't.yaml', text }]);
  });

  test('a hundred thousand brackets', () => {
    assert.match(cheaply('['.repeat(100_000)).message, /^t\.yaml:1:\d+: this is nested too deeply$/);
  });

  test('aliases that would come to 10^9 values', () => {
    const list = (from: string): string => `[ ${Array(10).fill(`*${from}`).join(', ')} ]`;
    const lines = ['x-a: &a [ 1, 1, 1, 1, 1, 1, 1, 1, 1, 1 ]'];
    for (const [from, to] of ['ab', 'bc', 'cd', 'de', 'ef', 'fg', 'gh', 'hi'])
      lines.push(`x-${to}: &${to} ${list(from!)}`);
    assert.match(cheaply(lines.join('\n')).message, /aliases repeat more than 50000 values$/);
  });

  test('fifty thousand different keys', () => {
    const keys = Array.from({ length: 50_000 }, (_, i) => `k${i}: 1`).join('\n');
    const error = cheaply(keys);
    assert.equal(error.problems.length, 20);
    assert.equal(error.more, 49_980);
    assert.equal(error.message.split('\n').at(-1), 'and 49980 more');
  });
});

test('problems of several files come in the order of the files and lines', () => {
  const error = refusal([
    { file: 'b.yaml', text: 'networks:\n  two: { kind: bridge, mtu: 1 }\n  one: { kind: dummmy }\n' },
    { file: 'a.yaml', text: 'attachments:\n  - { container: web, network: tow }\nnetwork: {}\n' },
  ]);
  assert.deepEqual(
    error.problems.map(({ place }) => `${place.file}:${place.line}:${place.column}`),
    ['b.yaml:2:29', 'b.yaml:3:16', 'a.yaml:2:32', 'a.yaml:3:1'],
  );
  assert.deepEqual(error.problems[2], {
    place: { file: 'a.yaml', line: 2, column: 32 },
    message: 'there is no network "tow" in these files',
    hint: 'did you mean "two"?',
  });
});

test('control characters and long texts do not reach the terminal as they are', () => {
  const error = refusal([
    { file: 'a\u001b.yaml', text: `networks:\n  "\\e[31m": { kind: "${'x'.repeat(500)}" }\n` },
  ]);
  assert.ok(!error.message.includes('\u001b'), error.message);
  assert.ok(error.message.length < 600, error.message);
});
