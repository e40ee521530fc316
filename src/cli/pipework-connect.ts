/** What `pipework` does to connect a container. */
import { existsSync } from 'node:fs';
import { type AttachOptions, attach } from '../apply/attach.ts';
import { defaultOvsdbSocket, type Host } from '../apply/host.ts';
import { parseContainerRef } from '../config/container-ref.ts';
import { classifyHostif, type PipeworkAttach, parsePkey, parseVid } from '../config/pipework.ts';
import { dhcpSpecOf } from '../config/pipework-dhcp.ts';
import { refusals, refuse } from '../config/pipework-messages.ts';
import type { Container } from '../containers/container.ts';
import { resolveContainer } from '../containers/resolve.ts';
import { hasErrno, PipewrightError } from '../errors.ts';
import { listLinks } from '../kernel/netlink/link.ts';
import type { Attachment, Network } from '../model/attachment.ts';
import type { NetworkType } from '../model/observed.ts';
import { observeNetwork } from '../observe/network.ts';
import { HostView } from '../observe/view.ts';
import { seeToRenewal } from './renewal.ts';
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
  const dhcp = address.how === 'dhcp' && address.client === 'dhcp' ? dhcpSpecOf(address.options) : undefined;
  if (command.stay && !dhcp) throw refuse('--stay goes with dhcp: there is no lease to renew.');
  const want: Attachment = {
    container: parseContainerRef(command.guest),
    network,
    ifname,
    addrs: address.how === 'static' ? address.addrs : [],
    routes: [],
    // The original gives an address out as often as it is told to.
    dad: false,
    ...(dhcp && { dhcp }),
    ...(command.hostIfname === undefined ? {} : { hostIfname: command.hostIfname }),
    ...(command.mac === undefined ? {} : { mac: command.mac }),
  };
  const lease = await leaseOf(host, command, container, want);
  using _progress = session.progress(`connecting ${ifname} of ${command.guest}`);
  const { once, firewall } = command;
  const { warnings } = await attach(host, container, want, {
    ifPresent: 'refuse',
    firewall,
    origin: once ? 'once' : 'command',
    ...lease,
  });
  const more = await session.attached({ container, want, firewall, once });
  for (const warning of [...warnings, ...more]) printErrorTo(session, `warning: ${warning}`);
  if (dhcp) await seeToRenewal(session, command, container, ifname);
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
  const { vlanText, mac, directPhys, bridgeVlan } = command;
  const kind = type ?? classifyHostif(hostif);
  const vid = (): { vid?: number } => (vlanText === undefined ? {} : { vid: parseVid(vlanText) });
  switch (kind) {
    case 'bridge':
      if (vlanText !== undefined && !bridgeVlan) throw refusals.vlanOnBridge();
      return { kind: 'bridge', name: hostif, ...vid() };
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

/** How the interface gets its addresses before it is final, where it is by DHCP: by our own client, or the one named. */
async function leaseOf(
  host: Host,
  { address, guest }: PipeworkAttach,
  container: Container,
  want: Attachment,
): Promise<Pick<AttachOptions, 'beforeCommit' | 'dhcpGuest'>> {
  if (address.how === 'static') return {};
  const { client, options } = address;
  if (client === 'dhcp') {
    const { leaseOnce } = await import('../dhcp/once.ts');
    return { beforeCommit: async (rtnl) => void (await leaseOnce(host, container, want, rtnl)) };
  }
  const { checkDhcp, runDhcpClient } = await import('../dhcp/clients.ts');
  const target = { client, options, ifname: want.ifname, guest: parseContainerRef(guest).name };
  checkDhcp(target);
  const where = { container, stateDir: host.state.path };
  return {
    dhcpGuest: want.container.name,
    beforeCommit: ({ netns }) => runDhcpClient({ ...target, ...where, netns }),
  };
}
