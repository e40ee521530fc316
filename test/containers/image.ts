/** An image to test with, made of the host's static busybox: no registry is reachable. */
import { execFileSync, spawnSync } from 'node:child_process';
import { copyFileSync, existsSync, mkdirSync, mkdtempSync, rmSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';

export const image = 'pwt-busybox:1';

/** Imports the image when it is missing; gives the reason when that is not possible here. */
export function needImage(): string | undefined {
  if (spawnSync('docker', ['version']).status !== 0) return 'no Docker Engine answers';
  if (spawnSync('docker', ['image', 'inspect', image]).status === 0) return undefined;
  const busybox = ['/bin/busybox', '/usr/bin/busybox'].find((file) => existsSync(file));
  if (busybox === undefined) return 'busybox is not installed';
  const folder = mkdtempSync(path.join(tmpdir(), 'pwt-image-'));
  try {
    for (const place of ['bin', 'etc', 'tmp', 'proc', 'sys', 'dev', 'root', 'var/run']) {
      mkdirSync(path.join(folder, place), { recursive: true });
    }
    copyFileSync(busybox, path.join(folder, 'bin/busybox'));
    const applets = execFileSync(busybox, ['--list'], { encoding: 'utf8' }).split('\n');
    for (const applet of applets.filter((each) => each !== '' && each !== 'busybox')) {
      symlinkSync('busybox', path.join(folder, 'bin', applet));
    }
    const tar = execFileSync('tar', ['-C', folder, '-c', '.'], { maxBuffer: 64 * 2 ** 20 });
    execFileSync('docker', ['import', '-', image], { input: tar });
    return undefined;
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}
