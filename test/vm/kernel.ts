/**
 * Debian's kernel for machines that the tests start: its package is unpacked, not installed, so that this machine's own
 * /boot and /lib/modules stay as they are. `scripts/setup.sh vm` unpacks it.
 */
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import path from 'node:path';
import { root, run } from '../lab/run.ts';

/** Where setup.sh unpacks it: boot/, lib/modules/. */
const unpacked = '/var/cache/pipewright-vm';

/** A kernel that can be booted. */
export interface Kernel {
  /** As `uname -r` prints it there. */
  readonly version: string;
  /** The file of the kernel itself. */
  readonly image: string;
  /** The folder of its modules. */
  readonly modules: string;
}

/** The newest kernel that is unpacked; undefined when there is none. */
export function findKernel(): Kernel | undefined {
  const folder = path.join(unpacked, 'lib/modules');
  if (!existsSync(folder)) return undefined;
  const { compare } = new Intl.Collator('en', { numeric: true });
  const version = readdirSync(folder).sort(compare).at(-1);
  if (version === undefined) return undefined;
  const [compressed, image] = ['vmlinuz', 'vmlinux'].map((name) =>
    path.join(unpacked, 'boot', `${name}-${version}`),
  ) as [string, string];
  return { version, image: existsSync(image) ? image : compressed, modules: path.join(folder, version) };
}

/** What the first steps need; all other modules are loaded from the file system that these make readable. */
const early = ['virtio_pci', '9pnet_virtio', '9p', 'overlay'];

/** The files of these modules and of what they depend on, each after what it needs. */
function inOrder(kernel: Kernel, names: readonly string[]): string[] {
  const read = (name: string): string => readFileSync(path.join(kernel.modules, name), 'utf8');
  const needs = new Map<string, readonly string[]>();
  for (const line of read('modules.dep').split('\n').filter(Boolean)) {
    const [file = '', list = ''] = line.split(':');
    needs.set(file, list.split(' ').filter(Boolean));
  }
  const builtin = read('modules.builtin');
  const files = names.flatMap((name) => {
    if (builtin.includes(`/${name}.ko`)) return [];
    const file = [...needs.keys()].find((each) => path.basename(each) === `${name}.ko`);
    if (file === undefined) throw new Error(`the kernel ${kernel.version} has no module ${name}`);
    // modules.dep names what is needed first last.
    return [...[...(needs.get(file) ?? [])].reverse(), file];
  });
  return [...new Set(files)];
}

/** Writes the initramfs `FOLDER/initramfs`: busybox, the modules above and scripts/vm/initramfs.sh. @returns its path */
export function writeInitramfs(kernel: Kernel, folder: string): string {
  const tree = path.join(folder, 'tree');
  for (const name of ['bin', 'modules', 'proc', 'lower', 'upper', 'root'])
    mkdirSync(path.join(tree, name), { recursive: true });
  copyFileSync('/bin/busybox', path.join(tree, 'bin/busybox'));
  const files = inOrder(kernel, early);
  for (const file of files)
    copyFileSync(path.join(kernel.modules, file), path.join(tree, 'modules', path.basename(file)));
  writeFileSync(path.join(tree, 'order'), `${files.map((file) => path.basename(file)).join('\n')}\n`);
  writeFileSync(path.join(tree, 'init'), readFileSync(path.join(root, 'scripts/vm/initramfs.sh')), {
    mode: 0o755,
  });
  const file = path.join(folder, 'initramfs');
  run('sh', ['-c', 'cd "$1" && find . | busybox cpio -o -H newc >"$2"', 'sh', tree, file]);
  rmSync(tree, { recursive: true });
  return file;
}
