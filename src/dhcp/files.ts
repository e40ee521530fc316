/** The files of one DHCP client: its scripts, what covers the host's own files, its pid and its lease. */
import {
  cpSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import {
  type ClientFiles,
  clientCommand,
  type DhcpTarget,
  fileNameOf,
  hostNameOf,
  programOf,
} from './command.ts';
import { findMarked, livePid } from './process.ts';
import { dhclientScript, dhcpcdScript, startScript, udhcpcScript } from './scripts.ts';

/** One client is told from another by the container's and the interface's name. */
export interface ClientKey {
  readonly guest: string;
  readonly ifname: string;
  /** Of this host; the files go to its folder `dhcp`. */
  readonly stateDir: string;
}

/** A client that is ready to be run. */
interface PreparedClient {
  readonly argv: readonly string[];
  readonly name: string;
  readonly env: NodeJS.ProcessEnv;
  readonly logFile: string;
}

const resolvConf = '/etc/resolv.conf';
const dhclientStockScript = '/sbin/dhclient-script';
const dhclientConf = '/etc/dhcp/dhclient.conf';
const dhcpcdFolders = { run: '/run/dhcpcd', lib: '/var/lib/dhcpcd' } as const;

/** `+` is in neither name: it is encoded there. */
function nameOf({ guest, ifname }: Pick<ClientKey, 'guest' | 'ifname'>): string {
  return `${fileNameOf(guest)}+${fileNameOf(ifname)}`;
}

function folderOf(key: ClientKey): string {
  return `${key.stateDir}/dhcp/${nameOf(key)}`;
}

/** Names that AppArmor lets dhclient write to, where Debian's and Ubuntu's profile is on. */
function pidFileOf(key: ClientKey, program: string): string {
  return `/run/${program}.${nameOf(key)}.pid`;
}

function leaseFileOf(key: ClientKey): string {
  return `/run/dhclient.${nameOf(key)}.leases`;
}

/** The pid file where the original puts it, which is one for all interfaces of a container. */
function knownPidFileOf(key: ClientKey, program: string): string {
  return `/run/${program}.${fileNameOf(key.guest)}.pid`;
}

/** Writes what the client needs. @param owner `PID:STARTTIME` of the container's init process */
export function prepareClient(target: DhcpTarget & ClientKey, owner: string | undefined): PreparedClient {
  const folder = folderOf(target);
  const program = programOf(target.client);
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  writeFileSync(`${folder}/program`, program);
  writeFileSync(`${folder}/start`, startScript);
  const covers = [...coverResolvConf(folder)];
  const dhclientOptions: string[] = [];
  if (program === 'udhcpc') writeFileSync(`${folder}/udhcpc`, udhcpcScript, { mode: 0o700 });
  if (program === 'dhcpcd') covers.push(...coverDhcpcd(folder));
  if (program === 'dhclient') {
    for (const { source, covered, option } of writeDhclient(folder, target.guest)) {
      if (existsSync(covered)) covers.push(source, covered);
      else dhclientOptions.push(option, source);
    }
  }
  const files: ClientFiles = {
    scriptDir: folder,
    pidFile: pidFileOf(target, program),
    leaseFile: leaseFileOf(target),
    dhclientOptions,
    owner,
  };
  // Slave: what the host unmounts is unmounted there too, and not kept busy by a client that stays.
  const unshare = [
    'unshare',
    '--mount',
    '--propagation',
    'slave',
    '--',
    '/bin/sh',
    `${folder}/start`,
    folder,
  ];
  return {
    argv: [...unshare, ...covers, '--', ...clientCommand(target, files)],
    name: program,
    env: {
      PATH: process.env.PATH,
      PIPEWRIGHT_DHCP: folder,
      ...(owner !== undefined && { PIPEWRIGHT_OWNER: owner }),
    },
    logFile: `${folder}/log`,
  };
}

/** The host's file is out of reach even of a script that the user named (`udhcpc:-s SCRIPT`). */
function coverResolvConf(folder: string): string[] {
  if (!existsSync(resolvConf)) return [];
  writeFileSync(`${folder}/resolv.conf`, readFileSync(resolvConf));
  return [`${folder}/resolv.conf`, resolvConf];
}

/**
 * Our script and configuration for dhclient cover the stock ones rather than being named by options: AppArmor lets it
 * run and read no others. The configuration is the host's, with the container's host name.
 */
function writeDhclient(
  folder: string,
  guest: string,
): { source: string; covered: string; option: '-sf' | '-cf' }[] {
  writeFileSync(`${folder}/dhclient`, dhclientScript, { mode: 0o700 });
  const conf = existsSync(dhclientConf) ? readFileSync(dhclientConf, 'utf8') : '';
  writeFileSync(`${folder}/dhclient.conf`, `${conf}\nsend host-name "${hostNameOf(guest)}";\n`);
  return [
    { source: `${folder}/dhclient`, covered: dhclientStockScript, option: '-sf' },
    { source: `${folder}/dhclient.conf`, covered: dhclientConf, option: '-cf' },
  ];
}

/**
 * dhcpcd names its files by the interface alone, so that two containers with an eth1 would get in each other's way.
 * The host's DUID is kept: with it a container that comes back with the same MAC gets the same address.
 */
function coverDhcpcd(folder: string): string[] {
  writeFileSync(`${folder}/dhcpcd`, dhcpcdScript, { mode: 0o700 });
  const { run, lib } = dhcpcdFolders;
  for (const place of [`${folder}/run`, `${folder}/lib`, run, lib]) mkdirSync(place, { recursive: true });
  if (existsSync(`${lib}/duid`)) cpSync(`${lib}/duid`, `${folder}/lib/duid`);
  return [`${folder}/run`, run, `${folder}/lib`, lib];
}

/** Whether dhclient noted a lease. */
export function dhclientHasLease(key: ClientKey): boolean {
  const file = leaseFileOf(key);
  return existsSync(file) && /^\s*lease6? \{/m.test(readFileSync(file, 'latin1'));
}

/** Makes the pid file of a client that stays known under the original's name, when the client has written it. */
export async function publishPidFile(key: ClientKey, program: string): Promise<void> {
  const pidFile = pidFileOf(key, program);
  for (let waitedMs = 0; waitedMs < 1000 && livePid(pidFile, program) === undefined; waitedMs += 5)
    await sleep(5);
  const known = knownPidFileOf(key, program);
  const link = `${known}.${process.pid}`;
  rmSync(link, { force: true });
  symlinkSync(pidFile, link);
  renameSync(link, known);
}

/** The program that was prepared for this interface, and the processes of it that run. */
export function findClient(key: ClientKey): { program: string; pids: readonly number[] } | undefined {
  const folder = folderOf(key);
  const note = `${folder}/program`;
  if (!existsSync(note)) return undefined;
  const program = readFileSync(note, 'utf8');
  // Not by pid files: between the first lease and its pid file a client is already on its own.
  const marked = findMarked(`PIPEWRIGHT_DHCP=${folder}`);
  if (program !== 'dhcpcd') return { program, pids: marked };
  // It overwrites its environment. Its pid file is below our own folder, `eth1.pid` or, with -4, `eth1-4.pid`.
  const pidFiles = readdirSync(`${folder}/run`).filter((file) => file.endsWith('.pid'));
  return {
    program,
    pids: [...pidFiles.flatMap((file) => livePid(`${folder}/run/${file}`, program) ?? []), ...marked],
  };
}

/** Removes the files of a client that has ended. */
export function removeClientFiles(key: ClientKey, program: string): void {
  const pidFile = pidFileOf(key, program);
  const known = knownPidFileOf(key, program);
  if (targetOf(known) === pidFile) rmSync(known, { force: true });
  for (const file of [pidFile, leaseFileOf(key), folderOf(key)])
    rmSync(file, { recursive: true, force: true });
}

function targetOf(link: string): string | undefined {
  try {
    return readlinkSync(link);
  } catch {
    return undefined;
  }
}
