/** The `pipework` program: the original's command line, on this program's layers. */
import { existsSync } from 'node:fs';
import { attach } from '../apply/attach.ts';
import { defaultOvsdbSocket, Host } from '../apply/host.ts';
import { parseContainerRef } from '../config/container-ref.ts';
import {
  classifyHostif,
  type PipeworkAttach,
  type PipeworkPassthrough,
  parsePipework,
  parsePkey,
  parseVid,
} from '../config/pipework.ts';
import { PipeworkRefusal, refusals } from '../config/pipework-messages.ts';
import type { Container } from '../containers/container.ts';
import { resolveContainer } from '../containers/resolve.ts';
import { hasErrno, PipewrightError } from '../errors.ts';
import { getLink, listLinks } from '../kernel/netlink/link.ts';
import type { NetlinkSocket } from '../kernel/netlink/socket.ts';
import type { Attachment, Network } from '../model/attachment.ts';
import type { NetworkType } from '../model/observed.ts';
import { observeNetwork } from '../observe/network.ts';
import { failureText, print, printError } from './output.ts';
import { requirePrivileges } from './privileges.ts';
import { onProgressLine } from './progress.ts';
import { version } from './version.ts';

/** Runs a command line; the answer is the exit code. */
export async function main(argv: readonly string[]): Promise<number> {
  let host: Host | undefined;
  const open = (): Host => {
    host ??= new Host();
    return host;
  };
  try {
    return await run(argv, open);
  } catch (error) {
    return report(error);
  } finally {
    await host?.[Symbol.asyncDispose]();
  }
}

async function run(argv: readonly string[], open: () => Host): Promise<number> {
  const command = parsePipework(argv, { linkExists: (name) => getLink(open().rtnl, name)?.name === name });
  switch (command.do) {
    case 'usage': {
      const { help, usage } = await import('../config/pipework-usage.ts');
      print(command.exitCode === 0 ? help : usage);
      return command.exitCode;
    }
    case 'version':
      print(`pipework (pipewright ${version})`);
      return 0;
    case 'wait': {
      const { waitForLink } = await import('./wait.ts');
      await waitForLink(command.ifname);
      return 0;
    }
    case 'passthrough':
      requirePrivileges();
      return passThrough(command);
    case 'attach':
      requirePrivileges();
      return connect(open(), command);
  }
}

async function passThrough({ guest, program, args }: PipeworkPassthrough): Promise<number> {
  const { openContainerNetns } = await import('../containers/resolve.ts');
  const { runInNetns } = await import('./passthrough.ts');
  const container = await findGuest(guest);
  using netns = openContainerNetns(container);
  return runInNetns(netns, program, args);
}

async function connect(host: Host, command: PipeworkAttach): Promise<number> {
  const hostif = command.byMac === undefined ? command.hostif : linkByMac(host, command.byMac);
  const { type } = await observeNetwork(host, hostif);
  const network = networkOf(command, hostif, type);
  const container = await findGuest(command.guest);
  const ifname = command.ifname ?? (network.kind === 'ipoib' ? 'ib0' : 'eth1');
  const { address } = command;
  const want: Attachment = {
    container: parseContainerRef(command.guest),
    network,
    ifname,
    addrs: address.how === 'static' ? address.addrs : [],
    routes: [],
    ...(command.hostIfname === undefined ? {} : { hostIfname: command.hostIfname }),
    ...(command.mac === undefined ? {} : { mac: command.mac }),
  };
  const lease =
    address.how === 'static' ? undefined : await leaseBy(host, address, container, command, ifname);
  using _progress = onProgressLine(`connecting ${ifname} of ${command.guest}`);
  const { warnings } = await attach(host, container, want, {
    ifPresent: 'refuse',
    firewall: command.firewall,
    ...(lease ? { beforeCommit: lease, dhcpGuest: want.container.name } : {}),
  });
  for (const warning of warnings) printError(`warning: ${warning}`);
  return 0;
}

/** @throws PipeworkRefusal where Docker was never installed */
async function findGuest(guest: string): Promise<Container> {
  try {
    return await resolveContainer(parseContainerRef(guest));
  } catch (error) {
    const absent =
      error instanceof PipewrightError && error.code === 'RUNTIME_UNAVAILABLE' && hasErrno(error, 'ENOENT');
    throw absent && !isInstalled('docker') ? refusals.dockerMissing(guest) : error;
  }
}

/** The original takes the first in the order of the shell's `*`. */
function linkByMac(host: Host, mac: string): string {
  const [link] = listLinks(host.rtnl)
    .filter((candidate) => candidate.mac === mac)
    .sort((a, b) => (a.name < b.name ? -1 : 1));
  if (!link) throw refusals.noSuchMac(mac);
  return link.name;
}

/** What the original makes of a host interface: by what it is when it exists, else by its name. */
function networkOf(command: PipeworkAttach, hostif: string, type: NetworkType | undefined): Network {
  const { vlanText, mac, directPhys } = command;
  const kind = type ?? classifyHostif(hostif);
  const vid = (): { vid?: number } => (vlanText === undefined ? {} : { vid: parseVid(vlanText) });
  switch (kind) {
    case 'bridge':
      if (vlanText !== undefined) throw refusals.vlanOnBridge();
      return { kind: 'bridge', name: hostif };
    case 'ovs':
      if (type === undefined) requireOvs();
      return { kind: 'ovs', name: hostif, ...vid() };
    case 'ipoib':
      if (mac !== undefined) throw refusals.macOnIpoib();
      return {
        kind: 'ipoib',
        uplink: hostif,
        ...(vlanText === undefined ? {} : { pkey: parsePkey(vlanText) }),
      };
    case 'nic':
      if (directPhys) return { kind: 'phys', uplink: hostif, ...vid() };
      return { kind: 'macvlan', uplink: hostif, mode: 'bridge', ...vid() };
    case 'dummy':
      return { kind: 'dummy' };
    case 'route':
    case 'rule':
    case 'tc':
      throw refusals.unknownHostif(hostif);
  }
}

/** Installed and stopped is another thing than not installed: that is said by whoever then cannot connect. */
function requireOvs(): void {
  if (!existsSync(defaultOvsdbSocket) && !isInstalled('ovs-vsctl')) throw refusals.needOvs();
}

function isInstalled(program: string): boolean {
  const folders = [
    '/usr/bin',
    '/usr/local/bin',
    '/usr/sbin',
    '/sbin',
    '/bin',
    ...(process.env.PATH ?? '').split(':'),
  ];
  return folders.some((folder) => existsSync(`${folder}/${program}`));
}

/** Runs the named DHCP client in the container, when its interface is there. */
async function leaseBy(
  host: Host,
  address: Extract<PipeworkAttach['address'], { how: 'dhcp' }>,
  container: Container,
  command: PipeworkAttach,
  ifname: string,
): Promise<(guest: NetlinkSocket) => Promise<void>> {
  const { checkDhcp, runDhcpClient } = await import('../dhcp/clients.ts');
  const { client, options } = address;
  const target = { client, options, ifname, guest: parseContainerRef(command.guest).name };
  checkDhcp(target, container.runtime);
  return (guest) => runDhcpClient({ ...target, container, netns: guest.netns, stateDir: host.state.path });
}

/** Prints what went wrong as the original would; the answer is its exit code. */
function report(error: unknown): number {
  const refusal = asOriginal(error);
  if (refusal) {
    const show = refusal.stream === 'stdout' ? print : printError;
    show(refusal.lines.join('\n'));
    return refusal.exitCode;
  }
  printError(failureText('pipework', error));
  if (!(error instanceof PipewrightError)) return 70;
  return ['KERNEL_REFUSED', 'KIND_UNSUPPORTED', 'LINK_EXISTS', 'NAME_TAKEN'].includes(error.code) ? 2 : 1;
}

function asOriginal(error: unknown): PipeworkRefusal | undefined {
  if (error instanceof PipeworkRefusal) return error;
  if (!(error instanceof PipewrightError)) return undefined;
  if (error.code === 'CONTAINER_NOT_RUNNING' && error.message.includes('invalid PID 0'))
    return refusals.invalidPid();
  if (error.code === 'CONTAINER_AMBIGUOUS') return refusals.ambiguousGuest(error.subject);
  if (error.code === 'LINK_EXISTS' && error.message.includes(`Link ${error.subject} exists and is up`)) {
    return refusals.linkExistsAndIsUp(error.subject);
  }
  return undefined;
}
