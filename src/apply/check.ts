/** Whether attachments are as they are wanted: reads only, and without the lock. */
import type { Container } from '../containers/container.ts';
import { openContainerNetns } from '../containers/resolve.ts';
import { NetlinkSocket } from '../kernel/netlink/socket.ts';
import type { Attachment } from '../model/attachment.ts';
import type { AttachmentRecord } from '../model/observed.ts';
import type { Step } from '../model/operation.ts';
import { observeAttachment } from '../observe/attachment.ts';
import { type HostView, NetnsView } from '../observe/view.ts';
import { planAttach } from '../plan/plan.ts';
import type { Wanted } from '../plan/topology.ts';

/**
 * Which attachments of one container differ from what is wanted of them, or could not be looked at. What another
 * process is changing at this moment can be among them: whoever acts on it looks again, under the lock.
 */
export async function needingWork(
  view: HostView,
  container: Container,
  wanted: readonly Wanted[],
  options: { readonly firewall: boolean },
): Promise<Wanted[]> {
  try {
    using netns = openContainerNetns(container);
    using rtnl = NetlinkSocket.open(netns);
    const guest = new NetnsView(rtnl, 'once');
    const found: Wanted[] = [];
    for (const one of wanted) if (!(await isRight(view, container, guest, one, options))) found.push(one);
    return found;
  } catch {
    return [...wanted];
  }
}

async function isRight(
  view: HostView,
  container: Container,
  guest: NetnsView,
  { attachment }: Wanted,
  options: { readonly firewall: boolean },
): Promise<boolean> {
  try {
    return (await stepsFor(view, container, guest, attachment, options)).length === 0;
  } catch {
    return false;
  }
}

async function stepsFor(
  view: HostView,
  container: Container,
  guest: NetnsView,
  attachment: Attachment,
  options: { readonly firewall: boolean },
): Promise<readonly Step[]> {
  const seen = await observeAttachment(view, container, guest, attachment, options);
  return planAttach(attachment, seen, 'converge');
}

/** What is no more as a command has made it, for a container that is there; nothing when all is. */
export async function noMoreAsMade(
  view: HostView,
  { container, want }: AttachmentRecord,
): Promise<readonly string[]> {
  if (!want) return [];
  const there = { ...container, runtime: container.runtime as Container['runtime'] };
  using netns = openContainerNetns(there);
  using rtnl = NetlinkSocket.open(netns);
  const guest = new NetnsView(rtnl, 'once');
  // Whether it was made with the firewall's rule, nobody noted.
  const options = { firewall: false };
  const steps = await stepsFor(view, there, guest, want, options);
  return steps.map(({ because }) => because);
}
