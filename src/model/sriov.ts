/** Virtual functions of a NIC (SR-IOV). */

/** What the NIC's switch makes of a virtual function. Absent: left as it is. */
export interface VfSettings {
  readonly mac?: string;
  /** The VLAN that it is in, without a tag of its own; 0: none. */
  readonly vid?: number;
  /** Whether what it sends from another MAC address than its own is dropped. */
  readonly spoofCheck?: boolean;
}

/** One virtual function as the kernel lists it. */
export interface Vf {
  readonly index: number;
  /** Its link where that is in the host's namespace; undefined: it is in a container, or has another driver (vfio). */
  readonly ifname: string | undefined;
}

/** What is noted of a virtual function that was given away: where it is, and how it was before. */
export interface TakenVf {
  readonly uplink: string;
  readonly index: number;
  readonly was: VfSettings;
}
