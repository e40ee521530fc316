/**
 * Tells that something changed in the kernel's links, qdiscs, addresses, routes or rules: in one namespace, and in all that
 * have a number there (every container with a veth pair); or in one namespace's nf_tables, which iptables writes to. It
 * does not tell what: look again.
 * From <linux/rtnetlink.h>, <linux/netlink.h> and <linux/netfilter/nfnetlink.h>, v6.12.
 */
import { closeSync } from 'node:fs';
import type { Socket } from 'node:net';
import { hasErrno } from '../../errors.ts';
import { inNetns, type Netns } from '../netns.ts';
import { readInLoop } from '../readable.ts';
import { syscalls } from '../syscalls.ts';
import { u32 } from './codec.ts';

const AF_NETLINK = 16;
const SOCK_RAW_NONBLOCK_CLOEXEC = 3 | 0o4000 | 0o2000000;
const SOL_NETLINK = 270;
const NETLINK_LISTEN_ALL_NSID = 8;
const SOL_SOCKET = 1;
const SO_RCVBUFFORCE = 33;
/** Bytes of events that may wait; the default of 208 KiB is about 150 links. */
const bufferBytes = 1024 * 1024;

/** RTMGRP_LINK, RTMGRP_TC, RTMGRP_IPV4_IFADDR, _ROUTE, _RULE, RTMGRP_IPV6_IFADDR, _ROUTE, and RTNLGRP_IPV6_RULE. */
const groups = 0x1 | 0x8 | 0x10 | 0x40 | 0x80 | 0x100 | 0x400 | (1 << 18);
/** RTMGRP_NEIGH, which can be much. */
const neighGroup = 0x4;
const NETLINK_ROUTE = 0;
const NETLINK_NETFILTER = 12;
/** NFNLGRP_NFTABLES, 7, as a bit. */
const nftablesGroup = 1 << 6;

/** What is listened to. */
interface Subscription {
  readonly protocol: number;
  readonly groups: number;
  /** Other namespaces that have a number here, too. */
  readonly all: boolean;
}

/** Who is told. */
export interface Listener {
  /** Something changed. Called once for each message of the kernel: cheap, and never throwing. */
  onWake(): void;
  /** The kernel had more to tell than could wait: look at everything. */
  onOverrun(): void;
  /** Ends it. */
  readonly signal?: AbortSignal;
}

/** Who is told, and of what. */
export interface MonitorOptions extends Listener {
  /** Neighbours and forwarding entries as well. */
  readonly neighs?: boolean;
}

function openEvents(netns: Netns, { protocol, groups, all }: Subscription): number {
  const sys = syscalls();
  const fd = inNetns(netns, () => sys.socket(AF_NETLINK, SOCK_RAW_NONBLOCK_CLOEXEC, protocol, netns.label));
  try {
    if (all) sys.setsockopt(fd, SOL_NETLINK, NETLINK_LISTEN_ALL_NSID, u32.write(1), netns.label);
    sys.setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, u32.write(bufferBytes), netns.label);
    // struct sockaddr_nl: family, padding, port (the kernel chooses), groups
    const address = Buffer.alloc(12);
    address.writeUInt16LE(AF_NETLINK, 0);
    address.writeUInt32LE(groups, 8);
    sys.bind(fd, address, netns.label);
    return fd;
  } catch (error) {
    closeSync(fd);
    throw error;
  }
}

/** Listens until it is disposed of or its signal is aborted, and keeps the process running meanwhile. */
class Monitor implements Disposable {
  readonly #netns: Netns;
  readonly #subscription: Subscription;
  readonly #options: Listener;
  #events: Socket;
  #closed = false;

  constructor(netns: Netns, subscription: Subscription, options: Listener) {
    this.#netns = netns;
    this.#subscription = subscription;
    this.#options = options;
    this.#events = this.#open();
    if (options.signal?.aborted) this[Symbol.dispose]();
    options.signal?.addEventListener('abort', () => this[Symbol.dispose](), { once: true });
  }

  #open(): Socket {
    const fd = openEvents(this.#netns, this.#subscription);
    const onError = (error: NodeJS.ErrnoException): void => {
      if (this.#closed) return;
      if (error.code !== 'ENOBUFS') throw error;
      // Node has closed the socket. The new one listens before anybody looks, so that nothing falls in between.
      this.#events = this.#open();
      this.#options.onOverrun();
    };
    try {
      // What is read is not looked at.
      const onData = (): void => this.#options.onWake();
      return readInLoop(fd, onData, { subject: this.#netns.label }).on('error', onError);
    } finally {
      closeSync(fd);
    }
  }

  [Symbol.dispose](): void {
    this.#closed = true;
    this.#events.destroy();
  }
}

/** `ip monitor all-nsid`, as a bell: see {@link MonitorOptions}. */
export function openMonitor(netns: Netns, options: MonitorOptions): Disposable {
  const wanted = options.neighs ? groups | neighGroup : groups;
  return new Monitor(netns, { protocol: NETLINK_ROUTE, groups: wanted, all: true }, options);
}

/**
 * `nft monitor`, as a bell: a rule, chain, set or table of this namespace changed, by `nft` or by the iptables of
 * today (iptables-nft). Of what iptables-legacy does the kernel tells nobody.
 * @returns undefined where the kernel has no nf_tables
 */
export function openFirewallMonitor(netns: Netns, options: Listener): Disposable | undefined {
  try {
    return new Monitor(netns, { protocol: NETLINK_NETFILTER, groups: nftablesGroup, all: false }, options);
  } catch (error) {
    if (hasErrno(error, 'EPROTONOSUPPORT', 'EINVAL', 'ENOENT')) return undefined;
    throw error;
  }
}
