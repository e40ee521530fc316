/** Every `console` block of the README and the guides is run, and shows what it says. */
import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import test from 'node:test';
import { cleanupBridge, cleanupOvsBridge, ensureImage, root, run, skipUnless } from './lab.ts';

/** Names of the documents, and those that this test may use on the machine it runs on. */
const names: readonly (readonly [RegExp, string, string])[] = [
  [/\bweb\b/g, 'web', 'pwtdoc-web'],
  [/\bapp\b/g, 'app', 'pwtdoc-app'],
  [/\bbr1\b/g, 'br1', 'brpwtdoc'],
  [/\bovs0\b/g, 'ovs0', 'ovspwtdoc'],
];

interface Command {
  readonly line: string;
  readonly output: string;
}

function blocksOf(file: string): Command[][] {
  const text = readFileSync(path.join(root, file), 'utf8');
  return [...text.matchAll(/^```console\n([\s\S]*?)^```/gm)].map(([, block = '']) =>
    block
      .split(/^\$ /m)
      .slice(1)
      .map((command) => {
        const [line = '', ...output] = command.split('\n');
        return { line, output: output.join('\n') };
      }),
  );
}

/** What differs from run to run, and the width of columns. */
function normalise(output: string): string {
  let text = output;
  for (const [, name, own] of names) text = text.replaceAll(own, name);
  return text
    .replace(/([0-9a-f]{2}:){5}[0-9a-f]{2}/g, 'MAC')
    .replace(/veth1pl\d+/g, 'veth1plPID')
    .replace(/[0-9.]+\/[0-9.]+\/[0-9.]+ ms/g, 'TIMES ms')
    .replace(/[ \t]+/g, ' ')
    .replace(/ $/gm, '')
    .trim();
}

const guides = readdirSync(path.join(root, 'docs/guide')).map((name) => `docs/guide/${name}`);

for (const file of ['README.md', ...guides]) {
  const blocks = blocksOf(file);
  if (blocks.length === 0) continue;
  test(`the commands of ${file} do what it shows`, (t) => {
    if (skipUnless(t, 'root', 'docker', 'ovs')) return;
    const image = ensureImage();
    cleanupBridge(t, 'brpwtdoc');
    cleanupOvsBridge(t, 'ovspwtdoc');
    const runs = blocks.flat().some(({ line }) => line.startsWith('docker run'));
    for (const name of ['pwtdoc-web', 'pwtdoc-app']) {
      t.after(() => void run('docker', ['rm', '-f', name], { expect: 'any' }));
      if (!runs) run('docker', ['run', '-d', '--name', name, '--network', 'none', image, 'sleep', '86400']);
    }
    for (const { line, output } of blocks.flat()) {
      let command = line.replace('alpine sleep infinity', `${image} sleep 86400`);
      for (const [pattern, , own] of names) command = command.replace(pattern, own);
      const ran = run('bash', ['-c', command], {
        env: { PATH: `${root}/bin:${process.env.PATH}` },
      });
      assert.equal(ran.code, 0, `${line}: ${ran.stderr}`);
      // Other connections of this machine are none of this test's.
      const others = line === 'pipewright list' ? /^(?!CONTAINER|pwtdoc).*\n/gm : /^$/;
      const said = ran.stdout.replace(others, '') + ran.stderr;
      if (!line.startsWith('docker run')) assert.equal(normalise(said), normalise(output), line);
    }
  });
}

test('the reference pages are those of the program', () => {
  run('node', [path.join(root, 'scripts/docs.mjs'), '--check'], { expect: 0 });
});

test('every page that a page links to exists', () => {
  const pages = [
    'README.md',
    'CONTRIBUTING.md',
    ...guides,
    ...readdirSync(path.join(root, 'docs/design')).map((name) => `docs/design/${name}`),
  ];
  for (const page of pages) {
    const text = readFileSync(path.join(root, page), 'utf8');
    for (const [, target = ''] of text.matchAll(/\]\(([^)#:]+)\)/g)) {
      const found = path.join(root, path.dirname(page), target);
      assert.doesNotThrow(() => readdirOrFile(found), `${page} links to ${target}`);
    }
  }
});

function readdirOrFile(place: string): void {
  try {
    readFileSync(place);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EISDIR') throw error;
  }
}
