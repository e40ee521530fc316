/** `pipework --wait`, which is run inside a container before the program that needs the interface. */
import { readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { PipewrightError } from '../errors.ts';

const pollMs = 100;

/**
 * Returns as soon as the network namespace of the caller has a link of this name, up or down, as the original does;
 * without `timeoutMs` it waits for ever. Throws WAIT_TIMEOUT.
 */
export async function waitForLink(ifname: string, { timeoutMs }: { timeoutMs?: number } = {}): Promise<void> {
  const deadline = timeoutMs === undefined ? Number.POSITIVE_INFINITY : performance.now() + timeoutMs;
  while (!linkExists(ifname)) {
    const leftMs = deadline - performance.now();
    if (leftMs <= 0) {
      const detail = `there is no ${ifname} after ${timeoutMs} ms`;
      throw new PipewrightError('WAIT_TIMEOUT', { op: 'wait', subject: ifname, detail });
    }
    await sleep(Math.min(pollMs, leftMs));
  }
}

/** By /proc and not by /sys: a sysfs shows the namespace that it was mounted in, even to a process that has left it. */
function linkExists(ifname: string): boolean {
  return readFileSync('/proc/net/dev', 'utf8')
    .split('\n')
    .some((line) => line.trimStart().startsWith(`${ifname}:`));
}
