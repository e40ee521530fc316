/**
 * What depends on the kind of a link: one table of attributes and one writer for each.
 * From <linux/if_link.h>, <linux/veth.h> and <linux/if_ether.h>, v6.12.
 */
import { type Family, familyOf } from '../../model/address.ts';
import type { IpvlanFlag, IpvlanMode, MacvlanMode } from '../../model/attachment.ts';
import type { Link, LinkKind, VethPeer } from '../../model/link.ts';
import { attr, attrs, be16, decodeAttrs, encodeAttrs, ip, mac, nested, u8, u16, u32 } from './codec.ts';
import { ifinfomsg, linkAttrs, settingAttrs } from './link-attrs.ts';

const bridgeAttrs = {
  stpState: attr(5, u32), // IFLA_BR_STP_STATE
  vlanFiltering: attr(7, u8), // IFLA_BR_VLAN_FILTERING
  defaultPvid: attr(39, u16), // IFLA_BR_VLAN_DEFAULT_PVID
} as const;

const macvlanAttrs = {
  mode: attr(1, u32), // IFLA_MACVLAN_MODE
  sourcesDo: attr(3, u32), // IFLA_MACVLAN_MACADDR_MODE
  sources: attr(5, nested({ macs: attrs(4, mac) })), // IFLA_MACVLAN_MACADDR_DATA { IFLA_MACVLAN_MACADDR }
} as const;

/** MACVLAN_MACADDR_SET. */
const setSources = 3;

/** MACVLAN_MODE_*. */
const macvlanModes = { private: 1, vepa: 2, bridge: 4, passthru: 8, source: 16 } as const;

const ipvlanAttrs = {
  mode: attr(1, u16), // IFLA_IPVLAN_MODE
  flags: attr(2, u16), // IFLA_IPVLAN_FLAGS
} as const;

/** IPVLAN_F_*; neither is what iproute2 calls bridge. */
const ipvlanFlags = { bridge: 0, private: 1, vepa: 2 } as const;

/** IPVLAN_MODE_*. */
const ipvlanModes = { l2: 0, l3: 1, l3s: 2 } as const;

const vlanAttrs = {
  vid: attr(1, u16), // IFLA_VLAN_ID
  protocol: attr(5, be16), // IFLA_VLAN_PROTOCOL
} as const;

/** ETH_P_8021Q, ETH_P_8021AD. */
const vlanProtocols: Readonly<Record<number, '802.1Q' | '802.1ad'>> = { 33024: '802.1Q', 34984: '802.1ad' };

const vxlanAttrs = {
  vni: attr(1, u32), // IFLA_VXLAN_ID
  remote4: attr(2, ip), // IFLA_VXLAN_GROUP
  uplink: attr(3, u32), // IFLA_VXLAN_LINK
  local4: attr(4, ip), // IFLA_VXLAN_LOCAL
  learning: attr(7, u8), // IFLA_VXLAN_LEARNING
  port: attr(15, be16), // IFLA_VXLAN_PORT
  remote6: attr(16, ip), // IFLA_VXLAN_GROUP6
  local6: attr(17, ip), // IFLA_VXLAN_LOCAL6
} as const;

/** An address under the name that its family has in the table: `remote4`, `local6`. */
function byFamily<Name extends 'remote' | 'local'>(
  name: Name,
  address: string | undefined,
): { [K in `${Name}${Family}`]?: string } {
  const family = address === undefined ? undefined : familyOf(address);
  return (family === undefined ? {} : { [`${name}${family}`]: address }) as {
    [K in `${Name}${Family}`]?: string;
  };
}

const ipoibAttrs = {
  pkey: attr(1, u16), // IFLA_IPOIB_PKEY
} as const;

const VETH_INFO_PEER = 1;

/** VETH_INFO_PEER: a link message of its own, behind the header of the attribute. */
function encodePeer(peer: VethPeer): Buffer {
  // The peer is brought up before it has its peer, which veth answers with ENOTCONN; a master is not looked at.
  if (peer.up || peer.master !== undefined) throw new Error('a veth peer cannot be born up or with a master');
  const attributes = encodeAttrs(linkAttrs, {
    ...settingAttrs(peer),
    ifname: peer.name,
    netnsFd: peer.netnsFd,
  });
  const data = Buffer.concat([ifinfomsg({}), attributes]);
  return encodeAttrs({}, { unknown: [{ type: VETH_INFO_PEER, data }] });
}

type Of<K extends LinkKind['kind']> = Extract<LinkKind, { kind: K }>;

const flag = (value: boolean | undefined): number | undefined =>
  value === undefined ? undefined : Number(value);

/** IFLA_INFO_DATA of a new link; undefined for a kind that has none. */
const writers: { readonly [K in LinkKind['kind']]: (spec: Of<K>) => Buffer | undefined } = {
  bridge: ({ vlanFiltering }) =>
    vlanFiltering === undefined
      ? undefined
      : encodeAttrs(bridgeAttrs, { vlanFiltering: flag(vlanFiltering) }),
  macvlan: ({ mode, sourceMacs }) =>
    encodeAttrs(macvlanAttrs, {
      mode: macvlanModes[mode],
      sourcesDo: sourceMacs && setSources,
      sources: sourceMacs && { macs: sourceMacs },
    }),
  ipvlan: ({ mode, flag }) =>
    encodeAttrs(ipvlanAttrs, { mode: ipvlanModes[mode], flags: flag && ipvlanFlags[flag] }),
  vlan: ({ vid }) => encodeAttrs(vlanAttrs, { vid }),
  dummy: () => undefined,
  ifb: () => undefined,
  vxlan: ({ vni, port, local, remote, uplink, learning }) =>
    encodeAttrs(vxlanAttrs, {
      vni,
      port,
      uplink,
      learning: flag(learning),
      ...byFamily('remote', remote),
      ...byFamily('local', local),
    }),
  ipoib: ({ pkey }) => (pkey === undefined ? undefined : encodeAttrs(ipoibAttrs, { pkey })),
  veth: ({ peer }) => encodePeer(peer),
};

/** IFLA_INFO_DATA for a link of this kind. */
export function encodeKind<K extends LinkKind['kind']>(spec: Of<K>): Buffer | undefined {
  return writers[spec.kind as K](spec);
}

/** The uplink that goes into IFLA_LINK; that of a vxlan is an attribute of the kind. */
export function uplinkOf(spec: LinkKind): number | undefined {
  return 'uplink' in spec && spec.kind !== 'vxlan' ? spec.uplink : undefined;
}

/** What `modprobe` loads for a kind; the kernel tries to by itself, unless it is told not to. */
export const moduleOf: { readonly [K in LinkKind['kind']]: string } = {
  bridge: 'bridge',
  macvlan: 'macvlan',
  ipvlan: 'ipvlan',
  vlan: '8021q',
  dummy: 'dummy',
  ifb: 'ifb',
  vxlan: 'vxlan',
  ipoib: 'ib_ipoib',
  veth: 'veth',
};

function nameOf<Name extends string>(
  modes: Readonly<Record<Name, number>>,
  nr: number | undefined,
): Name | undefined {
  return (Object.keys(modes) as Name[]).find((name) => modes[name] === nr);
}

function macvlanData(bytes: Buffer): Link['data'] {
  const { mode: nr, sources } = decodeAttrs(macvlanAttrs, bytes);
  const mode: MacvlanMode | undefined = nameOf(macvlanModes, nr);
  if (mode === undefined) return {};
  return mode === 'source' ? { mode, sourceMacs: [...(sources?.macs ?? [])].sort() } : { mode };
}

function ipvlanData(bytes: Buffer): Link['data'] {
  const { mode: nr, flags } = decodeAttrs(ipvlanAttrs, bytes);
  const mode: IpvlanMode | undefined = nameOf(ipvlanModes, nr);
  const flag: IpvlanFlag | undefined = nameOf(ipvlanFlags, flags);
  return { ...(mode && { mode }), ...(flag && { flag }) };
}

function vlanData(bytes: Buffer): Link['data'] {
  const { vid, protocol = 0 } = decodeAttrs(vlanAttrs, bytes);
  const vlanProtocol = vlanProtocols[protocol];
  return { ...(vid === undefined ? {} : { vid }), ...(vlanProtocol === undefined ? {} : { vlanProtocol }) };
}

const readers: Readonly<Record<string, (bytes: Buffer) => Link['data']>> = {
  bridge: (bytes) => {
    const { vlanFiltering, defaultPvid, stpState } = decodeAttrs(bridgeAttrs, bytes);
    return {
      ...(vlanFiltering === undefined ? {} : { vlanFiltering: vlanFiltering !== 0 }),
      ...(defaultPvid === undefined ? {} : { defaultPvid }),
      ...(stpState ? { stp: true } : {}),
    };
  },
  macvlan: macvlanData,
  macvtap: macvlanData,
  ipvlan: ipvlanData,
  ipvtap: ipvlanData,
  vlan: vlanData,
  vxlan: (bytes) => {
    const { vni } = decodeAttrs(vxlanAttrs, bytes);
    return vni === undefined ? {} : { vni };
  },
  ipoib: (bytes) => {
    const { pkey } = decodeAttrs(ipoibAttrs, bytes);
    return pkey === undefined ? {} : { pkey };
  },
};

/** What IFLA_INFO_DATA says about a link of this kind. */
export function decodeKind(kind: string | undefined, bytes: Uint8Array | undefined): Link['data'] {
  const reader = kind === undefined || !Object.hasOwn(readers, kind) ? undefined : readers[kind];
  return reader === undefined || bytes === undefined ? {} : reader(bytes as Buffer);
}
