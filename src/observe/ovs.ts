/** What Open vSwitch has of one attachment: its port, the mirror that leads to it, ports that outlived their containers. */
import { existsSync } from 'node:fs';
import { ovsMark } from '../apply/backends.ts';
import type { Attachment } from '../model/attachment.ts';
import { qualifiedName } from '../model/attachment.ts';
import type { Link } from '../model/link.ts';
import { hostMark, isOurGroup } from '../model/naming.ts';
import type { AttachmentRecord, ObservedHost, ObservedMirror, ObservedOvsPort } from '../model/observed.ts';
import type { OvsPort } from '../ovs/port.ts';
import { lives } from './lives.ts';
import type { HostView } from './view.ts';

/** The datapath of a bridge, which its local port tells; of one that is yet to be made the one that it will have. */
export async function datapathOf(
  { host }: HostView,
  bridge: Link | undefined,
): Promise<ObservedHost['datapath']> {
  if (bridge) return bridge.kind === 'tun' ? 'netdev' : 'system';
  const { usableDatapath } = await import('../ovs/datapath.ts');
  return usableDatapath(host.ovsdbSocket);
}

/** By what name the attachment has a port, and the link of this name. */
interface End {
  readonly name: string | undefined;
  readonly hostEnd: Link | undefined;
  /** What that link is a port of in the kernel. */
  readonly master: Link | undefined;
}

export async function observeOvs(
  view: HostView,
  want: Attachment,
  record: AttachmentRecord | undefined,
  { name, hostEnd, master }: End,
): Promise<Pick<ObservedHost, 'ovsPort' | 'deadPorts' | 'mirror'>> {
  const isWanted = want.network.kind === 'ovs';
  // A port of the kernel's datapath has the datapath for its master; one of the other has none.
  const maybePort = hostEnd && isOurGroup(hostEnd.group) && (!master || master.kind === 'openvswitch');
  const wasPort = record?.network.kind === 'ovs' && record.network.internal;
  if (!isWanted && !((maybePort || wasPort) && existsSync(view.host.ovsdbSocket)))
    return { ovsPort: undefined, deadPorts: [] };
  const ours = await view.ports(ovsMark);
  const port = ours.find((other) => other.name === name);
  const looks = want.mirror !== undefined || record?.want?.mirror !== undefined;
  return {
    ovsPort: port && observedPort(port),
    deadPorts: isWanted ? deadOf(view, ours) : [],
    ...(looks && { mirror: await observeMirror(view, want, name) }),
  };
}

function observedPort(port: OvsPort): ObservedOvsPort {
  return {
    name: port.name,
    isInternal: port.interface.type === 'internal',
    bridge: port.bridge,
    vid: port.tag,
    trunks: [...port.trunks].sort((x, y) => x - y),
    vlanMode: port.vlanMode,
    cvlans: [...port.cvlans].sort((x, y) => x - y),
    qinqEthtype: port.qinqEthtype,
    policing: port.interface.policing,
  };
}

/** Ports of ours whose container is gone: a pair is gone with it, and of an internal port only our notes tell. */
function deadOf(view: HostView, ours: readonly OvsPort[]): string[] {
  let records: readonly AttachmentRecord[] | undefined;
  const isDead = ({ name, interface: { type, externalIds } }: OvsPort): boolean => {
    if (type !== 'internal') return view.netns.link(name)?.name !== name;
    if (hostMark in externalIds) return false;
    records ??= view.records();
    const record = records.find(({ hostIfname }) => hostIfname === name);
    if (record) return !lives(record.container);
    const pid = externalIds['pipework.nspid'];
    return pid === undefined || !existsSync(`/proc/${pid}`);
  };
  return ours.filter(isDead).map(({ name }) => name);
}

async function observeMirror(
  view: HostView,
  { mirror, network }: Attachment,
  name: string | undefined,
): Promise<ObservedMirror> {
  const found = (await view.mirrors(ovsMark)).find((other) => other.name === name);
  // One whose port was deleted leads nowhere.
  const leads = found && found.outputPort === found.name ? found : undefined;
  const is = leads && { all: leads.all, src: leads.src, dst: leads.dst, vlans: leads.vlans };
  if (!mirror?.of || network.kind !== 'ovs') return { is, of: [] };
  const ports = new Set(await view.bridgePorts(network.name));
  const plain = mirror.of.flatMap((text) => (text.startsWith('port:') ? [text.slice('port:'.length)] : []));
  const own = view
    .records()
    .filter((record) => isMeant(mirror.of ?? [], record) && lives(record.container))
    .flatMap(({ hostIfname }) => hostIfname ?? []);
  return { is, of: [...new Set([...plain, ...own])].filter((port) => ports.has(port)).sort() };
}

/** `web` stands for all interfaces of that container, `web/eth1` for one. */
function isMeant(of: readonly string[], { container, ifname }: AttachmentRecord): boolean {
  const names = [container.name, qualifiedName(container)];
  return of.some((text) => names.some((name) => text === name || text === `${name}/${ifname}`));
}
