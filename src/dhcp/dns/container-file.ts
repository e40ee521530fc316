/**
 * A container's own /etc/resolv.conf, from outside: found through its root, written in place.
 *
 * In place, because Docker mounts a file of its own there, which cannot be replaced by rename(2). And with care, because
 * whoever is root in the container says what is at that path: a symbolic link would lead the host's root wherever it
 * points. So /etc and the file in it are opened one by one, and neither may be a link; what is left (mounts) only whoever
 * started the container could make, and where those lead to the host's own file, it is left alone too.
 */
import { type BigIntStats, constants } from 'node:fs';
import { type FileHandle, open, readlink, stat } from 'node:fs/promises';
import type { Container } from '../../containers/container.ts';
import { startTimeOf } from '../../containers/proc.ts';
import { PipewrightError } from '../../errors.ts';

const { O_DIRECTORY, O_NOFOLLOW, O_RDWR } = constants;
/** A place in the file system and nothing else: what is there is not opened, so a device or a FIFO does not notice. */
const O_PATH = 0o10000000;
/** A resolv.conf is a few lines. */
const longestBytes = 64 * 1024;

/** Resolver files of the host itself: where its /etc/resolv.conf usually leads. */
const hostFiles = [
  ...['/etc/resolv.conf', '/run/systemd/resolve/resolv.conf', '/run/systemd/resolve/stub-resolv.conf'],
  ...[
    '/run/resolvconf/resolv.conf',
    '/run/NetworkManager/resolv.conf',
    '/run/NetworkManager/no-stub-resolv.conf',
  ],
];
/** This process's own root, and that of the machine's first process, where they are two. */
const hostRoots = ['', '/proc/1/root'];

/**
 * Reads the container's /etc/resolv.conf, and writes it where `change` returns another text.
 * @returns whether it was written
 * @throws PipewrightError DNS_REFUSED when it is not the container's own plain file; CONTAINER_GONE
 */
export async function changeResolvConf(
  container: Container,
  change: (text: string) => string,
): Promise<boolean> {
  const { pid, name } = container;
  if (pid === undefined) throw refusal(name, 'a namespace without a process has no files');
  if (await sharesMounts(pid)) throw refusal(name, "it shares the host's files");
  // Each is opened within the one before it, and looked at before anything is done with it.
  await using root = await openAt(`/proc/${pid}/root`, O_PATH | O_DIRECTORY, name);
  if (startTimeOf(pid) !== container.startTime) {
    throw new PipewrightError('CONTAINER_GONE', { op: 'dns.write', subject: name });
  }
  await using etc = await openAt(`${pathOf(root)}/etc`, O_PATH | O_NOFOLLOW, name);
  await checkEtc(etc, name);
  await using file = await openAt(`${pathOf(etc)}/resolv.conf`, O_PATH | O_NOFOLLOW, name);
  await checkFile(file, name);
  await using writable = await openAt(pathOf(file), O_RDWR, name);
  return await rewrite(writable, change);
}

async function checkEtc(etc: FileHandle, name: string): Promise<void> {
  const found = await etc.stat({ bigint: true });
  if (found.isSymbolicLink()) throw refusal(name, 'its /etc is a symbolic link, which could lead anywhere');
  if (!found.isDirectory()) throw refusal(name, 'its /etc is no directory');
  if (await isOneOf(found, ['/etc'])) throw refusal(name, "its /etc is the host's");
}

async function checkFile(file: FileHandle, name: string): Promise<void> {
  const found = await file.stat({ bigint: true });
  const what = 'its /etc/resolv.conf';
  if (found.isSymbolicLink()) throw refusal(name, `${what} is a symbolic link, which could lead anywhere`);
  if (!found.isFile()) throw refusal(name, `${what} is no plain file`);
  if (found.nlink > 1n) throw refusal(name, `${what} has another name elsewhere (a hard link)`);
  if (found.size > longestBytes) throw refusal(name, `${what} has ${found.size} bytes`);
  if (await isOneOf(found, hostFiles)) throw refusal(name, `${what} is the host's`);
}

async function rewrite(file: FileHandle, change: (text: string) => string): Promise<boolean> {
  const buffer = Buffer.alloc(longestBytes);
  const { bytesRead } = await file.read(buffer, 0, buffer.length, 0);
  // Latin 1 gives every byte back as it was.
  const text = buffer.toString('latin1', 0, bytesRead);
  const wanted = change(text);
  if (wanted === text) return false;
  const bytes = Buffer.from(wanted, 'latin1');
  // One write, then the rest is cut off: a reader never finds the file empty.
  await file.write(bytes, 0, bytes.length, 0);
  await file.truncate(bytes.length);
  return true;
}

/** In place of openat(2), which node:fs has not: `/proc/self/fd/N` is what is open itself, wherever it is by now. */
function pathOf(directory: FileHandle): string {
  return `/proc/self/fd/${directory.fd}`;
}

async function openAt(path: string, flags: number, container: string): Promise<FileHandle> {
  try {
    return await open(path, flags);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    throw refusal(container, `it cannot be opened: ${code ?? String(error)}`, code);
  }
}

async function sharesMounts(pid: number): Promise<boolean> {
  const theirs = await readlink(`/proc/${pid}/ns/mnt`).catch(() => undefined);
  const ours = await Promise.all(['self', '1'].map((who) => readlink(`/proc/${who}/ns/mnt`).catch(() => '')));
  return theirs !== undefined && ours.includes(theirs);
}

async function isOneOf(found: BigIntStats, paths: readonly string[]): Promise<boolean> {
  const candidates = hostRoots.flatMap((root) => paths.map((path) => `${root}${path}`));
  const stats = await Promise.all(
    candidates.map((path) => stat(path, { bigint: true }).catch(() => undefined)),
  );
  return stats.some((one) => one?.ino === found.ino && one.dev === found.dev);
}

function refusal(container: string, detail: string, errno?: string): PipewrightError {
  return new PipewrightError('DNS_REFUSED', {
    op: 'dns.write',
    subject: `resolv.conf of ${container}`,
    errno,
    detail,
    hint: 'leave `dns: container` out, or have the container take its name servers in another way',
  });
}
