/**
 * Gives a command line to the agent where one runs, so that what it makes is kept. This is all that such a command
 * loads: by blocking calls, since the process has nothing else to do and node:net alone would take 8 ms.
 */
import { closeSync, existsSync, fstatSync, readSync, statSync, writeSync } from 'node:fs';
import { ResponseParser } from '../containers/http-parser.ts';
import { connectUnix, setTimeouts } from '../kernel/unix-socket.ts';
import { writeText } from './output.ts';

/** Where the agent listens. */
export const agentSocket = '/run/pipewright/agent.sock';

/** Programs that hand over; the agent answers at /v1/NAME. */
export type Program = 'pipework' | 'pipewright';

/** What the agent answers to a command line. */
interface Answer {
  readonly exitCode: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** Milliseconds for an agent to say that it is there. It may be in the middle of a round. */
const patienceMs = 3000;
const progressMs = 1000;

/**
 * Has the agent run a command line, and prints what it says.
 * @returns the exit code; undefined when the caller is to act itself: no agent, or none that can be of help
 */
export function handOver(
  program: Program,
  argv: readonly string[],
  socketPath = agentSocket,
): number | undefined {
  if (!existsSync(socketPath) || !isForAgent(program, argv) || hasOtherEngine()) return undefined;
  let response: Response | undefined;
  try {
    response = ask(socketPath, `/v1/${program}`, { argv, netnsInode: netnsInode() });
  } catch {
    // Nobody listens there, it ended meanwhile, or we may not speak to it. What it had begun is taken back by whoever acts next.
    return undefined;
  }
  if (response?.status === 409) return undefined;
  const answer = response?.status === 200 ? answerIn(response.body) : undefined;
  if (!answer) {
    const why = response ? `answers ${response.status}` : 'does not answer';
    writeText(2, `warning: the agent ${why}, so ${program} acts by itself: this is not kept\n`);
    return undefined;
  }
  writeText(1, answer.stdout);
  writeText(2, answer.stderr);
  return answer.exitCode;
}

/** What surely is nothing for the agent; whatever else is not, it says. */
function isForAgent(program: Program, argv: readonly string[]): boolean {
  const mayBe = program === 'pipework' ? argv.length >= 3 : argv[0] === 'attach' || argv[0] === 'detach';
  return mayBe && !argv.some((word) => ['--help', '-h', '--wait', '--version'].includes(word));
}

/** The agent asks the engines of this host at their usual places, and knows nothing of another one. */
function hasOtherEngine(): boolean {
  const usual = /^(unix:\/\/(\/var)?\/run\/(docker|podman\/podman)\.sock)?$/;
  return [process.env.DOCKER_HOST, process.env.CONTAINER_HOST].some((value = '') => !usual.test(value));
}

function netnsInode(): number {
  return statSync('/proc/self/ns/net').ino;
}

interface Response {
  readonly status: number;
  readonly body: string;
}

/** One request. Undefined when the agent is there and says nothing. @throws what the socket does */
function ask(socketPath: string, path: string, body: object): Response | undefined {
  const text = JSON.stringify(body);
  const fd = connectUnix(socketPath, { type: 'stream', timeoutMs: patienceMs });
  try {
    // The body waits until the agent asks for it: a request that was given up must not be carried out later.
    const head = [
      `POST ${path} HTTP/1.1`,
      'Host: pipewright',
      'Content-Type: application/json',
      `Content-Length: ${Buffer.byteLength(text)}`,
      'Expect: 100-continue',
      'Connection: close',
    ];
    writeAll(fd, `${head.join('\r\n')}\r\n\r\n`);
    const parser = new ResponseParser();
    const answer: Buffer[] = [];
    while (parser.status === 0) if (!receive(fd, parser, answer)) return undefined;
    if (!parser.done) {
      if (parser.status === 100) writeAll(fd, text);
      setTimeouts(fd, progressMs, socketPath);
      receiveAll(fd, parser, answer);
    }
    return { status: parser.status, body: Buffer.concat(answer).toString() };
  } finally {
    closeSync(fd);
  }
}

function writeAll(fd: number, text: string): void {
  const bytes = Buffer.from(text);
  for (let at = 0; at < bytes.length; ) at += writeSync(fd, bytes, at);
}

/** Reads what has come. False when the socket's time limit ran out. */
function receive(fd: number, parser: ResponseParser, body: Buffer[]): boolean {
  const piece = Buffer.allocUnsafe(16_384);
  let bytes: number;
  try {
    bytes = readSync(fd, piece);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    // After SIGSTOP and SIGCONT a socket with a time limit says EINTR.
    if (code === 'EAGAIN' || code === 'EINTR') return false;
    throw error;
  }
  if (bytes === 0) parser.close();
  else body.push(...parser.push(piece.subarray(0, bytes)));
  return true;
}

/** Waits as long as it takes: a container engine may be slow, another command may hold the lock. */
function receiveAll(fd: number, parser: ResponseParser, body: Buffer[]): void {
  const began = Date.now();
  const isWatched = fstatSync(2).isCharacterDevice();
  while (!parser.done) {
    if (!receive(fd, parser, body) && isWatched)
      writeText(2, `the agent is at it ... ${Math.round((Date.now() - began) / 1000)} s\n`);
  }
}

function answerIn(body: string): Answer | undefined {
  try {
    const { exitCode, stdout, stderr } = JSON.parse(body) as Partial<Answer>;
    if (typeof exitCode !== 'number' || typeof stdout !== 'string' || typeof stderr !== 'string')
      return undefined;
    return { exitCode, stdout, stderr };
  } catch {
    return undefined;
  }
}
