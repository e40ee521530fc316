/** `pipewright agent` as a process, and what it tells over its socket. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { request } from 'node:http';
import { createInterface } from 'node:readline';
import { program } from './ground.ts';

const agentSocket = '/run/pipewright/agent.sock';

/** One agent; disposing ends it, and the network stays as it is. */
export class RunningAgent implements AsyncDisposable {
  readonly #child: ChildProcess;

  private constructor(child: ChildProcess) {
    this.#child = child;
  }

  static async start(file: string, stateDir: string): Promise<RunningAgent> {
    const words = ['agent', '--state-dir', stateDir, '--log-format', 'json', '--log-level', 'info', file];
    const child = spawn(program('pipewright'), words, { stdio: ['ignore', 'ignore', 'pipe'] });
    const agent = new RunningAgent(child);
    for await (const line of createInterface({ input: child.stderr })) {
      if (line.includes('"msg":"ready"')) {
        child.stderr.resume();
        return agent;
      }
    }
    throw new Error('the agent did not get ready');
  }

  get pid(): number {
    return this.#child.pid ?? 0;
  }

  /** RSS in MB (2^20 bytes). */
  rssMb(): number {
    return Number(/^VmRSS:\s+(\d+)/m.exec(readFileSync(`/proc/${this.pid}/status`, 'latin1'))?.[1]) / 1024;
  }

  /** Milliseconds of processor time so far; the kernel counts them in hundredths of a second. */
  cpuMs(): number {
    const [, rest = ''] = readFileSync(`/proc/${this.pid}/stat`, 'latin1').split(') ');
    const fields = rest.split(' ');
    return (Number(fields[11]) + Number(fields[12])) * 10;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#child.exitCode !== null) return;
    const ended = once(this.#child, 'exit');
    this.#child.kill('SIGTERM');
    await ended;
  }
}

/** When the agent told of an attachment, as heard here. */
export class Told {
  readonly #waiting = new Map<string, (at: number) => void>();
  readonly #closing = new AbortController();

  async open(): Promise<void> {
    const asked = request({ socketPath: agentSocket, path: '/v1/events', signal: this.#closing.signal });
    asked.on('error', () => {});
    asked.end();
    const [answer] = (await once(asked, 'response')) as [NodeJS.ReadableStream];
    answer.on('error', () => {});
    answer.on('data', (piece: Buffer) => {
      // As the agent says, in whole milliseconds: this process is heard of later, on a machine that is busy with Docker.
      for (const [, at, key = ''] of piece.toString().matchAll(/"at":(\d+),"key":"([^"]+)","what":"made"/g))
        this.#waiting.get(key)?.(Number(at) + 0.5);
    });
  }

  /** Milliseconds since 1970. */
  next(key: string): Promise<number> {
    return new Promise((resolve) => this.#waiting.set(key, resolve));
  }

  close(): void {
    this.#closing.abort();
  }
}
