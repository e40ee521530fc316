/** Sysctls of a network namespace, `sysctl net.ipv4...`, by their path below /proc/sys. */
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { refusedByFs } from './errno.ts';
import { inNetns, type Netns } from './netns.ts';

/** `/proc/sys/net/...`; everything outside of net/ is the whole machine's, whatever namespace one is in. */
function pathOf(key: string): string {
  if (!key.startsWith('net/') || key.split('/').includes('..'))
    throw new Error(`not a sysctl of net/: ${key}`);
  return `/proc/sys/${key}`;
}

/**
 * `readSysctl(netns, 'net/ipv4/conf/eth1/forwarding')`: the value as text, undefined when there is no such sysctl. Empty
 * when it has no value yet: `stable_secret` answers EIO then.
 */
export function readSysctl(netns: Netns, key: string): string | undefined {
  const path = pathOf(key);
  try {
    return inNetns(netns, () => readFileSync(path, 'utf8')).trim();
  } catch (error) {
    const refusal = refusedByFs(error, { op: 'sysctl.get', subject: `${key} in ${netns.label}` });
    if (refusal.errno === 'ENOENT') return undefined;
    if (refusal.errno === 'EIO') return '';
    throw refusal;
  }
}

/** `sysctl -w`. */
export function writeSysctl(netns: Netns, key: string, value: string | number): void {
  const path = pathOf(key);
  try {
    inNetns(netns, () => writeFileSync(path, String(value), { flag: 'r+' }));
  } catch (error) {
    throw refusedByFs(error, { op: 'sysctl.set', subject: `${key} in ${netns.label}` });
  }
}

/** `ipv4/forwarding` of a link: `net/ipv4/conf/LINK/forwarding`. A link's name can hold dots, so slashes divide. */
export function sysctlPath(link: string, key: string): string {
  const [family = '', name = ''] = key.split('/');
  return `net/${family}/conf/${link}/${name}`;
}

/**
 * Everything below net/ipv4/conf/LINK and net/ipv6/conf/LINK, by `ipv4/rp_filter`. What cannot be read (a secret that is not
 * set) is left out. `link` can be `all` and `default` as well.
 */
export function readLinkConf(netns: Netns, link: string): Record<string, string> {
  return inNetns(netns, () => {
    const conf: Record<string, string> = {};
    for (const family of ['ipv4', 'ipv6']) {
      const folder = pathOf(`net/${family}/conf/${link}`);
      for (const name of namesIn(folder)) {
        try {
          conf[`${family}/${name}`] = readFileSync(`${folder}/${name}`, 'utf8').trim();
        } catch {
          // Not set, or for writing only.
        }
      }
    }
    return conf;
  });
}

function namesIn(folder: string): string[] {
  try {
    return readdirSync(folder);
  } catch {
    return [];
  }
}
