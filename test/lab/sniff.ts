/** The frames that pass a link while something is done, as tcpdump sees them. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import { nsenter, type Where } from './run.ts';

export interface Sniffed {
  /** One line for each frame, as `tcpdump -n -e` prints it, without the time. */
  readonly lines: readonly string[];
  /** The frames themselves, from the destination MAC on. */
  readonly frames: readonly Uint8Array[];
}

/** `tcpdump -i LINK FILTER` in a namespace while `act` runs and 0.2 s after. */
export async function sniff(
  where: Where,
  link: string,
  filter: string,
  act: () => unknown | Promise<unknown>,
): Promise<Sniffed> {
  const flags = ['--immediate-mode', '-U', '-l', '-n', '-t', '-e', '-xx', '-s', '0', '-Z', 'root'];
  const words = [...nsenter(where), 'tcpdump', ...flags, '-i', link, ...filter.split(' ').filter(Boolean)];
  const child = spawn(words[0] ?? '', words.slice(1), { stdio: ['ignore', 'pipe', 'pipe'] });
  let text = '';
  let said = '';
  child.stdout.setEncoding('utf8').on('data', (chunk: string) => {
    text += chunk;
  });
  child.stderr.setEncoding('utf8').on('data', (chunk: string) => {
    said += chunk;
  });
  const closed = once(child, 'close');
  try {
    const deadline = Date.now() + 10_000;
    while (!said.includes('listening on')) {
      if (child.exitCode !== null || Date.now() > deadline) throw new Error(`${words.join(' ')}: ${said}`);
      await sleep(10);
    }
    await act();
    await sleep(200);
  } finally {
    child.kill('SIGINT');
    await closed;
  }
  return parse(text);
}

/** A frame is a line of text and then lines `\t0x0010:  0800 0604 ...`. */
function parse(text: string): Sniffed {
  const lines: string[] = [];
  const hex: string[] = [];
  for (const line of text.split('\n').filter(Boolean)) {
    const dump = /^\t0x[0-9a-f]+: +(.*)$/.exec(line);
    if (dump) hex.push(`${hex.pop() ?? ''}${dump[1]?.replaceAll(' ', '')}`);
    else if (lines.push(line) > hex.length) hex.push('');
  }
  return { lines, frames: hex.map((digits) => Uint8Array.from(Buffer.from(digits, 'hex'))) };
}
