/** What `pipework` does to connect a container. */
import { existsSync } from 'node:fs';
import { attach } from '../apply/attach.ts';
import { defaultOvsdbSocket, type Host } from '../apply/host.ts';
import { parseContainerRef } from '../config/container-ref.ts';
import { classifyHostif, type PipeworkAttach, parsePkey, parseVid } from '../config/pipework.ts';
import { refusals } from '../config/pipework-messages.ts';
import type { Container } from '../containers/container.ts';
import { resolveContainer } from '../containers/resolve.ts';
import { hasErrno, PipewrightError } from '../errors.ts';
import { listLinks } from '../kernel/netlink/link.ts';
import type { NetlinkSocket } from '../kernel/netlink/socket.ts';
import type { Attachment, Network } from '../model/attachment.ts';
import type { NetworkType } from '../model/observed.ts';
import { observeNetwork } from '../observe/network.ts';
import { HostView } from '../observe/view.ts';
import { printErrorTo, type Session } from './session.ts';

/** Connects the container. @returns the exit code @throws PipeworkRefusal, PipewrightError */
export async function connect(session: Session, command: PipeworkAttach): Promise<number> {
  const host = session.host();
  const hostif = command.byMac === undefined ? command.hostif : linkByMac(host, command.byMac);
  const { type } = await observeNetwork(new HostView(host), hostif);
  const network = networkOf(command, hostif, type);
  const container = await findGuest(command.guest, session);
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
  using _progress = session.progress(`connecting ${ifname} of ${command.guest}`);
  const { once, firewall } = command;
  const { warnings } = await attach(host, container, want, {
    ifPresent: 'refuse',
    firewall,
    origin: once ? 'once' : 'command',
    ...(lease ? { beforeCommit: lease, dhcpGuest: want.container.name } : {}),
  });
  const more = await session.attached({ container, want, firewall, once });
  for (const warning of [...warnings, ...more]) printErrorTo(session, `warning: ${warning}`);
  return 0;
}

/** @throws PipeworkRefusal where Docker was never installed */
export async function findGuest(guest: string, session: Session): Promise<Container> {
  try {
    return await resolveContainer(parseContainerRef(guest), session.resolve);
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
