/** Wi-Fi: an interface cannot leave its phy, so the phy moves, with all its interfaces; `iw` does that. */
import { existsSync, readFileSync } from 'node:fs';
import { PipewrightError } from '../errors.ts';
import { inNetns, type Netns } from './netns.ts';

/** The phy of a Wi-Fi interface, `iw dev NAME info`; undefined for any other link. */
export function phyOf(name: string): string | undefined {
  try {
    return readFileSync(`/sys/class/net/${name}/phy80211/name`, 'utf8').trim();
  } catch {
    return undefined;
  }
}

/** Whether a link is a Wi-Fi interface, of the newer drivers (cfg80211) or of the older ones. */
export function isWireless(name: string): boolean {
  return ['phy80211', 'wireless'].some((sign) => existsSync(`/sys/class/net/${name}/${sign}`));
}

/**
 * `iw phy PHY set netns PID`, run in the namespace that has the phy now. The phy goes to the namespace of the process.
 * @throws PipewrightError PROGRAM_MISSING, PROGRAM_FAILED
 */
export async function movePhy(from: Netns, phy: string, pid: number): Promise<void> {
  const { spawnSync } = await import('node:child_process');
  const about = { op: 'iw', subject: `${phy} set netns ${pid}` };
  const env = { PATH: `/usr/sbin:/sbin:/usr/bin:/bin:${process.env.PATH ?? ''}` };
  const done = inNetns(from, () =>
    spawnSync('iw', ['phy', phy, 'set', 'netns', String(pid)], { encoding: 'utf8', env }),
  );
  if ((done.error as NodeJS.ErrnoException | undefined)?.code === 'ENOENT') {
    const detail = 'a Wi-Fi interface moves with its phy, and iw, which does that, is not installed';
    throw new PipewrightError('PROGRAM_MISSING', { ...about, detail, hint: 'apt-get install iw' });
  }
  if (done.status !== 0) {
    const detail = done.error?.message ?? done.stderr.trim().split('\n').at(-1);
    throw new PipewrightError('PROGRAM_FAILED', { ...about, detail });
  }
}
