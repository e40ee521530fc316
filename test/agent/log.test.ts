/** The agent's log, as another program reads it. */
import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import path from 'node:path';
import test, { type TestContext } from 'node:test';
import { build } from 'esbuild';
import { createLog, type LogOptions } from '../../src/agent/log.ts';
import { root } from '../lab.ts';
import { ownFolder } from './lab.ts';

/** The lines that `act` writes. */
function linesOf(
  options: Omit<LogOptions, 'write'>,
  act: (log: ReturnType<typeof createLog>) => void,
): string[] {
  const lines: string[] = [];
  act(createLog({ ...options, write: (line) => lines.push(line) }));
  return lines;
}

const time = String.raw`\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z`;

test('text is one line: time, level, message, key=value', () => {
  const lines = linesOf({ format: 'text', level: 'debug' }, (log) => {
    log.debug({}, 'looked');
    log.info({ key: 'web/eth1', steps: 2 }, 'made');
    log.warn({ error: 'no such file', list: ['a', 1], nothing: undefined, none: null, empty: '' }, 'failed');
    log.error({ error: new Error('gone') }, 'stopped');
  });
  for (const [i, text] of [
    'DEBUG looked',
    'INFO  made key=web/eth1 steps=2',
    'WARN  failed error="no such file" list=["a",1] none=null empty=""',
    'ERROR stopped error=gone',
  ].entries()) {
    assert.match(lines[i] ?? '', new RegExp(`^${time} `));
    assert.equal(lines[i]?.slice(25), `${text}\n`);
  }
});

test('nothing in a message or a field ends the line or reaches the terminal', () => {
  const [line = ''] = linesOf({ format: 'text', level: 'info' }, (log) =>
    log.info({ name: 'a\nb', esc: '\u001b[2J' }, 'one\ntwo\u0007\u202e'),
  );
  assert.equal(line.slice(25), `${String.raw`INFO  one\u000atwo\u0007\u202e name="a\nb" esc="\u001b[2J"`}\n`);
});

test('json is an object a line', () => {
  const lines = linesOf({ format: 'json', level: 'debug' }, (log) => {
    log.debug({}, 'looked');
    log.info({ key: 'web/eth1', steps: 2 }, 'made\ntwo');
    log.error({ error: new Error('gone') }, 'stopped');
  });
  const [, second, third] = lines.map((line) => {
    assert.match(line, /^[^\n]*\n$/);
    return JSON.parse(line);
  });
  assert.match(second.time, new RegExp(`^${time}$`));
  delete second.time;
  assert.deepEqual(second, { level: 'info', key: 'web/eth1', steps: 2, msg: 'made\ntwo' });
  assert.deepEqual([third.level, third.error], ['error', 'gone']);
});

for (const format of ['text', 'json'] as const) {
  test(`${format}: what is below the level is not written`, () => {
    const lines = linesOf({ format, level: 'warn' }, (log) => {
      log.debug({}, 'a');
      log.info({}, 'b');
      log.warn({}, 'c');
      log.error({}, 'd');
    });
    assert.equal(lines.length, 2);
  });
}

/** The file of a program that logs to its standard error. */
async function program(t: TestContext, act: string): Promise<string> {
  const outfile = path.join(ownFolder(t), 'program.cjs');
  await build({
    stdin: {
      contents: `import { createLog } from './src/agent/log.ts';\n${act}`,
      resolveDir: root,
      loader: 'ts',
    },
    bundle: true,
    outfile,
    platform: 'node',
    format: 'cjs',
    logLevel: 'error',
  });
  return outfile;
}

for (const format of ['text', 'json'] as const) {
  test(`${format}: it goes to the standard error at once, whatever comes next`, async (t) => {
    const file = await program(
      t,
      `createLog({ format: '${format}', level: 'info' }).info({ a: 1 }, 'said'); process.kill(process.pid, 'SIGKILL');`,
    );
    const { stdout, stderr } = spawnSync(process.execPath, [file], { encoding: 'utf8' });
    assert.equal(stdout, '');
    assert.match(stderr, /^[^\n]*said[^\n]*\n$/);
  });

  test(`${format}: a reader that is gone stops nothing`, async (t) => {
    const file = await program(
      t,
      `const log = createLog({ format: '${format}', level: 'info' });
       process.stdin.once('data', () => {
         for (let i = 0; i < 40; i++) log.info({ i, text: 'x'.repeat(4000) }, 'said');
         require('node:fs').writeSync(1, 'done');
         process.exit(0);
       });`,
    );
    const child = spawn(process.execPath, [file]);
    t.after(() => void child.kill('SIGKILL'));
    child.stderr.destroy();
    await once(child.stderr, 'close');
    child.stdin.write('go');
    const [said] = await once(child.stdout, 'data');
    assert.equal(String(said), 'done');
  });
}
