/** One attach in a process of its own, which ends itself by SIGKILL before a given step (or before the commit). */
import { attach } from '../../src/apply/attach.ts';
import { Host } from '../../src/apply/host.ts';
import { resolvePid } from '../../src/containers/proc.ts';
import { Netns } from '../../src/kernel/netns.ts';
import type { Attachment } from '../../src/model/attachment.ts';

/** What the parent asks for. */
export interface ChildOrder {
  readonly netnsPath: string;
  readonly ovsdbSocket: string;
  readonly pid: number;
  readonly want: Attachment;
  readonly ifPresent: 'refuse' | 'converge';
  /** Index of the step, or when all can be taken back still. */
  readonly killAt: number | 'commit';
}

const order = JSON.parse(process.argv[2] ?? '') as ChildOrder;
const die = (): void => {
  process.kill(process.pid, 'SIGKILL');
};
const { netnsPath, ovsdbSocket } = order;
await using host = new Host({ netns: Netns.open(netnsPath, 'host'), ovsdbSocket });
await attach(host, resolvePid(String(order.pid)), order.want, {
  ifPresent: order.ifPresent,
  firewall: true,
  beforeStep: (_step, index) => {
    if (index === order.killAt) die();
  },
  ...(order.killAt === 'commit' ? { beforeCommit: async () => die() } : {}),
});
