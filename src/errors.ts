/**
 * The one error class of the program, and the table of its codes.
 * A programmer's mistake stays a plain Error and prints a stack; a PipewrightError never does.
 */

/** Every code with the sentence that explains it; docs/reference/errors.md is checked against this table. */
export const errorCodes = {
  BAD_ARGUMENT: 'The command line or a value in it cannot be understood.',
  BAD_TOPOLOGY: 'The topology files say what cannot be understood or cannot be.',
  NOT_PERMITTED: 'This needs root (CAP_NET_ADMIN and CAP_SYS_ADMIN).',
  CONTAINER_UNKNOWN: 'No container of this name is known to any runtime on this host.',
  CONTAINER_AMBIGUOUS: 'More than one container matches.',
  CONTAINER_NOT_RUNNING: 'The container has no running process.',
  CONTAINER_GONE: 'The container stopped or was replaced while it was being connected.',
  CONTAINER_ON_HOST_NETWORK: "The container shares the host's network namespace.",
  RUNTIME_UNAVAILABLE: 'The container runtime does not answer.',
  NETWORK_UNKNOWN: 'The network, bridge or NIC does not exist and cannot be created.',
  VLAN_FILTERING_OFF: 'The bridge does not filter VLANs, and is not ours to switch.',
  LINK_EXISTS: 'A link of this name exists already.',
  NAME_TAKEN: 'The name is in use by something else.',
  ADDRESS_IN_USE: 'Another container has the address, or somebody on the link answers for it.',
  KIND_UNSUPPORTED: 'This kernel cannot create this kind of link.',
  KERNEL_REFUSED: 'The kernel refused the request.',
  OVS_UNAVAILABLE: 'Open vSwitch does not answer.',
  OVS_REFUSED: 'Open vSwitch refused the transaction.',
  OVS_TIMEOUT: 'ovs-vswitchd did not act on the change in time.',
  FIREWALL_FAILED: 'The firewall rule could not be changed.',
  PROGRAM_MISSING: 'A program that was asked for is not installed.',
  PROGRAM_FAILED: 'A program that was asked for failed.',
  AGENT_RUNS: 'The agent runs, and would make everything anew.',
  NO_LEASE: 'No DHCP server gave the interface an address.',
  DNS_REFUSED: "The container's /etc/resolv.conf is not one that may be written to.",
  LOCK_TIMEOUT: 'Another pipewright command holds the lock for too long.',
  STATE_UNREADABLE: 'A file of the state directory cannot be read.',
  UPLINK_REFUSED: 'This NIC cannot become the uplink of this bridge.',
  UPLINK_LOST: 'After the move something was not reachable that had been, so it was taken back.',
  UPLINK_UNKNOWN: 'There is no such uplink, or nothing to confirm.',
  UNDO_INCOMPLETE: 'A step failed, and not every step before it could be taken back.',
  WAIT_TIMEOUT: 'The interface was not ready in time.',
} as const;

/** A stable name for a kind of failure. */
export type ErrorCode = keyof typeof errorCodes;

/** What a person asks about a failure. */
export interface ErrorDetails {
  /** What was being done: `link.add`, `addr.add`, `docker.inspect`. */
  readonly op: string;
  /** To what: `eth1 in web`, `br1`. */
  readonly subject: string;
  /** The kernel's name for the refusal: `EEXIST`. */
  readonly errno?: string | undefined;
  /** The kernel's or daemon's own explanation, where it gives one. */
  readonly detail?: string | undefined;
  /** What to do next, as a sentence or a command. */
  readonly hint?: string | undefined;
  readonly cause?: unknown;
}

/** A failure that a user can do something about. Prints as one line, the hint as a second. */
export class PipewrightError extends Error {
  override readonly name = 'PipewrightError';
  readonly code: ErrorCode;
  readonly op: string;
  readonly subject: string;
  readonly errno: string | undefined;
  readonly hint: string | undefined;

  constructor(code: ErrorCode, details: ErrorDetails) {
    const { op, subject, errno, detail, hint, cause } = details;
    const why = detail ?? errorCodes[code];
    super(`${op} ${subject}: ${why}${errno ? ` [${errno}]` : ''}`, { cause });
    this.code = code;
    this.op = op;
    this.subject = subject;
    this.errno = errno;
    this.hint = hint;
  }
}

/** Whether `error` is the kernel's (or a daemon's) refusal with one of these errno names. */
export function hasErrno(error: unknown, ...errnos: readonly string[]): boolean {
  return error instanceof PipewrightError && error.errno !== undefined && errnos.includes(error.errno);
}
