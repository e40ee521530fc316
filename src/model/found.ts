/** What is on a host, whoever made it: for a topology file that says the same. */
import type { GuestVlan, Network, PolicingSpec } from './attachment.ts';
import type { Rule } from './link.ts';
import type { AttachmentRecord, LinkWithAddrs } from './observed.ts';
import type { NotedNetwork } from './topology.ts';

/** One interface of a container. */
export interface FoundInterface {
  readonly ifname: string;
  /** Absent: it is noted, and gone. */
  readonly there: LinkWithAddrs | undefined;
  /** What it is plugged into; or why that cannot be told, or said in a file. */
  readonly network: Network | { readonly why: string };
  /** Bytes that it would have without being given any. */
  readonly defaultMtu: number;
  /** The note, when we made it. */
  readonly record: AttachmentRecord | undefined;
  /** Of what somebody else has made: what its port of Open vSwitch drops, and its sub-interfaces for VLANs. */
  readonly policing?: PolicingSpec;
  readonly vlans?: readonly GuestVlan[];
}

/** A container that runs. */
export interface FoundContainer {
  /** As a file has it: `web`, `podman:web`. */
  readonly name: string;
  readonly interfaces: readonly FoundInterface[];
  /** Its policy rules, but for those that every namespace has. */
  readonly rules: readonly Rule[];
}

/** A host. */
export interface FoundHost {
  /** Networks of topology files that were applied. */
  readonly networks: readonly NotedNetwork[];
  readonly containers: readonly FoundContainer[];
  /** What could not be looked at. */
  readonly notes: readonly string[];
}
