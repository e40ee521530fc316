/** `pipewright detach` */
import { detach, type Target } from '../apply/detach.ts';
import { Host } from '../apply/host.ts';
import { parseContainerRef } from '../config/container-ref.ts';
import { checkIfname, printable } from '../config/names.ts';
import type { Container } from '../containers/container.ts';
import { resolveContainer } from '../containers/resolve.ts';
import { PipewrightError } from '../errors.ts';
import type { AttachmentRecord } from '../model/observed.ts';
import { print, printError, stepLines } from './output.ts';
import { requirePrivileges } from './privileges.ts';
import { onProgressLine } from './progress.ts';

interface DetachFlags {
  readonly ifname?: string | undefined;
  readonly all: boolean;
  readonly dryRun: boolean;
  readonly json: boolean;
}

/** Disconnects the container, or shows what that would take. @throws PipewrightError */
export async function runDetach(flags: DetachFlags, containerText: string): Promise<void> {
  parseContainerRef(containerText);
  const { ifname = 'eth1' } = flags;
  const why = checkIfname(ifname);
  if (why !== undefined) {
    throw new PipewrightError('BAD_ARGUMENT', {
      op: '--ifname',
      subject: `"${printable(ifname)}"`,
      detail: `the name ${why}`,
    });
  }
  requirePrivileges();
  await using host = new Host();
  const container = await findContainer(host, containerText);
  const ours = host.state.records().filter((record) => isOf(record, container));
  const ifnames = flags.all ? ours.map((record) => record.ifname) : [ifname];
  const targets: Target[] = ifnames.map((name) => ({ container, ifname: name }));
  using _progress = onProgressLine(`disconnecting ${containerText}`);
  const result = await detach(host, targets, { dryRun: flags.dryRun });
  for (const warning of result.warnings) printError(`warning: ${warning}`);
  if (flags.json)
    print(JSON.stringify({ container: container.name, ifnames, dryRun: flags.dryRun, ...result }));
  else
    print(
      result.steps.length === 0
        ? `nothing of ${containerText} is left to take away`
        : stepLines(result.steps),
    );
}

function isOf(record: AttachmentRecord, { runtime, id }: Container): boolean {
  return record.container.runtime === runtime && record.container.id === id;
}

/** The container, as its runtime knows it; one that is gone, as it was noted. */
async function findContainer(host: Host, text: string): Promise<Container> {
  const ref = parseContainerRef(text);
  try {
    return await resolveContainer(ref);
  } catch (error) {
    const { name, runtime } = ref;
    const noted = host.state
      .records()
      .find(
        ({ container }) =>
          (runtime === 'any' || runtime === container.runtime) &&
          (container.name === name ||
            container.id === name ||
            (name.length >= 4 && container.id.startsWith(name))),
      );
    if (!noted) throw error;
    return { ...noted.container, runtime: noted.container.runtime as Container['runtime'] };
  }
}
