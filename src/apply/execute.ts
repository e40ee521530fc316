/** Runs operations in order: the kernel's, Open vSwitch's, the firewall's. */
import { hasErrno, PipewrightError } from '../errors.ts';
import { delLink, delLinkGroup, getLink, setLink } from '../kernel/netlink/link.ts';
import type { Request } from '../kernel/netlink/socket.ts';
import { readSysctl, sysctlPath, writeSysctl } from '../kernel/sysctl.ts';
import { movePhy } from '../kernel/wireless.ts';
import type { Operation, SavedLink, Side } from '../model/operation.ts';
import { changesNames, type RequestOperation, Requests, type Sides, sideOf } from './requests.ts';

/** What is needed for operations that are not the kernel's; each is loaded by whoever needs it first. */
export interface Backends {
  ovs(op: Extract<Operation, { do: `ovs.${string}` }>): Promise<void>;
  firewall(op: Extract<Operation, { do: `firewall.${string}` }>): Promise<void>;
}

/** Runs operations; several that go to one namespace leave in one send(). */
export class Executor {
  readonly #sides: Sides;
  readonly #backends: Backends;
  readonly #requests: Requests;

  constructor(sides: Sides, backends: Backends) {
    this.#sides = sides;
    this.#backends = backends;
    this.#requests = new Requests(sides);
  }

  /**
   * Runs all of `ops` in order and stops at the first that fails.
   * @param before called with the index of each operation before it is run; then no two share a send()
   * @param pick which refusal is told when one send() had several
   * @returns why it failed; undefined when all are done
   */
  async run(
    ops: readonly Operation[],
    before?: (index: number) => void,
    pick: PickRefusal = first,
  ): Promise<{ error: unknown } | undefined> {
    try {
      for (let at = 0; at < ops.length; ) {
        before?.(at);
        const op = ops[at];
        if (op && !isRequests(op)) {
          await this.#runAlone(op);
          at += 1;
        } else at = this.#runTogether(ops, at, before ? 1 : ops.length, pick);
      }
      return undefined;
    } catch (error) {
      return { error };
    }
  }

  /** Runs each of `ops`, whatever happened to the one before; what is gone already is no failure. See run(). */
  async runAll(
    ops: readonly Operation[],
    before?: (op: Operation, index: number) => void,
  ): Promise<unknown[]> {
    const failures: unknown[] = [];
    for (const [index, op] of ops.entries()) {
      const failed = await this.run([op], before && (() => before(op, index)), worst);
      if (failed && !isDone(failed.error)) failures.push(failed.error);
    }
    return failures;
  }

  /**
   * Deletes links of the host together: one link takes the kernel 20 ms, and a group of them hardly more.
   * @param group a group that no other link has, see model/naming.ts
   */
  async delHostLinks(names: readonly string[], group: number): Promise<void> {
    const socket = this.#requests.side('host');
    const links = names.flatMap((name) => getLink(socket, name) ?? []);
    for (const { name } of links) this.#requests.forget('host', name);
    const [only] = links;
    if (links.length === 1 && only) return socket.requestInBackground(delLink(only.ifindex));
    if (links.length === 0) return;
    const outcomes = socket.batch(links.map(({ ifindex }) => setLink({ ifindex }, { group })));
    const refusal = outcomes.find((outcome) => outcome && !isDone(outcome));
    if (refusal) throw refusal;
    await socket.requestInBackground(delLinkGroup(group));
  }

  /**
   * Sends as many operations from `at` on as go to one namespace and name only links that are known. The kernel goes on
   * after one that it refuses, so any of them may have been done then.
   * @returns the index of the next operation
   */
  #runTogether(ops: readonly Operation[], at: number, most: number, pick: PickRefusal): number {
    const requests: Request[] = [];
    let side: Side | undefined;
    let next = at;
    while (next < ops.length && next - at < most) {
      const op = ops[next];
      if (!op || !isRequests(op)) break;
      const opSide = sideOf(op);
      if (side !== undefined && opSide !== side) break;
      side = opSide;
      // A link made by a request that is not sent yet has no ifindex that could be named.
      if (requests.length > 0 && !this.#requests.knows(op)) break;
      requests.push(...this.#requests.of(op));
      next += 1;
      if (changesNames(op)) break;
    }
    if (side === undefined) return next;
    const refusals = this.#requests
      .side(side)
      .batch(requests)
      .filter((outcome) => outcome !== undefined);
    if (refusals.length > 0) throw pick(refusals);
    return next;
  }

  async #runAlone(op: Exclude<Operation, RequestOperation> | WirelessMove): Promise<void> {
    switch (op.do) {
      case 'link.del':
        return this.#delLink(op);
      case 'ipv6.enable':
        return this.#enableIpv6(op.link, op.enable);
      case 'sysctl.set':
        return this.#setSysctl(op);
      case 'link.give':
        return op.wireless && this.#giveWireless(op, op.wireless);
      case 'link.take':
        return this.#takeWireless(op, op.saved.phy ?? '');
      case 'addr.probe':
        throw new Error('it takes too long for the lock: see apply/verify.ts');
      case 'firewall.allow':
      case 'firewall.revoke':
        return this.#backends.firewall(op);
      default:
        return this.#backends.ovs(op);
    }
  }

  /** `ipv4/forwarding` of eth1 is net/ipv4/conf/eth1/forwarding; of a link that is gone there is nothing to set. */
  #setSysctl({ side = 'guest', link, key, value }: Extract<Operation, { do: 'sysctl.set' }>): void {
    const { netns } = this.#requests.side(side);
    const path = sysctlPath(link, key);
    if (readSysctl(netns, path) === undefined) {
      // What the host's own links are told is to be deaf to a family, and some kernels have only one.
      if (side === 'host') return;
      const subject = `${key} of ${link} in ${netns.label}`;
      throw new PipewrightError('KERNEL_REFUSED', {
        op: 'sysctl.set',
        subject,
        errno: 'ENOENT',
        detail: 'there is no such sysctl',
      });
    }
    writeSysctl(netns, path, value);
  }

  async #delLink(op: Extract<Operation, { do: 'link.del' }>): Promise<void> {
    const socket = this.#requests.side(op.side);
    const link = getLink(socket, op.name);
    this.#requests.forget(op.side, op.name);
    if (!link || (op.onlyGroup !== undefined && link.group !== op.onlyGroup)) return;
    await socket.requestInBackground(delLink(link.ifindex));
  }

  /** Of this link alone; of one that is gone there is nothing to switch. */
  #enableIpv6(link: string, enable: boolean): void {
    const { netns } = this.#requests.side('guest');
    const key = `net/ipv6/conf/${link}/disable_ipv6`;
    if (readSysctl(netns, key) !== undefined) writeSysctl(netns, key, enable ? '0' : '1');
  }

  /** An interface keeps its name and its group while its phy moves. */
  async #giveWireless(
    { name, ifname, group }: { name: string; ifname: string; group: number },
    { phy, pid }: { phy: string; pid: number },
  ) {
    const { host } = this.#sides;
    host.request(setLink({ ifindex: this.#requests.ifindex('host', name) }, { group, up: false }));
    this.#requests.forget('host', name);
    await movePhy(host.netns, phy, pid);
    if (name !== ifname)
      this.#requests
        .side('guest')
        .request(setLink({ ifindex: this.#requests.ifindex('guest', name) }, { name: ifname }));
    this.#requests.forget('guest', name);
  }

  async #takeWireless(
    { ifname, group, saved }: { ifname: string; group: number; saved: SavedLink },
    phy: string,
  ) {
    const { guest, host } = this.#sides;
    const there = guest && (getLink(guest, ifname) ?? getLink(guest, saved.name));
    if (guest && there?.group === group) {
      guest.request(setLink({ ifindex: there.ifindex }, { up: false }));
      if (there.name !== saved.name) guest.request(setLink({ ifindex: there.ifindex }, { name: saved.name }));
      await movePhy(guest.netns, phy, process.pid);
      this.#requests.forget('guest', ifname);
    }
    const refusal = host
      .batch(this.#requests.take(ifname, group, saved))
      .find((outcome) => outcome !== undefined);
    if (refusal) throw refusal;
  }
}

/** A NIC that moves with its phy. */
type WirelessMove = Extract<Operation, { do: 'link.give' | 'link.take' }>;

/** Whether an operation is requests of rtnetlink and nothing else. */
function isRequests(op: Operation): op is RequestOperation {
  if (op.do === 'link.give') return op.wireless === undefined;
  if (op.do === 'link.take') return op.saved.phy === undefined;
  return !/^(ovs|firewall)\.|^link\.del$|^addr\.probe$|^(ipv6|sysctl)\./.test(op.do);
}

/** Which of the refusals of one send() is told: the first, as the others may follow from it. */
type PickRefusal = (refusals: readonly PipewrightError[]) => PipewrightError | undefined;

const first: PickRefusal = ([refusal]) => refusal;

/** Of an undo: one that says that something could not be taken back. */
const worst: PickRefusal = (refusals) => refusals.find((refusal) => !isDone(refusal)) ?? refusals[0];

/** Whether a refusal says that it is so already: not there (any more), or there already. */
function isDone(error: unknown): boolean {
  return hasErrno(error, 'ENODEV', 'ENOENT', 'ESRCH', 'EADDRNOTAVAIL', 'EEXIST');
}
