// What tests of plans are made from: a host, a container, links, addresses; and plans as the commands that a person would type.
import { broadcastOf, parseCidr, parseIp } from '../../src/model/address.ts';
import type { AddrSpec, Attachment } from '../../src/model/attachment.ts';
import { describe } from '../../src/model/describe.ts';
import type { Addr, Link, Route } from '../../src/model/link.ts';
import { groupOf } from '../../src/model/naming.ts';
import type { AttachmentRecord, LinkWithAddrs, Observed } from '../../src/model/observed.ts';
import type { Step } from '../../src/model/operation.ts';

/** The group of the transaction that is planned, and that of an earlier one. */
export const now = groupOf(1);
export const earlier = groupOf(2);

export const link = (name: string, ifindex: number, more: Partial<Link> = {}): Link => ({
  ifindex,
  name,
  altnames: [],
  kind: undefined,
  arphrd: 1,
  mac: '02:00:00:00:00:99',
  mtu: 1500,
  group: 0,
  up: true,
  carrier: true,
  operstate: 'up',
  master: undefined,
  lower: undefined,
  linkNetnsid: undefined,
  data: {},
  ...more,
});

export const addr = (text: string, ifindex: number, more: Partial<Addr> = {}): Addr => {
  const cidr = parseCidr(text);
  if (!cidr) throw new Error(text);
  const broadcast = cidr.family === 4 ? { broadcast: broadcastOf(cidr) } : {};
  return { ifindex, cidr, ...broadcast, scope: 0, flags: 0x80, ...more };
};

export const route = (text: string, dev: number, more: Partial<Route> = {}): Route => {
  const [to = '', , via] = text.split(' ');
  const dst = to === 'default' ? undefined : parseCidr(to);
  const family = dst?.family ?? (via?.includes(':') ? 6 : 4);
  return {
    family,
    ...(dst ? { dst } : {}),
    ...(via === undefined ? {} : { gateway: via }),
    dev,
    scope: via === undefined ? 253 : 0,
    table: 254,
    protocol: 3,
    type: 1,
    unknown: [],
    ...more,
  };
};

/** `10.0.0.2/24@10.0.0.1`, `@10.0.0.1`. */
export function addrSpec(text: string): AddrSpec {
  const [address = '', via] = text.split('@');
  const cidr = address === '' ? undefined : parseCidr(address);
  const gateway = via === undefined ? undefined : parseIp(via);
  return { ...(cidr ? { cidr } : {}), ...(gateway ? { gateway } : {}) };
}

export const wanted = (
  network: Attachment['network'],
  addrs: readonly string[] = [],
  more: Partial<Attachment> = {},
): Attachment => ({
  container: { runtime: 'docker', name: 'web' },
  network,
  ifname: 'eth1',
  addrs: addrs.map(addrSpec),
  routes: [],
  ...more,
});

type Overrides = {
  readonly host?: Partial<Observed['host']>;
  readonly guest?: Partial<Observed['guest']>;
  readonly record?: Observed['record'];
};

/** A host and a container with nothing on them. */
export const seen = ({ host = {}, guest = {}, record }: Overrides = {}): Observed => ({
  host: {
    network: undefined,
    networkType: undefined,
    vlanLink: undefined,
    hostIfname: 'veth1pl42',
    hostEnd: undefined,
    hostEndMaster: undefined,
    portVlans: [],
    moving: undefined,
    ovsPort: undefined,
    deadPorts: [],
    firewallMissing: false,
    ...host,
  },
  guest: {
    pid: 42,
    link: undefined,
    vlans: [],
    ipv6Disabled: false,
    ipv6DisabledOnNew: false,
    sysctls: {},
    rules: [],
    rates: {},
    detour: { isThere: false, hasIngress: false, leads: false },
    defaults: [],
    hostRoutes: [],
    ...guest,
  },
  group: now,
  externalIds: { 'pipework.containername': '/web' },
  record,
});

export const recordOf = (more: Partial<AttachmentRecord> = {}): AttachmentRecord => ({
  version: 1,
  container: {
    runtime: 'docker',
    id: 'c0ffee',
    name: 'web',
    pid: 42,
    startTime: '1',
    netnsPath: '/proc/42/ns/net',
    netnsInode: 4026532000,
  },
  ifname: 'eth1',
  network: { kind: 'bridge', name: 'br1' },
  hostIfname: 'veth1pl42',
  vlanIfname: undefined,
  group: earlier,
  replaced: [],
  taken: undefined,
  since: 0,
  ...more,
});

/** eth1 of the container as an earlier transaction made it, with the host's end as a port of br1 (ifindex 5). */
export function connected(addrs: readonly string[], routes: readonly Route[] = [], more: Partial<Link> = {}) {
  const there: LinkWithAddrs = {
    link: link('eth1', 7, { kind: 'veth', group: earlier, lower: 6, linkNetnsid: 0, ...more }),
    addrs: addrs.map((text) => addr(text, 7)),
    routes,
  };
  const host = {
    network: link('br1', 5, { kind: 'bridge' }),
    networkType: 'bridge' as const,
    hostEnd: link('veth1pl42', 6, { kind: 'veth', group: earlier, master: 5 }),
    hostEndMaster: 'br1',
  };
  const isHostRoute = ({ dst }: Route): boolean => dst?.prefixLen === (dst?.family === 4 ? 32 : 128);
  const guest = {
    link: there,
    defaults: routes.filter(({ dst, table }) => dst === undefined && table === 254),
    hostRoutes: routes.filter(isHostRoute),
    sysctls: { 'ipv4/promote_secondaries': '0' },
  };
  return { host, guest, record: recordOf(), there };
}

export const commands = (steps: readonly Step[]): string[] => steps.map(({ op }) => describe(op));

/** The undo of a plan in the order in which it is run. */
export const undoOf = (steps: readonly Step[]): string[] =>
  [...steps].reverse().flatMap((step) => step.undo.map(describe));

export const reasons = (steps: readonly Step[]): string[] => steps.map(({ because }) => because);
