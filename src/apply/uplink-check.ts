/**
 * Whether the host is still reached after a move: whoever answered before must answer again. The kernel asks, by ARP and by
 * neighbour discovery (RFC 4861, section 7.3), and its table of neighbours tells.
 */
import { readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { statOf } from '../containers/proc.ts';
import { hasErrno } from '../errors.ts';
import { getLink } from '../kernel/netlink/link.ts';
import { listNeighs, replaceNeigh } from '../kernel/netlink/neigh.ts';
import { getRoute } from '../kernel/netlink/route.ts';
import { familyOf } from '../model/address.ts';
import type { LinkState } from '../model/uplink.ts';
import { probe } from '../observe/reach.ts';
import type { Host } from './host.ts';

/** Somebody who must be reachable by the link. */
export interface Peer {
  readonly ip: string;
  readonly what: 'gateway' | 'ssh';
  /** By a neighbour's answer, or, when it is behind a router, by an echo. */
  readonly how: 'neighbour' | 'echo';
}

/** NUD_REACHABLE, PROBE, FAILED, PERMANENT; NTF_USE. */
const reachable = 0x02;
const probing = 0x10;
const permanent = 0x80;
const use = 0x01;
const pollMs = 10;
const echoTimeoutMs = 1000;

/**
 * The address at the other end of the SSH session that the command is run in, by `SSH_CONNECTION`, sshd(8). sudo takes it
 * out of the environment; the shell before it has it still.
 */
export function sshPeer(
  said = process.env.SSH_CONNECTION ?? saidToParents(process.ppid),
): string | undefined {
  // A link-local address has its zone.
  const [ip = ''] = said.split(/[ %]/);
  return familyOf(ip) === undefined ? undefined : ip;
}

/** What a process or one above it was told. */
function saidToParents(pid: number): string {
  for (let at = pid, depth = 0; at > 1 && depth < 32; depth++) {
    const [, said] = /(?:^|\0)SSH_CONNECTION=([^\0]*)/.exec(environmentOf(at)) ?? [];
    if (said !== undefined) return said;
    at = statOf(at)?.parent ?? 0;
  }
  return '';
}

function environmentOf(pid: number): string {
  try {
    return readFileSync(`/proc/${pid}/environ`, 'latin1');
  } catch {
    return '';
  }
}

/** Whom the host reaches by a link: its default gateways, and the peer of the SSH session where that is so. */
export function peersBy(host: Host, state: LinkState, ssh: string | undefined): Peer[] {
  const defaults = state.routes.filter(({ dst }) => dst === undefined || dst.prefixLen === 0);
  // A route by a nexthop object does not tell: its gateway is asked whatever it is for.
  const gateways = [...defaults, ...state.nexthops].flatMap(({ gateway }): Peer[] =>
    gateway === undefined ? [] : [{ ip: gateway, what: 'gateway', how: 'neighbour' }],
  );
  const peers = [...new Map(gateways.map((peer) => [peer.ip, peer])).values()];
  const route = ssh === undefined ? undefined : getRoute(host.rtnl, ssh);
  if (ssh === undefined || route?.dev !== state.ifindex) return peers;
  return [...peers, { ip: ssh, what: 'ssh', how: route.gateway === undefined ? 'neighbour' : 'echo' }];
}

/** Those of `peers` who answer within the time, asked all at once. */
export async function answering(
  host: Host,
  link: string,
  peers: readonly Peer[],
  timeoutMs: number,
): Promise<Peer[]> {
  const answers = await Promise.all(
    peers.map(({ ip, how }) =>
      how === 'echo'
        ? echoes(host, ip, Math.min(timeoutMs, echoTimeoutMs))
        : isThere(host, link, ip, timeoutMs),
    ),
  );
  return peers.filter((_, i) => answers[i]);
}

async function echoes(host: Host, ip: string, timeoutMs: number): Promise<boolean> {
  const { reachable: answered } = await probe(host.netns, { ip, protocol: 'ping' }, timeoutMs);
  return answered;
}

/** Has the kernel ask for the neighbour, again and again, until it answers. */
async function isThere(host: Host, name: string, ip: string, timeoutMs: number): Promise<boolean> {
  const deadline = performance.now() + timeoutMs;
  let askedAt = Number.NEGATIVE_INFINITY;
  for (;;) {
    const link = getLink(host.rtnl, name);
    if (!link) return false;
    const known = listNeighs(host.rtnl, link.ifindex).find((neigh) => neigh.ip === ip);
    const state = known?.state ?? 0;
    const wasAsked = askedAt > Number.NEGATIVE_INFINITY;
    if ((state & permanent) !== 0 || (wasAsked && (state & reachable) !== 0)) return true;
    if (performance.now() >= deadline) return false;
    // The kernel's own timer is a second.
    if (performance.now() - askedAt > 300) {
      askedAt = performance.now();
      ask(host, link.ifindex, ip, known?.mac);
    }
    await sleep(pollMs);
  }
}

/** `ip neigh change IP dev LINK nud probe`, or with an unknown address the first question. */
function ask(host: Host, ifindex: number, ip: string, mac: string | undefined): void {
  const how = mac === undefined || mac === '' ? { state: 0, flags: use } : { mac, state: probing };
  const [refusal] = host.rtnl.batch([replaceNeigh({ ifindex, ip, ...how })]);
  if (refusal && !hasErrno(refusal, 'EINVAL', 'ENODEV', 'ENETDOWN')) throw refusal;
}
