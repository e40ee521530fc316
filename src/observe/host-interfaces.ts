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
import type { MacvlanMode, Network } from '../model/attachment.ts';
import { macvlanModes, qualifiedName } from '../model/attachment.ts';
import type { FoundContainer, FoundHost, FoundInterface } from '../model/found.ts';
import type { Link, Rule } from '../model/link.ts';
import { isOurGroup, vlanIfnameFor } from '../model/naming.ts';
import type { AttachmentRecord, LinkWithAddrs } from '../model/observed.ts';
import { withAddrs } from './guest.ts';
import { lives } from './lives.ts';
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
    if (network) interfaces.push(found(place, there.link.name, there, network, isOurs ? record : undefined));
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
    case 'macvlan':
    case 'ipvlan':
    case 'vlan':
      return fromHost ? childOf(place, link) : undefined;
    case undefined:
      return link.arphrd === ethernet ? { kind: 'phys', uplink: link.altnames[0] ?? link.name } : undefined;
    default:
      // Tunnels that every namespace is born with.
      return link.up && addrs.some(({ scope }) => scope === 0)
        ? { why: `it is of kind ${link.kind}, which a file does not say` }
        : undefined;
  }
}

async function pairOf({ host, links }: Place, link: Link, numbers: Numbers): Promise<Plug | undefined> {
  const end = links.find(
    ({ kind, ifindex, lower, linkNetnsid }) =>
      kind === 'veth' &&
      ifindex === link.lower &&
      lower === link.ifindex &&
      linkNetnsid !== undefined &&
      linkNetnsid === numbers.guestOnHost,
  );
  if (!end) return { why: 'its other end is not on the host' };
  const master = links.find(({ ifindex }) => ifindex === end.master);
  if (master?.kind === 'bridge') {
    return master.data.vlanFiltering
      ? { why: `${master.name} filters VLANs, which a file does not say` }
      : { kind: 'bridge', name: master.name };
  }
  const port = (!master || master.kind === 'openvswitch') && (await ovsPort(host, end.name));
  if (!port) return { why: `its other end ${end.name} is a port of no bridge` };
  const { bridge: name, tag, trunks } = port;
  if (tag !== undefined && trunks.length > 0)
    return { why: `the port ${end.name} has both a tag and trunks` };
  const vlans = trunks.length > 0 ? { trunks: [...trunks].sort((a, b) => a - b) } : {};
  return { kind: 'ovs', name, ...(tag === undefined ? {} : { vid: tag }), ...vlans };
}

async function ovsPort(host: Host, name: string) {
  if (!existsSync(host.ovsdbSocket)) return undefined;
  const { getPort } = await import('../ovs/port.ts');
  return getPort(await host.ovs(), name);
}

function childOf({ links }: Place, link: Link): Plug {
  const parent = links.find(({ ifindex }) => ifindex === link.lower);
  if (!parent) return { why: 'its uplink is not on the host' };
  const { mode, vid } = link.data;
  if (link.kind === 'vlan') return vid === undefined ? { why: 'it has no VLAN id' } : phys(parent, vid);
  const nic = links.find(({ ifindex }) => parent.kind === 'vlan' && ifindex === parent.lower);
  const tag = parent.data.vid;
  // A sub-interface of another name would not be made again.
  const isUsual = nic && tag !== undefined && parent.name === vlanIfnameFor(nic.name, tag);
  const on = isUsual ? { uplink: nic.name, vid: tag } : { uplink: parent.name };
  if (link.kind === 'ipvlan') {
    return mode === 'l2' || mode === 'l3' || mode === 'l3s'
      ? { kind: 'ipvlan', mode, ...on }
      : unknownMode(mode);
  }
  const known = macvlanModes.find((one): one is MacvlanMode => one === mode);
  return known === undefined ? unknownMode(mode) : { kind: 'macvlan', mode: known, ...on };
}

const phys = ({ name }: Link, vid: number): Plug => ({ kind: 'phys', uplink: name, vid });
const unknownMode = (mode: string | undefined): Plug => ({ why: `a file does not say mode ${mode}` });
