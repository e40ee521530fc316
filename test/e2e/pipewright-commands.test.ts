/** `pipewright` itself: help, version, and lines that are no command. */
import assert from 'node:assert/strict';
import test from 'node:test';
import { pipewright, plainNetns, run, skipUnless } from '../lab.ts';
import { command } from './support.ts';

test('help and version exit 0 and need no privileges', () => {
  for (const words of [
    ['--help'],
    ['-h'],
    ['attach', '--help'],
    ['detach', '-h'],
    ['list', '--help'],
    ['wait', '-h'],
  ]) {
    const { stdout, stderr } = pipewright(words);
    assert.match(stdout, /^USAGE\n {2}pipewright /);
    assert.equal(stderr, '');
  }
  assert.match(pipewright(['--version']).stdout, /^\d+\.\d+\.\d+\n$/);
});

test('no words: the help, exit 1', () => {
  assert.match(pipewright([], { expect: 1 }).stdout, /^USAGE\n/);
});

test('what is no command: exit 1, said on the standard error', () => {
  for (const words of [
    ['atach'],
    ['nosuch', '--help'],
    ['--nosuch'],
    ['attach'],
    ['detach', 'a', 'b'],
    ['list', 'x'],
  ]) {
    const { stdout, stderr } = pipewright(words, { expect: 1 });
    assert.equal(stdout, '');
    // One line for each thing that is missing.
    assert.match(stderr, /^([^\n]+\n){1,2}$/, words.join(' '));
  }
  assert.match(pipewright(['atach'], { expect: 1 }).stderr, /attach/);
});

test('a person at a terminal sees that something is still going on; a pipe does not', async (t) => {
  if (skipUnless(t, 'root', 'program:script')) return;
  const { pid } = await plainNetns(t, 'cmd');
  const words = command('pipewright', ['wait', `pid:${pid}`, '--timeout', '2.3']);
  const { stdout } = run('script', ['-qec', words.join(' '), '/dev/null'], { expect: 1 });
  assert.match(stdout, /waiting for eth1 \.\.\. 2 s/);
  const piped = run(words[0] ?? '', words.slice(1), { expect: 1 });
  assert.doesNotMatch(piped.stderr, /waiting for/);
});
