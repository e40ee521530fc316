/** What a topology file says, read into values that can only be right. */
import type { Cidr, Family } from './address.ts';
import type {
  ChildMode,
  GuestVlan,
  Ipv6Spec,
  MirrorSpec,
  OvsVlans,
  PolicingSpec,
  RateSpec,
  RouteSpec,
  RuleSpec,
  SriovNetwork,
} from './attachment.ts';
import type { DhcpSpec } from './lease.ts';

/** Where in the user's files something is said; lines and columns from 1. Line 0: it is in no file, and `file` says where. */
export interface Place {
  readonly file: string;
  readonly line: number;
  readonly column: number;
}

export type SelectedRuntime = 'docker' | 'podman';

/** Which containers an entry is about. */
export type Selector =
  /** Without a runtime: of the first one that has a container of this name. */
  | { readonly by: 'name'; readonly name: string; readonly runtime?: SelectedRuntime }
  /** `*` stands for any characters, `?` for one. */
  | { readonly by: 'pattern'; readonly pattern: string; readonly runtime?: SelectedRuntime }
  | { readonly by: 'label'; readonly key: string; readonly value?: string }
  /** Containers of a Compose service: the labels com.docker.compose.project and .service. */
  | { readonly by: 'compose'; readonly project: string; readonly service: string };

/** A range of addresses to give out, both ends included. */
export interface AddressRange {
  readonly family: Family;
  readonly first: string;
  readonly last: string;
}

/** What all networks have. */
interface NetworkCommon {
  /** The name that attachments know it by. */
  readonly name: string;
  readonly place: Place;
  /** Bytes. */
  readonly mtu?: number;
  readonly subnets: readonly Cidr[];
  readonly gateways: readonly { readonly family: Family; readonly ip: string }[];
  readonly ranges: readonly AddressRange[];
  /** The host's own addresses on the network. */
  readonly hostAddresses: readonly Cidr[];
}

/** A network of the file. */
export type NetworkSpec = NetworkCommon &
  /** `nic`: the uplink, which becomes a port of the bridge. */
  (
    | {
        readonly kind: 'bridge';
        readonly bridge: string;
        readonly nic?: string;
        readonly vid?: number;
        /** Sorted. */
        readonly trunks?: readonly number[];
        readonly vlanFiltering?: true;
      }
    | (OvsVlans & {
        readonly kind: 'ovs';
        readonly bridge: string;
        readonly nic?: string;
        readonly internal?: true;
      })
    | (ChildMode & { readonly uplink: string; readonly vid?: number })
    | { readonly kind: 'phys'; readonly uplink: string; readonly vid?: number }
    | SriovNetwork
    | { readonly kind: 'dummy' }
  );

/** A network as it is noted: wherever it was written. */
export type NotedNetwork = NetworkSpec extends infer N
  ? N extends NetworkSpec
    ? Omit<N, 'place'>
    : never
  : never;

/** An attachment of the file: one entry can be about several containers. */
export interface AttachmentSpec {
  readonly place: Place;
  readonly selector: Selector;
  readonly network: string;
  readonly ifname: string;
  /** `auto` takes from the network's range; `dhcp` is asked from the LAN. */
  readonly addresses: 'auto' | 'dhcp' | readonly Cidr[];
  /** What is said to the DHCP server; only with `dhcp`. */
  readonly dhcp?: DhcpSpec;
  readonly ipv6?: Ipv6Spec;
  readonly dns?: 'container';
  /** Empty: the network's, unless `noGateway`. */
  readonly gateways: readonly { readonly family: Family; readonly ip: string }[];
  /** No default route by this interface, whatever the network's gateway. */
  readonly noGateway?: boolean;
  readonly mac?: string;
  /** Instead of a MAC: a stable one is made from this text and the container's name. */
  readonly unique?: string;
  readonly vid?: number;
  /** Sorted. */
  readonly trunks?: readonly number[];
  readonly mtu?: number;
  readonly routes: readonly RouteSpec[];
  readonly rules: readonly RuleSpec[];
  /** Of the interface: `ipv4/forwarding` stands for net/ipv4/conf/IFNAME/forwarding. */
  readonly sysctls: Readonly<Record<string, string>>;
  readonly rate?: RateSpec;
  /** Before what the network says. */
  readonly internal?: boolean;
  readonly mirror?: MirrorSpec;
  readonly policing?: PolicingSpec;
  /** See Attachment; by default so for `auto`. */
  readonly dad?: boolean;
  /** Sub-interfaces in the container for VLANs that come with tags. */
  readonly vlans?: readonly GuestVlan[];
}

/** What must, or must not, be reachable: `web -> db tcp/5432`, `test1 -/-> test3`. */
export interface ExpectSpec {
  readonly place: Place;
  readonly from: string;
  readonly to: string;
  readonly reachable: boolean;
  readonly probe: { readonly protocol: 'ping' } | { readonly protocol: 'tcp'; readonly port: number };
}

/** All files together, as far as they are about one host. */
export interface Topology {
  /** The host, where the files name several. */
  readonly host?: string;
  /** What the files say of the other hosts. */
  readonly elsewhere?: readonly Topology[];
  readonly networks: readonly NetworkSpec[];
  readonly attachments: readonly AttachmentSpec[];
  readonly expects: readonly ExpectSpec[];
}
