/** Everything that containers of a host are connected by, whoever made it. Reads only. */
import { existsSync, statSync } from 'node:fs';
import type { Host } from '../apply/host.ts';
import type { Container } from '../containers/container.ts';
import type { Endpoint } from '../containers/docker.ts';
import type { Away, Engines } from '../containers/engines.ts';
import { openContainerNetns } from '../containers/resolve.ts';
import { listLinks, netnsIdOf } from '../kernel/netlink/link.ts';
import { listRules } from '../kernel/netlink/rule.ts';
import { NetlinkSocket } from '../kernel/netlink/socket.ts';
import type { GuestVlan, MacvlanMode, Network, OvsNetwork } from '../model/attachment.ts';
import { macvlanModes, ovsVlanModes, qinqEthtypes, qualifiedName } from '../model/attachment.ts';
import type { FoundContainer, FoundHost, FoundInterface } from '../model/found.ts';
import type { Link, Rule } from '../model/link.ts';
import { isOurGroup, vlanIfnameFor } from '../model/naming.ts';
import type { AttachmentRecord, LinkWithAddrs } from '../model/observed.ts';
import { saidVlans } from '../model/port-vlan.ts';
import type { OvsPort } from '../ovs/port.ts';
import { isAsked } from '../plan/kept.ts';
import { withAddrs } from './guest.ts';
import { lives } from './lives.ts';
import { portVlansOf } from './port-vlans.ts';
import { NetnsView } from './view.ts';

type Plug = FoundInterface['network'];

/** Bytes; of a link that is given none. */
const defaultMtu = 1500;
/** ARPHRD_ETHER. */
const ethernet = 1;

/** What is there. Of an engine that does not answer nothing is said but that. */
export async function observeHostInterfaces(host: Host, engines: Engines): Promise<FoundHost> {
  const records = host.state.records().filter(({ container }) => lives(container));
  // A network that moved has a second note, of what it was, until that is gone.
  const noted = host.state.networkRecords().filter(({ network, spec }) => spec?.name === network);
  const networks = noted.flatMap(({ spec }) => spec ?? []);
  const { running, away } = await runningIn(engines, records);
  const links = listLinks(host.rtnl);
  const containers: FoundContainer[] = [];
  for (const { container, endpoints } of running) {
    const own = records.filter((record) => record.container.netnsInode === inodeOf(container));
    const seen = await observeContainer({ host, links }, container, endpoints, own);
    containers.push({ name: nameAmong(container, running), ...seen });
  }
  const inodes = new Set(running.map(({ container }) => inodeOf(container)));
  const others = records.filter((record) => !inodes.has(record.container.netnsInode));
  const notes = [...awayNotes(away, engines.list.length), ...others.map((record) => leftOut(record, away))];
  containers.sort((a, b) => (a.name < b.name ? -1 : 1));
  return { networks, containers, notes };
}

/** One that nobody said is on this host is worth a word only where there is no other. */
function awayNotes(away: ReadonlyMap<string, Away>, count: number): string[] {
  const all = [...away.values()];
  const present = all.filter(({ isAbsent }) => !isAbsent);
  const told = present.length > 0 || all.length < count ? present : all.slice(0, 1);
  return told.map(({ error }) => error.message);
}

function leftOut({ container, ifname }: AttachmentRecord, away: ReadonlyMap<string, Away>): string {
  const { runtime, name } = container;
  const why = away.has(runtime)
    ? `${away.get(runtime)?.title} does not answer`
    : 'a file is about containers of Docker and Podman';
  return `${runtime}:${name}/${ifname} was left out: ${why}`;
}

/** As a file has it, where a plain name would be refused to the other engine's container of that name. */
function nameAmong({ runtime, name }: Container, running: readonly Running[]): string {
  const isShared = running.some(({ container }) => container.name === name && container.runtime !== runtime);
  return isShared ? `${runtime}:${name}` : qualifiedName({ runtime, name });
}

interface Running {
  readonly container: Container;
  readonly endpoints: readonly Endpoint[];
}

/**
 * One for each namespace, which containers can share, and those of a pod do: the one that was connected, or the one that
 * the others have it from, which started first.
 */
async function runningIn(
  engines: Engines,
  records: readonly AttachmentRecord[],
): Promise<{ running: Running[]; away: ReadonlyMap<string, Away> }> {
  const { running, away } = await engines.all();
  const named = new Set(records.map(({ container }) => container.id));
  const rank = ({ id, startTime }: Container): number => (named.has(id) ? -1 : Number(startTime));
  const sharing = new Map<number | undefined, Running[]>();
  for (const { container } of running) {
    const engine = engines.list.find(({ runtime }) => runtime === container.runtime);
    const endpoints = (await engine?.endpoints(container.id)) ?? [];
    const inode = inodeOf(container);
    sharing.set(inode, [...(sharing.get(inode) ?? []), { container, endpoints }]);
  }
  const owners = [...sharing.values()].flatMap((group) => {
    const [first] = group.toSorted((a, b) => rank(a.container) - rank(b.container));
    return first ? [{ ...first, endpoints: group.flatMap(({ endpoints }) => endpoints) }] : [];
  });
  return { running: owners, away };
}

const inodeOf = ({ netnsPath }: Container): number | undefined =>
  statSync(netnsPath, { throwIfNoEntry: false })?.ino;

interface Place {
  readonly host: Host;
  /** The host's. */
  readonly links: readonly Link[];
}

async function observeContainer(
  place: Place,
  container: Container,
  endpoints: readonly Endpoint[],
  records: readonly AttachmentRecord[],
): Promise<Omit<FoundContainer, 'name'>> {
  using netns = openContainerNetns(container);
  using rtnl = NetlinkSocket.open(netns);
  const view = new NetnsView(rtnl, 'once');
  const numbers = {
    guestOnHost: netnsIdOf(place.host.rtnl, netns.fd),
    hostInGuest: netnsIdOf(rtnl, place.host.netns.fd),
  };
  const interfaces: FoundInterface[] = [];
  const links = listLinks(rtnl).map((link) => withAddrs(view, link));
  for (const there of links.filter((one) => !isDockers(one, endpoints))) {
    const record = records.find(({ ifname }) => ifname === there.link.name);
    const isOurs = record !== undefined && isOurGroup(there.link.group);
    const network = isOurs ? sayable(record.network) : await plugOf(place, there, numbers);
    if (!network) continue;
    const own = found(place, there.link.name, there, network, isOurs ? record : undefined);
    interfaces.push(isOurs ? own : { ...own, ...(await extrasOf(place, there, links, numbers)) });
  }
  for (const record of records.filter(({ ifname }) => !links.some(({ link }) => link.name === ifname)))
    interfaces.push(found(place, record.ifname, undefined, sayable(record.network), record));
  interfaces.sort((a, b) => (a.ifname < b.ifname ? -1 : 1));
  return { interfaces, rules: listRules(rtnl).filter(isAdded) };
}

function found(
  { links }: Place,
  ifname: string,
  there: LinkWithAddrs | undefined,
  network: Plug,
  record: AttachmentRecord | undefined,
): FoundInterface {
  const uplink = 'uplink' in network ? links.find(({ name }) => name === network.uplink) : undefined;
  return { ifname, there, network, record, defaultMtu: uplink?.mtu ?? defaultMtu };
}

function sayable(network: Network): Plug {
  return network.kind === 'ipoib' ? { why: 'InfiniBand is not in a file' } : network;
}

/** Docker's own interfaces are known by their MAC address, those of ipvlan by their addresses. */
function isDockers({ link, addrs }: LinkWithAddrs, endpoints: readonly Endpoint[]): boolean {
  return endpoints.some(
    ({ mac, ips }) => (mac !== '' && mac === link.mac) || addrs.some(({ cidr }) => ips.includes(cidr.ip)),
  );
}

/** Priorities of the rules that every namespace has: local, main, default. */
const usual = [0, 32766, 32767];

function isAdded({ priority, table, iif, oif, fwmark, src, dst }: Rule): boolean {
  if (usual.includes(priority) && table >= 253 && table <= 255) return false;
  return iif === undefined && oif === undefined && fwmark === undefined && (src ?? dst) !== undefined;
}

/** How two namespaces number each other, for `link-netnsid`. */
interface Numbers {
  readonly guestOnHost: number | undefined;
  readonly hostInGuest: number | undefined;
}

/** What an interface is plugged into, made by whomever; undefined for what nobody has connected. */
async function plugOf(
  place: Place,
  { link, addrs }: LinkWithAddrs,
  numbers: Numbers,
): Promise<Plug | undefined> {
  const fromHost = link.linkNetnsid !== undefined && link.linkNetnsid === numbers.hostInGuest;
  switch (link.kind) {
    case 'veth':
      return pairOf(place, link, numbers);
    case 'tun':
    case 'openvswitch':
      return (await internalOf(place, link)) ?? unknownKind(link, addrs);
    case 'macvlan':
    case 'ipvlan':
    case 'vlan':
      return fromHost ? childOf(place, link) : undefined;
    case undefined:
      return link.arphrd === ethernet ? { kind: 'phys', uplink: link.altnames[0] ?? link.name } : undefined;
    default:
      return unknownKind(link, addrs);
  }
}

/** Not worth a word: tunnels that every namespace is born with. */
function unknownKind({ up, kind }: Link, addrs: LinkWithAddrs['addrs']): Plug | undefined {
  return up && addrs.some(({ scope }) => scope === 0)
    ? { why: `it is of kind ${kind}, which a file does not say` }
    : undefined;
}

function otherEnd({ links }: Place, link: Link, numbers: Numbers): Link | undefined {
  return links.find(
    ({ kind, ifindex, lower, linkNetnsid }) =>
      kind === 'veth' &&
      ifindex === link.lower &&
      lower === link.ifindex &&
      linkNetnsid !== undefined &&
      linkNetnsid === numbers.guestOnHost,
  );
}

async function pairOf(place: Place, link: Link, numbers: Numbers): Promise<Plug | undefined> {
  const { host, links } = place;
  const end = otherEnd(place, link, numbers);
  if (!end) return { why: 'its other end is not on the host' };
  const master = links.find(({ ifindex }) => ifindex === end.master);
  if (master?.kind === 'bridge') {
    if (!master.data.vlanFiltering) return { kind: 'bridge', name: master.name };
    const vlans = saidVlans(portVlansOf(host.rtnl, end.ifindex), master.data.defaultPvid);
    return vlans
      ? { kind: 'bridge', name: master.name, ...vlans }
      : { why: `the VLANs of its port ${end.name} of ${master.name} are of a kind that a file does not say` };
  }
  const port = (!master || master.kind === 'openvswitch') && (await ovsPort(host, end.name));
  if (!port) return { why: `its other end ${end.name} is a port of no bridge` };
  return ovsNetwork(port);
}

/** As ovs-vswitchd.conf.db(5) has it: without a mode, a port with a tag is an access port, whatever its trunks. */
function ovsNetwork({ bridge: name, tag: vid, trunks, vlanMode, cvlans, qinqEthtype }: OvsPort): OvsNetwork {
  const sorted = (vids: readonly number[]): number[] => [...vids].sort((a, b) => a - b);
  const carried = trunks.length > 0 ? { trunks: sorted(trunks) } : {};
  const on = { kind: 'ovs', name } as const;
  if (vid === undefined || vlanMode === 'trunk') return { ...on, ...carried };
  const mode = ovsVlanModes.find((known) => known === vlanMode);
  if (!mode) return { ...on, vid };
  if (mode !== 'dot1q-tunnel') return { ...on, vid, ...carried, vlanMode: mode };
  const ethtype = qinqEthtypes.find((known) => known === qinqEthtype);
  return {
    ...on,
    vid,
    vlanMode: mode,
    ...(cvlans.length > 0 && { cvlans: sorted(cvlans) }),
    ...(ethtype && { qinqEthtype: ethtype }),
  };
}

/** An internal port that was moved into the container: Open vSwitch knows it by its name. */
async function internalOf({ host, links }: Place, { name }: Link): Promise<Plug | undefined> {
  if (links.some((link) => link.name === name)) return undefined;
  const port = await ovsPort(host, name);
  return port?.interface.type === 'internal' ? { ...ovsNetwork(port), internal: true } : undefined;
}

/** What else an interface has that somebody else has made. */
async function extrasOf(
  place: Place,
  { link }: LinkWithAddrs,
  guest: readonly LinkWithAddrs[],
  numbers: Numbers,
): Promise<Pick<FoundInterface, 'policing' | 'vlans'>> {
  const end = link.kind === 'veth' ? otherEnd(place, link, numbers) : undefined;
  const port = end && (await ovsPort(place.host, end.name));
  const vlans = guest.flatMap(({ link: own, addrs }): GuestVlan[] => {
    const { vid, vlanProtocol } = own.data;
    const isOn = own.kind === 'vlan' && own.linkNetnsid === undefined && own.lower === link.ifindex;
    if (!isOn || vid === undefined || vlanProtocol === '802.1ad' || own.name !== `${link.name}.${vid}`)
      return [];
    return [{ vid, ifname: own.name, cidrs: addrs.filter(isAsked).map(({ cidr }) => cidr) }];
  });
  return { ...(port && { policing: port.interface.policing }), ...(vlans.length > 0 && { vlans }) };
}

async function ovsPort(host: Host, name: string): Promise<OvsPort | undefined> {
  if (!existsSync(host.ovsdbSocket)) return undefined;
  const { getPort } = await import('../ovs/port.ts');
  return getPort(await host.ovs(), name);
}

function childOf({ links }: Place, link: Link): Plug {
  const parent = links.find(({ ifindex }) => ifindex === link.lower);
  if (!parent) return { why: 'its uplink is not on the host' };
  const { mode, vid, flag, sourceMacs } = link.data;
  if (link.kind === 'vlan') return vid === undefined ? { why: 'it has no VLAN id' } : phys(parent, vid);
  const nic = links.find(({ ifindex }) => parent.kind === 'vlan' && ifindex === parent.lower);
  const tag = parent.data.vid;
  // A sub-interface of another name would not be made again.
  const isUsual = nic && tag !== undefined && parent.name === vlanIfnameFor(nic.name, tag);
  const on = isUsual ? { uplink: nic.name, vid: tag } : { uplink: parent.name };
  if (link.kind === 'ipvlan') {
    return mode === 'l2' || mode === 'l3' || mode === 'l3s'
      ? { kind: 'ipvlan', mode, ...(flag && flag !== 'bridge' && { flag }), ...on }
      : unknownMode(mode);
  }
  const known = macvlanModes.find((one): one is MacvlanMode => one === mode);
  if (known === undefined) return unknownMode(mode);
  return { kind: 'macvlan', mode: known, ...(sourceMacs && { sourceMacs }), ...on };
}

const phys = ({ name }: Link, vid: number): Plug => ({ kind: 'phys', uplink: name, vid });
const unknownMode = (mode: string | undefined): Plug => ({ why: `a file does not say mode ${mode}` });
