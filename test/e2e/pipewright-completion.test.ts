/** `pipewright completion`: the scripts, sourced in their shells. */
import assert from 'node:assert/strict';
import path from 'node:path';
import test from 'node:test';
import { hasProgram, pipewright, root, run, runContainer, skipUnless } from '../lab.ts';

const bin = path.join(root, 'bin');

/** What bash proposes for the last of these words, after the script was sourced as the script says. */
function bash(...words: readonly string[]): string[] {
  const script = [
    'source <(pipewright completion bash)',
    'COMP_WORDS=(pipewright "$@") COMP_CWORD=$#',
    '_pipewright pipewright',
    `printf "%s\\n" "\${COMPREPLY[@]}"`,
  ].join('\n');
  const env = { PATH: `${bin}:${process.env.PATH}` };
  const { stdout, stderr } = run('bash', ['-c', script, 'bash', ...words], { env });
  assert.equal(stderr, '');
  return stdout.split('\n').filter(Boolean);
}

test('bash proposes commands, options, shells', (t) => {
  if (skipUnless(t, 'program:bash')) return;
  for (const name of ['attach', 'detach', 'list', 'wait', 'completion'])
    assert.ok(bash('').includes(name), `${name} in ${bash('')}`);
  assert.deepEqual(bash('det'), ['detach']);
  assert.ok(bash('attach', '--').includes('--network'));
  assert.ok(bash('attach', '--dry').includes('--dry-run'));
  assert.deepEqual(bash('completion', 'ba'), ['bash']);
  assert.deepEqual(bash('nosuch', ''), []);
});

test("bash proposes running containers, and the host's links as networks", (t) => {
  if (skipUnless(t, 'root', 'docker', 'program:bash')) return;
  const { name } = runContainer(t, 'cpl');
  assert.deepEqual(bash('attach', 'pwt-cpl-'), [name]);
  assert.deepEqual(bash('detach', 'pwt-cpl-'), [name]);
  assert.ok(bash('attach', name, '--network', '').includes('docker0'));
});

test('bash: the function is registered for the program, and without Docker it proposes nothing and says nothing', (t) => {
  if (skipUnless(t, 'program:bash')) return;
  const env = { PATH: `${bin}:${process.env.PATH}`, DOCKER_HOST: 'unix:///nonexistent' };
  const { stdout } = run('bash', ['-c', 'source <(pipewright completion bash); complete -p pipewright'], {
    env,
  });
  assert.match(stdout, /^complete .*-F _pipewright pipewright\n$/);
  assert.deepEqual(pipewright(['__complete', 'attach', 'pwt-'], { env }), {
    code: 0,
    stdout: '',
    stderr: '',
  });
});

test('the scripts of zsh and fish are accepted by their shells', (t) => {
  for (const shell of ['zsh', 'fish']) {
    const { stdout } = pipewright(['completion', shell]);
    assert.match(stdout, /__complete/);
    if (hasProgram(shell)) run(shell, ['-n'], { input: stdout });
    else t.diagnostic(`${shell} is not installed: its script is not checked`);
  }
});

test('a shell that is none: one line, exit 1', () => {
  const { stderr } = pipewright(['completion', 'tcsh'], { expect: 1 });
  assert.match(stderr, /^pipewright: completion "tcsh": [^\n]*bash, zsh, fish[^\n]*\n$/);
});
