/** `pipewright wait` */
import { parseContainerRef } from '../config/container-ref.ts';
import { checkIfname, printable } from '../config/names.ts';
import { openContainerNetns, resolveContainer } from '../containers/resolve.ts';
import { PipewrightError } from '../errors.ts';
import { listAddrs } from '../kernel/netlink/addr.ts';
import { getLink } from '../kernel/netlink/link.ts';
import { NetlinkSocket } from '../kernel/netlink/socket.ts';
import { hostNetns } from '../kernel/netns.ts';
import { print } from './output.ts';
import { onProgressLine } from './progress.ts';

interface WaitFlags {
  readonly ifname?: string | undefined;
  readonly timeout?: string | undefined;
  readonly json: boolean;
}

const pauseMs = 20;

/** IFA_F_DADFAILED and IFA_F_TENTATIVE. */
const dadFailed = 0x08;
const tentative = 0x40;

/** Returns when the interface can be used. Without a container: one of this namespace. @throws PipewrightError */
export async function runWait(flags: WaitFlags, containerText?: string): Promise<void> {
  const { ifname = 'eth1', timeout } = flags;
  const why = checkIfname(ifname);
  if (why !== undefined) throw bad('--ifname', ifname, `the name ${why}`);
  if (timeout !== undefined && !/^\d+(\.\d+)?$/.test(timeout))
    throw bad('--timeout', timeout, 'it is a number of seconds');
  const timeoutMs = timeout === undefined ? Number.POSITIVE_INFINITY : Number(timeout) * 1000;
  const container =
    containerText === undefined ? undefined : await resolveContainer(parseContainerRef(containerText));
  const netns = container ? openContainerNetns(container) : hostNetns();
  using rtnl = NetlinkSocket.open(netns);
  using _progress = onProgressLine(`waiting for ${ifname}`);
  const began = Date.now();
  for (;;) {
    const missing = whatIsMissing(rtnl, ifname);
    if (missing === undefined) break;
    if (Date.now() - began > timeoutMs) {
      throw new PipewrightError('WAIT_TIMEOUT', {
        op: 'wait',
        subject: `${ifname} in ${container?.name ?? 'this namespace'}`,
        detail: `not ready after ${timeout} s: ${missing}`,
      });
    }
    await new Promise((resolve) => setTimeout(resolve, pauseMs));
  }
  if (flags.json)
    print(
      JSON.stringify({
        container: container?.name ?? null,
        ifname,
        ready: true,
        waitedMs: Date.now() - began,
      }),
    );
}

function whatIsMissing(rtnl: NetlinkSocket, ifname: string): string | undefined {
  const link = getLink(rtnl, ifname);
  if (!link) return 'there is no such interface';
  if (!link.up) return 'it is down';
  if (!link.carrier) return 'it has no carrier';
  const addrs = listAddrs(rtnl, link.ifindex);
  const failed = addrs.find(({ flags }) => (flags & dadFailed) !== 0);
  if (failed) {
    throw new PipewrightError('WAIT_TIMEOUT', {
      op: 'wait',
      subject: `${failed.cidr.ip} on ${ifname}`,
      detail: 'another host has this address: duplicate address detection (RFC 4862) failed',
    });
  }
  return addrs.some(({ flags }) => (flags & tentative) !== 0)
    ? 'duplicate address detection is going on'
    : undefined;
}

function bad(option: string, text: string, why: string): PipewrightError {
  return new PipewrightError('BAD_ARGUMENT', { op: option, subject: `"${printable(text)}"`, detail: why });
}
