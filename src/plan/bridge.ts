/** What a Linux bridge needs, and a port of it: that it is there, is up, lets frames pass, and filters VLANs. Pure. */
import { PipewrightError } from '../errors.ts';
import type { BridgeNetwork } from '../model/attachment.ts';
import type { Link } from '../model/link.ts';
import { filteringMark, isOurGroup } from '../model/naming.ts';
import type { Observed, UplinkPort } from '../model/observed.ts';
import type { Operation, PortVlanOp, Step } from '../model/operation.ts';
import {
  bornVlans,
  carries,
  formatVlans,
  needsFiltering,
  type PortVlan,
  vlanChanges,
  wantedVlans,
} from '../model/port-vlan.ts';

/** The steps that make the bridge of an attachment ready. */
export function planBridge(network: BridgeNetwork, seen: Observed): Step[] {
  const { name } = network;
  const { network: bridge, firewallMissing } = seen.host;
  return [
    ...(bridge ? raise(bridge) : [addBridge(network, seen.group)]),
    ...planFiltering(network, bridge),
    ...planOnUplink(seen.host.uplink, wantedVlans(network) ?? []),
    ...(firewallMissing ? [allow(name)] : []),
  ];
}

function raise({ name, up }: Link): Step[] {
  if (up) return [];
  const set = (to: boolean): Operation => ({ do: 'link.set', side: 'host', name, set: { up: to } });
  return [
    {
      op: set(true),
      because: 'the bridge is down, and nothing passes a bridge that is down',
      undo: [set(false)],
    },
  ];
}

function addBridge(network: BridgeNetwork, group: number): Step {
  const { name } = network;
  const filters = needsFiltering(network) ? { vlanFiltering: true as const } : {};
  return {
    op: { do: 'link.add', side: 'host', name, link: { kind: 'bridge', ...filters }, group },
    because: 'there is no such bridge',
    undo: [{ do: 'link.del', side: 'host', name, onlyGroup: group }],
  };
}

function allow(bridge: string): Step {
  return {
    op: { do: 'firewall.allow', bridge },
    because: 'Docker drops what is forwarded between the ports of a bridge that is not its own',
    undo: [{ do: 'firewall.revoke', bridge }],
  };
}

/**
 * Has a bridge that is there filter VLANs, where the network needs that. A bridge that somebody else made is marked, so
 * that it is switched back when nothing of ours is on it any more.
 * @throws PipewrightError VLAN_FILTERING_OFF when somebody else made it, and the user does not say that it may be switched
 */
export function planFiltering(
  network: Omit<BridgeNetwork, 'kind'>,
  bridge: Pick<Link, 'name' | 'group' | 'data' | 'altnames'> | undefined,
): Step[] {
  if (!bridge || bridge.data.vlanFiltering || !needsFiltering(network)) return [];
  const { name, group, altnames } = bridge;
  const isOurs = isOurGroup(group);
  const altname = filteringMark(name);
  if (!isOurs && !network.vlanFiltering) {
    throw new PipewrightError('VLAN_FILTERING_OFF', {
      op: 'attach',
      subject: name,
      detail: `the bridge does not filter VLANs, and pipewright did not make it: its other ports could lose what they send with tags`,
      hint: `have pipewright switch it on: vlanFiltering: true of the network, or --vlan-filtering; or do so yourself: ip link set ${name} type bridge vlan_filtering 1`,
    });
  }
  const marks: Step[] =
    isOurs || altnames.includes(altname)
      ? []
      : [
          {
            op: { do: 'altname.add', name, altname },
            because: 'so that it is known who switched it',
            undo: [{ do: 'altname.del', name, altname }],
          },
        ];
  return [...marks, switchFiltering(name, true, 'the bridge does not filter VLANs')];
}

function switchFiltering(name: string, to: boolean, because: string): Step {
  const set = (vlanFiltering: boolean): Operation => ({
    do: 'link.change',
    side: 'host',
    name,
    change: { kind: 'bridge', vlanFiltering },
  });
  return { op: set(to), because, undo: [set(!to)] };
}

/** The operations by which a bridge that we switched to VLAN filtering is as it was again. */
export function unfilter({ name, altnames }: Pick<Link, 'name' | 'altnames'>): Operation[] {
  const altname = filteringMark(name);
  if (!altnames.includes(altname)) return [];
  return [switchFiltering(name, false, '').op, { do: 'altname.del', name, altname }];
}

/** The NIC by which what is on a bridge leaves the host carries these VLANs too, with their tags. */
export function planOnUplink(uplink: UplinkPort | undefined, wanted: readonly PortVlan[]): Step[] {
  if (!uplink) return [];
  const missing = wanted.filter(({ vid }) => !carries(uplink.vlans, vid));
  const goal = missing.map(({ vid }) => ({ vid, pvid: false, untagged: false }));
  const because = 'what is used on the bridge leaves the host by its uplink';
  return portVlanOps(uplink.name, goal, []).map((op) => ({ op, because, undo: [{ ...op, do: 'vlan.del' }] }));
}

/** The VLANs of a port that is new: they go with it. */
export function planNewPort(network: BridgeNetwork, port: string, bridge: Link | undefined): Step[] {
  const wanted = wantedVlans(network);
  const born = bornVlans(bridge?.data.defaultPvid ?? 1);
  return wanted ? planPortVlans(port, wanted, born).map((step) => ({ ...step, undo: [] })) : [];
}

/** The steps by which a port carries `wanted` and no other VLANs. Taken back, it carries what it did before. */
export function planPortVlans(
  port: string,
  wanted: readonly PortVlan[],
  present: readonly PortVlan[],
): Step[] {
  const because = `VLANs: ${formatVlans(present)} -> ${formatVlans(wanted)}`;
  const [first, ...others] = portVlanOps(port, wanted, present).map(
    (op): Step => ({ op, because, undo: [] }),
  );
  return first ? [{ ...first, undo: portVlanOps(port, present, wanted) }, ...others] : [];
}

/** What is new first: a port that is given another VLAN is never without one. */
export function portVlanOps(
  link: string,
  wanted: readonly PortVlan[],
  present: readonly PortVlan[],
): PortVlanOp[] {
  const { add, del } = vlanChanges(wanted, present);
  return [
    ...add.map((vlan): PortVlanOp => ({ do: 'vlan.add', link, vlan })),
    ...del.map((vlan): PortVlanOp => ({ do: 'vlan.del', link, vlan })),
  ];
}
