/** What is on a host now -> a topology file that says the same. Pure. */
import { type Cidr, formatCidr } from '../model/address.ts';
import {
  childModeOf,
  isInternal,
  type Network,
  type OvsVlans,
  ovsVlansOf,
  vidOf,
} from '../model/attachment.ts';
import type { FoundContainer, FoundHost, FoundInterface } from '../model/found.ts';
import type { Rule } from '../model/link.ts';
import type { NotedNetwork } from '../model/topology.ts';
import type { Imported } from './import.ts';
import { addressesOf, gatewaysOf, interfaceFields, routesOf } from './import-interface.ts';
import { printable } from './names.ts';
import { whyNotIn } from './topology/network.ts';
import { readContainer } from './topology/selector.ts';
import { settle } from './topology/settle.ts';
import { Refused } from './topology/values.ts';
import {
  type WrittenAttachment,
  type WrittenEntry,
  type WrittenNetwork,
  writeTopology,
} from './topology/write.ts';

/** What goes above an entry of what somebody else has made. */
const foreign = ' made by something else: apply takes it over when the container has started anew';

/** A file for all that is known of the host; notes tell what could not be said. */
export function importHost(found: FoundHost): Imported {
  const draft = new HostDraft(found.networks);
  for (const container of found.containers) draft.add(container);
  return draft.finish(found.notes);
}

/** A network of the file: a noted one, or one that is made for what is found. */
interface FileNetwork {
  readonly plug: Network;
  readonly subnets: readonly Cidr[];
  readonly gateways: number;
  readonly mtu: number | undefined;
  readonly written: WrittenNetwork;
}

class HostDraft {
  readonly #networks = new Map<string, FileNetwork>();
  readonly #entries: WrittenEntry[] = [];
  readonly #notes: string[] = [];
  readonly #noted: ReadonlySet<string>;
  #comments: string[] = [];

  constructor(noted: readonly NotedNetwork[]) {
    this.#noted = new Set(noted.map(({ name }) => name));
    for (const spec of noted) this.#networks.set(spec.name, fileNetwork(spec));
  }

  add(container: FoundContainer): void {
    const { name, interfaces, rules } = container;
    const selector = readContainer(name);
    if (selector instanceof Refused || selector.by !== 'name') {
      this.#leaveOut(name, 'a file cannot name this container');
      return;
    }
    const said = interfaces.filter((one) => this.#canBeSaid(name, one));
    const byInterface = rulesBy(said, rules);
    for (const one of said) this.#addInterface(name, one, byInterface.get(one) ?? []);
  }

  #canBeSaid(container: string, { ifname, network }: FoundInterface): boolean {
    if (!('why' in network)) return true;
    this.#leaveOut(`${container}/${ifname}`, network.why);
    return false;
  }

  #leaveOut(what: string, why: string): void {
    this.#notes.push(`${printable(what)} was left out: ${why}`);
    this.#comments.push(` ${printable(what)} was left out: ${why}`);
  }

  #addInterface(container: string, found: FoundInterface, rules: readonly Rule[]): void {
    const { network, record, ifname } = found;
    if ('why' in network) return;
    const addresses = addressesOf(found);
    const name = this.#networkFor(network, typeof addresses === 'string' ? [] : addresses);
    const file = this.#networks.get(name);
    if (!file) return;
    if (record?.want?.hostIfname !== undefined) {
      this.#notes.push(
        `${container}/${ifname}: the host's end is not named in a file: ${record.want.hostIfname}`,
      );
    }
    const gateways = addresses === 'dhcp' ? [] : gatewaysOf(found);
    const routes = routesOf(found, gateways);
    const vlans = record?.want?.vlans ?? found.vlans ?? [];
    const isSilent = gateways.length === 0 && file.gateways > 0 && addresses !== 'dhcp';
    const value: WrittenAttachment = {
      container,
      network: name,
      ...(ifname !== 'eth1' && { ifname }),
      ...(addresses === 'dhcp' && { addresses }),
      ...(addresses !== 'dhcp' && addresses.length > 0 && { addresses: oneOrAll(addresses.map(formatCidr)) }),
      ...(gateways.length > 0 && { gateway: oneOrAll([...gateways]) }),
      ...(isSilent && { gateway: 'none' as const }),
      ...ownVlans(network, file.plug),
      ...ownMode(network, file.plug),
      ...interfaceFields(found, file.mtu, rules),
      ...(vlans.length > 0 && {
        vlans: vlans.map(({ vid, cidrs }) => ({ vid, addresses: cidrs.map(formatCidr) })),
      }),
      ...(routes.length > 0 && { routes: [...routes] }),
    };
    const comments = [...this.#comments.splice(0), ...(record ? [] : [foreign])];
    this.#entries.push({ comments, value });
  }

  /** The network of the file that is this one, and has these addresses; one of its own otherwise. */
  #networkFor(network: Network, addresses: readonly Cidr[]): string {
    const fits = [...this.#networks].filter(
      ([, file]) =>
        canPlug(network, file.plug) && addresses.every((cidr) => whyNotIn(cidr, file.subnets) === undefined),
    );
    const [best] = fits.find(([, file]) => isSame(network, file.plug)) ?? fits[0] ?? [];
    if (best !== undefined) return best;
    const base = nameFor(network);
    for (let number = 1; ; number++) {
      const name = number === 1 && base !== '' ? base : `${base}_${number}`;
      if (this.#networks.has(name)) continue;
      this.#networks.set(name, {
        plug: plain(network),
        subnets: [],
        gateways: 0,
        mtu: undefined,
        written: written(plain(network)),
      });
      return name;
    }
  }

  finish(before: readonly string[]): Imported {
    const yaml = settle({
      write: () => this.#write(),
      entries: this.#entries,
      leaveOut: (at, why) => this.#drop(at, why),
    });
    return { yaml, notes: [...before, ...this.#notes] };
  }

  #drop(at: number, why: string): void {
    const entry = this.#entries[at];
    if (!entry?.value) return;
    const what = `${entry.value.container}/${entry.value.ifname ?? 'eth1'}`;
    this.#notes.push(`${what} was left out: ${why}`);
    this.#entries[at] = { comments: [...entry.comments, ` ${what} was left out: ${why}`] };
  }

  #write() {
    const used = new Set(this.#entries.flatMap(({ value }) => value?.network ?? []));
    const networks = new Map(
      [...this.#networks]
        .filter(([name]) => used.has(name) || this.#noted.has(name))
        .map(([name, file]) => [name, file.written]),
    );
    return writeTopology(networks, [...this.#entries, { comments: this.#comments }]);
  }
}

/** Rules are the container's: each goes to the interface whose address or table it speaks of, else to the first. */
function rulesBy(
  interfaces: readonly FoundInterface[],
  rules: readonly Rule[],
): ReadonlyMap<FoundInterface, readonly Rule[]> {
  const others = interfaces.filter(({ record }) => !record);
  const found = new Map<FoundInterface, Rule[]>();
  for (const rule of rules) {
    const owner =
      others.find(({ there }) => there?.addrs.some(({ cidr }) => cidr.ip === rule.src?.ip)) ??
      others.find(
        ({ there }) => rule.table !== 254 && there?.routes.some(({ table }) => table === rule.table),
      ) ??
      others[0];
    const isOurs = interfaces.some(({ record }) =>
      record?.rules?.some(({ table, from, to }) => {
        const same = (a: Cidr | undefined, b: Cidr | undefined): boolean =>
          (a && formatCidr(a)) === (b && formatCidr(b));
        return table === rule.table && same(from, rule.src) && same(to, rule.dst);
      }),
    );
    if (owner && !isOurs) found.set(owner, [...(found.get(owner) ?? []), rule]);
  }
  return found;
}

function fileNetwork(spec: NotedNetwork): FileNetwork {
  const { subnets, gateways, mtu, ranges } = spec;
  const common = {
    ...(subnets.length > 0 && { subnet: oneOrAll(subnets.map(formatCidr)) }),
    ...(gateways.length > 0 && { gateway: oneOrAll(gateways.map(({ ip }) => ip)) }),
    ...(ranges.length > 0 && { range: oneOrAll(ranges.map(({ first, last }) => `${first}-${last}`)) }),
    ...(mtu !== undefined && { mtu }),
  };
  const hosts = spec.hostAddresses.map(formatCidr);
  const plug = plugOf(spec);
  const nic = 'nic' in spec && spec.nic !== undefined ? { uplink: spec.nic } : {};
  const own = { ...written(plug), ...nic, ...common };
  const all = hosts.length === 0 ? own : { ...own, hostAddress: oneOrAll(hosts) };
  return { plug, subnets, gateways: gateways.length, mtu, written: all as WrittenNetwork };
}

/** What an attachment of the network without a VLAN of its own is plugged into. */
function plugOf(spec: NotedNetwork): Network {
  const vid = 'vid' in spec && spec.vid !== undefined ? { vid: spec.vid } : {};
  switch (spec.kind) {
    case 'bridge':
      return {
        kind: 'bridge',
        name: spec.bridge,
        ...vid,
        ...(spec.trunks && { trunks: spec.trunks }),
        ...(spec.vlanFiltering && { vlanFiltering: true }),
      };
    case 'ovs':
      return {
        ...{ kind: 'ovs', name: spec.bridge, ...vid, ...ovsModeOf(spec) },
        ...(spec.internal && { internal: true }),
        ...(spec.trunks && { trunks: spec.trunks }),
      };
    case 'macvlan':
    case 'ipvlan':
      return { ...childModeOf(spec), uplink: spec.uplink, ...vid };
    case 'sriov':
      return { kind: 'sriov', uplink: spec.uplink, vf: spec.vf };
    case 'phys':
      return { kind: 'phys', uplink: spec.uplink, ...vid };
    case 'dummy':
      return { kind: 'dummy' };
  }
}

const ovsModeOf = ({ vlanMode, cvlans, qinqEthtype }: OvsVlans): OvsVlans => ({
  ...(vlanMode && { vlanMode }),
  ...(cvlans && { cvlans }),
  ...(qinqEthtype && { qinqEthtype }),
});

/** Without what goes without saying. */
function plain(network: Network): Network {
  if (network.kind !== 'ovs') return network;
  const { vlanMode, ...rest } = network;
  const isImplied = vlanMode === 'native-untagged' && network.trunks !== undefined;
  return isImplied ? rest : network;
}

/** A network of the file that says no more than this. */
function written(network: Network): WrittenNetwork {
  const vlan = 'vid' in network && network.vid !== undefined ? { vlan: network.vid } : {};
  switch (network.kind) {
    case 'bridge':
      return {
        kind: 'bridge',
        bridge: network.name,
        ...vlan,
        ...(network.trunks && { trunks: [...network.trunks] }),
        ...(network.vlanFiltering && { vlanFiltering: true }),
      };
    case 'ovs':
      return {
        kind: 'ovs',
        bridge: network.name,
        ...(network.internal && { mode: 'internal' as const }),
        ...vlan,
        ...(network.trunks && { trunks: [...network.trunks] }),
        ...(network.vlanMode && { vlanMode: network.vlanMode }),
        ...(network.cvlans && { cvlans: [...network.cvlans] }),
        ...(network.qinqEthtype && { qinqEthtype: network.qinqEthtype }),
      };
    case 'macvlan': {
      const mode = network.mode === 'bridge' ? {} : { mode: network.mode };
      const sources = network.sourceMacs && { sourceMacs: [...network.sourceMacs] };
      return { kind: 'macvlan', uplink: network.uplink, ...mode, ...sources, ...vlan };
    }
    case 'ipvlan': {
      const mode = network.mode === 'l2' ? {} : { mode: network.mode };
      const flag = network.flag && { flag: network.flag };
      return { kind: 'ipvlan', uplink: network.uplink, ...mode, ...flag, ...vlan };
    }
    case 'phys':
      return { kind: 'phys', uplink: network.uplink, ...vlan };
    case 'sriov': {
      const { vid, spoofCheck } = network.vf;
      const check = spoofCheck === undefined ? {} : { spoofCheck };
      return { kind: 'sriov', uplink: network.uplink, ...(vid !== undefined && { vlan: vid }), ...check };
    }
    case 'ipoib':
    case 'dummy':
      return { kind: 'dummy' };
  }
}

/** Without VLANs, which an attachment can have of its own. */
function placeOf(network: Network): string {
  const mode =
    'mode' in network
      ? JSON.stringify(childModeOf(network))
      : network.kind === 'sriov'
        ? network.vf.spoofCheck
        : '';
  return [
    network.kind,
    'name' in network ? network.name : 'uplink' in network ? network.uplink : '',
    mode,
  ].join(' ');
}

const vlansOf = (network: Network): string =>
  `${vidOf(network) ?? ''} ${('trunks' in network && network.trunks?.join()) || ''}`;
const hasVlans = (network: Network): boolean => vlansOf(network).trim() !== '';

const isSame = (a: Network, b: Network): boolean =>
  placeOf(a) === placeOf(b) && vlansOf(a) === vlansOf(b) && isInternal(a) === isInternal(b);

/**
 * A VLAN of the network cannot be taken off by an attachment, only be another one; and what a port of Open vSwitch does with
 * VLANs is the network's alone.
 */
function canPlug(network: Network, file: Network): boolean {
  if (placeOf(network) !== placeOf(file) || (!hasVlans(network) && hasVlans(file))) return false;
  if (network.kind !== 'ovs' || file.kind !== 'ovs') return true;
  const { vid, trunks } = network;
  const own = { ...(vid !== undefined && { vid }), ...(trunks && { trunks }) };
  const text = (vlans: OvsVlans): string => JSON.stringify(ovsVlansOf(vlans));
  return text({ ...ovsModeOf(file), ...own }) === text(network);
}

/** What an attachment says of how it is a port, where its network says otherwise. */
function ownMode(network: Network, file: Network): { mode?: 'internal' | 'veth' } {
  if (isInternal(network) === isInternal(file)) return {};
  return { mode: isInternal(network) ? 'internal' : 'veth' };
}

/** What an attachment says of its VLANs where they are not its network's. */
function ownVlans(network: Network, file: Network): { vlan?: number; trunks?: number[] } {
  if (vlansOf(network) === vlansOf(file)) return {};
  const vlan = vidOf(network);
  const trunks = 'trunks' in network ? network.trunks : undefined;
  return { ...(vlan !== undefined && { vlan }), ...(trunks && { trunks: [...trunks] }) };
}

function nameFor(network: Network): string {
  const name = 'name' in network ? network.name : 'uplink' in network ? network.uplink : network.kind;
  const plain = name.replace(/[^a-zA-Z0-9_.-]/g, '-').replace(/^[^a-zA-Z0-9]+/, '');
  const vlan = vidOf(network);
  const vid = vlan === undefined ? '' : `-${vlan}`;
  const trunk = 'trunks' in network && network.trunks ? '-trunk' : '';
  const isUsual = ['bridge', 'ovs', 'macvlan', 'dummy'].includes(network.kind);
  return `${plain}${vid}${trunk}${isUsual ? '' : `-${network.kind}`}`;
}

function oneOrAll(list: string[]): string | string[] {
  const [first = ''] = list;
  return list.length === 1 ? first : list;
}
