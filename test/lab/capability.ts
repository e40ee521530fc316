/** What this machine can do, so that a test that cannot run here says why instead of failing. */
import { accessSync, constants } from 'node:fs';
import path from 'node:path';
import type { TestContext } from 'node:test';
import { run } from './run.ts';

const nic = 'ip link add pwta type veth peer name pwtb && ';

/** Each is tried in a namespace that is gone afterwards. */
const kernelProbes = {
  vlan: `${nic} ip link add link pwta name pwta.7 type vlan id 7`,
  macvlan: `${nic} ip link add link pwta name pwtm type macvlan mode bridge`,
  ipvlan: `${nic} ip link add link pwta name pwti type ipvlan mode l2`,
  dummy: 'ip link add pwtd type dummy',
  vxlan: 'ip link add pwtx type vxlan id 7 dstport 4789',
  vrf: 'ip link add pwtv type vrf table 7',
  netem: `${nic} tc qdisc add dev pwta root netem delay 1ms`,
  tbf: `${nic} tc qdisc add dev pwta root tbf rate 1mbit burst 10kb latency 50ms`,
  'vlan-filtering': 'ip link add pwtbr type bridge vlan_filtering 1',
  ipv6: 'ip -6 addr add fd00::1/64 dev lo',
} as const;

/** Kernel abilities, daemons, or `program:NAME`. */
export type Need = keyof typeof kernelProbes | 'root' | 'docker' | 'ovs' | `program:${string}`;

/** Whether a program of this name is in PATH. */
export function hasProgram(name: string): boolean {
  return (process.env.PATH ?? '').split(':').some((folder) => {
    try {
      accessSync(path.join(folder, name), constants.X_OK);
      return true;
    } catch {
      return false;
    }
  });
}

const answers = (command: string, ...args: string[]): boolean =>
  run(command, args, { expect: 'any', timeout: 20 }).code === 0;

function missing(need: Need): string | undefined {
  if (need === 'root') return process.geteuid?.() === 0 ? undefined : 'needs root';
  if (need === 'docker') {
    return answers('docker', 'version', '--format', '{{.Server.Version}}')
      ? undefined
      : 'no Docker Engine answers';
  }
  if (need === 'ovs') {
    const both = answers('ovs-vsctl', 'show') && answers('ovs-appctl', '-t', 'ovs-vswitchd', 'version');
    return both ? undefined : 'Open vSwitch does not answer';
  }
  if (need in kernelProbes) {
    const probe = kernelProbes[need as keyof typeof kernelProbes];
    return answers('unshare', '-n', 'sh', '-c', probe) ? undefined : `kernel lacks ${need}`;
  }
  const name = need.slice('program:'.length);
  return hasProgram(name) ? undefined : `${name} is not installed`;
}

const known = new Map<Need, string | undefined>();

/** Why this machine cannot do it; undefined when it can. Asked once in a process. */
export function lacks(need: Need): string | undefined {
  if (!known.has(need)) known.set(need, missing(need));
  return known.get(need);
}

/** Whether this machine can do it. */
export function capability(need: Need): boolean {
  return lacks(need) === undefined;
}

/** Skips the test with the reason when something is not here. `if (skipUnless(t, 'vlan')) return;` */
export function skipUnless(t: TestContext, ...needs: readonly Need[]): boolean {
  const reasons = needs.map(lacks).filter((reason) => reason !== undefined);
  if (reasons.length > 0) t.skip(reasons.join(', '));
  return reasons.length > 0;
}
