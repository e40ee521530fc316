/** Ports of Open vSwitch: made, changed, and made once more. Pure. */
import { PipewrightError } from '../errors.ts';
import { type Attachment, isInternal, type OvsVlans, ovsVlansOf } from '../model/attachment.ts';
import type { Observed, ObservedOvsPort } from '../model/observed.ts';
import type { Operation, PortVlans, Step } from '../model/operation.ts';

/** Ports that outlived their containers. */
export function planDeadPorts(seen: Observed): Step[] {
  return seen.host.deadPorts.map((port) => ({
    op: { do: 'ovs.port.del', port },
    because: 'the container it was made for is gone',
    undo: [],
  }));
}

/** The bridge, where there is none. */
export function planOvsBridge(name: string, seen: Observed): Step[] {
  if (seen.host.networkType === 'ovs') return [];
  const add: Operation = { do: 'ovs.bridge.add', name, group: seen.group };
  return [
    {
      op: add,
      because: 'there is no such Open vSwitch bridge',
      undo: [{ do: 'ovs.bridge.del', name, onlyGroup: seen.group }],
    },
  ];
}

/** Open vSwitch makes the link, on the host; it goes again with its port, wherever it is then. */
export function planInternal(want: Attachment, seen: Observed, because: string): Step[] {
  const { ifname } = want;
  const { group } = seen;
  const port = internalName(want, seen);
  const give: Operation = { do: 'link.give', name: port, ifname, group };
  return [
    portStep(want, seen, port, because),
    { op: give, because: 'Open vSwitch made it on the host', undo: [] },
  ];
}

/**
 * The kernel's datapath knows its ports by the names of their links, so that one with another name is lost to it; the one in
 * ovs-vswitchd has them open.
 */
export function internalName(want: Attachment, seen: Observed): string {
  if (seen.host.datapath === 'netdev') return seen.host.hostIfname;
  if (want.hostIfname === undefined || want.hostIfname === want.ifname) return want.ifname;
  throw new PipewrightError('BAD_ARGUMENT', {
    op: 'attach',
    subject: want.hostIfname,
    detail: `on the kernel's datapath an internal port has the name that it has in the container, ${want.ifname}`,
  });
}

/** The port of Open vSwitch for a host's end, with the original's external_ids. */
export function portStep(want: Attachment, seen: Observed, port: string, because: string): Step {
  if (want.network.kind !== 'ovs') throw new Error('only an ovs network has ports');
  const { name, vid } = want.network;
  return {
    op: {
      do: 'ovs.port.add',
      bridge: name,
      port,
      ...(isInternal(want.network) && { internal: true as const }),
      group: seen.group,
      externalIds: portIds(seen, port, { bridge: name, vid }),
      vlans: ovsVlansOf(want.network),
    },
    because,
    undo: [{ do: 'ovs.port.del', port, onlyGroup: seen.group }],
  };
}

/** What the original notes on a port. */
function portIds(
  seen: Observed,
  port: string,
  { bridge, vid }: { readonly bridge: string; readonly vid: number | undefined },
): Record<string, string> {
  const vlan = vid === undefined ? {} : { 'pipework.vlan': String(vid) };
  return { 'pipework.interface': port, 'pipework.bridge': bridge, ...seen.externalIds, ...vlan };
}

/** The VLANs of a port of Open vSwitch that stays where it is. */
export function changeVlans(network: OvsVlans, port: string, was: ObservedOvsPort): Step[] {
  const [is, to] = [columnsOf(was), columnsOf(ovsVlansOf(network))];
  const names = (Object.keys(to) as (keyof typeof to)[]).filter((name) => text(is[name]) !== text(to[name]));
  if (names.length === 0) return [];
  const only = (of: ReturnType<typeof columnsOf>): PortVlans =>
    Object.fromEntries(names.map((name) => [name, of[name]]));
  const because = names.map(
    (name) => `${name === 'vid' ? 'tag' : name}: ${text(is[name])} -> ${text(to[name])}`,
  );
  const op = (set: PortVlans): Operation => ({ do: 'ovs.port.set', port, set });
  return [{ op: op(only(to)), because: because.join(', '), undo: [op(only(is))] }];
}

/** All that the VLANs of a port can be, what is not set as null or an empty list. */
function columnsOf(of: OvsVlans | ObservedOvsPort) {
  const { vid = null, trunks = [], vlanMode = null, cvlans = [], qinqEthtype = null } = of;
  return { vid, trunks, vlanMode, cvlans, qinqEthtype };
}

const text = (value: number | string | readonly number[] | null): string =>
  (Array.isArray(value) ? value.join(',') : (value ?? '').toString()) || 'none';

/** Makes a port once more. */
export function portAgain(seen: Observed, port: string, was: ObservedOvsPort): Operation {
  const { bridge, vid, trunks, vlanMode, cvlans = [], qinqEthtype } = was;
  const vlans = {
    ...(vid !== undefined && { vid }),
    ...(trunks.length > 0 && { trunks }),
    ...(vlanMode !== undefined && { vlanMode }),
    ...(cvlans.length > 0 && { cvlans }),
    ...(qinqEthtype !== undefined && { qinqEthtype }),
  } as OvsVlans;
  const group = seen.record?.group ?? seen.group;
  const internal = was.isInternal ? { internal: true as const } : {};
  return {
    do: 'ovs.port.add',
    bridge,
    port,
    ...internal,
    group,
    externalIds: portIds(seen, port, was),
    vlans,
  };
}
