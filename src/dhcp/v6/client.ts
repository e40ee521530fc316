/** A DHCPv6 client at work: the state machine with its socket, its timer and its interface. */
import { performance } from 'node:perf_hooks';
import { NetlinkSocket } from '../../kernel/netlink/socket.ts';
import type { Netns } from '../../kernel/netns.ts';
import { probeAddress } from '../../kernel/probe.ts';
import { randomBytes } from '../../kernel/random.ts';
import type { Lease, LeaseStatus } from '../../model/lease.ts';
import { MalformedDhcp6 } from './codec.ts';
import { type Interface, interfaceIn } from './interface.ts';
import { begun, leaseOf, step, wakeAt } from './machine.ts';
import { decodeMessage, encodeMessage } from './message.ts';
import type { Client } from './requests.ts';
import type { Effect, Event, State } from './state.ts';
import { Dhcp6Socket } from './transport.ts';

/** Where a client works, and who is told. Nothing here may take long. */
export interface ClientParts {
  readonly ifname: string;
  readonly identity: Omit<Client, 'stateless'>;
  /** `asTold`: routers say whether there are addresses to be had, or DNS and the like, or neither. */
  readonly when: 'always' | 'asTold';
  /** MAC addresses of the interface in earlier lives of its container, which may still answer for its addresses. */
  readonly formerMacs?: ReadonlySet<string>;
  /** The container's namespace, opened anew; the client closes it. @throws when the container is gone */
  openNetns(): Netns;
  /**
   * Makes the interface as the lease says; one without addresses brings DNS and the like.
   * @param verified addresses that the link need not be asked for @throws PipewrightError
   */
  bind(guest: NetlinkSocket, lease: Lease, verified: ReadonlySet<string>): void;
  /** Takes away what the lease gave. @throws PipewrightError */
  unbind(guest: NetlinkSocket, lease: Lease, reason: string): void;
  /** Something is different in {@link Dhcp6Client.status}. */
  onChange(): void;
}

/** A timer cannot wait longer; it is set again then. */
const longestTimerMs = 2 ** 31 - 1;
/** How often the interface is looked at: while duplicate address detection is under way, and otherwise. */
const lookMs = { soon: 100, later: 1000, seldom: 10_000 } as const;
/** Duplicate address detection takes a second or two; a bridge whose ports listen first (STP) delays it. */
const hurriedLooks = 50;
const patientLooks = 60;

/** Milliseconds since 1970 by a clock that is not set back while this program runs. */
export const leaseClock = (): number => Math.round(performance.timeOrigin + performance.now());

/** Keeps one interface in possession of a lease, from `start` or `resume` until `stop` or `release`. */
export class Dhcp6Client {
  readonly #parts: ClientParts;
  #state: State = begun;
  #stateless = false;
  #socket: Dhcp6Socket | undefined;
  #timer: NodeJS.Timeout | undefined;
  #look: NodeJS.Timeout | undefined;
  /** How often the interface was looked at since it last mattered. */
  #looks = 0;
  #isStopped = false;
  #routerHeard = false;
  /** Routers were heard, and say nothing of DHCPv6. */
  #isDenied = false;
  /** Addresses whose duplicate address detection is not over, and the link that they were put on. */
  #unproven: ReadonlySet<string> = new Set();
  #provenOn: number | undefined;
  /** Those that the kernel says another host has: whether it is so, is being asked. */
  #verifying: ReadonlySet<string> = new Set();
  /** Nobody else has them, whatever the kernel says. */
  #verified: ReadonlySet<string> = new Set();
  /** What the machine told last, and what went wrong on this side. */
  #told: string | undefined;
  #trouble: string | undefined;
  #onReleased: (() => void) | undefined;

  constructor(parts: ClientParts) {
    this.#parts = parts;
  }

  /** Asks for the addresses of an earlier lease, or for any. */
  start(remembered?: Lease): void {
    this.#turn({ on: 'start', remembered });
    this.#lookSoon();
  }

  /** Goes on with a lease that the interface has. */
  resume(lease: Lease): void {
    this.#stateless = lease.addresses.length === 0;
    this.#turn({ on: 'resume', lease });
    this.#lookSoon();
  }

  /** The link has carrier again. */
  linkup(): void {
    this.#turn({ on: 'linkup' });
  }

  /**
   * Takes the lease off the interface, gives it back and ends; resolves when the server has answered, or after
   * `patienceMs` of asking again.
   */
  async release(patienceMs = 1500): Promise<void> {
    const released = new Promise<void>((resolve) => {
      this.#onReleased = resolve;
    });
    this.#turn({ on: 'release' });
    const patience = setTimeout(() => this.#onReleased?.(), patienceMs);
    await released;
    clearTimeout(patience);
    this.stop();
  }

  /** Ends; the lease and the interface stay as they are. */
  stop(): void {
    this.#isStopped = true;
    this.#onReleased?.();
    clearTimeout(this.#timer);
    clearTimeout(this.#look);
    this.#close();
  }

  /** Once more what is to be, for an interface that somebody changed. */
  rebind(): void {
    // It may be the kernel that took an address away, as another host has it.
    if (this.#unproven.size > 0) this.#lookNow();
    const lease = leaseOf(this.#state);
    if (lease) this.#attempt(() => this.#bind(lease));
  }

  status(): LeaseStatus {
    const lease = leaseOf(this.#state);
    const reason = this.#trouble ?? this.#silence() ?? this.#told;
    return {
      family: 6,
      state: this.#state.at.toUpperCase(),
      ...(lease && { lease }),
      ...(reason !== undefined && { reason }),
    };
  }

  /**
   * Whether its addresses are past duplicate address detection and those of an earlier lease have been asked about, or
   * routers say that there is nothing to be had.
   */
  get isSettled(): boolean {
    const { at } = this.#state;
    if (!leaseOf(this.#state)) return this.#isDenied;
    return at !== 'waiting' && at !== 'confirming' && this.#unproven.size + this.#verifying.size === 0;
  }

  #silence(): string | undefined {
    const state = this.#state;
    if (state.at === 'waiting' && this.#parts.when === 'asTold')
      return this.#routerHeard
        ? 'routers say that there is nothing to be had by DHCPv6'
        : 'no router is heard';
    const isAsking = state.at === 'soliciting' || state.at === 'informing';
    const isUnheard = isAsking && state.exchange.count > 2 && this.#told === undefined;
    return isUnheard ? 'no DHCPv6 server answers' : undefined;
  }

  #turn(event: Event): void {
    if (this.#isStopped) return;
    const bytes = randomBytes(8);
    const moment = {
      now: leaseClock(),
      random: bytes.readUInt32BE(0) / 2 ** 32,
      xid: bytes.readUIntBE(4, 3),
    };
    const client = { ...this.#parts.identity, stateless: this.#stateless };
    const { state, effects } = step(client, this.#state, event, moment);
    const isNew = state !== this.#state;
    this.#state = state;
    if (effects.length > 0) this.#trouble = undefined;
    for (const effect of effects) this.#attempt(() => this.#run(effect));
    if (!('xid' in state)) this.#close();
    this.#arm();
    if (isNew) this.#parts.onChange();
    if (state.at === 'stopped') this.#onReleased?.();
  }

  /** What fails is as if it were lost on the way: it is told, and tried again when its time comes. */
  #attempt(act: () => void): void {
    try {
      act();
    } catch (error) {
      this.#trouble = textOf(error);
    }
  }

  #run(effect: Effect): void {
    switch (effect.do) {
      case 'send':
        this.#open().send(encodeMessage(effect.message));
        break;
      case 'bind':
        this.#told = undefined;
        this.#bind(effect.lease);
        break;
      case 'unbind':
        this.#told = effect.reason;
        this.#unproven = new Set();
        this.#verified = new Set();
        this.#withGuest((guest) => this.#parts.unbind(guest, effect.lease, effect.reason));
        break;
      case 'tell':
        this.#told = effect.text;
    }
  }

  #bind(lease: Lease): void {
    this.#withGuest((guest) => {
      this.#parts.bind(guest, lease, this.#verified);
      this.#provenOn = interfaceIn(guest, this.#parts.ifname).ifindex;
    });
    this.#unproven = new Set(lease.addresses.map(({ cidr }) => cidr.ip));
    if (this.#unproven.size > 0) this.#lookSoon();
  }

  #withGuest<T>(act: (guest: NetlinkSocket) => T): T {
    using netns = this.#parts.openNetns();
    using guest = NetlinkSocket.open(netns);
    return act(guest);
  }

  /** Open for an exchange only: an open socket keeps the namespace of a container that is gone. */
  #open(): Dhcp6Socket {
    if (this.#socket) return this.#socket;
    using netns = this.#parts.openNetns();
    using guest = NetlinkSocket.open(netns);
    const link = interfaceIn(guest, this.#parts.ifname);
    if (link.linkLocal === undefined) throw new Error(`${this.#parts.ifname} has no link-local address yet`);
    const { ifname } = this.#parts;
    this.#socket = new Dhcp6Socket(
      { netns, ifname, ifindex: link.ifindex, linkLocal: link.linkLocal },
      {
        received: (bytes, from) => this.#received(bytes, from),
        // The next message opens another one.
        down: () => this.#close(),
      },
    );
    return this.#socket;
  }

  #close(): void {
    this.#socket?.[Symbol.dispose]();
    this.#socket = undefined;
  }

  #received(bytes: Buffer, from: string): void {
    try {
      this.#turn({ on: 'packet', message: decodeMessage(bytes), from });
    } catch (error) {
      // Anybody on the network can send anything.
      if (!(error instanceof MalformedDhcp6)) throw error;
    }
  }

  #arm(): void {
    clearTimeout(this.#timer);
    const delay = Math.max(0, wakeAt(this.#state) - leaseClock());
    if (this.#isStopped || delay === Number.POSITIVE_INFINITY) return;
    // One that fires early finds nothing due and is set again.
    this.#timer = setTimeout(() => this.#turn({ on: 'timer' }), Math.min(Math.ceil(delay), longestTimerMs));
  }

  #lookSoon(): void {
    this.#looks = 0;
    this.#lookIn(0);
  }

  #lookIn(ms: number): void {
    clearTimeout(this.#look);
    if (!this.#isStopped) this.#look = setTimeout(() => this.#lookNow(), ms);
  }

  /** Looks for what the kernel finds out by itself: the link-local address, duplicates, what routers say. */
  #lookNow(): void {
    this.#looks += 1;
    this.#attempt(() => {
      const seen = this.#withGuest((guest) => interfaceIn(guest, this.#parts.ifname));
      this.#judge(seen);
    });
    const isHurried = this.#state.at === 'waiting' || this.#unproven.size > 0;
    if (isHurried && this.#looks < hurriedLooks) this.#lookIn(lookMs.soon);
    else if (this.#looks < hurriedLooks + patientLooks && isHurried) this.#lookIn(lookMs.later);
    else if (isHurried || this.#parts.when === 'asTold') this.#lookIn(lookMs.seldom);
  }

  /**
   * The kernel does not say who has an address: it can be this interface in the former life of its container, whose
   * namespace is being taken apart. And an address is gone as well when somebody had the link go down for a moment.
   */
  async #verify(ips: readonly string[]): Promise<void> {
    this.#verifying = new Set([...this.#verifying, ...ips]);
    const taken: string[] = [];
    try {
      using netns = this.#parts.openNetns();
      const { ifname, formerMacs: ignored = new Set<string>() } = this.#parts;
      const { ifindex, mac } = this.#withGuest((guest) => interfaceIn(guest, ifname));
      const found = await Promise.all(
        ips.map((ip) => probeAddress({ netns, ifindex, mac }, ip, { ignored })),
      );
      taken.push(...ips.filter((_, at) => found[at] !== undefined));
    } catch (error) {
      this.#trouble = textOf(error);
      return;
    } finally {
      this.#verifying = new Set([...this.#verifying].filter((ip) => !ips.includes(ip)));
    }
    if (this.#isStopped) return;
    const ours = ips.filter((ip) => !taken.includes(ip));
    this.#verified = new Set([...this.#verified, ...ours]);
    if (taken.length > 0) this.#turn({ on: 'duplicate', ips: taken });
    const lease = leaseOf(this.#state);
    if (lease && ours.length > 0) this.#attempt(() => this.#bind(lease));
  }

  #judge(seen: Interface): void {
    const { managed, otherConf, heard } = seen.router;
    if (heard !== this.#routerHeard) {
      this.#routerHeard = heard;
      this.#parts.onChange();
    }
    // The kernel deletes an address that has an end when it finds that another host has it.
    // One that is gone with its link, or because that went down, is nobody else's.
    const isSame = seen.up && seen.ifindex === this.#provenOn;
    const duplicates = [...this.#unproven].filter((ip) => isSame && !seen.addresses.has(ip));
    this.#unproven = new Set([...this.#unproven].filter((ip) => seen.tentative.has(ip)));
    if (duplicates.length > 0) void this.#verify(duplicates);
    if (seen.linkLocal === undefined) return;
    const wantsAddresses = this.#parts.when === 'always' || managed;
    if (this.#state.at === 'waiting') {
      // A remembered lease was had where there was something to be had.
      this.#isDenied = heard && !wantsAddresses && !otherConf;
      if (!wantsAddresses && !otherConf && this.#state.lease === undefined) return;
      this.#stateless = !wantsAddresses && this.#state.lease === undefined;
      this.#turn({ on: 'ready' });
    } else if (this.#stateless && wantsAddresses) {
      this.#stateless = false;
      this.#turn({ on: 'start' });
      this.#turn({ on: 'ready' });
    }
  }
}

function textOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
