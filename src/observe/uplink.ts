/** What a NIC and the bridge that it is to join have, before they are touched. */
import type { Host } from '../apply/host.ts';
import { listAddrs } from '../kernel/netlink/addr.ts';
import { listLinks } from '../kernel/netlink/link.ts';
import { listNeighs, listProxies } from '../kernel/netlink/neigh.ts';
import { listNexthops } from '../kernel/netlink/nexthop.ts';
import { hasNexthopObject, listRoutes, routeDevs } from '../kernel/netlink/route.ts';
import { listAllRules } from '../kernel/netlink/rule.ts';
import { randomBytes } from '../kernel/random.ts';
import { readLinkConf } from '../kernel/sysctl.ts';
import { isWireless } from '../kernel/wireless.ts';
import type { Link, Neigh, Route, Rule } from '../model/link.ts';
import { groupOf, isOurGroup } from '../model/naming.ts';
import type { PortVlan } from '../model/port-vlan.ts';
import type { LinkState, ObservedUplink, UplinkBridge } from '../model/uplink.ts';
import { madeByKernel } from '../plan/uplink-routes.ts';
import { observeNetwork } from './network.ts';
import { allPortVlans } from './port-vlans.ts';
import { HostView } from './view.ts';

/** What excludes a NIC from being a bridge's port. */
const riderKinds = ['macvlan', 'macvtap', 'ipvlan', 'ipvtap'];
/** NUD_REACHABLE, STALE, DELAY, PROBE and PERMANENT: an address is known. */
const knownStates = 0x02 | 0x04 | 0x08 | 0x10 | 0x80;
/** RT_TABLE_LOCAL: what is there comes and goes with addresses. */
const localTable = 255;
/** Links that are made by software and lead to something on this host. */
const inside = ['veth', 'tun', 'bridge', 'dummy', 'openvswitch'];

/** Reads all of it. @throws PipewrightError OVS_UNAVAILABLE for an Open vSwitch bridge without Open vSwitch */
export async function observeUplink(
  host: Host,
  nicName: string,
  bridge: UplinkBridge,
): Promise<ObservedUplink> {
  const { rtnl, netns } = host;
  const links = listLinks(rtnl);
  const nic = links.find(({ name }) => name === nicName);
  const routes = listRoutes(rtnl);
  const rules = listAllRules(rtnl);
  const { link, type } = await observeNetwork(new HostView(host), bridge.name);
  const { ports, ...ovs } =
    bridge.kind === 'ovs' || type === 'ovs' ? await observeOvs(host, nicName, bridge.name) : noOvs;
  const all = readLinkConf(netns, 'all');
  return {
    nic,
    master: nic?.master === undefined ? undefined : links.find(({ ifindex }) => ifindex === nic.master),
    wireless: isWireless(nicName),
    riders: nic ? ridersOn(nic, links) : [],
    vlanLinks: links.filter(
      ({ kind, lower, linkNetnsid }) =>
        kind === 'vlan' && lower === nic?.ifindex && linkNetnsid === undefined,
    ),
    alias: nic ? undefined : links.find(({ altnames }) => altnames.includes(nicName))?.name,
    uplinkOf: host.state.uplink(nicName)?.record.want.bridge.name,
    takenBy: nic ? undefined : holderOf(host, nicName),
    isOurs: isOurs(host, nicName, bridge),
    state: stateOf(host, nicName, nic, routes, rules),
    nicConf: nic ? readLinkConf(netns, nicName) : {},
    routes,
    bridge: link,
    bridgeKind:
      link === undefined ? undefined : type === 'bridge' ? 'bridge' : type === 'ovs' ? 'ovs' : 'other',
    otherUplinks: link ? otherUplinks(host, link, links, nicName, ports) : [],
    bridgeState: stateOf(host, bridge.name, link, routes, rules),
    ...(type === 'bridge' && link ? vlansOn(host, link, links, nic) : noVlans),
    bridgeConf: readLinkConf(netns, link ? bridge.name : 'default'),
    ...ovs,
    rpFilterAll: Number(all['ipv4/rp_filter'] ?? 0),
    group: groupOf(randomBytes(4).readUInt32LE()),
  };
}

/** What Open vSwitch knows of the two. */
interface OvsFacts
  extends Pick<ObservedUplink, 'ovsBridgeOfNic' | 'ovsTrunks' | 'ovsMac' | 'userspaceDatapath'> {
  readonly ports: readonly string[];
}

const noOvs: OvsFacts = {
  ovsBridgeOfNic: undefined,
  ovsTrunks: [],
  ovsMac: undefined,
  userspaceDatapath: false,
  ports: [],
};

async function observeOvs(host: Host, nic: string, bridgeName: string): Promise<OvsFacts> {
  const [db, { getBridge }, { getPort }, { usableDatapath }] = await Promise.all([
    host.ovs(),
    import('../ovs/bridge.ts'),
    import('../ovs/port.ts'),
    import('../ovs/datapath.ts'),
  ]);
  const [bridge, port] = await Promise.all([getBridge(db, bridgeName), getPort(db, nic)]);
  return {
    ovsBridgeOfNic: port?.bridge,
    ovsTrunks: [...(port?.trunks ?? [])].sort((a, b) => a - b),
    ovsMac: bridge?.otherConfig.hwaddr,
    userspaceDatapath: (bridge?.datapathType ?? (await usableDatapath(db.path))) === 'netdev',
    ports: bridge?.ports ?? [],
  };
}

/** Whether we made the NIC the uplink of this bridge. */
function isOurs({ state }: Host, nic: string, { kind, name }: UplinkBridge): boolean {
  const { phase, record } = state.uplink(nic) ?? {};
  return phase === 'settled' && record?.want.bridge.kind === kind && record.want.bridge.name === name;
}

const noVlans: VlanFacts = { nicVlans: [], bridgeVlans: [], otherVlans: [] };
type VlanFacts = Pick<ObservedUplink, 'nicVlans' | 'bridgeVlans' | 'otherVlans'>;

function vlansOn({ rtnl }: Host, bridge: Link, links: readonly Link[], nic: Link | undefined): VlanFacts {
  const all = allPortVlans(rtnl);
  const of = (ifindex: number | undefined): PortVlan[] => all.get(ifindex ?? 0) ?? [];
  const others = links.filter(({ master, ifindex }) => master === bridge.ifindex && ifindex !== nic?.ifindex);
  return {
    nicVlans: of(nic?.ifindex),
    bridgeVlans: of(bridge.ifindex),
    otherVlans: [bridge, ...others].flatMap(({ ifindex }) => of(ifindex)),
  };
}

/** A link's own addresses, routes, rules and neighbours. */
function stateOf(
  { rtnl }: Host,
  name: string,
  link: Link | undefined,
  routes: readonly Route[],
  rules: readonly Rule[],
): LinkState {
  if (!link)
    return { name, ifindex: 0, addrs: [], routes: [], made: [], nexthops: [], rules: [], neighs: [] };
  const { ifindex } = link;
  const addrs = listAddrs(rtnl, ifindex);
  const own = routes.filter((route) => !hasNexthopObject(route) && routeDevs(route).includes(ifindex));
  return {
    name,
    ifindex,
    addrs,
    routes: own.filter((route) => !madeByKernel(route, addrs)),
    made: own.filter((route) => madeByKernel(route, addrs) && route.table !== localTable),
    nexthops: listNexthops(rtnl).filter(({ dev }) => dev === ifindex),
    rules: rules.filter(({ iif, oif }) => iif === name || oif === name),
    neighs: [...listNeighs(rtnl, ifindex).filter(isWorthKeeping), ...listProxies(rtnl, ifindex)],
  };
}

/** Multicast addresses need no resolution. */
function isWorthKeeping({ ip, mac, state }: Neigh): boolean {
  const multicast = ip !== undefined && /^(ff|22[4-9]\.|23\d\.)/.test(ip);
  return mac !== undefined && mac !== '' && !multicast && (state & knownStates) !== 0;
}

function ridersOn(nic: Link, links: readonly Link[]): string[] {
  return links
    .filter(
      ({ kind, lower, linkNetnsid }) =>
        lower === nic.ifindex && linkNetnsid === undefined && riderKinds.includes(kind ?? ''),
    )
    .map(({ name }) => name);
}

/** The container that the NIC of this name is in now. */
function holderOf({ state }: Host, nic: string): string | undefined {
  return state.records().find(({ taken }) => taken?.name === nic)?.container.name;
}

/** Ports that lead out of the host: NICs, and what was made an uplink by us. */
function otherUplinks(
  host: Host,
  bridge: Link,
  links: readonly Link[],
  nic: string,
  ovsPorts: readonly string[],
): string[] {
  const noted = new Set(host.state.uplinks().map(({ nic: name }) => name));
  return links
    .filter(({ name, master }) => master === bridge.ifindex || ovsPorts.includes(name))
    .filter(({ name }) => name !== nic)
    .filter(
      ({ name, kind, group }) => noted.has(name) || (!inside.includes(kind ?? '') && !isOurGroup(group)),
    )
    .map(({ name }) => name);
}
