/** One host as a command or the agent works on it: sockets opened once, connections opened when first needed. */

import { NetlinkSocket } from '../kernel/netlink/socket.ts';
import { hostNetns, type Netns } from '../kernel/netns.ts';
import type { Ovsdb } from '../ovs/ovsdb.ts';
import { StateDir } from './state.ts';

/** Where things are, when they are not where Debian has them. */
export interface HostOptions {
  /** Unix socket of ovsdb-server. */
  readonly ovsdbSocket?: string;
  /** Network namespace that counts as the host's; by default the one of this thread. */
  readonly netns?: Netns;
}

/** Default place of ovsdb-server's socket. */
export const defaultOvsdbSocket = '/var/run/openvswitch/db.sock';

/** The host's side of every transaction. */
export class Host implements AsyncDisposable {
  readonly netns: Netns;
  readonly rtnl: NetlinkSocket;
  readonly ovsdbSocket: string;
  #ovs: Promise<Ovsdb> | undefined;
  #state: StateDir | undefined;

  constructor(options: HostOptions = {}) {
    this.netns = options.netns ?? hostNetns();
    this.rtnl = NetlinkSocket.open(this.netns);
    this.ovsdbSocket = options.ovsdbSocket ?? defaultOvsdbSocket;
  }

  /** The state directory, made at the first call. */
  get state(): StateDir {
    this.#state ??= new StateDir(this.netns.inode);
    return this.#state;
  }

  /**
   * The connection to Open vSwitch, opened at the first call, and at the next one after it was lost or could not be
   * opened: an agent outlives many of ovsdb-server's restarts. @throws PipewrightError OVS_UNAVAILABLE
   */
  ovs(): Promise<Ovsdb> {
    if (this.#ovs) return this.#ovs;
    const opened = import('../ovs/ovsdb.ts').then(({ Ovsdb }) => Ovsdb.connect(this.ovsdbSocket));
    const forget = (): void => {
      if (this.#ovs === opened) this.#ovs = undefined;
    };
    this.#ovs = opened;
    opened.then(({ closed }) => closed).then(forget, forget);
    return opened;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.rtnl[Symbol.dispose]();
    const ovs = await this.#ovs?.catch(() => undefined);
    await ovs?.[Symbol.asyncDispose]();
  }
}
