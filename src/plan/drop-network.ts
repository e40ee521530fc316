/** What is taken away of a network that is no more: what was made for it, and nothing else uses. Pure. */
import { type Cidr, contains, formatCidr } from '../model/address.ts';
import type { Addr, Link } from '../model/link.ts';
import { isOurGroup } from '../model/naming.ts';
import { promotion } from '../model/observed.ts';
import type { Operation } from '../model/operation.ts';
import type { NotedNetwork } from '../model/topology.ts';
import { unfilter } from './bridge.ts';

/** What is noted of a network of a topology: what the host was given for it. */
export interface NetworkRecord {
  readonly version: 1;
  readonly network: string;
  readonly kind: string;
  /** The bridge. */
  readonly link: string | undefined;
  /** The link with the host's own addresses, and those. */
  readonly hostLink: string | undefined;
  readonly addrs: readonly Cidr[];
  /** The VLAN that a bridge itself was made to carry for them. */
  readonly selfVid?: number;
  /** The 802.1Q sub-interface that it is on. */
  readonly vlanIfname?: string | undefined;
  /** The MTU of a bridge that is not ours: what it was given, and what it had. */
  readonly mtu?: { readonly set: number; readonly was: number } | undefined;
  /** What the file says of it. */
  readonly spec?: NotedNetwork | undefined;
}

/** What is there now. A link is undefined when it is gone, or was never needed. */
export interface DropFacts {
  readonly record: NetworkRecord;
  /** Notes of the networks that stay. */
  readonly staying: readonly NetworkRecord[];
  /** The bridge of a network of kind bridge, its addresses, and how many ports it has. */
  readonly bridge:
    | (LinkFacts & {
        readonly ports: number;
        /** An attachment is on it. */
        readonly isUsed?: boolean;
      })
    | undefined;
  /** The bridge of a network of kind ovs: whether we made it, and how many ports it has besides that of the host. */
  readonly ovsBridge: { readonly ours: boolean; readonly ports: number } | undefined;
  /** The port of ours that is the host's interface in a VLAN of it, whether or not its link is there. */
  readonly hasHostPort?: boolean | undefined;
  readonly hostLink:
    | (LinkFacts & {
        /** The next address of a subnet takes the place of the first when that is deleted. */
        readonly promotes: boolean;
      })
    | undefined;
  /** The sub-interface, and whether an attachment or a link of the host rides on it, but for the host's own child. */
  readonly vlan: (LinkFacts & { readonly isRidden: boolean }) | undefined;
}

/** A link with its addresses. */
export interface LinkFacts {
  readonly link: Link;
  readonly addrs: readonly Addr[];
}

/** What is to be done now. */
export interface DropPlan {
  readonly ops: readonly Operation[];
  /** Something else uses a part of it, which has to stay: another time. */
  readonly inUse: boolean;
}

/** The operations in an order in which each can be repeated. */
export function planDropNetwork(facts: DropFacts): DropPlan {
  const parts = [dropHostLink(facts), dropVlan(facts), dropBridge(facts), dropOvsBridge(facts)];
  return { ops: parts.flatMap(({ ops }) => ops), inUse: parts.some(({ inUse }) => inUse) };
}

const nothing: DropPlan = { ops: [], inUse: false };
const later: DropPlan = { ops: [], inUse: true };

const hasCidr = (all: readonly Cidr[], cidr: Cidr): boolean =>
  all.some((other) => formatCidr(other) === formatCidr(cidr));

/** Whether somebody else gave a link an address. */
const hasOthers = (addrs: readonly Addr[], own: readonly Cidr[]): boolean =>
  addrs.some(({ scope, cidr }) => scope === 0 && !hasCidr(own, cidr));

/** The host's own child of a NIC goes; of a bridge only the addresses, which others may have added theirs to. */
function dropHostLink({ record, staying, hostLink, hasHostPort }: DropFacts): DropPlan {
  const port = record.hostLink;
  if (hasHostPort && port !== undefined) {
    if (staying.some((other) => other.hostLink === port)) return nothing;
    return { ops: [{ do: 'ovs.port.del', port }], inUse: false };
  }
  if (!hostLink) return nothing;
  const { link, addrs, promotes } = hostLink;
  const others = staying.filter((other) => other.hostLink === link.name);
  // On Open vSwitch, and on a bridge without a VLAN, the addresses are on the bridge itself.
  if (record.hostLink !== record.link) {
    if (others.length > 0 || !isOurGroup(link.group)) return nothing;
    return {
      ops: [{ do: 'link.del', side: 'host', name: link.name }, ...dropSelfVid(record)],
      inUse: false,
    };
  }
  const present = addrs.map(({ cidr }) => cidr);
  const wanted = others.flatMap((other) => other.addrs);
  const going = record.addrs.filter((cidr) => hasCidr(present, cidr) && !hasCidr(wanted, cidr));
  const ops = going.map((cidr): Operation => ({ do: 'addr.del', side: 'host', link: link.name, cidr }));
  const staysBeside = (cidr: Cidr): boolean =>
    present.some((other) => !hasCidr(going, other) && other.family === 4 && contains(cidr, other.ip));
  if (promotes || !going.some(staysBeside)) return { ops, inUse: false };
  // The first IPv4 address of a subnet would take the others with it.
  const set = (value: string): Operation => ({ do: 'sysctl.set', link: link.name, key: promotion, value });
  return { ops: [set('1'), ...ops, set('0')], inUse: false };
}

/** The bridge itself carries the VLAN no more that it carried for the host's addresses. */
function dropSelfVid({ link, selfVid }: NetworkRecord): Operation[] {
  if (link === undefined || selfVid === undefined) return [];
  const vlan = { vid: selfVid, pvid: false, untagged: false };
  return [{ do: 'vlan.del', link, self: true, vlan }];
}

function dropVlan({ staying, vlan }: DropFacts): DropPlan {
  if (!vlan) return nothing;
  const { link, addrs, isRidden } = vlan;
  if (!isOurGroup(link.group) || staying.some(({ vlanIfname }) => vlanIfname === link.name)) return nothing;
  if (isRidden) return later;
  if (hasOthers(addrs, [])) return nothing;
  return { ops: [{ do: 'link.del', side: 'host', name: link.name }], inUse: false };
}

function dropBridge({ record, staying, bridge }: DropFacts): DropPlan {
  if (!bridge || staying.some(({ link }) => link === bridge.link.name)) return nothing;
  const { link, addrs, ports } = bridge;
  const { name } = link;
  if (!isOurGroup(link.group)) {
    // Unless somebody has given it another one since.
    const { mtu } = record;
    const back: Operation[] =
      mtu?.set === link.mtu ? [{ do: 'link.set', side: 'host', name, set: { mtu: mtu.was } }] : [];
    const switched = unfilter(link);
    if (switched.length > 0 && bridge.isUsed) return { ops: back, inUse: true };
    return { ops: [...back, ...switched], inUse: false };
  }
  if (hasOthers(addrs, record.addrs)) return nothing;
  if (ports > 0) return later;
  return {
    ops: [
      { do: 'firewall.revoke', bridge: name },
      { do: 'link.del', side: 'host', name },
    ],
    inUse: false,
  };
}

function dropOvsBridge({ record, staying, ovsBridge }: DropFacts): DropPlan {
  const name = record.link;
  if (name === undefined || !ovsBridge?.ours || staying.some(({ link }) => link === name)) return nothing;
  if (ovsBridge.ports > 0) return later;
  return { ops: [{ do: 'ovs.bridge.del', name }], inUse: false };
}
