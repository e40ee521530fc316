/** The network of `pipewright attach`: its name, and the options that belong to its kind. */
import { PipewrightError } from '../errors.ts';
import {
  ipvlanFlags,
  ipvlanModes,
  macvlanModes,
  type Network,
  ovsVlanModes,
  ovsVlansOf,
} from '../model/attachment.ts';
import type { NetworkType } from '../model/observed.ts';
import type { AttachOptionTexts } from './attach-options.ts';
import { bad, parseMacText } from './attach-values.ts';
import { checkIfname, checkPkey, checkVid, parseVids } from './names.ts';
import type { OvsOptionTexts } from './ovs-options.ts';

/** Those of the options that make the network. */
type NetworkOptions = Pick<
  AttachOptionTexts,
  | 'vlan'
  | 'mode'
  | 'ipvlanFlag'
  | 'sourceMac'
  | 'spoofCheck'
  | 'vlanMode'
  | 'trunks'
  | 'vlanFiltering'
  | keyof OvsOptionTexts
>;

/** A network as named on the command line: a bare name stands for whatever has this name on the host. */
export interface NamedNetwork {
  readonly kind: Network['kind'] | undefined;
  readonly name: string;
}

const kinds = ['bridge', 'ovs', 'macvlan', 'ipvlan', 'phys', 'sriov', 'ipoib', 'dummy'] as const;

/** `bridge:br0`, `ovs:ovs0`, `macvlan:eth0`, `dummy`, or just `br0`. @throws PipewrightError BAD_ARGUMENT */
export function parseNetworkName(text: string): NamedNetwork {
  if (text === 'dummy') return { kind: 'dummy', name: '' };
  const at = text.indexOf(':');
  const kind = at < 0 ? undefined : kinds.find((known) => known === text.slice(0, at));
  if (at >= 0 && !kind) throw bad('--network', text, `the kind is one of ${kinds.join(', ')}`);
  const name = text.slice(at + 1);
  if (kind === 'dummy') {
    if (name !== '') throw bad('--network', text, 'a dummy network has no name');
    return { kind, name };
  }
  const why = checkIfname(name);
  if (why !== undefined) throw bad('--network', text, `the name ${why}`);
  return { kind, name };
}

/**
 * The network that is meant, given what the name stands for on this host.
 * @param type what the link of this name is; undefined when there is none
 */
export function decideNetwork(
  { kind, name }: NamedNetwork,
  type: NetworkType | undefined,
  options: NetworkOptions,
): Network {
  const network = networkOf(kind ?? guessKind(name, type), name, options);
  if (network.kind !== 'ovs') refuseOvsOptions(network.kind, options);
  const hasModes = network.kind === 'macvlan' || network.kind === 'ipvlan' || network.kind === 'ovs';
  if (!hasModes && options.mode !== undefined) {
    throw bad('--mode', options.mode, `a network of kind ${network.kind} has no modes`);
  }
  if (options.policing !== undefined && options.mode === 'internal')
    throw bad('--policing', options.policing, 'an internal port cannot be policed');
  if (network.kind !== 'ipvlan' && options.ipvlanFlag !== undefined)
    throw bad('--ipvlan-flag', options.ipvlanFlag, `a network of kind ${network.kind} has no flags`);
  if (options.vlanMode !== undefined && (network.kind !== 'ovs' || network.vid === undefined))
    throw bad('--vlan-mode', options.vlanMode, 'only a port of Open vSwitch with a --vlan has one');
  if (network.kind !== 'sriov' && options.spoofCheck !== undefined)
    throw bad('--spoof-check', options.spoofCheck, `a network of kind ${network.kind} has no such setting`);
  if (network.kind !== 'macvlan' && options.sourceMac !== undefined)
    throw bad(
      '--source-mac',
      options.sourceMac.join(','),
      `a network of kind ${network.kind} has no such setting`,
    );
  if (network.kind !== 'bridge') {
    const why = `a network of kind ${network.kind} has no such setting`;
    if (options.trunks !== undefined && network.kind !== 'ovs')
      throw bad('--trunks', options.trunks.join(','), why);
    if (options.vlanFiltering) throw bad('--vlan-filtering', name, why);
  }
  const expected = expectedType[network.kind];
  if (type !== undefined && expected !== undefined && !expected.includes(type)) {
    throw new PipewrightError('NETWORK_UNKNOWN', {
      op: 'attach',
      subject: name,
      detail: `it is of type ${type}, and a network of kind ${network.kind} needs one of type ${expected.join(' or ')}`,
    });
  }
  return network;
}

function refuseOvsOptions(kind: Network['kind'], { mirror, policing }: NetworkOptions): void {
  const why = `a network of kind ${kind} has no such setting`;
  if (mirror !== undefined) throw bad('--mirror', mirror.join(','), why);
  if (policing !== undefined) throw bad('--policing', policing, why);
}

/** What a network of each kind is made on. */
const expectedType: { readonly [K in Network['kind']]: readonly NetworkType[] | undefined } = {
  bridge: ['bridge'],
  ovs: ['ovs'],
  // A macvlan on a bridge or an Open vSwitch port is unusual, and works.
  macvlan: ['nic', 'bridge', 'ovs'],
  ipvlan: ['nic', 'bridge', 'ovs'],
  phys: ['nic', 'ipoib'],
  sriov: ['nic'],
  ipoib: ['ipoib'],
  dummy: undefined,
};

function guessKind(name: string, type: NetworkType | undefined): Network['kind'] {
  if (type !== undefined) return type === 'nic' ? 'macvlan' : type;
  if (name.startsWith('br')) return 'bridge';
  if (name.startsWith('ovs')) return 'ovs';
  throw new PipewrightError('NETWORK_UNKNOWN', {
    op: 'attach',
    subject: name,
    detail: 'there is no link of this name on the host',
    hint: `to have it made, say what it is: --network bridge:${name} or --network ovs:${name}`,
  });
}

function networkOf(
  kind: Network['kind'],
  name: string,
  { vlan, mode, trunks, vlanFiltering, ipvlanFlag, sourceMac, spoofCheck, vlanMode }: NetworkOptions,
): Network {
  const vid = vlan === undefined || kind === 'ipoib' ? {} : { vid: parseVid(vlan) };
  switch (kind) {
    case 'dummy':
      if (vlan !== undefined) throw bad('--vlan', vlan, 'a network of kind dummy has no VLANs');
      return { kind };
    case 'bridge':
      return {
        kind,
        name,
        ...vid,
        ...(trunks !== undefined && { trunks: parseTrunks(trunks, vid.vid) }),
        ...(vlanFiltering && { vlanFiltering: true }),
      };
    case 'ovs':
      return {
        kind,
        name,
        ...(oneOf('--mode', ['veth', 'internal'], mode, 'veth') === 'internal' && { internal: true }),
        ...ovsVlansOf({
          ...vid,
          ...(trunks !== undefined && { trunks: parseTrunks(trunks, vid.vid) }),
          ...(vlanMode !== undefined && {
            vlanMode: oneOf('--vlan-mode', ovsVlanModes, vlanMode, 'native-untagged'),
          }),
        }),
      };
    case 'macvlan':
      return {
        kind,
        uplink: name,
        mode: oneOf('--mode', macvlanModes, mode, 'bridge'),
        ...(sourceMac !== undefined && { sourceMacs: parseSourceMacs(sourceMac, mode) }),
        ...vid,
      };
    case 'ipvlan':
      return {
        kind,
        uplink: name,
        mode: oneOf('--mode', ipvlanModes, mode, 'l2'),
        ...(ipvlanFlag !== undefined && { flag: oneOf('--ipvlan-flag', ipvlanFlags, ipvlanFlag, 'bridge') }),
        ...vid,
      };
    case 'phys':
      return { kind, uplink: name, ...vid };
    case 'sriov':
      return { kind, uplink: name, vf: { ...vid, ...parseSpoofCheck(spoofCheck) } };
    case 'ipoib':
      return { kind, uplink: name, ...(vlan === undefined ? {} : { pkey: parsePkey(vlan) }) };
  }
}

function oneOf<T extends string>(
  option: string,
  known: readonly T[],
  text: string | undefined,
  otherwise: T,
): T {
  if (text === undefined) return otherwise;
  const found = known.find((mode) => mode === text);
  if (!found) throw bad(option, text, `the ${option.replace(/^.*-/, '')} is one of ${known.join(', ')}`);
  return found;
}

function parseSpoofCheck(text: string | undefined): { spoofCheck?: boolean } {
  return text === undefined
    ? {}
    : { spoofCheck: oneOf('--spoof-check', ['on', 'off'], text, 'off') === 'on' };
}

function parseSourceMacs(texts: readonly string[], mode: string | undefined): string[] {
  if (mode !== 'source') throw bad('--source-mac', texts.join(','), 'only the mode source looks at them');
  const macs = texts.flatMap((text) => text.split(',')).map((text) => parseMacText('--source-mac', text));
  return [...new Set(macs)].sort();
}

function parseVid(text: string): number {
  const why = checkVid(text);
  if (why !== undefined) throw bad('--vlan', text, `it ${why}`);
  return Number(text);
}

/** `100,200-299`, several by repeating. */
function parseTrunks(texts: readonly string[], vid: number | undefined): number[] {
  const vids = texts.flatMap((text) =>
    text.split(',').flatMap((part) => {
      const range = parseVids(part);
      if (range === undefined)
        throw bad('--trunks', text, 'VLAN ids are as 100,200-299, each from 1 to 4094');
      return range;
    }),
  );
  if (vid !== undefined && vids.includes(vid))
    throw bad('--trunks', texts.join(','), `${vid} is the VLAN that goes without a tag`);
  return [...new Set(vids)].sort((a, b) => a - b);
}

function parsePkey(text: string): number {
  const why = checkPkey(text);
  if (why !== undefined) throw bad('--vlan', text, `it ${why}`);
  return Number.parseInt(text, 16);
}
