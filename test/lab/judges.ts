/** Programs of systems that would configure this machine's network: unpacked only, by scripts/setup.sh, or installed. */
import { existsSync, readdirSync } from 'node:fs';
import path from 'node:path';
import { run } from './run.ts';

const unpacked = '/var/cache/pipewright-judges';

/** How one is started. */
export interface Judge {
  readonly command: string;
  readonly env: Readonly<Record<string, string>>;
}

const places = {
  netplan: ['usr/libexec/netplan/generate', 'lib/netplan/generate'],
  networkd: ['lib/systemd/systemd-networkd'],
  ifup: ['sbin/ifup', 'usr/sbin/ifup'],
  nmcli: ['usr/bin/nmcli'],
} as const;
/** How each says that it can run at all. */
const trial = { netplan: '--help', networkd: '--version', ifup: '--version', nmcli: '--version' } as const;

/** The program, where it is there and runs. */
export function judge(name: keyof typeof places): Judge | undefined {
  for (const root of ['/', unpacked]) {
    const command = places[name].map((place) => path.join(root, place)).find((file) => existsSync(file));
    if (command === undefined) continue;
    const libraries = ['usr/lib', 'lib']
      .map((folder) => path.join(root, folder))
      .flatMap((folder) => (root !== '/' && existsSync(folder) ? subfolders(folder) : []));
    const env: Record<string, string> = libraries.length > 0 ? { LD_LIBRARY_PATH: libraries.join(':') } : {};
    if (run(command, [trial[name]], { env, expect: 'any' }).code === 0) return { command, env };
  }
  return undefined;
}

/** `x86_64-linux-gnu` and the like. */
function subfolders(folder: string): string[] {
  return readdirSync(folder)
    .filter((name) => name.includes('-linux-'))
    .map((name) => path.join(folder, name));
}
