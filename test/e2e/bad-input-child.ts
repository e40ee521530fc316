/** Runs command lines in one process, on the host that this process is started on: a line of JSON for each, in and out. */
import { createInterface } from 'node:readline';
import { runCommand as runPipework } from '../../src/cli/pipework.ts';
import { runCommand as runPipewright } from '../../src/cli/pipewright.ts';
import { OwnSession } from '../../src/cli/session.ts';

/** A command line. */
export interface Line {
  readonly program: 'pipework' | 'pipewright';
  readonly argv: readonly string[];
}

/** What the program said, and its exit code. */
export interface Said {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

class Listener extends OwnSession {
  readonly said = { stdout: '', stderr: '' };

  override write(fd: 1 | 2, text: string): void {
    this.said[fd === 1 ? 'stdout' : 'stderr'] += text;
  }
}

for await (const text of createInterface({ input: process.stdin })) {
  const { program, argv } = JSON.parse(text) as Line;
  await using session = new Listener();
  const run = program === 'pipework' ? runPipework : runPipewright;
  const code = await run(argv, session).catch((error: unknown) => {
    session.said.stderr += `thrown: ${error instanceof Error ? error.stack : String(error)}`;
    return -1;
  });
  process.stdout.write(`${JSON.stringify({ code, ...session.said } satisfies Said)}\n`);
}
