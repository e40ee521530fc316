/**
 * A virtual machine that boots Debian's kernel with this machine's own file system as its root: read-only through 9p,
 * what it writes stays in its memory. It has no network, but wires to other such machines where they are asked for.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { accessSync, constants, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { capability, hasProgram } from '../lab/capability.ts';
import { ensureImage } from '../lab/ground.ts';
import { root, run } from '../lab/run.ts';
import { findKernel, type Kernel, writeInitramfs } from './kernel.ts';

const qemu = 'qemu-system-x86_64';

/** Why no such machine can be started here; undefined when one can. */
export function whyNoMachine(): string | undefined {
  if (process.arch !== 'x64') return 'machines are of x86-64';
  if (process.geteuid?.() !== 0) return 'needs root';
  if (!hasProgram(qemu)) return `${qemu} is not installed: scripts/setup.sh vm`;
  return findKernel() === undefined ? "Debian's kernel is not unpacked: scripts/setup.sh vm" : undefined;
}

/** One end of a cable: frames are datagrams between two unix sockets. */
export interface Wire {
  /** The socket of this machine, and of the other. */
  readonly local: string;
  readonly remote: string;
  readonly mac: string;
  /** A file for all that passes, as tcpdump reads it. */
  readonly record?: string;
}

export interface MachineOptions {
  /** Its host name. */
  readonly name: string;
  /** What it does when it is up, as a shell script; then it is turned off, unless it has systemd. */
  readonly script: string;
  /** Whether systemd starts what it runs, as on a machine that was installed; default false. */
  readonly systemd?: boolean;
  /** MiB, default 2048. */
  readonly memory?: number;
  /** A file that is its disk: what outlives a reboot (Docker's and Open vSwitch's files, /var/lib/pipewright). */
  readonly disk?: string;
  readonly wires?: readonly Wire[];
  /** Is given what it prints, as it comes. */
  readonly print?: (text: string) => void;
}

/** How the processor is made: by the host's own where that works, else by translation. */
export type Accelerator = 'kvm' | 'tcg';

const base = ['-nodefaults', '-no-user-config', '-display', 'none', '-serial', 'stdio', '-machine', 'q35'];
function processor(kind: Accelerator): readonly string[] {
  if (kind === 'kvm') return ['-accel', 'kvm', '-cpu', 'host', '-smp', '2'];
  // One without AVX: programs that find it use it, which takes longer in software. Its clock goes by what it has done, two
  // nanoseconds for each instruction, so that the time limits of tests hold however slow this machine is.
  const clock = ['-icount', 'shift=1,sleep=on', '-smp', '1'];
  return ['-cpu', 'Nehalem', '-accel', 'tcg,thread=single,tb-size=512', ...clock];
}

/** Whether a kernel says anything within some seconds: on some hosts /dev/kvm can be opened and then nothing happens. */
async function kvmBoots(kernel: Kernel): Promise<boolean> {
  try {
    accessSync('/dev/kvm', constants.R_OK | constants.W_OK);
  } catch {
    return false;
  }
  const append = 'console=ttyS0 earlyprintk=ttyS0 panic=-1';
  const words = [
    ...base,
    ...processor('kvm'),
    '-m',
    '512',
    '-no-reboot',
    '-kernel',
    kernel.image,
    '-append',
    append,
  ];
  const child = spawn(qemu, words, { stdio: ['ignore', 'pipe', 'ignore'] });
  let said = '';
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    said += text;
  });
  const ended = once(child, 'exit');
  for (let waited = 0; waited < 5000 && child.exitCode === null; waited += 50) {
    if (said.includes('Linux version')) break;
    await sleep(50);
  }
  child.kill('SIGKILL');
  await ended;
  return said.includes('Linux version');
}

let found: Promise<Accelerator> | undefined;

/** What machines are made with here. VM_ACCEL=kvm|tcg in the environment decides otherwise. */
export function accelerator(): Promise<Accelerator> {
  const said = process.env.VM_ACCEL;
  if (said === 'kvm' || said === 'tcg') return Promise.resolve(said);
  const kernel = findKernel();
  found ??= kernel ? kvmBoots(kernel).then((boots) => (boots ? 'kvm' : 'tcg')) : Promise.resolve('tcg');
  return found;
}

/** A machine that was started. */
export class Machine {
  /** A folder that both sides read and write, /run/share there. */
  readonly share: string;
  /** When it was turned on, as of `Date.now()`. */
  readonly started = Date.now();
  readonly #folder: string;
  readonly #process: ChildProcess;
  readonly #ended: Promise<unknown>;
  #said = '';

  private constructor(folder: string, child: ChildProcess, print: ((text: string) => void) | undefined) {
    this.#folder = folder;
    this.share = path.join(folder, 'share');
    this.#process = child;
    this.#ended = once(child, 'close');
    for (const stream of [child.stdout, child.stderr]) {
      stream?.setEncoding('utf8').on('data', (text: string) => {
        this.#said += text;
        print?.(text);
      });
    }
  }

  /** Turns one on. */
  static async start(options: MachineOptions): Promise<Machine> {
    const kernel = findKernel();
    if (kernel === undefined) throw new Error(whyNoMachine());
    const folder = mkdtempSync(path.join(tmpdir(), 'pwt-vm-'));
    const share = path.join(folder, 'share');
    mkdirSync(share);
    writeFileSync(path.join(share, 'script'), options.script);
    // Its own Docker Engine has no image, and makes one slowly.
    if (capability('docker')) run('docker', ['save', '-o', path.join(share, 'image.tar'), ensureImage()]);
    const words = [
      ...base,
      ...processor(await accelerator()),
      ...['-m', String(options.memory ?? 2048)],
      ...['-kernel', kernel.image, '-initrd', writeInitramfs(kernel, folder)],
      ...['-append', commandLine(kernel, options)],
      ...folderAs('root', '/', 'readonly=on'),
      ...folderAs('share', share),
      ...(options.wires ?? []).flatMap(wireAs),
      ...(options.disk ? ['-drive', `file=${options.disk},format=raw,if=virtio,cache=unsafe`] : []),
    ];
    // Behind other tests on this machine, and not longer there than this process.
    const around = ['--pdeathsig', 'KILL', 'nice', '-n', '19', qemu];
    const child = spawn('setpriv', [...around, ...words], { stdio: ['ignore', 'pipe', 'pipe'] });
    return new Machine(folder, child, options.print);
  }

  /** Whether it has not turned itself off. */
  get isOn(): boolean {
    return this.#process.exitCode === null && this.#process.signalCode === null;
  }

  /** All that it has printed so far. */
  get said(): string {
    return this.#said;
  }

  /** Waits until it turns itself off. @returns its script's exit code; -1 when it was not that far */
  async end(): Promise<number> {
    await this.#ended;
    try {
      return Number(readFileSync(path.join(this.share, 'exit'), 'utf8'));
    } catch {
      return -1;
    }
  }

  /** Pulls the plug, if it is still on, and forgets the share. */
  async remove(): Promise<void> {
    this.#process.kill('SIGKILL');
    await this.#ended;
    rmSync(this.#folder, { recursive: true, force: true });
  }
}

/** Without what a machine has for people who log in, and without what is only there once something is kept. */
const systemd = [
  'systemd=yes',
  'systemd.unit=multi-user.target',
  'systemd.show_status=no',
  'fstab=no',
  // Its parser may not be there, which Docker Engine does not forgive.
  'apparmor=0',
  ...[
    ...[
      'getty.target',
      'systemd-logind.service',
      'systemd-user-sessions.service',
      'systemd-update-utmp.service',
    ],
    ...['systemd-update-utmp-runlevel.service', 'systemd-ask-password-wall.path', 'systemd-binfmt.service'],
    ...['systemd-ask-password-console.path', 'systemd-journal-flush.service', 'systemd-random-seed.service'],
    ...['systemd-firstboot.service', 'systemd-repart.service', 'systemd-sysusers.service', 'cron.service'],
    ...['proc-sys-fs-binfmt_misc.automount', 'timers.target'],
  ].map((unit) => `systemd.mask=${unit}`),
];

function commandLine(kernel: Kernel, options: MachineOptions): string {
  return [
    ...['console=ttyS0', 'quiet', 'loglevel=3', 'panic=-1', 'mitigations=off', 'rcupdate.rcu_expedited=1'],
    ...[`host=${options.name}`, `modules=${kernel.modules}`],
    `next=${path.join(root, 'scripts/vm/init.sh')}`,
    // Its own name, and not that of the machine around: a topology file is for hosts by their names.
    ...(options.systemd ? [`systemd.hostname=${options.name}`, ...systemd] : []),
  ].join(' ');
}

function folderAs(tag: string, folder: string, ...more: readonly string[]): string[] {
  const where = ['local', `id=${tag}`, `path=${folder}`, 'security_model=none', 'multidevs=remap', ...more];
  return ['-fsdev', where.join(','), '-device', `virtio-9p-pci,fsdev=${tag},mount_tag=${tag}`];
}

function wireAs({ local, remote, mac, record }: Wire, at: number): string[] {
  const ends = `local.type=unix,local.path=${local},remote.type=unix,remote.path=${remote}`;
  return [
    ...['-netdev', `dgram,id=wire${at},${ends}`],
    ...['-device', `virtio-net-pci,netdev=wire${at},mac=${mac}`],
    ...(record ? ['-object', `filter-dump,id=record${at},netdev=wire${at},file=${record}`] : []),
  ];
}
