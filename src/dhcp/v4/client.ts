/** A DHCPv4 client at work: the state machine with its sockets, its timer and its interface. */
import { performance } from 'node:perf_hooks';
import { getLink } from '../../kernel/netlink/link.ts';
import { NetlinkSocket } from '../../kernel/netlink/socket.ts';
import type { Netns } from '../../kernel/netns.ts';
import { probeAddress } from '../../kernel/probe.ts';
import type { Lease, LeaseStatus } from '../../model/lease.ts';
import type { ReceivedFrame } from './frame.ts';
import { type Effect, type Event, type Machine, newMachine, step } from './machine.ts';
import { DhcpDecodeError, decodeMessage, encodeMessage, messageTypes } from './message.ts';
import type { ClientIdentity } from './requests.ts';
import { type ClientLink, Transport } from './transport.ts';

/** Where a client works, and who is told. Nothing here may take long. */
export interface ClientParts {
  readonly ifname: string;
  readonly identity: ClientIdentity;
  /** MAC addresses of the interface in earlier lives of its container, which may still answer for its address. */
  readonly formerMacs?: ReadonlySet<string>;
  /** The container's namespace, opened anew; the client closes it. @throws when the container is gone */
  openNetns(): Netns;
  /**
   * Makes the interface as the lease says.
   * @param serverMac whose frame brought it; absent: a lease of before @throws PipewrightError
   */
  bind(guest: NetlinkSocket, lease: Lease, serverMac: string | undefined): void;
  /** Takes away what the lease gave. @throws PipewrightError */
  unbind(guest: NetlinkSocket, lease: Lease, reason: string): void;
  /** Something is different in {@link Dhcp4Client.status}. */
  onChange(): void;
}

/** A timer cannot wait longer; it is set again then. */
const longestTimerMs = 2 ** 31 - 1;
/** The probes before use, of an address that is new and of one that was ours before. */
const probes = { thorough: { probes: 3, spanMs: 250 }, brief: { probes: 1, spanMs: 25 } } as const;
/** ARPHRD_ETHER. */
const ethernet = 1;

/** Milliseconds since 1970 by a clock that is not set back while this program runs. */
export const leaseClock = (): number => performance.timeOrigin + performance.now();

/** Keeps one interface in possession of a lease, from `start` or `resume` until `stop` or `release`. */
export class Dhcp4Client {
  readonly #parts: ClientParts;
  #machine: Machine;
  #transport: Transport | undefined;
  /** Open for as long as the transport is: an open namespace outlives its container. */
  #netns: Netns | undefined;
  #timer: NodeJS.Timeout | undefined;
  readonly #stopped = new AbortController();
  #serverMac: string | undefined;
  /** What went wrong on this side. */
  #trouble: string | undefined;

  constructor(parts: ClientParts) {
    this.#parts = parts;
    this.#machine = newMachine(parts.identity);
  }

  /** Asks for the address of an earlier lease, or for any. */
  start(remembered?: Lease): void {
    this.#turn({ on: 'start', ...(remembered && { remembered }) });
  }

  /** Goes on with a lease that the interface has. */
  resume(lease: Lease): void {
    this.#turn({ on: 'resume', lease });
  }

  /** The link has carrier again. */
  linkup(): void {
    this.#turn({ on: 'linkup' });
  }

  /** Gives the lease back, takes it off the interface and ends. */
  release(): void {
    this.#turn({ on: 'release' });
    this.stop();
  }

  /** Ends; the lease and the interface stay as they are. */
  stop(): void {
    this.#stopped.abort();
    clearTimeout(this.#timer);
    this.#close();
  }

  /** Once more what is to be, for an interface that somebody changed. */
  rebind(): void {
    const { lease, isBound } = this.#machine;
    if (lease && isBound) this.#attempt(() => this.#bind(lease));
  }

  status(): LeaseStatus {
    const { phase, lease, isBound } = this.#machine;
    const reason = this.#trouble ?? this.#machine.reason ?? silenceOf(this.#machine);
    return {
      family: 4,
      state: phase,
      ...(lease && isBound && { lease }),
      ...(reason !== undefined && { reason }),
    };
  }

  #turn(event: Event): void {
    if (this.#stopped.signal.aborted) return;
    const { machine, effects } = step(this.#machine, event, leaseClock(), Math.random);
    const isNew = machine !== this.#machine;
    this.#machine = machine;
    if (effects.length > 0) this.#trouble = undefined;
    for (const effect of effects) this.#attempt(() => this.#run(effect));
    if (!waitsForPackets(machine)) this.#close();
    this.#arm();
    if (isNew) this.#parts.onChange();
  }

  /** What fails is as if it were lost on the way: it is told, and tried again when its time comes. */
  #attempt(act: () => void): void {
    try {
      act();
    } catch (error) {
      this.#trouble = error instanceof Error ? error.message : String(error);
    }
  }

  #run(effect: Effect): void {
    switch (effect.do) {
      case 'broadcast':
        this.#open().broadcast(effect.message.ciaddr, encodeMessage(effect.message));
        break;
      case 'unicast':
        this.#open().unicast(effect.message.ciaddr, effect.server, encodeMessage(effect.message));
        break;
      case 'probe':
        void this.#probe(effect.ip, effect.brief);
        break;
      case 'bind':
        this.#bind(effect.lease);
        break;
      case 'unbind':
        this.#withGuest((guest) => this.#parts.unbind(guest, effect.lease, effect.reason));
        break;
    }
  }

  async #probe(ip: string, brief: boolean): Promise<void> {
    const netns = this.#parts.openNetns();
    try {
      const { signal } = this.#stopped;
      const link = { ...linkIn(netns, this.#parts.ifname), netns };
      const { formerMacs: ignored = new Set<string>() } = this.#parts;
      const found = await probeAddress(link, ip, {
        ...probes[brief ? 'brief' : 'thorough'],
        ignored,
        signal,
      });
      this.#turn({ on: 'probed', ip, ...(found && { usedBy: found.mac }) });
    } catch (error) {
      // The machine tries again by itself.
      this.#attempt(() => {
        throw error;
      });
    } finally {
      netns[Symbol.dispose]();
    }
  }

  #bind(lease: Lease): void {
    this.#withGuest((guest) => this.#parts.bind(guest, lease, this.#serverMac));
  }

  #withGuest(act: (guest: NetlinkSocket) => void): void {
    using netns = this.#parts.openNetns();
    using guest = NetlinkSocket.open(netns);
    act(guest);
  }

  #open(): Transport {
    if (this.#transport) return this.#transport;
    const netns = this.#parts.openNetns();
    try {
      this.#transport = new Transport(netns, linkIn(netns, this.#parts.ifname), {
        received: (frame) => this.#received(frame),
        // The next message opens another one.
        down: () => this.#close(),
      });
      this.#netns = netns;
      return this.#transport;
    } catch (error) {
      netns[Symbol.dispose]();
      throw error;
    }
  }

  #close(): void {
    this.#transport?.[Symbol.dispose]();
    this.#netns?.[Symbol.dispose]();
    this.#transport = undefined;
    this.#netns = undefined;
  }

  #received({ srcMac, payload }: ReceivedFrame): void {
    try {
      const message = decodeMessage(payload);
      if (message.xid !== this.#machine.xid) return;
      if (message.options.messageType === messageTypes.ack) this.#serverMac = srcMac;
      this.#turn({ on: 'packet', message });
    } catch (error) {
      // Whatever else is on the wire.
      if (!(error instanceof DhcpDecodeError)) throw error;
    }
  }

  #arm(): void {
    clearTimeout(this.#timer);
    const { wakeAt } = this.#machine;
    if (wakeAt === undefined) return;
    const ms = Math.min(longestTimerMs, Math.max(0, Math.ceil(wakeAt - leaseClock())));
    this.#timer = setTimeout(() => this.#wake(), ms);
  }

  #wake(): void {
    const { wakeAt = Number.POSITIVE_INFINITY } = this.#machine;
    if (wakeAt <= leaseClock()) this.#turn({ on: 'timer' });
    else this.#arm();
  }
}

/** Who does not answer, where somebody should have by now. */
function silenceOf({ phase, sent }: Machine): string | undefined {
  if (phase === 'SELECTING' && sent > 1) return 'no DHCP server answers';
  if (phase === 'RENEWING' && sent > 1) return 'the server does not answer';
  return phase === 'REBINDING' ? 'the server did not answer; every server is asked' : undefined;
}

function waitsForPackets({ phase }: Machine): boolean {
  return ['SELECTING', 'REQUESTING', 'REBOOTING', 'RENEWING', 'REBINDING'].includes(phase);
}

/** @throws Error in words for the status, when the link is not there or cannot be used */
function linkIn(netns: Netns, ifname: string): ClientLink {
  using rtnl = NetlinkSocket.open(netns);
  const link = getLink(rtnl, ifname);
  if (!link) throw new Error(`there is no ${ifname}`);
  if (link.arphrd !== ethernet) throw new Error(`${ifname} is not Ethernet`);
  return { ifindex: link.ifindex, ifname, mac: link.mac };
}
