// Runs programs, shows those that a user would type, and stops all of it when the demo is interrupted.
import { spawn } from 'node:child_process';

/** The demo was told to stop: Ctrl-C, SIGTERM, a closed terminal. */
export class Interrupted extends Error {}

const running = new Set();
let stoppedBy;
let path = process.env.PATH;

/** Where nobody reads any more (`make demo | head`), there is still something to take away. */
process.stdout.on('error', () => {});

export function say(text = '') {
  console.log(text);
}

/** Ends what runs; nothing more begins, until the taking away. */
export function interrupt(signal) {
  if (stoppedBy === undefined) say(`\n${signal}: stopping`);
  stoppedBy ??= signal;
  // A group each, so that what they have started ends too.
  for (const child of running) process.kill(-child.pid, 'SIGTERM');
}

/** What runs from now on is not to be interrupted. Gives the signal by which the demo was stopped, if it was. */
export function beginTakingAway() {
  const signal = stoppedBy;
  stoppedBy = undefined;
  process.removeAllListeners('SIGINT').removeAllListeners('SIGTERM').removeAllListeners('SIGHUP');
  for (const name of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.on(name, () => {});
  return signal;
}

/** Has programs of this folder found, before all others. */
export function findProgramsIn(folder) {
  path = `${folder}:${path}`;
}

/** Runs a program to its end: `{ code, stdout, stderr }`. @throws Interrupted */
export function run(words) {
  if (stoppedBy) throw new Interrupted(stoppedBy);
  const [program, ...args] = words;
  return new Promise((resolve, reject) => {
    // Detached: a group of its own, which Ctrl-C at the terminal does not reach.
    const child = spawn(program, args, {
      detached: true,
      env: { ...process.env, PATH: path },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    const ran = { code: -1, stdout: '', stderr: '' };
    for (const stream of ['stdout', 'stderr']) {
      child[stream].setEncoding('utf8').on('data', (text) => {
        ran[stream] += text;
      });
    }
    if (child.pid !== undefined) running.add(child);
    const done = (code, stderr = '') => {
      running.delete(child);
      if (stoppedBy) reject(new Interrupted(stoppedBy));
      else resolve({ ...ran, code, stderr: ran.stderr + stderr });
    };
    child.on('error', (error) => done(-1, error.message));
    child.on('close', (code) => done(code ?? -1));
  });
}

/** Runs a program; its standard output. Throws when it fails. */
export async function must(words) {
  const { code, stdout, stderr } = await run(words);
  if (code === 0) return stdout;
  throw new Error(`${words.join(' ')}: exit ${code}: ${`${stdout}${stderr}`.trim()}`);
}

const quoted = (word) => (/^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`);

/** Shows a command as a user would type it, runs it, and shows what it prints. Throws when it fails. */
export async function type(words) {
  say(`  $ ${words.map(quoted).join(' ')}`);
  const stdout = await must(words);
  for (const line of stdout.split('\n').filter(Boolean)) say(`    ${line}`);
  return stdout;
}

/** A daemon, ended by the function that is returned. */
export function start(words) {
  const [program, ...args] = words;
  const child = spawn(program, args, { detached: true, stdio: 'ignore' });
  const exited = new Promise((resolve) => {
    child.on('exit', resolve);
    child.on('error', resolve);
  });
  return async () => {
    child.kill('SIGTERM');
    await exited;
  };
}
