/** Whether an address that is to be used is somebody's already: one of our containers', or somebody's on the link. */
import { PipewrightError } from '../errors.ts';
import { getLink, listLinks } from '../kernel/netlink/link.ts';
import { NetlinkSocket } from '../kernel/netlink/socket.ts';
import { Netns } from '../kernel/netns.ts';
import { type Attachment, segmentOf } from '../model/attachment.ts';
import type { AttachmentRecord } from '../model/observed.ts';
import type { Operation, Step } from '../model/operation.ts';
import { lives } from '../observe/lives.ts';
import type { Host } from './host.ts';

/** Whether somebody of ours who has an address is about to lose it, because something else is wanted by now. */
export type IsLeaving = (holder: AttachmentRecord, ip: string) => boolean;

/** What an address is wanted for, and in which namespace that is. */
export interface Verification {
  readonly host: Host;
  readonly guest: NetlinkSocket;
  readonly want: Attachment;
  readonly isLeaving?: IsLeaving | undefined;
}

type Probe = Extract<Operation, { do: 'addr.probe' }>;

/** @throws PipewrightError ADDRESS_IN_USE when another container that we connected has an address of these steps */
export function refuseKnown({ host, guest, want, isLeaving }: Verification, steps: readonly Step[]): void {
  if (want.dad === false) return;
  for (const { op } of steps) {
    if (op.do !== 'addr.add') continue;
    const { ip } = op.cidr;
    const holder = host.state.recordWith(want.network, ip);
    if (!holder || !lives(holder.container)) continue;
    const isOwn = holder.container.netnsInode === guest.netns.inode && holder.ifname === want.ifname;
    if (!isOwn && !isLeaving?.(holder, ip)) throw inUse('addr.add', want, ip, `${nameOf(holder)} has it`);
  }
}

/** Milliseconds that a NIC may take to find its carrier. */
const carrierMs = 1000;

/**
 * Asks the link for each address, all at once. Takes a quarter of a second, so not under the lock.
 * @throws PipewrightError ADDRESS_IN_USE, whose subject is the address
 */
export async function askLink(verification: Verification, { side, link: name, ips }: Probe): Promise<void> {
  const { host, guest, want, isLeaving } = verification;
  const rtnl = side === 'host' ? host.rtnl : guest;
  const link = await withCarrier(rtnl, name);
  // Nobody is there to answer, or nobody can.
  if (!link?.carrier || link.arphrd !== ethernet) return;
  const { probeAddress } = await import('../kernel/probe.ts');
  const { ifindex, mac } = link;
  const answers = await Promise.all(ips.map((ip) => probeAddress({ netns: rtnl.netns, ifindex, mac }, ip)));
  for (const [at, answer] of answers.entries()) {
    const ip = ips[at] ?? '';
    if (!answer) continue;
    const holder = ownerOf(host, answer.mac);
    if (typeof holder === 'object' && isLeaving?.(holder, ip)) continue;
    const named = holder === undefined ? '' : ` (${typeof holder === 'object' ? nameOf(holder) : holder})`;
    throw inUse('addr.probe', want, ip, `${answer.mac}${named} answers for it`);
  }
}

/** ARPHRD_ETHER. */
const ethernet = 1;

async function withCarrier(rtnl: NetlinkSocket, name: string) {
  for (const end = Date.now() + carrierMs; ; ) {
    const link = getLink(rtnl, name);
    if (!link || link.carrier || Date.now() > end) return link;
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

function inUse(op: string, { network, ifname, container }: Attachment, ip: string, who: string) {
  return new PipewrightError('ADDRESS_IN_USE', {
    op,
    subject: ip,
    detail: `${who} on ${segmentOf(network) ?? network.kind}, so ${ifname} of ${container.name} cannot have it`,
    hint: 'choose another address',
  });
}

function nameOf({ ifname, container }: AttachmentRecord): string {
  return `${ifname} of ${container.name}`;
}

/** Whose a MAC address is: the note of an interface of ours, or the name of a link of the host. */
function ownerOf(host: Host, mac: string): AttachmentRecord | string | undefined {
  const link = listLinks(host.rtnl).find((other) => other.mac === mac);
  if (link) return `${link.name} of this host`;
  return host.state.records().find((record) => lives(record.container) && hasMac(record, mac));
}

function hasMac({ container, ifname }: AttachmentRecord, mac: string): boolean {
  try {
    using netns = Netns.open(container.netnsPath, container.name);
    using rtnl = NetlinkSocket.open(netns);
    return getLink(rtnl, ifname)?.mac === mac;
  } catch {
    // It ended meanwhile.
    return false;
  }
}
