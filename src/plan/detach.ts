/** What takes an attachment away, and with it what was made for it and nothing uses any more. Pure. */
import type { Link, Route } from '../model/link.ts';
import { isOurGroup } from '../model/naming.ts';
import type { AttachmentRecord } from '../model/observed.ts';
import type { Operation, Step } from '../model/operation.ts';
import { unfilter } from './bridge.ts';

/** What is there now of one attachment. */
export interface DetachFacts {
  readonly ifname: string;
  readonly record: AttachmentRecord | undefined;
  /** The container's interface; absent: it is gone, or its container is. */
  readonly guestLink: Link | undefined;
  /** The link beside it by which what comes in is limited. */
  readonly ifb?: Link | undefined;
  /** The NIC came home by itself when its container ended, under the name that it had there. */
  readonly cameHome: boolean;
  /** Routes of the container's main table, and every link of it that stays. */
  readonly routes: readonly Route[];
  readonly guestIfindexes: readonly number[];
  /** The host's end of a pair. */
  readonly hostEnd: Link | undefined;
  /** The port of Open vSwitch, and the bridge it is on. */
  readonly ovsPort: { readonly name: string; readonly bridge: string } | undefined;
  /** The Linux bridge, its ports besides the host's end, and whether somebody gave it an address. */
  readonly bridge:
    | { readonly link: Link; readonly otherPorts: number; readonly hasAddrs: boolean }
    | undefined;
  /** The Open vSwitch bridge: whether we made it, and its other ports. */
  readonly ovsBridge:
    | { readonly name: string; readonly ours: boolean; readonly otherPorts: number }
    | undefined;
  /** The 802.1Q sub-interface, and whether something else rides on it. */
  readonly vlanLink: Link | undefined;
  readonly vlanShared: boolean;
  /** Whether Docker's firewall has our rule for the bridge. */
  readonly firewallRule: boolean;
  /** Whether another attachment of ours is on the same bridge. */
  readonly bridgeShared: boolean;
  /** Whether an uplink of ours needs the bridge to filter VLANs. */
  readonly filtersForUplink?: boolean;
}

/** The steps of a detach, in an order in which each can be repeated when the one after it fails. */
export interface DetachPlan {
  readonly interface: readonly Step[];
  readonly defaults: readonly Step[];
  /** What others may have been using: the same for all attachments that go together. */
  readonly shared: readonly Step[];
}

/** What takes the attachment away. */
export function planDetach(facts: DetachFacts): DetachPlan {
  return {
    interface: dropInterface(facts),
    defaults: restoreDefaults(facts),
    shared: [...dropVlan(facts), ...dropBridge(facts)],
  };
}

function step(op: Operation, because: string): Step {
  return { op, because, undo: [] };
}

function dropInterface({ ifname, record, guestLink, ifb, hostEnd, ovsPort, cameHome }: DetachFacts): Step[] {
  const steps: Step[] = [];
  const because = 'asked for';
  if (ovsPort) steps.push(step({ do: 'ovs.port.del', port: ovsPort.name }, because));
  if (record?.taken && (guestLink || cameHome)) {
    const { group } = guestLink ?? record;
    // They would stay behind, with nothing under them.
    for (const { ifname: name } of record.want?.vlans ?? [])
      steps.push(step({ do: 'link.del', side: 'guest', name }, because));
    steps.push(step({ do: 'link.take', ifname, group, saved: record.taken }, 'the NIC goes home as it was'));
    if (record.vf) {
      const { uplink, index: vf, was: set } = record.vf;
      steps.push(step({ do: 'vf.set', uplink, vf, set }, 'the virtual function is as it was'));
    }
  } else if (hostEnd) {
    steps.push(step({ do: 'link.del', side: 'host', name: hostEnd.name }, because));
  } else if (guestLink) {
    steps.push(step({ do: 'link.del', side: 'guest', name: ifname }, because));
  }
  if (ifb) steps.push(step({ do: 'link.del', side: 'guest', name: ifb.name }, because));
  for (const rule of record?.rules ?? []) steps.push(step({ do: 'rule.del', rule }, because));
  return steps;
}

/** What the gateway of this interface replaced, unless another has taken its place meanwhile. */
function restoreDefaults({ record, routes, guestIfindexes }: DetachFacts): Step[] {
  return (record?.replaced ?? [])
    .filter((route) => route.dev !== undefined && guestIfindexes.includes(route.dev))
    .filter((route) => {
      const present = routes.find(
        (other) =>
          other.family === route.family &&
          other.dst?.ip === route.dst?.ip &&
          other.dst?.prefixLen === route.dst?.prefixLen &&
          (other.metric ?? 0) === (route.metric ?? 0),
      );
      return present?.dev === undefined || !guestIfindexes.includes(present.dev);
    })
    .map((route) =>
      step({ do: 'route.restore', side: 'guest', route }, 'a gateway of this interface had replaced it'),
    );
}

function dropVlan({ vlanLink, vlanShared }: DetachFacts): Step[] {
  if (!vlanLink || vlanShared || !isOurGroup(vlanLink.group)) return [];
  return [
    step({ do: 'link.del', side: 'host', name: vlanLink.name }, 'made for this, and nothing rides on it'),
  ];
}

function dropBridge(facts: DetachFacts): Step[] {
  const { bridge, ovsBridge, bridgeShared, firewallRule } = facts;
  const steps: Step[] = [];
  if (bridge && !bridgeShared) {
    if (firewallRule)
      steps.push(
        step({ do: 'firewall.revoke', bridge: bridge.link.name }, 'nothing of ours is on this bridge'),
      );
    const switched = facts.filtersForUplink ? [] : unfilter(bridge.link);
    for (const op of switched) steps.push(step(op, 'nothing of ours is on this bridge'));
    if (isOurGroup(bridge.link.group) && bridge.otherPorts === 0 && !bridge.hasAddrs) {
      steps.push(
        step({ do: 'link.del', side: 'host', name: bridge.link.name }, 'made for this, and without ports'),
      );
    }
  }
  if (ovsBridge?.ours && ovsBridge.otherPorts === 0) {
    steps.push(step({ do: 'ovs.bridge.del', name: ovsBridge.name }, 'made for this, and without ports'));
  }
  return steps;
}
